//! The way that nearly every segment takes: between two ends that are
//! established, in order, acknowledging nothing odd.
//!
//! It decides nothing of its own. What [`fits`] lets in, the whole way
//! ([`super::track`]) would find nothing wrong with and move no state for; the
//! tests hold both against each other on random flows. What it saves is looking
//! at everything else that could be: about a third of the time under the lock.

use super::{
    Context, Flags, Options, Segment, State, check,
    timeout::{self, Class},
    track::{carry, open_window},
};
use crate::abi::{Flow, Live, end_flags, flow_flags, held};

/// Facts about a flow that ask for a closer look: handshake or proof open,
/// exempt from checks, an RST that somebody has to answer, an origin
/// that leaves numbers open.
const SPECIAL: u16 =
    held::HANDSHAKE | held::PICKUP | flow_flags::LIBERAL | flow_flags::RST_INEXACT_BOTH;

/// Facts about an endpoint that are looked at, of which only that it was seen must
/// hold.
const END_MASK: u8 = end_flags::FIN | end_flags::SEEN;
const END_WANTED: u8 = end_flags::SEEN;

/// Flags that are looked at, and which of them must be set: data may be pushed or
/// urgent, and congestion may be told.
const FLAG_MASK: u8 = Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK;

/// Whether a segment with `flags` may be one for [`pass`].
#[inline(always)]
#[must_use]
pub const fn is_plain(flags: Flags) -> bool {
    flags.0 & FLAG_MASK == Flags::ACK
}

/// Whether `segment`, sent by `ends[me]`, may take this way.
///
/// Each term has its sign bit clear where it holds, and they are joined by `|`: a
/// comparison would be a branch, of which BPF has no other kind, and twice as
/// many ways for the verifier to follow.
#[inline(always)]
fn fits(
    flow: &Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    context: &Context,
    live: &Live,
) -> bool {
    const ESTABLISHED: u8 = State::Established as u8;
    let (sender, receiver) = (&flow.ends[me], &flow.ends[peer]);
    let states = (sender.bits().number() ^ ESTABLISHED) | (receiver.bits().number() ^ ESTABLISHED);
    let flags = (segment.flags.0 & FLAG_MASK) ^ Flags::ACK;
    let ends =
        ((sender.flags & END_MASK) ^ END_WANTED) | ((receiver.flags & END_MASK) ^ END_WANTED);
    let odd = u16::from(states | flags | ends | segment.fragmented | flow.doubted())
        | (flow.flags & SPECIAL)
        | u16::from(flow.is_unanchored())
        | flow.is_stale(context.policy);

    // I, and that it begins where its receiver waits, or behind.
    let window = sender.max_end.since(receiver.ack);
    let begins = segment.seq.since(receiver.ack);
    // III, and that it acknowledges no less than the last one.
    let unacknowledged = receiver.end.since(sender.ack);
    let acknowledges = segment.ack.since(sender.ack);
    // PAWS, where there are timestamps: not older at all.
    let stamped = u32::from(sender.flags & segment.options.present & Options::TIMESTAMPS);
    let advance = segment.options.ts_value.wrapping_sub(sender.ts);
    let masked = advance & 0_u32.wrapping_sub(stamped / u32::from(Options::TIMESTAMPS));
    // None of the three time-outs that such a flow can have.
    let waited = context.now.since(flow.last);
    let timeouts = &live.timeouts[flow.profile()];
    let [own, unanswered, retransmitting] = [
        timeouts[Class::Established as usize],
        timeouts[Class::Unacknowledged as usize],
        timeouts[Class::Retransmitting as usize],
    ];
    let fails = less(odd.into(), 1, context)
        | less(begins, window, context)
        | less(waited, timeout::scaled(own, live), context)
        | less(waited, timeout::scaled(unanswered, live), context)
        | less(waited, timeout::scaled(retransmitting, live), context)
        | !less(unacknowledged, acknowledges, context)
        | u64::from(window | unacknowledged | masked) << 32;
    fails >> 63 == 0
}

/// A number whose sign bit is clear if `a` is less than `b`.
#[inline(always)]
const fn less(a: u32, b: u32, context: &Context) -> u64 {
    // Veiled, or the compiler sees through it and compares.
    !(a as u64)
        .wrapping_add(context.veil as u64)
        .wrapping_sub(b as u64)
}

/// Lets `segment`, sent by `ends[sender]`, act on `flow`, if it is an ordinary one:
/// then it leaves as [`crate::reason::Reason::Tracked`], and that is all. Else
/// nothing has happened, and [`super::meet`] is for it.
///
/// The caller holds the flow's lock and has checked its tag.
#[inline(always)]
pub fn pass(
    flow: &mut Flow,
    segment: &Segment,
    sender: usize,
    context: &Context,
    live: &Live,
) -> bool {
    // Added and masked, not xored: Linux 6.1 loses the bounds of a 32-bit xor.
    let me = sender.wrapping_add(context.veil.into()) & 1;
    let peer = me.wrapping_add(1) & 1;
    if !context.veiled(fits(flow, me, peer, segment, context, live)) {
        return false;
    }
    let segment = &segment.veiled(context.veil);
    open_window(flow, me, peer, segment);
    check::take_timestamp(flow, me, peer, segment, context.now);
    carry(flow, me, peer, segment, false);
    flow.ends[me].count(context.bytes);
    flow.paths[me] = context.path;
    flow.last = context.now;
    true
}
