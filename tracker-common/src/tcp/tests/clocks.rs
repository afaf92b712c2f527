//! The clocks, and time-outs to the tick.

use super::conversation::{Conversation, IRS, ISS, LIVE, segment};
use crate::{
    abi::{Cause, Live, PROFILES},
    reason::Reason,
    tcp::{
        Flags, State,
        timeout::{self, Class, Profile, class_of_flow},
    },
    time::{MAX_TIMEOUT_TICKS, Micros, TICK_NS, Tick, ms_from_ticks, ticks_from_ms},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;

#[test]
fn a_tick_is_four_milliseconds_and_a_bit() {
    assert_eq!(TICK_NS, 4_194_304);
    assert_eq!(Tick::from_ns(TICK_NS - 1), Tick(0));
    assert_eq!(Tick::from_ns(3 * TICK_NS), Tick(3));
    assert_eq!(Tick::from_ns(TICK_NS << 32), Tick(0), "208 days");
    assert_eq!(ms_from_ticks(1), 4);
    assert_eq!(ms_from_ticks(1000), 4194);
    assert_eq!(Micros::from_ns(1999), Micros(1));
    assert_eq!(Micros::from_ns(5_000_000), Micros(5000));
}

#[test]
fn half_of_the_circle_is_behind_and_half_ahead() {
    assert_eq!(MAX_TIMEOUT_TICKS, 0x7fff_ffff);
    assert_eq!(Tick(MAX_TIMEOUT_TICKS).since(Tick(0)), MAX_TIMEOUT_TICKS);
    assert_eq!(Tick(MAX_TIMEOUT_TICKS + 1).since(Tick(0)), 0);
    assert_eq!(Tick(MAX_TIMEOUT_TICKS + 2).since(Tick(0)), 0);
}

/// What the profiles promise to whom they are named after, in seconds.
#[test]
fn profiles_keep_their_promises() {
    let linux = Profile::Linux.seconds();
    assert_eq!(linux[Class::Established as usize], 5 * 86_400);
    let rfc = Profile::Rfc.seconds();
    // RFC 5382 REQ-5, and 2MSL.
    assert!(rfc[Class::Established as usize] >= 2 * 3600 + 4 * 60);
    assert_eq!(rfc[Class::TimeWait as usize], 240);
    for profile in Profile::ALL {
        let of_seconds = |seconds| ticks_from_ms(u64::from(seconds) * 1000);
        assert_eq!(profile.ticks(), profile.seconds().map(of_seconds));
    }
}

#[test]
fn a_doubt_lasts_to_the_tick_and_doubles() {
    let mut wait = 6000;
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    for times in 1..=9 {
        c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
        c.expect(State::FinWait1, State::CloseWait);
        assert_eq!(c.flow().disproved(), times);
        // No retransmission time-out exceeds four minutes.
        let last = ticks_from_ms(if times < 7 { wait } else { 240_000 });
        let before = Tick(c.now.0 + last - 1);
        assert!(timeout::settled(c.flow(), before).is_in_doubt());
        assert!(!timeout::settled(c.flow(), Tick(c.now.0 + last)).is_in_doubt());
        wait *= 2;
    }
}

#[test]
fn each_end_that_is_doubted_is_believed_for_itself() {
    // FIN_WAIT_2, CLOSING to TIME_WAIT and LAST_ACK to CLOSED by the ACK of a
    // FIN; SYN_RECEIVED to ESTABLISHED by the third ACK.
    let mut c = Conversation::established();
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::Established, State::SynReceived);
    c.wait_ms(6010);
    let settled = timeout::settled(c.flow(), c.now);
    assert_eq!(settled.states(), [State::Established; 2]);

    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.expect(State::TimeWait, State::LastAck);
    c.wait_ms(6010);
    let settled = timeout::settled(c.flow(), c.now);
    assert_eq!(settled.states(), [State::TimeWait, State::Closed]);

    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.responder(segment(ACK, IRS + 2, ISS + 2, 0));
    c.expect(State::TimeWait, State::TimeWait);
    c.initiator(segment(FIN, ISS + 1, IRS + 2, 0));
    c.expect(State::Closing, State::TimeWait);
    c.wait_ms(6010);
    let settled = timeout::settled(c.flow(), c.now);
    assert_eq!(settled.states(), [State::TimeWait; 2]);
}

#[test]
fn each_cause_removes_what_it_is_about() {
    let mut c = Conversation::established();
    let flow = *c.flow();
    for (cause, removable) in [
        (Cause::Expired, false),
        (Cause::TimeWaitLimit, false),
        (Cause::Replaced, true),
        (Cause::Flushed, true),
    ] {
        assert_eq!(timeout::removable(&flow, cause, c.now, &LIVE), removable);
    }
    let later = Tick(c.now.0 + LIVE.timeouts[0][Class::Established as usize]);
    assert!(timeout::removable(&flow, Cause::Expired, later, &LIVE));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    let flow = *c.flow();
    assert!(timeout::removable(
        &flow,
        Cause::TimeWaitLimit,
        c.now,
        &LIVE
    ));
    assert!(!timeout::removable(&flow, Cause::Expired, c.now, &LIVE));
}

/// What `c` waits for after its responder sent these data (offset, octets), the
/// initiator acknowledging none.
fn after_data(c: &mut Conversation, from_responder: &[(u32, u32)]) -> Class {
    for (offset, octets) in from_responder {
        c.responder(segment(ACK, IRS + 1 + offset, ISS + 1, *octets));
    }
    class_of_flow(c.flow())
}

#[test]
fn data_in_flight_from_either_end_or_both_shorten() {
    let mut c = Conversation::established();
    assert_eq!(class_of_flow(c.flow()), Class::Established);
    assert_eq!(after_data(&mut c, &[(0, 10)]), Class::Unacknowledged);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    assert_eq!(class_of_flow(c.flow()), Class::Unacknowledged, "both");
    c.initiator(segment(ACK, ISS + 11, IRS + 11, 0));
    assert_eq!(class_of_flow(c.flow()), Class::Unacknowledged, "one");
    c.responder(segment(ACK, IRS + 11, ISS + 11, 0));
    assert_eq!(class_of_flow(c.flow()), Class::Established);
}

#[test]
fn three_retransmissions_of_either_end_shorten_and_two_do_not() {
    let again = [(0, 10), (0, 10), (0, 10)];
    let mut c = Conversation::established();
    assert_eq!(after_data(&mut c, &again), Class::Unacknowledged);
    assert_eq!(after_data(&mut c, &again[..1]), Class::Retransmitting);
    // Both at once.
    for _ in 0..4 {
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    }
    assert_eq!([c.flow().ends[0].run(), c.flow().ends[1].run()], [3, 3]);
    assert_eq!(class_of_flow(c.flow()), Class::Retransmitting);

    let mut c = Conversation::established();
    for _ in 0..3 {
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
        assert_eq!(class_of_flow(c.flow()), Class::Unacknowledged);
    }
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    assert_eq!(class_of_flow(c.flow()), Class::Retransmitting);
    // An answer is progress.
    c.responder(segment(ACK, IRS + 1, ISS + 11, 0));
    assert_eq!(class_of_flow(c.flow()), Class::Established);
}

#[test]
fn a_half_closed_flow_is_shortened_and_shorter_ones_keep_their_class() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    assert_eq!(class_of_flow(c.flow()), Class::FinWait, "a FIN in flight");
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    assert_eq!(class_of_flow(c.flow()), Class::HalfClosed);
    c.responder(segment(ACK, IRS + 1, ISS + 2, 10));
    assert_eq!(class_of_flow(c.flow()), Class::Unacknowledged);
    c.wait_ms(300_100);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 2, IRS + 11, 0)),
        Reason::FlowPickedUp
    );
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 10));
    assert_eq!(class_of_flow(c.flow()), Class::SynSent);
    c.responder(segment(SYN_ACK, IRS, ISS + 11, 0));
    assert_eq!(class_of_flow(c.flow()), Class::SynReceived);
    let mut c = Conversation::new();
    c.initiator(segment(ACK, ISS, IRS, 10));
    assert_eq!(class_of_flow(c.flow()), Class::Pickup);
    c.initiator(segment(FIN, ISS + 10, IRS, 0));
    assert_eq!(class_of_flow(c.flow()), Class::FinWait);
}

#[test]
fn a_fact_shortens_and_never_lengthens() {
    let mut live = LIVE;
    live.timeouts = [[1000; 16]; PROFILES];
    live.timeouts[0][Class::Unacknowledged as usize] = 2000;
    live.timeouts[0][Class::Retransmitting as usize] = 500;
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    assert_eq!(timeout::timeout_ticks(c.flow(), &live), 1000);
    for _ in 0..3 {
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    }
    assert_eq!(timeout::timeout_ticks(c.flow(), &live), 500);
    let half = Live {
        timeout_scale: 512,
        ..live
    };
    assert_eq!(timeout::timeout_ticks(c.flow(), &half), 250);
}

#[test]
fn a_responder_gives_up_after_its_own_retransmissions_only() {
    for (syns, expired) in [(0, true), (1, false)] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        for _ in 0..syns {
            c.initiator(segment(SYN, ISS, 0, 0));
        }
        for _ in 0..LIVE.syn_ack_retries {
            c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
            assert!(!timeout::expired(c.flow(), c.now, &LIVE));
        }
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        assert_eq!(timeout::expired(c.flow(), c.now, &LIVE), expired);
        let left = timeout::remaining(c.flow(), c.now, &LIVE);
        assert_eq!(left == 0, expired);
    }
}
