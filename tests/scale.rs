//! A hundred thousand flows at once, made by real packets.

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tracker_tests::{
    agent::Options,
    frames::Crowd,
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

/// How many there are of each family.
const FLOWS: [(Family, u32); 2] = [(Family::V4, 70_000), (Family::V6, 30_000)];

/// How long an established flow lives while they are opened and listed: longer
/// than that takes on any machine.
const LONG: &str = "[timeouts]\nestablished = \"1h\"\n";

/// How long afterwards, so that they expire.
const SHORT: &str = "[timeouts]\nestablished = \"1s\"\n";

/// How long it may take until they have expired and are swept.
const SWEEPING: Duration = Duration::from_secs(90);

#[test]
fn a_hundred_thousand_flows_are_listed_and_expire() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let configuration = tempfile::NamedTempFile::new().unwrap();
    fs::write(configuration.path(), LONG).unwrap();
    let tracker = Options::on(&topology)
        .with(["-c".as_ref(), configuration.path().as_os_str()])
        .start()
        .unwrap();

    let start = Instant::now();
    let mut expected = HashSet::new();
    for (family, count) in FLOWS {
        let crowd = Crowd::new(&topology, family).unwrap();
        crowd.open(0..count).unwrap();
        expected.extend((0..count).map(|index| crowd.addresses(index)));
    }
    let opened = start.elapsed();
    assert_eq!(expected.len(), 100_000);

    let start = Instant::now();
    let flows = tracker.list().unwrap();
    println!("opened in {opened:?}, listed in {:?}", start.elapsed());
    for flow in &flows {
        assert_eq!(
            flow.states(),
            (State::Established, State::Established),
            "{flow}"
        );
        assert_eq!(
            (flow.initiator.packets, flow.responder.packets),
            (2, 1),
            "{flow}"
        );
        assert!(
            expected.remove(&(flow.initiator.at(), flow.responder.at())),
            "twice: {flow}"
        );
    }
    assert!(
        expected.is_empty(),
        "{} flows are not listed",
        expected.len()
    );
    assert_eq!(flows.len(), 100_000);
    let stats = tracker.stats().unwrap();
    assert_eq!(
        (stats.flows_ipv4.held, stats.flows_ipv6.held),
        (70_000, 30_000)
    );
    assert_eq!(stats.half_open.held, 0);
    assert_eq!(stats.met("refuse"), Vec::<String>::new());

    // Expired flows are listed no more; the sweep then takes their memory back.
    fs::write(configuration.path(), SHORT).unwrap();
    tracker.signal(Signal::SIGHUP).unwrap();
    eventually(SWEEPING, || {
        let ask = || anyhow::Ok((tracker.list()?.len(), tracker.stats()?));
        let (listed, stats) = ask().map_err(|error| format!("{error:#}"))?;
        match (listed, stats.flows_ipv4.held, stats.flows_ipv6.held) {
            (0, 0, 0) => Ok(()),
            left => Err(format!("listed, held for IPv4 and for IPv6: {left:?}")),
        }
    });
    tracker.stop().unwrap();
}
