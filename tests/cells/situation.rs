//! What a flow is found in, and what may happen to it.

use tracker_common::{
    abi::{Flow, end_flags, flow_flags, held},
    tcp::{Flags, Sent, State, State::Closed as CL},
};
use tracker_tests::program::{
    frame::Frame,
    talk::{A, B, End, Talk},
};

/// How much of its peer's an endpoint has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acked {
    Nothing,
    Syn,
    Fin,
}

/// An endpoint as far as it matters for what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub state: State,
    /// Its FIN was seen.
    pub closed: bool,
    /// Something of it was seen that counted.
    pub seen: bool,
    /// And that was more than a SYN.
    pub spoke: bool,
    /// Of what its peer has sent, what it has acknowledged.
    pub acked: Acked,
    /// A retransmission has taken back what it had become on sight.
    pub doubted: bool,
}

/// A flow likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Situation {
    pub places: [Place; 2],
    /// It holds a place among the half-open flows.
    pub half_open: bool,
    /// Of a flow that is over: which ends have said so by an exact RST.
    pub resets: [bool; 2],
}

impl Situation {
    pub fn of(flow: &Flow) -> Self {
        let place = |side: usize| {
            let (end, peer) = (&flow.ends[side], &flow.ends[side ^ 1]);
            let acked =
                if !end.has(end_flags::SEEN) || !end.ack.after(peer.isn) || end.ack.after(peer.end)
                {
                    Acked::Nothing
                } else if end.ack == peer.end && peer.has(end_flags::FIN) {
                    Acked::Fin
                } else {
                    Acked::Syn
                };
            Place {
                state: end.state(),
                closed: end.has(end_flags::FIN),
                seen: end.has(end_flags::SEEN),
                spoke: end.has(end_flags::SPOKE),
                acked,
                doubted: flow.doubts(side),
            }
        };
        let over = flow.states() == [CL, CL];
        Self {
            places: [place(0), place(1)],
            half_open: flow.has(held::HALF_OPEN),
            resets: [0, 1].map(|side| over && flow.has(flow_flags::RST_INEXACT << side)),
        }
    }

    pub fn states(&self) -> [State; 2] {
        self.places.map(|place| place.state)
    }

    pub fn is_over(&self) -> bool {
        self.states() == [CL, CL]
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An end sends this, with the numbers that the flow knows of it.
    Sends(End, Sent),
    /// An end sends a SYN with a number behind all that it has sent.
    SendsNewSyn(End),
    /// Nobody says anything for so long that every segment which was not
    /// answered must have come again.
    Silence,
}

pub fn steps() -> impl Iterator<Item = Step> {
    let sent = [A, B]
        .into_iter()
        .flat_map(|from| Sent::ALL.map(|sent| Step::Sends(from, sent)));
    sent.chain([Step::SendsNewSyn(A), Step::SendsNewSyn(B), Step::Silence])
}

/// Longer than any doubt (no retransmission time-out exceeds 240 s).
pub const SILENCE_MS: u64 = 245_000;

/// The segment of a step, in a flow or as the first of all. `None` where there
/// is no FIN to acknowledge, or no SYN to follow, or only silence.
pub fn segment(talk: &Talk, flow: Option<&Flow>, step: Step) -> Option<Frame> {
    let (from, sent) = match step {
        Step::Sends(from, sent) => (from, Some(sent)),
        Step::SendsNewSyn(from) => (from, None),
        Step::Silence => return None,
    };
    let (me, peer) = (from as usize, from.peer() as usize);
    let mut frame = talk.frame(from.syn());
    let Some(flow) = flow else { return Some(frame) };
    let fin = |end: usize| u32::from(flow.ends[end].has(end_flags::FIN));
    let seen = |end: usize| flow.ends[end].has(end_flags::SEEN);
    // Of an end that has said nothing yet the flow knows no numbers.
    let isn = |end: usize| {
        if seen(end) {
            flow.ends[end].isn.0
        } else {
            talk.isns[end]
        }
    };
    let end = |end: usize| {
        if seen(end) || flow.ends[end].has(end_flags::SPOKE) {
            flow.ends[end].end.0
        } else {
            isn(end).wrapping_add(1)
        }
    };
    let without_fin = |index: usize| end(index).wrapping_sub(fin(index));
    let acks_fin = matches!(sent, Some(Sent::AckOfFin | Sent::FinAckOfFin));
    if (acks_fin && fin(peer) == 0) || (sent.is_none() && !seen(me)) {
        return None;
    }
    let (flags, seq, ack) = match sent {
        None => (Flags::SYN, end(me).wrapping_add(100_000), 0),
        Some(Sent::Syn) => (Flags::SYN, isn(me), 0),
        Some(Sent::SynAck) => (Flags::SYN | Flags::ACK, isn(me), isn(peer).wrapping_add(1)),
        Some(Sent::Ack) => (Flags::ACK, end(me), without_fin(peer)),
        Some(Sent::AckOfFin) => (Flags::ACK, end(me), end(peer)),
        Some(Sent::Fin) => (Flags::FIN | Flags::ACK, without_fin(me), without_fin(peer)),
        Some(Sent::FinAckOfFin) => (Flags::FIN | Flags::ACK, without_fin(me), end(peer)),
        Some(Sent::Reset) => (Flags::RST | Flags::ACK, end(me), end(peer)),
    };
    (frame.flags, frame.seq, frame.ack) = (flags, seq, ack);
    Some(frame)
}
