//! Random policies and connections at their edges: both readings say the same.

use proptest::{prelude::*, sample::select};
use tracker_common::{
    abi::Family,
    policy::{Action, Direction, Directions, Prefix, Subject},
};

use super::{
    agree,
    sample::{any_rule, policy, set},
};
use crate::policy::model::{Addresses, Policy, Rule};

const SETS: usize = 6;
const INTERFACES: [&str; 7] = ["eth0", "eth1", "eth2", "eth3", "eth4", "far", "gone"];
const INDEXES: [u32; 8] = [0, 1, 2, 5, 9, 13, 17, 0x7fff_fff1];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn compiled_and_plain_reading_agree((policy, subjects) in case(rule(), 0..24)) {
        agree(&policy, &subjects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_about_a_thousand_rules((policy, subjects) in case(narrow(), 1000..1600)) {
        agree(&policy, &subjects);
    }
}

/// A policy and connections.
fn case(
    rule: impl Strategy<Value = Rule>,
    rules: std::ops::Range<usize>,
) -> impl Strategy<Value = (Policy, Vec<Subject>)> {
    let rules = prop::collection::vec(rule, rules);
    let sets = prop::collection::vec(prop::collection::vec(prefix(), 0..8), SETS);
    let policy = (rules, sets).prop_map(|(rules, sets)| {
        let mut policy = policy(rules);
        policy.sets = sets.into_iter().map(set).collect();
        policy
    });
    policy.prop_flat_map(|policy| {
        let subjects = prop::collection::vec(subject(&policy), 1..40);
        (Just(policy), subjects)
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let interfaces = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(select(&INTERFACES[..]), 1..4),
    ];
    (
        1..8_u8,
        interfaces,
        addresses(),
        addresses(),
        ports(),
        ports(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(directions, interfaces, from, to, from_ports, to_ports, shadow)| Rule {
                directions: Directions(directions),
                interfaces: interfaces.into_iter().map(str::to_owned).collect(),
                from,
                to,
                from_ports,
                to_ports,
                shadow,
                action: Action::Allow,
                ..any_rule()
            },
        )
}

/// A rule that matches little, so that later ones decide, too.
fn narrow() -> impl Strategy<Value = Rule> {
    (rule(), 0..SETS, any::<u16>(), select(&Direction::ALL[..])).prop_map(
        |(mut rule, to, port, direction)| {
            rule.directions = Directions::only(direction);
            rule.to.among = vec![to];
            rule.to_ports = vec![(port, port)];
            rule
        },
    )
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let sets = |most| prop::collection::btree_set(0..SETS, 0..most);
    (sets(3), sets(2)).prop_map(|(among, except)| Addresses {
        among: among.into_iter().collect(),
        except: except.into_iter().collect(),
    })
}

/// Ranges in order, at least one port apart.
fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let edges = prop_oneof![0..4_u16, 250..260_u16, 65_530..=65_535_u16, any::<u16>()];
    let edges = prop::collection::btree_set(edges, 0..6);
    prop_oneof![
        2 => Just(Vec::new()),
        1 => edges.prop_map(|edges| {
            let edges: Vec<_> = edges.into_iter().collect();
            let mut ranges: Vec<(u16, u16)> = Vec::new();
            for pair in edges.chunks(2) {
                let range = (pair[0], pair[pair.len() - 1]);
                if ranges.last().is_none_or(|&(_, last)| last + 1 < range.0) {
                    ranges.push(range);
                }
            }
            ranges
        }),
    ]
}

/// Prefixes that often lie in each other: few different bits, at the start of the
/// address, at its end and across its words.
fn prefix() -> impl Strategy<Value = Prefix> {
    let bits = prop_oneof![0..6_u8, 30..36_u8, 62..66_u8, 94..98_u8, 126..=128_u8,];
    (any::<bool>(), bits, address()).prop_map(|(six, bits, address)| {
        let (family, bits) = match six {
            true => (Family::V6, bits),
            false => (Family::V4, bits.min(32)),
        };
        prefix_of(family, bits, &address)
    })
}

fn address() -> impl Strategy<Value = [u32; 4]> {
    let word = || select(&[0, 1, 0x8000_0000, u32::MAX][..]);
    [word(), word(), word(), word()]
}

/// The prefix of that length that `address` lies in.
fn prefix_of(family: Family, bits: u8, address: &[u32; 4]) -> Prefix {
    let mut words = [0; 4];
    for (index, (word, &of)) in (0_u32..).zip(words.iter_mut().zip(address)) {
        let bits = u32::from(bits).saturating_sub(32 * index).min(32);
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        *word = (of & mask).to_be();
    }
    Prefix {
        family,
        address: words,
        bits,
    }
}

/// A connection whose numbers are those of the policy, or lie just beside them.
fn subject(policy: &Policy) -> impl Strategy<Value = Subject> + use<> {
    let prefixes: Vec<Prefix> = policy
        .sets
        .iter()
        .flat_map(|set| set.prefixes.clone())
        .collect();
    let (mut four, mut six): (Vec<_>, Vec<_>) = prefixes
        .into_iter()
        .partition(|prefix| prefix.family == Family::V4);
    four.push(prefix_of(Family::V4, 0, &[0; 4]));
    six.push(prefix_of(Family::V6, 0, &[0; 4]));
    let both = |prefixes: Vec<Prefix>| (at_edge(prefixes.clone()), at_edge(prefixes));
    let addresses = prop_oneof![
        both(four).prop_map(|both| (Family::V4, both)),
        both(six).prop_map(|both| (Family::V6, both)),
    ];
    let rules = policy.rules.iter();
    let ranges = rules.flat_map(|rule| rule.from_ports.iter().chain(&rule.to_ports));
    let mut ports: Vec<u16> = ranges
        .flat_map(|&(first, last)| [first, first.wrapping_sub(1), last, last.wrapping_add(1)])
        .collect();
    ports.extend([0, u16::MAX]);
    let port = || prop_oneof![select(ports.clone()), any::<u16>()];
    (
        addresses,
        port(),
        port(),
        select(&INDEXES[..]),
        select(&Direction::ALL[..]),
    )
        .prop_map(
            |((family, (from, to)), from_port, to_port, ifindex, direction)| Subject {
                from,
                to,
                from_port,
                to_port,
                ifindex,
                family: family as u8,
                direction: direction as u8,
                reserved: [0; 2],
            },
        )
}

/// First and last address of a prefix, those beside them, and any in it.
fn at_edge(prefixes: Vec<Prefix>) -> impl Strategy<Value = [u32; 4]> {
    (select(prefixes), 0..5, any::<u128>()).prop_map(|(prefix, edge, inside)| {
        let width = match prefix.family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let first = prefix.address.iter().fold(0_u128, |number, &word| {
            number << 32 | u128::from(u32::from_be(word))
        });
        let one = 1_u128 << (128 - width);
        let hosts = u128::MAX.checked_shr(prefix.bits.into()).unwrap_or(0) & !(one - 1);
        let number = match edge {
            0 => first,
            1 => first.wrapping_sub(one),
            2 => first | hosts,
            3 => (first | hosts).wrapping_add(one),
            _ => first | inside & hosts,
        };
        [96, 64, 32, 0].map(|shift| ((number >> shift) as u32).to_be())
    })
}
