//! What RFC 9293 makes of the endpoints, written out by hand.

use tracker_common::tcp::{
    Received, Sent, State,
    State::{
        CloseWait as CW, Closed as CL, Closing as CG, Established as ES, FinWait1 as F1,
        FinWait2 as F2, LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS,
        TimeWait as TW,
    },
};
use tracker_tests::program::talk::{A, B, End};

/// What RFC 9293 makes of an endpoint that sends. `None`: an endpoint in this
/// state does not send that.
///
/// A state taken on sight (SYN_RECEIVED → ESTABLISHED, FIN_WAIT_1 → FIN_WAIT_2,
/// CLOSING → TIME_WAIT, LAST_ACK → CLOSED) is taken back by a segment that
/// proves the endpoint to be in the one before.
#[rustfmt::skip]
pub const SENDS: [(State, [Option<State>; 7]); 11] = [
    // A SYN, a SYN-ACK, an ACK, an ACK of the FIN, a FIN, both, an RST.
    (CL, [None,     None,     None,     None,     None,     Some(LA), Some(CL)]),
    // CLOSED still repeats its FIN: LAST-ACK it is (3.10.7.4 eighth).
    (LI, [Some(SS), Some(SR), None,     None,     None,     None,     Some(CL)]),
    // Active open from LISTEN (3.10.1); SYN arrives (3.10.7.2 third).
    (SS, [Some(SS), Some(SR), Some(ES), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // 3.10.7.3 fourth; CLOSE in ESTABLISHED (3.10.4) before any segment was seen.
    (SR, [None,     Some(SR), Some(SR), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // CLOSE in SYN-RECEIVED (3.10.4).
    (ES, [None,     Some(SR), Some(ES), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // FIN arrives (3.10.7.4 eighth), CLOSE (3.10.4).
    (F1, [None,     None,     Some(F1), Some(CG), Some(F1), Some(CG), Some(CL)]),
    // FIN arrives before the ACK of its own (3.10.7.4 eighth: CLOSING).
    (F2, [None,     None,     Some(F2), Some(TW), Some(F1), Some(CG), Some(CL)]),
    // FIN arrives (3.10.7.4 eighth: TIME-WAIT).
    (CW, [None,     None,     Some(CW), Some(CW), Some(CG), Some(LA), Some(CL)]),
    // A FIN that does not acknowledge the peer's was sent before that came, so
    // in FIN-WAIT-1, which becomes CLOSING (3.10.7.4 eighth). Else: CLOSE in
    // CLOSE-WAIT (3.10.4: LAST-ACK).
    (CG, [None,     None,     Some(CG), Some(CG), Some(CG), Some(CG), Some(CL)]),
    (LA, [None,     None,     Some(LA), Some(LA), Some(LA), Some(LA), Some(CL)]),
    (TW, [None,     None,     Some(TW), Some(TW), Some(TW), Some(CG), Some(CL)]),
    // TIME-WAIT acknowledges a FIN that comes again (3.10.7.4 eighth).
];

/// What RFC 9293 makes of an endpoint to which something arrives, as far as it
/// says nothing about it: an ACK of its SYN, an ACK of its FIN, an RST.
#[rustfmt::skip]
pub const TAKES: [(State, [State; 3]); 11] = [
    (CL, [CL, CL, CL]),
    (LI, [LI, LI, CL]),
    (SS, [SS, SS, CL]),
    (SR, [ES, ES, CL]), // 3.10.7.4 fifth: "enter ESTABLISHED state"
    (ES, [ES, ES, CL]),
    (F1, [F1, F2, CL]), // 3.10.7.4 fifth: "enter FIN-WAIT-2"
    (F2, [F2, F2, CL]),
    (CW, [CW, CW, CL]),
    (CG, [CG, TW, CL]), // 3.10.7.4 fifth: "enter the TIME-WAIT state"
    (LA, [LA, CL, CL]), // 3.10.7.4 fifth: "enter the CLOSED state"
    (TW, [TW, TW, CL]),
];

/// Why no segments lead to a cell of [`SENDS`] for this end, where none do.
pub fn never_sends(state: State, sent: Sent, from: End, checked: bool) -> Option<&'static str> {
    match (from, state, sent) {
        (A, LI, _) => Some("whoever opens a flow has sent its SYN"),
        (B, LI, Sent::AckOfFin | Sent::FinAckOfFin) => {
            Some("nobody has closed before the responder has said anything")
        }
        (_, CL | TW, Sent::Fin) if checked => {
            Some("its FIN was acknowledged, and comes again with another acknowledgement")
        }
        _ => None,
    }
}

/// The same for [`TAKES`].
///
/// An endpoint that was revived may have sent a FIN before: it closes when that
/// comes again, and until then an ACK of it moves nothing.
pub fn never_takes(state: State, received: Received) -> Option<&'static str> {
    match (state, received) {
        (CL, Received::Reset) => Some("nobody is there who could take it"),
        (LI, Received::AckOfSyn | Received::AckOfFin) => {
            Some("nobody can acknowledge a SYN that was not sent")
        }
        (SR, Received::AckOfFin) => Some("an endpoint that has sent a FIN has left this state"),
        _ => None,
    }
}

pub fn sends(state: State, sent: Sent) -> Option<State> {
    let (of, row) = SENDS[state as usize];
    assert_eq!(of, state);
    row[sent as usize]
}

pub fn takes(state: State, received: Received) -> State {
    let (of, row) = TAKES[state as usize];
    assert_eq!(of, state);
    row[received as usize]
}
