//! Connections that are older than the tracker.

use nix::sys::signal::Signal;
use tracker_tests::{
    agent::{self, Options, Tracker, fresh_pin_dir},
    connection::Connection,
    flow,
    stats::Stats,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, SOON, connect, listener, stats};
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
    agent::ask(&topology.server.netns, &pins, &["unload"]).unwrap();
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
