//! What the agent says when a flood begins and when it is over.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use tracker_tests::{
    agent::Tracker,
    flood::trickle::{lead_back, trickle},
    sockets,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, SOON, listener};

const BEGUN: &str = "a flood of SYNs has begun: ";
const OVER: &str = "the flood of SYNs is over after ";
/// A flood is over when it was quiet for ten seconds.
const QUIET: Duration = Duration::from_secs(30);

fn floods(tracker: &Tracker<'_>) -> Value {
    let text = tracker.ask(&["stats", "-o", "json"]).unwrap();
    let stats: Value = serde_json::from_str(&text).unwrap();
    stats["defence"]["floods"].clone()
}

/// The line with `text` among the lines that came behind `before`.
fn line(tracker: &Tracker<'_>, before: &str, text: &str) -> String {
    let log = tracker.log();
    let lines: Vec<&str> = log[before.len()..]
        .lines()
        .filter(|line| line.contains(text))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    lines[0].to_owned()
}

#[test]
fn a_flood_is_told_once_when_it_begins_and_once_when_it_is_over() {
    let topology = Topology::new(Placement::Server).unwrap();
    lead_back(&topology.server.netns).unwrap();
    let _listener = listener(&topology, 443);
    let file =
        Configuration::new("[table]\nhalf_open_limit = 1000\n[defence]\ncookie_age = \"2s\"\n");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let before = tracker.log();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| trickle(&topology, 443, &stop).unwrap());
        let told = tracker.wait_for_log(&before, BEGUN, SOON);
        let going_on = told.as_ref().ok().map(|()| {
            eventually(SOON, || {
                let floods = floods(&tracker);
                match floods["lasting_ms"].as_u64() {
                    Some(ms) if ms >= 3000 => Ok(floods),
                    _ => Err(format!("no flood goes on: {floods}")),
                }
            })
        });
        stop.store(true, Ordering::Relaxed);
        told.unwrap();
        assert_eq!(going_on.unwrap()["begun"], 1);
    });
    let begun = line(&tracker, &before, BEGUN);
    assert!(begun.contains(" at 192.0.2.2:443 ("), "{begun}");
    assert!(begun.contains("they look spoofed"), "{begun}");
    assert!(begun.contains(" WARN "), "{begun}");

    tracker.wait_for_log(&before, OVER, QUIET).unwrap();
    let over = line(&tracker, &before, OVER);
    assert!(
        over.contains(" got a cookie, of which 0 came back"),
        "{over}"
    );
    assert!(over.contains("they look spoofed"), "{over}");
    let about: u64 = over
        .split_once(" from about ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{over}"));
    let syns: u64 = over
        .split_once(": ")
        .and_then(|(_, rest)| rest.split_once(" SYNs at "))
        .and_then(|(number, _)| number.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{over}"));
    // Each SYN came from an address of its own, as far as there are enough.
    assert!(about > syns / 3 && about < syns * 2, "{over}");
    assert_eq!(line(&tracker, &before, BEGUN), begun);
    let floods = floods(&tracker);
    assert_eq!(
        (&floods["begun"], &floods["lasting_ms"]),
        (&1.into(), &Value::Null)
    );
    tracker.stop().unwrap();
}

/// Connections that are opened and used are none, however many.
#[test]
fn a_crowd_is_no_flood() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = topology.server.at(Family::V4, 443);
    let listener = listener(&topology, 443);
    let file =
        Configuration::new("[table]\nhalf_open_limit = 100\n[defence]\ncookies = \"always\"\n");
    // Generic, so that its answers cross a veth pair whose other end has no program.
    let tracker = file.start(&topology, &["--mode", "enforce", "--xdp", "generic"]);
    let before = tracker.log();
    for port in 40_000..40_300 {
        let client = topology.client.at(Family::V4, port);
        let connected = sockets::connect(&topology.client.netns, client, server).unwrap();
        let accepted = sockets::accept(&listener).unwrap();
        drop((connected, accepted));
    }
    thread::sleep(Duration::from_secs(3));
    let log = tracker.log();
    assert!(!log[before.len()..].contains(BEGUN), "{log}");
    assert_eq!(floods(&tracker)["begun"], 0);
    tracker.stop().unwrap();
}
