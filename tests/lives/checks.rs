//! What is held against a segment, and what is remembered of it.

use serde_json::Value;
use tracker_tests::{
    agent::Tracker,
    connection::Connection,
    flow,
    frames::Crowd,
    spoof::{Segment, Spoofer},
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, SOON, ask, nobody, stats};
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

/// More than one request to the kernel brings, fewer than it remembers.
#[test]
fn the_histories_of_thousands_of_flows_are_read() {
    const FLOWS: u32 = 6000;
    let topology = Topology::new(Placement::Gateway).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let crowd = Crowd::new(&topology, Family::V4).unwrap();
    crowd.open(0..FLOWS).unwrap();
    let text = tracker.ask(&["list", "-d", "-o", "ndjson"]).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let flow: Value = serde_json::from_str(line).unwrap();
        let history = flow["history"].as_array().unwrap();
        assert_eq!(history.len(), 3, "{line}");
        // These two are not to be had from the flow itself.
        assert_eq!(history[1]["responder"], "SYN_RECEIVED", "{line}");
        assert_eq!(history[2]["reason"], "tracked", "{line}");
        seen += 1;
    }
    assert_eq!(seen, FLOWS);
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
