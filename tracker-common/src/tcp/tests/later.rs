//! Two connections of the same ports under way at once: an end aborts and calls
//! again, and segments of the one overtake those of the other.

use super::conversation::{Conversation, IRS, ISS, segment};
use crate::{
    abi::{end_flags, flow_flags},
    reason::Reason,
    tcp::{Flags, State},
    time::Micros,
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

/// The initiator's number in its next connection, and the responder's.
const NEXT: u32 = 70_000;
const ANSWER: u32 = 3_000_000;

/// The SYN of the next connection has overtaken the third ACK of this one.
fn overlapping() -> Conversation {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(c.initiator(segment(SYN, NEXT, 0, 0)), Reason::SynOnLive);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    c.expect(State::Established, State::Established);
    c
}

#[test]
fn a_later_syn_outlives_the_handshake_that_it_has_overtaken() {
    let mut c = overlapping();
    assert!(c.flow().has(flow_flags::SYN_ON_LIVE));
    let answer = segment(SYN_ACK, ANSWER, NEXT + 1, 0);
    assert_eq!(c.responder(answer), Reason::FlowRestarted);
    c.initiator(segment(ACK, NEXT + 1, ANSWER + 1, 0));
    c.expect(State::Established, State::Established);
    // One that is not later is of before: its answer comes late.
    for old in [ISS - 1, ISS.wrapping_sub(NEXT)] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.initiator(segment(SYN, old, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        assert!(c.flow().has(flow_flags::SYN_ON_LIVE));
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
        assert!(!c.flow().has(flow_flags::SYN_ON_LIVE));
    }
    // So is the SYN-ACK that was not taken.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    let renewed = segment(SYN_ACK, ANSWER, ISS + 1, 0);
    assert_eq!(c.responder(renewed), Reason::SynAckRenewed);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert!(!c.flow().has(flow_flags::SYN_ON_LIVE));
}

#[test]
fn what_overtakes_the_answer_to_a_later_syn_is_not_refused() {
    let far = u32::from(u16::MAX);
    // By the responder: its acknowledgement is of the later SYN's window.
    for (ack, reason) in [
        (NEXT, Reason::BeyondWindow),
        (NEXT + 1, Reason::HandshakeUnseen),
        (NEXT + far, Reason::HandshakeUnseen),
        (NEXT + far + 1, Reason::BeyondWindow),
    ] {
        let mut c = overlapping();
        assert_eq!(c.responder(segment(ACK, ANSWER, ack, 0)), reason, "{ack}");
        c.expect(State::Established, State::Established);
    }
    // By the initiator: so is its number.
    for (seq, reason) in [
        (NEXT, Reason::BeyondWindow),
        (NEXT + 1, Reason::HandshakeUnseen),
        (NEXT + far, Reason::HandshakeUnseen),
        (NEXT + far + 1, Reason::BeyondWindow),
    ] {
        let mut c = overlapping();
        let other = segment(ACK, seq, ANSWER + 1, 0);
        assert_eq!(c.initiator(other), reason, "{seq}");
        c.expect(State::Established, State::Established);
    }
    // Without a later SYN it is refused.
    let mut c = Conversation::established();
    let other = segment(ACK, NEXT + 1, ANSWER + 1, 0);
    assert_eq!(c.initiator(other), Reason::BeyondWindow);
}

#[test]
fn a_reset_of_a_later_connection_closes_nothing_and_is_not_refused() {
    for (flags, ack, reason) in [
        (RST, 0, Reason::ResetForeign),
        (RST_ACK, NEXT + 1, Reason::ResetForeign),
        (RST_ACK, NEXT, Reason::ResetOutsideWindow),
    ] {
        let mut c = overlapping();
        let mut reset = segment(flags, ANSWER + 1, ack, 0);
        if ack == NEXT + 1 {
            // One beyond the SYN: else it would answer that.
            reset.ack = reset.ack.plus(1);
        }
        assert_eq!(c.responder(reset), reason, "{flags:#x} {ack}");
        c.expect(State::Established, State::Established);
    }
    for (seq, reason) in [
        (NEXT + 1, Reason::ResetForeign),
        (NEXT, Reason::ResetOutsideWindow),
    ] {
        let mut c = overlapping();
        assert_eq!(c.initiator(segment(RST, seq, 0, 0)), reason);
        c.expect(State::Established, State::Established);
    }
}

#[test]
fn who_is_not_on_the_path_has_no_later_connection() {
    let mut c = overlapping();
    c.interfaces = [3, 2];
    let early = segment(ACK, ANSWER, NEXT + 1, 0);
    assert_eq!(c.responder(early), Reason::BeyondWindow);
    let reset = segment(RST, ANSWER, 0, 0);
    assert_eq!(c.responder(reset), Reason::ResetOutsideWindow);
    let own = segment(ACK, NEXT + 1, ANSWER + 1, 0);
    assert_eq!(c.initiator(own), Reason::BeyondWindow);
}

#[test]
fn the_syn_ack_that_a_later_syn_has_put_out_of_memory_may_be_acknowledged() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(SYN_ACK, ANSWER, ISS + 1, 0));
    let taken = segment(ACK, ISS + 1, ANSWER + 1, 0);
    let never = segment(ACK, ISS + 1, ANSWER + 2, 0);
    assert_eq!(c.initiator(never), Reason::HandshakeWrongAck);
    assert_eq!(c.initiator(segment(SYN, NEXT, 0, 0)), Reason::SynOnLive);
    assert_eq!(c.initiator(taken), Reason::HandshakeUnseen);
    c.expect(State::SynSent, State::SynReceived);
}

#[test]
fn an_answer_to_a_syn_that_was_overtaken_restarts_nothing() {
    // Within a second, whichever of the two came first.
    for (first, second, restarts) in [
        (5_000_000, 5_000_001, false),
        (5_000_000, 5_999_999, false),
        (5_000_000, 6_000_000, true),
        (5_000_000, 4_000_000, false),
        (5_000_000, 3_999_999, true),
        (0, u32::MAX, false),
    ] {
        for flags in [SYN_ACK, RST_ACK] {
            let mut c = Conversation::new();
            c.micros = Micros(first);
            c.initiator(segment(SYN, NEXT, 0, 0));
            c.micros = Micros(second);
            assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRenewed);
            let reason = c.responder(segment(flags, IRS, ISS + 1, 0));
            let expected = match (flags, restarts) {
                (SYN_ACK, true) => Reason::FlowRestarted,
                (SYN_ACK, false) => Reason::SynAckWrongAck,
                (_, true) => Reason::ResetClosed,
                (_, false) => Reason::ResetForeign,
            };
            assert_eq!(reason, expected, "{first} {second} {flags:#x}");
            if !restarts {
                c.responder(segment(SYN_ACK, ANSWER, NEXT + 1, 0));
                c.initiator(segment(ACK, NEXT + 1, ANSWER + 1, 0));
                c.expect(State::Established, State::Established);
            }
        }
    }
    // A SYN with a higher number is the later one.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.initiator(segment(SYN, NEXT, 0, 0));
    let answer = segment(SYN_ACK, IRS, NEXT + 1, 0);
    assert_eq!(c.responder(answer), Reason::FlowRestarted);
}

#[test]
fn who_calls_again_from_time_wait_may_be_refused() {
    for (seq, reason, state) in [
        (NEXT, Reason::ResetClosed, State::Closed),
        (ISS + 3, Reason::ResetClosed, State::Closed),
        (ISS + 2, Reason::ResetForeign, State::TimeWait),
        (ISS - 1, Reason::ResetForeign, State::TimeWait),
    ] {
        let mut c = Conversation::established();
        c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
        c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
        c.initiator(segment(SYN, seq, 0, 0));
        c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
        c.expect(State::TimeWait, State::Closed);
        let refusal = segment(RST_ACK, 0, seq.wrapping_add(1), 0);
        assert_eq!(c.responder(refusal), reason, "{seq}");
        c.expect(state, State::Closed);
    }
}

#[test]
fn the_answer_to_a_copy_of_a_syn_revives_nothing_that_its_sender_has_reset() {
    for (seq, reason, state) in [
        (IRS, Reason::Tracked, State::SynReceived),
        (ANSWER, Reason::AfterClose, State::Closed),
    ] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        c.initiator(segment(RST, ISS + 1, 0, 0));
        c.expect(State::Closed, State::Closed);
        assert_eq!(c.responder(segment(SYN_ACK, seq, ISS + 1, 0)), reason);
        assert_eq!(c.flow().states()[1], state);
    }
    // Who was reset by the responder goes on with whatever answers.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(RST, IRS + 1, 0, 0));
    let again = segment(SYN_ACK, ANSWER, ISS + 1, 0);
    assert_eq!(c.responder(again), Reason::Tracked);
    c.expect(State::SynSent, State::SynReceived);
}

/// A simultaneous open that the responder's refusal, which its SYN has overtaken,
/// seems to end.
fn refused() -> Conversation {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    let refusal = segment(RST_ACK, 0, ISS + 1, 0);
    assert_eq!(c.responder(refusal), Reason::ResetClosed);
    c.expect(State::Closed, State::Closed);
    c
}

#[test]
fn a_copy_of_the_responders_own_syn_is_no_call() {
    let mut c = refused();
    assert_eq!(c.responder(segment(SYN, IRS, 0, 0)), Reason::AfterClose);
    c.expect(State::Closed, State::Closed);
    assert_eq!(c.responder(segment(SYN, NEXT, 0, 0)), Reason::Tracked);
    c.expect(State::SynSent, State::SynSent);
}

#[test]
fn a_fin_that_overtook_the_syn_ack_of_a_handshake_that_goes_on_is_kept() {
    for (seq, ack, kept) in [
        (IRS + 1, ISS + 1, true),
        (IRS + 1025, ISS + 1, true),
        (IRS + 1026, ISS + 1, false),
        (IRS, ISS + 1, false),
        (IRS + 1, ISS, false),
        (IRS + 1, ISS + 2, false),
    ] {
        let mut c = refused();
        let fin = segment(FIN, seq, ack, 0);
        assert_eq!(c.responder(fin), Reason::AfterClose);
        c.expect(State::Closed, State::Closed);
        let responder = c.flow().ends[1];
        assert_eq!(responder.has(end_flags::FIN), kept, "{seq} {ack}");
        let end = if kept { seq + 1 } else { IRS + 1 };
        assert_eq!(responder.end.0, end, "{seq} {ack}");
        assert_eq!(
            c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
            Reason::Tracked
        );
        if kept {
            c.expect(State::SynSent, State::FinWait1);
            c.initiator(segment(ACK, ISS + 1, end, 0));
            c.expect(State::CloseWait, State::FinWait2);
        } else {
            c.expect(State::SynSent, State::SynReceived);
        }
    }
    // What the initiator sends is only late, and an RST says nothing of a FIN.
    let mut c = refused();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(RST_ACK, IRS + 1, ISS + 1, 0));
    assert!(c.flow().ends.iter().all(|end| !end.has(end_flags::FIN)));
}
