//! Rates, prefixes, and the packing of blocks.

use super::*;
use crate::abi::{Block, Family, PolicyHeader, Rate, Rule};

fn v4(octets: [u8; 4]) -> [u32; 4] {
    [u32::from_ne_bytes(octets), 0, 0, 0]
}

#[test]
fn a_rate_grants_its_burst_and_then_one_by_one() {
    let rate = Rate {
        interval_ns: 100,
        tolerance_ns: 200,
    };
    let mut due = 0;
    for _ in 0..3 {
        due = conforms(due, 1000, &rate).unwrap();
    }
    assert_eq!(conforms(due, 1000, &rate), None);
    assert_eq!(conforms(due, 1099, &rate), None);
    due = conforms(due, 1100, &rate).unwrap();
    assert_eq!(conforms(due, 1100, &rate), None);
    // Long silence saves up no more than the burst.
    for _ in 0..3 {
        due = conforms(due, 1_000_000, &rate).unwrap();
    }
    assert_eq!(conforms(due, 1_000_000, &rate), None);
}

#[test]
fn a_prefix_holds_its_addresses_and_no_others() {
    let ten = Prefix {
        family: Family::V4,
        address: v4([10, 0, 0, 0]),
        bits: 8,
    };
    assert!(ten.contains(Family::V4, &v4([10, 255, 0, 1])));
    assert!(!ten.contains(Family::V4, &v4([11, 0, 0, 0])));
    assert!(!ten.contains(Family::V6, &v4([10, 255, 0, 1])));
    let all = Prefix { bits: 0, ..ten };
    assert!(all.contains(Family::V4, &v4([255; 4])));
    let six = Prefix {
        family: Family::V6,
        address: [1, 2, 3, 4],
        bits: 128,
    };
    assert!(six.contains(Family::V6, &[1, 2, 3, 4]));
    assert!(!six.contains(Family::V6, &[1, 2, 3, 5]));
}

#[test]
fn exceptions_win_over_what_they_are_exceptions_to() {
    let prefix = |octets, bits| Prefix {
        family: Family::V4,
        address: v4(octets),
        bits,
    };
    let (ten, one) = ([prefix([10, 0, 0, 0], 8)], [prefix([10, 1, 0, 0], 16)]);
    let set = Prefixes {
        among: &[&ten],
        except: &[&one],
    };
    assert!(set.contain(Family::V4, &v4([10, 2, 0, 1])));
    assert!(!set.contain(Family::V4, &v4([10, 1, 0, 1])));
    let all_but = Prefixes {
        among: &[],
        except: &[&one],
    };
    assert!(all_but.contain(Family::V6, &[0; 4]));
    assert!(!all_but.contain(Family::V4, &v4([10, 1, 0, 1])));
}

#[test]
fn blocks_tell_what_was_put_into_them() {
    let rule = Rule {
        number: 65_535,
        action: Action::Prohibit as u8,
        flags: 0x1f,
        profile: 7,
        flows: u32::MAX,
        source_flows: 3,
        rate: Rate {
            interval_ns: u64::MAX,
            tolerance_ns: 1,
        },
        source_rate: Rate {
            interval_ns: 2,
            tolerance_ns: u64::MAX,
        },
    };
    assert_eq!(Rule::from_block(&rule.to_block()), rule);
    let header = PolicyHeader {
        rules: 1,
        rules_at: 2,
        places_at: 3,
        place_buckets: 4,
        elsewhere: [5, 6, 7],
        to_ports_at: 8,
        from_ports_at: 9,
        in_force: 10,
        flags: u32::MAX,
    };
    assert_eq!(PolicyHeader::from_block(&header.to_block()), header);
    let mut block = Block::default();
    block.set_half(15, 1);
    block.set_half(15, u32::MAX);
    assert_eq!(block.words[7], 0xffff_ffff_0000_0000);
}
