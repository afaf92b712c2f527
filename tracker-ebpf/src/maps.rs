//! Every map, and who writes it.
//!
//! Names are the pins' names. Capacities here are defaults; the agent sets the
//! real ones at load.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use tracker_common::{
    abi::{
        Ban, Block, CANDIDATES as CANDIDATE_SLOTS, Candidate, Denial, Event, Flow, FlowId, Gauge,
        GaugeCell, History, Interface, Key, KeyV4, KeyV6, Listener, Live, POLICY_SLOTS, PendingSyn,
        Place, PrefixVectors, RULE_PAGES, RULES_PER_PAGE, ReapControl, ReasonCount, Refusal,
        RingSlot, RuleCount, RuleState, SEEDS as SEED_SLOTS, Seed, ZoneKey,
    },
    defence::{BUCKETS, MARKS},
    reason::Reason,
};

use crate::{FLOW_TABLE_FLAGS, scratch::Scratch};

/// Memory is taken as entries come.
pub const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

/// IPv4 flows. Written by all three programs, each value under its lock.
#[btf_map]
pub static FLOWS_V4: HashMap<KeyV4, Flow, 262_144, FLOW_TABLE_FLAGS> = HashMap::new();

/// IPv6 flows. As above.
#[btf_map]
pub static FLOWS_V6: HashMap<KeyV6, Flow, 262_144, FLOW_TABLE_FLAGS> = HashMap::new();

/// Running configuration. Written by the agent.
#[btf_map]
pub static LIVE: Array<Live, 1> = Array::new();

/// Shared counters. Written by all programs, atomically.
#[btf_map]
pub static GAUGES: Array<GaugeCell, { Gauge::COUNT as usize }> = Array::new();

/// Packets by reason and hook, see `reason_slot`. Written by both hooks.
#[btf_map]
pub static REASONS: PerCpuArray<ReasonCount, { Reason::SLOTS as usize * 2 }> = PerCpuArray::new();

/// Events of flows that have completed their handshake.
#[btf_map]
pub static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();

/// Events of connections that have not completed it: what a flood writes, so
/// that it pushes out nobody else's.
#[btf_map]
pub static EMBRYO_EVENTS: RingBuf<Event, { 1 << 18 }> = RingBuf::new();

/// Records that found their ring full, see `LOST_EVENTS` and `LOST_EMBRYO`.
#[btf_map]
pub static LOST: PerCpuArray<u64, 2> = PerCpuArray::new();

/// Half-open flows by age. Written by both hooks, see [`RingSlot`].
#[btf_map]
pub static HALF_OPEN_RING: Array<RingSlot, 65_536> = Array::new();

/// Generations handed out, by CPU. Written by both hooks.
#[btf_map]
pub static GENERATION: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Zones that replace the default. Written by the agent before the hooks are
/// attached.
#[btf_map]
pub static ZONES: HashMap<ZoneKey, u32, 4096, { NO_PREALLOC }> = HashMap::new();

/// Interfaces that carry our programs. Written by the agent.
#[btf_map]
pub static INTERFACES: HashMap<u32, Interface, 1024, { NO_PREALLOC }> = HashMap::new();

/// Flows that somebody proposes to remove. Written by whoever asks.
#[btf_map]
pub static CANDIDATES: Array<Candidate, { CANDIDATE_SLOTS as usize }> = Array::new();

/// The request and its answer, of the reaper and of the seeder. Written by whoever
/// asks, then by the program.
#[btf_map]
pub static REAP: Array<ReapControl, 2> = Array::new();

/// Nanoseconds that stand for the clock when `TEST_CLOCK_ON` is set. Written
/// by tests.
#[btf_map]
pub static TEST_CLOCK: Array<u64, 1> = Array::new();

/// The last steps of flows past their handshake. Written by both hooks, as are
/// the following two; all three forget who was asked for longest ago.
#[btf_map]
pub static HISTORY: LruHashMap<FlowId, History, 16_384> = LruHashMap::new();

/// The last segment of a flow that was refused.
#[btf_map]
pub static REFUSALS: LruHashMap<FlowId, Refusal, 4096> = LruHashMap::new();

/// SYNs that passed on live flows and may be answered.
#[btf_map]
pub static PENDING_SYNS: LruHashMap<FlowId, PendingSyn, 4096> = LruHashMap::new();

/// Listening sockets of this host, learnt from their SYN-ACKs. Written by both
/// hooks; by the agent where the configuration names one.
#[btf_map]
pub static LISTENERS: HashMap<Place, Listener, 4096, { NO_PREALLOC }> = HashMap::new();

/// Half-open flows by listener and by source prefix. Written by all programs,
/// atomically; an entry is there only while it counts something.
#[btf_map]
pub static SHARES: HashMap<Place, u64, 65_536, { NO_PREALLOC }> = HashMap::new();

/// Sources that lately completed a handshake, and when, coarse ns. Written by the
/// ingress hook.
#[btf_map]
pub static PROVED: LruHashMap<Place, u64, 16_384> = LruHashMap::new();

/// How many SYN-ACKs went to which addresses lately: a sketch, see
/// `defence::count_answer`. Written by the ingress hook; by the agent, behind the
/// buckets, the marks of addresses that get none.
#[btf_map]
pub static ANSWERS: Array<u64, { BUCKETS + 1 + MARKS }> = Array::new();

/// Banned prefixes. Written by `tracker ban` and the agent; what they refused is
/// counted by the ingress hook. Keys are `BanKey`s.
#[btf_map]
pub static BANS: LpmTrie<[u32; 6], Ban, 65_536, { NO_PREALLOC }> = LpmTrie::new();

/// Working memory, by hook. Written by both hooks.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();

/// A compiled policy, see `abi::policy`.
pub type Policy = Array<Block, 1, { aya_ebpf::bindings::BPF_F_INNER_MAP as usize }>;

/// Its prefixes. Keys are `PrefixKey`s.
pub type PolicyPrefixes = LpmTrie<[u32; 5], PrefixVectors, 131_072, { NO_PREALLOC }>;

/// Policies. Written by the agent, each as a whole before `Live::policy_slot` names
/// it.
#[btf_map]
pub static POLICIES: ArrayOfMaps<Policy, { POLICY_SLOTS as usize }> = ArrayOfMaps::new();

/// As above.
#[btf_map]
pub static PREFIXES: ArrayOfMaps<PolicyPrefixes, { POLICY_SLOTS as usize }> = ArrayOfMaps::new();

/// What rules have decided, in pages that the agent puts in. Written by all programs.
#[btf_map]
pub static RULE_COUNTS: ArrayOfMaps<
    PerCpuArray<RuleCount, { RULES_PER_PAGE as usize }>,
    { RULE_PAGES as usize },
> = ArrayOfMaps::new();

/// Limits of rules, likewise. Written by all programs, atomically.
#[btf_map]
pub static RULE_STATES: ArrayOfMaps<
    Array<RuleState, { RULES_PER_PAGE as usize }>,
    { RULE_PAGES as usize },
> = ArrayOfMaps::new();

/// Flows by rule and source prefix. As `SHARES`.
#[btf_map]
pub static RULE_SHARES: HashMap<Place, u64, 32_768, { NO_PREALLOC }> = HashMap::new();

/// When the next flow of a rule and source prefix is due, coarse ns. Written by both
/// hooks; forgets who was asked for longest ago.
#[btf_map]
pub static RULE_RATES: LruHashMap<Place, u64, 8192> = LruHashMap::new();

/// The last refusal of a connection that has no flow. Written by both hooks; forgets
/// what was written longest ago.
#[btf_map]
pub static DENIALS: LruHashMap<Key, Denial, 4096> = LruHashMap::new();

/// Connections that are to become flows. Written by the agent, then by the seeder.
#[btf_map]
pub static SEEDS: Array<Seed, { SEED_SLOTS as usize }> = Array::new();
