//! Connections that are refused with an answer, and without.

use std::time::Duration;

use tracker_tests::{
    sockets,
    topology::{Family, Placement, Topology},
};

use super::{Ear, Enforcer, Errors, FAMILIES, open, opens};

const RESET: u16 = 4443;
const PROHIBITED: u16 = 4444;
const DROPPED: u16 = 4445;

const POLICY: &str = r#"default = "drop"
[[rules]]
name = "web"
ports = [80]
action = "allow"
[[rules]]
name = "reset"
ports = [4443]
action = "reject"
[[rules]]
name = "prohibited"
ports = [4444]
action = "reject"
reject_with = "prohibited"
"#;

/// Before a SYN would be sent again.
const AT_ONCE: Duration = Duration::from_millis(950);

/// What a client is told of an ICMP error that says "administratively prohibited"
/// (`icmp_err_convert` in net/ipv4/icmp.c, `icmpv6_err_convert` in net/ipv6/icmp.c).
const fn prohibition(family: Family) -> i32 {
    match family {
        Family::V4 => libc::EHOSTUNREACH,
        Family::V6 => libc::EACCES,
    }
}

fn answers(placement: Placement) {
    let topology = Topology::new(placement).unwrap();
    let (client, server) = (&topology.client.netns, &topology.server.netns);
    let enforcer = Enforcer::new(&topology, POLICY);
    for family in FAMILIES {
        let ear = Ear::new(server, family);
        let errors = Errors::new(client, family);
        // Somebody listens at each of the ports.
        let listeners = [80, RESET, PROHIBITED, DROPPED].map(|port| {
            let at = topology.server.at(family, port);
            sockets::listen(server, at).unwrap()
        });
        let from = |port| topology.client.at(family, port);
        let to = |port| topology.server.at(family, port);

        let cases = [
            (RESET, libc::ECONNREFUSED, "policy_reset"),
            (PROHIBITED, prohibition(family), "policy_prohibited"),
        ];
        for (port, error, reason) in cases {
            let before = enforcer.packets(reason);
            let (result, time) = open(client, from(40_000 + port), to(port));
            let found = result.map(drop).unwrap_err().raw_os_error();
            let what = format!("{placement:?} {family} port {port}");
            assert_eq!(found, Some(error), "{what}");
            let syns = enforcer.packets(reason) - before;
            assert_eq!(ear.heard(port), 0, "{what}");
            if port == PROHIBITED {
                // The kernel takes no ICMP error while connect(2) is still at work on the
                // socket (`tcp_v4_err`, `tcp_v6_err`), but each SYN has got one.
                assert!(syns == 1 || syns == 2, "{what}: {syns}");
                assert_eq!(errors.heard(), syns, "{what}");
            } else {
                assert_eq!(syns, 1, "{what}");
                assert!(time < AT_ONCE, "{what} after {time:?}");
            }
        }
        let before = enforcer.packets("policy_dropped");
        let (result, time) = open(client, from(44_445), to(DROPPED));
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        assert!(time > AT_ONCE, "{time:?}");
        assert_eq!(
            enforcer.packets("policy_dropped") - before,
            2,
            "{placement:?}"
        );
        assert_eq!(ear.heard(DROPPED), 0);

        assert!(
            opens(client, from(40_080), to(80)).is_some(),
            "{placement:?} {family}"
        );
        drop(listeners);
    }
    // Nothing else was refused, the answers above all.
    let stats = enforcer.tracker.stats().unwrap();
    let mut refused = stats.met("refuse");
    refused.retain(|line| !line.starts_with("policy_"));
    assert_eq!(refused, Vec::<String>::new(), "{placement:?}");
    assert!(stats.flows_ipv4.held <= 1 && stats.flows_ipv6.held <= 1);
    enforcer.tracker.stop().unwrap();
}

#[test]
fn who_calls_this_host_is_told() {
    answers(Placement::Server);
}

#[test]
fn clients_of_this_host_are_told() {
    answers(Placement::Client);
}

#[test]
fn who_calls_through_a_gateway_is_told() {
    answers(Placement::Gateway);
}
