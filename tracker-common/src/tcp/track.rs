//! What one segment does to the flow it belongs to.
//!
//! This runs under the flow's lock in the kernel, so all of it is inlined, and
//! the verifier follows every path through it. Two habits keep their number
//! small: endpoints are chosen by index, not by branch; and what was decided is
//! added to [`Context::veil`], a zero whose value the verifier does not
//! know, so that paths which decided differently meet again.

use super::{
    Bits, Flags, Received, Segment, Sent, State, arriving, check,
    judge::{self, Judgement},
    knows_its_fin_taken,
    open::begin,
    reset, seed, sending, timeout,
};
use crate::{
    abi::{
        Bound, EventKind, Flow, INITIATOR, Live, Path, PendingSyn, RESPONDER, end_flags,
        flow_flags, held,
    },
    reason::Reason,
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
    /// What the policy says about the flow that it opens.
    pub admitted: Admitted,
    /// 1 when this packet has just ended an earlier flow of its key.
    pub replaced: u8,
    /// Zero. See the module.
    pub veil: u8,
    /// The last SYN that passed on this flow while it was live. The shell looks
    /// for it where [`super::wants_pending`] says so.
    pub pending: PendingSyn,
}

/// By what a flow was admitted; nothing where no rule was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// [`crate::abi::Rule::number`].
    pub rule: u16,
    /// Bits of [`Flow::flags`] that follow from the rule: shares of its counts
    /// ([`held::RULE`], [`held::RULE_SOURCE`]), [`flow_flags::LIBERAL`].
    pub flags: u16,
    /// [`crate::abi::Rule::profile`].
    pub profile: u8,
}

impl Context {
    /// `fact`, of which the verifier no longer knows how it came about.
    #[inline(always)]
    #[must_use]
    pub const fn veiled(&self, fact: bool) -> bool {
        (fact as u8).wrapping_add(self.veil) & 1 != 0
    }
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
    /// 1, with `replace`: it answers [`Context::pending`], and opens a flow by
    /// [`super::Opening::Answered`].
    pub restart: u8,
    /// 1: keep the segment as the flow's [`PendingSyn`].
    pub remember: u8,
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
    /// When a segment of the flow was last accepted before this one.
    pub previous: Tick,
    /// What did not hold, of a segment that is refused for its numbers.
    pub bound: Bound,
    /// Index of its sender in [`Flow::ends`].
    pub sender: u8,
}

/// Both ends CLOSED.
pub const CLOSED: [Bits; 2] = [Bits::of(State::Closed as u8); 2];

impl Default for Outcome {
    fn default() -> Self {
        Self {
            reason: Reason::Tracked,
            replace: 0,
            restart: 0,
            remember: 0,
            event: 0,
            embryo: 0,
            seq: 0,
            before: CLOSED,
            after: CLOSED,
            released: 0,
            previous: Tick(0),
            bound: Bound::default(),
            sender: 0,
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
    let segment = &segment.veiled(context.veil);
    timeout::settle_doubts(flow, context.now);
    let before = flow.bits();
    outcome.before = before;
    outcome.after = before;
    outcome.replace = 0;
    outcome.restart = 0;
    outcome.remember = 0;
    outcome.event = 0;
    outcome.released = 0;
    outcome.previous = flow.last;
    outcome.sender = me as u8;
    outcome.bound = Bound {
        value: 0,
        low: 0,
        high: 0,
    };
    if timeout::expired_veiled(flow, context.now, live, context.veil) {
        outcome.replace = 1;
        return;
    }
    seed::read(flow, me, peer, segment);
    reset::revive(
        flow,
        me,
        segment,
        judge::acks_syn(&flow.ends[peer], segment),
    );
    let judgement = judge::judge(flow, me, peer, segment, context, live, &mut outcome.bound);
    if judgement.sent == Judgement::REPLACE {
        outcome.replace = 1;
        outcome.restart = u8::from(judgement.reason == Reason::FlowRestarted as u8);
        return;
    }
    let reason = Reason::known(judgement.reason.wrapping_add(context.veil));
    outcome.reason = reason;
    if judgement.sent == Judgement::LEAVE {
        // Nothing is revived by a segment that moves nothing.
        flow.ends[INITIATOR].set_bits(before[INITIATOR]);
        flow.ends[RESPONDER].set_bits(before[RESPONDER]);
        if !reason.refuses() {
            note(flow, me, segment, reason, context, outcome);
        } else if judge::is_of_later(flow, me, segment, context) {
            // Its receiver may take it, so it is none to refuse.
            flow.ends[me].count(context.bytes);
            outcome.reason = if segment.flags.has(Flags::RST) {
                Reason::ResetForeign
            } else {
                Reason::HandshakeUnseen
            };
        }
        return;
    }
    let segment = &segment.veiled(context.veil);
    let releasable = if judgement.sent == Sent::Reset as u8 {
        close(flow, me, peer);
        0
    } else {
        if judgement.sent & Judgement::ADOPTS != 0 {
            adopt(flow, me, peer, context);
        }
        // [`Judgement::ADOPT`] has the low bits of its column.
        let sent = judgement.sent.wrapping_add(context.veil);
        take(flow, me, peer, segment, sent, reason, context)
    };
    let reason = Reason::known((reason as u8).wrapping_add(context.veil));
    finish(flow, me, segment, releasable, reason, context, outcome);
}

/// Takes the numbers of a SYN-ACK that moved nothing when it passed, because
/// there had been another one before it. The initiator has acknowledged it.
#[inline(always)]
fn adopt(flow: &mut Flow, me: usize, peer: usize, context: &Context) {
    let answer = context.pending.segment();
    begin(&mut flow.ends[peer], &answer);
    flow.ends[peer].set_bits(Bits::of(State::SynReceived as u8));
    flow.ends[peer].ack = flow.ends[me].isn.plus(1);
    flow.ends[me].max_end = flow.ends[peer].ack.plus(u32::from(answer.window));
    let window = u32::from(flow.ends[me].max_window);
    flow.ends[peer].max_end = answer.seq.plus(1).plus(window);
    unscale(flow);
}

/// Forgets both scales unless both ends offered one: only then is window scaling
/// in force (RFC 7323 section 2.2).
#[inline(always)]
fn unscale(flow: &mut Flow) {
    let [initiator, responder] = &mut flow.ends;
    if initiator.flags & responder.flags & end_flags::SCALE == 0 {
        initiator.set_scale(0);
        responder.set_scale(0);
    }
}

/// Counts a segment that moves nothing, and keeps what it leaves behind.
#[inline(always)]
fn note(
    flow: &mut Flow,
    me: usize,
    segment: &Segment,
    reason: Reason,
    context: &Context,
    outcome: &mut Outcome,
) {
    flow.ends[me].count(context.bytes);
    if judge::is_pending(reason, flow, &flow.ends[me], segment)
        && judge::is_on_path(flow, me, context)
    {
        flow.flags |= flow_flags::SYN_ON_LIVE;
        outcome.remember = 1;
    }
    if matches!(reason, Reason::ResetInexact) {
        flow.flags |= flow_flags::RST_INEXACT << me;
    }
    // A keep-alive brings an octet at most; data come again because their
    // acknowledgement was lost behind us, for as long as their sender lives.
    if matches!(reason, Reason::AlreadyReceived) && segment.payload > 1 {
        flow.ends[me].lengthen_run();
    }
    // An empty segment at the edge says that all before it was sent, of which some
    // was lost before us; and what was overtaken by many acknowledgements RFC 5961
    // section 5.2 has thrown away, and RFC 9293 taken. If it was taken, the other
    // end may send into the window that it opened, or acknowledge the data that it
    // brought: bounds are for all that may be honest. The states wait for proof,
    // and a SYN that waits for its answer takes neither.
    let takes = !flow.ends[me ^ 1].bits().is(State::SynSent);
    if matches!(reason, Reason::WindowEdge) && takes {
        open_window(flow, me, me ^ 1, segment);
    }
    if matches!(reason, Reason::AckTooOld) && takes && segment.payload != 0 {
        let end = &mut flow.ends[me];
        end.end = end.end.max(segment.seq.plus(segment.payload));
    }
    // An initiator that resets a handshake which an RST seemed to have ended.
    if matches!(reason, Reason::AfterClose)
        && segment.flags.has(Flags::RST)
        && segment.seq.0 == flow.ends[me].end.0
    {
        flow.flags |= flow_flags::RST_INEXACT << me;
    }
    // What overtook the SYN-ACK is kept until that comes.
    let peer = &flow.ends[me ^ 1];
    let unseen =
        matches!(reason, Reason::HandshakeUnseen) && flow.ends[me].bits().is(State::Listen);
    // So is what comes from a responder whose handshake only seems to be over.
    let refused = matches!(reason, Reason::AfterClose)
        && me == RESPONDER
        && flow.has(held::HALF_OPEN)
        && segment.flags.0 & (Flags::SYN | Flags::RST) == 0;
    if (unseen | refused) && judge::acks_syn(peer, segment) {
        let end = &mut flow.ends[me];
        let last = segment.end();
        // Of several the one that reaches furthest; but one that lies nowhere near
        // is not of the same connection.
        let further = end.end.since(last) < u32::from(u16::MAX);
        if end.has(end_flags::SEEN) {
            if judge::is_first(end, segment) {
                end.end = end.end.max(last);
                end.flags |= segment.flags.0 & end_flags::FIN;
            }
        } else if !(end.has(end_flags::SPOKE) && further) {
            end.end = last;
            end.flags = end_flags::SPOKE | (segment.flags.0 & end_flags::FIN);
        }
    }
}

/// Lets an RST end both endpoints.
#[inline(always)]
fn close(flow: &mut Flow, me: usize, peer: usize) {
    let mine = sending(flow.ends[me].bits(), Sent::Reset as u8).next();
    let theirs = arriving(flow.ends[peer].bits(), Received::Reset as u8).next();
    flow.ends[me].set_bits(mine);
    flow.ends[peer].set_bits(theirs);
    // Of a flow that is over, these tell who said so.
    flow.flags &= !flow_flags::RST_INEXACT_BOTH;
    flow.flags |= flow_flags::RST_INEXACT << me;
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
    // A peer in LAST_ACK had taken our FIN before it sent its own, which says so:
    // who acknowledges that one knows. So the ACK that was counted on sight has
    // arrived, even if a copy of our FIN seemed to tell that it had not.
    let mine = flow.ends[me].bits();
    let knows = knows_its_fin_taken(mine, flow.ends[peer].bits(), sent);
    let mine = Bits::of(mine.number().wrapping_add(knows)).veiled(context.veil);
    let cell = sending(mine, sent);
    let mut releasable = 0;
    // An old ACK from before the SYN acknowledges nothing of this connection.
    let acknowledges = segment.flags.has(Flags::ACK)
        & (!flow.ends[peer].bits().veiled(context.veil).is_opening()
            | segment.ack.after(flow.ends[peer].isn));
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
        let theirs = receiver.bits();
        let next = arriving(theirs, (received as u8).wrapping_add(context.veil)).next();
        flow.ends[peer].set_bits(next);
        if next.number() != theirs.number() {
            flow.end_doubt(peer);
        }
        open_window(flow, me, peer, segment);
    }
    if segment.flags.has(Flags::SYN) {
        synchronize(flow, me, peer, segment, reason, context);
    } else {
        let liberal = matches!(reason, Reason::Liberal);
        advance(flow, me, peer, segment, liberal, context);
    }
    flow.ends[me].flags |= end_flags::SEEN;
    flow.flags &= !(flow_flags::RST_INEXACT << me);
    let next = cell.next();
    // A FIN that overtook the SYN-ACK.
    let closed_early =
        segment.flags.has(Flags::SYN | Flags::ACK) & flow.ends[me].has(end_flags::FIN);
    flow.ends[me].set_bits(if closed_early {
        Bits::of(State::FinWait1 as u8)
    } else {
        next
    });
    // The doubt was about another state.
    if next.number() != mine.number() && !(mine.is(State::FinWait1) && next.is(State::Closing)) {
        flow.end_doubt(me);
    }
    let again = matches!(reason, Reason::FinRetransmit | Reason::SynAckRetransmit);
    if cell.is_back() | (again & flow.doubts(me)) {
        flow.doubt(me);
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
    let fin = segment.flags.has(Flags::FIN);
    if moved != 0 || timeout::refreshes(flow, fin, context.veil) {
        flow.last = context.now;
    }
    settle(flow, releasable, context, outcome);
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
    if matches!(reason, Reason::SynRetransmit | Reason::SynAckRetransmit) {
        // An initiator's count is of SYNs, a responder's of SYN-ACKs; in a
        // simultaneous open each sends both.
        let counts = segment.flags.has(Flags::ACK) == (me == RESPONDER);
        if counts {
            flow.ends[me].syn_retransmits = flow.ends[me].syn_retransmits.saturating_add(1);
        }
    }
    let sent_before = flow.ends[me].end;
    let known_edge = flow.ends[me].max_end;
    let same = flow.ends[me].has(end_flags::SEEN) && flow.ends[me].isn.0 == segment.seq.0;
    // Something that overtook this SYN-ACK, and lies behind it.
    let early = flow.ends[me].bits().is(State::Listen)
        & flow.ends[me].has(end_flags::SPOKE)
        & (sent_before.since(segment.end()).wrapping_sub(1) < u32::from(u16::MAX));
    begin(&mut flow.ends[me], segment);
    // One that comes again may leave out the data that the first one carried
    // (RFC 7413 section 4.1.3), which stays sent.
    if same | early {
        flow.ends[me].end = flow.ends[me].end.max(sent_before);
    } else {
        flow.ends[me].flags &= !(end_flags::FIN | end_flags::SPOKE);
    }
    // Until the first acknowledgement the windows of the SYNs count from the
    // other's SYN.
    if flow.ends[peer].has(end_flags::SEEN) {
        let edge = segment
            .seq
            .plus(1)
            .plus(u32::from(flow.ends[peer].max_window));
        flow.ends[me].max_end = if same { edge.max(known_edge) } else { edge };
        // Simultaneous open.
        if !segment.flags.has(Flags::ACK) {
            let window = u32::from(flow.ends[me].max_window);
            flow.ends[peer].max_end = flow.ends[peer].isn.plus(1).plus(window);
        }
    }
    if segment.flags.has(Flags::ACK) {
        flow.ends[me].ack = segment.ack;
        unscale(flow);
    } else if me == INITIATOR {
        flow.ends[me].ack = Seq(context.micros.0);
    } else {
        // Nothing yet, and no number that could be taken for something.
        flow.ends[me].ack = flow.ends[peer].isn;
    }
}

/// Takes the numbers of a segment after the SYN; `liberal` says that a check
/// would have refused it.
#[inline(always)]
fn advance(
    flow: &mut Flow,
    me: usize,
    peer: usize,
    segment: &Segment,
    liberal: bool,
    context: &Context,
) {
    if flow.ends[me].bits().is(State::SynSent) {
        // Karn: a repeated SYN or SYN-ACK leaves open which one was answered. And of
        // a cookie nobody kept when it was sent.
        let again = flow.ends[0].syn_retransmits | flow.ends[1].syn_retransmits;
        let from_cookie = flow.flags & flow_flags::ORIGIN_MASK != 0;
        if me == INITIATOR && again == 0 && !from_cookie {
            let syn = Micros(flow.ends[me].ack.0);
            flow.handshake_rtt = ShortMicros::pack(context.micros.since(syn));
        }
        flow.ends[me].ack = segment.ack;
    }
    check::take_timestamp(flow, me, peer, segment, context.now);
    let anchorless = liberal || flow.is_liberal() || flow.is_unanchored();
    carry(flow, me, peer, segment, anchorless);
}

/// Takes the numbers of a segment whose sender is past its SYN; `anchorless` says
/// that not all was seen that was sent.
#[inline(always)]
pub(super) fn carry(flow: &mut Flow, me: usize, peer: usize, segment: &Segment, anchorless: bool) {
    let end = &mut flow.ends[me];
    // Of a connection met in mid-life the field held a guess so far.
    if !end.has(end_flags::SEEN) {
        end.ack = segment.ack;
    }
    if segment.ack.after(end.ack) {
        end.ack = segment.ack;
        flow.ends[peer].end_run();
    }
    let end = &mut flow.ends[me];
    // An empty segment ahead of what was seen says only that something before it
    // was lost.
    let sent = segment.length() != 0 || anchorless;
    if sent && segment.end().after(end.end) {
        end.end = segment.end();
        end.end_run();
    } else if segment.payload != 0 {
        end.lengthen_run();
    }
    if segment.flags.has(Flags::FIN) {
        end.flags |= end_flags::FIN;
    }
    // The window of a SYN is in octets, all others are scaled: before the first
    // of them that is turned, rounded up, into their unit.
    if !end.has(end_flags::SPOKE) {
        let of_syn = u32::from(end.max_window) >> (end.scale() & 0x0f);
        end.max_window = (of_syn + u32::from(end.scale() != 0)) as u16;
    }
    if segment.window > end.max_window {
        end.max_window = segment.window;
    }
    end.flags |= end_flags::SPOKE;
    if anchorless {
        // Only part of what was sent has been seen.
        flow.ends[peer].end = flow.ends[peer].end.max(segment.ack);
    }
}

/// Takes the window that a segment opens to its receiver.
#[inline(always)]
pub(super) fn open_window(flow: &mut Flow, me: usize, peer: usize, segment: &Segment) {
    let shift = if segment.flags.has(Flags::SYN) {
        0
    } else {
        flow.ends[me].scale() & 0x0f
    };
    // A closed window admits a probe of one octet (RFC 9293 section 3.8.6.1).
    let window = u32::from(segment.window) << shift;
    let allowed = segment.ack.plus(if window == 0 { 1 } else { window });
    // Nothing to compare with before the first one.
    let known = flow.ends[me].has(end_flags::SEEN);
    let end = &mut flow.ends[peer];
    if !known || end.max_end.before(allowed) {
        end.max_end = allowed;
    }
}

/// Gives back what the flow no longer needs to hold: `releasable`, and what the
/// end of the handshake frees.
///
/// A flow that is reset in its handshake, or before it was proved, keeps what it
/// holds until it is removed: else whoever sends SYNs and the RSTs that belong
/// to them fills the table with flows that are over.
#[inline(always)]
fn settle(flow: &mut Flow, releasable: u16, context: &Context, outcome: &mut Outcome) {
    let [initiator, responder] = outcome.after;
    let closed = (initiator.number() | responder.number()) == State::Closed as u8;
    let opening = initiator.is_opening() | responder.is_opening();
    let was_opening = outcome.before[0].is_opening() | outcome.before[1].is_opening();
    let mut released = flow.flags & releasable;
    if !opening && !closed {
        released |= flow.flags & held::HANDSHAKE;
        // What was pending is of before: an answer to it comes late. But a SYN
        // with a higher number is of a later connection (RFC 9293 section 3.4.1:
        // the generator only goes up), whose segments overtook this one.
        let later = context.pending.is_syn_of(INITIATOR)
            & context.pending.seq.after(flow.ends[INITIATOR].isn);
        if was_opening & !context.veiled(later) {
            flow.flags &= !flow_flags::SYN_ON_LIVE;
        }
    }
    // A connection that is over is none of those that its rule counts.
    let waits = initiator.is(State::TimeWait) | responder.is(State::TimeWait);
    let over = waits | (closed & !was_opening);
    released |= flow.flags & held::RULED & 0_u16.wrapping_sub(over as u16);
    flow.flags &= !released;
    outcome.released = released;
    let embryo = opening | (was_opening & closed) | flow.has(held::PICKUP);
    outcome.embryo = embryo as u8;
}
