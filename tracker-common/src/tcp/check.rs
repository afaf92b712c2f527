//! Whether the numbers of a segment can be its sender's: windows,
//! acknowledgements and timestamps.
//!
//! The four bounds are those of Guido van Rooij, "Real Stateful TCP Packet
//! Filtering in IP Filter" (2000), which nf_conntrack (`tcp_in_window`) and pf
//! (`pf_tcp_track_full`) use, too. For a segment from *me* to *peer*:
//!
//! | | holds for an honest segment | field | otherwise |
//! |---|---|---|---|
//! | I | `seq <= me.max_end`, the right edge of the peer's windows | sequence | [`Reason::BeyondWindow`] |
//! | II | `end >= me.end - peer.window` | sequence | [`Reason::SegmentTooOld`] |
//! | III | `ack <= peer.end` | acknowledgement | [`Reason::AckUnsent`] |
//! | IV | `ack >= me.ack - me.window` | acknowledgement | [`Reason::AckTooOld`] |
//!
//! I and III cannot be broken by any loss, duplication or reordering, as long
//! as the tracker sees what both ends send: the edge was announced, and the data
//! sent, before anybody could use it. So they refuse. II and IV are what an old
//! duplicate breaks, and an old duplicate is honest: its receiver answers it
//! with an ACK that its sender may be waiting for. So they only keep it from
//! moving anything.

use super::{Bits, Flags, Options, Segment, State};
use crate::{
    abi::{Bound, Endpoint, Flow, end_flags, flow_flags},
    reason::Reason,
    seq::Seq,
    time::{TICK_NS, Tick},
};

/// How much older than the newest a timestamp may be, in its ticks, when they
/// are the shortest that RFC 7323 section 5.4 allows: 30 s at 1 ms. A clock that
/// ticks more slowly is granted more. What pf grants (`tcp.tsdiff`, 30 s).
const PAWS_TICKS: u32 = 30_000;

/// The same for microseconds.
const PAWS_FAST_TICKS: u32 = 1000 * PAWS_TICKS;

/// After a silence this long a timestamp says nothing: its clock may have
/// wrapped (RFC 7323 section 5.5, 24 days).
const PAWS_SILENCE: u32 = (24 * 86_400 * 1_000_000_000_u64 / TICK_NS) as u32;

/// Milliseconds in a [`Tick`], twice over and rounded down to a power of two:
/// no honest clock of 1 kHz gets ahead by more.
const TICK_MS_TWICE: u32 = 8;

/// How far, in ticks of the sender's clock, segments may have been apart that
/// the network has pushed together.
const BUNCHING: u32 = 1000;

/// No window is larger, in octets (RFC 7323 section 2.3).
pub const LARGEST_WINDOW: u32 = 1 << 30;

/// The states in which an endpoint has acknowledged nothing yet.
const SILENT: u16 = Bits::set(&[State::Listen, State::SynSent]);

/// Whether timestamp `a` is later than `b` (RFC 7323 section 5.2).
#[inline(always)]
pub const fn newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Looks at the numbers of a segment without SYN and RST. Gives the [`Reason`]
/// of the check that it fails as a number, 0 when it passes all, and writes
/// down what was compared with what.
///
/// Both endpoints are past their first SYN. `me` and `peer` are the endpoints
/// of its sender and of its receiver.
#[inline(always)]
pub fn numbers(
    flow: &Flow,
    me: &Endpoint,
    peer: &Endpoint,
    segment: &Segment,
    now: Tick,
    bound: &mut Bound,
) -> u8 {
    let Segment { seq, ack, .. } = *segment;
    // PAWS comes before anything else (RFC 7323 section 5.3, R1).
    if is_stamped(me, segment) {
        let grace = if flow.has(flow_flags::FAST_TIMESTAMPS) {
            PAWS_FAST_TICKS
        } else {
            PAWS_TICKS
        };
        let oldest = me.ts.wrapping_sub(grace);
        if newer(oldest, segment.options.ts_value) && now.since(flow.last) < PAWS_SILENCE {
            *bound = Bound {
                value: segment.options.ts_value,
                low: oldest,
                high: me.ts,
            };
            return Reason::TimestampOld as u8;
        }
    }
    // I. The RFC's receiver takes what begins inside its window (RFC 9293
    // section 3.10.7.4, first), so the start decides.
    if seq.after(me.max_end) {
        let silent = peer.bits().among(SILENT);
        *bound = Bound {
            value: seq.0,
            low: if silent { me.isn.0 } else { peer.ack.0 },
            high: me.max_end.0,
        };
        return Reason::BeyondWindow as u8;
    }
    // III. Of a connection met in mid-life not all was seen that was sent: then
    // the bound is the right edge, which nothing sent lies beyond.
    let sent = if flow.is_unanchored() {
        peer.end.max(peer.max_end)
    } else {
        peer.end
    };
    if ack.after(sent) {
        if ack.0 == sent.plus(1).0 && sent.0 == peer.max_end.0 {
            return Reason::WindowEdge as u8;
        }
        *bound = Bound {
            value: ack.0,
            low: peer.isn.0,
            high: sent.0,
        };
        return Reason::AckUnsent as u8;
    }
    let length = segment.length();
    // An empty segment may lie at the edge only if all before it has been sent.
    if (length != 0 || seq.after(me.end)) && seq.0 == me.max_end.0 {
        return Reason::WindowEdge as u8;
    }
    // IV. Until its first ACK an initiator's field holds something else.
    if !me.bits().is(State::SynSent) && ack.before(me.ack.minus(me.window())) {
        return Reason::AckTooOld as u8;
    }
    // What the receiver has acknowledged it throws away, the acknowledgement
    // included (RFC 9293 section 3.10.7.4, first: "if an incoming segment is
    // not acceptable, an acknowledgment should be sent in reply … drop"). An
    // empty segment is acceptable from where the window starts; any other needs
    // an octet in it.
    let reach = seq.plus(if length == 0 { 1 } else { length });
    if !peer.bits().among(SILENT) && !reach.after(peer.ack) && !is_fin_again(me, peer, segment) {
        // II.
        if segment.end().before(me.end.minus(peer.window())) {
            return Reason::SegmentTooOld as u8;
        }
        return Reason::AlreadyReceived as u8;
    }
    0
}

/// Whether a segment's timestamp can be compared with its sender's newest.
#[inline(always)]
const fn is_stamped(me: &Endpoint, segment: &Segment) -> bool {
    me.has(end_flags::TIMESTAMPS) && segment.options.has(Options::TIMESTAMPS)
}

/// Whether this is the FIN that was sent before, as it was sent. Its receiver
/// throws it away like any other, but it tells that its sender has no
/// acknowledgement yet. Or with the acknowledgement of the receiver's FIN, which
/// may not come in any other way: Linux takes it (`tcp_sequence`), and is then
/// silent. With any other acknowledgement it may be anybody's.
#[inline(always)]
const fn is_fin_again(me: &Endpoint, peer: &Endpoint, segment: &Segment) -> bool {
    let acks_fin = peer.has(end_flags::FIN) & (segment.ack.0 == peer.end.0);
    segment.flags.has(Flags::FIN)
        && me.has(end_flags::FIN)
        && segment.end().0 == me.end.0
        && (segment.ack.0 == me.ack.0 || acks_fin)
}

/// Takes the timestamp of a segment that counts.
///
/// Only a segment that begins where its receiver has acknowledged, or before,
/// may move the newest (RFC 7323 section 4.3, rule 2): so nobody who cannot hit
/// that number makes honest timestamps look old.
#[inline(always)]
pub fn take_timestamp(flow: &mut Flow, me: usize, peer: usize, segment: &Segment, now: Tick) {
    if !segment.options.has(Options::TIMESTAMPS) {
        return;
    }
    let (sender, receiver) = (&flow.ends[me], &flow.ends[peer]);
    let value = segment.options.ts_value;
    if !sender.has(end_flags::SEEN) {
        // Of a connection met in mid-life, its first.
        flow.ends[me].flags |= end_flags::TIMESTAMPS;
        flow.ends[me].ts = value;
        return;
    }
    if receiver.bits().among(SILENT) || segment.seq.after(receiver.ack) || !newer(value, sender.ts)
    {
        return;
    }
    let possible = BUNCHING.wrapping_add(now.since(flow.last).wrapping_mul(TICK_MS_TWICE));
    if value.wrapping_sub(sender.ts) > possible {
        flow.flags |= flow_flags::FAST_TIMESTAMPS;
    }
    flow.ends[me].ts = value;
}

/// Whether `ends[sender]` has a segment with the sequence number `seq` in
/// flight, as an ICMP error claims that quotes it (RFC 5927 section 4.1:
/// `SND.UNA =< SEG.SEQ < SND.NXT`; an empty segment carries SND.NXT itself).
#[inline(always)]
#[must_use]
pub fn in_flight(flow: &Flow, sender: usize, seq: Seq) -> bool {
    let (me, peer) = (&flow.ends[sender & 1], &flow.ends[(sender & 1) ^ 1]);
    let acknowledged = if peer.bits().among(SILENT) {
        me.isn
    } else {
        peer.ack
    };
    flow.is_liberal() || !(seq.before(acknowledged) || seq.after(me.end))
}
