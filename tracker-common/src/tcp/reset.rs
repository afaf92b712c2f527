//! What an RST may do (RFC 9293 section 3.10.7, RFC 5961 section 3).

use super::{
    Bits, Context, Flags, Segment, Sent, State,
    check::LARGEST_WINDOW,
    judge::{Judgement, is_on_path, was_overtaken},
};
use crate::{
    abi::{Bound, Flow, INITIATOR, RESPONDER, end_flags, flow_flags, held},
    reason::Reason,
};

/// Judges an RST on a flow that is not over.
///
/// It closes the flow if its receiver is sure to take it: in SYN-SENT, if it
/// acknowledges the SYN; else if its number is *exact*. Exact are the receiver's
/// RCV.NXT, which is its highest acknowledgement as far as the tracker saw, and
/// the sender's own SND.NXT, which is what it sends when it aborts with data in
/// flight (RFC 9293 section 3.10.5) and what the receiver expects once they
/// have arrived. One inside the window draws a challenge ACK; whoever sent it
/// answers that with an exact one, if it means it. One outside is thrown away.
/// Its timestamp does not matter (RFC 7323 section 5.2).
#[expect(
    clippy::too_many_arguments,
    reason = "inlined: each is a register of the caller"
)]
#[inline(always)]
pub fn judge(
    flow: &Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    acks_syn: bool,
    liberal: bool,
    context: &Context,
    bound: &mut Bound,
) -> Judgement {
    let sender = me;
    let (me, peer) = (&flow.ends[me], &flow.ends[peer]);
    let (mine, theirs) = (me.bits(), peer.bits());
    let seq = segment.seq;
    let closes = Judgement::take(Sent::Reset, Reason::ResetClosed);
    let acknowledges = segment.flags.has(Flags::ACK);
    // An endpoint that knows nothing of this connection refuses the SYN of
    // another one that had passed on it. If that was an old duplicate, then its
    // sender in TIME-WAIT, or waiting for the answer to its next one, does not
    // care.
    let refuses = acknowledges && context.pending.answered_by(sender, segment.ack);
    if refuses && is_on_path(flow, sender, context) {
        let duplicate = context.veiled(
            theirs.is(State::TimeWait) & !context.pending.seq.after(peer.end)
                | was_overtaken(peer, context),
        );
        return if duplicate {
            Judgement::leave(Reason::ResetForeign)
        } else {
            closes
        };
    }
    // Nobody is there any more who could take it.
    if theirs.is(State::Closed) {
        return Judgement::leave(Reason::AfterClose);
    }
    let opening = theirs.is(State::SynSent);
    if opening {
        // The receiver waits for a SYN-ACK, or has it and its ACK is on the way
        // to us: what closes it in either case closes the flow, which goes on
        // if the other case shows ([`revive`]).
        if acknowledges && acks_syn {
            return closes;
        }
        // To a receiver that waits, an RST without ACK says nothing (section
        // 3.10.7.3, second); it may be one that overtook the SYN-ACK.
        if mine.is(State::Listen) && !acknowledges {
            return Judgement::leave(Reason::ResetForeign);
        }
        if mine.is(State::Listen) {
            *bound = Bound {
                value: segment.ack.0,
                low: peer.isn.plus(1).0,
                high: peer.end.0,
            };
            return Judgement::leave(Reason::ResetWrongAck);
        }
    }
    if theirs.is(State::Listen) {
        // An initiator that gives up sends nothing (RFC 9293 section 3.10.5,
        // SYN-SENT). It resets what it cannot place, with that segment's
        // acknowledgement for a number, and goes on waiting (section 3.10.7.3).
        if seq.0 == me.end.0 || seq.0 == me.isn.0 {
            return closes;
        }
        return Judgement::leave(Reason::ResetForeign);
    }
    // RCV.NXT of the receiver.
    let next = if opening { me.isn.plus(1) } else { peer.ack };
    if seq.0 == next.0 || seq.0 == me.end.0 {
        return closes;
    }
    if !seq.before(next) && !seq.after(me.max_end) {
        // Of a liberal flow the exact number may not be known.
        return if liberal {
            Judgement::take(Sent::Reset, Reason::Liberal)
        } else {
            Judgement::leave(Reason::ResetInexact)
        };
    }
    // An endpoint that is gone resets what still comes in, with the
    // acknowledgement of that segment for a number (section 3.10.7.1), which may
    // be as old as that segment. Its receiver throws it away.
    let behind = !seq.after(next) && !seq.before(next.minus(LARGEST_WINDOW));
    // A late copy of a SYN it resets with the number 0, and acknowledges it.
    let answers_syn = seq.0 == 0 && acknowledges && acks_syn;
    if behind || answers_syn {
        return Judgement::leave(Reason::ResetLate);
    }
    // So it does with a SYN of which nothing is left here.
    if seq.0 == 0 && acknowledges {
        return Judgement::leave(Reason::ResetForeign);
    }
    // Exact for a receiver that took another SYN-ACK than the one we go by.
    if context.pending.is_syn_ack_of(sender) && seq.0 == context.pending.seq.plus(1).0 {
        return Judgement::leave(Reason::ResetForeign);
    }
    *bound = Bound {
        value: seq.0,
        low: next.0,
        high: me.max_end.0,
    };
    Judgement::leave(Reason::ResetOutsideWindow)
}

/// Takes back that an RST ended a handshake, if `segment` shows that its
/// receiver, or its sender, goes on nevertheless: by a SYN-ACK that acknowledges
/// the SYN, or by an ACK that acknowledges the SYN-ACK.
///
/// Whoever forges an RST with the right number before the handshake is over can
/// know that only the endpoint in the state that the tracker does not see would
/// take it; and an initiator may reset a segment of a former connection while it
/// waits. Either way the handshake goes on, and so must its flow. But an exact
/// RST of an initiator is one that the responder is sure to take: after it the
/// initiator's own ACK is only late. A flow that was reset in its handshake still
/// holds its reservation, which tells it from others that are closed.
#[inline(always)]
pub fn revive(flow: &mut Flow, me: usize, segment: &Segment, acks_syn: bool) {
    let states = flow.bits();
    let closed = (states[0].number() | states[1].number()) == State::Closed as u8;
    let [initiator, responder] = &flow.ends;
    let syn = segment.flags.has(Flags::SYN);
    // `begin` leaves no window at 0: so it has sent a SYN. It acknowledges what
    // it answers.
    let called = responder.max_window != 0;
    let answered =
        called & responder.ack.after(initiator.isn) & !responder.ack.after(initiator.end);
    let reset_by_responder =
        flow.flags & flow_flags::RST_INEXACT_BOTH == flow_flags::RST_INEXACT << RESPONDER;
    let reset_by_initiator =
        flow.flags & flow_flags::RST_INEXACT_BOTH == flow_flags::RST_INEXACT << INITIATOR;
    // An initiator that has reset the answer to its SYN resets that to a copy of
    // it as well.
    let to_copy = answered & reset_by_initiator & (responder.isn.0 != segment.seq.0);
    let goes_on = if me == INITIATOR {
        (syn & called) | (!syn & answered & reset_by_responder)
    } else {
        syn & !to_copy
    };
    let proved = segment.flags.0 & (Flags::ACK | Flags::RST) == Flags::ACK && acks_syn;
    // Who refused a call may call, and be answered by the caller, who has not
    // heard of the refusal yet. Who calls selects a number (RFC 9293 section
    // 3.10.1): the one that is known is of a SYN that was on the way already.
    let calls =
        segment.is_syn() && me == RESPONDER && !(called && responder.isn.0 == segment.seq.0);
    if closed && flow.has(held::HALF_OPEN) && (goes_on && proved || calls) {
        // A responder's SYN-ACK after an RST begins anew, whatever came before.
        let responder = if syn && me == RESPONDER {
            State::Listen
        } else if responder.has(end_flags::FIN) {
            State::FinWait1
        } else if answered {
            State::SynReceived
        } else if called {
            State::SynSent
        } else {
            State::Listen
        };
        flow.ends[INITIATOR].set_bits(Bits::of(State::SynSent as u8));
        flow.ends[RESPONDER].set_bits(Bits::of(responder as u8));
    }
}
