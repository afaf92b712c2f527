//! Policies made by hand, for tests and benches of what they compile to.

use std::{cell::Cell, net::IpAddr};

use tracker::policy::{
    compile::{Compiled, compile},
    model::{Addresses, Limits, Management, Policy, PrefixSet, Rule, Source},
};
use tracker_common::{
    abi::Family,
    policy::{Action, Directions, Prefix},
};

/// A policy of these rules over these sets, which drops what none of them matches.
#[must_use]
pub fn policy(rules: Vec<Rule>, sets: Vec<Vec<Prefix>>) -> Policy {
    let sets = (0..).zip(sets).map(|(index, prefixes)| PrefixSet {
        name: format!("set{index}"),
        inline: false,
        prefixes,
    });
    Policy {
        rules,
        default: Action::Drop,
        default_log: false,
        sets: sets.collect(),
        port_sets: Vec::new(),
        management: Management::default(),
        source: Source::default(),
    }
}

/// A rule for every connection.
#[must_use]
pub fn rule(name: &str, action: Action) -> Rule {
    Rule {
        name: name.to_owned(),
        line: 1,
        directions: Directions::ANY,
        interfaces: Vec::new(),
        from: Addresses::default(),
        to: Addresses::default(),
        from_ports: Vec::new(),
        to_ports: Vec::new(),
        action,
        log: false,
        shadow: false,
        liberal: false,
        pickup: None,
        timeouts: None,
        limits: Limits::default(),
    }
}

/// The prefix of so many bits that an address lies in.
#[must_use]
pub fn prefix(address: impl Into<IpAddr>, bits: u8) -> Prefix {
    let (family, octets, width) = match address.into() {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            (Family::V4, octets, 32)
        }
        IpAddr::V6(address) => (Family::V6, address.octets(), 128),
    };
    let bits = bits.min(width);
    let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
    let octets = (u128::from_be_bytes(octets) & !host).to_be_bytes();
    let mut address = [0; 4];
    for (word, octets) in address.iter_mut().zip(octets.as_chunks().0) {
        *word = u32::from_ne_bytes(*octets);
    }
    Prefix {
        family,
        address,
        bits,
    }
}

/// The policy compiled without interfaces, the first rule with the number `first` and
/// each other with the next one.
///
/// # Panics
///
/// It is too large.
#[must_use]
pub fn numbered(policy: &Policy, first: u16) -> Compiled {
    numbered_at(policy, first, &|_| None)
}

/// The same where `index_of` gives the index of an interface.
///
/// # Panics
///
/// It is too large.
#[must_use]
pub fn numbered_at(
    policy: &Policy,
    first: u16,
    index_of: &dyn Fn(&str) -> Option<u32>,
) -> Compiled {
    let next = Cell::new(first);
    let number = |_: &str| next.replace(next.get().wrapping_add(1));
    compile(policy, index_of, &number).expect("a policy that fits")
}
