//! Ports: a directory of pages, which name for each port the rules that it lets match.

use super::{
    Full,
    store::{Draft, Store},
};
use crate::policy::model::{Policy, Rule};

/// Numbers in a directory, and in each page.
const PAGE: usize = 256;
/// How many ports there are.
const PORTS: usize = PAGE * PAGE;

/// Block of the directory of the ports that `ranges` tells of each rule; 0 if no
/// rule asks for any.
///
/// # Errors
///
/// The blocks are full.
pub fn compile(
    policy: &Policy,
    store: &mut Store,
    ranges: fn(&Rule) -> &[(u16, u16)],
) -> Result<u32, Full> {
    // Where a range begins, and behind its end; the rule, and how many of its ranges
    // more there are from then on.
    let mut edges = Vec::new();
    let mut draft = Draft::of(&store.every());
    for (index, rule) in policy.rules.iter().enumerate() {
        for &(first, last) in ranges(rule) {
            edges.push((usize::from(first), index, 1));
            edges.push((usize::from(last) + 1, index, -1));
        }
        if !ranges(rule).is_empty() {
            draft.set(store, index, false);
        }
    }
    if edges.is_empty() {
        return Ok(0);
    }
    edges.sort_unstable();
    let mut vectors = Vec::with_capacity(PORTS);
    let mut open = vec![0; policy.rules.len()];
    let mut edges = edges.into_iter().peekable();
    while vectors.len() < PORTS {
        let port = vectors.len();
        while let Some((_, rule, more)) = edges.next_if(|&(edge, ..)| edge <= port) {
            open[rule] += more;
            draft.set(store, rule, open[rule] > 0);
        }
        let rules = draft.done(store);
        let end = edges.peek().map_or(PORTS, |&(edge, ..)| edge.min(PORTS));
        vectors.resize(end, store.vector(&rules)?);
    }
    let mut directory = Vec::with_capacity(PAGE);
    for page in vectors.chunks(PAGE) {
        directory.push(store.table(page.to_vec())?);
    }
    store.table(directory)
}
