//! What the programs report through the ring buffers.

use super::{FlowId, Key};

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// It came to be.
    Opened = 1,
    /// A state of one endpoint or of both changed.
    Changed = 2,
    /// It was removed; the event carries its totals.
    Ended = 3,
    /// Of no flow: half-open flows have become many. Everything else is 0.
    Pressure = 4,
    /// Of no flow: a rule of the policy that asks for reports has decided about a
    /// connection. [`Event::rule`] names it, [`Event::reason`] says what,
    /// [`Event::flags`] are the segment's [`crate::tcp::Flags`], [`Event::packets`]
    /// begins with how many such reports were left out since the last one.
    Decided = 5,
}

impl EventKind {
    /// The kind whose number is `raw`.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Opened),
            2 => Some(Self::Changed),
            3 => Some(Self::Ended),
            4 => Some(Self::Pressure),
            5 => Some(Self::Decided),
            _ => None,
        }
    }
}

/// One record of the rings `EVENTS` and `EMBRYO_EVENTS`.
///
/// An event's `seq` follows that of the same flow's event before it by one,
/// modulo 256: a reader that misses one knows.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Event {
    /// Coarse `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// The flow.
    pub flow: FlowId,
    /// Its key.
    pub key: Key,
    /// [`super::Family`] as a number.
    pub family: u8,
    /// [`EventKind`] as a number.
    pub kind: u8,
    /// [`crate::reason::Reason`] of the packet, or [`super::Cause`] of an end.
    pub reason: u8,
    /// See the type.
    pub seq: u8,
    /// [`crate::tcp::State`]s of initiator and responder before, as numbers.
    pub before: [u8; 2],
    /// The same, after.
    pub after: [u8; 2],
    /// [`super::Flow::flags`].
    pub flags: u16,
    /// [`crate::time::ShortMicros`] of the handshake.
    pub handshake_rtt: u16,
    /// Interface on which the packet was seen; 0 for an end without a packet.
    pub ifindex: u32,
    /// Packets sent by initiator and responder so far.
    pub packets: [u64; 2],
    /// Octets sent by initiator and responder so far.
    pub bytes: [u64; 2],
    /// [`super::Flow::rule`].
    pub rule: u16,
    /// Of a decision, [`crate::policy::Direction`] as a number.
    pub direction: u8,
    /// Of a decision, the [`super::Side`] that sent the packet, as a number.
    pub from: u8,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Event>() == 112);
