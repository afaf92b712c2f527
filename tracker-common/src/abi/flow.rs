//! The value of the flow tables: 120 bytes that one look-up brings.
//!
//! With the key and the kernel's element header 120 bytes still fit the
//! allocator's 192-byte class plus bucket; the next class costs a third more.

use crate::{
    seq::Seq,
    tcp::{Bits, State},
    time::{ShortMicros, Tick},
};

/// The kernel's spin lock, which must be called by this name in the BTF of a
/// map value for the verifier to find it (kernel/bpf/btf.c, `btf_find_field`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct bpf_spin_lock {
    val: u32,
}

/// The same under a name that reads as Rust.
pub type SpinLock = bpf_spin_lock;

/// Which counters a flow holds a share of. The bits change under the flow's
/// lock; the shared counters follow after it, so each is given back once.
pub mod held {
    /// Bits of [`super::Flow::flags`] that this module names.
    pub const MASK: u16 = 0x003f;
    /// Its handshake is not over.
    pub const HALF_OPEN: u16 = 1 << 0;
    /// One of the reservations for flows picked up and not yet proved.
    pub const PICKUP: u16 = 1 << 1;
    /// One of the half-open reservations of the whole table: it comes from
    /// elsewhere.
    pub const COUNTED: u16 = 1 << 2;
    /// A share of its listener's and of its source prefix's half-open counts.
    pub const SHARED: u16 = 1 << 3;
    /// What a handshake holds until it is over.
    pub const HANDSHAKE: u16 = HALF_OPEN | COUNTED | SHARED;
    /// A share of its rule's count of concurrent connections.
    pub const RULE: u16 = 1 << 4;
    /// A share of its source's count under that rule.
    pub const RULE_SOURCE: u16 = 1 << 5;
    /// Both, which a flow holds until it is over.
    pub const RULED: u16 = RULE | RULE_SOURCE;
}

/// Facts about a flow, in [`Flow::flags`].
pub mod flow_flags {
    /// The initiator is the key's high side.
    pub const INITIATOR_HIGH: u16 = 1 << 6;
    /// Which side opened is a guess (the flow was picked up in mid-life).
    pub const GUESSED: u16 = 1 << 7;
    /// Windows, timestamps and RST numbers are not checked: a fragment has
    /// hidden the length of a segment, or the configuration says so.
    pub const LIBERAL: u16 = 1 << 8;
    /// A SYN passed on the live flow. A challenge ACK may answer it, or a
    /// SYN-ACK: then the table `PENDING_SYNS` tells which SYN it was.
    pub const SYN_ON_LIVE: u16 = 1 << 9;
    /// An RST from the initiator came that was inside the window but not exact;
    /// the time-out is short until the initiator shows that it lives.
    /// Shifted by one, the same of the responder.
    pub const RST_INEXACT: u16 = 1 << 10;
    /// Both. Of a flow that an RST has closed, they tell whose RST it was.
    pub const RST_INEXACT_BOTH: u16 = RST_INEXACT | RST_INEXACT << 1;
    /// Timestamps tick faster than RFC 7323 allows (section 5.4: at most once
    /// in a millisecond), as Linux's do with `tcp_usec_ts`.
    pub const FAST_TIMESTAMPS: u16 = 1 << 15;
    /// Lowest bit of [`super::Origin`].
    pub const ORIGIN_SHIFT: u32 = 12;
    /// Bits of [`super::Origin`].
    pub const ORIGIN_MASK: u16 = 0x7 << ORIGIN_SHIFT;
}

/// Facts about an endpoint, in [`Endpoint::flags`].
pub mod end_flags {
    /// It sent a FIN; [`super::Endpoint::end`] lies behind it.
    pub const FIN: u8 = 1 << 0;
    /// Its SYN carried a window scale option.
    pub const SCALE: u8 = 1 << 1;
    /// Its SYN carried SACK-permitted.
    pub const SACK: u8 = 1 << 2;
    /// Its SYN carried timestamps; [`super::Endpoint::ts`] is meaningful.
    pub const TIMESTAMPS: u8 = 1 << 3;
    /// It has been seen to send since the flow came to be.
    pub const SEEN: u8 = 1 << 4;
    /// It sent something without SYN, so it is past its handshake.
    pub const SPOKE: u8 = 1 << 5;
    /// Lowest bit of the number of retransmissions in a row, at most
    /// [`RUN_MAX`].
    pub const RUN_SHIFT: u32 = 6;
    /// Where that number stops.
    pub const RUN_MAX: u8 = 3;
}

/// How a flow came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// Its SYN was seen.
    Handshake = 0,
    /// It was met in mid-life.
    Pickup = 1,
    /// A SYN cookie proved it.
    Cookie = 2,
    /// Read from the host's sockets.
    Socket = 3,
    /// Read from nf_conntrack.
    Conntrack = 4,
}

impl Origin {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Pickup => "pickup",
            Self::Cookie => "cookie",
            Self::Socket => "socket",
            Self::Conntrack => "conntrack",
        }
    }

    /// The origin whose number is `raw`; an unknown number reads as a pick-up,
    /// the origin that claims least.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Handshake,
            2 => Self::Cookie,
            3 => Self::Socket,
            4 => Self::Conntrack,
            _ => Self::Pickup,
        }
    }
}

/// A flow's name in events and side maps: the tag of its key and the generation
/// of the entry, so that a later flow of the same key is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowId(pub u64);

/// Where one direction's packets were last seen: interface (23 bits), whether
/// they leave or come in there, and both VLAN identifiers (12 bits each),
/// packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Path {
    packed: [u16; 3],
}

impl Path {
    /// Packs the path of a packet that comes in; an interface index above
    /// 2^23 - 1 is kept as 0, unknown.
    #[inline(always)]
    #[must_use]
    pub const fn new(ifindex: u32, outer: u16, inner: u16) -> Self {
        let ifindex = if ifindex >> 23 == 0 { ifindex } else { 0 };
        Self {
            packed: [
                (outer & 0x0fff) | ((ifindex >> 16) as u16 & 0x000f) << 12,
                (inner & 0x0fff) | ((ifindex >> 20) as u16 & 0x0007) << 12,
                ifindex as u16,
            ],
        }
    }

    /// The same of a packet that leaves.
    #[inline(always)]
    #[must_use]
    pub const fn leaving(mut self) -> Self {
        self.packed[1] |= Self::LEAVES;
        self
    }

    const LEAVES: u16 = 1 << 15;

    /// Of a packet that comes in at the loopback device, whose index is 1 in
    /// every namespace.
    pub const LOOPBACK: Self = Self::new(1, 0, 0);

    /// Whether anything was seen yet.
    #[inline(always)]
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.differs(Self { packed: [0; 3] }) != 0
    }

    /// 0 if both are the same.
    #[inline(always)]
    #[must_use]
    pub const fn differs(self, other: Self) -> u16 {
        (self.packed[0] ^ other.packed[0])
            | (self.packed[1] ^ other.packed[1])
            | (self.packed[2] ^ other.packed[2])
    }

    /// Whether its packets leave.
    #[must_use]
    pub const fn leaves(self) -> bool {
        self.packed[1] & Self::LEAVES != 0
    }

    /// Interface index, 0 when not known.
    #[must_use]
    pub const fn ifindex(self) -> u32 {
        self.packed[2] as u32
            | (self.packed[0] as u32 >> 12) << 16
            | (self.packed[1] as u32 >> 12 & 0x7) << 20
    }

    /// Outer VLAN identifier, 0 when untagged.
    #[must_use]
    pub const fn outer(self) -> u16 {
        self.packed[0] & 0x0fff
    }

    /// Inner VLAN identifier, 0 when there is none.
    #[must_use]
    pub const fn inner(self) -> u16 {
        self.packed[1] & 0x0fff
    }
}

/// What is known of one endpoint, from what it sent and what was sent to it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Endpoint {
    /// Octets of IP datagrams it sent.
    pub bytes: u64,
    /// Packets it sent, low 32 bits.
    pub packets_low: u32,
    /// Its initial sequence number, from its SYN.
    pub isn: Seq,
    /// One past the highest sequence number it sent (SND.NXT as seen).
    pub end: Seq,
    /// One past the highest sequence number that its peer's windows allow.
    pub max_end: Seq,
    /// Highest acknowledgement it sent (its RCV.NXT as seen). Before its first
    /// ACK, an initiator's holds the [`crate::time::Micros`] of its SYN.
    pub ack: Seq,
    /// Newest TSval it sent (RFC 7323).
    pub ts: u32,
    /// Packets it sent, bits 32 to 47.
    pub packets_high: u16,
    /// Largest window it announced, unscaled, at least 1.
    pub max_window: u16,
    /// [`State`] in the low half, window scale (RFC 7323, at most 14) in the
    /// high half.
    state_scale: u8,
    /// See [`end_flags`].
    pub flags: u8,
    /// SYNs (initiator) or SYN-ACKs (responder) sent again, saturating.
    pub syn_retransmits: u8,
    /// The initiator's: see [`Flow::event_seq`]. The responder's: see
    /// [`Flow::disproved`] in the low six bits, [`Flow::doubts`] in the others.
    tally: u8,
}

impl Endpoint {
    /// Its state, as proved by what it sent.
    #[must_use]
    pub const fn state(&self) -> State {
        self.bits().state()
    }

    /// The same for the packet path.
    #[inline(always)]
    #[must_use]
    pub const fn bits(&self) -> Bits {
        Bits::of(self.state_scale)
    }

    /// Sets the state.
    #[inline(always)]
    pub const fn set_state(&mut self, state: State) {
        self.set_bits(Bits::of(state as u8));
    }

    /// The same for the packet path.
    #[inline(always)]
    pub const fn set_bits(&mut self, state: Bits) {
        self.state_scale = (self.state_scale & 0xf0) | state.number();
    }

    /// Shift count of its windows, 0 unless both sides offered one.
    #[inline(always)]
    #[must_use]
    pub const fn scale(&self) -> u8 {
        self.state_scale >> 4
    }

    /// Sets the shift count (0 to 14).
    #[inline(always)]
    pub const fn set_scale(&mut self, scale: u8) {
        self.state_scale = (self.state_scale & 0x0f) | scale << 4;
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Segments it has sent again since either end made progress, at most
    /// [`end_flags::RUN_MAX`].
    #[inline(always)]
    #[must_use]
    pub const fn run(&self) -> u8 {
        self.flags >> end_flags::RUN_SHIFT
    }

    /// Counts one more of those.
    #[inline(always)]
    pub const fn lengthen_run(&mut self) {
        if self.run() < end_flags::RUN_MAX {
            self.flags += 1 << end_flags::RUN_SHIFT;
        }
    }

    /// Starts that count anew.
    #[inline(always)]
    pub const fn end_run(&mut self) {
        self.flags &= (1 << end_flags::RUN_SHIFT) - 1;
    }

    /// Largest window that it announced, in octets: that of its SYN as it is,
    /// every later one scaled (RFC 7323 section 2.2).
    #[inline(always)]
    #[must_use]
    pub const fn window(&self) -> u32 {
        const _: () = assert!(end_flags::SPOKE == 1 << 5);
        let spoke = self.flags >> 5 & 1;
        (self.max_window as u32) << ((self.scale() * spoke) & 0x0f)
    }

    /// Packets it sent.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets_low as u64 | (self.packets_high as u64) << 32
    }

    /// Counts one packet of `bytes` octets.
    #[inline(always)]
    pub const fn count(&mut self, bytes: u32) {
        self.bytes = self.bytes.wrapping_add(bytes as u64);
        self.packets_low = self.packets_low.wrapping_add(1);
        if self.packets_low == 0 {
            self.packets_high = self.packets_high.wrapping_add(1);
        }
    }
}

/// One tracked connection.
///
/// Written by the programs under [`Flow::lock`] only; read by anybody. An
/// all-zero value is a *blank*: inserted, not yet filled, no flow of anyone's.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Flow {
    /// Guards every other field.
    pub lock: SpinLock,
    /// Tag of the key that owns this memory, or 0 for a blank or dying element:
    /// whoever holds a pointer and finds another tag must let go.
    pub tag: u32,
    /// Tells this flow from earlier ones of the same key.
    pub generation: u32,
    /// When it came to be.
    pub first: Tick,
    /// When its time-out last began to run: at its last accepted segment; in a
    /// handshake and in TIME_WAIT, at its last progress.
    pub last: Tick,
    /// Rule that admitted it (0: none).
    pub rule: u16,
    /// Generation of the policy that last judged it, modulo 2^13, and, above it,
    /// the profile of its time-outs; see [`Flow::judged`].
    pub policy: u16,
    /// [`held`] and [`flow_flags`].
    pub flags: u16,
    /// SYN to the ACK that completes the handshake: the round trip between the
    /// endpoints, wherever the tracker stands. Not known after a
    /// retransmission (Karn's algorithm, RFC 6298 section 3).
    pub handshake_rtt: ShortMicros,
    /// Where the initiator's and the responder's packets were last seen.
    pub paths: [Path; 2],
    /// Initiator and responder (RFC 5103).
    pub ends: [Endpoint; 2],
}

const _: () = assert!(size_of::<Endpoint>() == 40);
const _: () = assert!(size_of::<Flow>() == 120);
const _: () = assert!(core::mem::offset_of!(Flow, lock) == 0);

/// Bits of [`Flow::policy`] that hold the generation.
const GENERATION_BITS: u32 = 13;
const GENERATION: u16 = (1 << GENERATION_BITS) - 1;

/// Index of the initiator in [`Flow::ends`] and [`Flow::paths`].
pub const INITIATOR: usize = 0;
/// Index of the responder.
pub const RESPONDER: usize = 1;

impl Flow {
    /// Whether all of `flags` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Index of the endpoint that is the key's `side`.
    #[inline(always)]
    #[must_use]
    pub const fn index_of(&self, side: super::Side) -> usize {
        let side_is_high = matches!(side, super::Side::High);
        if side_is_high == self.has(flow_flags::INITIATOR_HIGH) {
            INITIATOR
        } else {
            RESPONDER
        }
    }

    /// Row of [`super::Live::timeouts`] that holds for it, 0 to 7.
    #[inline(always)]
    #[must_use]
    pub const fn profile(&self) -> usize {
        (self.policy >> GENERATION_BITS) as usize & 7
    }

    /// Sets the generation of the policy that has judged it (modulo 2^13: who is
    /// silent for 8,192 changes of the policy is not judged anew), and its profile.
    #[inline(always)]
    pub const fn judged(&mut self, policy: u16, profile: u8) {
        self.policy = policy & GENERATION | (profile as u16) << GENERATION_BITS;
    }

    /// Not 0 if another policy than that of generation `policy` has judged it.
    #[inline(always)]
    #[must_use]
    pub const fn is_stale(&self, policy: u16) -> u16 {
        (self.policy ^ policy) & GENERATION
    }

    /// Ends this flow: its memory becomes nobody's, and every program
    /// that holds a pointer to it lets go. Gives the [`held`] bits that the
    /// caller must give back. The caller deletes the element, and only it may.
    #[inline(always)]
    pub const fn retire(&mut self) -> u16 {
        let released = self.flags & held::MASK;
        self.flags &= !held::MASK;
        self.tag = 0;
        released
    }

    /// Name of this flow in events and side maps.
    #[inline(always)]
    #[must_use]
    pub const fn id(&self) -> FlowId {
        FlowId((self.tag as u64) << 32 | self.generation as u64)
    }

    /// Whether its segments are exempt from window checks: for good, or until
    /// both ends of a connection met in mid-life have been seen.
    #[inline(always)]
    #[must_use]
    pub const fn is_liberal(&self) -> bool {
        self.flags & (flow_flags::LIBERAL | held::PICKUP) != 0
    }

    /// Whether its handshake was not seen, so that an endpoint may have sent
    /// more than was seen, and no window scale is known.
    #[inline(always)]
    #[must_use]
    pub const fn is_unanchored(&self) -> bool {
        const UNSEEN: u32 =
            1 << Origin::Pickup as u32 | 1 << Origin::Socket as u32 | 1 << Origin::Conntrack as u32;
        let origin = (self.flags & flow_flags::ORIGIN_MASK) >> flow_flags::ORIGIN_SHIFT;
        UNSEEN >> origin & 1 != 0
    }

    /// Whether nothing but its states is known: userspace told of the connection, and
    /// no segment of it has been seen yet.
    #[inline(always)]
    #[must_use]
    pub const fn is_unread(&self) -> bool {
        // Whatever a segment brings leaves a window behind.
        (self.ends[0].max_window | self.ends[1].max_window) == 0 && self.is_unanchored()
    }

    /// How it came to be known.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        Origin::from_raw(((self.flags & flow_flags::ORIGIN_MASK) >> flow_flags::ORIGIN_SHIFT) as u8)
    }

    /// States of initiator and responder.
    #[must_use]
    pub const fn states(&self) -> [State; 2] {
        [self.ends[INITIATOR].state(), self.ends[RESPONDER].state()]
    }

    /// The same for the packet path.
    #[inline(always)]
    #[must_use]
    pub const fn bits(&self) -> [Bits; 2] {
        [self.ends[INITIATOR].bits(), self.ends[RESPONDER].bits()]
    }

    /// Sequence number of its newest event, modulo 256.
    #[inline(always)]
    #[must_use]
    pub const fn event_seq(&self) -> u8 {
        self.ends[INITIATOR].tally
    }

    /// Takes the next event sequence number.
    #[inline(always)]
    pub const fn next_event(&mut self) -> u8 {
        self.ends[INITIATOR].tally = self.ends[INITIATOR].tally.wrapping_add(1);
        self.ends[INITIATOR].tally
    }

    /// How often a retransmission suggested that a state taken on sight had not
    /// been reached; stops at 63.
    #[inline(always)]
    #[must_use]
    pub const fn disproved(&self) -> u8 {
        self.ends[RESPONDER].tally & Self::DISPROVED
    }

    /// Counts one more of those, which took back the state of `ends[side]`.
    #[inline(always)]
    pub const fn doubt(&mut self, side: usize) {
        let tally = &mut self.ends[RESPONDER].tally;
        if *tally & Self::DISPROVED != Self::DISPROVED {
            *tally += 1;
        }
        *tally |= (Self::DISPROVED + 1) << (side & 1);
    }

    /// Whether the state of either end was taken back.
    #[inline(always)]
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.doubted() != 0
    }

    /// The same as a number, 0 for no.
    #[inline(always)]
    pub(crate) const fn doubted(&self) -> u8 {
        self.ends[RESPONDER].tally & !Self::DISPROVED
    }

    /// Whether the state of `ends[side]` was taken back.
    #[inline(always)]
    #[must_use]
    pub const fn doubts(&self, side: usize) -> bool {
        self.ends[RESPONDER].tally & ((Self::DISPROVED + 1) << (side & 1)) != 0
    }

    /// All ones if the state of `ends[side]` was taken back, else 0.
    #[inline(always)]
    pub(crate) const fn doubt_mask(&self, side: u32) -> u8 {
        let bit = self.ends[RESPONDER].tally >> (Self::DISPROVED.trailing_ones() + side) & 1;
        0_u8.wrapping_sub(bit)
    }

    /// Ends the doubt about `ends[side]`.
    #[inline(always)]
    pub const fn end_doubt(&mut self, side: usize) {
        self.ends[RESPONDER].tally &= !((Self::DISPROVED + 1) << (side & 1));
    }

    /// Ends all doubt.
    #[inline(always)]
    pub const fn end_doubts(&mut self) {
        self.ends[RESPONDER].tally &= Self::DISPROVED;
    }

    /// Bits of the responder's tally that count.
    const DISPROVED: u8 = 0x3f;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_what_fits_and_owns_up_to_what_does_not() {
        let path = Path::new(0x7b_cdef, 4095, 1);
        for (path, leaves) in [(path, false), (path.leaving(), true)] {
            assert_eq!(
                (path.ifindex(), path.outer(), path.inner(), path.leaves()),
                (0x7b_cdef, 4095, 1, leaves)
            );
            assert_eq!(path.differs(Path::new(0x7b_cdef, 4095, 1)) != 0, leaves);
        }
        assert_eq!(Path::new(1 << 23, 5, 0).ifindex(), 0);
    }

    #[test]
    fn state_and_scale_share_a_byte_without_touching() {
        let mut end = Endpoint::default();
        end.set_scale(14);
        end.set_state(State::TimeWait);
        assert_eq!((end.state(), end.scale()), (State::TimeWait, 14));
        end.set_scale(3);
        assert_eq!((end.state(), end.scale()), (State::TimeWait, 3));
    }

    #[test]
    fn packets_carry_into_the_high_half() {
        let mut end = Endpoint {
            packets_low: u32::MAX,
            ..Endpoint::default()
        };
        end.count(60);
        assert_eq!((end.packets(), end.bytes), (1 << 32, 60));
    }

    #[test]
    fn origins_round_trip() {
        for raw in 0..5 {
            assert_eq!(Origin::from_raw(raw) as u8, raw);
        }
        assert_eq!(Origin::from_raw(7), Origin::Pickup);
    }
}
