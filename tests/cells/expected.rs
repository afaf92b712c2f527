//! What a step must come to.

use tracker_common::tcp::{
    Received, Sent, State,
    State::{
        Closed as CL, Closing as CG, Established as ES, FinWait1 as F1, FinWait2 as F2,
        LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS, TimeWait as TW,
    },
};
use tracker_tests::program::talk::{A, B, End};

use crate::{
    situation::{Acked, Situation, Step},
    table::{sends, takes},
};

/// What a step must come to, and the cells that say so.
#[derive(Clone, Copy)]
pub struct Expected {
    pub states: [State; 2],
    /// Which ends' states are taken back.
    pub doubted: [bool; 2],
    /// See [`Situation::resets`].
    pub resets: [bool; 2],
    /// The flow is another one afterwards.
    pub reopened: bool,
    pub sent: Option<(State, Sent)>,
    pub received: Option<(State, Received)>,
}

impl Expected {
    /// Nothing moves.
    fn unmoved(situation: &Situation) -> Self {
        Self {
            states: situation.states(),
            doubted: situation.places.map(|place| place.doubted),
            resets: situation.resets,
            reopened: false,
            sent: None,
            received: None,
        }
    }
}

/// Whoever had taken something back and has sent nothing again since has had
/// its answer: it is where it was thought to be.
pub fn after_silence(situation: &Situation) -> Expected {
    const BELIEVED: [(State, State); 4] = [(SR, ES), (F1, F2), (CG, TW), (LA, CL)];
    let states = situation.places.map(|place| {
        let believed = BELIEVED.iter().find(|(doubted, _)| *doubted == place.state);
        believed
            .filter(|_| place.doubted)
            .map_or(place.state, |(_, believed)| *believed)
    });
    Expected {
        states,
        doubted: [false; 2],
        ..Expected::unmoved(situation)
    }
}

/// A SYN that cannot be the one that opened the flow.
pub fn after_new_syn(situation: &Situation, from: End) -> Expected {
    let over = |state| matches!(state, CL | TW);
    let unmoved = Expected::unmoved(situation);
    // Who has refused a call may call, and be answered by the caller, who has
    // not heard of the refusal: a simultaneous open (3.5).
    if let Some([caller, LI]) = revived(situation, from, None) {
        let mut doubted = unmoved.doubted;
        doubted[from as usize] = false;
        return Expected {
            states: [caller, SS],
            doubted,
            resets: [false; 2],
            ..unmoved
        };
    }
    // A closed flow's opens a new one (3.10.7.1), and in TIME-WAIT a higher
    // number does (3.6.1, RFC 1122 4.2.2.13). On a live flow it draws a
    // challenge ACK (3.10.7.4 fourth).
    if situation.states().into_iter().all(over) {
        Expected {
            states: [SS, LI],
            doubted: [false; 2],
            resets: [false; 2],
            reopened: true,
            ..unmoved
        }
    } else {
        unmoved
    }
}

/// The states in which a handshake goes on that an RST seemed to have ended.
///
/// An RST closes an endpoint only in the state that it is really in (3.10.7.3
/// second, 3.10.7.4 first). If its receiver goes on with the handshake, or its
/// sender does, it was not. `sent` is `None` for a new SYN.
pub fn revived(situation: &Situation, from: End, sent: Option<Sent>) -> Option<[State; 2]> {
    let responder = &situation.places[B as usize];
    let answered = responder.acked != Acked::Nothing;
    let state = match (answered, responder.seen) {
        _ if responder.closed => F1,
        (true, _) => SR,
        (_, true) => SS,
        _ => LI,
    };
    let state = match (from, sent) {
        (_, Some(Sent::Reset)) | (A, None | Some(Sent::Syn)) => None,
        // A copy of the SYN that it has sent, or one that its SYN-ACK had
        // overtaken: who calls selects a number (3.10.1).
        (B, Some(Sent::Syn)) if responder.seen => None,
        // Whatever it had said before: it begins anew.
        (B, None | Some(Sent::Syn | Sent::SynAck)) => Some(LI),
        (B, _) => None,
        // It acknowledges the SYN that it has received.
        (A, Some(Sent::SynAck)) => responder.seen.then_some(state),
        // An initiator that had reset what the responder would take is only late.
        (A, _) => (answered && situation.resets == [false, true]).then_some(state),
    };
    let goes_on = situation.is_over() && situation.half_open;
    state.filter(|_| goes_on).map(|state| [SS, state])
}

/// Whether the receiver of a segment throws it away, and its acknowledgement
/// with it, because it has acknowledged all of it (3.10.7.4 first: "if an
/// incoming segment is not acceptable"). A FIN that comes again as it was tells
/// at least that its sender waits for the acknowledgement; and with the
/// acknowledgement of the receiver's FIN it may be the only one to bring that.
pub fn thrown_away(situation: &Situation, from: End, sent: Sent, theirs: State) -> bool {
    let (me, peer) = (
        &situation.places[from as usize],
        &situation.places[from.peer() as usize],
    );
    let as_it_was = match sent {
        Sent::Fin => me.acked == Acked::Syn,
        Sent::FinAckOfFin => true,
        Sent::Syn | Sent::SynAck | Sent::Ack | Sent::AckOfFin | Sent::Reset => return false,
    };
    peer.acked == Acked::Fin && !matches!(theirs, LI | SS) && !as_it_was
}

pub fn expected(situation: &Situation, step: Step, checked: bool) -> Expected {
    let (from, sent) = match step {
        Step::Sends(from, sent) => (from, sent),
        Step::SendsNewSyn(from) => return after_new_syn(situation, from),
        Step::Silence => return after_silence(situation),
    };
    let (me, peer) = (from as usize, from.peer() as usize);
    let unmoved = Expected::unmoved(situation);
    let over = situation.is_over();
    let revived = revived(situation, from, Some(sent));
    let mut states = revived.unwrap_or(unmoved.states);
    let (mine, theirs) = (states[me], states[peer]);
    let asked = Expected {
        sent: Some((mine, sent)),
        ..unmoved
    };
    let handshake_unseen = mine == SS && !situation.places[peer].seen;
    let received = match sent {
        // A duplicate of the SYN that belonged to the flow opens none.
        Sent::Syn if over && revived.is_none() && situation.places[me].seen => return unmoved,
        Sent::Syn if over => return after_new_syn(situation, from),
        Sent::Syn => None,
        // Nothing else comes from a flow that is over; but an exact RST says who
        // else is gone.
        Sent::Reset if over => {
            let mut resets = situation.resets;
            resets[me] |= situation.places[me].seen || situation.places[me].spoke;
            return Expected { resets, ..unmoved };
        }
        _ if over && revived.is_none() => return unmoved,
        // Nobody is there who could take it.
        Sent::Reset if theirs == CL => return unmoved,
        Sent::Reset => Some(Received::Reset),
        _ if checked && thrown_away(situation, from, sent, theirs) => return unmoved,
        // Without a SYN of the peer there is nothing to acknowledge.
        _ if handshake_unseen => return unmoved,
        // An endpoint that has talked since its SYN-ACK has seen its ACK.
        Sent::SynAck if mine == ES && situation.places[me].spoke => return unmoved,
        Sent::SynAck | Sent::Ack | Sent::Fin => Some(Received::AckOfSyn),
        Sent::AckOfFin | Sent::FinAckOfFin => Some(Received::AckOfFin),
    };
    let Some(mut next) = sends(mine, sent) else {
        return asked;
    };
    // The second SYN-ACK of a simultaneous open: both SYNs are acknowledged, which
    // is all that SYN-RECEIVED waits for (3.5, figure 7; 3.10.7.4, fifth).
    if sent == Sent::SynAck && mine == SS && theirs != SS {
        next = ES;
    }
    // A peer in LAST-ACK has said that it took the FIN (3.10.7.4, eighth).
    if sent == Sent::AckOfFin && mine == F1 && theirs == LA {
        next = TW;
    }
    // Its FIN had overtaken its SYN-ACK: CLOSE in SYN-RECEIVED (3.10.4).
    if sent == Sent::SynAck && situation.places[me].closed {
        next = F1;
    }
    states[me] = next;
    if let Some(received) = received {
        states[peer] = takes(theirs, received);
    }
    let mut doubted = unmoved.doubted;
    let taken_back = matches!((mine, next), (ES, SR) | (F2, F1 | CG) | (TW, CG) | (CL, LA));
    // A doubt is about one state, or about a FIN that is still not acknowledged.
    let same = next == mine || (mine, next) == (F1, CG);
    doubted[me] = (doubted[me] && same) || taken_back;
    doubted[peer] &= states[peer] == theirs;
    if sent == Sent::Reset {
        doubted = unmoved.doubted;
    }
    let mut resets = [false; 2];
    resets[me] = sent == Sent::Reset;
    Expected {
        states,
        doubted,
        resets,
        received: received.map(|received| (theirs, received)),
        ..asked
    }
}
