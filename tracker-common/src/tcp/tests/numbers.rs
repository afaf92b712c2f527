//! Windows, acknowledgements and timestamps.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    abi::{Bound, flow_flags},
    reason::Reason,
    tcp::{Flags, Options, Segment, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;

/// What [`segment`] announces.
const WINDOW: u32 = 1024;

/// Both offer this scale, timestamps start at 1000 and 2000.
fn scaled(scale: u8) -> Conversation {
    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), scale, 1000));
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), scale, 2000));
    c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 0), 1001));
    c
}

fn stamped(mut segment: Segment, value: u32) -> Segment {
    segment.options.present = Options::TIMESTAMPS;
    segment.options.ts_value = value;
    segment
}

#[test]
fn nothing_starts_beyond_the_window() {
    let edge = ISS + 1 + WINDOW;
    for (seq, payload, reason) in [
        (edge - 1, 1, Reason::Tracked),
        (edge - 1, 5000, Reason::Tracked),
        (edge - 1, 0, Reason::Tracked),
        (edge, 0, Reason::WindowEdge),
        (edge, 1, Reason::WindowEdge),
        (edge + 1, 0, Reason::BeyondWindow),
        (edge + 1, 1, Reason::BeyondWindow),
        (ISS.wrapping_sub(1 << 30), 1, Reason::SegmentTooOld),
    ] {
        let mut c = Conversation::established();
        let before = *c.flow();
        assert_eq!(
            c.initiator(segment(ACK, seq, IRS + 1, payload)),
            reason,
            "{seq}+{payload}"
        );
        if reason == Reason::BeyondWindow {
            let bound = Bound {
                value: seq,
                low: ISS + 1,
                high: edge,
            };
            assert_eq!(c.outcome.bound, bound);
        }
        if reason != Reason::Tracked {
            assert_eq!(c.flow().ends[0].end, before.ends[0].end);
        }
    }
}

/// Both ends fill the other's window, and the segment that does is lost before
/// the tracker: seen on a bad wire.
#[test]
fn what_opens_the_window_from_its_edge_is_counted_with() {
    let mut c = Conversation::established();
    let edge = IRS + 1 + WINDOW;
    c.initiator(segment(ACK, ISS + 1, IRS + 1, WINDOW));
    assert_eq!(
        c.responder(segment(ACK, edge, ISS + 1 + WINDOW, 0)),
        Reason::WindowEdge
    );
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1 + WINDOW, IRS + 1, WINDOW)),
        Reason::Tracked
    );
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 1 + 2 * WINDOW, WINDOW)),
        Reason::Tracked
    );
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1 + 2 * WINDOW, edge, 0)),
        Reason::Tracked
    );
}

#[test]
fn windows_are_scaled_but_for_those_of_syns() {
    let mut c = scaled(7);
    // The responder's only window so far is its SYN's.
    let edge = ISS + 1 + WINDOW;
    assert_eq!(
        c.initiator(segment(ACK, edge + 1, IRS + 1, 1)),
        Reason::BeyondWindow
    );
    // The initiator's ACK was scaled.
    let edge = IRS + 1 + (WINDOW << 7);
    assert_eq!(
        c.responder(segment(ACK, edge - 1, ISS + 1, 1)),
        Reason::Tracked
    );
    assert_eq!(c.responder(segment(ACK, edge, ISS + 1, 0)), Reason::Tracked);
    assert_eq!(
        c.responder(segment(ACK, edge + 1, ISS + 1, 0)),
        Reason::BeyondWindow
    );
}

#[test]
fn a_scale_counts_only_if_both_offer_one_and_stops_at_14() {
    for (theirs, expected) in [(None, 0), (Some(15), 14), (Some(255), 14), (Some(3), 3)] {
        let mut c = Conversation::new();
        c.initiator(with_options(segment(SYN, ISS, 0, 0), 9, 1));
        let answer = segment(SYN_ACK, IRS, ISS + 1, 0);
        c.responder(theirs.map_or(answer, |scale| with_options(answer, scale, 1)));
        let mine = if theirs.is_some() { 9 } else { 0 };
        let scales = c.flow().ends.map(|end| end.scale());
        assert_eq!(scales, [mine, expected]);
    }
}

#[test]
fn a_window_that_shrinks_takes_nothing_back() {
    let mut c = Conversation::established();
    let mut shrunk = segment(ACK, IRS + 1, ISS + 1, 0);
    shrunk.window = 0;
    c.responder(shrunk);
    assert_eq!(
        c.initiator(segment(ACK, ISS + WINDOW, IRS + 1, 1)),
        Reason::Tracked
    );
}

#[test]
fn probes_of_a_closed_window_and_keep_alives_pass() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    let mut closed = segment(SYN_ACK, IRS, ISS + 1, 0);
    closed.window = 0;
    c.responder(closed);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    // Linux probes with the last octet, BSD with the next.
    for payload in [0, 1] {
        assert_eq!(
            c.initiator(segment(ACK, ISS, IRS + 1, payload)),
            Reason::AlreadyReceived
        );
    }
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 1)),
        Reason::Tracked
    );
    // A bare FIN into a closed window: Linux takes it.
    assert_eq!(
        c.initiator(segment(FIN, ISS + 2, IRS + 1, 0)),
        Reason::WindowEdge
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn nothing_unsent_is_acknowledged() {
    let mut c = Conversation::established();
    c.responder(segment(ACK, IRS + 1, ISS + 1, 100));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 102, 0)),
        Reason::AckUnsent
    );
    assert_eq!(c.outcome.bound.value, IRS + 102);
    assert_eq!(c.outcome.bound.high, IRS + 101);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 101, 0)),
        Reason::Tracked
    );
}

#[test]
fn an_acknowledgement_of_long_ago_moves_nothing() {
    let mut c = Conversation::established();
    for step in 0..4 {
        c.responder(segment(ACK, IRS + 1 + step * WINDOW, ISS + 1, WINDOW));
        c.initiator(segment(ACK, ISS + 1, IRS + 1 + (step + 1) * WINDOW, 0));
    }
    let newest = IRS + 1 + 4 * WINDOW;
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, newest - WINDOW, 0)),
        Reason::Tracked
    );
    assert_eq!(
        c.initiator(segment(FIN, ISS + 1, newest - WINDOW - 1, 0)),
        Reason::AckTooOld
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn what_was_acknowledged_may_come_again() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 500));
    c.responder(segment(ACK, IRS + 1, ISS + 501, 0));
    let last = c.flow().last;
    c.wait_ms(1000);
    for _ in 0..3 {
        assert_eq!(
            c.initiator(segment(ACK, ISS + 1, IRS + 1, 500)),
            Reason::AlreadyReceived
        );
    }
    assert_eq!(c.flow().last, last);
    assert_eq!(c.flow().ends[0].run(), 3);
    // A forged FIN there closes nothing.
    assert_eq!(
        c.initiator(segment(FIN, ISS + 500, IRS + 1, 0)),
        Reason::AlreadyReceived
    );
    c.expect(State::Established, State::Established);
    c.initiator(segment(ACK, ISS + 501, IRS + 1, 1));
    assert_eq!(c.flow().ends[0].run(), 0);
}

#[test]
fn a_fin_lies_behind_the_data() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 500));
    assert_eq!(
        c.initiator(segment(FIN, ISS + 100, IRS + 1, 0)),
        Reason::FinInside
    );
    c.expect(State::Established, State::Established);
}

#[test]
fn a_timestamp_may_be_half_a_minute_late() {
    for (value, reason) in [
        (1001, Reason::Tracked),
        (1001_u32.wrapping_sub(30_000), Reason::Tracked),
        (1001_u32.wrapping_sub(30_001), Reason::TimestampOld),
        (
            1001_u32.wrapping_sub(1 << 31).wrapping_add(1),
            Reason::TimestampOld,
        ),
    ] {
        let mut c = scaled(0);
        assert_eq!(
            c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), value)),
            reason,
            "{value}"
        );
        // Without the option there is nothing to compare.
        assert_eq!(
            c.initiator(segment(ACK, ISS + 2, IRS + 1, 1)),
            Reason::Tracked
        );
    }
}

#[test]
fn after_a_long_silence_a_timestamp_says_nothing() {
    let mut c = scaled(0);
    c.live.timeouts = [[crate::time::MAX_TIMEOUT_TICKS; 16]; crate::abi::PROFILES];
    c.wait_ms(24 * 86_400_000 + 10);
    assert_eq!(
        c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), 0)),
        Reason::Tracked
    );
}

#[test]
fn only_the_next_octet_moves_the_newest_timestamp() {
    let mut c = scaled(0);
    // Somebody guesses a number inside the window and a late time.
    c.initiator(stamped(segment(ACK, ISS + 500, IRS + 1, 1), 1 << 30));
    assert_eq!(c.flow().ends[0].ts, 1001);
    c.wait_ms(500);
    c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), 1500));
    assert_eq!(c.flow().ends[0].ts, 1500);
    assert!(!c.flow().has(flow_flags::FAST_TIMESTAMPS));
}

#[test]
fn a_clock_of_microseconds_is_granted_as_much_time() {
    let mut c = scaled(0);
    c.wait_ms(500);
    c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), 501_001));
    assert!(c.flow().has(flow_flags::FAST_TIMESTAMPS));
    let second_ago = 501_001 - 1_000_000;
    assert_eq!(
        c.initiator(stamped(
            segment(ACK, ISS + 2, IRS + 1, 1),
            second_ago as u32
        )),
        Reason::Tracked
    );
}

#[test]
fn data_in_a_syn_may_be_forbidden() {
    let mut c = Conversation::new();
    c.live.switches = crate::abi::switches::DROP_SYN_DATA;
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 10)), Reason::SynData);
    assert!(c.flow.is_none());
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 0)), Reason::FlowOpened);
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 10)), Reason::SynData);
    let mut c = Conversation::new();
    assert_eq!(c.initiator(segment(SYN, ISS, 0, 10)), Reason::FlowOpened);
    c.responder(segment(SYN_ACK, IRS, ISS + 11, 0));
    c.initiator(segment(ACK, ISS + 11, IRS + 1, 0));
    c.expect(State::Established, State::Established);
}

#[test]
fn data_that_overtake_the_syn_ack_are_remembered() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 10));
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 11, 100)),
        Reason::HandshakeUnseen
    );
    c.responder(segment(SYN_ACK, IRS, ISS + 11, 0));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 11, IRS + 101, 0)),
        Reason::Tracked
    );
    c.expect(State::Established, State::Established);
}

/// Fast Open on a wire that reorders: seen there, and refused, when only the last
/// of them was kept.
#[test]
fn of_several_that_overtake_the_syn_ack_the_furthest_counts() {
    for stray in [None, Some(90_000)] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 10));
        // Somebody else's, which the SYN-ACK will prove wrong.
        if let Some(seq) = stray {
            c.responder(segment(ACK, seq, ISS + 11, 10));
        }
        for (seq, payload) in [(201, 100), (301, 100), (1, 100), (101, 100)] {
            c.responder(segment(ACK, IRS + seq, ISS + 11, payload));
        }
        c.responder(segment(SYN_ACK, IRS, ISS + 11, 0));
        assert_eq!(c.flow().ends[1].end.0, IRS + 401);
        let beyond = segment(ACK, ISS + 11, IRS + 402, 0);
        assert_eq!(c.initiator(beyond), Reason::HandshakeWrongAck);
        let all = segment(ACK, ISS + 11, IRS + 401, 0);
        assert_eq!(c.initiator(all), Reason::Tracked);
    }
}

#[test]
fn silence_with_data_in_flight_is_not_borne_for_days() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    c.wait_ms(299_900);
    c.responder(segment(ACK, IRS + 1, ISS + 11, 0));
    c.wait_ms(400_000_000);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 11, IRS + 1, 10)),
        Reason::Tracked
    );
    c.wait_ms(300_100);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 11, IRS + 1, 10)),
        Reason::FlowPickedUp
    );
}

#[test]
fn three_retransmissions_shorten_the_time_out_even_if_acknowledged() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    c.responder(segment(ACK, IRS + 1, ISS + 11, 0));
    for _ in 0..3 {
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    }
    c.wait_ms(300_100);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 10)),
        Reason::FlowPickedUp
    );
}
