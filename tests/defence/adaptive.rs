//! When adaptive cookies are on, seen in the maps of the programs.

use std::{
    thread,
    time::{Duration, Instant},
};

use tracker::datapath::Pinned;
use tracker_common::{
    abi::{Gauge, Hook, defence_flags},
    reason::Reason,
};
use tracker_tests::{
    sockets,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON, listener};

const PORT: u16 = 80;
/// Half-open flows from which on they are on: 25 % of the limit.
const LEVEL: u16 = 25;
const LIMIT: u16 = 100;
/// Time from the packet that crosses the level until SYNs are answered.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Floods, of which two must be answered in time: others use the machine, too.
const FLOODS: usize = 3;

fn is_on(pinned: &Pinned) -> bool {
    pinned.live().unwrap().defence & defence_flags::ANSWER != 0
}

fn sent(pinned: &Pinned) -> u64 {
    let count = pinned.reason(Reason::CookieSent, Hook::Ingress).unwrap();
    count.packets
}

#[test]
fn they_are_on_within_a_tenth_of_a_second_off_again_and_else_never() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new(&format!(
        "mode = \"enforce\"\n[table]\nhalf_open_limit = {LIMIT}\n\
         [timeouts]\nsyn_sent = \"2s\"\nsyn_received = \"2s\"\n[defence]\ncookie_age = \"1s\"\n"
    ));
    let tracker = file.start(&topology, &[]);
    let pinned = Pinned::open(tracker.pin_dir()).unwrap();
    let server = topology.server.at(Family::V4, PORT);
    let listener = listener(&topology, PORT);

    // Without a flood, however many connect: they are half-open for a moment.
    for port in 40_000..40_200 {
        let client = topology.client.at(Family::V4, port);
        let connected = sockets::connect(&topology.client.netns, client, server).unwrap();
        drop((connected, sockets::accept(&listener).unwrap()));
    }
    // And as many as stay below the level for as long as they last.
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1000 + LEVEL - 1, PORT);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(sent(&pinned), 0);
    assert!(!tracker.log().contains("SYN cookies are on"));

    let mut latencies = vec![];
    for flood in 0..FLOODS {
        eventually(SOON, || {
            match pinned.gauges().unwrap()[Gauge::HalfOpen as usize] {
                0 if !is_on(&pinned) => Ok(()),
                held => Err(format!("{held} half-open flows, or cookies are on")),
            }
        });
        let before = sent(&pinned);
        let first = 2000 + 1000 * flood as u16;
        nobody.open(first..first + LEVEL - 1, PORT);
        eventually(SOON, || {
            match pinned.gauges().unwrap()[Gauge::HalfOpen as usize] {
                held if held == u64::from(LEVEL) - 1 => Ok(()),
                held => Err(format!("{held} half-open flows")),
            }
        });
        assert!(!is_on(&pinned));
        let crossed = Instant::now();
        nobody.open(first + LEVEL..first + LEVEL + 1, PORT);
        while !is_on(&pinned) {
            assert!(crossed.elapsed() < SOON, "cookies never went on");
        }
        latencies.push(crossed.elapsed());
        nobody.open(first + 100..first + 110, PORT);
        eventually(SOON, || match sent(&pinned) - before {
            // One may go to the stack to have the listener confirmed.
            9..=10 => Ok(()),
            sent => Err(format!("{sent} cookies sent")),
        });
    }
    // Off with the last of them, and no SYN is answered any more.
    eventually(SOON, || match is_on(&pinned) {
        false => Ok(()),
        true => Err("cookies stay on".to_owned()),
    });
    let before = sent(&pinned);
    nobody.open(9000..9010, PORT);
    eventually(SOON, || {
        match pinned.gauges().unwrap()[Gauge::HalfOpen as usize] {
            held if held >= 10 => Ok(()),
            held => Err(format!("{held} half-open flows")),
        }
    });
    assert_eq!(sent(&pinned), before);
    println!("on after {latencies:?}");
    let in_time = latencies.iter().filter(|&&latency| latency <= AT_ONCE);
    assert!(in_time.count() >= FLOODS - 1, "{latencies:?}");
    tracker.stop().unwrap();
}
