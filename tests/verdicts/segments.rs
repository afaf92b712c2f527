//! Segments of a flow, for and against its state.

use tracker_common::{
    reason::Reason,
    tcp::{
        Flags,
        State::{
            CloseWait as CW, Closed as CL, Closing as CG, Established as ES, FinWait1 as F1,
            FinWait2 as F2, LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS,
            TimeWait as TW,
        },
    },
};
use tracker_tests::program::talk::{A, B, Seg};

use crate::row::{Of, Row, row};

/// RFC 9293 figure 6.
pub const HANDSHAKE: [Seg; 3] = [A.syn(), B.syn_ack(), A.ack()];

/// RFC 9293 figure 12, up to the passive side's FIN.
pub const CLOSE: [Seg; 3] = [A.fin(), B.ack().acks(2), B.fin().acks(2)];

/// The last ACK of that close.
pub const LAST: [Seg; 1] = [A.ack().seq(2).acks(2)];

pub fn rows() -> Vec<Row> {
    [
        handshakes(),
        again(),
        closes(),
        resets(),
        notes(),
        refused(),
    ]
    .concat()
}

fn handshakes() -> Vec<Row> {
    let tracked = |name| row(name, Reason::Tracked);
    vec![
        tracked("the answer to a SYN")
            .after([A.syn()])
            .sends(B.syn_ack())
            .leaves(SS, SR),
        tracked("the third ACK")
            .after([A.syn(), B.syn_ack()])
            .sends(A.ack())
            .leaves(ES, ES),
        tracked("data instead of the third ACK")
            .after([A.syn(), B.syn_ack()])
            .sends(A.ack().data(10))
            .leaves(ES, ES),
        tracked("the crossing SYN of a simultaneous open")
            .after([A.syn()])
            .sends(B.syn())
            .leaves(SS, SS),
        tracked("the first SYN-ACK of a simultaneous open")
            .after([A.syn(), B.syn()])
            .sends(A.syn_ack())
            .leaves(SR, SS),
        tracked("the second SYN-ACK of a simultaneous open")
            .after([A.syn(), B.syn(), A.syn_ack()])
            .sends(B.syn_ack())
            .leaves(ES, ES),
        tracked("data")
            .after(HANDSHAKE)
            .sends(B.ack().data(500))
            .leaves(ES, ES),
        tracked("an old duplicate of data")
            .after(HANDSHAKE)
            .after([A.ack().data(500), A.ack().seq(501).data(500)])
            .sends(A.ack().data(500))
            .leaves(ES, ES),
        tracked("an ACK with PSH, URG and ECN bits")
            .after(HANDSHAKE)
            .sends(A.ack().flags(0xf8).data(1))
            .leaves(ES, ES),
        row("a first fragment", Reason::FirstFragment)
            .after(HANDSHAKE)
            .raw(|stage| stage.first_fragment(A.ack().data(800)).bytes())
            .leaves(ES, ES),
    ]
}

fn again() -> Vec<Row> {
    vec![
        row("the SYN again", Reason::SynRetransmit)
            .after([A.syn()])
            .sends(A.syn())
            .leaves(SS, LI),
        row("the SYN again after the answer", Reason::SynRetransmit)
            .after([A.syn(), B.syn_ack()])
            .sends(A.syn())
            .leaves(SS, SR),
        row(
            "another SYN before any answer moves nothing",
            Reason::SynRenewed,
        )
        .after([A.syn()])
        .sends(A.syn().seq(100_000))
        .leaves(SS, LI),
        row("the SYN-ACK again", Reason::SynAckRetransmit)
            .after([A.syn(), B.syn_ack()])
            .sends(B.syn_ack())
            .leaves(SS, SR),
        row(
            "the SYN-ACK again: the third ACK was lost",
            Reason::SynAckRetransmit,
        )
        .after(HANDSHAKE)
        .sends(B.syn_ack())
        .leaves(ES, SR),
        row(
            "another SYN-ACK before any answer to the first",
            Reason::SynAckRenewed,
        )
        .after([A.syn(), B.syn_ack()])
        .sends(B.syn_ack().seq(4444))
        .leaves(SS, SR),
        row("the FIN again", Reason::FinRetransmit)
            .after(HANDSHAKE)
            .after([A.fin()])
            .sends(A.fin())
            .leaves(F1, ES),
        row("the FIN again: its ACK was lost", Reason::FinRetransmit)
            .after(HANDSHAKE)
            .after([A.fin(), B.ack().acks(2)])
            .sends(A.fin())
            .leaves(F1, CW),
        row(
            "the last FIN again: its ACK was lost",
            Reason::FinRetransmit,
        )
        .after(HANDSHAKE)
        .after(CLOSE)
        .after(LAST)
        .sends(B.fin().acks(2))
        .leaves(TW, LA),
    ]
}

fn closes() -> Vec<Row> {
    let tracked = |name| row(name, Reason::Tracked).after(HANDSHAKE);
    vec![
        tracked("a FIN").sends(A.fin()).leaves(F1, ES),
        tracked("the responder's FIN").sends(B.fin()).leaves(ES, F1),
        tracked("a FIN with data")
            .sends(A.fin().data(10))
            .leaves(F1, ES),
        tracked("an ACK that does not acknowledge the FIN")
            .after([A.fin()])
            .sends(B.ack())
            .leaves(F1, ES),
        tracked("the ACK of a FIN")
            .after([A.fin()])
            .sends(B.ack().acks(2))
            .leaves(F2, CW),
        tracked("data to a side that has closed")
            .after([A.fin(), B.ack().acks(2)])
            .sends(B.ack().acks(2).data(100))
            .leaves(F2, CW),
        tracked("the passive side's FIN")
            .after([A.fin(), B.ack().acks(2)])
            .sends(B.fin().acks(2))
            .leaves(F2, LA),
        tracked("a FIN that acknowledges the FIN")
            .after([A.fin()])
            .sends(B.fin().acks(2))
            .leaves(F2, LA),
        tracked("the last ACK")
            .after(CLOSE)
            .sends(LAST[0])
            .leaves(TW, CL),
        tracked("the crossing FIN of a simultaneous close")
            .after([A.fin()])
            .sends(B.fin())
            .leaves(F1, F1),
        tracked("the first ACK of a simultaneous close")
            .after([A.fin(), B.fin()])
            .sends(A.ack().seq(2).acks(2))
            .leaves(CG, F2),
        tracked("the second ACK of a simultaneous close")
            .after([A.fin(), B.fin(), A.ack().seq(2).acks(2)])
            .sends(B.ack().seq(2).acks(2))
            .leaves(TW, TW),
    ]
}

fn resets() -> Vec<Row> {
    let reset = |name| row(name, Reason::ResetClosed);
    vec![
        reset("a refusal")
            .after([A.syn()])
            .sends(B.rst())
            .leaves(CL, CL),
        reset("a refusal of the SYN-ACK")
            .after([A.syn(), B.syn_ack()])
            .sends(A.bare_rst())
            .leaves(CL, CL),
        reset("an abort")
            .after(HANDSHAKE)
            .sends(A.rst())
            .leaves(CL, CL),
        reset("the responder's abort")
            .after(HANDSHAKE)
            .sends(B.rst())
            .leaves(CL, CL),
        reset("an RST in the middle of a close")
            .after(HANDSHAKE)
            .after([A.fin(), B.ack().acks(2)])
            .sends(B.rst().acks(2))
            .leaves(CL, CL),
    ]
}

fn notes() -> Vec<Row> {
    vec![
        row("a SYN on a live flow", Reason::SynOnLive)
            .after(HANDSHAKE)
            .sends(A.syn().seq(50_000))
            .leaves(ES, ES),
        row("the responder's SYN on a live flow", Reason::SynOnLive)
            .after(HANDSHAKE)
            .sends(B.syn().seq(50_000))
            .leaves(ES, ES),
        row("an old SYN in TIME_WAIT", Reason::SynInTimeWait)
            .after(HANDSHAKE)
            .after(CLOSE)
            .after(LAST)
            .sends(A.syn())
            .leaves(TW, CL),
        row(
            "a SYN-ACK that acknowledges another SYN",
            Reason::SynAckWrongAck,
        )
        .after([A.syn()])
        .sends(B.syn_ack().acks(5))
        .leaves(SS, LI),
        row("a SYN-ACK from the side that opens", Reason::SynAckWrongAck)
            .after([A.syn()])
            .sends(A.syn_ack())
            .leaves(SS, LI),
        row("an old SYN-ACK on a live flow", Reason::SynAckOnLive)
            .after(HANDSHAKE)
            .after([B.ack().data(10)])
            .sends(B.syn_ack())
            .leaves(ES, ES),
        row("data after an RST", Reason::AfterClose)
            .after(HANDSHAKE)
            .after([A.rst()])
            .sends(B.ack().data(10))
            .leaves(CL, CL),
        row("an RST after an RST", Reason::AfterClose)
            .after(HANDSHAKE)
            .after([A.rst()])
            .sends(B.rst())
            .leaves(CL, CL),
        row("an ACK after the last ACK", Reason::AfterClose)
            .after(HANDSHAKE)
            .after(CLOSE)
            .after(LAST)
            .sends(B.ack().seq(2).acks(2))
            .leaves(TW, CL),
        row(
            "an ACK before the SYN-ACK was seen",
            Reason::HandshakeUnseen,
        )
        .after([A.syn()])
        .sends(A.ack())
        .leaves(SS, LI),
        row("a responder that says no SYN-ACK", Reason::HandshakeUnseen)
            .after([A.syn()])
            .sends(B.ack())
            .leaves(SS, LI),
    ]
}

fn refused() -> Vec<Row> {
    let unproved = |name| {
        row(name, Reason::HandshakeWrongAck)
            .after([A.syn(), B.syn_ack()])
            .leaves(SS, SR)
    };
    let closed = |name| {
        row(name, Reason::BeyondFin)
            .after(HANDSHAKE)
            .after([A.fin()])
            .leaves(F1, ES)
    };
    vec![
        unproved("a third ACK of another ISN")
            .sends(A.ack().acks(2))
            .breaks(Of::Isn(B), |_| [2, 1, 1]),
        unproved("a third ACK of the ISN itself")
            .sends(A.ack().acks(0))
            .breaks(Of::Isn(B), |_| [0, 1, 1]),
        unproved("a third ACK from half the circle away")
            .sends(A.ack().acks(0x8000_0000))
            .breaks(Of::Isn(B), |_| [0x8000_0000, 1, 1]),
        unproved("a FIN instead of the third ACK, of another ISN")
            .sends(A.fin().acks(77))
            .breaks(Of::Isn(B), |_| [77, 1, 1]),
        row("an ACK of what was never sent", Reason::AckUnsent)
            .after(HANDSHAKE)
            .sends(A.ack().acks(2))
            .breaks(Of::Isn(B), |_| [2, 0, 1])
            .leaves(ES, ES),
        row(
            "a FIN that acknowledges what was never sent",
            Reason::AckUnsent,
        )
        .after(HANDSHAKE)
        .sends(B.fin().acks(1_000_000))
        .breaks(Of::Isn(A), |_| [1_000_000, 0, 1])
        .leaves(ES, ES),
        row("a refusal of another SYN", Reason::ResetWrongAck)
            .after([A.syn()])
            .sends(B.rst().acks(2))
            .breaks(Of::Isn(A), |_| [2, 1, 1])
            .leaves(SS, LI),
        closed("data behind the FIN")
            .sends(A.ack().seq(2).data(1))
            .breaks(Of::Isn(A), |_| [3, 0, 2]),
        closed("a second FIN behind the FIN")
            .sends(A.fin().seq(2).flags(Flags::FIN | Flags::ACK))
            .breaks(Of::Isn(A), |_| [3, 0, 2]),
    ]
}
