//! Sets of prefixes: named ones, from the policy or from files of their own, and
//! those that rules list themselves.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use ipnet::IpNet;

use super::{model::PrefixSet, prefixes};
use crate::config::closest;

/// The sets of a policy that is being read.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: Vec<PrefixSet>,
    /// Named ones, and where their names stand.
    named: BTreeMap<String, (usize, Range<usize>)>,
    used: BTreeSet<usize>,
    /// Those with an error in them.
    unsound: BTreeSet<usize>,
    listed: HashMap<Vec<IpNet>, usize>,
}

impl Sets {
    /// Adds a set with a name, which is defined at `at`; `found` is not all of it
    /// unless it is `sound`.
    pub(super) fn define(&mut self, name: &str, at: Range<usize>, found: Vec<IpNet>, sound: bool) {
        if !sound {
            self.unsound.insert(self.sets.len());
        }
        self.named.insert(name.to_owned(), (self.sets.len(), at));
        self.sets.push(PrefixSet {
            name: name.to_owned(),
            inline: false,
            prefixes: prefixes::canonical(found)
                .iter()
                .map(prefixes::to_brain)
                .collect(),
        });
    }

    /// The set of that name, which is used from here on.
    pub(super) fn refer(&mut self, name: &str) -> Option<usize> {
        let (index, _) = self.named.get(name)?;
        self.used.insert(*index);
        Some(*index)
    }

    /// Whether a set is known as it is meant.
    pub(super) fn is_sound(&self, index: usize) -> bool {
        !self.unsound.contains(&index)
    }

    /// Whether there is a set of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// The name that was probably meant by `name`.
    pub(super) fn closest(&self, name: &str) -> Option<&str> {
        closest(name, self.names())
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The set of prefixes that a rule lists itself.
    pub(super) fn list(&mut self, found: Vec<IpNet>) -> usize {
        let found = prefixes::canonical(found);
        if let Some(index) = self.listed.get(&found) {
            return *index;
        }
        let index = self.sets.len();
        self.sets.push(PrefixSet {
            name: prefixes::written(&found),
            inline: true,
            prefixes: found.iter().map(prefixes::to_brain).collect(),
        });
        self.listed.insert(found, index);
        index
    }

    /// Names that no rule refers to, and where they stand.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let named = self.named.iter();
        let unused = named.filter(|(_, (index, _))| !self.used.contains(index));
        unused.map(|(name, (_, at))| (name.as_str(), at))
    }

    /// The sets in the order of their indices.
    pub(super) fn into_sets(self) -> Vec<PrefixSet> {
        self.sets
    }
}
