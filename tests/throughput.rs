//! A bulk transfer through the tracker loses nothing.

use std::{
    process::{Child, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tracker_tests::{
    agent::Tracker,
    losses::Losses,
    netns::run,
    topology::{End, Family, Placement, Topology},
    wait::eventually,
};

/// The port that iperf3 uses by default.
const PORT: u16 = 5201;

/// Seconds per run.
const SECONDS: &str = "3";

/// A pace at which the queue of a veth pair (256 packets) does not fill: 400
/// Mbit/s in all.
const PACED: &[&str] = &["--bitrate", "50M", "--length", "16K"];

/// Packets of some 200,000 that a queue may drop when a busy machine does not
/// give its reader a turn in time.
const TOLERATED: u64 = 100;

/// Measurements until one must be as good as without the tracker: others may
/// use the machine during any of them.
const ATTEMPTS: u32 = 5;

/// Segments in the largest GSO packet: 64 KiB of 1448 octets.
const GSO_SEGMENTS: u64 = 46;

#[test]
fn iperf3_loses_nothing_in_the_host_role() {
    transfer(Placement::Server);
}

#[test]
fn iperf3_loses_nothing_in_the_gateway_role() {
    transfer(Placement::Gateway);
}

/// Four streams each way: first at a pace that no queue of a veth pair drops
/// at, where a lost segment would be the tracker's; then as fast as they can,
/// where it must be complete all the same.
///
/// iperf3 itself fails when a stream breaks or does not end properly.
fn transfer(placement: Placement) {
    // Two at once would measure each other.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let topology = Topology::new(placement).unwrap();
    let without = measure(&topology, PACED);

    let tracker = Tracker::start(&topology).unwrap();
    let mut carried = 0;
    for attempt in 1..=ATTEMPTS {
        let with = measure(&topology, PACED);
        println!("{placement:?}, paced: without {without:?}, with {with:?}");
        // What a full queue dropped it has counted. Any other loss is the
        // tracker's.
        assert!(
            with.losses.lost() <= with.losses.dropped,
            "lost without a trace, of {} octets: {with:?}",
            with.bytes
        );
        carried += with.bytes;
        if with.losses.dropped <= without.losses.dropped + TOLERATED
            && with.bytes >= without.bytes / 10 * 9
        {
            break;
        }
        assert!(
            attempt < ATTEMPTS,
            "slower than without, {ATTEMPTS} times: {with:?}, without {without:?}"
        );
    }

    let unpaced = measure(&topology, &[]);
    println!("{placement:?}, as fast as it goes: with {unpaced:?}");
    // A queue counts a GSO packet that it drops as one, and TCP sends each of
    // its segments again; so here only a loss without any drop tells. That the
    // programs let every packet pass is what `verdicts` shows.
    let explained = unpaced.losses.dropped * GSO_SEGMENTS + TOLERATED;
    assert!(
        unpaced.losses.lost() <= explained,
        "lost without a trace: {unpaced:?}"
    );

    let refused = tracker.stats().unwrap().met("refuse");
    assert!(refused.is_empty(), "refused: {refused:?}");

    let flows = tracker.list().unwrap();
    let server = topology.server.at(Family::V4, PORT);
    let tracked: u64 = flows
        .iter()
        .filter(|flow| flow.responder.at() == server)
        .map(|flow| flow.initiator.bytes + flow.responder.bytes)
        .sum();
    carried += unpaced.bytes;
    assert!(
        tracked >= carried,
        "the tracker counted {tracked} octets, iperf3 carried {carried}"
    );
    tracker.stop().unwrap();
}

/// What a run of iperf3 came to.
#[derive(Debug)]
struct Carried {
    /// Octets that arrived, both ways.
    bytes: u64,
    losses: Losses,
}

fn measure(topology: &Topology, pace: &[&str]) -> Carried {
    let End { netns: client, .. } = &topology.client;
    let server = topology.server.at(Family::V4, PORT);
    let mut listening = Listening(
        topology
            .server
            .netns
            .command("iperf3")
            .unwrap()
            .args(["--server", "--one-off", "--bind", &server.ip().to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("iperf3 is needed: Debian's package is `iperf3`"),
    );
    eventually(Duration::from_secs(30), || {
        let sockets = tracker_tests::ss::Snapshot::take(&topology.server.netns)
            .map_err(|error| format!("{error:#}"))?;
        match sockets.0.iter().any(|socket| socket.local.port() == PORT) {
            true => Ok(()),
            false => Err("iperf3 does not listen".to_owned()),
        }
    });
    let before = Losses::so_far(topology).unwrap();
    let report = run(client
        .command("iperf3")
        .unwrap()
        .args([
            "--client",
            &server.ip().to_string(),
            "--json",
            "--bidir",
            "--parallel",
            "4",
            "--time",
            SECONDS,
        ])
        .args(pace))
    .unwrap();
    assert!(
        listening.0.wait().unwrap().success(),
        "iperf3's server failed"
    );

    let report: Value = serde_json::from_str(&report).unwrap();
    let sum = |which: &str, what: &str| {
        let value = &report["end"][which][what];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("no end.{which}.{what} in {:#}", report["end"]))
    };
    Carried {
        bytes: sum("sum_received", "bytes") + sum("sum_received_bidir_reverse", "bytes"),
        losses: Losses::so_far(topology).unwrap().since(before),
    }
}

/// A server that does not outlive a failed test.
struct Listening(Child);

impl Drop for Listening {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
