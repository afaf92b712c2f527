//! The blocks of a policy while they are made, and the vectors in them.

use std::collections::HashMap;

use tracker_common::abi::{Block, CHUNK_RULES, MAX_CHUNKS};

use super::Full;

/// Rules of one word of a chunk.
const WORD: usize = u64::BITS as usize;
/// Rules of one chunk.
const CHUNK: usize = CHUNK_RULES as usize;
/// Numbers of 32 bits in a block.
pub const HALVES: usize = 16;
/// Numbers in front of those of a vector's chunks: its summary has two.
const SUMMARY: usize = 2;

/// A set of rules: the identities of its chunks in a [`Store`], as many as the
/// rules have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules(Box<[u32]>);

/// Identity of the chunk that has no rule.
const EMPTY: u32 = 0;

/// Blocks, and where the chunks and vectors are that are in them already.
pub struct Store {
    blocks: Vec<Block>,
    /// How many blocks there may be.
    limit: usize,
    chunks: Vec<Chunk>,
    identities: HashMap<[u64; 8], u32>,
    vectors: HashMap<Rules, u32>,
    tables: HashMap<Vec<u32>, u32>,
    every: Rules,
}

/// Bits of [`CHUNK_RULES`] rules.
struct Chunk {
    bits: Block,
    /// Its block; `None` while no vector needs it.
    at: Option<u32>,
}

impl Store {
    /// Has the first `blocks` blocks blank, for others to fill, at most `limit` of them
    /// in all, and vectors of `rules` rules, 1 to
    /// [`tracker_common::abi::MAX_RULES`].
    pub fn new(blocks: usize, rules: usize, limit: usize) -> Self {
        let count = rules.div_ceil(CHUNK).min(MAX_CHUNKS as usize);
        let none = Rules(vec![EMPTY; count].into());
        let mut store = Self {
            blocks: vec![Block::default(); blocks],
            limit,
            chunks: vec![Chunk {
                bits: Block::default(),
                at: None,
            }],
            identities: HashMap::from([(Block::default().words, EMPTY)]),
            vectors: HashMap::new(),
            tables: HashMap::new(),
            every: none.clone(),
        };
        let mut all = Draft::of(&none);
        for rule in 0..rules {
            all.set(&store, rule, true);
        }
        store.every = all.done(&mut store);
        store
    }

    /// All rules.
    pub fn every(&self) -> Rules {
        self.every.clone()
    }

    /// Block of the vector of `rules`, 0 if they are all there are.
    pub fn vector(&mut self, rules: &Rules) -> Result<u32, Full> {
        if *rules == self.every {
            return Ok(0);
        }
        if let Some(&at) = self.vectors.get(rules) {
            return Ok(at);
        }
        let mut summary = 0_u64;
        let mut numbers = vec![0; SUMMARY];
        for (chunk, &identity) in rules.0.iter().enumerate() {
            if identity != EMPTY {
                summary |= 1 << chunk;
                numbers.push(self.chunk(identity)?);
            }
        }
        let at = self.append(&numbers)?;
        self.blocks[at as usize].words[0] = summary;
        self.vectors.insert(rules.clone(), at);
        Ok(at)
    }

    /// First block of a table of those numbers; equal tables are one.
    pub fn table(&mut self, numbers: Vec<u32>) -> Result<u32, Full> {
        if let Some(&at) = self.tables.get(&numbers) {
            return Ok(at);
        }
        let at = self.append(&numbers)?;
        self.tables.insert(numbers, at);
        Ok(at)
    }

    /// Puts blocks behind the others and gives the number of the first one.
    pub fn push(&mut self, blocks: impl IntoIterator<Item = Block>) -> Result<u32, Full> {
        let first = self.blocks.len();
        self.blocks.extend(blocks);
        if self.blocks.len() > self.limit {
            return Err(Full);
        }
        u32::try_from(first).map_err(|_| Full)
    }

    /// The blocks; those that [`Store::new`] was asked for are still blank.
    pub fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }

    /// Writes numbers of 32 bits into new blocks.
    fn append(&mut self, numbers: &[u32]) -> Result<u32, Full> {
        self.push(numbers.chunks(HALVES).map(|halves| {
            let mut block = Block::default();
            for (index, &half) in halves.iter().enumerate() {
                block.set_half(index, half);
            }
            block
        }))
    }

    /// Block of a chunk.
    fn chunk(&mut self, identity: u32) -> Result<u32, Full> {
        let Chunk { bits, at } = &self.chunks[identity as usize];
        if let Some(at) = *at {
            return Ok(at);
        }
        let at = self.push([*bits])?;
        self.chunks[identity as usize].at = Some(at);
        Ok(at)
    }

    fn identity(&mut self, bits: &Block) -> u32 {
        if let Some(&identity) = self.identities.get(&bits.words) {
            return identity;
        }
        // Fewer than vectors times chunks, and the blocks are full long before that
        // is more than 32 bits tell.
        let identity = self.chunks.len() as u32;
        self.chunks.push(Chunk {
            bits: *bits,
            at: None,
        });
        self.identities.insert(bits.words, identity);
        identity
    }
}

/// A set of rules that is changed rule by rule.
pub struct Draft {
    identities: Box<[u32]>,
    /// Chunks that were changed.
    bits: Vec<Option<Block>>,
}

impl Draft {
    /// Begins with those of `rules`.
    pub fn of(rules: &Rules) -> Self {
        Self {
            identities: rules.0.clone(),
            bits: vec![None; rules.0.len()],
        }
    }

    /// Takes a rule in, or leaves it out.
    pub fn set(&mut self, store: &Store, rule: usize, member: bool) {
        let chunk = rule / CHUNK;
        let identity = self.identities[chunk];
        let bits = self.bits[chunk].get_or_insert_with(|| store.chunks[identity as usize].bits);
        let word = &mut bits.words[rule % CHUNK / WORD];
        let bit = 1 << (rule % WORD);
        if member {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The set as it is then. The draft can be changed on.
    pub fn done(&mut self, store: &mut Store) -> Rules {
        for (identity, bits) in self.identities.iter_mut().zip(&mut self.bits) {
            if let Some(bits) = bits.take() {
                *identity = store.identity(&bits);
            }
        }
        Rules(self.identities.clone())
    }
}
