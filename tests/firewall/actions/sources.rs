//! Limits by source prefix.

use std::net::SocketAddr;

use tracker_tests::{
    configuration::SOON,
    sockets,
    topology::{Family, INTERFACE, Placement, Topology},
    wait::eventually,
};

use super::{Enforcer, FAMILIES, opens};

/// Hosts at the client's end: two in a prefix of 28 or 124 bits, and one in the next.
/// The client's own address is the first one.
const HOSTS: [[&str; 2]; 3] = [
    ["192.0.2.1", "2001:db8:1::1"],
    ["192.0.2.11", "2001:db8:1::b"],
    ["192.0.2.17", "2001:db8:1::11"],
];

fn topology() -> Topology {
    let topology = Topology::new(Placement::Server).unwrap();
    for [v4, v6] in &HOSTS[1..] {
        let addresses =
            format!("addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n");
        topology.client.netns.ip(&addresses).unwrap();
    }
    topology
}

fn host(index: usize, family: Family, port: u16) -> SocketAddr {
    let [v4, v6] = HOSTS[index];
    let address = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    SocketAddr::new(address.parse().unwrap(), port)
}

fn policy(limit: &str) -> String {
    format!(
        "default = \"drop\"\n[[rules]]\nname = \"web\"\nports = [80]\naction = \"allow\"\n\
         limit = {{ {limit}, source_prefix_v4 = 28, source_prefix_v6 = 124 }}\n"
    )
}

#[test]
fn connections_at_once_are_counted_by_prefix() {
    let topology = topology();
    let enforcer = Enforcer::new(&topology, &policy("source_connections = 2"));
    let client = &topology.client.netns;
    for family in FAMILIES {
        let to = topology.server.at(family, 80);
        let listener = sockets::listen(&topology.server.netns, to).unwrap();
        let open = |index, port| {
            let socket = opens(client, host(index, family, port), to)?;
            Some([socket, sockets::accept(&listener).unwrap()])
        };
        let first = open(0, 40_000).unwrap();
        let second = open(1, 40_000).unwrap();
        let before = enforcer.packets("rule_source_flows");
        assert!(open(0, 40_001).is_none(), "{family}");
        assert!(open(1, 40_001).is_none(), "{family}");
        assert!(enforcer.packets("rule_source_flows") > before, "{family}");
        let other = open(2, 40_000);
        assert!(other.is_some(), "{family}: another prefix");
        // What one of the prefix gives back the other may have.
        let [gone, _] = first;
        sockets::reset(gone).unwrap();
        eventually(SOON, || {
            open(1, 40_002)
                .map(drop)
                .ok_or_else(|| "none is admitted".to_owned())
        });
        drop(second);
    }
    enforcer.tracker.stop().unwrap();
}

#[test]
fn rates_are_kept_by_prefix() {
    let topology = topology();
    let enforcer = Enforcer::new(
        &topology,
        &policy("source_rate = \"1/h\", source_burst = 2"),
    );
    let client = &topology.client.netns;
    for family in FAMILIES {
        let to = topology.server.at(family, 80);
        let _listener = sockets::listen(&topology.server.netns, to).unwrap();
        let opens = |index, port| opens(client, host(index, family, port), to).is_some();
        assert!(opens(0, 40_000) && opens(1, 40_000), "{family}");
        let before = enforcer.packets("rule_source_rate");
        assert!(!opens(0, 40_001), "{family}");
        assert!(enforcer.packets("rule_source_rate") > before, "{family}");
        assert!(opens(2, 40_000), "{family}: another prefix");
    }
    enforcer.tracker.stop().unwrap();
}
