//! A policy as [`tracker_common::policy::interpret`] and
//! [`tracker_common::policy::mismatch`] read it: rule by rule, which tells people why
//! a rule does not match.

use tracker_common::policy::{Directions, Ports, Prefix, Prefixes, Terms};

use crate::policy::model::{Addresses, Policy, Rule};

/// What a rule asks for, where the interfaces are what they were when it was made.
#[derive(Clone, Debug)]
pub struct Plain<'a> {
    rule: Option<&'a Rule>,
    interfaces: Vec<u32>,
    from: Lists<'a>,
    to: Lists<'a>,
}

/// Prefixes of the sets of an [`Addresses`].
#[derive(Clone, Debug, Default)]
struct Lists<'a> {
    among: Vec<&'a [Prefix]>,
    except: Vec<&'a [Prefix]>,
}

/// What the rules of `policy` ask for, the default last. `index_of` gives the index of
/// an interface.
#[must_use]
pub fn read<'a>(policy: &'a Policy, index_of: &dyn Fn(&str) -> Option<u32>) -> Vec<Plain<'a>> {
    let lists = |addresses: &Addresses| Lists {
        among: prefixes(policy, &addresses.among),
        except: prefixes(policy, &addresses.except),
    };
    let rules = policy.rules.iter().map(|rule| Plain {
        rule: Some(rule),
        interfaces: rule
            .interfaces
            .iter()
            .filter_map(|name| index_of(name))
            .collect(),
        from: lists(&rule.from),
        to: lists(&rule.to),
    });
    let default = Plain {
        rule: None,
        interfaces: Vec::new(),
        from: Lists::default(),
        to: Lists::default(),
    };
    rules.chain([default]).collect()
}

fn prefixes<'a>(policy: &'a Policy, sets: &[usize]) -> Vec<&'a [Prefix]> {
    sets.iter()
        .map(|&set| policy.sets[set].prefixes.as_slice())
        .collect()
}

impl Plain<'_> {
    /// The same as the brain takes it.
    #[must_use]
    pub fn terms(&self) -> Terms<'_> {
        let named = self.rule.is_some_and(|rule| !rule.interfaces.is_empty());
        Terms {
            directions: self.rule.map_or(Directions::ANY, |rule| rule.directions),
            interfaces: named.then_some(&*self.interfaces),
            from: self.from.prefixes(),
            to: self.to.prefixes(),
            from_ports: Ports(self.rule.map_or(&[], |rule| &rule.from_ports)),
            to_ports: Ports(self.rule.map_or(&[], |rule| &rule.to_ports)),
            shadow: self.rule.is_some_and(|rule| rule.shadow),
        }
    }
}

impl Lists<'_> {
    fn prefixes(&self) -> Prefixes<'_> {
        Prefixes {
            among: &self.among,
            except: &self.except,
        }
    }
}
