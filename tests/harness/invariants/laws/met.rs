//! What a segment may do to the flow that it meets.

mod taken;

use tracker::replay::{Entry, Passage, Seen, Table, comparable};
use tracker_common::{
    abi::{
        Flow, Live, Path, RESPONDER, Refusal, Role, Zone, end_flags, flow_flags, held, switches,
    },
    parse::Packet,
    reason::{Class, Reason},
    tcp::{Flags, Move, Received, Segment, Sent, State, on_arrival, on_sending, timeout::settled},
    time::Tick,
};

/// Reasons for which a segment counts: it moves its flow, or could.
const COUNTING: [Reason; 7] = [
    Reason::Tracked,
    Reason::SynRetransmit,
    Reason::SynAckRetransmit,
    Reason::FinRetransmit,
    Reason::ResetClosed,
    Reason::FirstFragment,
    Reason::Liberal,
];

/// Reasons of a SYN or SYN-ACK that is remembered until somebody answers it.
const REMEMBERED: [Reason; 4] = [
    Reason::SynOnLive,
    Reason::SynInTimeWait,
    Reason::SynRenewed,
    Reason::SynAckRenewed,
];

/// Flags that never change while a flow lives.
const FIXED: u16 = flow_flags::INITIATOR_HIGH | flow_flags::GUESSED | flow_flags::ORIGIN_MASK;

/// A segment that met a flow.
pub struct Met<'a> {
    reason: Reason,
    segment: &'a Segment,
    /// Octets of the datagram.
    bytes: u32,
    path: Path,
    now: Tick,
    live: &'a Live,
    /// The flow before, as it stood at that moment.
    before: &'a Entry,
    /// The same, after what was in doubt had settled.
    settled: Flow,
    after: &'a Entry,
    /// Index of its sender.
    me: usize,
}

impl<'a> Met<'a> {
    /// What is known of it.
    pub fn new(
        passage: &Passage,
        packet: &'a Packet,
        seen: &Seen,
        table: &'a Table,
        before: &'a Entry,
        after: &'a Entry,
    ) -> Self {
        let now = Tick::from_ns(seen.now_ns);
        let (_, side) = packet.key(match table.settings().role {
            Role::Host => Zone::of_vids(packet.outer, packet.inner),
            Role::Gateway => Zone(0),
        });
        let path = Path::new(seen.ifindex, packet.outer, packet.inner);
        Self {
            reason: passage.reason,
            segment: &packet.segment,
            bytes: packet.bytes,
            path: if seen.leaves { path.leaving() } else { path },
            now,
            live: &table.settings().live,
            before,
            settled: settled(&before.flow, now),
            after,
            me: before.flow.index_of(side),
        }
    }

    /// Checks it.
    ///
    /// # Panics
    ///
    /// A law is broken.
    pub fn judge(&self) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        assert_eq!(before.generation, after.generation);
        assert_eq!((before.tag, before.first), (after.tag, after.first));
        assert_eq!(before.flags & FIXED, after.flags & FIXED);
        assert_eq!(after.flags & held::MASK & !before.flags, 0, "it gained");
        if self.reason.class() == Class::Refuse {
            self.refused();
        } else if self.is_beyond_comparison() {
            self.noted();
        } else if COUNTING.contains(&self.reason) || self.calls() {
            self.counted();
        } else {
            self.noted();
        }
        self.remembered();
        self.stepped();
    }

    /// Whether a segment that is exempt from checks acknowledges what lies further
    /// from anything sent than a window can reach, either way: of such numbers
    /// nobody can say which is the later one, so it moves nothing.
    fn is_beyond_comparison(&self) -> bool {
        const WINDOW: u32 = 1 << 30;
        let sent = self.settled.ends[self.me ^ 1].end;
        let plain = self.segment.flags.0 & (Flags::SYN | Flags::RST) == 0;
        let distance = self.segment.ack.since(sent.minus(WINDOW));
        self.reason == Reason::Liberal && plain && distance > 2 * WINDOW
    }

    /// Whether who had called is called with another number: of a SYN that nobody
    /// has acknowledged nothing is left. An RST may have seemed to end the call.
    fn calls(&self) -> bool {
        let states = self.settled.states();
        let moved = states != self.after.flow.states();
        self.reason == Reason::SynAckRenewed && (states == [State::SynSent; 2] || moved)
    }

    /// What is refused changes nothing of its flow.
    fn refused(&self) {
        self.moves_nothing();
        assert_eq!(
            comparable(&settled(&self.after.flow, self.now)),
            comparable(&self.settled),
            "{:?} changes its flow",
            self.reason
        );
        let refusal = self.after.refusal.as_deref().expect("what was refused");
        let Refusal {
            time,
            reason,
            sender,
            flags,
            seq,
            ack,
            length,
            bound,
            ..
        } = *refusal;
        let segment = self.segment;
        assert_eq!(
            (time, reason, usize::from(sender)),
            (self.now, self.reason as u8, self.me)
        );
        assert_eq!(
            (flags, seq, ack, length),
            (segment.flags.0, segment.seq, segment.ack, segment.length())
        );
        let value = match self.reason {
            Reason::SynData => return,
            Reason::HandshakeWrongAck | Reason::ResetWrongAck | Reason::AckUnsent => segment.ack.0,
            Reason::BeyondFin => segment.end().0,
            Reason::BeyondWindow | Reason::ResetOutsideWindow => segment.seq.0,
            Reason::TimestampOld => segment.options.ts_value,
            other => panic!("a segment of a flow is refused for {other:?}"),
        };
        assert_eq!(bound.value, value, "{:?}", self.reason);
        self.bound_is_the_flows(&bound);
        // Of numbers that lie half of the circle apart neither is the lower one;
        // only a flow met in mid-life can have such, or one whose numbers nobody
        // checks.
        let width = bound.high.wrapping_sub(bound.low);
        let told = width < 1 << 31;
        let unchecked = self.settled.is_liberal() || self.live.switches & switches::LIBERAL != 0;
        assert!(
            told || unchecked || self.settled.is_unanchored(),
            "{:?}: {bound:?} of {:?}",
            self.reason,
            self.settled
        );
        assert!(
            !told || bound.value.wrapping_sub(bound.low) > width,
            "{:?} although {bound:?} holds for {:?}",
            self.reason,
            self.settled
        );
    }

    /// What passes and is no part of the connection is counted, and may leave a
    /// mark.
    fn noted(&self) {
        self.moves_nothing();
        let mut expected = self.settled;
        let after = settled(&self.after.flow, self.now);
        let (me, segment) = (self.me, self.segment);
        expected.ends[me].count(self.bytes);
        let marks = match self.reason {
            reason if REMEMBERED.contains(&reason) => flow_flags::SYN_ON_LIVE,
            Reason::ResetInexact => flow_flags::RST_INEXACT << me,
            Reason::AfterClose if segment.flags.has(Flags::RST) => flow_flags::RST_INEXACT << me,
            _ => 0,
        };
        expected.flags |= after.flags & marks;
        if self.reason == Reason::AlreadyReceived && segment.payload > 1 {
            expected.ends[me].lengthen_run();
        }
        // Its receiver may take what was overtaken by acknowledgements, or lies
        // at the edge behind something that was lost.
        let peer = me ^ 1;
        let takes = expected.ends[peer].state() != State::SynSent;
        if self.reason == Reason::AckTooOld && takes && segment.payload != 0 {
            let end = &mut expected.ends[me].end;
            *end = end.max(segment.seq.plus(segment.payload));
        }
        if self.reason == Reason::WindowEdge && takes {
            expected.ends[peer].max_end = self.opened();
        }
        // Of what overtook a SYN-ACK it is remembered how far it reached.
        let listens = expected.ends[me].state() == State::Listen;
        let (was, is) = (&expected.ends[me], &after.ends[me]);
        let remembered = (was.end, was.flags) != (is.end, is.flags);
        if self.reason == Reason::HandshakeUnseen && listens && remembered {
            let called = &expected.ends[peer];
            assert!(segment.ack.after(called.isn) && !segment.ack.after(called.end));
            expected.ends[me].end = segment.end();
            expected.ends[me].flags = end_flags::SPOKE | segment.flags.0 & end_flags::FIN;
        }
        // And of what comes from a responder whose handshake only seems to be over.
        let refused = self.reason == Reason::AfterClose
            && me == RESPONDER
            && self.settled.has(held::HALF_OPEN)
            && segment.flags.0 & (Flags::SYN | Flags::RST) == 0;
        if refused && remembered {
            let (caller, end) = (&self.settled.ends[peer], &mut expected.ends[me]);
            assert!(segment.ack.after(caller.isn) && !segment.ack.after(caller.end));
            if end.has(end_flags::SEEN) {
                assert!(segment.seq.after(end.isn) && !segment.seq.after(end.max_end));
                end.end = end.end.max(segment.end());
                end.flags |= segment.flags.0 & end_flags::FIN;
            } else {
                end.end = segment.end();
                end.flags = end_flags::SPOKE | segment.flags.0 & end_flags::FIN;
            }
        }
        assert_eq!(
            comparable(&after),
            comparable(&expected),
            "{:?} changes its flow:\n{after:?}\ninstead of\n{expected:?}",
            self.reason
        );
    }

    fn moves_nothing(&self) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        assert_eq!(before.last, after.last, "{:?} keeps it alive", self.reason);
        assert_eq!(before.event_seq(), after.event_seq());
        assert_eq!(
            self.settled.states(),
            settled(after, self.now).states(),
            "{:?} moves its flow",
            self.reason
        );
    }

    /// What counts moves both ends as the table of states says.
    fn counted(&self) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        let (me, peer) = (self.me, self.me ^ 1);
        let (was, is) = (&self.settled.ends, &after.ends);
        let moved = self.settled.states() != after.states();
        let events = after.event_seq().wrapping_sub(before.event_seq());
        assert_eq!(events, u8::from(moved), "{:?}", self.reason);
        assert_eq!(is[me].packets(), was[me].packets() + 1);
        assert_eq!(is[me].bytes, was[me].bytes + u64::from(self.bytes));
        assert_eq!(
            (is[peer].packets(), is[peer].bytes),
            (was[peer].packets(), was[peer].bytes)
        );
        assert_eq!(after.paths[me].differs(self.path), 0);
        assert_eq!(after.paths[peer].differs(before.paths[peer]), 0);
        self.lives_on(moved);
        let flags = self.segment.flags;
        if flags.has(Flags::RST) {
            self.reset();
        } else {
            assert!(
                self.starts().iter().any(|&from| self.leads(from)),
                "{:?} of end {me} leads from {:?} to {:?}: {:?} on {:?}",
                self.reason,
                self.settled.states(),
                after.states(),
                self.segment,
                self.settled
            );
        }
        if !flags.has(Flags::SYN) && !flags.has(Flags::RST) {
            self.took();
        }
        let [initiator, responder] = after.states();
        let handshake = initiator.is_opening() || responder.is_opening();
        let closed = [initiator, responder] == [State::Closed; 2];
        assert!(handshake || closed || !after.has(held::HALF_OPEN));
    }

    /// What keeps a flow alive: a move; of a flow that is open whatever counts; of
    /// one in its handshake nothing else, or who repeats a SYN would hold its
    /// place for ever.
    fn lives_on(&self, moved: bool) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        let states = after.states();
        let opening = states.iter().any(|state| state.is_opening());
        let open = states == [State::Established; 2];
        let expected: &[Tick] = if moved || open {
            &[self.now]
        } else if opening && !after.is_in_doubt() {
            &[before.last]
        } else {
            // In TIME_WAIT it depends on the segment, and a state that is in
            // doubt stands for another.
            &[before.last, self.now]
        };
        assert!(
            expected.contains(&after.last),
            "{:?} at {:?} leaves {after:?}",
            self.reason,
            self.now
        );
    }

    /// An RST closes a flow whose ends are past their handshakes only if it is
    /// exact.
    fn reset(&self) {
        assert_eq!(self.after.flow.states(), [State::Closed; 2]);
        let (me, peer) = (self.me, self.me ^ 1);
        let ends = &self.settled.ends;
        let anyhow = self.settled.is_liberal()
            || self.live.switches & switches::LIBERAL != 0
            || self.segment.fragmented != 0;
        let Segment { seq, ack, .. } = *self.segment;
        let acknowledges = self.segment.flags.has(Flags::ACK);
        // Who does not know of a SYN that had passed refuses it.
        let refuses = self.before.pending.as_deref().is_some_and(|pending| {
            let beyond = ack.since(pending.seq).wrapping_sub(1);
            acknowledges && usize::from(pending.sender) == peer && beyond <= pending.payload
        });
        // In a handshake its receiver waits for an answer to its SYN, or has it
        // already, and its ACK is on the way.
        let answers = match ends[peer].state() {
            State::SynSent => {
                acknowledges && ack.after(ends[peer].isn) && !ack.after(ends[peer].end)
            }
            State::Listen => seq == ends[me].isn,
            _ => false,
        };
        let next = match ends[peer].state() {
            State::SynSent => ends[me].isn.plus(1),
            _ => ends[peer].ack,
        };
        assert!(
            anyhow || refuses || answers || seq == next || seq == ends[me].end,
            "an RST of {seq:?} closes {ends:?}"
        );
    }

    /// Pairs of states from which the segment may have moved its flow: its own;
    /// those to which it revived it; those after the SYN-ACK that it takes; and
    /// that which its sender knows.
    fn starts(&self) -> Vec<[State; 2]> {
        use State::{Closed, FinWait1, Listen, SynReceived, SynSent};
        let mut starts = vec![self.settled.states()];
        if self.settled.states() == [Closed; 2] && self.settled.has(held::HALF_OPEN) {
            let responders = [FinWait1, SynReceived, SynSent, Listen];
            starts.extend(responders.map(|responder| [SynSent, responder]));
        }
        // Who acknowledges the FIN of one in LAST_ACK knows that its own has
        // arrived, whatever a copy of it seemed to tell.
        let mut pair = self.settled.states();
        if pair[self.me] == FinWait1 && pair[self.me ^ 1] == State::LastAck {
            pair[self.me] = State::FinWait2;
            starts.push(pair);
        }
        let adopted = self.before.pending.as_deref();
        if adopted.is_some_and(|pending| pending.known == 2) {
            let mut pair = self.settled.states();
            pair[self.me ^ 1] = SynReceived;
            starts.push(pair);
        }
        starts
    }

    /// Whether the table leads from `from` to where the flow is.
    fn leads(&self, from: [State; 2]) -> bool {
        let (me, peer) = (self.me, self.me ^ 1);
        let [is, peer_is] = [me, peer].map(|end| self.after.flow.ends[end].state());
        let flags = self.segment.flags;
        let fin = flags.has(Flags::FIN);
        let sent_syn_ack = flags.has(Flags::SYN | Flags::ACK);
        let receiver = &self.settled.ends[peer];
        let acks_fin = receiver.has(end_flags::FIN) && !self.segment.ack.before(receiver.end);
        let sent = match (flags.has(Flags::SYN), flags.has(Flags::ACK), fin) {
            (true, false, _) => Sent::Syn,
            // The second SYN-ACK of a simultaneous open is an ACK.
            (true, true, _)
                if from[me] == State::SynSent
                    && !matches!(from[peer], State::SynSent | State::Listen) =>
            {
                Sent::Ack
            }
            (true, true, _) => Sent::SynAck,
            (false, _, true) if acks_fin => Sent::FinAckOfFin,
            (false, _, true) => Sent::Fin,
            (false, _, false) if acks_fin => Sent::AckOfFin,
            (false, _, false) => Sent::Ack,
        };
        let sender = match on_sending(from[me], sent) {
            Move::To(next) | Move::Back(next) => {
                // Its FIN had overtaken its SYN-ACK.
                let early = sent_syn_ack && self.after.flow.ends[me].has(end_flags::FIN);
                is == if early { State::FinWait1 } else { next }
            }
            Move::Odd => false,
        };
        let received = if acks_fin {
            Received::AckOfFin
        } else {
            Received::AckOfSyn
        };
        let receiver = peer_is == from[peer]
            || flags.has(Flags::ACK)
                && matches!(on_arrival(from[peer], received), Move::To(next) if next == peer_is);
        sender && receiver
    }

    /// What is kept beside the flow is what came.
    fn remembered(&self) {
        if self.reason.class() != Class::Refuse {
            assert_eq!(self.before.refusal, self.after.refusal);
        }
        if self.before.pending != self.after.pending {
            assert!(REMEMBERED.contains(&self.reason), "{:?}", self.reason);
            let pending = self.after.pending.as_deref().expect("what was remembered");
            assert_eq!(pending.seq, self.segment.seq);
            assert_eq!(usize::from(pending.sender), self.me);
        }
    }

    /// A move is the newest step of the flow's history, where it has one.
    fn stepped(&self) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        let moved = before.event_seq() != after.event_seq();
        let opening = |states: [State; 2]| states.iter().any(|state| state.is_opening());
        let ended_early = opening(self.settled.states()) && after.states() == [State::Closed; 2];
        // Of a flow that is past its handshake and proved every move is kept.
        let kept = !opening(after.states()) && !ended_early && !after.has(held::PICKUP);
        let Some(history) = self.after.history.as_deref() else {
            assert!(!moved || !kept, "{:?} is not remembered", self.reason);
            return;
        };
        let steps: Vec<_> = history.in_order(after.event_seq()).collect();
        if before.event_seq() == after.event_seq() {
            assert_eq!(self.before.history, self.after.history);
            return;
        }
        let Some(newest) = steps.last().filter(|step| step.seq == after.event_seq()) else {
            assert!(!kept, "{:?} is not remembered", self.reason);
            assert_eq!(self.before.history, self.after.history);
            return;
        };
        assert_eq!(newest.pair(), after.bits());
        assert_eq!((newest.time, newest.reason), (self.now, self.reason as u8));
    }
}
