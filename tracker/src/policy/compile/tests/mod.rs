//! The compiled policy against the plain reading of it, and what it takes.

mod large;
mod random;
mod sample;

use tracker_common::{
    abi::{Block, Family, PolicyHeader, policy_flags},
    policy::{Action, Direction, Directions, Prefix, Subject, interpret},
};

use self::sample::{any_rule, policy, set, v4, v6};
use super::{Compiled, Error, Full, Judge, MAX_BLOCKS, compile, lay_out, numbered, plain};
use crate::policy::model::{Addresses, MAX_RULES, Policy};

/// Interfaces of these tests. Their indexes are equal modulo 4.
fn index_of(name: &str) -> Option<u32> {
    match name {
        "eth0" => Some(1),
        "eth1" => Some(5),
        "eth2" => Some(9),
        "eth3" => Some(13),
        "eth4" => Some(17),
        "far" => Some(0x7fff_fff1),
        _ => None,
    }
}

fn compiled(policy: &Policy) -> Compiled {
    compile(policy, &index_of, &|_| 1).unwrap()
}

/// That both readings of `policy` say the same of each of `subjects`.
#[track_caller]
fn agree(policy: &Policy, subjects: &[Subject]) {
    let compiled = compiled(policy);
    let judge = Judge::new(&compiled);
    let plain = plain::read(policy, &index_of);
    for subject in subjects {
        let expected = interpret(plain.iter().map(|rule| rule.terms()), subject).unwrap();
        let judged = judge.judge(subject).unwrap();
        let shadow = judged.found.indices[1];
        let shadow = (shadow != u32::MAX).then_some(shadow);
        assert_eq!(
            (judged.index as u32, shadow),
            (expected.rule, expected.shadow),
            "{subject:?}"
        );
        assert_eq!(judged.shadow.is_some(), shadow.is_some());
    }
}

fn subject(from: Prefix, to: Prefix, to_port: u16) -> Subject {
    Subject {
        from: from.address,
        to: to.address,
        from_port: 40_000,
        to_port,
        ifindex: 1,
        family: from.family as u8,
        direction: Direction::In as u8,
        reserved: [0; 2],
    }
}

#[test]
fn a_policy_without_rules_has_its_default() {
    let mut policy = policy(Vec::new());
    policy.default = Action::Reset;
    policy.default_log = true;
    let compiled = compiled(&policy);
    let head = PolicyHeader::from_block(&compiled.blocks[0]);
    assert_eq!((head.rules, head.flags), (1, policy_flags::CLOSED));
    assert_eq!(compiled.prefixes.len(), 2);
    let judge = Judge::new(&compiled);
    for family in [Family::V4, Family::V6] {
        let subject = Subject {
            family: family as u8,
            ..Subject::default()
        };
        let judged = judge.judge(&subject).unwrap();
        assert_eq!((judged.rule.name.as_str(), judged.index), ("default", 0));
        assert_eq!(judged.found.rule.action, Action::Reset as u8);
        assert!(judged.rule.log && judged.shadow.is_none());
    }
}

#[test]
fn exceptions_hold_inside_and_outside_of_what_they_are_made_to() {
    let mut rule = any_rule();
    rule.from = Addresses {
        among: vec![0],
        except: vec![1],
    };
    rule.to.except = vec![2];
    let mut policy = policy(vec![rule]);
    policy.sets = vec![
        set([v4([10, 1, 0, 0], 16), v6(0x2001_0db8, 32)]),
        set([v4([10, 0, 0, 0], 8), v4([10, 1, 2, 0], 24)]),
        set([v4([0, 0, 0, 0], 0)]),
    ];
    let here = v4([10, 1, 2, 3], 32);
    let there = v6(0x2001_0db8, 128);
    agree(&policy, &[subject(here, here, 1), subject(there, there, 1)]);
    let compiled = compiled(&policy);
    let judge = Judge::new(&compiled);
    assert_eq!(judge.judge(&subject(here, here, 1)).unwrap().index, 1);
    assert_eq!(judge.judge(&subject(there, there, 1)).unwrap().index, 0);
}

#[test]
fn a_set_of_nobody_matches_nobody() {
    let mut rule = any_rule();
    rule.from.among = vec![0];
    let mut policy = policy(vec![rule]);
    policy.sets = vec![set([])];
    let here = v4([10, 1, 2, 3], 32);
    agree(&policy, &[subject(here, here, 1)]);
}

#[test]
fn entries_that_tell_nothing_new_are_left_out() {
    let mut rule = any_rule();
    rule.from.among = vec![0, 1];
    let mut policy = policy(vec![rule]);
    policy.sets = vec![
        set([v4([10, 0, 0, 0], 8)]),
        set([v4([10, 1, 0, 0], 16), v4([11, 0, 0, 0], 8)]),
        // Nobody names this one.
        set([v4([172, 16, 0, 0], 12)]),
    ];
    let compiled = compiled(&policy);
    let keys = compiled
        .prefixes
        .iter()
        .map(|(key, _)| (key.family[0], key.prefix_len));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        [(4, 32), (4, 40), (4, 40), (6, 32)]
    );
    assert_eq!(compiled.prefixes[1].1, compiled.prefixes[2].1);
}

#[test]
fn interfaces_decide_by_their_index_and_missing_ones_never() {
    let rules = [
        &["eth0", "eth4"][..],
        &["eth1", "gone"],
        &["gone"],
        &["far", "eth2", "eth3"],
    ];
    let rules = rules.map(|interfaces| {
        let mut rule = any_rule();
        rule.interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        rule.directions = Directions::only(Direction::In);
        rule
    });
    let policy = policy(rules.to_vec());
    let here = v4([10, 1, 2, 3], 32);
    let mut subjects = Vec::new();
    // 0: not known.
    for ifindex in [0, 1, 2, 5, 9, 13, 17, 21, 0x7fff_fff1] {
        for direction in Direction::ALL {
            let subject = subject(here, here, 1);
            subjects.push(Subject {
                ifindex,
                direction: direction as u8,
                ..subject
            });
        }
    }
    agree(&policy, &subjects);
    let compiled = compiled(&policy);
    let head = PolicyHeader::from_block(&compiled.blocks[0]);
    // 1, 5, 9, 13, 17 and 0x7ffffff1 share a bucket of two, four and eight.
    assert_eq!(head.place_buckets, 8);
}

#[test]
fn too_many_rules_are_refused() {
    let most = policy(vec![any_rule(); MAX_RULES]);
    let head = PolicyHeader::from_block(&compiled(&most).blocks[0]);
    assert_eq!(head.rules, tracker_common::abi::MAX_RULES);
    let error = compile(&policy(vec![any_rule(); MAX_RULES + 1]), &index_of, &|_| 1).unwrap_err();
    assert_eq!(error, Error::TooManyRules { rules: 16_384 });
    insta::assert_snapshot!(error, @"there are 16384 rules, and 16383 is the most: write rules that differ in their addresses or ports only as one");
}

#[test]
fn what_takes_too_much_memory_is_refused_with_what_helps() {
    let policy = sample::selections(8);
    let rules = numbered(&policy, &|_| 1);
    let needed = compiled(&policy).blocks.len();
    assert!(lay_out(&policy, &rules, &index_of, needed).is_ok());
    for less in 1..needed - rules.len() {
        let result = lay_out(&policy, &rules, &index_of, needed - less);
        assert_eq!(result.err(), Some(Full), "{less} fewer than {needed}");
    }
    let error = Error::TooLarge {
        rules: 10_000,
        prefixes: 100_000,
    };
    insta::assert_snapshot!(error, @"with its 10000 rules and 100000 prefixes the policy takes more than 64 MiB of the kernel's memory: let rules share sets (`from = \"@name\"`), since prefixes that lie in the same sets share what is kept of them, and leave out prefixes that lie within others");
}

#[test]
fn a_block_takes_what_is_said() {
    assert_eq!(MAX_BLOCKS * size_of::<Block>(), 64 << 20);
}
