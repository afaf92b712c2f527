//! Lives of flows: how they are met, what ends them, and what is remembered.

use std::{
    io::Write,
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::Socket;
use tempfile::NamedTempFile;
use tracker_tests::{
    agent::{Options, Tracker, fresh_pin_dir},
    connection::Connection,
    flow::{self, Flow},
    frames::Crowd,
    sockets,
    spoof::{Segment, Spoofer},
    state::State,
    stats::Stats,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

/// How long anything may take that happens by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The oldest go, the newest stay, and other flows are not touched.
#[test]
fn of_too_many_flows_in_time_wait_the_oldest_go() {
    const OLD: u16 = 30;
    const KEPT: u16 = 10;
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new(&format!("[tracking]\ntime_wait_limit = {KEPT}\n"));
    let tracker = file.start(&topology, &[]);
    let open = Connection::open(&topology, 39_999);

    let listener = listener(&topology, 81);
    let close = |ports: std::ops::Range<u16>| {
        let pairs: Vec<_> = ports
            .map(|port| connect(&topology, &listener, port))
            .collect();
        for (client, server) in pairs {
            drop(client);
            drop(server);
        }
    };
    close(40_000..40_000 + OLD);
    // The ages of the two lots are a tick apart at least.
    sleep(Duration::from_millis(50));
    close(41_000..41_000 + KEPT);

    let newest: Vec<u16> = (41_000..41_000 + KEPT).collect();
    eventually(SOON, || {
        let flows = ask(&tracker)?;
        let in_time_wait = flows.iter().filter(|flow| is_in_time_wait(flow));
        let mut ports: Vec<u16> = in_time_wait.map(|flow| flow.initiator.port).collect();
        ports.sort_unstable();
        if ports == newest {
            Ok(())
        } else {
            Err(format!("in TIME_WAIT: {ports:?}"))
        }
    });
    let stats = tracker.stats().unwrap();
    assert_eq!(stats.time_wait.limit, u64::from(KEPT));
    assert!(tracker.log().contains("tracking.time_wait_limit"));
    open.talk();
    assert_eq!(open.seen_by(&tracker).origin, "handshake");
    tracker.stop().unwrap();
}

/// A table that is 90 % full halves the time-outs at once, and an empty one gives
/// them back.
#[test]
fn a_full_table_shortens_the_time_outs() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let table = "[table]\ncapacity = 1000\nhalf_open_limit = 1000\n";
    let established = |seconds: u64| format!("[timeouts]\nestablished = \"{seconds}s\"\n");
    let file = Configuration::new(&(table.to_owned() + &established(1000)));
    let tracker = file.start(&topology, &[]);
    let crowd = Crowd::new(&topology, Family::V4).unwrap();
    let scale = |wanted: f64| {
        eventually(SOON, || match stats(&tracker)?.timeout_scale {
            scale if (scale - wanted).abs() < 0.01 => Ok(()),
            scale => Err(format!("time-outs are at {scale} of their length")),
        });
    };
    scale(1.0);
    let opened = Instant::now();
    crowd.open(0..900).unwrap();
    scale(0.5);
    let flows = tracker.list().unwrap();
    assert_eq!(flows.len(), 900);
    assert!(flows.iter().all(|flow| flow.expires_ms <= 500_000));
    assert!(tracker.log().contains("of 1000 flows: time-outs run at"));

    // Switched off and on again without a restart.
    let off = "[tracking]\nadaptive = false\n";
    file.reload(&tracker, &format!("{table}{}{off}", established(1000)));
    scale(1.0);
    assert!(
        tracker
            .list()
            .unwrap()
            .iter()
            .any(|flow| flow.expires_ms > 500_000)
    );
    file.reload(&tracker, &format!("{table}{}", established(1000)));
    scale(0.5);

    // What is older than half of its time-out is swept, long before its whole.
    let long_enough = Duration::from_secs(10);
    sleep(long_enough.saturating_sub(opened.elapsed()));
    let whole = opened.elapsed().as_secs() * 3 / 2 + 10;
    file.reload(&tracker, &format!("{table}{}", established(whole)));
    // With fewer than 600 left the others have their full time again.
    eventually(SOON, || match stats(&tracker)?.flows_ipv4.held {
        0..=600 => Ok(()),
        held => Err(format!("{held} flows are left")),
    });
    assert!(
        opened.elapsed() < Duration::from_secs(whole),
        "they went when their time-outs of {whole} s had run out in full"
    );
    scale(1.0);
    eventually(SOON, || match tracker.log() {
        log if log.contains("time-outs have their full length again") => Ok(()),
        log => Err(log),
    });
    tracker.stop().unwrap();
}

#[test]
fn a_connection_older_than_the_tracker_is_a_stray_without_pickups() {
    for placement in [Placement::Server, Placement::Client] {
        let topology = Topology::new(placement).unwrap();
        let connection = Connection::open(&topology, 40_000);
        let tracker = Options::on(&topology)
            .with(["--pickup", "off"])
            .start()
            .unwrap();
        assert_eq!(tracker.stats().unwrap().pickup.mode, "off");
        connection.talk();
        is_stray(&tracker, &connection);
        // Its successor is tracked like any other.
        let next = another(&topology, 40_001);
        assert_eq!(next.seen_by(&tracker).origin, "handshake");
        tracker.stop().unwrap();
    }
}

#[test]
fn in_the_grace_connections_are_picked_up_and_after_it_they_are_strays() {
    let topology = Topology::new(Placement::Server).unwrap();
    let early = Connection::open(&topology, 40_000);
    let late = another(&topology, 40_001);
    let file = Configuration::new("[tracking]\npickup = \"grace\"\npickup_grace = \"1h\"\n");
    let tracker = file.start(&topology, &[]);
    assert_eq!(tracker.stats().unwrap().pickup.mode, "grace");
    early.talk();
    early.talk();
    assert_eq!(early.seen_by(&tracker).origin, "pickup");

    let before = tracker.log();
    file.reload(
        &tracker,
        "[tracking]\npickup = \"grace\"\npickup_grace = \"1ms\"\n",
    );
    eventually(SOON, || match stats(&tracker)?.pickup.mode.as_str() {
        "grace_over" => Ok(()),
        mode => Err(mode.to_owned()),
    });
    assert!(tracker.log().len() > before.len());
    late.talk();
    is_stray(&tracker, &late);
    early.talk();
    assert_eq!(early.seen_by(&tracker).origin, "pickup");
    tracker.stop().unwrap();
}

/// The hooks were in place all the time: no connection can have gone past them.
#[test]
fn a_restart_that_adopts_the_hooks_begins_no_grace() {
    let topology = Topology::new(Placement::Server).unwrap();
    let connection = Connection::open(&topology, 40_000);
    let pins = fresh_pin_dir();
    let file = Configuration::new("[tracking]\npickup = \"grace\"\npickup_grace = \"2s\"\n");
    let start = || {
        file.options(&topology)
            .with(["--on-exit", "keep"])
            .pinned_at(&pins)
            .start()
            .unwrap()
    };
    let first = start();
    eventually(SOON, || match stats(&first)?.pickup.mode.as_str() {
        "grace_over" => Ok(()),
        mode => Err(mode.to_owned()),
    });
    first.end(Signal::SIGTERM).unwrap();

    let second = start();
    assert_eq!(second.stats().unwrap().pickup.mode, "grace_over");
    connection.talk();
    is_stray(&second, &connection);
    second.end(Signal::SIGTERM).unwrap();
    tracker_tests::agent::ask(&topology.server.netns, &pins, &["unload"]).unwrap();
}

#[test]
fn data_with_a_syn_pass_or_are_refused() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let file = Configuration::new("[tracking]\nsyn_data = \"drop\"\n");
    let tracker = file.start(&topology, &[]);
    let syn = |port: u16, payload: &[u8]| {
        let segment = Segment {
            syn: true,
            payload,
            ..nobody(&topology, port)
        };
        spoofer.send(&segment).unwrap();
    };
    syn(40_000, b"early");
    eventually(SOON, || match stats(&tracker)?.packets("syn_data") {
        1 => Ok(()),
        packets => Err(format!("{packets} packets under syn_data")),
    });
    syn(40_001, b"");
    file.reload(&tracker, "");
    syn(40_002, b"early");
    eventually(SOON, || {
        let flows = ask(&tracker)?;
        let mut ports: Vec<u16> = flows.iter().map(|flow| flow.initiator.port).collect();
        ports.sort_unstable();
        match ports.as_slice() {
            [40_001, 40_002] => Ok(()),
            _ => Err(flow::table(&flows)),
        }
    });
    assert_eq!(tracker.stats().unwrap().packets("syn_data"), 1);
    tracker.stop().unwrap();
}

/// The server repeats its SYN-ACK after 1 s, 3 s, 7 s …; two are one too many here.
#[test]
fn a_half_open_flow_ends_with_its_syn_acks() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let _listener = listener(&topology, 80);
    let file =
        Configuration::new("[tracking]\nsyn_ack_retries = 1\n[timeouts]\nsyn_received = \"10m\"\n");
    let tracker = file.start(&topology, &[]);
    let syn = Segment {
        syn: true,
        ..nobody(&topology, 40_000)
    };
    spoofer.pretend(syn.from).unwrap();
    spoofer.send(&syn).unwrap();
    eventually(SOON, || match ask(&tracker)?.as_slice() {
        [only] if only.states() == (State::SynSent, State::SynReceived) => Ok(()),
        flows => Err(flow::table(flows)),
    });
    eventually(Duration::from_secs(60), || {
        match ask(&tracker)?.as_slice() {
            [] => Ok(()),
            flows => Err(flow::table(flows)),
        }
    });
    let stats = eventually(SOON, || match stats(&tracker)? {
        stats if stats.half_open.held == 0 => Ok(stats),
        stats => Err(format!("{} half-open", stats.half_open.held)),
    });
    assert!(stats.packets("syn_ack_retransmit") >= 2);
    tracker.stop().unwrap();
}

/// An RST from nowhere near the window, and data from far beyond it.
#[test]
fn a_flow_remembers_its_states_and_what_was_refused() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let connection = Connection::open(&topology, 40_000);
    let seen = connection.seen_by(&tracker);
    assert_eq!(seen.states(), (State::Established, State::Established));
    let attack = Segment {
        from: connection.client,
        to: connection.server,
        ..nobody(&topology, 0)
    };
    for seq in [0x1000_0000, 0x9000_0000] {
        spoofer
            .send(&Segment {
                seq,
                rst: true,
                ..attack
            })
            .unwrap();
    }
    let refusal = eventually(SOON, || {
        let refusal = details(&tracker, &connection)?["last_refusal"].clone();
        match refusal["reason"].as_str() {
            Some("reset_outside_window") => Ok(refusal),
            _ => Err(refusal.to_string()),
        }
    });
    assert_eq!(refusal["sender"], "initiator");
    assert_eq!(refusal["value"], refusal["seq"]);
    assert_eq!(refusal["flags"], serde_json::json!(["RST"]));

    // The edge of the window that was told is that for data, too.
    let edge = u32::try_from(refusal["high"].as_u64().unwrap()).unwrap();
    let data = Segment {
        seq: edge.wrapping_add(1_000_000_000),
        ack: Some(1),
        payload: b"injected",
        ..attack
    };
    spoofer.send(&data).unwrap();
    eventually(SOON, || match stats(&tracker)?.packets("beyond_window") {
        1 => Ok(()),
        packets => Err(format!("{packets} packets lie beyond the window")),
    });
    // The connection has not noticed, and the flow neither.
    connection.talk();
    assert_eq!(
        connection.seen_by(&tracker).states(),
        (State::Established, State::Established)
    );

    let beside = details(&tracker, &connection).unwrap();
    let text = beside["last_refusal"]["text"].as_str().unwrap();
    assert!(
        text.contains("beyond") && text.contains("RFC 9293"),
        "{text}"
    );
    let history = beside["history"].as_array().unwrap();
    let states: Vec<(&str, &str)> = history
        .iter()
        .map(|step| {
            let state = |end: &str| step[end].as_str().unwrap_or("…");
            (state("initiator"), state("responder"))
        })
        .collect();
    assert_eq!(
        states,
        [
            ("SYN_SENT", "LISTEN"),
            ("SYN_SENT", "SYN_RECEIVED"),
            ("ESTABLISHED", "ESTABLISHED")
        ]
    );
    let ages: Vec<u64> = history
        .iter()
        .map(|step| step["ago_ms"].as_u64().unwrap())
        .collect();
    assert!(ages.is_sorted_by(|a, b| a >= b), "{history:?}");

    let table = tracker.ask(&["list", "--details"]).unwrap();
    assert!(
        table.contains("refused ") && table.contains(text),
        "{table}"
    );
    assert_eq!(
        table
            .lines()
            .filter(|line| line.starts_with("tcp "))
            .count(),
        1
    );
    let csv = tracker.ask(&["list", "--details", "-o", "csv"]).unwrap();
    assert!(csv.contains(",beyond_window,initiator,"), "{csv}");
    tracker.stop().unwrap();
}

/// What the checks find on exempt flows is counted, and the agent says so.
#[test]
fn liberal_mode_is_never_silent() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let file = Configuration::new("[tracking]\nliberal = true\n");
    let tracker = file.start(&topology, &[]);
    assert!(
        tracker.log().contains("liberal = true"),
        "{}",
        tracker.log()
    );
    let connection = Connection::open(&topology, 40_000);
    for seq in [0x1000_0000, 0x9000_0000] {
        let data = Segment {
            from: connection.client,
            to: connection.server,
            seq,
            ack: Some(1),
            payload: b"injected",
            ..nobody(&topology, 0)
        };
        spoofer.send(&data).unwrap();
    }
    eventually(SOON, || match stats(&tracker)?.packets("liberal") {
        1.. => Ok(()),
        _ => Err("nothing is counted as liberal".to_owned()),
    });
    assert_eq!(details(&tracker, &connection).unwrap()["liberal"], true);
    assert_eq!(tracker.stats().unwrap().packets("beyond_window"), 0);
    tracker.stop().unwrap();
}

/// Frames of a veth carry checksums that were never computed.
#[test]
fn checksums_are_left_alone_where_frames_do_not_have_them() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("[tracking]\ntcp_checksum = true\n");
    let tracker = file.start(&topology, &[]);
    assert!(
        tracker
            .log()
            .contains("TCP checksums are not verified on eth0"),
        "{}",
        tracker.log()
    );
    let connection = Connection::open(&topology, 40_000);
    let _ = connection.seen_by(&tracker);
    assert_eq!(tracker.stats().unwrap().met("refuse"), Vec::<String>::new());
    tracker.stop().unwrap();
}

#[test]
fn a_wrong_checksum_opens_nothing_where_checksums_are_verified() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let file =
        Configuration::new("[tracking]\ntcp_checksum = true\ntcp_checksum_force = [\"eth0\"]\n");
    let tracker = file.start(&topology, &[]);
    assert!(
        tracker.log().contains("TCP checksums verified"),
        "{}",
        tracker.log()
    );
    for (port, damaged) in [(40_000, true), (40_001, false)] {
        let segment = Segment {
            syn: true,
            payload: b"odd",
            damaged,
            ..nobody(&topology, port)
        };
        spoofer.send(&segment).unwrap();
    }
    eventually(SOON, || {
        let flows = ask(&tracker)?;
        match flows.as_slice() {
            [only] if only.initiator.port == 40_001 => Ok(()),
            _ => Err(flow::table(&flows)),
        }
    });
    assert_eq!(tracker.stats().unwrap().packets("bad_checksum"), 1);
    tracker.stop().unwrap();
}

/// A configuration file of an agent.
struct Configuration(NamedTempFile);

impl Configuration {
    fn new(text: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(file)
    }

    fn options<'a>(&self, topology: &'a Topology) -> Options<'a> {
        Options::on(topology).with(["-c".as_ref(), self.0.path().as_os_str()])
    }

    fn start<'a>(&self, topology: &'a Topology, more: &[&str]) -> Tracker<'a> {
        self.options(topology).with(more).start().unwrap()
    }

    /// Writes `text` instead and has the agent read it.
    fn reload(&self, tracker: &Tracker<'_>, text: &str) {
        std::fs::write(self.0.path(), text).unwrap();
        let before = tracker.log();
        tracker.signal(Signal::SIGHUP).unwrap();
        tracker
            .wait_for_log(&before, "configuration read again", SOON)
            .unwrap();
    }
}

/// A segment from a host that is nobody's to port 80 of the server.
fn nobody(topology: &Topology, port: u16) -> Segment<'static> {
    Segment {
        from: SocketAddr::from(([192, 0, 2, 77], port)),
        to: topology.server.at(Family::V4, 80),
        seq: 1000,
        ack: None,
        syn: false,
        rst: false,
        payload: b"",
        damaged: false,
    }
}

fn listener(topology: &Topology, port: u16) -> Socket {
    let server = topology.server.at(Family::V4, port);
    sockets::listen(&topology.server.netns, server).unwrap()
}

fn connect(topology: &Topology, listener: &Socket, port: u16) -> (Socket, Socket) {
    let server = listener.local_addr().unwrap().as_socket().unwrap();
    let client = topology.client.at(Family::V4, port);
    let client = sockets::connect(&topology.client.netns, client, server).unwrap();
    (client, sockets::accept(listener).unwrap())
}

/// A second connection beside one of [`Connection::open`], to port 81.
fn another(topology: &Topology, port: u16) -> Connection {
    let listener = listener(topology, 81);
    let (client, server) = connect(topology, &listener, port);
    let connection = Connection {
        client: topology.client.at(Family::V4, port),
        server: topology.server.at(Family::V4, 81),
        sockets: (client, server, listener),
    };
    connection.talk();
    connection
}

fn is_in_time_wait(flow: &Flow) -> bool {
    let (initiator, responder) = flow.states();
    initiator == State::TimeWait || responder == State::TimeWait
}

fn ask(tracker: &Tracker<'_>) -> Result<Vec<Flow>, String> {
    tracker.list().map_err(|error| format!("{error:#}"))
}

fn stats(tracker: &Tracker<'_>) -> Result<Stats, String> {
    tracker.stats().map_err(|error| format!("{error:#}"))
}

/// What is remembered of a connection.
fn details(tracker: &Tracker<'_>, connection: &Connection) -> Result<Value, String> {
    let text = tracker
        .ask(&["list", "--details", "-o", "ndjson"])
        .map_err(|error| format!("{error:#}"))?;
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|value| value["initiator"]["port"] == connection.client.port())
        .ok_or(text)
}

/// Waits until segments of `connection` were counted as strays, and sees to it
/// that it is not tracked.
fn is_stray(tracker: &Tracker<'_>, connection: &Connection) {
    let strays = |stats: &Stats| stats.packets("stray_ack") + stats.packets("local_stray");
    eventually(SOON, || match strays(&stats(tracker)?) {
        0 => Err("no stray was counted".to_owned()),
        _ => Ok(()),
    });
    let flows = tracker.list().unwrap();
    assert!(connection.find(&flows).is_none(), "{}", flow::table(&flows));
}
