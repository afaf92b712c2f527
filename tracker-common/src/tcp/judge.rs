//! What a segment is to its flow, by flags and by numbers. Nothing is written
//! here but the numbers of an inequality that did not hold.

use super::{
    Bits, Context, Flags, Options, Segment, Sent, State, check, check::newer, reset, sending,
};
use crate::{
    abi::{Bound, Endpoint, Flow, INITIATOR, Live, Path, end_flags, flow_flags, switches},
    reason::Reason,
    time::Micros,
};

/// What is decided about a segment before anything is written.
pub struct Judgement {
    /// Column of the table ([`Sent`]), or [`Judgement::LEAVE`] or
    /// [`Judgement::REPLACE`].
    pub sent: u8,
    /// [`Reason`] as a number.
    pub reason: u8,
}

impl Judgement {
    /// The segment moves nothing. It counts to the flow unless its reason
    /// refuses it.
    pub const LEAVE: u8 = 8;
    /// The flow is to be treated as absent.
    pub const REPLACE: u8 = 9;

    /// The segment acknowledges [`Context::pending`], a SYN-ACK, whose numbers
    /// are taken before it moves its ends by the column in the low half:
    /// [`Sent::Ack`], or [`Sent::Fin`], which is two more.
    pub const ADOPT: u8 = Self::ADOPTS | Sent::Ack as u8;

    /// The bit that tells [`Judgement::ADOPT`].
    pub const ADOPTS: u8 = 0x10;

    /// See [`Judgement::LEAVE`].
    #[inline(always)]
    pub const fn leave(reason: Reason) -> Self {
        Self {
            sent: Self::LEAVE,
            reason: reason as u8,
        }
    }

    /// The segment moves its ends by the column `sent`.
    #[inline(always)]
    pub const fn take(sent: Sent, reason: Reason) -> Self {
        Self {
            sent: sent as u8,
            reason: reason as u8,
        }
    }

    /// See [`Judgement::REPLACE`].
    #[inline(always)]
    const fn replace(reason: Reason) -> Self {
        Self {
            sent: Self::REPLACE,
            reason: reason as u8,
        }
    }
}

/// Whether the segment acknowledges the SYN of `peer`, and nothing that `peer`
/// has not sent.
#[inline(always)]
pub const fn acks_syn(peer: &Endpoint, segment: &Segment) -> bool {
    // `begin` leaves no window at 0: so there was a SYN.
    peer.max_window != 0 && segment.ack.after(peer.isn) && !segment.ack.after(peer.end)
}

/// Judges a segment that `ends[me]` sent to `ends[peer]`.
#[inline(always)]
pub fn judge(
    flow: &Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    context: &Context,
    live: &Live,
    bound: &mut Bound,
) -> Judgement {
    let sender = me;
    let receiver = peer;
    let (me, peer) = (&flow.ends[me], &flow.ends[peer]);
    let flags = segment.flags;
    let (mine, theirs) = (me.bits(), peer.bits());
    if segment.is_syn() {
        return judge_syn(me, peer, segment, opened_by(flow, me, segment), live);
    }
    // A first fragment hides how long its segment is.
    let liberal = context.veiled(
        flow.is_liberal() | (live.switches & switches::LIBERAL != 0) | (segment.fragmented != 0),
    );
    let acks_syn = context.veiled(acks_syn(peer, segment));
    if flags.has(Flags::SYN) {
        let on_path = is_on_path(flow, sender, context);
        return judge_syn_ack(me, peer, segment, sender, acks_syn, on_path, context);
    }
    if (mine.number() | theirs.number()) == State::Closed as u8 {
        return Judgement::leave(Reason::AfterClose);
    }
    if flags.has(Flags::RST) {
        // There is nothing to hold it against.
        if context.veiled(flow.is_unread()) {
            return Judgement::leave(Reason::Liberal);
        }
        return reset::judge(
            flow, sender, receiver, segment, acks_syn, liberal, context, bound,
        );
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
        if !acks_syn && context.pending.taken_by(sender, segment.ack) && is_first(me, segment) {
            return Judgement {
                sent: Judgement::ADOPT + 2 * u8::from(flags.has(Flags::FIN)),
                reason: Reason::Tracked as u8,
            };
        }
        if !acks_syn {
            *bound = Bound {
                value: segment.ack.0,
                low: peer.isn.plus(1).0,
                high: peer.end.0,
            };
            return Judgement::leave(Reason::HandshakeWrongAck);
        }
    }
    // Who waits for a SYN-ACK throws away what does not acknowledge its SYN
    // (RFC 9293 section 3.10.7.3, first).
    if theirs.is(State::SynSent) {
        if !acks_syn {
            return Judgement::leave(Reason::AckTooOld);
        }
        if !segment.seq.after(me.isn) {
            return Judgement::leave(Reason::AlreadyReceived);
        }
    }
    // Veiled: from here on every check that may have failed is one way.
    let mut failed =
        check::numbers(flow, me, peer, segment, context.now, bound).wrapping_add(context.veil);
    if failed == 0 && flags.has(Flags::FIN) | me.has(end_flags::FIN) {
        failed = around_fin(me, segment, bound).wrapping_add(context.veil);
    }
    let again = me.has(end_flags::FIN) & flags.has(Flags::FIN);
    let mut reason = if again {
        Reason::FinRetransmit as u8
    } else {
        Reason::Tracked as u8
    }
    .wrapping_add(context.veil);
    if failed != 0 {
        if !liberal {
            return Judgement {
                sent: Judgement::LEAVE,
                reason: failed,
            };
        }
        // Exempt from checks does not mean exempt from arithmetic: numbers that
        // lie half the circle apart cannot be told to be before or behind.
        let distance = segment.ack.since(peer.end.minus(check::LARGEST_WINDOW));
        if distance > 2 * check::LARGEST_WINDOW {
            return Judgement::leave(Reason::Liberal);
        }
        if Reason::known(failed).refuses() {
            reason = Reason::Liberal as u8;
        }
    }
    let acks_fin = peer.has(end_flags::FIN) & !segment.ack.before(peer.end);
    // By arithmetic: a match would be a way for the verifier per column.
    let sent = Sent::Ack as u8
        + 2 * u8::from(flags.has(Flags::FIN))
        + u8::from(context.veiled(acks_fin))
        + context.veil;
    if sending(mine, sent).is_odd() {
        return Judgement::leave(Reason::AfterClose);
    }
    Judgement { sent, reason }
}

/// Whether a segment lies in the first window behind its sender's SYN.
#[inline(always)]
pub const fn is_first(me: &Endpoint, segment: &Segment) -> bool {
    segment.seq.after(me.isn) && !segment.seq.after(me.max_end)
}

/// What is wrong about a segment with FIN, or of an endpoint that has sent one:
/// a [`Reason`] as a number, or 0.
#[inline(always)]
fn around_fin(me: &Endpoint, segment: &Segment, bound: &mut Bound) -> u8 {
    if me.has(end_flags::FIN) {
        if segment.end().after(me.end) {
            *bound = Bound {
                value: segment.end().0,
                low: me.isn.0,
                high: me.end.0,
            };
            return Reason::BeyondFin as u8;
        }
    } else if !segment.end().after(me.end) {
        return Reason::FinInside as u8;
    }
    0
}

/// A SYN without ACK.
#[inline(always)]
fn judge_syn(
    me: &Endpoint,
    peer: &Endpoint,
    segment: &Segment,
    opened_by: bool,
    live: &Live,
) -> Judgement {
    const OVER: u16 = Bits::set(&[State::TimeWait, State::Closed]);
    let (mine, theirs) = (me.bits(), peer.bits());
    if segment.payload != 0 && live.switches & switches::DROP_SYN_DATA != 0 {
        return Judgement::leave(Reason::SynData);
    }
    if mine.is(State::SynSent) {
        if segment.seq.0 == me.isn.0 {
            return Judgement::take(Sent::Syn, Reason::SynRetransmit);
        }
        // Nothing has answered the first one, so this one may stand for it: a
        // client that started over, or somebody who forges one. The answer will
        // tell.
        if theirs.among(Bits::set(&[State::Listen, State::SynSent])) {
            return Judgement::leave(Reason::SynRenewed);
        }
    }
    // Simultaneous open.
    if mine.is(State::Listen) && theirs.is(State::SynSent) {
        return Judgement::take(Sent::Syn, Reason::Tracked);
    }
    if mine.among(OVER) && theirs.among(OVER) {
        let closed = (mine.number() | theirs.number()) == State::Closed as u8;
        // A duplicate of the SYN that opened it. If its sender does go on, an
        // answer will show that.
        if opened_by {
            return Judgement::leave(if closed {
                Reason::AfterClose
            } else {
                Reason::SynInTimeWait
            });
        }
        let reopens = live.switches & switches::STRICT_2MSL == 0 && is_newer(me, segment);
        if closed || reopens {
            return Judgement::replace(Reason::FlowReopened);
        }
        return Judgement::leave(Reason::SynInTimeWait);
    }
    Judgement::leave(Reason::SynOnLive)
}

/// Whether a SYN is of a connection later than the one in TIME-WAIT: by its
/// timestamp, where both carry one, else by its sequence number (RFC 6191
/// section 2, RFC 1122 section 4.2.2.13). Either side may be the one that opens
/// it.
#[inline(always)]
const fn is_newer(me: &Endpoint, segment: &Segment) -> bool {
    let later = segment.seq.after(me.end);
    if segment.options.has(Options::TIMESTAMPS) && me.has(end_flags::TIMESTAMPS) {
        let stamp = segment.options.ts_value;
        return newer(stamp, me.ts) || (stamp == me.ts && later);
    }
    later
}

/// A SYN with ACK.
#[inline(always)]
fn judge_syn_ack(
    me: &Endpoint,
    peer: &Endpoint,
    segment: &Segment,
    sender: usize,
    acks_syn: bool,
    on_path: bool,
    context: &Context,
) -> Judgement {
    // It answers a SYN that had passed on this flow, so its sender has nothing
    // left of the old connection, and whoever sent the SYN neither.
    let overtaken = context.veiled(was_overtaken(peer, context));
    if on_path && context.pending.answered_by(sender, segment.ack) && !overtaken {
        return Judgement::replace(Reason::FlowRestarted);
    }
    let mine = me.bits();
    if (mine.number() | peer.bits().number()) == State::Closed as u8 {
        return Judgement::leave(Reason::AfterClose);
    }
    let same = segment.seq.0 == me.isn.0;
    if mine.is_opening() {
        if !acks_syn {
            return Judgement::leave(Reason::SynAckWrongAck);
        }
        let waited_for = peer.bits().is(State::SynSent);
        // Passive open; or the second SYN of a simultaneous one, which is the
        // first again with an ACK and keeps its number.
        if mine.is(State::Listen) || (mine.is(State::SynSent) && same && waited_for) {
            return Judgement::take(Sent::SynAck, Reason::Tracked);
        }
        // The second SYN-ACK of a simultaneous open is to its receiver what the
        // third ACK is: both have now acknowledged both SYNs. Linux sends no
        // other (`tcp_rcv_state_process`, step 4).
        if mine.is(State::SynSent) && same {
            return Judgement::take(Sent::Ack, Reason::Tracked);
        }
        if mine.is(State::SynReceived) && same {
            return Judgement::take(Sent::SynAck, Reason::SynAckRetransmit);
        }
        // Who had given up calling may be called: the SYN before, which nobody
        // acknowledged, counts no more.
        if mine.is(State::SynSent) && waited_for {
            return Judgement::take(Sent::SynAck, Reason::SynAckRenewed);
        }
        // A stateless responder (SYN cookies) chooses anew for every SYN; or
        // somebody forges. The ACK will tell which number was taken.
        if waited_for {
            return Judgement::leave(Reason::SynAckRenewed);
        }
    }
    // It has said nothing else since: so it never got the ACK.
    if mine.is(State::Established) && same && !me.has(end_flags::SPOKE) && segment.ack.0 == me.ack.0
    {
        return Judgement::take(Sent::SynAck, Reason::SynAckRetransmit);
    }
    Judgement::leave(Reason::SynAckOnLive)
}

/// Whether a packet comes the way that `ends[side]` sent its last one.
///
/// Who forges one end's segments from afar knows the numbers of a SYN that he
/// forges, too, and so could answer it in the other end's name. But he is on one
/// side of us.
#[inline(always)]
pub const fn is_on_path(flow: &Flow, side: usize, context: &Context) -> bool {
    let own = flow.paths[side & 1];
    // Nobody from afar sends there.
    if context.path.differs(Path::LOOPBACK) == 0 {
        return true;
    }
    if own.is_known() {
        own.differs(context.path) == 0
    } else {
        // Nothing came from there yet: then not the way of the other end.
        flow.paths[side & 1 ^ 1].differs(context.path) != 0
    }
}

/// Whether the SYN that is pending is older than the one that `caller`, who waits
/// for the answer to that, has opened the flow with, and was overtaken by it.
///
/// Its sender has left it behind and resets what answers it (RFC 9293 section 3.5,
/// figure 9); the answer to the other one is still to come. Which one is older
/// their numbers tell (section 3.4.1: the generator only goes up), but only of
/// one generator: who has lost it, or shares the address with another host, comes
/// later than a segment that was overtaken.
#[inline(always)]
pub const fn was_overtaken(caller: &Endpoint, context: &Context) -> bool {
    // Until its first ACK the field holds the time of its last SYN.
    let apart = context.pending.time.since(Micros(caller.ack.0));
    caller.bits().is(State::SynSent)
        & context.pending.is_syn_of(INITIATOR)
        & context.pending.seq.before(caller.isn)
        & (apart.wrapping_add(OVERTAKEN_US) < 2 * OVERTAKEN_US)
}

/// Whether `segment` of `ends[me]`, which does not fit this connection, may be of a
/// later one of the same ports, whose SYN is pending.
///
/// Segments of both are under way at the same time if an end aborts and calls
/// again; their receiver tells them apart by numbers that did not all pass here.
/// Those of the later one are known from its SYN as far as a window reaches; of
/// its responder nothing is known, whose RST may carry a number only. And in its
/// handshake the caller may have taken a SYN-ACK of which nothing is kept, since
/// the SYN came after it.
#[inline(always)]
pub const fn is_of_later(flow: &Flow, me: usize, segment: &Segment, context: &Context) -> bool {
    let pending = &context.pending;
    let caller = (pending.sender & 1) as usize;
    let later = pending.is_syn_of(caller) && pending.seq.after(flow.ends[caller].isn);
    let (number, unknown) = if me == caller {
        (segment.seq, flow.ends[me].bits().is_opening())
    } else {
        (segment.ack, !segment.flags.has(Flags::ACK))
    };
    let close = number.since(pending.seq).wrapping_sub(1) < u16::MAX as u32;
    later & (close | unknown) && is_on_path(flow, me, context)
}

/// How far apart two SYNs pass of which one has overtaken the other, at most, in
/// microseconds: a second, before which nobody calls again for want of an answer
/// (RFC 6298 section 2).
const OVERTAKEN_US: u32 = 1_000_000;

/// Whether a segment with `flags` may be judged by [`Context::pending`]: only then
/// must the shell look for it.
#[inline(always)]
#[must_use]
pub const fn wants_pending(flow_flags: u16, flags: Flags) -> bool {
    flow_flags & flow_flags::SYN_ON_LIVE != 0 && flags.0 & (Flags::RST | Flags::ACK) != 0
}

/// Whether `segment` is a copy of the SYN with which `me` opened the flow. Of a
/// flow whose handshake was not seen, the number is that of any segment.
#[inline(always)]
const fn opened_by(flow: &Flow, me: &Endpoint, segment: &Segment) -> bool {
    // `begin` leaves no window at 0.
    let called = me.max_window != 0;
    segment.seq.0 == me.isn.0 && called && !flow.is_unanchored()
}

/// Whether a segment that leaves for `reason` is a SYN or SYN-ACK of `me` that
/// moves nothing until it is answered.
#[inline(always)]
pub const fn is_pending(reason: Reason, flow: &Flow, me: &Endpoint, segment: &Segment) -> bool {
    matches!(
        reason,
        Reason::SynOnLive | Reason::SynInTimeWait | Reason::SynRenewed | Reason::SynAckRenewed
    ) && !opened_by(flow, me, segment)
}

const _: () = assert!(
    Sent::AckOfFin as u8 == Sent::Ack as u8 + 1
        && Sent::Fin as u8 == Sent::Ack as u8 + 2
        && Sent::FinAckOfFin as u8 == Sent::Ack as u8 + 3
);
const _: () = assert!(flow_flags::RST_INEXACT_BOTH == 3 * flow_flags::RST_INEXACT);
