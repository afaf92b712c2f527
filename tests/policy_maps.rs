//! Policies in the maps: what the programs decide by them is what the brain reads in
//! their rules, they are replaced whole, and what is kept of a rule stays with it.

use std::time::Instant;

use tracker::{
    datapath::{Fresh, RuleTotals},
    policy::{
        compile::{Compiled, Judge, plain},
        model::{Limits, Policy},
    },
};
use tracker_common::{
    abi::{Family, POLICY_SLOTS, RuleState},
    policy::{Action, Direction, Directions, Prefix, Subject, interpret},
    reason::Reason,
};
use tracker_tests::{
    policies::{numbered, numbered_at, policy, prefix, rule},
    program::{
        bench::{Bench, Origin, live},
        frame::{Frame, Socket, Wrapping},
        random::Random,
    },
};

/// Installs a policy and puts it in force.
fn enforce(bench: &Bench, compiled: &Compiled, fresh: &[Fresh]) -> u32 {
    let installed = bench.loaded.install_policy(compiled, fresh).unwrap();
    bench
        .loaded
        .set_live(&tracker_common::abi::Live {
            policy_slot: installed.slot,
            mode: tracker_common::abi::Mode::Enforce as u8,
            ..live()
        })
        .unwrap();
    installed.slot
}

const SERVER: Socket = Socket { host: 1, port: 80 };

fn client(host: u16, port: u16) -> Socket {
    Socket { host, port }
}

/// The prefix of so many bits that a made-up host is in.
fn around(host: u16, family: Family, bits: u8) -> Prefix {
    let socket = client(host, 0);
    match family {
        Family::V4 => prefix(socket.v4(), bits),
        Family::V6 => prefix(socket.v6(), bits),
    }
}

/// 700 rules, which are more than a chunk has bits for: a host or some hosts of either
/// family and a port each, some of them with an exception, at an interface or for a
/// direction; every seventh in shadow.
fn motley() -> Policy {
    let mut rules = Vec::new();
    let mut sets = Vec::new();
    for index in 0..700_u16 {
        let family = if index % 3 == 0 {
            Family::V6
        } else {
            Family::V4
        };
        let (width, less) = match family {
            Family::V4 => (32, index % 6),
            Family::V6 => (128, index % 5),
        };
        sets.push(vec![around(index % 512, family, width - less as u8)]);
        let action = match index % 4 {
            0 => Action::Drop,
            _ => Action::Allow,
        };
        let mut rule = rule(&format!("rule {index}"), action);
        rule.from.among = vec![usize::from(index)];
        if index % 5 == 0 {
            rule.from.except = vec![usize::from(index / 2)];
        }
        let port = 1 + index % 97;
        rule.to_ports = vec![(port, port + index % 11)];
        rule.shadow = index % 7 == 0;
        rule.interfaces = match index % 8 {
            1 => vec!["wire".to_owned()],
            2 => vec!["other".to_owned(), "gone".to_owned()],
            _ => Vec::new(),
        };
        if index % 9 == 4 {
            rule.directions = Directions::only(Direction::Out);
        }
        rules.push(rule);
    }
    policy(rules, sets)
}

fn subject(wrapping: Wrapping, from: Socket, to: Socket, ifindex: u32) -> Subject {
    Subject {
        from: from.address(wrapping.family),
        to: to.address(wrapping.family),
        from_port: from.port,
        to_port: to.port,
        ifindex,
        family: wrapping.family as u8,
        direction: Direction::In as u8,
        reserved: [0; 2],
    }
}

#[test]
fn the_programs_decide_as_the_rules_read() {
    let mut bench = Bench::new().unwrap();
    let policy = motley();
    let wire = bench.ifindex(Origin::Wire);
    let index_of = |name: &str| match name {
        "wire" => Some(wire),
        "other" => Some(wire + 1),
        _ => None,
    };
    let compiled = numbered_at(&policy, 900, &index_of);
    enforce(&bench, &compiled, &[]);
    let judge = Judge::new(&compiled);
    let plain = plain::read(&policy, &index_of);
    let mut random = Random::new(5);
    let (mut decided, mut shadowed) = (std::collections::BTreeMap::new(), 0);
    for port in 0..1500_u16 {
        let family = if random.below(2) == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let wrapping = Wrapping::plain(family);
        let from = client(random.below(520) as u16, 10_000 + port);
        let to = Socket {
            port: random.below(108) as u16,
            ..SERVER
        };
        let subject = subject(wrapping, from, to, wire);
        let expected = interpret(plain.iter().map(|rule| rule.terms()), &subject).unwrap();
        let found = &compiled.rules[expected.rule as usize];
        assert_eq!(judge.judge(&subject).unwrap().rule, found, "{subject:?}");
        let reason = match found.action {
            Action::Allow => Reason::FlowOpened,
            Action::Drop | Action::Reset | Action::Prohibit => Reason::PolicyDropped,
        };
        let frame = Frame::syn(wrapping, from, to);
        bench.expect(Origin::Wire, &frame.bytes(), reason).unwrap();
        let key = from.key(to, wrapping);
        let flow = bench.flow(family, &key).unwrap();
        if found.action == Action::Allow {
            assert_eq!(flow.unwrap().rule, found.number, "{subject:?}");
        } else {
            assert!(flow.is_none());
        }
        *decided.entry(found.number).or_insert(0_u64) += 1;
        if let Some(shadow) = expected.shadow {
            shadowed += 1;
            *decided
                .entry(compiled.rules[shadow as usize].number)
                .or_default() += 1;
        }
    }
    bench.settle().unwrap();
    let numbers: Vec<u16> = compiled.rules.iter().map(|rule| rule.number).collect();
    let totals = bench.loaded.rule_totals(&numbers).unwrap();
    assert_eq!(totals.len(), numbers.len());
    for number in numbers {
        let hits = decided.get(&number).copied().unwrap_or(0);
        assert_eq!(totals[&number].hits, hits, "rule {number}");
    }
    // Else it would show nothing.
    assert!(
        decided.len() > 150 && shadowed > 20,
        "{} {shadowed}",
        decided.len()
    );
}

#[test]
fn policies_take_turns_in_the_slots_and_each_is_whole() {
    let mut bench = Bench::new().unwrap();
    let wrapping = Wrapping::plain(Family::V4);
    let mut port = 1;
    for turn in 0..10_u16 {
        let action = if turn % 2 == 0 {
            Action::Allow
        } else {
            Action::Drop
        };
        // Another length each time, which inner arrays of one length would refuse.
        let rules = (0..=turn * 60).map(|index| rule(&format!("{index}"), action));
        let compiled = numbered(&policy(rules.collect(), Vec::new()), 1);
        let slot = enforce(&bench, &compiled, &[]);
        assert_eq!(slot, u32::from(turn) % POLICY_SLOTS + 1);
        let reason = match action {
            Action::Allow => Reason::FlowOpened,
            Action::Drop | Action::Reset | Action::Prohibit => Reason::PolicyDropped,
        };
        for _ in 0..3 {
            port += 1;
            let frame = Frame::syn(wrapping, client(7, port), SERVER);
            bench.expect(Origin::Wire, &frame.bytes(), reason).unwrap();
        }
    }
    // Installed and not put in force: nothing changes, and the slot is used again.
    let compiled = numbered(&policy(vec![rule("all", Action::Allow)], Vec::new()), 1);
    let slots = [(); 2].map(|()| bench.loaded.install_policy(&compiled, &[]).unwrap().slot);
    assert_eq!(slots[0], slots[1]);
    let frame = Frame::syn(wrapping, client(7, port + 1), SERVER);
    bench
        .expect(Origin::Wire, &frame.bytes(), Reason::PolicyDropped)
        .unwrap();
}

#[test]
fn what_is_kept_of_a_rule_stays_with_it_and_begins_anew_with_another() {
    let mut bench = Bench::new().unwrap();
    let wrapping = Wrapping::plain(Family::V4);
    let mut limited = rule("limited", Action::Allow);
    limited.limits = Limits {
        flows: 5,
        source_flows: 2,
        source_bits: [16, 64],
        ..Limits::default()
    };
    let policy = policy(vec![limited], Vec::new());
    // The last number of a page and the first one of the next.
    let compiled = numbered(&policy, 1023);
    let fresh = [1023, 1024].map(|number| Fresh {
        number,
        source_bits: [16, 64],
    });
    enforce(&bench, &compiled, &fresh);
    let mut port = 0;
    let mut open = |bench: &mut Bench, reason: Reason| {
        port += 1;
        let frame = Frame::syn(wrapping, client(port, port), SERVER);
        bench.expect(Origin::Wire, &frame.bytes(), reason).unwrap();
    };
    let totals = |bench: &Bench| bench.loaded.rule_totals(&[1023, 1024, 2048]).unwrap();
    // Two hosts of one /16.
    open(&mut bench, Reason::FlowOpened);
    open(&mut bench, Reason::FlowOpened);
    open(&mut bench, Reason::RuleSourceFlows);
    let before = totals(&bench)[&1023];
    assert_eq!(before.hits, 3);
    assert_eq!(bench.loaded.rule_states(&[1023]).unwrap()[&1023].flows, 2);
    assert_eq!(bench.loaded.rule_shares().unwrap()[0].1, 2);
    let denials = bench.loaded.denials().unwrap();
    assert_eq!(denials.len(), 1);
    let (key, denial) = denials[0];
    assert_eq!(
        (denial.rule, denial.reason),
        (1023, Reason::RuleSourceFlows as u8)
    );
    assert_eq!(bench.loaded.denial(&key).unwrap(), Some(denial));

    // The rule stays.
    enforce(&bench, &compiled, &[]);
    open(&mut bench, Reason::RuleSourceFlows);
    assert_eq!(totals(&bench)[&1023].hits, before.hits + 1);

    // Its number is given to another.
    enforce(&bench, &compiled, &fresh);
    let now = totals(&bench);
    assert_eq!(now[&1023], RuleTotals::default());
    assert!(!now.contains_key(&2048), "nobody has made that page");
    assert!(bench.loaded.rule_shares().unwrap().is_empty());
    let state = bench.loaded.rule_states(&[1023]).unwrap()[&1023];
    assert_eq!(
        (state.flows, state.source_masks),
        (0, RuleState::masks([16, 64]))
    );
    open(&mut bench, Reason::FlowOpened);
    assert_eq!(totals(&bench)[&1023].hits, 1);
}

#[test]
fn a_large_policy_is_installed_and_takes_the_memory_that_it_is_said_to() {
    let bench = Bench::new().unwrap();
    let (mut rules, mut sets) = (Vec::new(), Vec::new());
    for index in 0..10_000_u32 {
        let mut rule = rule(&format!("{index}"), Action::Allow);
        rule.from.among = vec![sets.len()];
        let port = 1 + (index % 60_000) as u16;
        rule.to_ports = vec![(port, port)];
        rules.push(rule);
        let own = |of: u32| prefix((10 << 24 | (index * 10 + of) << 4).to_be_bytes(), 28);
        sets.push((0..10).map(own).collect());
    }
    let policy = policy(rules, sets);
    let begun = Instant::now();
    let compiled = numbered(&policy, 1);
    let compiling = begun.elapsed();
    let begun = Instant::now();
    let installed = bench.loaded.install_policy(&compiled, &[]).unwrap();
    println!(
        "compiled in {compiling:?}, installed in {:?}: {installed:?}",
        begun.elapsed()
    );
    let memory = compiled.memory();
    let least = memory.blocks as u64;
    assert!(
        (least..least + 4096).contains(&installed.blocks_bytes),
        "{installed:?} {memory:?}"
    );
    assert!(
        installed.prefixes_bytes <= memory.trie as u64,
        "{installed:?} {memory:?}"
    );
    assert!(compiled.prefixes.len() > 100_000);
}
