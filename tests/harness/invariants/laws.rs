//! What one packet may do to the flows.
//!
//! The laws are told in terms of the flows before and after it, so they do not
//! know how the brain came to its answer.

use tracker::replay::{Entry, Id, Passage, Seen, Table, comparable};
use tracker_common::{
    abi::{
        Cause, Endpoint, Family, Flow, Live, Path, Refusal, Role, end_flags, flow_flags, held,
        switches,
    },
    parse::Packet,
    reason::{Class, Reason},
    tcp::{
        Flags, Move, Received, Segment, Sent, State, on_arrival, on_sending,
        timeout::{self, expired, remaining, settled},
    },
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

/// Reasons of a segment that opens a flow.
const OPENING: [Reason; 4] = [
    Reason::FlowOpened,
    Reason::FlowReopened,
    Reason::FlowPickedUp,
    Reason::FlowRestarted,
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

/// Looks on.
#[derive(Debug, Default)]
pub struct Observer {
    /// Generation of the newest flow.
    newest: u32,
}

/// A segment that met a flow.
struct Met<'a> {
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

impl Observer {
    /// Before the first packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a frame act on the table, and checks what came of it. `id` is the
    /// flow that it would belong to, were it read.
    ///
    /// # Panics
    ///
    /// A law is broken.
    pub fn packet(&mut self, table: &mut Table, frame: &[u8], seen: &Seen, id: &Id) {
        let before = table.get(id).cloned();
        let passage = table.packet_of(frame, seen);
        let packet = *table.packet();
        let now = Tick::from_ns(seen.now_ns);
        let after = table.get(id);
        let reason = passage.reason;
        let live = &table.settings().live;
        let Some(found) = passage.id else {
            assert!(reason == Reason::BadChecksum || !is_of_segments(reason));
            same(before.as_ref(), after, "is no segment");
            return;
        };
        assert_eq!(found, *id, "a packet belongs to another flow");
        if packet.quoted != 0 {
            assert!(matches!(
                reason,
                Reason::IcmpRelated | Reason::IcmpUnrelated
            ));
            same(before.as_ref(), after, "is an ICMP error");
            return;
        }
        assert!(is_of_segments(reason), "{reason:?} is no segment's reason");
        let over = before
            .as_ref()
            .is_some_and(|before| expired(&before.flow, now, live));
        if over {
            let cause = passage.ended.as_ref().map(|ended| ended.cause);
            assert_eq!(
                cause,
                Some(Cause::Expired),
                "an expired flow met {reason:?}"
            );
        }
        match (&before, &passage.ended) {
            (Some(before), None) => {
                let after = after.expect("a flow is gone and nobody was told");
                Met::new(&passage, &packet, seen, table, before, after).judge();
            }
            (before, ended) => {
                if let Some(ended) = ended {
                    let before = before.as_ref().expect("a flow ended that was none");
                    assert_eq!(ended.entry.flow.generation, before.flow.generation);
                    assert!(over || ended.cause == Cause::Replaced);
                    if ended.cause == Cause::Replaced {
                        replaced(before, &packet, now, live);
                    }
                }
                self.opened(reason, after, &packet, now, live);
            }
        }
        books(table, seen.now_ns);
    }

    /// Checks a flow that is new, or that there is none.
    fn opened(
        &mut self,
        reason: Reason,
        after: Option<&Entry>,
        packet: &Packet,
        now: Tick,
        live: &Live,
    ) {
        assert_eq!(after.is_some(), OPENING.contains(&reason), "{reason:?}");
        let Some(Entry {
            flow,
            history: None,
            refusal: None,
            pending: None,
        }) = after
        else {
            assert!(after.is_none(), "a new flow remembers something");
            return;
        };
        assert!(flow.generation > self.newest, "an old generation");
        self.newest = flow.generation;
        assert_eq!((flow.first, flow.last, flow.event_seq()), (now, now, 1));
        let flags = packet.segment.flags;
        let expected = match reason {
            Reason::FlowPickedUp => {
                assert!(live.pickup != 0 && flags.0 & (Flags::SYN | Flags::RST) == 0);
                held::PICKUP
            }
            Reason::FlowRestarted => {
                assert_eq!(flow.states(), [State::SynSent, State::SynReceived]);
                held::HALF_OPEN
            }
            _ => {
                assert!(packet.segment.is_syn());
                assert_eq!(flow.states(), [State::SynSent, State::Listen]);
                held::HALF_OPEN
            }
        };
        assert_eq!(flow.flags & held::MASK, expected, "{reason:?}");
        let counted: u64 = flow.ends.iter().map(Endpoint::packets).sum();
        assert_eq!(counted, 1, "a new flow of {counted} packets");
    }

    /// Has a flow removed if it has expired.
    ///
    /// # Panics
    ///
    /// A law is broken.
    pub fn expire(&self, table: &mut Table, id: &Id, now_ns: u64) {
        let now = Tick::from_ns(now_ns);
        let live = table.settings().live;
        let over = table.get(id).map(|entry| expired(&entry.flow, now, &live));
        let ended = table.expire(id, now_ns);
        assert_eq!(over.unwrap_or(false), ended.is_some());
        assert_eq!(over == Some(false), table.get(id).is_some());
        books(table, now_ns);
    }

    /// Has every flow removed that has expired.
    ///
    /// # Panics
    ///
    /// A law is broken.
    pub fn sweep(&self, table: &mut Table, now_ns: u64) {
        let now = Tick::from_ns(now_ns);
        let live = table.settings().live;
        let before = table.flows().len();
        let ended = table.sweep(now_ns);
        assert_eq!(before, table.flows().len() + ended.len());
        for over in &ended {
            assert!(expired(&over.entry.flow, now, &live) && over.at_ns <= now_ns);
        }
        for (_, entry) in table.flows() {
            assert!(!expired(&entry.flow, now, &live), "an expired flow is left");
        }
        books(table, now_ns);
    }
}

/// Whether a reason can be that of a whole segment.
const fn is_of_segments(reason: Reason) -> bool {
    matches!(reason as u8, 8..=18 | 20 | 32..=41 | 48..=55 | 57 | 78 | 96..)
}

/// What a packet that is no segment does to a flow.
fn same(before: Option<&Entry>, after: Option<&Entry>, why: &str) {
    assert_eq!(
        before.map(|entry| comparable(&entry.flow)),
        after.map(|entry| comparable(&entry.flow)),
        "a packet moves a flow that {why}"
    );
}

/// A flow that has not expired makes room only for a connection that its ends
/// may have begun: both were over, and the SYN is no old duplicate; or one end
/// has answered a SYN of the other.
fn replaced(before: &Entry, packet: &Packet, now: Tick, live: &Live) {
    let segment = &packet.segment;
    let flow = settled(&before.flow, now);
    let states = flow.states();
    if segment.is_syn() {
        let over = states
            .iter()
            .all(|state| matches!(state, State::TimeWait | State::Closed));
        assert!(over, "a SYN replaces a flow in {states:?}");
        let closed = states == [State::Closed; 2];
        assert!(closed || live.switches & switches::STRICT_2MSL == 0);
        return;
    }
    let pending = before.pending.as_deref();
    let pending = pending.expect("a flow was replaced by something else than a SYN");
    assert!(segment.flags.has(Flags::SYN | Flags::ACK));
    let beyond = segment.ack.since(pending.seq).wrapping_sub(1);
    assert!(pending.known == 1 && beyond <= pending.payload);
}

impl<'a> Met<'a> {
    fn new(
        passage: &Passage,
        packet: &'a Packet,
        seen: &Seen,
        table: &'a Table,
        before: &'a Entry,
        after: &'a Entry,
    ) -> Self {
        let now = Tick::from_ns(seen.now_ns);
        let (_, side) = packet.key(match table.settings().role {
            Role::Host => tracker_common::abi::Zone::of_vids(packet.outer, packet.inner),
            Role::Gateway => tracker_common::abi::Zone(0),
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

    fn judge(&self) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        assert_eq!(before.generation, after.generation);
        assert_eq!((before.tag, before.first), (after.tag, after.first));
        assert_eq!(before.flags & FIXED, after.flags & FIXED);
        assert_eq!(after.flags & held::MASK & !before.flags, 0, "it gained");
        if self.reason.class() == Class::Refuse {
            self.refused();
        } else if COUNTING.contains(&self.reason) || self.calls() {
            self.counted();
        } else {
            self.noted();
        }
        self.remembered();
        self.stepped();
    }

    /// Whether who had called is called with another number: of a SYN that nobody
    /// has acknowledged nothing is left.
    fn calls(&self) -> bool {
        let [me, peer] = [self.me, self.me ^ 1].map(|end| self.settled.ends[end].state());
        self.reason == Reason::SynAckRenewed && [me, peer] == [State::SynSent; 2]
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
        assert!(
            bound.value.wrapping_sub(bound.low) > bound.high.wrapping_sub(bound.low),
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
        let overtook =
            self.reason == Reason::HandshakeUnseen && expected.ends[me].state() == State::Listen;
        if overtook && after.ends[me].has(end_flags::SPOKE) {
            expected.ends[me].end = after.ends[me].end;
            expected.ends[me].flags = after.ends[me].flags;
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
        assert!(after.last == self.now || after.last == before.last && !moved);
        let flags = self.segment.flags;
        if flags.has(Flags::RST) {
            self.reset();
        } else {
            assert!(
                self.starts().iter().any(|&from| self.leads(from)),
                "{:?} of {flags:?} leads from {:?} to {:?}",
                self.reason,
                self.settled.states(),
                after.states()
            );
        }
        if !flags.has(Flags::SYN) {
            assert_eq!(was[me].isn, is[me].isn);
            // Half of the circle away is before and after at once.
            let forth = is[me].end.since(was[me].end);
            assert!(
                forth <= 1 << 31,
                "{:?} takes back what was sent: {:?}",
                self.reason,
                self.settled
            );
        }
        let [initiator, responder] = after.states();
        let handshake = initiator.is_opening() || responder.is_opening();
        let closed = [initiator, responder] == [State::Closed; 2];
        assert!(handshake || closed || !after.has(held::HALF_OPEN));
    }

    /// An RST closes a flow whose ends are past their handshakes only if it is
    /// exact.
    fn reset(&self) {
        assert_eq!(self.after.flow.states(), [State::Closed; 2]);
        let (me, peer) = (self.me, self.me ^ 1);
        let ends = &self.settled.ends;
        let anyhow = self.settled.is_liberal()
            || self.live.switches & switches::LIBERAL != 0
            || self.segment.fragmented != 0
            || self.before.pending.is_some()
            || self.settled.states().iter().any(|state| state.is_opening());
        let seq = self.segment.seq;
        assert!(
            anyhow || seq == ends[peer].ack || seq == ends[me].end,
            "an RST of {seq:?} closes {ends:?}"
        );
    }

    /// Pairs of states from which the segment may have moved its flow: its own;
    /// those to which it revived it; and those after the SYN-ACK that it takes.
    fn starts(&self) -> Vec<[State; 2]> {
        use State::{Closed, FinWait1, Listen, SynReceived, SynSent};
        let mut starts = vec![self.settled.states()];
        if self.settled.states() == [Closed; 2] && self.settled.has(held::HALF_OPEN) {
            let responders = [FinWait1, SynReceived, SynSent, Listen];
            starts.extend(responders.map(|responder| [SynSent, responder]));
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
        let receiver = &self.settled.ends[peer];
        let acks_fin = receiver.has(end_flags::FIN) && !self.segment.ack.before(receiver.end);
        let sent = match (flags.has(Flags::SYN), flags.has(Flags::ACK), fin) {
            (true, false, _) => Sent::Syn,
            (true, true, _) => Sent::SynAck,
            (false, _, true) if acks_fin => Sent::FinAckOfFin,
            (false, _, true) => Sent::Fin,
            (false, _, false) if acks_fin => Sent::AckOfFin,
            (false, _, false) => Sent::Ack,
        };
        let sender = match on_sending(from[me], sent) {
            Move::To(next) | Move::Back(next) => {
                // Its FIN had overtaken its SYN-ACK.
                let early = next == State::SynReceived && self.settled.ends[me].has(end_flags::FIN);
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
        let Some(history) = self.after.history.as_deref() else {
            return;
        };
        let steps: Vec<_> = history.in_order(after.event_seq()).collect();
        if before.event_seq() == after.event_seq() {
            assert_eq!(self.before.history, self.after.history);
            return;
        }
        let Some(newest) = steps.last().filter(|step| step.seq == after.event_seq()) else {
            // Back in its handshake, or not proved: not kept.
            assert_eq!(self.before.history, self.after.history);
            return;
        };
        assert_eq!(newest.pair(), after.bits());
        assert_eq!((newest.time, newest.reason), (self.now, self.reason as u8));
    }
}

/// What holds of a table at any time.
///
/// # Panics
///
/// It does not.
pub fn books(table: &Table, now_ns: u64) {
    let live = &table.settings().live;
    let flows = table.flows();
    let count = |what: &dyn Fn(&Id, &Flow) -> bool| {
        let count = flows.iter().filter(|(id, entry)| what(id, &entry.flow));
        count.count() as u64
    };
    let half_open = count(&|_, flow| flow.has(held::HALF_OPEN));
    let pickups = count(&|_, flow| flow.has(held::PICKUP));
    assert_eq!((table.half_open(), table.pickups()), (half_open, pickups));
    assert!(half_open <= live.half_open_limit.into() && pickups <= live.pickup_limit.into());
    for family in [Family::V4, Family::V6] {
        let own = count(&|id, _| id.family() == family);
        assert_eq!(table.count(family), own);
        assert!(own <= live.capacity.into());
    }
    for (id, entry) in flows {
        sound(id, &entry.flow, Tick::from_ns(now_ns), live);
    }
}

/// What holds of a flow at any time.
fn sound(id: &Id, flow: &Flow, now: Tick, live: &Live) {
    assert_eq!(flow.tag, id.key().tag(id.family()));
    assert!(!flow.has(held::HALF_OPEN | held::PICKUP));
    assert_eq!(
        flow.flags & held::MASK & !(held::HALF_OPEN | held::PICKUP),
        0
    );
    assert!(flow.last.since(flow.first) == flow.last.0.wrapping_sub(flow.first.0));
    for end in &flow.ends {
        assert!(end.scale() <= 14);
        assert!(!end.has(end_flags::SEEN) || end.max_window >= 1);
        assert!((end.bits().number() as usize) < State::COUNT);
    }
    let stands = settled(flow, now);
    assert!(!stands.is_in_doubt() || flow.is_in_doubt());
    assert_eq!(comparable(&stands), comparable(&settled(&stands, now)));
    assert_eq!(expired(flow, now, live), remaining(flow, now, live) == 0);
    assert_eq!(timeout::class_of(stands.states()), {
        let [a, b] = stands.states();
        timeout::class_of([b, a])
    });
    over_for_good(flow, now, live);
}

/// A flow that has expired does not come back as time goes on.
fn over_for_good(flow: &Flow, now: Tick, live: &Live) {
    const LATER: [u32; 6] = [1, 100, 2000, 10_000, 60_000, 1 << 24];
    let mut over = expired(flow, now, live);
    for ticks in LATER {
        let later = expired(flow, Tick(now.0.wrapping_add(ticks)), live);
        assert!(later || !over, "an expired flow is back: {flow:?}");
        over = later;
    }
}
