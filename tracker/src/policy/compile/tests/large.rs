//! Policies as large as they may be.

use std::time::Instant;

use tracker_common::{
    abi::{Family, PolicyHeader},
    policy::{Prefix, Subject},
};

use super::{
    Judge, agree, compiled, index_of,
    sample::{any_rule, policy, set, v4, v6},
    subject,
};
use crate::policy::{compile::compile, model::Policy};

/// 10,000 rules over 100,000 prefixes: each rule names 10 of its own, half of them
/// IPv6, and a port; each third one has one of ten exceptions.
fn ten_thousand() -> Policy {
    const RULES: u32 = 10_000;
    let mut policy = policy(vec![any_rule(); RULES as usize]);
    for rule in 0..RULES {
        let of_rule = |index: u32| own(rule * 10 + index);
        policy.sets.push(set((0..10).map(of_rule)));
    }
    for exception in 0..10 {
        policy.sets.push(set([v4([10, exception, 0, 0], 16)]));
    }
    for (index, rule) in policy.rules.iter_mut().enumerate() {
        rule.from.among = vec![index];
        let port = 1 + (index % 60_000) as u16;
        rule.to_ports = vec![(port, port)];
        if index % 3 == 0 {
            rule.from.except = vec![RULES as usize + index % 10];
        }
    }
    policy
}

/// One of 100,000 prefixes.
fn own(index: u32) -> Prefix {
    match index % 2 {
        0 => v4((10 << 24 | index << 4).to_be_bytes(), 28),
        _ => Prefix {
            address: [0x2001_0db8_u32.to_be(), index.to_be(), 0, 0],
            ..v6(0, 64)
        },
    }
}

/// `rules` rules, each with a port of its own, over as many sets of one prefix each.
fn simple(rules: u32) -> Policy {
    let mut policy = policy(vec![any_rule(); rules as usize]);
    for (index, rule) in (0..).zip(&mut policy.rules) {
        rule.from.among = vec![policy.sets.len()];
        rule.to_ports = vec![(1 + index, 1 + index)];
        policy.sets.push(set([own(u32::from(index))]));
    }
    policy
}

/// 10,000 rules that differ in their ports, over one set of 100,000 prefixes.
fn one_set() -> Policy {
    let mut policy = ten_thousand();
    let all: Vec<_> = policy.sets.drain(..).flat_map(|set| set.prefixes).collect();
    policy.sets.push(set(all.into_iter().take(100_000)));
    for rule in &mut policy.rules {
        rule.from.among = vec![0];
        rule.from.except.clear();
    }
    policy
}

#[test]
fn the_examples_of_the_documentation_take_what_it_says() {
    let text = include_str!("../../../../../docs/policy-cost.md");
    for (what, policy) in [
        ("100 rules over 100 prefixes and ports", simple(100)),
        ("10,000 rules over one set of 100,000 prefixes", one_set()),
        (
            "10,000 rules, each with a port and ten prefixes of its own: 100,000 prefixes",
            ten_thousand(),
        ),
    ] {
        let memory = compiled(&policy).memory();
        let mib = |octets: usize| format!("{:.2} MiB", octets as f64 / f64::from(1 << 20));
        let line = format!("| {what} | {} | {} |", mib(memory.blocks), mib(memory.trie));
        assert!(text.contains(&line), "docs/policy-cost.md has not: {line}");
    }
}

#[test]
fn ten_thousand_rules_over_a_hundred_thousand_prefixes_fit_and_decide() {
    let policy = ten_thousand();
    let begun = Instant::now();
    let compiled = compiled(&policy);
    let took = begun.elapsed();
    let memory = compiled.memory();
    println!("{memory:?}, {took:?}");
    assert!(memory.blocks < 4 << 20, "{memory:?}");
    assert!(memory.trie < 20 << 20, "{memory:?}");
    // Without optimisation it takes ten times as long.
    assert!(took.as_secs() < 15, "{took:?}");
    let judge = Judge::new(&compiled);
    for index in (0..10_000).step_by(7) {
        let rule = &policy.rules[index];
        let from = policy.sets[index].prefixes[index % 10];
        let excepted = from.family == Family::V4
            && index % 3 == 0
            && policy.sets[10_000 + index % 10].prefixes[0].contains(from.family, &from.address);
        let subject = subject(from, from, rule.to_ports[0].0);
        let expected = if excepted { 10_000 } else { index };
        assert_eq!(judge.judge(&subject).unwrap().index, expected);
    }
}

#[test]
fn both_readings_agree_about_ten_thousand_rules() {
    let policy = ten_thousand();
    let subjects: Vec<Subject> = (0..300_u32)
        .map(|index| {
            let rule = index * 33;
            let prefix = own(rule * 10 + index % 12);
            let port = policy.rules[rule as usize].to_ports[0].0;
            subject(prefix, prefix, port + u16::from(index % 5 == 0))
        })
        .collect();
    agree(&policy, &subjects);
}

#[test]
fn every_port_may_be_another_rules() {
    let mut policy = policy(vec![any_rule(); 16_000]);
    for (port, rule) in (0_u16..).zip(&mut policy.rules) {
        rule.to_ports = vec![(port, port), (port + 20_000, port + 20_000)];
        rule.from_ports = vec![(60_000 - port, u16::MAX)];
    }
    let compiled = compile(&policy, &index_of, &|_| 1).unwrap();
    let head = PolicyHeader::from_block(&compiled.blocks[0]);
    assert!(head.to_ports_at != 0 && head.from_ports_at != 0);
    let here = v4([10, 1, 2, 3], 32);
    let subjects = [
        0,
        1,
        511,
        512,
        513,
        15_999,
        16_000,
        20_000,
        35_999,
        36_000,
        u16::MAX,
    ];
    let subjects = subjects.map(|port| subject(here, here, port));
    agree(&policy, &subjects);
    let later = subjects.map(|subject| Subject {
        from_port: 45_000,
        ..subject
    });
    agree(&policy, &later);
}
