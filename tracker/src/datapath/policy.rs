//! Policies: put beside the one in force, where `Live::policy_slot` then names them.

use std::{os::fd::AsFd, sync::Mutex, thread};

use aya::{
    Pod,
    maps::{ArrayOfMaps, Map, MapData},
};
use aya_obj::generated::bpf_map_type;
use tracker_common::abi::{
    Block, Denial, Key, POLICY_SLOTS, Place, PrefixKey, PrefixVectors, Seed,
};

use super::{
    batch::read_all,
    error::{Error, Result},
    facts::MapFacts,
    names,
    rules::{Fresh, Pages},
    sys,
    tables::{Tables, array, descriptor, hash, lock, opening, writing},
};
use crate::policy::compile::Compiled;

/// The length of an inner array need not be that of the others (`BPF_F_INNER_MAP` in
/// include/uapi/linux/bpf.h).
const INNER_MAP: u32 = 1 << 12;
/// Memory is taken as entries come, which tries insist on.
const NO_PREALLOC: u32 = 1;
/// Elements written at once: a signal or a scheduler has to wait for so many.
const CHUNK: usize = 1 << 14;

/// The maps of policies and of their rules.
pub(super) struct PolicyMaps {
    policies: Mutex<Map>,
    prefixes: Mutex<Map>,
    pub(super) pages: Pages,
    pub(super) shares: Mutex<Map>,
    denials: Map,
    pub(super) seeds: Map,
}

/// A policy that is in the maps and decides nothing before `LIVE` names its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// What [`tracker_common::abi::Live::policy_slot`] has to say, never 0.
    pub slot: u32,
    /// Octets that its blocks take in the kernel.
    pub blocks_bytes: u64,
    /// Octets that its prefixes take there, as the kernel reckons them: nodes that
    /// only join others are not in it.
    pub prefixes_bytes: u64,
}

impl PolicyMaps {
    /// Collects the maps that `map` gives by name, and checks the sizes of their
    /// elements.
    pub(super) fn collect(mut map: impl FnMut(&'static str) -> Result<Map>) -> Result<Self> {
        let (policies, prefixes) = (map(names::POLICIES)?, map(names::PREFIXES)?);
        let pages = Pages::collect(&mut map)?;
        let (shares, rates) = (map(names::RULE_SHARES)?, map(names::RULE_RATES)?);
        let (denials, seeds) = (map(names::DENIALS)?, map(names::SEEDS)?);
        check(&policies, names::POLICIES)?;
        check(&prefixes, names::PREFIXES)?;
        hash::<Place, u64>(&shares, names::RULE_SHARES)?;
        hash::<Place, u64>(&rates, names::RULE_RATES)?;
        hash::<Key, Denial>(&denials, names::DENIALS)?;
        array::<Seed>(&seeds, names::SEEDS)?;
        Ok(Self {
            policies: Mutex::new(policies),
            prefixes: Mutex::new(prefixes),
            pages,
            shares: Mutex::new(shares),
            denials,
            seeds,
        })
    }
}

impl Tables {
    /// Puts a policy beside the one in force, into the slot whose policy was replaced
    /// longest ago, and makes room for what is kept of its rules. Nothing decides by
    /// it before [`Installed::slot`] is in `LIVE`; a policy that is installed and not
    /// put in force is overwritten by the next one.
    ///
    /// What is kept of the rules in `fresh` begins anew: their numbers were nobody's,
    /// or another rule's.
    ///
    /// Takes as long as the kernel needs to see every CPU leave the programs, some
    /// 20 ms. One thread at a time.
    ///
    /// # Errors
    ///
    /// The kernel has no memory for it, or refuses. The policy in force stays.
    pub fn install_policy(&self, compiled: &Compiled, fresh: &[Fresh]) -> Result<Installed> {
        let slot = self.live()?.policy_slot % POLICY_SLOTS;
        self.prepare_rules(compiled.rules.iter().map(|rule| rule.number), fresh)?;
        let blocks = blocks(&compiled.blocks)?;
        let prefixes = prefixes(&compiled.prefixes)?;
        let blocks_bytes = MapFacts::of(names::POLICIES, &blocks)?.memory_bytes;
        let prefixes_bytes = MapFacts::of(names::PREFIXES, &prefixes)?.memory_bytes;
        // Each waits until no program is left that may have found the one before.
        thread::scope(|scope| {
            let put_prefixes = || put(&self.policy.prefixes, names::PREFIXES, slot, &prefixes);
            let other = scope.spawn(put_prefixes);
            let result = put(&self.policy.policies, names::POLICIES, slot, &blocks);
            let other = other.join().unwrap_or_else(|_| {
                Err(Error::Batch {
                    action: "write",
                    map: names::PREFIXES,
                    source: std::io::Error::other("its thread has panicked"),
                })
            });
            result.and(other)
        })?;
        Ok(Installed {
            slot: slot + 1,
            blocks_bytes,
            prefixes_bytes,
        })
    }

    /// The last refusals of connections that have no flow.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn denials(&self) -> Result<Vec<(Key, Denial)>> {
        let map = descriptor(&self.policy.denials, names::DENIALS)?;
        let mut denials = Vec::new();
        read_all(map, names::DENIALS, |key: &Key, denial: &Denial| {
            denials.push((*key, *denial));
        })?;
        Ok(denials)
    }

    /// The last refusal of one connection.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn denial(&self, key: &Key) -> Result<Option<Denial>> {
        let found = self.denials()?.into_iter().find(|(of, _)| of == key);
        Ok(found.map(|(_, denial)| denial))
    }
}

/// A new inner map of `POLICIES`.
fn blocks(blocks: &[Block]) -> Result<MapData> {
    let kind = Inner {
        of: names::POLICIES,
        name: "policy",
        kind: bpf_map_type::BPF_MAP_TYPE_ARRAY,
        key_size: size_of::<u32>(),
        value_size: size_of::<Block>(),
        flags: INNER_MAP,
    };
    let map = kind.create(blocks.len())?;
    let keys: Vec<u32> = (0..).zip(blocks).map(|(key, _)| key).collect();
    fill(&map, names::POLICIES, &keys, blocks)?;
    Ok(map)
}

/// A new inner map of `PREFIXES`.
fn prefixes(prefixes: &[(PrefixKey, PrefixVectors)]) -> Result<MapData> {
    let kind = Inner {
        of: names::PREFIXES,
        name: "policy_prefixes",
        kind: bpf_map_type::BPF_MAP_TYPE_LPM_TRIE,
        key_size: size_of::<PrefixKey>(),
        value_size: size_of::<PrefixVectors>(),
        flags: NO_PREALLOC,
    };
    let map = kind.create(prefixes.len())?;
    let (keys, values): (Vec<PrefixKey>, Vec<PrefixVectors>) = prefixes.iter().copied().unzip();
    fill(&map, names::PREFIXES, &keys, &values)?;
    Ok(map)
}

/// What a new map for a map of maps is like.
pub(super) struct Inner {
    /// That one's name.
    pub of: &'static str,
    /// Its own, at most 15 letters.
    pub name: &'static str,
    pub kind: bpf_map_type,
    pub key_size: usize,
    pub value_size: usize,
    pub flags: u32,
}

impl Inner {
    /// Makes it with room for `entries`, at least one.
    pub(super) fn create(&self, entries: usize) -> Result<MapData> {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let definition = aya_obj::Map::new_from_params(
            self.kind as u32,
            number(self.key_size),
            number(self.value_size),
            number(entries),
            self.flags,
        );
        MapData::create(definition, self.name, None).map_err(|source| Error::Map {
            action: "make a map for",
            map: self.of,
            source,
        })
    }
}

fn fill<K: Pod, V: Pod>(map: &MapData, of: &'static str, keys: &[K], values: &[V]) -> Result<()> {
    for (keys, values) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        sys::update_batch(map.fd().as_fd(), keys, values).map_err(|source| Error::Batch {
            action: "fill a map for",
            map: of,
            source,
        })?;
    }
    Ok(())
}

/// Puts `inner` into a slot of a map of maps.
pub(super) fn put(
    outer: &Mutex<Map>,
    name: &'static str,
    slot: u32,
    inner: &MapData,
) -> Result<()> {
    let mut outer = lock(outer);
    let mut outer: ArrayOfMaps<&mut MapData> =
        ArrayOfMaps::try_from(&mut *outer).map_err(opening(name))?;
    outer.set(slot, inner, 0).map_err(writing(name))
}

/// Checks that `map` is an array of maps.
pub(super) fn check(map: &Map, name: &'static str) -> Result<()> {
    let checked: Result<ArrayOfMaps<&MapData>, _> = ArrayOfMaps::try_from(map);
    checked.map(drop).map_err(opening(name))
}
