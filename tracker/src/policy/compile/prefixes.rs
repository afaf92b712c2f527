//! Addresses: prefixes of all sets together, each with the rules that an address
//! may match for which it is the longest one.

use std::collections::HashMap;

use tracker_common::abi::{Family, PrefixKey, PrefixVectors};

use super::{
    Full,
    store::{Draft, Rules, Store},
};
use crate::policy::model::{Addresses, Policy, Rule};

/// Bits in front of the address in a [`PrefixKey`].
pub const FAMILY_BITS: u32 = 32;

/// The entries of the trie, in order; those of both families' empty prefixes are
/// always there. An entry that would tell what the one around it tells is not.
///
/// # Errors
///
/// The blocks are full.
pub fn compile(policy: &Policy, store: &mut Store) -> Result<Entries, Full> {
    let mut entries = Vec::new();
    let users = users(policy);
    let mut states = States::new(policy, &users, store)?;
    let listed = listed(policy, &users);
    for family in [Family::V4, Family::V6] {
        let of_family = listed.iter().filter(|entry| entry.family == family as u8);
        walk(of_family, family, &mut states, store, &mut entries)?;
    }
    Ok(entries)
}

/// What [`compile`] gives.
pub type Entries = Vec<(PrefixKey, PrefixVectors)>;

/// A prefix of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    family: u8,
    /// Its bits from the highest one on.
    address: u128,
    bits: u8,
    set: usize,
}

impl Listed {
    fn contains(&self, other: &Self) -> bool {
        let differing = self.address ^ other.address;
        self.bits <= other.bits && differing.leading_zeros() >= self.bits.into()
    }

    fn key(&self) -> PrefixKey {
        PrefixKey {
            prefix_len: FAMILY_BITS + u32::from(self.bits),
            family: [self.family, 0, 0, 0],
            address: words(self.address),
        }
    }
}

/// An address as a number whose highest bit is its first one.
pub fn number(address: &[u32; 4]) -> u128 {
    address.iter().fold(0, |number, &word| {
        number << 32 | u128::from(u32::from_be(word))
    })
}

/// The same as it lies in a packet.
fn words(number: u128) -> [u32; 4] {
    [96, 64, 32, 0].map(|shift| ((number >> shift) as u32).to_be())
}

/// The prefixes of all sets that a rule names, in order.
fn listed(policy: &Policy, users: &[Users]) -> Vec<Listed> {
    let named = policy.sets.iter().zip(users).enumerate();
    let named = named.filter(|(_, (_, users))| users.iter().any(|rules| !rules.is_empty()));
    let mut listed: Vec<_> = named
        .flat_map(|(index, (set, _))| {
            set.prefixes.iter().map(move |prefix| Listed {
                family: prefix.family as u8,
                address: number(&prefix.address),
                bits: prefix.bits,
                set: index,
            })
        })
        .collect();
    listed.sort_unstable();
    listed.dedup();
    listed
}

/// Goes through the prefixes of one family from the outer to the inner ones.
fn walk<'a>(
    listed: impl Iterator<Item = &'a Listed>,
    family: Family,
    states: &mut States<'_>,
    store: &mut Store,
    entries: &mut Entries,
) -> Result<(), Full> {
    let whole = Listed {
        family: family as u8,
        address: 0,
        bits: 0,
        set: 0,
    };
    let mut listed = listed.peekable();
    // Prefixes around the current one, with what they add and the state in them.
    let mut around: Vec<(Listed, Vec<usize>, usize)> = Vec::new();
    let mut begun = false;
    while !begun || listed.peek().is_some() {
        let prefix = match listed.peek() {
            Some(&&first) if begun || first.bits == 0 => first,
            _ => whole,
        };
        while let Some((outer, added, _)) = around.last()
            && !outer.contains(&prefix)
        {
            states.leave(added);
            around.pop();
        }
        let mut added = Vec::new();
        while let Some(same) = listed.next_if(|next| next.key() == prefix.key()) {
            added.push(same.set);
        }
        let outer = around.last().map_or(0, |&(_, _, state)| state);
        let state = states.enter(outer, &mut added, store)?;
        let vectors = states.all[state].vectors;
        if !begun || vectors != states.all[outer].vectors {
            entries.push((prefix.key(), vectors));
        }
        begun = true;
        around.push((prefix, added, state));
    }
    for (_, added, _) in &around {
        states.leave(added);
    }
    Ok(())
}

/// Rules that name a set: as one that an initiator must be in, must not be in, and
/// the same of a responder.
type Users = [Vec<usize>; 4];

fn users(policy: &Policy) -> Vec<Users> {
    let mut users = vec![Users::default(); policy.sets.len()];
    for (index, rule) in policy.rules.iter().enumerate() {
        let lists = [
            &rule.from.among,
            &rule.from.except,
            &rule.to.among,
            &rule.to.except,
        ];
        for (role, list) in lists.into_iter().enumerate() {
            for &set in list {
                users[set][role].push(index);
            }
        }
    }
    users
}

/// What may be matched where.
struct States<'a> {
    policy: &'a Policy,
    users: &'a [Users],
    /// How often each set is entered.
    within: Vec<u32>,
    /// The first one is outside of all sets.
    all: Vec<State>,
    /// States by the one around and the sets that are entered.
    known: HashMap<(usize, Vec<usize>), usize>,
}

struct State {
    from: Rules,
    to: Rules,
    vectors: PrefixVectors,
}

impl<'a> States<'a> {
    fn new(policy: &'a Policy, users: &'a [Users], store: &mut Store) -> Result<Self, Full> {
        let [from, to] = [from_of, to_of].map(|side| {
            let mut draft = Draft::of(&store.every());
            for (index, rule) in policy.rules.iter().enumerate() {
                if !side(rule).among.is_empty() {
                    draft.set(store, index, false);
                }
            }
            draft.done(store)
        });
        let outside = State::new(from, to, store)?;
        Ok(Self {
            policy,
            users,
            within: vec![0; policy.sets.len()],
            all: vec![outside],
            known: HashMap::new(),
        })
    }

    /// The state where that one is and one is in the sets `added`, too. Keeps of
    /// those the ones that one was not in.
    fn enter(
        &mut self,
        outer: usize,
        added: &mut Vec<usize>,
        store: &mut Store,
    ) -> Result<usize, Full> {
        added.retain(|&set| self.within[set] == 0);
        for &set in &*added {
            self.within[set] += 1;
        }
        if added.is_empty() {
            return Ok(outer);
        }
        let known = (outer, added.clone());
        if let Some(&state) = self.known.get(&known) {
            return Ok(state);
        }
        let State { from, to, .. } = &self.all[outer];
        let [mut from, mut to] = [Draft::of(from), Draft::of(to)];
        for &set in &*added {
            let [from_among, from_except, to_among, to_except] = &self.users[set];
            self.apply(&mut from, store, from_among, from_except, from_of);
            self.apply(&mut to, store, to_among, to_except, to_of);
        }
        let (from, to) = (from.done(store), to.done(store));
        self.all.push(State::new(from, to, store)?);
        let state = self.all.len() - 1;
        self.known.insert(known, state);
        Ok(state)
    }

    /// Lets match the rules that ask for a set, unless they exclude another one that
    /// is entered, and forbids those that exclude it.
    fn apply(
        &self,
        draft: &mut Draft,
        store: &Store,
        among: &[usize],
        except: &[usize],
        side: fn(&Rule) -> &Addresses,
    ) {
        for &rule in among {
            let mut exceptions = side(&self.policy.rules[rule]).except.iter();
            if exceptions.all(|&set| self.within[set] == 0) {
                draft.set(store, rule, true);
            }
        }
        for &rule in except {
            draft.set(store, rule, false);
        }
    }

    fn leave(&mut self, added: &[usize]) {
        for &set in added {
            self.within[set] -= 1;
        }
    }
}

impl State {
    fn new(from: Rules, to: Rules, store: &mut Store) -> Result<Self, Full> {
        let vectors = PrefixVectors {
            from: store.vector(&from)?,
            to: store.vector(&to)?,
        };
        Ok(Self { from, to, vectors })
    }
}

fn from_of(rule: &Rule) -> &Addresses {
    &rule.from
}

fn to_of(rule: &Rule) -> &Addresses {
    &rule.to
}
