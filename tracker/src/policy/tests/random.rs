//! Random policies: what is printed reads as what it was, and who is accused of being
//! out of reach is.

use std::{fmt, path::Path};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use tracker_common::{
    abi::Family,
    policy::{Action, Direction, Directions, Subject, interpret},
    tcp::timeout::Profile,
};

use super::super::{
    Context,
    compile::plain,
    model::{Addresses, Limits, Management, Policy, PortSet, PrefixSet, Rule, Source},
    parse,
    prefixes::{canonical, to_brain, written},
    print,
    reach::{Dead, reach},
    report::{Report, Scope},
    syntax::{self, Table},
};
use crate::text::Text;

/// A policy before its lists have become sets.
#[derive(Clone, Debug)]
struct Sketch {
    default: Action,
    default_log: bool,
    sets: Vec<Vec<IpNet>>,
    port_sets: Vec<Vec<(u16, u16)>>,
    rules: Vec<SketchRule>,
    management: (Vec<u16>, Vec<IpNet>),
}

#[derive(Clone, Debug)]
struct SketchRule {
    /// Named sets and lists: of `from` and of `to`, what is among and what except.
    sides: [[(Vec<usize>, Vec<IpNet>); 2]; 2],
    rest: Rule,
}

/// Few addresses, so that they meet each other.
fn net() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), 0_u32..16, 0_u8..=8).prop_map(|(v6, address, bits)| {
        let net: IpNet = if v6 {
            let address = u128::from(address) << 124;
            Ipv6Net::new(address.into(), bits).unwrap().into()
        } else {
            Ipv4Net::new((address << 28).into(), bits).unwrap().into()
        };
        net.trunc()
    })
}

fn nets(most: usize) -> impl Strategy<Value = Vec<IpNet>> {
    prop::collection::vec(net(), 0..=most)
}

/// Mostly nothing, so that rules cover each other now and then.
fn seldom<T: Clone + Default + fmt::Debug>(
    some: impl Strategy<Value = T>,
) -> impl Strategy<Value = T> {
    prop_oneof![3 => Just(T::default()), 1 => some]
}

fn side() -> impl Strategy<Value = (Vec<usize>, Vec<IpNet>)> {
    seldom((prop::collection::vec(0_usize..3, 0..2), nets(2)))
}

fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    prop::collection::vec((1_u16..40, 0_u16..9), 0..3).prop_map(|ranges| {
        let mut merged: Vec<(u16, u16)> = Vec::new();
        let mut ranges: Vec<_> = ranges.iter().map(|(at, more)| (*at, at + more)).collect();
        ranges.sort_unstable();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        merged
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::Allow,
        Action::Drop,
        Action::Reset,
        Action::Prohibit,
    ])
}

fn rate() -> impl Strategy<Value = Option<(u64, u64)>> {
    let unit = prop::sample::select(vec![1_u64, 60, 3600, 86_400]);
    let rate = (1_u64..=1_000_000, unit, 1_u64..=100_000);
    let rate = rate.prop_map(|(count, unit, burst)| (unit * 1_000_000_000 / count, burst));
    prop::option::of(rate)
}

fn limits() -> impl Strategy<Value = Limits> {
    (rate(), 0_u32..3, rate(), 0_u32..3, 1_u8..=32, 1_u8..=128).prop_map(
        |(rate, flows, source_rate, source_flows, v4, v6)| {
            let mut limits = Limits {
                rate,
                flows,
                source_rate,
                source_flows,
                source_bits: [v4, v6],
            };
            if !limits.by_source() {
                limits.source_bits = Limits::default().source_bits;
            }
            limits
        },
    )
}

fn rule() -> impl Strategy<Value = SketchRule> {
    let names = prop::sample::subsequence(vec!["eth0", "eth1", "wlan.5"], 0..=2);
    let ways = prop_oneof![Just(7_u8), 1_u8..=7];
    let terms = (ways, seldom(names), seldom(ports()), seldom(ports()));
    let sides = [side(), side(), side(), side()];
    let does = (
        action(),
        any::<[bool; 3]>(),
        any::<Option<bool>>(),
        limits(),
    );
    let profile = prop::option::of(prop::sample::select(Profile::ALL.to_vec()));
    (terms, sides, does, profile).prop_map(|(terms, [a, b, c, d], does, timeouts)| {
        let (directions, interfaces, from_ports, to_ports) = terms;
        let (action, [log, shadow, liberal], pickup, limits) = does;
        let admits = action == Action::Allow;
        SketchRule {
            sides: [[a, b], [c, d]],
            rest: Rule {
                name: String::new(),
                line: 0,
                directions: Directions(directions),
                interfaces: interfaces.into_iter().map(str::to_owned).collect(),
                from: Addresses::default(),
                to: Addresses::default(),
                from_ports,
                to_ports,
                action,
                log,
                shadow,
                liberal: liberal && admits,
                pickup: pickup.filter(|_| admits),
                timeouts: timeouts.filter(|_| admits),
                limits: if admits { limits } else { Limits::default() },
            },
        }
    })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let sets = prop::collection::vec(nets(4), 3);
    let sets = (sets, prop::collection::vec(seldom(ports()), 2));
    let management = (prop::collection::btree_set(1_u16.., 0..3), nets(2));
    let management = management.prop_map(|(ports, peers)| (ports.into_iter().collect(), peers));
    let rules = prop::collection::vec(rule(), 0..9);
    (action(), any::<bool>(), sets, rules, management).prop_map(
        |(default, default_log, (sets, port_sets), rules, management)| Sketch {
            default,
            default_log,
            sets,
            port_sets,
            rules,
            management,
        },
    )
}

/// Names that TOML has to quote.
const NAMES: [&str; 9] = ["a", "b c", "d\"e", "f\\g", "h'i", "ü", "#j", "[k]", "l = 1"];

impl Sketch {
    /// The policy, with its sets in the order in which reading it gives them.
    fn policy(&self) -> Policy {
        let mut sets: Vec<PrefixSet> = (self.sets.iter().zip(["a.1", "b_2", "c-3"]))
            .map(|(nets, name)| set(name.to_owned(), false, nets))
            .collect();
        let rules = self.rules.iter().zip(NAMES).map(|(sketch, name)| {
            let [from, to] = sketch.sides.each_ref().map(|side| {
                let [among, except] = side.each_ref().map(|(named, listed)| {
                    let mut indices = named.clone();
                    if !listed.is_empty() {
                        let new = set(written(&canonical(listed.clone())), true, listed);
                        let found = sets
                            .iter()
                            .position(|set| set.inline && set.prefixes == new.prefixes);
                        indices.push(found.unwrap_or_else(|| {
                            sets.push(new);
                            sets.len() - 1
                        }));
                    }
                    indices.sort_unstable();
                    indices.dedup();
                    indices
                });
                Addresses { among, except }
            });
            Rule {
                name: name.to_owned(),
                from,
                to,
                ..sketch.rest.clone()
            }
        });
        let rules = rules.collect();
        let (ports, peers) = &self.management;
        Policy {
            rules,
            default: self.default,
            default_log: self.default_log,
            sets,
            port_sets: (self.port_sets.iter().zip(["a.1", "d_2"]))
                .filter(|(ranges, _)| !ranges.is_empty())
                .map(|(ranges, name)| PortSet {
                    name: name.to_owned(),
                    ranges: ranges.clone(),
                })
                .collect(),
            management: Management {
                ports: ports.clone(),
                peers: canonical(peers.clone()).iter().map(to_brain).collect(),
            },
            source: Source::default(),
        }
    }
}

fn set(name: String, inline: bool, nets: &[IpNet]) -> PrefixSet {
    PrefixSet {
        name,
        inline,
        prefixes: canonical(nets.to_vec()).iter().map(to_brain).collect(),
    }
}

/// What `text` reads as before its rules are held against each other, without what a
/// text has of its own.
fn read_back(text: &str) -> Policy {
    let lines = Text::new(text);
    let mut report = Report::default();
    let mut scope = Scope {
        path: Path::new("p.toml"),
        text: &lines,
        report: &mut report,
    };
    let root = toml::de::DeTable::parse(text).unwrap();
    let root = Table::new("the policy", root.get_ref(), 0..0);
    let mut policy = syntax::policy(&mut scope, &root, &[], None).policy;
    assert_eq!(report.error_count(), 0, "{report}\n{text}");
    for rule in &mut policy.rules {
        rule.line = 0;
    }
    policy.source = Source::default();
    policy
}

/// Connections at and around everything that rules of [`sketch`] name.
fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    let addresses = |family| {
        (0_u32..17).map(move |top| match (family, top) {
            (Family::V4, _) => [(top << 28).to_be(), 0, 0, 0],
            (Family::V6, _) => [(top << 28).to_be(), 0, 0, u32::from(top == 16)],
        })
    };
    for family in [Family::V4, Family::V6] {
        for from in addresses(family) {
            for to in addresses(family) {
                for direction in Direction::ALL {
                    subjects.push(Subject {
                        from,
                        to,
                        ifindex: 9,
                        family: family as u8,
                        direction: direction as u8,
                        ..Subject::default()
                    });
                }
            }
        }
    }
    subjects
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_what_it_was(sketch in sketch()) {
        let policy = sketch.policy();
        prop_assert_eq!(read_back(&print(&policy)), policy);
    }

    /// No connection is decided by a rule that is said to be out of reach.
    #[test]
    fn rules_out_of_reach_decide_nothing(
        sketch in sketch(),
        ports in prop::collection::vec((0_u16..50, 0_u16..50, 0_u32..4), 8),
    ) {
        let policy = sketch.policy();
        let found = reach(&policy, &vec![true; policy.rules.len()]);
        prop_assert!(!found.partial);
        if found.dead.is_empty() {
            return Ok(());
        }
        let index_of = |name: &str| ["eth0", "eth1", "wlan.5"].iter().position(|n| *n == name);
        let plain = plain::read(&policy, &|name| index_of(name).map(|at| at as u32));
        for subject in subjects() {
            for &(from_port, to_port, ifindex) in &ports {
                let subject = Subject { from_port, to_port, ifindex, ..subject };
                let terms = plain.iter().map(plain::Plain::terms);
                let decision = interpret(terms, &subject).unwrap();
                for (index, why) in &found.dead {
                    let index = *index as u32;
                    prop_assert!(decision.rule != index, "{:?} {:?}", why, subject);
                    prop_assert!(decision.shadow != Some(index), "{:?} {:?}", why, subject);
                }
            }
        }
    }

    /// A rule that another one covers is found, whatever stands between them.
    #[test]
    fn who_is_covered_by_one_other_is_found(sketch in sketch(), copied: prop::sample::Index) {
        let mut policy = sketch.policy();
        prop_assume!(!policy.rules.is_empty());
        let copied = copied.index(policy.rules.len());
        let mut copy = policy.rules[copied].clone();
        copy.ports_narrowed();
        policy.rules.push(copy);
        let found = reach(&policy, &vec![true; policy.rules.len()]);
        let last = policy.rules.len() - 1;
        prop_assert!(found.dead.iter().any(|(index, _)| *index == last));
        for (index, why) in &found.dead {
            if let Dead::Covered(rules) = why {
                prop_assert!(rules.iter().all(|rule| rule < index));
            }
        }
    }
}

impl Rule {
    /// Leaves the first range of its ports alone.
    fn ports_narrowed(&mut self) {
        self.to_ports.truncate(1);
        if let Some((first, last)) = self.to_ports.first_mut() {
            *last = *first;
        }
    }
}

/// An example, of which parts are to be changed.
const EXAMPLE: &str = include_str!("../../../dist/policy.toml");

proptest! {
    /// Whatever stands there, it is a policy or there is an error, and each problem has
    /// a place that exists.
    #[test]
    fn no_text_is_too_broken(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20), 0..4),
        scraps in prop::collection::vec("[a-z!@#\\[\\]{}\"'=,.\\\\0-9/:ü\n-]{0,6}", 4),
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for ((at, cut), scrap) in cuts.iter().zip(&scraps) {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, scrap.chars());
        }
        let text: String = text.into_iter().collect();
        let reading = parse(&text, Path::new("p.toml"), &Context::default());
        prop_assert_eq!(reading.policy.is_some(), reading.report.error_count() == 0);
        let lines = text.split('\n').count();
        for problem in reading.report.problems() {
            prop_assert!(problem.line.is_none_or(|line| line <= lines), "{}", problem);
        }
        if let Some(policy) = reading.policy {
            prop_assert_eq!(read_back(&print(&policy)).sets, policy.sets);
        }
    }
}
