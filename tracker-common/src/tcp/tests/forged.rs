//! SYNs, SYN-ACKs and RSTs that are nearly right: none of them may move what
//! the right one would.

use super::conversation::{Conversation, IRS, ISS, segment};
use crate::{
    abi::{end_flags, flow_flags, held},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options, Segment, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

fn stamped(mut segment: Segment, value: u32) -> Segment {
    segment.options.present = Options::TIMESTAMPS;
    segment.options.ts_value = value;
    segment
}

fn in_time_wait() -> Conversation {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c
}

#[test]
fn a_syn_does_not_reopen_what_one_end_has_not_closed() {
    let mut c = in_time_wait();
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.expect(State::TimeWait, State::LastAck);
    assert_eq!(
        c.initiator(segment(SYN, ISS + 500, 0, 0)),
        Reason::SynOnLive
    );
    assert_eq!(
        c.responder(segment(SYN, IRS + 500, 0, 0)),
        Reason::SynOnLive
    );
    c.expect(State::TimeWait, State::LastAck);
}

#[test]
fn two_ends_in_time_wait_are_not_closed() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.responder(segment(ACK, IRS + 2, ISS + 2, 0));
    c.expect(State::TimeWait, State::TimeWait);
    let old = segment(SYN, ISS - 500, 0, 0);
    assert_eq!(c.initiator(old), Reason::SynInTimeWait);
    let new = segment(SYN, ISS + 500, 0, 0);
    assert_eq!(c.initiator(new), Reason::FlowReopened);
}

#[test]
fn one_timestamp_alone_tells_no_syn_from_an_old_one() {
    // The connection had none.
    let mut c = in_time_wait();
    let syn = stamped(segment(SYN, ISS - 500, 0, 0), 5);
    assert_eq!(c.initiator(syn), Reason::SynInTimeWait);
    let syn = stamped(segment(SYN, ISS + 500, 0, 0), 0xf000_0000);
    assert_eq!(c.initiator(syn), Reason::FlowReopened);
    // The SYN has none.
    let mut c = in_time_wait();
    let end = &mut c.flow.as_mut().unwrap().ends[0];
    end.flags |= end_flags::TIMESTAMPS;
    end.ts = 1 << 20;
    let syn = segment(SYN, ISS + 500, 0, 0);
    assert_eq!(c.initiator(syn), Reason::FlowReopened);
}

#[test]
fn a_responder_that_has_answered_does_not_open_anew_by_a_bare_syn() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(c.responder(segment(SYN, IRS, 0, 0)), Reason::SynOnLive);
    assert_eq!(c.responder(segment(SYN, 9999, 0, 0)), Reason::SynOnLive);
    c.expect(State::SynSent, State::SynReceived);
}

#[test]
fn a_syn_ack_takes_back_only_what_it_had_opened() {
    // Said again as it was, by one that has said nothing else: see the
    // handshakes. All else is an old duplicate.
    for (seq, ack) in [(IRS, ISS + 2), (IRS, ISS), (IRS + 1, ISS + 1)] {
        let mut c = Conversation::established();
        let again = segment(SYN_ACK, seq, ack, 0);
        assert_eq!(c.responder(again), Reason::SynAckOnLive);
        c.expect(State::Established, State::Established);
    }
    let mut c = Conversation::established();
    c.responder(segment(ACK, IRS + 1, ISS + 1, 0));
    let again = segment(SYN_ACK, IRS, ISS + 1, 0);
    assert_eq!(c.responder(again), Reason::SynAckOnLive);
    // Nor has an initiator ever sent one.
    let mut c = Conversation::established();
    let odd = segment(SYN_ACK, ISS, IRS + 1, 0);
    assert_eq!(c.initiator(odd), Reason::SynAckOnLive);
    c.expect(State::Established, State::Established);
}

#[test]
fn an_end_that_was_not_seen_does_not_answer_from_its_peers_side() {
    for same in [false, true] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.initiator(segment(SYN, 70_000, 0, 0));
        if same {
            c.interfaces[1] = c.interfaces[0];
        }
        let reason = c.responder(segment(SYN_ACK, IRS, 70_001, 0));
        assert_eq!(reason == Reason::FlowRestarted, !same, "{reason:?}");
    }
    // The same where the initiator is who was not seen.
    for same in [false, true] {
        let mut c = Conversation::new();
        c.responder(segment(ACK, 900, 100, 10));
        assert_eq!(c.responder(segment(SYN, 70_000, 0, 0)), Reason::SynOnLive);
        if same {
            c.interfaces[0] = c.interfaces[1];
        }
        let reason = c.initiator(segment(SYN_ACK, 5, 70_001, 0));
        assert_eq!(reason == Reason::FlowRestarted, !same, "{reason:?}");
    }
}

#[test]
fn on_loopback_both_ends_come_the_same_way() {
    let mut c = Conversation::established();
    c.interfaces = [1, 1];
    c.initiator(segment(SYN, 70_000, 0, 0));
    let answer = segment(SYN_ACK, 90_000, 70_001, 0);
    assert_eq!(c.responder(answer), Reason::FlowRestarted);
}

#[test]
fn who_is_gone_may_reset_with_any_number_that_was_ever_acknowledged() {
    let next = IRS + 2;
    for (seq, reason) in [
        (next, Reason::ResetClosed),
        (next - 1, Reason::ResetLate),
        (next - 1024, Reason::ResetLate),
        (next - 1025, Reason::ResetLate),
        (next.wrapping_sub((1 << 30) + 1), Reason::ResetOutsideWindow),
        (next + 5000, Reason::ResetOutsideWindow),
    ] {
        let mut c = Conversation::established();
        c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
        c.initiator(segment(ACK, ISS + 1, IRS + 2, 0));
        c.expect(State::CloseWait, State::FinWait2);
        assert_eq!(c.responder(segment(RST, seq, 0, 0)), reason, "{seq}");
    }
    // It may have aborted, with a reset that was lost.
    let mut c = Conversation::established();
    c.responder(segment(ACK, IRS + 1, ISS + 1, 100));
    c.initiator(segment(ACK, ISS + 1, IRS + 101, 0));
    let late = segment(RST, IRS + 1, 0, 0);
    assert_eq!(c.responder(late), Reason::ResetLate);
    c.expect(State::Established, State::Established);
}

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
fn a_handshake_is_revived_by_its_very_ack_only() {
    for (odd, reason) in [
        (segment(ACK, ISS + 1, IRS, 0), Reason::AfterClose),
        (segment(ACK, ISS + 1, IRS + 2, 0), Reason::AfterClose),
        (segment(RST_ACK, ISS + 5, IRS + 1, 0), Reason::AfterClose),
        (segment(RST, ISS + 5, IRS + 1, 0), Reason::AfterClose),
        (segment(SYN, ISS, IRS + 1, 0), Reason::AfterClose),
    ] {
        let mut c = refused();
        assert_eq!(c.initiator(odd), reason, "{odd:?}");
        c.expect(State::Closed, State::Closed);
        // None of them has said that its sender gave up.
        let ack = segment(ACK, ISS + 1, IRS + 1, 0);
        assert_eq!(c.initiator(ack), Reason::Tracked, "{odd:?}");
        c.expect(State::Established, State::Established);
    }
}

#[test]
fn both_ends_may_say_that_a_handshake_is_over() {
    let mut c = refused();
    c.initiator(segment(RST, ISS + 1, 0, 0));
    assert!(c.flow().has(flow_flags::RST_INEXACT_BOTH | held::HALF_OPEN));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 0)),
        Reason::AfterClose
    );
    // The responder's after the initiator's.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.initiator(segment(RST, ISS + 1, 0, 0));
    assert!(!c.flow().has(flow_flags::RST_INEXACT << 1));
    c.responder(segment(RST, IRS + 1, 0, 0));
    assert!(c.flow().has(flow_flags::RST_INEXACT_BOTH | held::HALF_OPEN));
    assert!(!c.flow().has(flow_flags::SYN_ON_LIVE));
}

#[test]
fn a_simultaneous_open_that_was_reset_goes_on_where_it_was() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    assert_eq!(
        c.initiator(segment(RST, ISS + 1, 0, 0)),
        Reason::ResetClosed
    );
    c.expect(State::Closed, State::Closed);
    let ack = segment(SYN_ACK, ISS, IRS + 1, 0);
    assert_eq!(c.initiator(ack), Reason::Tracked);
    c.expect(State::SynReceived, State::SynSent);
    let ack = segment(SYN_ACK, IRS, ISS + 1, 0);
    assert_eq!(c.responder(ack), Reason::Tracked);
    c.expect(State::Established, State::Established);
}

#[test]
fn an_rst_of_an_end_that_was_not_heard_leaves_no_number() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    let early = segment(RST, IRS + 1, ISS + 1, 0);
    assert_eq!(c.responder(early), Reason::ResetForeign);
    assert_eq!(c.flow().ends[1].end, Seq(0));
}
