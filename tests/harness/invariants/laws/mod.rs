//! What one packet may do to the flows.
//!
//! The laws are told in terms of the flows before and after it, so they do not
//! know how the brain came to its answer.
//!
//! | module | concern |
//! |---|---|
//! | `books` | what holds of a table at any time |
//! | `met` | what a segment may do to the flow that it meets |
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what a law does not name is under the law that holds for all the rest"
)]

pub mod books;
mod met;

use tracker::replay::{Entry, Id, Seen, Table, comparable};
use tracker_common::{
    abi::{Cause, Endpoint, Live, held, switches},
    parse::Packet,
    reason::Reason,
    tcp::{
        Flags, State,
        timeout::{expired, settled},
    },
    time::Tick,
};

use self::{books::books, met::Met};

/// Reasons of a segment that opens a flow.
const OPENING: [Reason; 4] = [
    Reason::FlowOpened,
    Reason::FlowReopened,
    Reason::FlowPickedUp,
    Reason::FlowRestarted,
];

/// Looks on.
#[derive(Debug, Default)]
pub struct Observer {
    /// Generation of the newest flow.
    newest: u32,
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
                self.opened(reason, after, &packet, seen, live);
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
        seen: &Seen,
        live: &Live,
    ) {
        let (now, local) = (Tick::from_ns(seen.now_ns), seen.local);
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
                held::HALF_OPEN | held::COUNTED
            }
            _ => {
                assert!(packet.segment.is_syn());
                assert_eq!(flow.states(), [State::SynSent, State::Listen]);
                // Its own clients are not counted.
                held::HALF_OPEN | if local { 0 } else { held::COUNTED }
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
