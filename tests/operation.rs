//! What a running agent answers, and what it says to bad input.

use std::{
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::NamedTempFile;
use tracker_tests::{
    agent::{Options, Tracker, binary},
    connection::Connection,
    flow,
    frames::Crowd,
    netns::run,
    nft::Firewall,
    scenario::{Stage, TABLE},
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_unknown_interface_is_refused_with_the_names_that_exist() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let (router, _) = topology.tracked();
    let message = refusal(&Options::new(router, &["lan", "eth7"]).run_to_end().unwrap());
    for name in ["eth7", "lan", "wan"] {
        assert!(message.contains(name), "no {name} in {message}");
    }
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_its_line() {
    let topology = Topology::new(Placement::Server).unwrap();
    let configuration = written("# a comment\n[timeouts]\nestablishd = \"20s\"\n");
    let options = Options::on(&topology).with(["-c".as_ref(), configuration.path().as_os_str()]);
    let message = refusal(&options.run_to_end().unwrap());
    assert!(message.contains("establishd"), "{message}");
    assert!(
        message.contains("line 3") || message.contains(":3"),
        "{message}"
    );
    assert!(
        message.contains(&*configuration.path().to_string_lossy()),
        "{message}"
    );
}

/// Every state by its own time-out: the flows of all scenarios are gone when
/// the longest has run out, and an established one that talks is not.
#[test]
fn what_is_silent_expires_and_what_talks_stays() {
    let topology = Topology::new(Placement::Server).unwrap();
    let at_client = Firewall::new(&topology.client.netns).unwrap();
    let at_server = Firewall::new(&topology.server.netns).unwrap();
    let keys = [
        "syn_sent",
        "syn_received",
        "established",
        "fin_wait",
        "half_closed",
        "last_ack",
        "time_wait",
        "closed",
    ];
    let short = keys.map(|key| format!("{key} = \"3s\"\n")).concat();
    // Short when all of them stand, however long that takes.
    let configuration = written("");
    let tracker = Options::on(&topology)
        .with(["-c".as_ref(), configuration.path().as_os_str()])
        .start()
        .unwrap();

    let talking = Connection::open(&topology, 39_999);
    let mut held = Vec::new();
    for (number, scenario) in (0..).zip(TABLE) {
        let ports = (40_000 + number, 5_000 + number);
        let stage = Stage::new(&topology, &at_client, &at_server, Family::V4, ports);
        held.push((scenario.script)(&stage).unwrap());
    }
    // What is lost would be sent again and again.
    for firewall in [&at_client, &at_server] {
        firewall.mute(40_000..=49_999).unwrap();
    }
    assert!(tracker.list().unwrap().len() > 1);
    std::fs::write(configuration.path(), format!("[timeouts]\n{short}")).unwrap();
    tracker.signal(Signal::SIGHUP).unwrap();
    eventually(SOON, || {
        talking.talk();
        let flows = tracker.list().map_err(|error| format!("{error:#}"))?;
        match flows.iter().find(|flow| flow.expires_ms > 3000) {
            None => Ok(()),
            Some(flow) => Err(format!("expires later than configured: {flow}")),
        }
    });
    eventually(SOON, || {
        talking.talk();
        let flows = tracker.list().map_err(|error| format!("{error:#}"))?;
        match flows.as_slice() {
            [only] if only.connects(talking.client, talking.server) => Ok(()),
            _ => Err(format!("still there:\n{}", flow::table(&flows))),
        }
    });
    tracker.stop().unwrap();
}

#[test]
fn half_open_connections_are_found_with_grep() {
    let topology = Topology::new(Placement::Server).unwrap();
    let at_client = Firewall::new(&topology.client.netns).unwrap();
    let at_server = Firewall::new(&topology.server.netns).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let half_open = TABLE
        .iter()
        .find(|scenario| scenario.rest.1 == State::SynReceived)
        .unwrap();
    let stage = Stage::new(
        &topology,
        &at_client,
        &at_server,
        Family::V4,
        (40_000, 5_000),
    );
    let _held = (half_open.script)(&stage).unwrap();
    stage.until(State::SynSent, State::SynReceived).unwrap();
    let _established = Connection::open(&topology, 40_001);

    let script = "\"$0\" list --pin-dir \"$1\" | grep SYN_RECV";
    let found = run(topology
        .server
        .netns
        .command("sh")
        .unwrap()
        .args(["-c", script])
        .arg(binary().unwrap())
        .arg(tracker.pin_dir()))
    .unwrap();
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(
        found.contains("192.0.2.1:40000") && found.contains("192.0.2.2:5000"),
        "{found}"
    );
    assert!(!found.contains('\u{1b}'), "colours in a pipe: {found:?}");
    tracker.stop().unwrap();
}

/// Enough lines to fill the pipe, whose reader goes away after one.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    Crowd::new(&topology, Family::V4)
        .unwrap()
        .open(0..2000)
        .unwrap();
    for format in ["table", "json", "ndjson", "csv"] {
        let mut list = topology.server.netns.command(binary().unwrap()).unwrap();
        list.args(["list", "-o", format, "--pin-dir"])
            .arg(tracker.pin_dir());
        let mut child = list
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut one = [0; 1];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut one).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.is_empty(), "{format}: {message}");
    }
    tracker.stop().unwrap();
}

#[test]
fn what_is_flushed_is_met_again_in_mid_life() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let connection = Connection::open(&topology, 40_000);
    assert_eq!(connection.seen_by(&tracker).origin, "handshake");

    tracker.ask(&["flush"]).unwrap();
    assert_eq!(tracker.list().unwrap().len(), 0);
    connection.talk();
    connection.talk();
    let again = connection.seen_by(&tracker);
    assert_eq!(again.origin, "pickup");
    tracker.stop().unwrap();
}

#[test]
fn a_connection_older_than_the_agent_is_picked_up() {
    for placement in [Placement::Server, Placement::Client] {
        let topology = Topology::new(placement).unwrap();
        let connection = Connection::open(&topology, 40_000);
        let tracker = Tracker::start(&topology).unwrap();
        connection.talk();
        connection.talk();
        assert_eq!(connection.seen_by(&tracker).origin, "pickup");
        tracker.stop().unwrap();
    }
}

#[test]
fn the_machine_formats_agree() {
    let topology = Topology::new(Placement::Server).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let connections: Vec<_> = [40_000]
        .map(|port| Connection::open(&topology, port))
        .into();
    let _ = connections[0].seen_by(&tracker);
    let flows = tracker.list().unwrap();
    let lines = tracker.ask(&["list", "-o", "ndjson"]).unwrap();
    let parsed: Vec<flow::Flow> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(parsed.len(), flows.len());
    assert_eq!(parsed[0].initiator.at(), flows[0].initiator.at());
    // A header and a line for each.
    assert_eq!(
        tracker.ask(&["list", "-o", "csv"]).unwrap().lines().count(),
        1 + flows.len()
    );
    tracker.stop().unwrap();
}

#[test]
fn hanging_up_reads_the_configuration_again() {
    let topology = Topology::new(Placement::Server).unwrap();
    let configuration = written("[timeouts]\nestablished = \"1000s\"\n");
    let tracker = Options::on(&topology)
        .with(["-c".as_ref(), configuration.path().as_os_str()])
        .start()
        .unwrap();
    let connection = Connection::open(&topology, 40_000);
    let expires = || connection.seen_by(&tracker).expires_ms;
    assert!((900_000..=1_000_000).contains(&expires()), "{}", expires());

    std::fs::write(configuration.path(), "[timeouts]\nestablished = \"100s\"\n").unwrap();
    tracker.signal(Signal::SIGHUP).unwrap();
    eventually(SOON, || match expires() {
        0..=100_000 => Ok(()),
        longer => Err(format!("expires in {longer} ms")),
    });

    // A broken file changes nothing but the log.
    std::fs::write(configuration.path(), "nonsense").unwrap();
    let before = tracker.log();
    tracker.signal(Signal::SIGHUP).unwrap();
    tracker
        .wait_for_log(&before, &configuration.path().to_string_lossy(), SOON)
        .unwrap();
    assert!(expires() <= 100_000);
    tracker.stop().unwrap();
}

fn written(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The text of an error that a command ended with: status 1 and `error: …` on
/// stderr.
fn refusal(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: "), "{message}");
    message
}
