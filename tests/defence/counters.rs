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

/// Entries that count nothing, as a race may leave them, do not stay.
#[test]
fn a_share_of_nothing_is_removed() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new(
        "mode = \"enforce\"\n[agent]\nsweep_interval = \"100ms\"\n[defence]\nsource_limit = 50\n",
    );
    let tracker = file.start(&topology, &[]);
    let pinned = Pinned::open(tracker.pin_dir()).unwrap();
    let empty = Place::source(Family::V4, [9, 0, 0, 0], 32, 0);
    pinned.set_share(&empty, 0).unwrap();
    eventually(SOON, || match pinned.shares().unwrap().as_slice() {
        [] => Ok(()),
        shares => Err(format!("{shares:?}")),
    });
    // It counted nothing, so nothing had drifted.
    assert_eq!(record(tracker.pin_dir(), "recount"), None);
    assert!(!tracker.log().contains("drifted"));
    tracker.stop().unwrap();
}

/// What is half-open while the length of source prefixes changes is counted by the
/// new one, and nothing is left of the old.
#[test]
fn other_prefixes_of_sources_count_what_is_there() {
    let topology = Topology::new(Placement::Server).unwrap();
    // No sweep but those that something asks for.
    let text = |bits: u8| {
        format!(
            "mode = \"enforce\"\n[agent]\nsweep_interval = \"10m\"\n[defence]\ncookies = \"never\"\n\
             source_limit = 50\nsource_prefix_v4 = {bits}\n"
        )
    };
    let file = Configuration::new(&text(32));
    let tracker = file.start(&topology, &[]);
    let _listener = listener(&topology, 80);
    let nobody = Nobody::new(&topology);
    let pinned = Pinned::open(tracker.pin_dir()).unwrap();
    let sources = |expected: &[([u8; 4], u64)]| {
        eventually(SOON, || {
            let shares = pinned.shares().unwrap();
            let mut found: Vec<_> = shares
                .iter()
                .filter(|(place, _)| place.port == 0)
                .map(|(place, count)| (place.address[0].to_ne_bytes(), *count))
                .collect();
            found.sort_unstable();
            match found == expected {
                true => Ok(()),
                false => Err(format!("{found:?}, not {expected:?}")),
            }
        });
    };
    nobody.open(1000..1005, 80);
    sources(&[([192, 0, 2, 77], 5)]);
    file.reload(&tracker, &text(24));
    sources(&[([192, 0, 2, 0], 5)]);
    nobody.open(2000..2003, 80);
    sources(&[([192, 0, 2, 0], 8)]);
    // Given back where they count.
    tracker.ask(&["flush"]).unwrap();
    sources(&[]);
    assert!(pinned.shares().unwrap().is_empty());
    assert_eq!(record(tracker.pin_dir(), "recount"), None);
    assert!(!tracker.log().contains("drifted"));
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
