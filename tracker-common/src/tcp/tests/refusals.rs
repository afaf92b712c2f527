//! Handshakes that one end seems to have refused, and what goes on after that.

use super::conversation::{Conversation, IRS, ISS, segment};
use crate::{
    reason::Reason,
    tcp::{Flags, State},
};

const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

/// A handshake that the responder seems to have refused after its SYN-ACK.
fn refused() -> Conversation {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(RST_ACK, 0, ISS + 1, 0));
    c.expect(State::Closed, State::Closed);
    c
}

#[test]
fn a_responder_that_refused_may_call() {
    let called = segment(SYN, 70_000, 0, 0);
    let mut c = refused();
    assert_eq!(c.responder(called), Reason::Tracked);
    c.expect(State::SynSent, State::SynSent);
    // Unless the SYN is older than its SYN-ACK, which has the same number.
    let mut c = refused();
    assert_eq!(c.responder(segment(SYN, IRS, 0, 0)), Reason::AfterClose);
    c.expect(State::Closed, State::Closed);
    // Of one that had said nothing, any number will do.
    for number in [0, 70_000] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(RST_ACK, 0, ISS + 1, 0));
        c.expect(State::Closed, State::Closed);
        assert_eq!(c.responder(segment(SYN, number, 0, 0)), Reason::Tracked);
        c.expect(State::SynSent, State::SynSent);
    }
    // And only the responder: who called knows nothing of a refusal.
    let mut c = refused();
    assert_eq!(c.initiator(called), Reason::FlowReopened);
}

#[test]
fn a_handshake_that_goes_on_is_not_begun_anew() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    assert_eq!(c.responder(segment(SYN, IRS, 0, 0)), Reason::SynRetransmit);
    c.expect(State::SynSent, State::SynSent);
    // Closed before it was open: neither a SYN nor a SYN-ACK takes that back.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.expect(State::SynSent, State::FinWait1);
    assert_eq!(c.responder(segment(SYN, 70_000, 0, 0)), Reason::SynOnLive);
    c.expect(State::SynSent, State::FinWait1);
}

#[test]
fn an_rst_for_a_syn_ack_that_was_not_taken_closes_nothing() {
    for (seq, reason) in [
        (70_001, Reason::ResetForeign),
        (70_000, Reason::ResetOutsideWindow),
        (70_002, Reason::ResetOutsideWindow),
    ] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        let renewed = segment(SYN_ACK, 70_000, ISS + 1, 0);
        assert_eq!(c.responder(renewed), Reason::SynAckRenewed);
        assert_eq!(c.responder(segment(RST, seq, 0, 0)), reason, "{seq}");
        c.expect(State::SynSent, State::SynReceived);
    }
}

#[test]
fn an_rst_is_held_against_its_own_senders_syn_ack_only() {
    // A SYN is none; of one that is older than the flow no segment is left.
    let mut c = Conversation::established();
    let older = ISS.wrapping_sub(70_000);
    assert_eq!(c.initiator(segment(SYN, older, 0, 0)), Reason::SynOnLive);
    let late = segment(RST, older.wrapping_add(1), 0, 0);
    assert_eq!(c.initiator(late), Reason::ResetLate);
    let reset = segment(RST, 70_001, 0, 0);
    assert_eq!(c.initiator(reset), Reason::ResetOutsideWindow);
    // Nor is that of the other end.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(SYN_ACK, 70_000, ISS + 1, 0));
    assert_eq!(c.initiator(reset), Reason::ResetOutsideWindow);
    c.expect(State::SynSent, State::SynReceived);
}
