//! Closings: RFC 9293 section 3.6, resets, and what comes after.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    reason::Reason,
    tcp::{Flags, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const RST: u8 = Flags::RST;

/// Next sequence number of the initiator after the handshake.
const I: u32 = ISS + 1;
/// The same of the responder.
const R: u32 = IRS + 1;

#[test]
fn an_ordinary_close() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 0));
    c.expect(State::FinWait1, State::Established);
    // An ACK of what came before the FIN moves nothing.
    c.responder(segment(ACK, R, I, 0));
    c.expect(State::FinWait1, State::Established);
    c.responder(segment(ACK, R, I + 1, 0));
    c.expect(State::FinWait2, State::CloseWait);
    c.responder(segment(ACK, R, I + 1, 500));
    c.initiator(segment(ACK, I + 1, R + 500, 0));
    c.expect(State::FinWait2, State::CloseWait);
    c.responder(segment(FIN, R + 500, I + 1, 0));
    c.expect(State::FinWait2, State::LastAck);
    c.initiator(segment(ACK, I + 1, R + 501, 0));
    c.expect(State::TimeWait, State::Closed);
}

#[test]
fn the_responder_may_be_the_one_that_closes() {
    let mut c = Conversation::established();
    c.responder(segment(FIN, R, I, 0));
    c.expect(State::Established, State::FinWait1);
    c.initiator(segment(FIN, I, R + 1, 0));
    c.expect(State::LastAck, State::FinWait2);
    c.responder(segment(ACK, R + 1, I + 1, 0));
    c.expect(State::Closed, State::TimeWait);
}

#[test]
fn simultaneous_close() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 0));
    c.responder(segment(FIN, R, I, 0));
    c.expect(State::FinWait1, State::FinWait1);
    c.initiator(segment(ACK, I + 1, R + 1, 0));
    c.expect(State::Closing, State::FinWait2);
    c.responder(segment(ACK, R + 1, I + 1, 0));
    c.expect(State::TimeWait, State::TimeWait);
}

#[test]
fn a_fin_that_comes_again_takes_back_what_was_counted_on_sight() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 0));
    c.responder(segment(ACK, R, I + 1, 0));
    c.expect(State::FinWait2, State::CloseWait);
    assert_eq!(c.initiator(segment(FIN, I, R, 0)), Reason::FinRetransmit);
    c.expect(State::FinWait1, State::CloseWait);
    assert_eq!(c.flow().disproved(), 1);
    c.responder(segment(ACK, R, I + 1, 0));
    c.expect(State::FinWait2, State::CloseWait);

    // The last ACK was lost: LAST_ACK, counted closed, sends its FIN again.
    c.responder(segment(FIN, R, I + 1, 0));
    c.initiator(segment(ACK, I + 1, R + 1, 0));
    c.expect(State::TimeWait, State::Closed);
    assert_eq!(
        c.responder(segment(FIN, R, I + 1, 0)),
        Reason::FinRetransmit
    );
    c.expect(State::TimeWait, State::LastAck);
    c.initiator(segment(ACK, I + 1, R + 1, 0));
    c.expect(State::TimeWait, State::Closed);
    assert_eq!(c.flow().disproved(), 2);
}

#[test]
fn only_a_fin_restarts_2msl() {
    let mut c = closed_by_initiator();
    c.wait_ms(60_000);
    assert_eq!(c.initiator(segment(ACK, I + 1, R + 1, 0)), Reason::Tracked);
    c.wait_ms(60_100);
    assert_eq!(
        c.initiator(segment(SYN, ISS, 0, 0)),
        Reason::FlowReopened,
        "expired"
    );

    let mut c = closed_by_initiator();
    c.wait_ms(60_000);
    c.responder(segment(FIN, R, I + 1, 0));
    c.initiator(segment(ACK, I + 1, R + 1, 0));
    c.wait_ms(60_100);
    assert_eq!(
        c.initiator(segment(SYN, ISS, 0, 0)),
        Reason::SynInTimeWait,
        "still waits"
    );
}

#[test]
fn nothing_goes_beyond_a_fin() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 10));
    assert_eq!(c.initiator(segment(ACK, I + 11, R, 1)), Reason::BeyondFin);
    assert_eq!(c.initiator(segment(FIN, I + 11, R, 0)), Reason::BeyondFin);
    // What was sent before it may come again.
    assert_eq!(c.initiator(segment(ACK, I, R, 10)), Reason::Tracked);
    c.expect(State::FinWait1, State::Established);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut c = Conversation::established();
    assert_eq!(c.responder(segment(ACK, R, I + 1, 0)), Reason::AckUnsent);
    assert_eq!(c.responder(segment(FIN, R, I + 1, 0)), Reason::AckUnsent);
    c.expect(State::Established, State::Established);
}

#[test]
fn a_reset_closes_both_and_what_follows_is_noted() {
    let mut c = Conversation::established();
    assert_eq!(c.responder(segment(RST, R, 0, 0)), Reason::ResetClosed);
    c.expect(State::Closed, State::Closed);
    for late in [
        segment(ACK, I, R, 3),
        segment(FIN, I, R, 0),
        segment(RST, I, 0, 0),
    ] {
        assert_eq!(c.initiator(late), Reason::AfterClose);
    }
    c.expect(State::Closed, State::Closed);
}

#[test]
fn a_syn_on_a_live_flow_changes_nothing() {
    let mut c = Conversation::established();
    assert_eq!(c.initiator(segment(SYN, 123_456, 0, 0)), Reason::SynOnLive);
    assert_eq!(c.responder(segment(SYN, 123_456, 0, 0)), Reason::SynOnLive);
    c.expect(State::Established, State::Established);
    assert_eq!(c.initiator(segment(ACK, I, R, 10)), Reason::Tracked);
}

#[test]
fn a_closed_4_tuple_is_reused_from_either_side() {
    let mut c = Conversation::established();
    c.initiator(segment(RST, I, 0, 0));
    assert_eq!(c.initiator(segment(SYN, 1, 0, 0)), Reason::FlowReopened);
    c.expect(State::SynSent, State::Listen);
}

#[test]
fn time_wait_is_reused_by_a_higher_number_or_a_newer_timestamp() {
    let mut c = closed_by_initiator();
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynInTimeWait);
    assert_eq!(c.initiator(segment(SYN, I + 2, 0, 0)), Reason::FlowReopened);

    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 0, 500));
    c.responder(with_options(segment(SYN | ACK, IRS, I, 0), 0, 900));
    c.initiator(with_options(segment(FIN, I, R, 0), 0, 501));
    c.responder(with_options(segment(FIN, R, I + 1, 0), 0, 901));
    c.initiator(with_options(segment(ACK, I + 1, R + 1, 0), 0, 502));
    c.expect(State::TimeWait, State::Closed);
    let old = with_options(segment(SYN, 3, 0, 0), 0, 502);
    assert_eq!(c.initiator(old), Reason::SynInTimeWait);
    let new = with_options(segment(SYN, 3, 0, 0), 0, 503);
    assert_eq!(c.initiator(new), Reason::FlowReopened);
}

#[test]
fn a_half_closed_flow_lives_as_long_as_its_other_side_sends() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 0));
    c.responder(segment(ACK, R, I + 1, 0));
    for second in 0..20 {
        c.wait_ms(600_000);
        assert_eq!(
            c.responder(segment(ACK, R + second, I + 1, 1)),
            Reason::Tracked
        );
        c.initiator(segment(ACK, I + 1, R + second + 1, 0));
    }
    c.expect(State::FinWait2, State::CloseWait);
}

/// Initiator in TIME_WAIT, responder gone.
fn closed_by_initiator() -> Conversation {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, I, R, 0));
    c.responder(segment(FIN, R, I + 1, 0));
    c.initiator(segment(ACK, I + 1, R + 1, 0));
    c.expect(State::TimeWait, State::Closed);
    c
}
