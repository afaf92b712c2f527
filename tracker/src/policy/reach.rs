//! Rules that are never reached, since those before them match everything that they
//! do.
//!
//! No rule is accused that some connection reaches. What is found is every rule that
//! one other covers, and of those that several cover together the ones where this
//! shows within a bounded number of steps.

use std::collections::HashMap;

use tracker_common::{abi::Family, policy::Direction};

use super::{
    model::{Addresses, Policy},
    prefixes,
    space::{FIELDS, Ranges, Region, contains, covers, without},
};

/// Pieces into which a rule may fall before the search for its rest is given up.
const MAX_PIECES: usize = 64;
/// What all searches together may cost, in ranges looked at.
const MAX_COST: usize = 50_000_000;
/// Ranges that all regions together may have.
const MAX_RANGES: usize = 4_000_000;

/// Why a rule never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    /// No connection can match it.
    Void,
    /// Rules before it match whatever it does: their indices, in order.
    Covered(Vec<usize>),
}

/// What was found out about the rules of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Rules that never decide, by index.
    pub(super) dead: Vec<(usize, Dead)>,
    /// Some rules were not looked at, since that would have taken too long.
    pub(super) partial: bool,
}

/// Looks which rules never decide. Those for which `sound` is false are left out.
pub(super) fn reach(policy: &Policy, sound: &[bool]) -> Reach {
    let mut regions = Regions::new(policy);
    let mut found: Vec<[Option<Region>; 2]> = Vec::with_capacity(policy.rules.len());
    let mut partial = false;
    for index in 0..policy.rules.len() {
        if regions.ranges > MAX_RANGES {
            partial = true;
            break;
        }
        found.push(if sound.get(index).is_some_and(|sound| *sound) {
            [Family::V4, Family::V6].map(|family| regions.region(index, family))
        } else {
            [None, None]
        });
    }
    let mut dead: Vec<(usize, Dead)> = Vec::new();
    let mut cost = MAX_COST;
    let mut covered: [Vec<Option<Vec<usize>>>; 2] = [Vec::new(), Vec::new()];
    for (family, covered) in covered.iter_mut().enumerate() {
        let regions: Vec<Option<&Region>> = found
            .iter()
            .map(|families| families[family].as_ref())
            .collect();
        *covered = covers_of(policy, &regions, &mut cost);
    }
    let [v4, v6] = covered;
    for (index, (v4, v6)) in v4.into_iter().zip(v6).enumerate() {
        if sound.get(index).is_none_or(|sound| !sound) {
            continue;
        }
        match &found[index] {
            [None, None] => dead.push((index, Dead::Void)),
            [there, too] => {
                // Reached if it is in either family.
                let reached = there.is_some() && v4.is_none() || too.is_some() && v6.is_none();
                if !reached {
                    let mut rules: Vec<usize> = v4.into_iter().chain(v6).flatten().collect();
                    rules.sort_unstable();
                    rules.dedup();
                    dead.push((index, Dead::Covered(rules)));
                }
            }
        }
    }
    Reach {
        dead,
        partial: partial || cost == 0,
    }
}

/// For each rule the ones before it that together match everything that it does;
/// `None` if there are none, or that was not found out.
fn covers_of(
    policy: &Policy,
    regions: &[Option<&Region>],
    cost: &mut usize,
) -> Vec<Option<Vec<usize>>> {
    let candidates = Candidates::new(policy, regions);
    let covers = regions.iter().enumerate().map(|(index, region)| {
        let region = (*region)?;
        let candidates: Vec<usize> = candidates.of(index).collect();
        let price: usize = region.iter().map(Ranges::len).sum();
        let one = candidates.iter().copied().find(|&other| {
            *cost = cost.saturating_sub(price);
            *cost > 0 && regions[other].is_some_and(|other| covers(other, region))
        });
        if let Some(one) = one {
            return Some(vec![one]);
        }
        if candidates.is_empty() {
            return None;
        }
        let before = |other: &usize| policy.rules[index].shadow || !policy.rules[*other].shadow;
        let earlier: Vec<(usize, &Region)> = (0..index)
            .filter(before)
            .filter_map(|other| Some((other, regions[other]?)))
            .collect();
        together(region, &earlier, cost)
    });
    covers.collect()
}

/// Which of `earlier` match all of `region` together.
///
/// Takes away from it what one of them matches, and goes on with what is left, until
/// nothing is or a point is left that none of them matches.
fn together(region: &Region, earlier: &[(usize, &Region)], cost: &mut usize) -> Option<Vec<usize>> {
    let mut left = vec![region.clone()];
    let mut used = Vec::new();
    for _ in 0..MAX_PIECES {
        let Some(piece) = left.pop() else {
            return Some(used);
        };
        let point: [u128; FIELDS] = std::array::from_fn(|field| piece[field].ends().0);
        let mut tried = 0;
        let found = earlier.iter().find(|(_, other)| {
            tried += 1;
            contains(other, &point)
        });
        let &(index, other) = found?;
        let ranges = piece.iter().chain(other).map(Ranges::len).sum::<usize>();
        *cost = cost.saturating_sub(tried + FIELDS * ranges);
        if *cost == 0 {
            return None;
        }
        used.push(index);
        left.extend(without(&piece, other));
    }
    left.is_empty().then_some(used)
}

/// For each rule those before it that match its first point, as far as the ends of
/// their fields tell: only those can cover it. A bit for each pair of rules.
struct Candidates {
    words: usize,
    bits: Vec<u64>,
}

impl Candidates {
    fn new(policy: &Policy, regions: &[Option<&Region>]) -> Self {
        let words = regions.len().div_ceil(64);
        let mut bits = vec![0; words * regions.len()];
        let mut in_force = vec![0_u64; words];
        let mut all = vec![0_u64; words];
        for (index, row) in bits.chunks_mut(words.max(1)).enumerate() {
            let shadow = policy.rules[index].shadow;
            row.copy_from_slice(if shadow { &all } else { &in_force });
            if regions[index].is_some() {
                all[index / 64] |= 1 << (index % 64);
                if !shadow {
                    in_force[index / 64] |= 1 << (index % 64);
                }
            }
        }
        let mut candidates = Self { words, bits };
        for field in 0..FIELDS {
            candidates.sweep(regions, field);
        }
        candidates
    }

    /// Takes out whose field does not hold the first number of the other's.
    fn sweep(&mut self, regions: &[Option<&Region>], field: usize) {
        let there = regions.iter().enumerate();
        let ends: Vec<(usize, (u128, u128))> = there
            .filter_map(|(index, region)| Some((index, region.as_ref()?[field].ends())))
            .collect();
        let mut by_first = ends.clone();
        by_first.sort_unstable_by_key(|(_, (first, _))| *first);
        let mut by_last = ends;
        by_last.sort_unstable_by_key(|(_, (_, last))| *last);
        let (mut opening, mut closing) = (by_first.iter().peekable(), by_last.iter().peekable());
        let mut open = vec![0_u64; self.words];
        for (index, (point, _)) in &by_first {
            while let Some((opened, _)) = opening.next_if(|(_, (first, _))| first <= point) {
                open[opened / 64] |= 1 << (opened % 64);
            }
            while let Some((closed, _)) = closing.next_if(|(_, (_, last))| last < point) {
                open[closed / 64] &= !(1 << (closed % 64));
            }
            let row = self.bits[index * self.words..].iter_mut();
            // Later rules have no bits here.
            for (word, open) in row.zip(&open).take(index / 64 + 1) {
                *word &= open;
            }
        }
    }

    /// The candidates of a rule, in order.
    fn of(&self, index: usize) -> impl Iterator<Item = usize> {
        let row = self.bits[index * self.words..].iter().take(index / 64 + 1);
        row.enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    word * 64 + bit
                })
            })
        })
    }
}

/// Makes regions of rules; equal fields are made once.
struct Regions<'a> {
    policy: &'a Policy,
    /// Numbers of the interfaces that rules name, from 1; 0 stands for the others.
    interfaces: HashMap<&'a str, u128>,
    addresses: HashMap<(&'a [usize], &'a [usize], bool), Ranges>,
    anywhere: Ranges,
    any_way: Ranges,
    any_port: Ranges,
    /// Ranges in all of them.
    ranges: usize,
}

impl<'a> Regions<'a> {
    fn new(policy: &'a Policy) -> Self {
        let mut interfaces = HashMap::new();
        for name in policy.rules.iter().flat_map(|rule| &rule.interfaces) {
            let next = interfaces.len() as u128 + 1;
            interfaces.entry(name.as_str()).or_insert(next);
        }
        Self {
            anywhere: Ranges::up_to(interfaces.len() as u128),
            interfaces,
            policy,
            addresses: HashMap::new(),
            any_way: Ranges::up_to(2),
            any_port: Ranges::up_to(u128::from(u16::MAX)),
            ranges: 0,
        }
    }

    /// What a rule matches of a family; `None` if it is nothing.
    fn region(&mut self, index: usize, family: Family) -> Option<Region> {
        let rule = self.policy.rules.get(index)?;
        let from = self.side(&rule.from, family);
        let to = self.side(&rule.to, family);
        let ways = Direction::ALL
            .into_iter()
            .filter(|way| rule.directions.has(*way));
        let ways: Vec<_> = ways.map(|way| (way as u128, way as u128)).collect();
        let ways = if ways.len() == Direction::ALL.len() {
            self.any_way.clone()
        } else {
            Ranges::of(ways)
        };
        let places = rule
            .interfaces
            .iter()
            .filter_map(|name| self.interfaces.get(name.as_str()));
        let places: Vec<_> = places.map(|number| (*number, *number)).collect();
        let places = if places.is_empty() {
            self.anywhere.clone()
        } else {
            Ranges::of(places)
        };
        let ports = |ranges: &[(u16, u16)]| match ranges {
            [] => self.any_port.clone(),
            _ => Ranges::of(
                ranges
                    .iter()
                    .map(|(a, b)| ((*a).into(), (*b).into()))
                    .collect(),
            ),
        };
        let region = [
            from,
            to,
            ports(&rule.to_ports),
            ports(&rule.from_ports),
            ways,
            places,
        ];
        (!region.iter().any(Ranges::is_empty)).then_some(region)
    }

    /// The addresses of a family on one side of a rule.
    fn side(&mut self, addresses: &'a Addresses, family: Family) -> Ranges {
        let v6 = family == Family::V6;
        let key = (&*addresses.among, &*addresses.except, v6);
        if let Some(found) = self.addresses.get(&key) {
            return found.clone();
        }
        let among = match &*addresses.among {
            [] if v6 => Ranges::up_to(u128::MAX),
            [] => Ranges::up_to(u128::from(u32::MAX)),
            sets => self.union(sets, family),
        };
        let except = self.union(&addresses.except, family);
        let found = if except.is_empty() {
            among
        } else {
            among.minus(&except)
        };
        self.ranges += found.len();
        self.addresses.insert(key, found.clone());
        found
    }

    /// The addresses of a family in any of some sets.
    fn union(&self, sets: &[usize], family: Family) -> Ranges {
        let sets = sets.iter().filter_map(|set| self.policy.sets.get(*set));
        let prefixes = sets.flat_map(|set| &set.prefixes);
        let own = prefixes.filter(|prefix| prefix.family == family);
        Ranges::of(own.map(prefixes::range).collect())
    }
}
