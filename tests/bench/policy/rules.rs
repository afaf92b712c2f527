//! Policies of a number of rules, as the tracker's and as nftables'.

use std::fmt::Write as _;

use serde::Serialize;
use tracker::policy::model::Policy;
use tracker_common::policy::Action;
use tracker_tests::policies::{policy, prefix, rule};

/// Which rules decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The last one about all connections.
    Last,
    /// Each about its part of the connections.
    Spread,
    /// The last one about all connections. Of the others one half has their
    /// addresses, the other half their port: no field says soon that they do not
    /// match.
    Crossed,
}

impl Order {
    /// All.
    pub const ALL: [Self; 3] = [Self::Last, Self::Spread, Self::Crossed];

    /// What it is called in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Last => "the last rule decides",
            Self::Spread => "every rule decides",
            Self::Crossed => "the last rule decides, the others nearly match",
        }
    }
}

/// Who connects where.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// First address of clients.
    pub from: u32,
    /// Bits that all clients have in common with it.
    pub bits: u8,
    /// The server's port.
    pub port: u16,
}

/// What a rule asks for: address, bits, and port.
type Terms = (u32, u8, u16);

/// Rules for connections.
fn terms(count: u32, order: Order, connections: &Connections) -> Vec<Terms> {
    let Connections { from, bits, port } = *connections;
    match order {
        Order::Last => {
            let others = (1..count).map(|index| (other_host(index), 32, other_port(index)));
            others.chain([(from, bits, port)]).collect()
        }
        Order::Spread => shares(count, from, bits)
            .map(|(from, bits)| (from, bits, port))
            .collect(),
        Order::Crossed => {
            let others = (1..count).map(|index| match index % 2 {
                0 => (from, bits, other_port(index)),
                _ => (other_host(index), 32, port),
            });
            others.chain([(from, bits, port)]).collect()
        }
    }
}

/// A host of a network of nobody's (RFC 2544).
const fn other_host(index: u32) -> u32 {
    0xc612_0000 + index
}

/// A port of nobody's.
const fn other_port(index: u32) -> u16 {
    20_000 + (index % 40_000) as u16
}

/// `count` prefixes that make up one together, of two lengths at most.
fn shares(count: u32, from: u32, bits: u8) -> impl Iterator<Item = (u32, u8)> {
    let power = count.ilog2();
    // So many of the shorter ones are cut in two.
    let cut = count - (1 << power);
    let bits = bits + power as u8;
    let step = 1_u32.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    (0..1 << power).flat_map(move |index| {
        let first = from.wrapping_add(step.wrapping_mul(index));
        if index < cut {
            vec![(first, bits + 1), (first.wrapping_add(step / 2), bits + 1)]
        } else {
            vec![(first, bits)]
        }
    })
}

/// So many rules, and everything else is dropped.
pub fn model(count: u32, order: Order, connections: &Connections) -> Policy {
    let (mut rules, mut sets) = (Vec::new(), Vec::new());
    for (index, (from, bits, port)) in terms(count, order, connections).into_iter().enumerate() {
        let mut rule = rule(&format!("rule {index}"), Action::Allow);
        rule.from.among = vec![sets.len()];
        rule.to_ports = vec![(port, port)];
        sets.push(vec![prefix(from.to_be_bytes(), bits)]);
        rules.push(rule);
    }
    policy(rules, sets)
}

/// The same as a chain of rules.
pub fn nftables(count: u32, order: Order, connections: &Connections) -> String {
    let mut text = "table ip bench {\n\
                    chain input {\n\
                    type filter hook input priority filter; policy drop;\n\
                    ct state established,related accept\n"
        .to_owned();
    for (from, bits, port) in terms(count, order, connections) {
        let address = std::net::Ipv4Addr::from(from);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "ip saddr {address}/{bits} tcp dport {port} accept");
    }
    text.push_str("}\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_make_up_the_whole_without_overlapping() {
        for count in [1, 2, 3, 10, 100, 1000, 10_000] {
            let mut next = 240_u64 << 24;
            for (from, bits) in shares(count, 240 << 24, 4) {
                assert_eq!(u64::from(from), next);
                next += 1 << (32 - bits);
            }
            assert_eq!(next, 1 << 32, "{count}");
            assert_eq!(shares(count, 240 << 24, 4).count(), count as usize);
        }
    }
}
