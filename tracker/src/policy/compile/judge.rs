//! The compiled policy asked in userspace, by the brain that the programs have.

use tracker_common::{
    abi::{Block, Family, PrefixVectors},
    policy::{Found, Subject, decide},
};

use super::{Compiled, Numbered, prefixes::number};

/// Tells what the programs would decide by a compiled policy.
#[derive(Debug)]
pub struct Judge<'a> {
    blocks: &'a [Block],
    rules: &'a [Numbered],
    /// By family: from which address on which vectors hold.
    ranges: [Vec<(u128, PrefixVectors)>; 2],
}

/// What a [`Judge`] tells of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The rule that decides.
    pub rule: &'a Numbered,
    /// Its place among the rules, from 0.
    pub index: usize,
    /// The rule in shadow that would have decided instead.
    pub shadow: Option<&'a Numbered>,
    /// As the programs find it, for [`tracker_common::policy::verdict`].
    pub found: Found,
}

impl<'a> Judge<'a> {
    /// A judge by `policy`.
    #[must_use]
    pub fn new(policy: &'a Compiled) -> Self {
        Self {
            blocks: &policy.blocks,
            rules: &policy.rules,
            ranges: [Family::V4, Family::V6].map(|family| ranges(policy, family)),
        }
    }

    /// What becomes of a connection; `None` for a policy that is not whole, which
    /// [`super::compile`] does not make.
    #[must_use]
    pub fn judge(&self, subject: &Subject) -> Option<Judged<'a>> {
        let from = self.vectors(subject.family(), &subject.from)?;
        let to = self.vectors(subject.family(), &subject.to)?;
        let mut found = Found::default();
        if !decide(self.blocks, subject, from, to, &mut found) {
            return None;
        }
        let [index, shadow] = found.indices.map(|index| index as usize);
        Some(Judged {
            rule: self.rules.get(index)?,
            index,
            shadow: self.rules.get(shadow),
            found,
        })
    }

    /// Vectors of the longest prefix that holds an address.
    fn vectors(&self, family: Family, address: &[u32; 4]) -> Option<PrefixVectors> {
        let ranges = &self.ranges[usize::from(family == Family::V6)];
        let address = number(address);
        let behind = ranges.partition_point(|&(first, _)| first <= address);
        let (_, vectors) = ranges.get(behind.checked_sub(1)?)?;
        Some(*vectors)
    }
}

/// The addresses of a family in order, cut where another prefix becomes the longest.
fn ranges(policy: &Compiled, family: Family) -> Vec<(u128, PrefixVectors)> {
    let mut ranges = Vec::new();
    // Last address of the prefixes around the current one, and their vectors.
    let mut around: Vec<(u128, PrefixVectors)> = Vec::new();
    let entries = policy.prefixes.iter();
    for (key, vectors) in entries.filter(|(key, _)| key.family[0] == family as u8) {
        let first = number(&key.address);
        let bits = key.prefix_len.saturating_sub(super::prefixes::FAMILY_BITS);
        let last = first | u128::MAX.checked_shr(bits).unwrap_or(0);
        leave(&mut ranges, &mut around, first);
        ranges.push((first, *vectors));
        around.push((last, *vectors));
    }
    leave(&mut ranges, &mut around, u128::MAX);
    ranges
}

/// Ends the prefixes that end before `first`: what is around them holds again.
fn leave(
    ranges: &mut Vec<(u128, PrefixVectors)>,
    around: &mut Vec<(u128, PrefixVectors)>,
    first: u128,
) {
    while let Some(&(last, _)) = around.last()
        && last < first
    {
        around.pop();
        if let Some(&(_, vectors)) = around.last() {
            ranges.push((last + 1, vectors));
        }
    }
}
