//! Running configuration, counters, and the requests to the reaper.

use super::Key;
use crate::{reason::Reason, tcp::timeout};

/// What the tracker does with packets of class refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Counts them and lets them pass.
    Observe = 0,
    /// Drops them.
    Enforce = 1,
}

/// Where the tracker stands. Fixed at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// On an end host: one side of every flow is local, both directions of a
    /// flow cross the same link, VLAN identifiers separate flows.
    Host = 0,
    /// On a router: a flow comes in on one interface and leaves on another,
    /// maybe under another VLAN, so tags do not separate flows.
    Gateway = 1,
}

/// The pinned one-entry array `LIVE`: all configuration that may change while
/// the programs run. Written by the agent as a whole, read by the programs and
/// by every command line tool.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Live {
    /// [`super::LAYOUT_VERSION`] of who wrote it.
    pub layout: u32,
    /// [`Mode`] as a number.
    pub mode: u8,
    /// See [`super::defence_flags`].
    pub defence: u8,
    /// Generation of the policy that flows must have been judged by; see
    /// [`super::Flow::policy`].
    pub policy: u16,
    /// Process id of the agent, 0 when none runs.
    pub agent_pid: u32,
    /// Factor on every time-out, in 1/1024: below 1024 while the table is
    /// under pressure.
    pub timeout_scale: u32,
    /// `CLOCK_MONOTONIC` of the agent's last sign of life, ns.
    pub heartbeat_ns: u64,
    /// Half-open flows that the tables may hold.
    pub half_open_limit: u32,
    /// Picked-up flows that may wait for proof.
    pub pickup_limit: u32,
    /// Capacity of each flow table, entries.
    pub capacity: u32,
    /// Slots of the age ring.
    pub ring_slots: u32,
    /// See [`switches`].
    pub switches: u8,
    /// 1: a segment of no flow may be of a connection that is older than the
    /// tracker, and opens a flow. 0: it is a stray.
    pub pickup: u8,
    /// SYN-ACKs that a responder may repeat of its own accord before its
    /// half-open flow ends.
    pub syn_ack_retries: u8,
    /// [`super::AtLimit`] as a number.
    pub at_limit: u8,
    /// Half-open flows that one listener (address and port) may have; 0: any
    /// number.
    pub listener_limit: u32,
    /// Half-open flows that one source prefix may have; 0: any number.
    pub source_limit: u32,
    /// Half-open flows at which the agent is woken; 0: never.
    pub wake_level: u32,
    /// SYN-ACKs a second that are sent to one address which has proved nothing;
    /// 0: any number.
    pub answer_rate: u32,
    /// Bits of a source prefix, IPv4 (0 to 32) and IPv6 (0 to 128).
    pub source_bits: [u8; 2],
    /// Window scale for a listener of which none was seen.
    pub default_scale: u8,
    /// What the host's TCP agrees to, in the bits of
    /// [`crate::tcp::Options::present`].
    pub offers: u8,
    /// 1 more than the slot of `POLICIES` and `PREFIXES` that holds the policy in
    /// force, 1 to [`super::POLICY_SLOTS`]; 0: there is none, everything is allowed.
    pub policy_slot: u32,
    /// Zero.
    pub reserved: u32,
    /// Time-outs by profile ([`super::Flow::profile`], 0 for flows whose rule names
    /// none) and [`timeout::Class`], in ticks.
    pub timeouts: [[u32; 16]; PROFILES],
}

/// Profiles of time-outs that [`Live`] has room for.
pub const PROFILES: usize = 8;

const _: () = assert!(size_of::<Live>() == 72 + 64 * PROFILES);
const _: () = assert!(timeout::CLASSES <= 16);

/// Bits of [`Live::switches`].
pub mod switches {
    /// No flow's segments are held against windows and timestamps, and any RST
    /// inside the window closes.
    pub const LIBERAL: u8 = 1 << 0;
    /// Data in a SYN is refused. Off by default: TCP Fast Open sends it
    /// (RFC 7413), and any SYN may (RFC 9293 section 3.4).
    pub const DROP_SYN_DATA: u8 = 1 << 1;
    /// A connection in TIME-WAIT is not reopened before 2MSL are over
    /// (RFC 9293 section 3.4.2), whatever RFC 6191 allows.
    pub const STRICT_2MSL: u8 = 1 << 2;
}

/// SYN-ACKs that Linux repeats (`net.ipv4.tcp_synack_retries`).
pub const SYN_ACK_RETRIES: u8 = 5;

/// [`Live::timeout_scale`] at which every time-out runs at its full length.
pub const FULL_SCALE: u32 = 1024;

impl Live {
    /// Observing, with the time-outs of `profile` at full length, and room for
    /// nothing yet.
    #[must_use]
    pub const fn observing(profile: timeout::Profile) -> Self {
        Self {
            layout: super::LAYOUT_VERSION,
            mode: Mode::Observe as u8,
            defence: 0,
            policy: 0,
            agent_pid: 0,
            timeout_scale: FULL_SCALE,
            heartbeat_ns: 0,
            half_open_limit: 0,
            pickup_limit: 0,
            capacity: 0,
            ring_slots: 0,
            switches: 0,
            pickup: 1,
            syn_ack_retries: SYN_ACK_RETRIES,
            at_limit: 0,
            listener_limit: 0,
            source_limit: 0,
            wake_level: 0,
            answer_rate: 0,
            source_bits: [32, 64],
            default_scale: 7,
            offers: 0,
            policy_slot: 0,
            reserved: 0,
            timeouts: timeout::rows(&profile.ticks()),
        }
    }
}

/// Numbers that all CPUs share, each on a cache line of its own in the array
/// `GAUGES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Gauge {
    /// Half-open reservations taken by connections that come from elsewhere.
    HalfOpen = 0,
    /// Reservations of picked-up flows that wait for proof.
    Pickup = 1,
    /// Elements of the IPv4 table.
    FlowsV4 = 2,
    /// Elements of the IPv6 table.
    FlowsV6 = 3,
    /// Slots of the age ring ever used; the next one is this modulo its length.
    RingHead = 4,
    /// Half-open flows that this host's own clients opened.
    Calling = 5,
    /// Slots of the age ring before which no half-open flow is left, counted as
    /// [`Gauge::RingHead`].
    RingTail = 6,
}

impl Gauge {
    /// How many there are.
    pub const COUNT: u32 = 7;
}

/// One [`Gauge`], alone on its cache line so that CPUs do not contend for a
/// neighbour.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct GaugeCell {
    /// The number.
    pub value: u64,
    _alone: [u64; 7],
}

const _: () = assert!(size_of::<GaugeCell>() == 64);

/// Which hook saw a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// XDP: it came in.
    Ingress = 0,
    /// TCX or clsact: it goes out.
    Egress = 1,
}

/// Packets and octets that left under one reason at one hook, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReasonCount {
    /// Packets.
    pub packets: u64,
    /// Octets of frames.
    pub bytes: u64,
}

/// Index into the per-CPU array `REASONS`.
#[inline(always)]
#[must_use]
pub const fn reason_slot(reason: Reason, hook: Hook) -> u32 {
    reason as u32 * 2 + hook as u32
}

/// Index of the lost records of the ring `EVENTS` in the per-CPU array `LOST`.
pub const LOST_EVENTS: u32 = 0;
/// Index of the lost records of the ring `EMBRYO_EVENTS`.
pub const LOST_EMBRYO: u32 = 1;

/// What the egress program must know of an interface, in the map `INTERFACES`
/// by interface index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interface {
    /// See [`interface_flags`].
    pub flags: u32,
}

/// Bits of [`Interface::flags`].
pub mod interface_flags {
    /// Our ingress program sees what comes in here.
    pub const INGRESS: u32 = 1 << 0;
    /// The NIC strips VLAN tags before the ingress program can see them.
    pub const STRIPS_TAGS: u32 = 1 << 1;
    /// TCP checksums of what comes in here are whole and are verified.
    pub const CHECKSUM: u32 = 1 << 2;
}

/// Key of the map `ZONES`, which replaces default zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ZoneKey {
    /// Interface index.
    pub ifindex: u32,
    /// Outer VLAN identifier, 0 for none.
    pub outer: u16,
    /// Inner VLAN identifier, 0 for none.
    pub inner: u16,
}

/// A slot of the age ring `HALF_OPEN_RING`: half-open flows in the order in
/// which they came.
///
/// Slots are written without a lock. Two writers meet in one only when a whole
/// ring of flows came in between; the generation then tells a reader, under
/// the flow's lock, that the slot's flow is another one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RingSlot {
    /// Key of the flow.
    pub key: Key,
    /// Its generation.
    pub generation: u32,
    /// [`super::Family`] as a number, 0 in a slot never used.
    pub family: u32,
}

const _: () = assert!(size_of::<RingSlot>() == 48);

/// Slots of the map `CANDIDATES`: how many flows one request to the reaper may
/// name. At some 150 ns a flow a request holds the CPU for well under 1 ms.
pub const CANDIDATES: u32 = 4096;

/// Why a flow ended or is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Its time-out ran out.
    Expired = 1,
    /// A new connection took over its addresses and ports.
    Replaced = 2,
    /// Somebody asked for it (`tracker flush`).
    Flushed = 3,
    /// More flows than allowed were in TIME_WAIT, and it was the oldest.
    TimeWaitLimit = 4,
    /// It made room in a table that was full, or at the half-open limit.
    Evicted = 5,
    /// The policy has come to forbid it.
    Revoked = 6,
}

impl Cause {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Flushed => "flushed",
            Self::TimeWaitLimit => "time_wait_limit",
            Self::Evicted => "evicted",
            Self::Revoked => "revoked",
        }
    }

    /// The cause whose number is `raw`.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Expired),
            2 => Some(Self::Replaced),
            3 => Some(Self::Flushed),
            4 => Some(Self::TimeWaitLimit),
            5 => Some(Self::Evicted),
            6 => Some(Self::Revoked),
            _ => None,
        }
    }
}

/// A flow that userspace proposes to remove. The kernel side disposes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Candidate {
    /// Its key.
    pub key: Key,
    /// The generation that userspace saw; another one is another flow.
    pub generation: u32,
    /// [`super::Family`] as a number.
    pub family: u8,
    /// [`Cause`] as a number. Whether the flow has `Expired`, or is in
    /// TIME_WAIT, is judged again under the lock.
    pub cause: u8,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Candidate>() == 48);

/// One-entry array `REAP`: a request to the reaper and its answer. One
/// request at a time; whoever makes one holds the lock of the pin directory's
/// reaper.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ReapControl {
    /// Next candidate to judge; each run of the program takes one.
    pub next: u64,
    /// Candidates in the request.
    pub count: u64,
    /// Flows removed.
    pub removed: u64,
    /// Flows that turned out to be alive.
    pub kept: u64,
    /// Flows that were gone already, or another generation.
    pub gone: u64,
}

const _: () = assert!(size_of::<ReapControl>() == 40);
