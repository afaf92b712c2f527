//! The compiled policy: one look per field of the packet gives a vector of the rules
//! that it lets match, and the vectors' first common bit is the rule.
//!
//! Bit vectors per field are Lakshman's and Stiliadis's (SIGCOMM 1998), summaries of
//! them Baboescu's and Varghese's (SIGCOMM 2001). What depends on the number of rules
//! is only how many chunks all summaries have in common, and a chunk is 512 rules.

use super::{Direction, Subject};
use crate::abi::{
    Block, CHUNK_RULES, MAX_CHUNKS, PolicyHeader, PrefixVectors, Rule, policy_flags, rule_flags,
};

/// The blocks of a policy.
pub trait Blocks {
    /// The block of that number.
    fn block(&self, number: u32) -> Option<&Block>;

    /// [`first_common`], which the kernel's verifier wants to walk by itself.
    #[inline(always)]
    fn first_common(&self, found: &mut Found, chunk: u32) -> u32 {
        first_common(self, found, chunk)
    }
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
    every: u64,
    summaries: [u64; FIELDS],
    chunk: [u64; 8],
}

/// Vectors that are intersected: place, initiator's and responder's address, both
/// ports, and the rules that are not in shadow.
const FIELDS: usize = 6;
const IN_FORCE: usize = 5;

/// What [`first_common`] gives where there is none.
pub const NO_RULE: u32 = u32::MAX;

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
    found.indices = [NO_RULE; 2];
    // First all rules are asked, and only if one in shadow answers, the others.
    found.vectors = [
        place(blocks, &head, subject),
        from.from,
        to.to,
        port(blocks, head.to_ports_at, subject.to_port),
        port(blocks, head.from_ports_at, subject.from_port),
        0,
    ];
    let chunks = head.rules.div_ceil(CHUNK_RULES) & 63;
    found.every = (1 << chunks) - 1;
    let mut pass = 0;
    while pass < 2 {
        let index = search(blocks, found);
        if index >= head.rules {
            return false;
        }
        let Some(block) = blocks.block(head.rules_at.wrapping_add(index)) else {
            return false;
        };
        let rule = Rule::from_block(block);
        found.rule = rule;
        found.indices[0] = index;
        if rule.flags & rule_flags::SHADOW == 0 {
            return true;
        }
        found.shadow = rule.number;
        found.shadow_flags = rule.flags;
        found.shadow_action = rule.action;
        found.indices[1] = index;
        found.vectors[IN_FORCE] = head.in_force;
        pass += 1;
    }
    false
}

/// The first bit that all vectors have in common; [`NO_RULE`] if there is none.
#[inline(always)]
fn search<B: Blocks + ?Sized>(blocks: &B, found: &mut Found) -> u32 {
    let mut candidates = found.every;
    let mut field = 0;
    while field < FIELDS {
        let vector = found.vectors[field];
        if vector != 0 {
            let summary = blocks.block(vector).map_or(0, |block| block.words[0]);
            found.summaries[field] = summary;
            candidates &= summary;
        }
        field += 1;
    }
    let mut looks = 0;
    while looks < MAX_CHUNKS {
        if candidates == 0 {
            break;
        }
        let first = blocks.first_common(found, candidates.trailing_zeros());
        if first != NO_RULE {
            return first;
        }
        candidates &= candidates - 1;
        looks += 1;
    }
    NO_RULE
}

/// The first bit that all vectors have in common in one chunk; [`NO_RULE`] if there is
/// none.
#[inline(always)]
pub fn first_common<B: Blocks + ?Sized>(blocks: &B, found: &mut Found, chunk: u32) -> u32 {
    found.chunk = [u64::MAX; 8];
    // No loop: the compiler would enter it in the middle, which the verifier of Linux
    // 6.1 takes for one without an end.
    intersect(blocks, found, 0, chunk);
    intersect(blocks, found, 1, chunk);
    intersect(blocks, found, 2, chunk);
    intersect(blocks, found, 3, chunk);
    intersect(blocks, found, 4, chunk);
    intersect(blocks, found, IN_FORCE, chunk);
    let mut word = 0;
    while word < 8 {
        let bits = found.chunk[word as usize];
        if bits != 0 {
            return chunk * CHUNK_RULES + word * 64 + bits.trailing_zeros();
        }
        word += 1;
    }
    NO_RULE
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

/// The vector of a connection's direction and interface.
#[inline(always)]
fn place<B: Blocks + ?Sized>(blocks: &B, head: &PolicyHeader, subject: &Subject) -> u32 {
    let way = Direction::from_raw(subject.direction);
    let pick = |[inwards, outwards, through]: [u32; 3]| match way {
        Direction::In => inwards,
        Direction::Out => outwards,
        Direction::Forward => through,
    };
    let elsewhere = pick(head.elsewhere);
    if head.place_buckets == 0 {
        return elsewhere;
    }
    let bucket = subject.ifindex & (head.place_buckets - 1);
    let Some(block) = blocks.block(head.places_at.wrapping_add(bucket)) else {
        return elsewhere;
    };
    for row in [0, 4, 8, 12] {
        if block.half(row) == subject.ifindex {
            return pick([
                block.half(row + 1),
                block.half(row + 2),
                block.half(row + 3),
            ]);
        }
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

/// Whether a policy with these [`policy_flags`] is asked about segments that may not
/// open a flow otherwise.
#[inline(always)]
#[must_use]
pub const fn judges_pickups(flags: u32) -> bool {
    flags & policy_flags::PICKUP != 0
}
