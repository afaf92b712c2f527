//! Policies to test with.

use tracker_common::{
    abi::Family,
    policy::{Action, Directions, Prefix},
};

use crate::policy::model::{Addresses, Limits, Management, Policy, PrefixSet, Rule, Source};

/// A rule that matches everything.
pub fn any_rule() -> Rule {
    Rule {
        name: "rule".to_owned(),
        line: 1,
        directions: Directions::ANY,
        interfaces: Vec::new(),
        from: Addresses::default(),
        to: Addresses::default(),
        from_ports: Vec::new(),
        to_ports: Vec::new(),
        action: Action::Allow,
        log: false,
        shadow: false,
        liberal: false,
        pickup: None,
        timeouts: None,
        limits: Limits::default(),
    }
}

/// A policy of these rules.
pub fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        rules,
        default: Action::Drop,
        default_log: false,
        sets: Vec::new(),
        port_sets: Vec::new(),
        management: Management::default(),
        source: Source::default(),
    }
}

pub fn set(prefixes: impl IntoIterator<Item = Prefix>) -> PrefixSet {
    PrefixSet {
        name: "set".to_owned(),
        inline: false,
        prefixes: prefixes.into_iter().collect(),
    }
}

pub fn v4(octets: [u8; 4], bits: u8) -> Prefix {
    Prefix {
        family: Family::V4,
        address: [u32::from_ne_bytes(octets), 0, 0, 0],
        bits,
    }
}

/// The prefix whose first 32 bits are `high`.
pub fn v6(high: u32, bits: u8) -> Prefix {
    Prefix {
        family: Family::V6,
        address: [high.to_be(), 0, 0, 0],
        bits,
    }
}

/// A policy of 1,000 rules over `bits` sets; each of `2^bits` addresses is in another
/// selection of them.
pub fn selections(bits: u32) -> Policy {
    let mut sets: Vec<_> = (0..bits).map(|_| set([])).collect();
    for address in 0..1_u32 << bits {
        for (bit, set) in sets.iter_mut().enumerate() {
            if address >> bit & 1 != 0 {
                set.prefixes
                    .push(v4((10 << 24 | address).to_be_bytes(), 32));
            }
        }
    }
    let mut policy = policy(vec![any_rule(); 1000]);
    for (index, rule) in policy.rules.iter_mut().enumerate() {
        rule.from.among = vec![index % sets.len()];
    }
    policy.sets = sets;
    policy
}
