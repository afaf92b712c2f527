//! A compiled policy: what the agent puts into the inner maps of `POLICIES` and
//! `PREFIXES`, and what the programs keep of its rules in `RULE_COUNTS` and
//! `RULE_STATES`.
//!
//! An inner array of `POLICIES` holds one policy as [`Block`]s of a cache line each:
//!
//! | blocks | what |
//! |---|---|
//! | 0 | a [`PolicyHeader`] |
//! | `rules_at` … | a [`Rule`] each, in the order in which they are looked at; the last one matches everything |
//! | `places_at` … | buckets of four interfaces each: an interface index (0: none) and its three vectors by direction; an interface is in the bucket whose number is its index modulo `place_buckets` |
//! | `to_ports_at` …, `from_ports_at` … | a directory of 256 numbers of blocks (16 blocks), one for each upper half of a port; there, 256 numbers of vectors (16 blocks), one for each lower half |
//! | anywhere | vectors and chunks |
//!
//! A *vector* tells which rules a field of a packet lets match. It is named by the
//! number of its first block; 0 stands for all rules. Its first word is a summary:
//! bit *i* is set if a bit is set in chunk *i*. Then follow, as 32-bit words, the
//! block numbers of those chunks alone, in order. A *chunk* is a block of
//! [`CHUNK_RULES`] bits, a rule each; equal chunks are stored once.

use super::defence::mask;

/// Unit of an inner array of `POLICIES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// A vector, a chunk, or a part of a table; see the module.
    pub words: [u64; 8],
}

const _: () = assert!(size_of::<Block>() == 64);

impl Block {
    /// One of its sixteen numbers of 32 bits: the lower half of a word, then the
    /// upper one.
    #[inline(always)]
    #[must_use]
    pub const fn half(&self, index: usize) -> u32 {
        (self.words[index / 2 % 8] >> (32 * (index as u32 & 1))) as u32
    }

    /// Sets that.
    pub const fn set_half(&mut self, index: usize, value: u32) {
        let shift = 32 * (index as u32 & 1);
        let word = &mut self.words[index / 2 % 8];
        *word = *word & !((u32::MAX as u64) << shift) | (value as u64) << shift;
    }
}

/// Rules that one chunk has bits for.
pub const CHUNK_RULES: u32 = 512;

/// Rules that a policy may have, its last one included.
pub const MAX_RULES: u32 = 16_384;

/// Chunks that the rules of a policy may need.
pub const MAX_CHUNKS: u32 = MAX_RULES / CHUNK_RULES;

/// Policies that the maps hold at once: the one in force, the one that is being
/// built, and those that programs may still be reading.
pub const POLICY_SLOTS: u32 = 4;

/// Rules in each inner map of `RULE_COUNTS` and `RULE_STATES`.
pub const RULES_PER_PAGE: u32 = 1024;

/// Inner maps of those: together they have a place for every number of a rule.
pub const RULE_PAGES: u32 = (1 << 16) / RULES_PER_PAGE;

/// What block 0 of a policy tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyHeader {
    /// Rules, the last one included; 1 to [`MAX_RULES`].
    pub rules: u32,
    /// Block of the first one.
    pub rules_at: u32,
    /// Block of the first bucket of places.
    pub places_at: u32,
    /// Number of buckets, a power of two; 0 if no rule names an interface.
    pub place_buckets: u32,
    /// Vectors by [`crate::policy::Direction`] for interfaces that no rule names.
    pub elsewhere: [u32; 3],
    /// Block of the directory of responders' ports; 0 if no rule asks for them.
    pub to_ports_at: u32,
    /// The same of initiators' ports.
    pub from_ports_at: u32,
    /// Vector of the rules that are not in shadow; 0 if none is.
    pub in_force: u32,
    /// See [`policy_flags`].
    pub flags: u32,
}

impl PolicyHeader {
    /// What `block` tells.
    #[inline(always)]
    #[must_use]
    pub const fn from_block(block: &Block) -> Self {
        Self {
            rules: block.half(0),
            rules_at: block.half(1),
            places_at: block.half(2),
            place_buckets: block.half(3),
            elsewhere: [block.half(4), block.half(5), block.half(6)],
            to_ports_at: block.half(7),
            from_ports_at: block.half(8),
            in_force: block.half(9),
            flags: block.half(10),
        }
    }

    /// The block that tells this.
    #[must_use]
    pub fn to_block(&self) -> Block {
        let [inwards, outwards, through] = self.elsewhere;
        let halves = [
            self.rules,
            self.rules_at,
            self.places_at,
            self.place_buckets,
            inwards,
            outwards,
            through,
            self.to_ports_at,
            self.from_ports_at,
            self.in_force,
            self.flags,
        ];
        let mut block = Block::default();
        for (index, half) in halves.into_iter().enumerate() {
            block.set_half(index, half);
        }
        block
    }
}

/// Bits of [`PolicyHeader::flags`].
pub mod policy_flags {
    /// A rule lets connections be picked up whatever the configuration says: so
    /// segments of no flow are judged, too.
    pub const PICKUP: u32 = 1 << 0;
    /// The last rule does not allow: an ICMP error about no flow is refused.
    pub const CLOSED: u32 = 1 << 1;
}

/// A rule, as the programs read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its number, which it keeps from policy to policy; 1 to 65,535. Names it in
    /// [`super::Flow::rule`] and finds its counters.
    pub number: u16,
    /// [`crate::policy::Action`] as a number.
    pub action: u8,
    /// See [`rule_flags`].
    pub flags: u8,
    /// Row of [`super::Live::timeouts`] for its flows, 0 to 7.
    pub profile: u8,
    /// Flows that may be open at once; 0: any number.
    pub flows: u32,
    /// The same from one prefix.
    pub source_flows: u32,
    /// How often a flow may open.
    pub rate: Rate,
    /// How often one from one prefix may.
    pub source_rate: Rate,
}

impl Rule {
    /// The rule that `block` tells of.
    #[inline(always)]
    #[must_use]
    pub const fn from_block(block: &Block) -> Self {
        let [facts, flows, a, b, c, d, ..] = block.words;
        Self {
            number: facts as u16,
            action: (facts >> 16) as u8,
            flags: (facts >> 24) as u8,
            profile: (facts >> 32) as u8,
            flows: flows as u32,
            source_flows: (flows >> 32) as u32,
            rate: Rate {
                interval_ns: a,
                tolerance_ns: b,
            },
            source_rate: Rate {
                interval_ns: c,
                tolerance_ns: d,
            },
        }
    }

    /// Whether it allows only so many flows, or only at some rate.
    #[inline(always)]
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.rate.interval_ns | self.source_rate.interval_ns != 0
            || self.flows | self.source_flows != 0
    }

    /// The block that tells of it.
    #[must_use]
    pub const fn to_block(&self) -> Block {
        let facts = self.number as u64
            | (self.action as u64) << 16
            | (self.flags as u64) << 24
            | (self.profile as u64) << 32;
        Block {
            words: [
                facts,
                self.flows as u64 | (self.source_flows as u64) << 32,
                self.rate.interval_ns,
                self.rate.tolerance_ns,
                self.source_rate.interval_ns,
                self.source_rate.tolerance_ns,
                0,
                0,
            ],
        }
    }
}

/// A rate with a burst (GCRA, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Time between two, ns; 0: no limit.
    pub interval_ns: u64,
    /// How much too early one may be, ns: the interval times one less than the
    /// burst.
    pub tolerance_ns: u64,
}

/// Bits of [`Rule::flags`].
pub mod rule_flags {
    /// What it decides is reported.
    pub const LOG: u8 = 1 << 0;
    /// It counts what it would decide, and the next one decides.
    pub const SHADOW: u8 = 1 << 1;
    /// Its flows are exempt from checks of windows, timestamps and RST numbers.
    pub const LIBERAL: u8 = 1 << 2;
    /// It lets connections be picked up, whatever the configuration says.
    pub const PICKUP: u8 = 1 << 3;
    /// It does not, whatever the configuration says.
    pub const NO_PICKUP: u8 = 1 << 4;
}

/// Key of an inner trie of `PREFIXES`. Every policy has the empty prefix of both
/// families there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixKey {
    /// 32, for `family`, plus the bits of `address` that count; host order
    /// (`BPF_MAP_TYPE_LPM_TRIE`).
    pub prefix_len: u32,
    /// [`super::Family`] as a number, then zeros: the first 32 bits.
    pub family: [u8; 4],
    /// As it lies in the packet; IPv4 in the first word.
    pub address: [u32; 4],
}

const _: () = assert!(size_of::<PrefixKey>() == 24);

/// Vectors of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixVectors {
    /// Rules that an initiator there may match.
    pub from: u32,
    /// Rules that a responder there may match.
    pub to: u32,
}

/// What a rule has decided, per CPU, in the inner maps of `RULE_COUNTS` by
/// [`Rule::number`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCount {
    /// First packets that it decided, or would have if it is in shadow.
    pub hits: u64,
    /// Packets of its flows that have ended.
    pub packets: u64,
    /// Octets of their IP datagrams.
    pub bytes: u64,
    /// Coarse `CLOCK_MONOTONIC` of the last hit, ns.
    pub last_ns: u64,
}

/// What all CPUs share of a rule, in the inner maps of `RULE_STATES` by
/// [`Rule::number`]. Changed atomically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleState {
    /// Flows that are open.
    pub flows: u64,
    /// When the next one would be due at the rate, coarse ns; see
    /// [`crate::policy::conforms`].
    pub due_ns: u64,
    /// The same for reports.
    pub report_due_ns: u64,
    /// Reports that were left out.
    pub unreported: u64,
    /// Of the words of an address, as they lie in a packet, the bits by which sources
    /// are counted: that of IPv4, then those of IPv6. See [`RuleState::masks`].
    pub source_masks: [u32; 5],
    /// Zero.
    pub reserved: [u32; 3],
}

const _: () = assert!(size_of::<RuleState>() == 64);

impl RuleState {
    /// [`RuleState::source_masks`] of prefixes of these lengths, IPv4 and IPv6.
    #[must_use]
    pub const fn masks(source_bits: [u8; 2]) -> [u32; 5] {
        let [v4, v6] = source_bits;
        [
            mask(v4, 0),
            mask(v6, 0),
            mask(v6, 1),
            mask(v6, 2),
            mask(v6, 3),
        ]
    }
}

/// What was refused for a connection that has no flow, in the map `DENIALS` by its
/// key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Denial {
    /// Coarse `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Interface where it was seen.
    pub ifindex: u32,
    /// Number of the rule that decided; 0: none did.
    pub rule: u16,
    /// [`crate::reason::Reason`] as a number.
    pub reason: u8,
    /// TCP flags of the segment.
    pub flags: u8,
    /// [`super::Side`] of the key that sent it, as a number.
    pub from: u8,
    /// [`crate::policy::Direction`] as a number.
    pub direction: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<Denial>() == 24);

/// A connection that userspace knows of, in the map `SEEDS`; `tracker_seed` makes
/// a flow of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Seed {
    /// Its key.
    pub key: super::Key,
    /// [`super::Family`] as a number.
    pub family: u8,
    /// [`super::Origin`] as a number.
    pub origin: u8,
    /// 1: the initiator is the key's high side.
    pub initiator_high: u8,
    /// 1: which side opened is a guess.
    pub guessed: u8,
    /// [`crate::tcp::State`]s of initiator and responder, as numbers.
    pub states: [u8; 2],
    /// 1: made; 2: there was one already; 3: there was no room. 0 before.
    pub fate: u8,
    /// Zero.
    pub reserved: u8,
    /// Where the initiator's and the responder's packets pass.
    pub paths: [super::Path; 2],
    /// Zero.
    pub reserved_too: u32,
}

const _: () = assert!(size_of::<Seed>() == 64);

/// Slots of the map `SEEDS`.
pub const SEEDS: u32 = 1024;
