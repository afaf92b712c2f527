//! SYNs on flows that live: nothing moves until somebody answers.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    abi::switches,
    reason::Reason,
    tcp::{Flags, Options, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

fn in_time_wait() -> Conversation {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.expect(State::TimeWait, State::Closed);
    c
}

#[test]
fn a_challenge_ack_is_only_an_ack() {
    let mut c = Conversation::established();
    assert_eq!(c.initiator(segment(SYN, 70_000, 0, 0)), Reason::SynOnLive);
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 1, 0)),
        Reason::Tracked
    );
    c.expect(State::Established, State::Established);
    // Its receiver had forgotten the connection.
    assert_eq!(
        c.initiator(segment(RST, ISS + 1, 0, 0)),
        Reason::ResetClosed
    );
    assert_eq!(
        c.initiator(segment(SYN, 70_000, 0, 0)),
        Reason::FlowReopened
    );
}

#[test]
fn in_last_ack_a_challenge_ack_is_not_the_last_one() {
    let mut c = Conversation::established();
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 2, 0));
    c.expect(State::LastAck, State::FinWait2);
    assert_eq!(c.responder(segment(SYN, 70_000, 0, 0)), Reason::SynOnLive);
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.expect(State::LastAck, State::FinWait2);
}

#[test]
fn the_syn_ack_that_answers_begins_anew_from_either_side() {
    for turned in [false, true] {
        let mut c = Conversation::established();
        let syn = with_options(segment(SYN, 70_000, 0, 5), 3, 77);
        let mut answer = with_options(segment(SYN_ACK, 90_000, 70_006, 0), 4, 88);
        answer.window = 600;
        if turned {
            c.responder(syn);
            assert_eq!(c.initiator(answer), Reason::FlowRestarted);
        } else {
            c.initiator(syn);
            assert_eq!(c.responder(answer), Reason::FlowRestarted);
        }
        c.expect(State::SynSent, State::SynReceived);
        let [initiator, responder] = c.flow().ends;
        assert_eq!((initiator.isn.0, responder.isn.0), (70_000, 90_000));
        assert_eq!((initiator.scale(), responder.scale()), (3, 4));
        assert_eq!((initiator.ts, responder.ts), (77, 88));
        assert_eq!(initiator.max_end.0, 70_006 + 600);
        assert_eq!(responder.max_end.0, 90_001 + 1024);
        let ack = segment(ACK, 70_006, 90_001, 0);
        let reason = if turned {
            c.responder(ack)
        } else {
            c.initiator(ack)
        };
        assert_eq!(reason, Reason::Tracked);
        c.expect(State::Established, State::Established);
    }
}

#[test]
fn whoever_forges_both_sides_is_on_one_of_them() {
    for answer in [
        segment(SYN_ACK, 90_000, 70_001, 0),
        segment(RST_ACK, 0, 70_001, 0),
    ] {
        let mut c = Conversation::established();
        c.initiator(segment(SYN, 70_000, 0, 0));
        c.interfaces[1] = c.interfaces[0];
        let reason = c.responder(answer);
        assert!(
            matches!(reason, Reason::SynAckOnLive | Reason::ResetLate),
            "{reason:?}"
        );
        c.expect(State::Established, State::Established);
        // A SYN from the wrong side is not remembered at all.
        let mut c = Conversation::established();
        let home = c.interfaces;
        c.interfaces[0] = home[1];
        c.initiator(segment(SYN, 70_000, 0, 0));
        c.interfaces = home;
        c.responder(answer);
        c.expect(State::Established, State::Established);
    }
}

#[test]
fn a_host_that_lost_the_connection_refuses_a_new_one() {
    let mut c = Conversation::established();
    c.initiator(segment(SYN, 70_000, 0, 0));
    assert_eq!(
        c.responder(segment(RST_ACK, 0, 70_001, 0)),
        Reason::ResetClosed
    );
}

#[test]
fn a_copy_of_the_syn_restarts_nothing() {
    let mut c = Conversation::established();
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::SynOnLive);
    assert_eq!(c.outcome.remember, 0);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    c.expect(State::Established, State::Established);
}

#[test]
fn time_wait_is_left_by_what_must_be_newer() {
    for (mut syn, stamp, reopens) in [
        (segment(SYN, ISS + 2, 0, 0), None, false),
        (segment(SYN, ISS + 3, 0, 0), None, true),
        (segment(SYN, ISS.wrapping_sub(1 << 30), 0, 0), None, false),
        (segment(SYN, ISS.wrapping_sub(1 << 30), 0, 0), Some(1), true),
        (segment(SYN, ISS + 3, 0, 0), Some(0), true),
        (segment(SYN, ISS + 1, 0, 0), Some(0), false),
        (segment(SYN, ISS + 3, 0, 0), Some(-1), false),
    ] {
        for strict in [false, true] {
            let mut c = in_time_wait();
            if let Some(later) = stamp {
                c.flow.as_mut().unwrap().ends[0].flags |= crate::abi::end_flags::TIMESTAMPS;
                syn.options.present = Options::TIMESTAMPS;
                syn.options.ts_value = c.flow().ends[0].ts.wrapping_add_signed(later);
            }
            if strict {
                c.live.switches = switches::STRICT_2MSL;
            }
            let expected = if reopens && !strict {
                Reason::FlowReopened
            } else {
                Reason::SynInTimeWait
            };
            assert_eq!(c.initiator(syn), expected, "{syn:?} {stamp:?} {strict}");
        }
    }
}

#[test]
fn either_end_may_reopen_and_an_answer_decides_what_we_did_not() {
    let mut c = in_time_wait();
    assert_eq!(
        c.responder(segment(SYN, IRS + 3, 0, 0)),
        Reason::FlowReopened
    );
    let mut c = in_time_wait();
    c.live.switches = switches::STRICT_2MSL;
    c.responder(segment(SYN, IRS + 3, 0, 0));
    assert_eq!(
        c.initiator(segment(SYN_ACK, 90_000, IRS + 4, 0)),
        Reason::FlowRestarted
    );
    // Who is in TIME_WAIT does not heed that an old duplicate is refused.
    let mut c = in_time_wait();
    c.initiator(segment(SYN, ISS - 5, 0, 0));
    assert_eq!(
        c.responder(segment(RST_ACK, 0, ISS - 4, 0)),
        Reason::ResetForeign
    );
    c.expect(State::TimeWait, State::Closed);
}
