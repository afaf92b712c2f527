//! What one segment does to the flow it belongs to.
//!
//! This runs under the flow's lock in the kernel, so all of it is inlined, and
//! the verifier follows every path through it. Two habits keep their number
//! small: endpoints are chosen by index, not by branch; and what was decided is
//! added to [`Context::veil`], a zero whose value the verifier does not
//! know, so that paths which decided differently meet again.

use super::{
    Bits, Flags, Options, Received, Segment, Sent, State, arriving,
    open::{at_least_one, begin},
    sending, timeout,
};
use crate::{
    abi::{
        Endpoint, EventKind, Flow, INITIATOR, Live, Path, RESPONDER, end_flags, flow_flags, held,
    },
    reason::{Class, Reason},
    seq::Seq,
    time::{Micros, ShortMicros, Tick},
};

/// What is true of the moment and the packet, beside the segment itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// Now.
    pub now: Tick,
    /// Now, exactly; only read on handshake segments, 0 on others.
    pub micros: Micros,
    /// Where the packet was seen.
    pub path: Path,
    /// Octets of the IP datagram.
    pub bytes: u32,
    /// Policy generation in force.
    pub policy: u16,
    /// 1 when this packet has just ended an earlier flow of its key.
    pub replaced: u8,
    /// Zero. See the module.
    pub veil: u8,
}

/// What became of a segment and what the shell has to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// The reason with which the packet leaves, unless `replace` is set.
    pub reason: Reason,
    /// 1: the flow is over or expired, and this segment is to be treated as if
    /// it were absent: remove it, then admit the segment anew.
    pub replace: u8,
    /// [`EventKind`] to report under the sequence number `seq`, 0 for none.
    pub event: u8,
    /// 1: the event belongs in the ring of connections that have not completed
    /// their handshake.
    pub embryo: u8,
    /// See `event`.
    pub seq: u8,
    /// States of initiator and responder before.
    pub before: [Bits; 2],
    /// The same, after.
    pub after: [Bits; 2],
    /// Bits of [`held`] that the flow gave back: the shell lowers the counters.
    pub released: u16,
}

/// Both ends CLOSED.
pub const CLOSED: [Bits; 2] = [Bits::of(State::Closed as u8); 2];

impl Default for Outcome {
    fn default() -> Self {
        Self {
            reason: Reason::Tracked,
            replace: 0,
            event: 0,
            embryo: 0,
            seq: 0,
            before: CLOSED,
            after: CLOSED,
            released: 0,
        }
    }
}

/// What is decided about a segment before anything is written.
struct Judgement {
    /// Column of the table ([`Sent`]), or [`Judgement::LEAVE`] or
    /// [`Judgement::REPLACE`].
    sent: u8,
    /// [`Reason`] as a number.
    reason: u8,
}

impl Judgement {
    /// The segment moves nothing. It counts to the flow unless its reason
    /// refuses it.
    const LEAVE: u8 = 8;
    /// The flow is to be treated as absent.
    const REPLACE: u8 = 9;

    #[inline(always)]
    const fn leave(reason: Reason) -> Self {
        Self {
            sent: Self::LEAVE,
            reason: reason as u8,
        }
    }

    #[inline(always)]
    const fn take(sent: Sent, reason: Reason) -> Self {
        Self {
            sent: sent as u8,
            reason: reason as u8,
        }
    }

    #[inline(always)]
    const fn replace() -> Self {
        Self {
            sent: Self::REPLACE,
            reason: Reason::FlowReopened as u8,
        }
    }
}

/// Lets `segment`, sent by `ends[sender]`, act on `flow`; what became of it is
/// in `outcome` afterwards, whatever was there before.
///
/// The caller holds the flow's lock and has checked its tag. No helper and no
/// function is called from here once compiled for BPF.
#[inline(always)]
pub fn meet(
    flow: &mut Flow,
    segment: &Segment,
    sender: usize,
    context: &Context,
    live: &Live,
    outcome: &mut Outcome,
) {
    let me = sender & 1;
    let peer = me ^ 1;
    let before = flow.bits();
    outcome.before = before;
    outcome.after = before;
    outcome.replace = 0;
    outcome.event = 0;
    outcome.released = 0;
    if timeout::expired(flow, context.now, live) {
        outcome.replace = 1;
        return;
    }
    let judgement = judge(flow, me, peer, segment);
    if judgement.sent == Judgement::REPLACE {
        outcome.replace = 1;
        return;
    }
    let reason = Reason::known(judgement.reason.wrapping_add(context.veil));
    outcome.reason = reason;
    if judgement.sent == Judgement::LEAVE {
        if !matches!(reason.class(), Class::Refuse) {
            flow.ends[me].count(context.bytes);
            if matches!(reason, Reason::SynOnLive) {
                flow.flags |= flow_flags::SYN_ON_LIVE;
            }
        }
        return;
    }
    let releasable = if judgement.sent == Sent::Reset as u8 {
        close(flow, me, peer);
        held::PICKUP
    } else {
        let sent = judgement.sent.wrapping_add(context.veil);
        take(flow, me, peer, segment, sent, reason, context)
    };
    finish(flow, me, segment, releasable, reason, context, outcome);
}

/// Lets an RST end both endpoints.
#[inline(always)]
fn close(flow: &mut Flow, me: usize, peer: usize) {
    let mine = sending(flow.ends[me].bits(), Sent::Reset as u8).next();
    let theirs = arriving(flow.ends[peer].bits(), Received::Reset as u8).next();
    flow.ends[me].set_bits(mine);
    flow.ends[peer].set_bits(theirs);
}

/// Lets a segment that was judged to be `sent`, and is no RST, move both
/// endpoints. Gives the bits of [`held`] that it proves to be superfluous.
#[inline(always)]
fn take(
    flow: &mut Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    sent: u8,
    reason: Reason,
    context: &Context,
) -> u16 {
    let cell = sending(flow.ends[me].bits(), sent);
    let mut releasable = 0;
    // An old ACK from before the SYN acknowledges nothing of this connection.
    let acknowledges = segment.flags.has(Flags::ACK)
        && (!flow.ends[peer].bits().is_opening() || segment.ack.after(flow.ends[peer].isn));
    if acknowledges {
        let receiver = &flow.ends[peer];
        // Somebody who only sends can be anybody; who acknowledges what the
        // other side was seen to send has received it.
        if receiver.has(end_flags::SEEN)
            && !segment.ack.before(receiver.isn)
            && !segment.ack.after(receiver.end)
        {
            releasable = held::PICKUP;
        }
        let acks_fin = receiver.has(end_flags::FIN) && !segment.ack.before(receiver.end);
        let received = if acks_fin {
            Received::AckOfFin
        } else {
            Received::AckOfSyn
        };
        let next = arriving(receiver.bits(), (received as u8).wrapping_add(context.veil)).next();
        flow.ends[peer].set_bits(next);
        open_window(flow, me, peer, segment);
    }
    if segment.flags.has(Flags::SYN) {
        synchronize(flow, me, peer, segment, reason, context);
    } else {
        advance(flow, me, peer, segment, context);
    }
    flow.ends[me].set_bits(cell.next());
    if cell.is_back() {
        flow.count_disproved();
    }
    releasable ^ context.veil as u16
}

/// Writes down what holds for every segment that counts, and says what became
/// of it.
#[inline(always)]
fn finish(
    flow: &mut Flow,
    me: usize,
    segment: &Segment,
    releasable: u16,
    reason: Reason,
    context: &Context,
    outcome: &mut Outcome,
) {
    flow.ends[me].flags |= end_flags::SEEN;
    flow.ends[me].count(context.bytes);
    flow.paths[me] = context.path;
    if segment.fragmented != 0 {
        flow.flags |= flow_flags::LIBERAL;
        if matches!(reason, Reason::Tracked) {
            outcome.reason = Reason::FirstFragment;
        }
    }
    let [before_initiator, before_responder] = outcome.before;
    let after = flow.bits();
    outcome.after = after;
    let [initiator, responder] = after;
    let moved = (before_initiator.number() ^ initiator.number())
        | (before_responder.number() ^ responder.number());
    // In TIME_WAIT only a FIN that comes again starts 2MSL anew (RFC 9293
    // section 3.10.7.4, eighth); whatever else trickles in does not.
    if moved != 0 || segment.flags.has(Flags::FIN) || !timeout::waits_2msl(after) {
        flow.last = context.now;
    }
    settle(flow, releasable, outcome);
    if moved != 0 {
        outcome.event = EventKind::Changed as u8;
        outcome.seq = flow.next_event();
    }
}

/// Takes the numbers and offers of a SYN or SYN-ACK.
#[inline(always)]
fn synchronize(
    flow: &mut Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    reason: Reason,
    context: &Context,
) {
    if matches!(
        reason,
        Reason::SynRetransmit | Reason::SynAckRetransmit | Reason::SynAckRenewed
    ) {
        // An initiator's count is of SYNs, a responder's of SYN-ACKs; in a
        // simultaneous open each sends both.
        let counts = segment.flags.has(Flags::ACK) == (me == RESPONDER);
        if counts {
            flow.ends[me].syn_retransmits = flow.ends[me].syn_retransmits.saturating_add(1);
        }
    }
    if matches!(reason, Reason::SynRenewed) {
        flow.ends[me].syn_retransmits = 0;
    }
    let sent_before = flow.ends[me].end;
    let same = flow.ends[me].has(end_flags::SEEN) && flow.ends[me].isn.0 == segment.seq.0;
    begin(&mut flow.ends[me], segment);
    // One that comes again may leave out the data that the first one carried
    // (RFC 7413 section 4.1.3), which stays sent.
    if same {
        flow.ends[me].end = flow.ends[me].end.max(sent_before);
    }
    if segment.flags.has(Flags::ACK) {
        flow.ends[me].ack = segment.ack;
        // Window scaling is in force only if both SYNs offered it (RFC 7323
        // section 2.2).
        if flow.ends[me].flags & flow.ends[peer].flags & end_flags::SCALE == 0 {
            flow.ends[me].set_scale(0);
            flow.ends[peer].set_scale(0);
        }
    } else if me == INITIATOR {
        flow.ends[me].ack = Seq(context.micros.0);
    }
}

/// Takes the numbers of a segment after the SYN.
#[inline(always)]
fn advance(flow: &mut Flow, me: usize, peer: usize, segment: &Segment, context: &Context) {
    if flow.ends[me].bits().is(State::SynSent) {
        // Karn: a repeated SYN or SYN-ACK leaves open which one was answered.
        if me == INITIATOR && flow.ends[0].syn_retransmits | flow.ends[1].syn_retransmits == 0 {
            let syn = Micros(flow.ends[me].ack.0);
            flow.handshake_rtt = ShortMicros::pack(context.micros.since(syn));
        }
        flow.ends[me].ack = segment.ack;
    }
    let end = &mut flow.ends[me];
    end.flags |= end_flags::SPOKE;
    end.ack = end.ack.max(segment.ack);
    end.end = end.end.max(segment.end());
    if segment.flags.has(Flags::FIN) {
        end.flags |= end_flags::FIN;
    }
    if segment.window > end.max_window {
        end.max_window = segment.window;
    }
    if segment.options.has(Options::TIMESTAMPS) && newer(segment.options.ts_value, end.ts) {
        end.ts = segment.options.ts_value;
    }
    if flow.has(flow_flags::LIBERAL) {
        // Of a liberal flow only part has been seen.
        flow.ends[peer].end = flow.ends[peer].end.max(segment.ack);
    }
}

/// Takes the window that a segment opens to its receiver.
#[inline(always)]
fn open_window(flow: &mut Flow, me: usize, peer: usize, segment: &Segment) {
    let shift = if segment.flags.has(Flags::SYN) {
        0
    } else {
        flow.ends[me].scale() & 0x0f
    };
    let allowed = segment
        .ack
        .plus(u32::from(at_least_one(segment.window)) << shift);
    // Nothing to compare with before the first one.
    let known = flow.ends[me].has(end_flags::SEEN);
    let end = &mut flow.ends[peer];
    if !known || end.max_end.before(allowed) {
        end.max_end = allowed;
    }
}

/// Gives back what the flow no longer needs to hold: `releasable`, what the end
/// of the handshake frees, and everything once both ends are closed.
#[inline(always)]
fn settle(flow: &mut Flow, releasable: u16, outcome: &mut Outcome) {
    let [initiator, responder] = outcome.after;
    let closed = (initiator.number() | responder.number()) == State::Closed as u8;
    let opening = initiator.is_opening() | responder.is_opening();
    let was_opening = outcome.before[0].is_opening() | outcome.before[1].is_opening();
    let mut released = flow.flags & releasable;
    if !opening {
        released |= flow.flags & held::HALF_OPEN;
    }
    if closed {
        released |= flow.flags & (held::HALF_OPEN | held::PICKUP);
    }
    flow.flags &= !released;
    outcome.released = released;
    let embryo = opening | (was_opening & closed) | flow.has(held::PICKUP);
    outcome.embryo = embryo as u8;
}

/// Decides what a segment is to its flow, by flags and by numbers.
#[inline(always)]
fn judge(flow: &Flow, me: usize, peer: usize, segment: &Segment) -> Judgement {
    let (me, peer) = (&flow.ends[me], &flow.ends[peer]);
    let flags = segment.flags;
    let (mine, theirs) = (me.bits(), peer.bits());
    if segment.is_syn() {
        return judge_syn(me, peer, segment);
    }
    if (mine.number() | theirs.number()) == State::Closed as u8 {
        return Judgement::leave(Reason::AfterClose);
    }
    let acks_syn = segment.ack.after(peer.isn) && !segment.ack.after(peer.end);
    if flags.has(Flags::RST) {
        // Before any answer the only number that a refusal can prove is the
        // SYN's (RFC 9293 section 3.10.7.3, second).
        let refusal = mine.is(State::Listen) && theirs.is(State::SynSent);
        if refusal && !(flags.has(Flags::ACK) && acks_syn) {
            return Judgement::leave(Reason::ResetWrongAck);
        }
        return Judgement::take(Sent::Reset, Reason::ResetClosed);
    }
    if flags.has(Flags::SYN) {
        return judge_syn_ack(me, peer, segment, acks_syn);
    }
    if mine.among(Bits::set(&[State::Listen, State::SynSent])) {
        // Before its SYN an endpoint says nothing, and it cannot acknowledge a
        // SYN that was never sent. Either way the half that would explain this
        // went past us.
        if mine.is(State::Listen) || theirs.is(State::Listen) {
            return Judgement::leave(Reason::HandshakeUnseen);
        }
        // The third ACK must acknowledge the SYN of the responder (RFC 9293
        // section 3.10.7.4, fifth), else anybody who can send completes a
        // handshake.
        if !acks_syn {
            return Judgement::leave(Reason::HandshakeWrongAck);
        }
    }
    if segment.ack.after(peer.end) && !flow.has(flow_flags::LIBERAL) {
        return Judgement::leave(Reason::AckUnsent);
    }
    if me.has(end_flags::FIN) && segment.end().after(me.end) {
        return Judgement::leave(Reason::BeyondFin);
    }
    let acks_fin = peer.has(end_flags::FIN) && !segment.ack.before(peer.end);
    let sent = match (flags.has(Flags::FIN), acks_fin) {
        (false, false) => Sent::Ack,
        (false, true) => Sent::AckOfFin,
        (true, false) => Sent::Fin,
        (true, true) => Sent::FinAckOfFin,
    };
    if sending(mine, sent as u8).is_odd() {
        return Judgement::leave(Reason::AfterClose);
    }
    let again = me.has(end_flags::FIN) && flags.has(Flags::FIN);
    Judgement::take(
        sent,
        if again {
            Reason::FinRetransmit
        } else {
            Reason::Tracked
        },
    )
}

/// A SYN without ACK.
#[inline(always)]
fn judge_syn(me: &Endpoint, peer: &Endpoint, segment: &Segment) -> Judgement {
    const OVER: u16 = Bits::set(&[State::TimeWait, State::Closed]);
    let (mine, theirs) = (me.bits(), peer.bits());
    if mine.is(State::SynSent) {
        if segment.seq.0 == me.isn.0 {
            return Judgement::take(Sent::Syn, Reason::SynRetransmit);
        }
        // Nothing has answered the first one, so this one may stand for it: a
        // client that started over.
        if theirs.among(Bits::set(&[State::Listen, State::SynSent])) {
            return Judgement::take(Sent::Syn, Reason::SynRenewed);
        }
    }
    // Simultaneous open.
    if mine.is(State::Listen) && theirs.is(State::SynSent) {
        return Judgement::take(Sent::Syn, Reason::Tracked);
    }
    if mine.among(OVER) && theirs.among(OVER) {
        // RFC 6191 section 2 and RFC 1122 section 4.2.2.13: a higher sequence
        // number, or a newer timestamp, tells a new connection from an old
        // duplicate. Either side may be the one that opens it.
        let closed = (mine.number() | theirs.number()) == State::Closed as u8;
        let stamped = segment.options.has(Options::TIMESTAMPS) && me.has(end_flags::TIMESTAMPS);
        if closed
            || segment.seq.after(me.end)
            || (stamped && newer(segment.options.ts_value, me.ts))
        {
            return Judgement::replace();
        }
        return Judgement::leave(Reason::SynInTimeWait);
    }
    Judgement::leave(Reason::SynOnLive)
}

/// A SYN with ACK.
#[inline(always)]
fn judge_syn_ack(me: &Endpoint, peer: &Endpoint, segment: &Segment, acks_syn: bool) -> Judgement {
    let mine = me.bits();
    let same = segment.seq.0 == me.isn.0;
    if mine.is_opening() {
        if !acks_syn {
            return Judgement::leave(Reason::SynAckWrongAck);
        }
        // Passive open; or the second SYN of a simultaneous one, which is the
        // first again with an ACK and keeps its number.
        if mine.is(State::Listen) || (mine.is(State::SynSent) && same) {
            return Judgement::take(Sent::SynAck, Reason::Tracked);
        }
        if mine.is(State::SynReceived) {
            if same {
                return Judgement::take(Sent::SynAck, Reason::SynAckRetransmit);
            }
            // A stateless responder (SYN cookies) chooses anew for every SYN.
            if peer.bits().is(State::SynSent) {
                return Judgement::take(Sent::SynAck, Reason::SynAckRenewed);
            }
        }
    }
    // It has said nothing else since: so it never got the ACK.
    if mine.is(State::Established) && same && !me.has(end_flags::SPOKE) {
        return Judgement::take(Sent::SynAck, Reason::SynAckRetransmit);
    }
    Judgement::leave(Reason::SynAckOnLive)
}

/// Whether timestamp `a` is later than `b` (RFC 7323 section 5.2).
#[inline(always)]
const fn newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
