//! The compiled policy: one look per field of the packet gives a vector of the rules
//! that it lets match, and the vectors' first common bit is the rule.
//!
//! Bit vectors per field are Lakshman's and Stiliadis's (SIGCOMM 1998), summaries of
//! them Baboescu's and Varghese's (SIGCOMM 2001). What depends on the number of rules
//! is only how many chunks all summaries have in common, and a chunk is 512 rules.

use super::Subject;
use crate::abi::{
    Block, CHUNK_RULES, MAX_CHUNKS, PolicyHeader, PrefixVectors, Rule, rule_flags,
};

/// The blocks of a policy.
pub trait Blocks {
    /// The block of that number.
    fn block(&self, number: u32) -> Option<&Block>;
}

impl Blocks for [Block] {
    fn block(&self, number: u32) -> Option<&Block> {
        self.get(number as usize)
    }
}

/// Which rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its index.
    pub rule: u32,
    /// Index of the rule in shadow that would have decided instead.
    pub shadow: Option<u32>,
}

/// What [`decide`] finds and works with. In memory: on a stack of 512 octets there is
/// no room.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Found {
    /// The rule that decides.
    pub rule: Rule,
    /// [`Rule::number`] of the rule in shadow that would have decided instead; 0:
    /// none.
    pub shadow: u16,
    /// [`Rule::flags`] of that.
    pub shadow_flags: u8,
    /// [`crate::policy::Action`] of that, as a number.
    pub shadow_action: u8,
    /// [`PolicyHeader::flags`].
    pub flags: u32,
    /// Indices of both, the one that decides first; `u32::MAX`: none.
    pub indices: [u32; 2],
    vectors: [u32; FIELDS],
    summaries: [u64; FIELDS],
    chunk: [u64; 8],
}

/// Vectors that are intersected: place, initiator's and responder's address, both
/// ports, and the rules that are not in shadow.
const FIELDS: usize = 6;
const IN_FORCE: usize = 5;

/// Finds the rule that decides about `subject`, whose addresses have the vectors
/// `from` and `to`. Its answer is in `found`; gives false for a policy that is not
/// whole, which the agent does not make.
#[inline(always)]
pub fn decide<B: Blocks + ?Sized>(
    blocks: &B,
    subject: &Subject,
    from: PrefixVectors,
    to: PrefixVectors,
    found: &mut Found,
) -> bool {
    let Some(head) = blocks.block(0) else {
        return false;
    };
    let head = PolicyHeader::from_block(head);
    found.flags = head.flags;
    found.shadow = 0;
    found.indices = [u32::MAX; 2];
    found.vectors = [
        place(blocks, &head, subject),
        from.from,
        to.to,
        port(blocks, head.to_ports_at, subject.to_port),
        port(blocks, head.from_ports_at, subject.from_port),
        head.in_force,
    ];
    let chunks = head.rules.div_ceil(CHUNK_RULES);
    let every = if chunks >= 64 {
        u64::MAX
    } else {
        (1 << chunks) - 1
    };
    let mut field = 0;
    while field < FIELDS {
        let vector = found.vectors[field];
        found.summaries[field] = if vector == 0 {
            every
        } else {
            let Some(block) = blocks.block(vector) else {
                return false;
            };
            block.words[0]
        };
        field += 1;
    }
    let first = search(blocks, found, every, head.rules, IN_FORCE);
    let Some(rule) = rule(blocks, &head, first) else {
        return false;
    };
    found.rule = rule;
    found.indices[0] = first;
    if rule.flags & rule_flags::SHADOW == 0 {
        return true;
    }
    found.shadow = rule.number;
    found.shadow_flags = rule.flags;
    found.shadow_action = rule.action;
    found.indices[1] = first;
    let first = search(blocks, found, every, head.rules, FIELDS);
    let Some(rule) = self::rule(blocks, &head, first) else {
        return false;
    };
    found.rule = rule;
    found.indices[0] = first;
    true
}

/// The first bit that the first `fields` vectors have in common; `rules` if there is
/// none.
#[inline(always)]
fn search<B: Blocks + ?Sized>(
    blocks: &B,
    found: &mut Found,
    every: u64,
    rules: u32,
    fields: usize,
) -> u32 {
    let mut candidates = every;
    let mut field = 0;
    while field < fields {
        candidates &= found.summaries[field];
        field += 1;
    }
    let mut chunk = 0;
    while chunk < MAX_CHUNKS {
        if candidates == 0 {
            return rules;
        }
        let number = candidates.trailing_zeros();
        candidates &= candidates - 1;
        found.chunk = [u64::MAX; 8];
        let mut field = 0;
        while field < fields {
            intersect(blocks, found, field, number);
            field += 1;
        }
        let mut word = 0;
        while word < 8 {
            let bits = found.chunk[word];
            if bits != 0 {
                return number * CHUNK_RULES + word as u32 * 64 + bits.trailing_zeros();
            }
            word += 1;
        }
        chunk += 1;
    }
    rules
}

/// Takes from [`Found::chunk`] what the vector of a field does not have in the chunk
/// of that number.
#[inline(always)]
fn intersect<B: Blocks + ?Sized>(blocks: &B, found: &mut Found, field: usize, number: u32) {
    let vector = found.vectors[field];
    if vector == 0 {
        return;
    }
    let before = found.summaries[field] & ((1 << (number & 63)) - 1);
    // Behind the summary, which takes the place of two numbers.
    let chunk = entry(blocks, vector, before.count_ones() + 2).and_then(|at| blocks.block(at));
    let Some(chunk) = chunk else {
        found.chunk = [0; 8];
        return;
    };
    let mut word = 0;
    while word < 8 {
        found.chunk[word] &= chunk.words[word];
        word += 1;
    }
}

/// The `index`th number of 32 bits in the blocks from `first` on.
#[inline(always)]
fn entry<B: Blocks + ?Sized>(blocks: &B, first: u32, index: u32) -> Option<u32> {
    let block = blocks.block(first.wrapping_add(index / 16))?;
    Some(block.half(index as usize % 16))
}

/// The rule of that index.
#[inline(always)]
fn rule<B: Blocks + ?Sized>(blocks: &B, head: &PolicyHeader, index: u32) -> Option<Rule> {
    if index >= head.rules {
        return None;
    }
    let block = blocks.block(head.rules_at.wrapping_add(index))?;
    Some(Rule::from_block(block))
}

/// The vector of a connection's direction and interface.
#[inline(always)]
fn place<B: Blocks + ?Sized>(blocks: &B, head: &PolicyHeader, subject: &Subject) -> u32 {
    let way = subject.direction as usize % 4 % 3;
    let elsewhere = head.elsewhere[way];
    if head.place_buckets == 0 {
        return elsewhere;
    }
    let bucket = subject.ifindex & (head.place_buckets - 1);
    let Some(block) = blocks.block(head.places_at.wrapping_add(bucket)) else {
        return elsewhere;
    };
    let mut row = 0;
    while row < 4 {
        if block.half(row * 4) == subject.ifindex {
            return block.half(row * 4 + 1 + way);
        }
        row += 1;
    }
    elsewhere
}

/// The vector of a port in the directory at `directory`.
#[inline(always)]
fn port<B: Blocks + ?Sized>(blocks: &B, directory: u32, port: u16) -> u32 {
    if directory == 0 {
        return 0;
    }
    let [high, low] = port.to_be_bytes();
    let Some(page) = entry(blocks, directory, high.into()) else {
        return 0;
    };
    entry(blocks, page, low.into()).unwrap_or(0)
}
