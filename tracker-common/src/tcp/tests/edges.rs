//! Numbers at the very edge of each bound.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    abi::{Bound, PROFILES, flow_flags, switches},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options, Segment, State, in_flight},
    time::{MAX_TIMEOUT_TICKS, TICK_NS, Tick},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;

fn stamped(mut segment: Segment, value: u32) -> Segment {
    segment.options.present = Options::TIMESTAMPS;
    segment.options.ts_value = value;
    segment
}

/// Timestamps start at these values, the initiator's ACK carries one more.
fn with_stamps(mine: u32, theirs: u32) -> Conversation {
    let mut c = Conversation::new();
    c.live.timeouts = [[MAX_TIMEOUT_TICKS; 16]; PROFILES];
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 0, mine));
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), 0, theirs));
    c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 0), mine + 1));
    c
}

#[test]
fn a_timestamp_is_judged_up_to_24_days_of_silence_to_the_tick() {
    let silence = u32::try_from(24 * 86_400 * 1_000_000_000_u64 / TICK_NS).unwrap();
    for (ticks, reason) in [
        (silence - 1, Reason::TimestampOld),
        (silence, Reason::Tracked),
        (silence + 1, Reason::Tracked),
    ] {
        let mut c = with_stamps(1 << 20, 2000);
        c.now = Tick(c.now.0 + ticks);
        let old = stamped(segment(ACK, ISS + 1, IRS + 1, 1), 5);
        assert_eq!(c.initiator(old), reason, "{ticks}");
    }
}

#[test]
fn a_refused_timestamp_says_how_old_it_might_have_been() {
    let mut c = with_stamps(1 << 20, 2000);
    c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), 5));
    let newest = (1 << 20) + 1;
    let bound = Bound {
        value: 5,
        low: newest - 30_000,
        high: newest,
    };
    assert_eq!(c.outcome.bound, bound);
}

#[test]
fn a_timestamp_is_compared_only_where_both_have_one() {
    // The connection has them, this segment has none.
    let mut c = with_stamps(1 << 20, 2000);
    assert_eq!(
        c.initiator(segment(ACK, ISS + 1, IRS + 1, 1)),
        Reason::Tracked
    );
    assert_eq!(c.flow().ends[0].ts, (1 << 20) + 1);
    // The segment has one, its SYN had none.
    let mut c = Conversation::established();
    let odd = stamped(segment(ACK, ISS + 1, IRS + 1, 1), 0xf000_0000);
    assert_eq!(c.initiator(odd), Reason::Tracked);
}

#[test]
fn a_clock_is_fast_if_it_gets_ahead_by_more_than_bunching_explains() {
    for (ahead, ticks, fast) in [
        (1000, 0, false),
        (1001, 0, true),
        (1000 + 8 * 250, 250, false),
        (1001 + 8 * 250, 250, true),
    ] {
        let mut c = with_stamps(1000, 2000);
        c.now = Tick(c.now.0 + ticks);
        c.initiator(stamped(segment(ACK, ISS + 1, IRS + 1, 1), 1001 + ahead));
        assert_eq!(c.flow().has(flow_flags::FAST_TIMESTAMPS), fast, "{ahead}");
        assert_eq!(c.flow().ends[0].ts, 1001 + ahead);
        // 30 s of a clock of 1 kHz, or of 1 MHz.
        let grace = if fast { 30_000_000 } else { 30_000 };
        let late = |more: u32| {
            let value = (1001 + ahead).wrapping_sub(grace + more);
            stamped(segment(ACK, ISS + 2, IRS + 1, 1), value)
        };
        assert_eq!(c.initiator(late(1)), Reason::TimestampOld);
        assert_eq!(c.initiator(late(0)), Reason::Tracked);
    }
}

#[test]
fn both_ends_of_a_picked_up_flow_bring_their_clocks() {
    let mut c = Conversation::new();
    c.initiator(stamped(segment(ACK, 100, 900, 10), 1 << 20));
    c.responder(stamped(segment(ACK, 900, 110, 0), 1 << 21));
    assert!(!c.flow().is_liberal());
    let old = stamped(segment(ACK, 900, 110, 10), 7);
    assert_eq!(c.responder(old), Reason::TimestampOld);
    let old = stamped(segment(ACK, 110, 900, 10), 7);
    assert_eq!(c.initiator(old), Reason::TimestampOld);
}

#[test]
fn an_acknowledgement_may_be_one_beyond_a_full_window() {
    let full = |octets| {
        let mut c = Conversation::established();
        c.responder(segment(ACK, IRS + 1, ISS + 1, octets));
        c
    };
    let edge = IRS + 1 + 1024;
    for (octets, ack, reason) in [
        (1024, edge, Reason::Tracked),
        (1024, edge + 1, Reason::WindowEdge),
        (1024, edge + 2, Reason::AckUnsent),
        (1023, edge - 1, Reason::Tracked),
        (1023, edge, Reason::AckUnsent),
    ] {
        let mut c = full(octets);
        let ack = segment(ACK, ISS + 1, ack, 0);
        assert_eq!(c.initiator(ack), reason, "{octets} {ack:?}");
        if reason == Reason::AckUnsent {
            let bound = c.outcome.bound;
            assert_eq!(bound.low, IRS, "its SYN");
            assert_eq!(bound.high, IRS + 1 + octets);
        }
    }
}

#[test]
fn the_two_bounds_of_old_segments_lie_one_window_back() {
    let mut c = Conversation::established();
    for step in 0..4 {
        c.initiator(segment(ACK, ISS + 1 + step * 1024, IRS + 1, 1024));
        c.responder(segment(ACK, IRS + 1, ISS + 1 + (step + 1) * 1024, 0));
    }
    let sent = ISS + 1 + 4 * 1024;
    for (end, reason) in [
        (sent - 1024, Reason::AlreadyReceived),
        (sent - 1025, Reason::SegmentTooOld),
    ] {
        let old = segment(ACK, end - 10, IRS + 1, 10);
        assert_eq!(c.initiator(old), reason);
        let old = segment(ACK, end, IRS + 1, 0);
        assert_eq!(c.initiator(old), reason);
    }
    // The FIN alone lies beyond what was received.
    assert_eq!(
        c.initiator(segment(FIN, sent - 1, IRS + 1, 1)),
        Reason::Tracked
    );
    c.expect(State::FinWait1, State::Established);
}

#[test]
fn either_end_may_have_something_in_flight() {
    let mut c = Conversation::established();
    c.responder(segment(ACK, IRS + 1, ISS + 1, 100));
    for (seq, related) in [
        (IRS, false),
        (IRS + 1, true),
        (IRS + 101, true),
        (IRS + 102, false),
    ] {
        assert_eq!(in_flight(c.flow(), 1, Seq(seq)), related, "{seq}");
    }
    assert!(!in_flight(c.flow(), 0, Seq(ISS)) && in_flight(c.flow(), 0, Seq(ISS + 1)));
}

#[test]
fn whatever_makes_a_flow_liberal_any_two_of_it_do_as_well() {
    for (switch, flow, fragment) in [
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (true, true, false),
        (true, false, true),
        (false, true, true),
        (true, true, true),
    ] {
        let mut c = Conversation::established();
        c.live.switches = if switch { switches::LIBERAL } else { 0 };
        if flow {
            c.flow.as_mut().unwrap().flags |= flow_flags::LIBERAL;
        }
        let mut beyond = segment(ACK, ISS + 70_000, IRS + 1, 10);
        beyond.fragmented = u8::from(fragment);
        assert_eq!(
            c.initiator(beyond),
            Reason::Liberal,
            "{switch} {flow} {fragment}"
        );
    }
    let mut c = Conversation::established();
    c.live.switches = !switches::LIBERAL;
    let beyond = segment(ACK, ISS + 70_000, IRS + 1, 10);
    assert_eq!(c.initiator(beyond), Reason::BeyondWindow);
}

#[test]
fn data_after_a_fin_say_where_they_should_have_ended() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 10));
    assert_eq!(
        c.initiator(segment(ACK, ISS + 12, IRS + 1, 3)),
        Reason::BeyondFin
    );
    assert_eq!(
        (c.outcome.bound.value, c.outcome.bound.high),
        (ISS + 15, ISS + 12)
    );
}

#[test]
fn an_initiator_that_waits_takes_only_what_acknowledges_its_syn() {
    for (seq, ack, reason) in [
        (IRS + 1, ISS + 1, Reason::Tracked),
        (IRS + 1, ISS, Reason::AckTooOld),
        (IRS + 1, ISS + 2, Reason::AckTooOld),
        (IRS, ISS + 1, Reason::AlreadyReceived),
        (IRS - 100, ISS + 1, Reason::AlreadyReceived),
    ] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        assert_eq!(
            c.responder(segment(ACK, seq, ack, 5)),
            reason,
            "{seq} {ack}"
        );
        c.expect(State::SynSent, State::SynReceived);
        // What it throws away has brought nothing.
        let end = IRS + if reason == Reason::Tracked { 6 } else { 1 };
        assert_eq!(c.flow().ends[1].end, Seq(end));
    }
}

#[test]
fn only_at_its_edge_a_segment_that_moves_nothing_opens_a_window() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 100));
    c.responder(segment(ACK, IRS + 1, ISS + 101, 0));
    let edge = c.flow().ends[1].max_end;
    let mut old = segment(ACK, ISS + 1, IRS + 1, 100);
    old.window = 60_000;
    assert_eq!(c.initiator(old), Reason::AlreadyReceived);
    assert_eq!(c.flow().ends[1].max_end, edge);
    let mut empty = segment(ACK, ISS + 101 + 1024, IRS + 1, 0);
    empty.window = 60_000;
    assert_eq!(c.initiator(empty), Reason::WindowEdge);
    assert_eq!(c.flow().ends[1].max_end, Seq(IRS + 1 + 60_000));
}

#[test]
fn a_fin_comes_again_with_the_old_acknowledgement_or_with_that_of_the_others_fin() {
    for (ack, has_fin, reason) in [
        (IRS + 1, true, Reason::FinRetransmit),
        (IRS + 5, true, Reason::AlreadyReceived),
        (IRS + 12, true, Reason::FinRetransmit),
        (IRS + 1, false, Reason::FinRetransmit),
        (IRS + 5, false, Reason::AlreadyReceived),
        (IRS + 11, false, Reason::AlreadyReceived),
    ] {
        let mut c = Conversation::established();
        c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
        c.responder(segment(ACK, IRS + 1, ISS + 2, 10));
        if has_fin {
            c.responder(segment(FIN, IRS + 11, ISS + 2, 0));
        }
        let again = segment(FIN, ISS + 1, ack, 0);
        assert_eq!(c.initiator(again), reason, "{ack} {has_fin}");
    }
}
