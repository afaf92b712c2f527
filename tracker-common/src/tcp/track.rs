//! What one segment does to the flow it belongs to.

use super::{
    Flags, Move, Options, Received, Segment, Sent, State,
    open::{at_least_one, begin, pair},
    on_arrival, on_sending, timeout,
};
use crate::{
    abi::{Endpoint, EventKind, Flow, INITIATOR, Live, Path, end_flags, flow_flags, held},
    reason::{Class, Reason},
    seq::Seq,
    time::{Micros, ShortMicros, Tick},
};

/// What is true of the moment and the packet, beside the segment itself.
#[derive(Clone, Copy, Debug)]
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
}

/// What became of a segment and what the shell has to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reason with which the packet leaves, unless `replace` is set.
    pub reason: Reason,
    /// The flow is over or expired, and this segment is to be treated as if it
    /// were absent: remove it, then admit the segment anew.
    pub replace: bool,
    /// What to report, under the sequence number `seq`.
    pub event: Option<EventKind>,
    /// The event belongs in the ring of connections that have not completed
    /// their handshake.
    pub embryo: bool,
    /// See `event`.
    pub seq: u8,
    /// Bits of [`held`] that the flow gave back: the shell lowers the counters.
    pub released: u16,
    /// States before.
    pub before: [State; 2],
    /// States after.
    pub after: [State; 2],
}

/// What is decided about a segment before anything is written.
enum Judgement {
    /// Leaves with this reason and moves nothing. Counted to the flow unless
    /// the reason refuses it.
    Leave(Reason),
    /// Treat the flow as absent.
    Replace,
    /// The segment counts, under this reason, as this column of the table.
    Take(Sent, Reason),
}

/// Lets `segment`, sent by `ends[sender]`, act on `flow`.
///
/// The caller holds the flow's lock and has checked its tag. No helper and no
/// function is called from here once compiled for BPF: all is inlined.
#[inline(always)]
pub fn meet(
    flow: &mut Flow,
    segment: &Segment,
    sender: usize,
    context: &Context,
    live: &Live,
) -> Outcome {
    let before = flow.states();
    if timeout::expired(flow, context.now, live) {
        return Outcome::replaced(before);
    }
    let liberal = flow.has(flow_flags::LIBERAL);
    let (me, peer) = pair(&mut flow.ends, sender);
    let (sent, reason) = match judge(me, peer, segment, liberal) {
        Judgement::Replace => return Outcome::replaced(before),
        Judgement::Leave(reason) => {
            if !matches!(reason.class(), Class::Refuse) {
                me.count(context.bytes);
                if matches!(reason, Reason::SynOnLive) {
                    flow.flags |= flow_flags::SYN_ON_LIVE;
                }
            }
            return Outcome::unmoved(reason, before);
        }
        Judgement::Take(sent, reason) => (sent, reason),
    };

    // The table.
    let (my_next, disproved) = match on_sending(me.state(), sent) {
        Move::To(state) => (state, false),
        Move::Back(state) => (state, true),
        // `judge` has sorted these out; should one slip through, it moves
        // nothing.
        Move::Odd => (me.state(), false),
    };
    let received = if matches!(sent, Sent::Reset) {
        Received::Reset
    } else if peer.has(end_flags::FIN) && !segment.ack.before(peer.end) {
        Received::AckOfFin
    } else {
        Received::AckOfSyn
    };
    // An old ACK from before the SYN acknowledges nothing of this connection.
    let acknowledges = matches!(sent, Sent::Reset)
        || (segment.flags.has(Flags::ACK)
            && (!peer.state().is_opening() || segment.ack.after(peer.isn)));
    let peer_next = match on_arrival(peer.state(), received) {
        Move::To(state) if acknowledges => state,
        Move::To(_) | Move::Back(_) | Move::Odd => peer.state(),
    };

    // The numbers.
    let first_ack = matches!(me.state(), State::SynSent) && !matches!(my_next, State::SynSent);
    match sent {
        Sent::Syn => {
            if matches!(reason, Reason::SynRetransmit | Reason::SynRenewed) {
                me.syn_retransmits = me.syn_retransmits.saturating_add(1);
            }
            begin_or_repeat(me, segment);
            if sender == INITIATOR {
                me.ack = Seq(context.micros.0);
            }
        }
        Sent::SynAck => {
            if matches!(reason, Reason::SynAckRetransmit | Reason::SynAckRenewed) {
                me.syn_retransmits = me.syn_retransmits.saturating_add(1);
            }
            begin_or_repeat(me, segment);
            me.ack = segment.ack;
            agree_on_scale(me, peer);
        }
        Sent::Ack | Sent::AckOfFin | Sent::Fin | Sent::FinAckOfFin => {
            if first_ack {
                // Karn: a repeated SYN or SYN-ACK leaves open which one was
                // answered.
                if me.syn_retransmits == 0 && peer.syn_retransmits == 0 && sender == INITIATOR {
                    let rtt = context.micros.since(Micros(me.ack.0));
                    flow.handshake_rtt = ShortMicros::pack(rtt);
                }
                me.ack = segment.ack;
            }
            me.ack = me.ack.max(segment.ack);
            me.end = me.end.max(segment.end());
            if segment.flags.has(Flags::FIN) {
                me.flags |= end_flags::FIN;
            }
            if segment.window > me.max_window {
                me.max_window = segment.window;
            }
            if segment.options.has(Options::TIMESTAMPS)
                && (segment.options.ts_value.wrapping_sub(me.ts) as i32) > 0
            {
                me.ts = segment.options.ts_value;
            }
        }
        Sent::Reset => {}
    }
    if acknowledges && !matches!(sent, Sent::Reset) {
        let scale = if segment.flags.has(Flags::SYN) { 0 } else { me.scale() };
        let allowed = segment.ack.plus((at_least_one(segment.window) as u32) << scale);
        peer.max_end = if peer.has(end_flags::SEEN) { peer.max_end.max(allowed) } else { allowed };
        if liberal {
            // Of a liberal flow only part has been seen.
            peer.end = peer.end.max(segment.ack);
        }
    }
    me.flags |= end_flags::SEEN;
    me.set_state(my_next);
    peer.set_state(peer_next);
    me.count(context.bytes);
    let proved = peer.has(end_flags::SEEN)
        && !segment.ack.before(peer.isn)
        && !segment.ack.after(peer.end);

    if disproved {
        flow.count_disproved();
    }
    if segment.fragmented != 0 {
        flow.flags |= flow_flags::LIBERAL;
    }
    flow.paths[sender & 1] = context.path;
    let after = flow.states();
    let moved = before[0] as u8 != after[0] as u8 || before[1] as u8 != after[1] as u8;
    // In TIME_WAIT only a FIN that comes again starts 2MSL anew (RFC 9293
    // section 3.10.7.4, eighth); whatever else trickles in does not.
    let waits = matches!(timeout::class_of(after), timeout::Class::TimeWait);
    if moved || !waits || segment.flags.has(Flags::FIN) {
        flow.last = context.now;
    }

    let still_opening = after[0].is_opening() || after[1].is_opening();
    let was_opening = before[0].is_opening() || before[1].is_opening();
    let closed = matches!(after, [State::Closed, State::Closed]);
    let mut released = 0;
    if flow.has(held::HALF_OPEN) && (!still_opening || closed) {
        released |= held::HALF_OPEN;
    }
    // Somebody who only sends can be anybody; who acknowledges what the other
    // side sent has received it.
    let unproved = flow.has(held::PICKUP);
    if unproved && (proved || closed) {
        released |= held::PICKUP;
    }
    flow.flags &= !released;
    let reason = match reason {
        Reason::Tracked if segment.fragmented != 0 => Reason::FirstFragment,
        other => other,
    };
    Outcome {
        reason,
        replace: false,
        event: if moved { Some(EventKind::Changed) } else { None },
        embryo: still_opening || (was_opening && closed) || (unproved && released == 0),
        seq: if moved { flow.next_event() } else { 0 },
        released,
        before,
        after,
    }
}

/// Decides what a segment is to its flow, by flags and by numbers.
#[inline(always)]
fn judge(me: &Endpoint, peer: &Endpoint, segment: &Segment, liberal: bool) -> Judgement {
    use Judgement::{Leave, Take};
    let flags = segment.flags;
    let (mine, theirs) = (me.state(), peer.state());
    if segment.is_syn() {
        return judge_syn(me, peer, segment);
    }
    if matches!((mine, theirs), (State::Closed, State::Closed)) {
        return Leave(Reason::AfterClose);
    }
    // SYN_SENT and LISTEN have numbers on one side only: the SYN's.
    let acks_syn = segment.ack.after(peer.isn) && !segment.ack.after(peer.end);
    if flags.has(Flags::RST) {
        return judge_reset(me, peer, segment, acks_syn);
    }
    if flags.has(Flags::SYN) {
        return judge_syn_ack(me, peer, segment, acks_syn);
    }

    match (mine, theirs) {
        // Before its SYN an endpoint says nothing; and it cannot acknowledge a
        // SYN that was never sent. Either way the half that would explain this
        // went past us.
        (State::Listen, _) | (State::SynSent, State::Listen) => {
            return Leave(Reason::HandshakeUnseen);
        }
        // The third ACK must acknowledge the SYN of the responder (RFC 9293
        // section 3.10.7.4, fifth), else anybody who can send completes a
        // handshake.
        (State::SynSent, _) if !acks_syn => return Leave(Reason::HandshakeWrongAck),
        (State::Closed, _) if !flags.has(Flags::FIN) => return Leave(Reason::AfterClose),
        _ => {}
    }
    if segment.ack.after(peer.end) && !liberal {
        return Leave(Reason::AckUnsent);
    }
    let had_fin = me.has(end_flags::FIN);
    if had_fin && segment.end().after(me.end) {
        return Leave(Reason::BeyondFin);
    }
    let acks_fin = peer.has(end_flags::FIN) && !segment.ack.before(peer.end);
    let sent = match (flags.has(Flags::FIN), acks_fin) {
        (false, false) => Sent::Ack,
        (false, true) => Sent::AckOfFin,
        (true, false) => Sent::Fin,
        (true, true) => Sent::FinAckOfFin,
    };
    if matches!(on_sending(mine, sent), Move::Odd) {
        return Leave(Reason::AfterClose);
    }
    let reason =
        if had_fin && flags.has(Flags::FIN) { Reason::FinRetransmit } else { Reason::Tracked };
    Take(sent, reason)
}

/// A SYN without ACK.
#[inline(always)]
fn judge_syn(me: &Endpoint, peer: &Endpoint, segment: &Segment) -> Judgement {
    use Judgement::{Leave, Replace, Take};
    match (me.state(), peer.state()) {
        (State::SynSent, _) if segment.seq.0 == me.isn.0 => Take(Sent::Syn, Reason::SynRetransmit),
        // Nothing has answered the first one, so this one may stand for it: a
        // client that started over.
        (State::SynSent, State::Listen | State::SynSent) => Take(Sent::Syn, Reason::SynRenewed),
        // Simultaneous open.
        (State::Listen, State::SynSent) => Take(Sent::Syn, Reason::Tracked),
        (State::Closed, State::Closed) => Replace,
        // RFC 6191 section 2 and RFC 1122 section 4.2.2.13: a higher sequence
        // number, or a newer timestamp, tells a new connection from an old
        // duplicate. Either side may be the one that opens it.
        (State::TimeWait | State::Closed, State::TimeWait | State::Closed) => {
            let newer = segment.options.has(Options::TIMESTAMPS)
                && me.has(end_flags::TIMESTAMPS)
                && (segment.options.ts_value.wrapping_sub(me.ts) as i32) > 0;
            if newer || segment.seq.after(me.end) {
                Replace
            } else {
                Leave(Reason::SynInTimeWait)
            }
        }
        _ => Leave(Reason::SynOnLive),
    }
}

/// A SYN with ACK.
#[inline(always)]
fn judge_syn_ack(me: &Endpoint, peer: &Endpoint, segment: &Segment, acks_syn: bool) -> Judgement {
    use Judgement::{Leave, Take};
    match me.state() {
        State::Listen | State::SynSent | State::SynReceived if !acks_syn => {
            Leave(Reason::SynAckWrongAck)
        }
        State::Listen => Take(Sent::SynAck, Reason::Tracked),
        // The second SYN of a simultaneous open is the first one again, with an
        // ACK: it keeps its number.
        State::SynSent if segment.seq.0 == me.isn.0 => Take(Sent::SynAck, Reason::Tracked),
        State::SynReceived if segment.seq.0 == me.isn.0 => {
            Take(Sent::SynAck, Reason::SynAckRetransmit)
        }
        // A stateless responder (SYN cookies) chooses anew for every SYN.
        State::SynReceived if matches!(peer.state(), State::SynSent) => {
            Take(Sent::SynAck, Reason::SynAckRenewed)
        }
        // It has said nothing but this since: so it never got the ACK.
        State::Established
            if segment.seq.0 == me.isn.0
                && me.end.0 == segment.end().0
                && me.packets() == me.syn_retransmits as u64 + 1 =>
        {
            Take(Sent::SynAck, Reason::SynAckRetransmit)
        }
        _ => Leave(Reason::SynAckOnLive),
    }
}

/// An RST.
#[inline(always)]
fn judge_reset(me: &Endpoint, peer: &Endpoint, segment: &Segment, acks_syn: bool) -> Judgement {
    use Judgement::{Leave, Take};
    // Before any answer the only number that a refusal can prove is the SYN's
    // (RFC 9293 section 3.10.7.3, second).
    let refusal = matches!((me.state(), peer.state()), (State::Listen, State::SynSent));
    if refusal && !(segment.flags.has(Flags::ACK) && acks_syn) {
        return Leave(Reason::ResetWrongAck);
    }
    Take(Sent::Reset, Reason::ResetClosed)
}

/// Takes the numbers of a SYN or SYN-ACK. One that comes again may leave out
/// the data that the first one carried (RFC 7413 section 4.1.3), which stays
/// sent.
#[inline(always)]
fn begin_or_repeat(me: &mut Endpoint, segment: &Segment) {
    let sent_before = me.end;
    let again = me.has(end_flags::SEEN) && me.isn.0 == segment.seq.0;
    begin(me, segment);
    if again {
        me.end = me.end.max(sent_before);
    }
}

/// Window scaling is in force only if both SYNs offered it (RFC 7323 section
/// 2.2).
#[inline(always)]
fn agree_on_scale(me: &mut Endpoint, peer: &mut Endpoint) {
    if !(me.has(end_flags::SCALE) && peer.has(end_flags::SCALE)) {
        me.set_scale(0);
        peer.set_scale(0);
    }
}

impl Outcome {
    /// The flow is to be treated as absent.
    #[inline(always)]
    const fn replaced(states: [State; 2]) -> Self {
        let mut outcome = Self::unmoved(Reason::FlowReopened, states);
        outcome.replace = true;
        outcome
    }

    /// Nothing moved.
    #[inline(always)]
    const fn unmoved(reason: Reason, states: [State; 2]) -> Self {
        Self {
            reason,
            replace: false,
            event: None,
            embryo: false,
            seq: 0,
            released: 0,
            before: states,
            after: states,
        }
    }
}
