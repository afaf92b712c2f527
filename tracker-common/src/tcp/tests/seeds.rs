//! Connections that userspace tells of, and what a policy writes into a flow.

use super::conversation::{Conversation, LIVE, segment};
use crate::{
    abi::{Flow, INITIATOR, Live, Origin, RESPONDER, Seed, flow_flags, held},
    reason::Reason,
    tcp::{
        Flags, State, is_sound, plant,
        timeout::{self, Class, Profile},
    },
    time::Tick,
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const RST: u8 = Flags::RST;

/// A conversation of which userspace has told, in these states.
fn told(initiator: State, responder: State) -> Conversation {
    let mut c = Conversation::new();
    let seed = Seed {
        origin: Origin::Socket as u8,
        states: [initiator as u8, responder as u8],
        guessed: 1,
        ..Seed::default()
    };
    assert!(is_sound(&seed));
    let mut flow = Flow::default();
    plant(&mut flow, &seed, 7, 9, c.now, 0);
    c.flow = Some(flow);
    c
}

#[test]
fn a_told_connection_takes_its_numbers_from_its_first_segment() {
    for first in [INITIATOR, RESPONDER] {
        let mut c = told(State::Established, State::Established);
        assert_eq!(c.flow().origin(), Origin::Socket);
        assert!(c.flow().is_unread() && c.flow().has(flow_flags::LIBERAL));
        assert!(c.flow().has(flow_flags::GUESSED));
        let data = segment(ACK, 4_000_000_000, 70, 500);
        let answer = segment(ACK, 70, 4_000_000_500, 10);
        let reasons = if first == INITIATOR {
            [c.initiator(data), c.responder(answer)]
        } else {
            [c.responder(data), c.initiator(answer)]
        };
        assert_eq!(reasons, [Reason::Tracked; 2]);
        assert!(!c.flow().is_unread());
        let end = &c.flow().ends[first];
        assert_eq!((end.end.0, end.packets()), (4_000_000_500, 1));
    }
}

#[test]
fn a_told_connection_closes_as_any() {
    let mut c = told(State::Established, State::Established);
    c.initiator(segment(FIN, 100, 900, 0));
    c.expect(State::FinWait1, State::Established);
    c.responder(segment(ACK, 900, 101, 0));
    c.expect(State::FinWait2, State::CloseWait);
    c.responder(segment(FIN, 900, 101, 0));
    c.initiator(segment(ACK, 101, 901, 0));
    c.expect(State::TimeWait, State::Closed);

    // One that was half closed when it was told of.
    let mut c = told(State::CloseWait, State::FinWait2);
    c.initiator(segment(ACK, 100, 901, 20));
    c.expect(State::CloseWait, State::FinWait2);
    c.responder(segment(ACK, 901, 120, 0));
    c.initiator(segment(FIN, 120, 901, 0));
    c.expect(State::LastAck, State::FinWait2);
    c.responder(segment(ACK, 901, 121, 0));
    c.expect(State::Closed, State::TimeWait);
}

#[test]
fn whoever_need_not_know_a_told_connection_moves_nothing() {
    for flags in [RST, RST | ACK, Flags::SYN, Flags::SYN | ACK] {
        let mut c = told(State::Established, State::Established);
        let reason = c.responder(segment(flags, 12_345, 77, 0));
        assert!(!reason.refuses(), "{flags:#x} {reason:?}");
        c.expect(State::Established, State::Established);
        assert!(c.flow().is_unread(), "{flags:#x} {reason:?}");
        // What belongs to it is read afterwards.
        assert_eq!(c.initiator(segment(ACK, 5, 6, 1)), Reason::Tracked);
        assert_eq!(c.responder(segment(ACK, 6, 6, 1)), Reason::Tracked);
    }
}

#[test]
fn a_seed_without_states_is_not_sound() {
    let none = Seed {
        states: [State::Established as u8, 11],
        ..Seed::default()
    };
    assert!(!is_sound(&none));
}

#[test]
fn a_flow_knows_by_which_policy_it_was_judged() {
    let mut flow = Flow::default();
    flow.judged(8191, 7);
    assert_eq!(flow.profile(), 7);
    assert_eq!(flow.is_stale(8191), 0);
    assert_ne!(flow.is_stale(8190), 0);
    // Thirteen bits of it.
    assert_eq!(flow.is_stale(8191 + 8192), 0);
    flow.judged(3, 0);
    assert_eq!((flow.profile(), flow.is_stale(3)), (0, 0));
}

#[test]
fn a_flow_that_another_policy_has_judged_takes_the_long_way() {
    let mut c = Conversation::established();
    let before = c.passed;
    c.responder(segment(ACK, 5001, 1001, 10));
    assert_eq!(c.passed, before + 1);
    c.flow.as_mut().unwrap().judged(1, 0);
    c.responder(segment(ACK, 5011, 1001, 10));
    assert_eq!(c.passed, before + 1);
}

#[test]
fn a_profile_has_its_own_time_outs() {
    for profile in Profile::ALL {
        let mut c = Conversation::established();
        c.flow.as_mut().unwrap().judged(0, profile.index());
        let own = profile.ticks()[Class::Established as usize];
        assert_eq!(timeout::timeout_ticks(c.flow(), &LIVE), own);
        let at = |ticks| Tick(c.now.0 + ticks);
        assert!(!timeout::expired(c.flow(), at(own - 1), &LIVE));
        assert!(timeout::expired(c.flow(), at(own), &LIVE));
    }
    // Those that are configured are for flows whose rule names none.
    let mut live: Live = LIVE;
    live.timeouts = timeout::rows(&[50; timeout::CLASSES]);
    let mut c = Conversation::established();
    assert_eq!(timeout::timeout_ticks(c.flow(), &live), 50);
    c.flow.as_mut().unwrap().judged(0, Profile::Pf.index());
    assert_eq!(
        timeout::timeout_ticks(c.flow(), &live),
        Profile::Pf.ticks()[2]
    );
}

#[test]
fn a_connection_counts_to_its_rule_until_it_is_over() {
    let ruled = |c: &Conversation| c.flow().flags & held::RULED;
    let mut c = Conversation::established();
    c.flow.as_mut().unwrap().flags |= held::RULED;
    // What no endpoint can have sent frees nothing.
    c.responder(segment(RST, 9_000_000, 0, 0));
    assert_eq!(ruled(&c), held::RULED);
    c.initiator(segment(FIN, 1001, 5001, 0));
    c.responder(segment(ACK, 5001, 1002, 0));
    assert_eq!((ruled(&c), c.outcome.released), (held::RULED, 0));
    c.responder(segment(FIN, 5001, 1002, 0));
    c.initiator(segment(ACK, 1002, 5002, 0));
    c.expect(State::TimeWait, State::Closed);
    assert_eq!(ruled(&c), 0);

    // A true RST ends it, too.
    let mut c = Conversation::established();
    c.flow.as_mut().unwrap().flags |= held::RULED;
    c.responder(segment(RST, 5001, 0, 0));
    assert_eq!((ruled(&c), c.outcome.released), (0, held::RULED));

    // But not in a handshake, which may go on.
    let mut c = Conversation::new();
    c.initiator(segment(Flags::SYN, 1000, 0, 0));
    c.flow.as_mut().unwrap().flags |= held::RULED;
    c.responder(segment(RST | ACK, 0, 1001, 0));
    assert_eq!(ruled(&c), held::RULED);
}
