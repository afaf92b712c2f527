//! States taken on sight, taken back, and believed again.

use super::conversation::{Conversation, IRS, ISS, LIVE, segment};
use crate::{
    abi::Live,
    reason::Reason,
    tcp::{Flags, State, timeout},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;

#[test]
fn a_doubt_ends_when_nothing_comes_again() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    c.expect(State::FinWait2, State::CloseWait);
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.expect(State::FinWait1, State::CloseWait);
    c.wait_ms(5900);
    let later = timeout::settled(c.flow(), c.now);
    assert_eq!(later.states(), [State::FinWait1, State::CloseWait]);
    // Twice as long each time it comes again.
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.wait_ms(11_900);
    let later = timeout::settled(c.flow(), c.now);
    assert_eq!(later.states(), [State::FinWait1, State::CloseWait]);
    c.wait_ms(200);
    let later = timeout::settled(c.flow(), c.now);
    assert_eq!(later.states(), [State::FinWait2, State::CloseWait]);
    assert_eq!((later.disproved(), later.is_in_doubt()), (2, false));
    // The packet path sees the same.
    c.responder(segment(ACK, IRS + 1, ISS + 2, 10));
    c.expect(State::FinWait2, State::CloseWait);
}

#[test]
fn an_answer_ends_a_doubt() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    c.expect(State::FinWait2, State::CloseWait);
}

#[test]
fn a_copy_of_the_syn_ack_does_not_end_an_idle_connection() {
    let mut c = Conversation::established();
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::Established, State::SynReceived);
    c.wait_ms(1_000_000);
    assert!(!timeout::expired(c.flow(), c.now, &LIVE));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 1)),
        Reason::Tracked
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn a_fin_overtaken_by_the_ack_of_the_peers_means_closing() {
    let mut c = Conversation::established();
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.expect(State::Closing, State::FinWait2);
}

#[test]
fn syn_acks_that_nobody_asked_for_end_a_handshake() {
    let mut c = Conversation::new();
    c.live = Live {
        syn_ack_retries: 2,
        ..LIVE
    };
    c.initiator(segment(Flags::SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    // Each SYN that comes again draws one.
    for _ in 0..5 {
        c.initiator(segment(Flags::SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    }
    for _ in 0..2 {
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        assert!(!timeout::expired(c.flow(), c.now, &c.live));
    }
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert!(timeout::expired(c.flow(), c.now, &c.live));
    assert_eq!(timeout::remaining(c.flow(), c.now, &c.live), 0);
}

#[test]
fn who_acknowledges_a_last_fin_knows_that_its_own_was_taken() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.expect(State::FinWait1, State::LastAck);
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.expect(State::TimeWait, State::Closed);
}
