//! Numbers of rules: flows and counters name a rule by it.
//!
//! A rule that stays keeps its number and so its counters. The number of one that is
//! gone is given again only after all others were: flows name it for as long as they
//! live.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    control::record::{Named, RuleNames},
    datapath::Fresh,
    policy::model::{DEFAULT_RULE, Policy},
};

/// Numbers of the rules of a policy, the default's last, and those that begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// By the place of the rule.
    pub numbers: Vec<u16>,
    /// Those whose counters are another rule's, or nobody's.
    pub fresh: Vec<Fresh>,
}

impl Assigned {
    /// Numbers by the names of rules.
    pub fn by_name<'a>(&self, policy: &'a Policy) -> BTreeMap<&'a str, u16> {
        names(policy).zip(self.numbers.iter().copied()).collect()
    }
}

/// Gives the rules of `policy` numbers, where rules had those in `names`, which learns
/// them. A rule whose limits count other source prefixes than before is another rule:
/// what is counted by source would not fit.
pub fn assign(names: &mut RuleNames, policy: &Policy) -> Assigned {
    let wanted: Vec<Named> = wanted(policy).collect();
    let known: BTreeMap<Named, u16> = names
        .rules
        .iter()
        .map(|(number, named)| (named.clone(), *number))
        .collect();
    let kept: Vec<Option<u16>> = wanted
        .iter()
        .map(|named| known.get(named).copied())
        .collect();
    let mut taken: BTreeSet<u16> = kept.iter().copied().flatten().collect();
    let mut fresh = Vec::new();
    let mut numbers = Vec::with_capacity(wanted.len());
    for (named, kept) in wanted.into_iter().zip(kept) {
        let number = kept.unwrap_or_else(|| {
            let number = next(names.last, &taken);
            names.last = number;
            taken.insert(number);
            fresh.push(Fresh {
                number,
                source_bits: named.source_bits,
            });
            names.rules.insert(number, named);
            number
        });
        numbers.push(number);
    }
    Assigned { numbers, fresh }
}

/// The number behind `last` that is free, 1 to 65,535. A policy has a quarter of them
/// at most.
fn next(last: u16, taken: &BTreeSet<u16>) -> u16 {
    let mut number = last;
    for _ in 0..=u16::MAX {
        number = number.checked_add(1).unwrap_or(1);
        if !taken.contains(&number) {
            break;
        }
    }
    number
}

fn names(policy: &Policy) -> impl Iterator<Item = &str> {
    let rules = policy.rules.iter().map(|rule| rule.name.as_str());
    rules.chain([DEFAULT_RULE])
}

fn wanted(policy: &Policy) -> impl Iterator<Item = Named> {
    let bits = policy.rules.iter().map(|rule| rule.limits.source_bits);
    names(policy)
        .zip(bits.chain([[0, 0]]))
        .map(|(name, source_bits)| Named {
            name: name.to_owned(),
            source_bits,
        })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Context, parse};

    fn policy(names: &[&str]) -> Policy {
        let rules = names.iter().enumerate().map(|(index, name)| {
            let (name, bits) = name.split_once('/').unwrap_or((name, "32"));
            format!(
                "[[rules]]\nname = \"{name}\"\nports = [{}]\naction = \"allow\"\n\
                 limit = {{ source_connections = 5, source_prefix_v4 = {bits} }}\n",
                1000 + index
            )
        });
        let text = format!("default = \"drop\"\n{}", rules.collect::<String>());
        let reading = parse(&text, Path::new("t.toml"), &Context::default());
        reading.policy.unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_rule_that_stays_keeps_its_number_wherever_it_stands() {
        let mut names = RuleNames::default();
        let first = assign(&mut names, &policy(&["a", "b"]));
        assert_eq!(first.numbers, [1, 2, 3]);
        assert_eq!(first.fresh.len(), 3);
        let second = assign(&mut names, &policy(&["c", "b", "a"]));
        assert_eq!(second.numbers, [4, 2, 1, 3]);
        let fresh: Vec<u16> = second.fresh.iter().map(|fresh| fresh.number).collect();
        assert_eq!(fresh, [4]);
        // One that comes back finds its counters again.
        assign(&mut names, &policy(&["c"]));
        assert_eq!(assign(&mut names, &policy(&["b"])).numbers, [2, 3]);
    }

    #[test]
    fn other_source_prefixes_make_another_rule() {
        let mut names = RuleNames::default();
        assign(&mut names, &policy(&["a/32"]));
        let second = assign(&mut names, &policy(&["a/24"]));
        assert_eq!(second.numbers, [3, 2]);
        assert_eq!(second.fresh[0].source_bits[0], 24);
    }

    #[test]
    fn numbers_come_round_and_spare_those_in_use() {
        let mut names = RuleNames::default();
        assign(&mut names, &policy(&["a"]));
        names.last = u16::MAX - 1;
        let second = assign(&mut names, &policy(&["a", "b", "c"]));
        assert_eq!(second.numbers, [1, u16::MAX, 3, 2]);
        assert_eq!(names.rules[&3].name, "c");
        // The name that had a number goes with it.
        let others = names.rules.values().filter(|named| named.name == "c");
        assert_eq!(others.count(), 1);
    }
}
