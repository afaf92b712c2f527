//! What counts and does nothing: rules in shadow, and a tracker that observes. And
//! what is told of decisions.

use tracker_tests::{
    configuration::SOON,
    connection::Connection,
    sockets,
    spoof::{Segment, Spoofer},
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use super::{Enforcer, FAMILIES, opens};
use crate::policy::hits;

#[test]
fn a_rule_in_shadow_counts_and_does_nothing() {
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(
        &topology,
        "default = \"drop\"\n[[rules]]\nname = \"would drop\"\nshadow = true\naction = \"drop\"\n\
         [[rules]]\nname = \"web\"\nports = [80]\naction = \"allow\"\n",
    );
    for family in FAMILIES {
        let to = topology.server.at(family, 80);
        let _listener = sockets::listen(&topology.server.netns, to).unwrap();
        for port in 40_000..40_005 {
            let from = topology.client.at(family, port);
            assert!(opens(&topology.client.netns, from, to).is_some());
        }
    }
    assert_eq!(hits(&enforcer.tracker, "would drop"), Ok(10));
    assert_eq!(hits(&enforcer.tracker, "web"), Ok(10));
    assert_eq!(
        enforcer.tracker.stats().unwrap().met("refuse"),
        Vec::<String>::new()
    );
    enforcer.tracker.stop().unwrap();
}

#[test]
fn who_observes_counts_and_drops_nothing_and_follows_every_connection() {
    for placement in [Placement::Server, Placement::Client, Placement::Gateway] {
        let topology = Topology::new(placement).unwrap();
        let enforcer = Enforcer::in_mode(
            &topology,
            "default = \"drop\"\n[[rules]]\nname = \"no web\"\nports = [80]\naction = \"reject\"\n",
            "observe",
        );
        let connection = Connection::open(&topology, 40_000);
        let flow = connection.seen_by(&enforcer.tracker);
        assert_eq!(flow.origin, "handshake", "{placement:?}");
        assert_eq!(enforcer.packets("policy_reset"), 1, "{placement:?}");
        let to = topology.server.at(Family::V6, 4443);
        let _listener = sockets::listen(&topology.server.netns, to).unwrap();
        let from = topology.client.at(Family::V6, 40_001);
        let open = opens(&topology.client.netns, from, to).unwrap();
        assert_eq!(enforcer.packets("policy_dropped"), 1, "{placement:?}");
        assert_eq!(enforcer.tracker.list().unwrap().len(), 2, "{placement:?}");
        assert_eq!(hits(&enforcer.tracker, "no web"), Ok(1));
        assert_eq!(hits(&enforcer.tracker, "default"), Ok(1));
        drop(open);
        enforcer.tracker.stop().unwrap();
    }
}

/// As long as its rule says an idle connection is remembered.
#[test]
fn a_rule_has_its_own_time_outs() {
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(
        &topology,
        "default = \"drop\"\n[[rules]]\nname = \"short\"\nports = [80]\naction = \"allow\"\n\
         timeouts = \"aggressive\"\n[[rules]]\nname = \"usual\"\nports = [81]\naction = \"allow\"\n",
    );
    let short = Connection::open(&topology, 40_000).seen_by(&enforcer.tracker);
    let from = topology.client.at(Family::V4, 40_001);
    let to = topology.server.at(Family::V4, 81);
    let _listener = sockets::listen(&topology.server.netns, to).unwrap();
    let _open = opens(&topology.client.netns, from, to).unwrap();
    let usual = eventually(SOON, || {
        let flows = enforcer
            .tracker
            .list()
            .map_err(|error| format!("{error:#}"))?;
        let established = (State::Established, State::Established);
        flows
            .into_iter()
            .find(|flow| flow.connects(from, to) && flow.states() == established)
            .ok_or_else(|| "no flow".to_owned())
    });
    assert!(short.expires_ms < usual.expires_ms, "{short}\n{usual}");
    enforcer.tracker.stop().unwrap();
}

/// Ten lines of a rule in a second; what they leave out is told with the next.
#[test]
fn a_flood_of_decisions_makes_few_lines() {
    const FLOOD: u16 = 2000;
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(
        &topology,
        "default = \"drop\"\n[[rules]]\nname = \"no telnet\"\nports = [23]\naction = \"drop\"\n\
         log = true\n",
    );
    let spoofer = Spoofer::new(&topology).unwrap();
    let begun = std::time::Instant::now();
    for port in 1000..1000 + FLOOD {
        let syn = Segment {
            from: ([192, 0, 2, 77], port).into(),
            to: topology.server.at(Family::V4, 23),
            seq: 1000,
            ack: None,
            syn: true,
            rst: false,
            payload: b"",
            damaged: false,
        };
        spoofer.send(&syn).unwrap();
    }
    eventually(SOON, || match hits(&enforcer.tracker, "no telnet")? {
        hits if hits == u64::from(FLOOD) => Ok(()),
        hits => Err(format!("{hits} hits")),
    });
    let first = "rule `no telnet` refused 192.0.2.77:1000 → 192.0.2.2:23 [SYN] in at eth0: \
                 policy_dropped";
    enforcer.tracker.wait_for_log("", first, SOON).unwrap();
    let log = enforcer.tracker.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("rule `no telnet`"))
        .count();
    let most = 10 * (begun.elapsed().as_secs() as usize + 2);
    assert!(lines <= most, "{lines} lines, {most} at most");
    assert_eq!(enforcer.packets("policy_dropped"), u64::from(FLOOD));
    enforcer.tracker.stop().unwrap();
}
