//! Places: directions, and interfaces by their index.

use std::collections::BTreeMap;

use tracker_common::{
    abi::{Block, PolicyHeader},
    policy::Direction,
};

use super::{
    Full, MAX_BLOCKS,
    store::{Draft, Rules, Store},
};
use crate::policy::model::Policy;

/// Interfaces in a bucket, and the numbers that each takes there: its index and its
/// vectors.
const ROWS: usize = 4;
const ROW: usize = 1 + WAYS;

const WAYS: usize = Direction::ALL.len();

/// Something for each [`Direction`].
type ByWay<T> = [T; WAYS];

/// Fills in what `head` tells of places. `index_of` gives the index of an interface;
/// at one that does not exist no rule matches that names it.
///
/// # Errors
///
/// The blocks are full.
pub fn compile(
    policy: &Policy,
    store: &mut Store,
    index_of: &dyn Fn(&str) -> Option<u32>,
    head: &mut PolicyHeader,
) -> Result<(), Full> {
    let mut named: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let there = rule.interfaces.iter().filter_map(|name| index_of(name));
        for interface in there.filter(|&interface| interface != 0) {
            named.entry(interface).or_default().push(index);
        }
    }
    let elsewhere = elsewhere(policy, store);
    head.elsewhere = vectors(&elsewhere, store)?;
    if named.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(named.len());
    for (interface, rules) in named {
        let mut here = elsewhere.clone();
        for (here, way) in here.iter_mut().zip(Direction::ALL) {
            let mut draft = Draft::of(here);
            for &rule in &rules {
                draft.set(store, rule, policy.rules[rule].directions.has(way));
            }
            *here = draft.done(store);
        }
        rows.push((interface, vectors(&here, store)?));
    }
    let buckets = buckets(&rows, head.elsewhere).ok_or(Full)?;
    head.place_buckets = u32::try_from(buckets.len()).map_err(|_| Full)?;
    head.places_at = store.push(buckets)?;
    Ok(())
}

/// Rules, by direction, that name no interface.
fn elsewhere(policy: &Policy, store: &mut Store) -> ByWay<Rules> {
    Direction::ALL.map(|way| {
        let mut draft = Draft::of(&store.every());
        for (index, rule) in policy.rules.iter().enumerate() {
            if !rule.directions.has(way) || !rule.interfaces.is_empty() {
                draft.set(store, index, false);
            }
        }
        draft.done(store)
    })
}

fn vectors(rules: &ByWay<Rules>, store: &mut Store) -> Result<ByWay<u32>, Full> {
    let mut vectors = [0; WAYS];
    for (vector, rules) in vectors.iter_mut().zip(rules) {
        *vector = store.vector(rules)?;
    }
    Ok(vectors)
}

/// As few buckets as hold the rows; `None` if they would be more than fit.
fn buckets(rows: &[(u32, ByWay<u32>)], elsewhere: ByWay<u32>) -> Option<Vec<Block>> {
    let mut count = 1_usize;
    while count <= MAX_BLOCKS {
        let mut used = vec![0; count];
        let fits = rows.iter().all(|&(interface, _)| {
            let used = &mut used[interface as usize % count];
            *used += 1;
            *used <= ROWS
        });
        if fits {
            return Some(fill(rows, elsewhere, count));
        }
        count *= 2;
    }
    None
}

fn fill(rows: &[(u32, ByWay<u32>)], elsewhere: ByWay<u32>, count: usize) -> Vec<Block> {
    // A free row has index 0. Nobody is there, but who is looked for with an
    // interface unknown, which is 0, too, shall find what holds elsewhere.
    let mut free = Block::default();
    for row in 0..ROWS {
        put(&mut free, row, 0, elsewhere);
    }
    let mut buckets = vec![free; count];
    let mut used = vec![0; count];
    for &(interface, vectors) in rows {
        let bucket = interface as usize % count;
        put(&mut buckets[bucket], used[bucket], interface, vectors);
        used[bucket] += 1;
    }
    buckets
}

fn put(bucket: &mut Block, row: usize, interface: u32, vectors: ByWay<u32>) {
    bucket.set_half(row * ROW, interface);
    for (way, vector) in vectors.into_iter().enumerate() {
        bucket.set_half(row * ROW + 1 + way, vector);
    }
}
