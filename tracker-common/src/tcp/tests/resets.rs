//! RST: RFC 5961 section 3, and what real stacks send.

use super::conversation::{Conversation, IRS, ISS, segment};
use crate::{
    abi::{flow_flags, held},
    reason::Reason,
    tcp::{Flags, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

#[test]
fn only_an_exact_number_closes() {
    let next = IRS + 1;
    for (seq, reason) in [
        (next, Reason::ResetClosed),
        (next + 100, Reason::ResetClosed),
        (next + 1, Reason::ResetInexact),
        (next + 1024, Reason::ResetInexact),
        (next + 1025, Reason::ResetOutsideWindow),
        (next - 1, Reason::ResetLate),
        (0, Reason::ResetLate),
        (next.wrapping_sub(1 << 30), Reason::ResetLate),
        (next.wrapping_sub((1 << 30) + 1), Reason::ResetOutsideWindow),
    ] {
        for flags in [RST, RST_ACK] {
            let mut c = Conversation::established();
            // In flight: the receiver's next is before them, the sender's behind.
            c.responder(segment(ACK, next, ISS + 1, 100));
            assert_eq!(c.responder(segment(flags, seq, 0, 0)), reason, "{seq}");
            if reason == Reason::ResetClosed {
                c.expect(State::Closed, State::Closed);
            } else {
                c.expect(State::Established, State::Established);
            }
            if reason == Reason::ResetOutsideWindow {
                let bound = c.outcome.bound;
                assert_eq!(
                    (bound.value, bound.low, bound.high),
                    (seq, next, next + 1024)
                );
            }
        }
    }
}

/// The number that RFC 9293 section 3.10.7.1 gives a reset of a segment without
/// ACK, on flows whose numbers lie on either side of it.
#[test]
fn a_late_syn_may_be_reset_by_who_is_gone() {
    for isn in [IRS, 3 << 30] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, isn, ISS + 1, 0));
        c.initiator(segment(ACK, ISS + 1, isn.wrapping_add(1), 0));
        let reset = c.responder(segment(RST_ACK, 0, ISS + 1, 0));
        assert_eq!(reset, Reason::ResetLate, "{isn}");
        c.expect(State::Established, State::Established);
    }
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, 3 << 30, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, (3 << 30) + 1, 0));
    // It acknowledges a SYN that is not known here: another one than this
    // connection's.
    let foreign = c.responder(segment(RST_ACK, 0, ISS, 0));
    assert_eq!(foreign, Reason::ResetForeign);
    // Any other number, or none acknowledged, is not that form.
    let outside = c.responder(segment(RST_ACK, 1, ISS, 0));
    assert_eq!(outside, Reason::ResetOutsideWindow);
    let bare = c.responder(segment(RST, 0, 0, 0));
    assert_eq!(bare, Reason::ResetOutsideWindow);
    c.expect(State::Established, State::Established);
}

#[test]
fn an_inexact_rst_shortens_the_time_out_until_its_sender_shows_up() {
    let mut c = Conversation::established();
    c.responder(segment(RST, IRS + 2, 0, 0));
    // The challenge ACK says nothing about the sender.
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert!(c.flow().has(flow_flags::RST_INEXACT << 1));
    c.wait_ms(300_100);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::FlowPickedUp
    );

    let mut c = Conversation::established();
    c.responder(segment(RST, IRS + 2, 0, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 1, 0));
    c.wait_ms(300_100);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::Tracked
    );
}

#[test]
fn the_answer_to_a_challenge_closes() {
    let mut c = Conversation::established();
    c.responder(segment(RST, IRS + 2, 0, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert_eq!(
        c.responder(segment(RST, IRS + 1, 0, 0)),
        Reason::ResetClosed
    );
}

#[test]
fn who_has_closed_may_reset_what_crossed_the_fin() {
    let mut c = Conversation::established();
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 100));
    c.initiator(segment(ACK, ISS + 101, IRS + 2, 0));
    assert_eq!(c.responder(segment(RST, IRS + 1, 0, 0)), Reason::ResetLate);
    assert_eq!(
        c.responder(segment(RST, IRS + 2, 0, 0)),
        Reason::ResetClosed
    );
}

#[test]
fn an_initiator_that_waits_resets_what_it_cannot_place() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(ACK, 70_000, 80_000, 0));
    assert_eq!(
        c.initiator(segment(RST, 80_000, 0, 0)),
        Reason::ResetForeign
    );
    c.expect(State::SynSent, State::Listen);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    c.expect(State::Established, State::Established);
}

#[test]
fn a_handshake_goes_on_if_its_ends_do() {
    // RFC 9293 section 3.10.7.3: it resets and goes on waiting; the number may
    // be that of its SYN by chance or malice.
    for seq in [ISS, ISS + 1] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        assert_eq!(c.initiator(segment(RST, seq, 0, 0)), Reason::ResetClosed);
        c.expect(State::Closed, State::Closed);
        assert!(c.flow().has(held::HALF_OPEN));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        c.expect(State::SynSent, State::SynReceived);
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
        c.expect(State::Established, State::Established);
        assert!(!c.flow().has(held::HALF_OPEN));
    }
}

#[test]
fn a_refusal_that_the_initiator_is_past_ends_nothing() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(
        c.responder(segment(RST_ACK, 0, ISS + 1, 0)),
        Reason::ResetClosed
    );
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::Tracked
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn an_ack_older_than_the_initiators_own_rst_revives_nothing() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(
        c.initiator(segment(RST, ISS + 1, 0, 0)),
        Reason::ResetClosed
    );
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::AfterClose
    );
    // Nor where the responder's came first.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(RST_ACK, 0, ISS + 1, 0));
    assert_eq!(c.initiator(segment(RST, ISS + 1, 0, 0)), Reason::AfterClose);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::AfterClose
    );
    c.expect(State::Closed, State::Closed);
}

#[test]
fn an_established_flow_is_not_revived() {
    let mut c = Conversation::established();
    c.responder(segment(RST, IRS + 1, 0, 0));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10)),
        Reason::AfterClose
    );
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
        Reason::AfterClose
    );
    c.expect(State::Closed, State::Closed);
}

#[test]
fn a_late_copy_of_the_syn_opens_nothing() {
    let mut c = Conversation::established();
    c.responder(segment(RST, IRS + 1, 0, 0));
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::AfterClose);
    assert_eq!(c.initiator(segment(SYN, 9999, 0, 0)), Reason::FlowReopened);
}
