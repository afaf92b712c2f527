//! Counters that have drifted, and tables that are full.

use tracker::datapath::Pinned;
use tracker_common::abi::{Family, Gauge, Place};
use tracker_tests::{
    connection::Connection,
    topology::{Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON, listener, record, stats};

/// What an agent or a packet that was cut short leaves behind is found and told.
#[test]
fn drift_is_set_right_and_counted() {
    let topology = Topology::new(Placement::Server).unwrap();
    let text = "mode = \"enforce\"\n[agent]\nsweep_interval = \"100ms\"\n\
                [defence]\nsource_limit = 50\ncookies = \"never\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    let _listener = listener(&topology, 80);
    Nobody::new(&topology).open(1000..1003, 80);
    let held = |expected| {
        eventually(SOON, || match stats(&tracker)?.half_open.held {
            held if held == expected => Ok(()),
            held => Err(format!("{held} half-open flows")),
        });
    };
    held(3);
    let pinned = Pinned::open(tracker.pin_dir()).unwrap();
    let mut shares = pinned.shares().unwrap();
    assert_eq!(
        shares.iter().map(|&(_, count)| count).collect::<Vec<_>>(),
        [3, 3]
    );

    pinned.correct_gauge(Gauge::HalfOpen, 7).unwrap();
    let stale = Place::source(Family::V4, [9, 0, 0, 0], 32, 0);
    pinned.set_share(&stale, 4).unwrap();
    held(3);
    pinned.correct_gauge(Gauge::Calling, -2).unwrap();
    let wrong = shares[0].0;
    pinned.set_share(&wrong, 5).unwrap();
    eventually(SOON, || {
        let gauges = pinned.gauges().unwrap();
        let mut found = pinned.shares().unwrap();
        for list in [&mut found, &mut shares] {
            list.sort_unstable_by_key(|(place, _)| (place.kind, place.address));
        }
        let calling = gauges[Gauge::Calling as usize];
        let corrections = record(tracker.pin_dir(), "recount").unwrap_or_default();
        if (calling, &found) == (0, &shares) && corrections == "gauges=9 shares=6" {
            Ok(())
        } else {
            Err(format!("{calling} calling, {found:?}, {corrections}"))
        }
    });
    assert!(tracker.log().contains("counters had drifted"));
    tracker.stop().unwrap();
}

/// Half-open flows make room before the table is full; an open one never does.
#[test]
fn a_table_that_is_nearly_full_makes_room() {
    let topology = Topology::new(Placement::Server).unwrap();
    let text = "mode = \"enforce\"\n[table]\ncapacity = 100\nhalf_open_limit = 100\n\
                [tracking]\nadaptive = false\n[defence]\ncookies = \"never\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    let open = Connection::open(&topology, 40_000);
    let _listener = listener(&topology, 81);
    Nobody::new(&topology).open(1000..1097, 81);
    eventually(SOON, || match tracker.log() {
        log if log.contains("a table is full: ") => Ok(()),
        log => Err(log),
    });
    let flows = tracker.list().unwrap();
    assert_eq!(flows.len(), 90);
    assert!(open.find(&flows).is_some());
    open.talk();
    assert_eq!(stats(&tracker).unwrap().half_open.held, 89);
    tracker.stop().unwrap();
}
