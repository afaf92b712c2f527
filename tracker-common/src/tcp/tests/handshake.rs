//! Openings: RFC 9293 section 3.5 and what goes wrong there.

use super::conversation::{Conversation, IRS, ISS, LIVE, segment, with_options};
use crate::{
    abi::{Flow, Listener, Origin, end_flags, held},
    defence,
    reason::Reason,
    seq::Seq,
    tcp::{Context, Flags, Opening, Outcome, State, meet, open},
    time::{Micros, ShortMicros, Tick},
};

const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const ACK: u8 = Flags::ACK;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

#[test]
fn each_segment_proves_one_step() {
    let mut c = Conversation::new();
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::FlowOpened);
    c.expect(State::SynSent, State::Listen);
    assert!(c.flow().has(held::HALF_OPEN));
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
        Reason::Tracked
    );
    c.expect(State::SynSent, State::SynReceived);
    assert_eq!(c.outcome.released, 0);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::Tracked
    );
    c.expect(State::Established, State::Established);
    assert_eq!(c.outcome.released, held::HALF_OPEN | held::COUNTED);
    assert!(!c.flow().has(held::HALF_OPEN));
}

#[test]
fn the_third_ack_must_acknowledge_the_responders_syn() {
    for wrong in [IRS, IRS + 2, IRS.wrapping_sub(1), 0] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        assert_eq!(
            c.initiator(segment(ACK, ISS + 1, wrong, 0)),
            Reason::HandshakeWrongAck
        );
        c.expect(State::SynSent, State::SynReceived);
        assert!(c.flow().has(held::HALF_OPEN));
        assert_eq!(
            c.flow().ends[0].packets(),
            1,
            "a refused segment is nobody's"
        );
    }
}

#[test]
fn a_syn_ack_that_acknowledges_something_else_moves_nothing() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    for wrong in [ISS, ISS + 2, 77] {
        assert_eq!(
            c.responder(segment(SYN_ACK, IRS, wrong, 0)),
            Reason::SynAckWrongAck
        );
        c.expect(State::SynSent, State::Listen);
    }
}

#[test]
fn retransmissions_are_counted_and_do_not_extend_the_handshake() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    for _ in 0..3 {
        c.wait_ms(1000);
        assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRetransmit);
    }
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.wait_ms(1000);
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
        Reason::SynAckRetransmit
    );
    assert_eq!(c.flow().ends[0].syn_retransmits, 3);
    assert_eq!(c.flow().ends[1].syn_retransmits, 1);
    // 60 s after the first SYN-ACK it is gone, whatever came since: the same SYN
    // opens a new flow.
    c.wait_ms(58_000);
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRetransmit);
    c.wait_ms(1_100);
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::FlowReopened);
    assert_eq!(c.flow().ends[0].syn_retransmits, 0);
}

/// Linux repeats its SYN 1, 3, 7, 15, 31 and 63 s after the first.
#[test]
fn a_syn_answered_late_still_completes() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.wait_ms(63_000);
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRetransmit);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.wait_ms(1000);
    let ack = segment(ACK, ISS + 1, IRS + 1, 0);
    assert_eq!(c.initiator(ack), Reason::Tracked);
    c.expect(State::Established, State::Established);
}

/// Without an answer it does end, 120 s after the first.
#[test]
fn repeated_syns_alone_keep_nothing() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    for _ in 0..11 {
        c.wait_ms(10_900);
        assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRetransmit);
    }
    c.wait_ms(1000);
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::FlowReopened);
}

#[test]
fn the_answer_tells_which_of_two_syns_counts() {
    for (ack, followed) in [(ISS + 1, false), (10_000, true)] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.wait_ms(1000);
        assert_eq!(c.initiator(segment(SYN, 9999, 0, 0)), Reason::SynRenewed);
        c.expect(State::SynSent, State::Listen);
        assert_eq!(c.flow().ends[0].isn.0, ISS, "whoever sent that");
        let reason = c.responder(segment(SYN_ACK, IRS, ack, 0));
        assert_eq!(reason == Reason::FlowRestarted, followed);
        c.initiator(segment(ACK, ack, IRS + 1, 0));
        c.expect(State::Established, State::Established);
        assert!(!c.flow().has(held::HALF_OPEN));
    }
}

#[test]
fn the_ack_tells_which_of_two_syn_acks_counts() {
    for ack in [IRS + 1, 70_001] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        c.initiator(segment(SYN, ISS, 0, 0));
        assert_eq!(
            c.responder(segment(SYN_ACK, 70_000, ISS + 1, 0)),
            Reason::SynAckRenewed
        );
        assert_eq!(
            c.initiator(segment(ACK, ISS + 1, ack + 1, 0)),
            Reason::HandshakeWrongAck
        );
        assert_eq!(c.initiator(segment(ACK, ISS + 1, ack, 0)), Reason::Tracked);
        c.expect(State::Established, State::Established);
        assert_eq!(c.flow().ends[1].isn.0, ack - 1);
        assert_eq!(c.responder(segment(ACK, ack, ISS + 1, 10)), Reason::Tracked);
    }
}

#[test]
fn simultaneous_open() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    c.expect(State::SynSent, State::SynSent);
    assert_eq!(c.flow().ends[1].syn_retransmits, 0, "no SYN-ACK yet");
    c.initiator(segment(SYN_ACK, ISS, IRS + 1, 0));
    c.expect(State::SynReceived, State::SynSent);
    // Now each has acknowledged the other's SYN, which is all that they wait for.
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::Established, State::Established);
    // That was lost behind the tracker: the initiator repeats itself.
    let again = segment(SYN_ACK, ISS, IRS + 1, 0);
    assert_eq!(c.initiator(again), Reason::SynAckRetransmit);
    c.expect(State::SynReceived, State::Established);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::Established, State::SynReceived);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    c.expect(State::Established, State::Established);
    assert!(!c.flow().has(held::HALF_OPEN));
}

#[test]
fn a_refusal_must_acknowledge_the_syn() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    assert_eq!(
        c.responder(segment(RST_ACK, 0, ISS + 2, 0)),
        Reason::ResetWrongAck
    );
    assert_eq!(
        c.responder(segment(Flags::RST, 0, ISS + 1, 0)),
        Reason::ResetForeign
    );
    c.expect(State::SynSent, State::Listen);
    assert_eq!(
        c.responder(segment(RST_ACK, 0, ISS + 1, 0)),
        Reason::ResetClosed
    );
    c.expect(State::Closed, State::Closed);
    // Else SYNs with their RSTs would fill the table.
    assert_eq!(c.outcome.released, 0);
    assert!(c.flow().has(held::HALF_OPEN));
}

#[test]
fn a_lost_third_ack_takes_the_responder_back() {
    let mut c = Conversation::established();
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
        Reason::SynAckRetransmit
    );
    c.expect(State::Established, State::SynReceived);
    assert_eq!(c.flow().disproved(), 1);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    c.expect(State::Established, State::Established);
    // Once the responder has said something else, it can only be a duplicate.
    c.responder(segment(ACK, IRS + 1, ISS + 11, 0));
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0)),
        Reason::SynAckOnLive
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn data_with_the_syn_may_be_taken_or_not() {
    for taken in [0, 100] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 100));
        c.responder(segment(SYN_ACK, IRS, ISS + 1 + taken, 0));
        c.expect(State::SynSent, State::SynReceived);
        c.initiator(segment(ACK, ISS + 101, IRS + 1, 0));
        c.expect(State::Established, State::Established);
    }
    // Again without the data, as a client does when the first one was lost.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 100));
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynRetransmit);
    assert_eq!(
        c.responder(segment(SYN_ACK, IRS, ISS + 101, 0)),
        Reason::Tracked
    );
}

#[test]
fn a_window_scale_needs_both_sides() {
    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 7, 100));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!((c.flow().ends[0].scale(), c.flow().ends[1].scale()), (0, 0));

    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 200, 100));
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), 9, 50));
    assert_eq!(
        (c.flow().ends[0].scale(), c.flow().ends[1].scale()),
        (14, 9)
    );
    assert!(c.flow().ends[0].has(end_flags::SACK | end_flags::TIMESTAMPS));
    // Unscaled in the SYNs, scaled from then on.
    assert_eq!(c.flow().ends[0].max_end, Seq(ISS + 1 + 1024));
    c.initiator(with_options(segment(ACK, ISS + 1, IRS + 1, 0), 0, 101));
    assert_eq!(c.flow().ends[1].max_end, Seq(IRS + 1 + (1024 << 14)));
    assert_eq!(c.flow().ends[0].ts, 101);
}

#[test]
fn the_round_trip_is_from_syn_to_third_ack() {
    let mut c = Conversation::new();
    c.micros = Micros(u32::MAX - 10);
    c.initiator(segment(SYN, ISS, 0, 0));
    c.micros = Micros(3000);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.micros = Micros(4000);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    let rtt = c.flow().handshake_rtt.unpack().expect("measured");
    assert!((4005..=4011).contains(&rtt), "{rtt}");

    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert_eq!(c.flow().handshake_rtt.unpack(), None, "Karn");
}

#[test]
fn half_of_a_handshake_that_was_not_seen_is_noted() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 5)),
        Reason::HandshakeUnseen
    );
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 1, 5)),
        Reason::HandshakeUnseen
    );
    c.expect(State::SynSent, State::Listen);
}

/// Of a cookie that came back the SYN's time is not known.
#[test]
fn a_flow_from_a_cookie_is_as_strict_as_any_and_knows_no_round_trip() {
    let listener = Listener {
        window: 1000,
        mss: 1460,
        ..Listener::default()
    };
    let ack = segment(ACK, ISS + 1, IRS + 1, 0);
    let (syn, syn_ack) = defence::handshake(&ack, &listener, &LIVE, Micros(5));
    let mut flow = Flow::default();
    let mut outcome = Outcome::default();
    let context = Context {
        pending: syn,
        bytes: 40,
        now: Tick(7),
        ..Context::default()
    };
    let opening = Opening::Cookie;
    open(
        &mut flow,
        opening,
        &syn_ack,
        7,
        9,
        false,
        false,
        1,
        &context,
        &LIVE,
        &mut outcome,
    );
    assert_eq!(outcome.reason, Reason::CookieReturned);
    assert_eq!(flow.origin(), Origin::Cookie);
    assert!(flow.has(held::HALF_OPEN) && !flow.has(held::COUNTED));
    meet(&mut flow, &ack, 0, &context, &LIVE, &mut outcome);
    assert_eq!(outcome.reason, Reason::Tracked);
    assert_eq!(flow.states(), [State::Established; 2]);
    assert_eq!((flow.ends[0].isn, flow.ends[1].isn), (Seq(ISS), Seq(IRS)));
    assert_eq!(flow.handshake_rtt, ShortMicros::default());
    // The SYN-ACK's window is the right edge.
    let beyond = segment(ACK, ISS + 1002, IRS + 1, 10);
    meet(&mut flow, &beyond, 0, &context, &LIVE, &mut outcome);
    assert_eq!(outcome.reason, Reason::BeyondWindow);
}
