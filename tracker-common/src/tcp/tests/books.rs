//! What is written down about a segment: events, reservations, times, edges.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    abi::{EventKind, end_flags, flow_flags, held},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Opening, Options, Segment, State, open},
    time::{Micros, Tick},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

/// An event for a segment that moved something, under the next number.
#[track_caller]
fn expect_event(c: &Conversation, seq: u8) {
    assert_eq!(c.outcome.event, EventKind::Changed as u8);
    assert_eq!((c.outcome.seq, c.flow().event_seq()), (seq, seq));
    assert_eq!(c.outcome.after, c.flow().bits());
    assert_ne!(c.outcome.before, c.outcome.after);
}

#[test]
fn each_move_is_an_event_and_nothing_else_is() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    assert_eq!(c.outcome.event, EventKind::Opened as u8);
    assert_eq!(c.flow().event_seq(), 1);
    c.initiator(segment(SYN, ISS, 0, 0));
    assert_eq!(c.outcome.event, 0);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    expect_event(&c, 2);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    expect_event(&c, 3);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    c.responder(segment(ACK, IRS + 1, ISS + 11, 0));
    assert_eq!(c.outcome.event, 0);
    c.initiator(segment(FIN, ISS + 11, IRS + 1, 0));
    expect_event(&c, 4);
    c.responder(segment(ACK, IRS + 1, ISS + 12, 0));
    expect_event(&c, 5);
    // From ESTABLISHED to CLOSED both, at once.
    let mut c = Conversation::established();
    c.initiator(segment(RST, ISS + 1, 0, 0));
    c.expect(State::Closed, State::Closed);
    expect_event(&c, 4);
}

#[test]
fn events_of_handshakes_are_told_apart() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    assert_eq!(c.outcome.embryo, 1);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(c.outcome.embryo, 1);
    let answered = c.flow;
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert_eq!(c.outcome.embryo, 0);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::Established, State::SynReceived);
    assert_eq!(c.outcome.embryo, 1);
    let taken_back = c.flow;
    c.initiator(segment(RST, ISS + 1, 0, 0));
    c.expect(State::Closed, State::Closed);
    assert_eq!(c.outcome.embryo, 1);
    c.flow = taken_back;
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    c.responder(segment(RST, IRS + 1, 0, 0));
    assert_eq!(c.outcome.embryo, 0, "closed in mid-life");
    // Closed in the handshake.
    c.flow = answered;
    c.responder(segment(RST_ACK, IRS + 1, ISS + 1, 0));
    c.expect(State::Closed, State::Closed);
    assert_eq!(c.outcome.embryo, 1);
    // Not yet proved.
    let mut c = Conversation::new();
    c.initiator(segment(ACK, 100, 900, 10));
    assert_eq!(c.outcome.embryo, 1);
    c.initiator(segment(FIN, 110, 900, 10));
    assert_eq!(c.outcome.embryo, 1);
    c.responder(segment(ACK, 900, 121, 0));
    assert_eq!(c.outcome.embryo, 0);
}

#[test]
fn the_reservation_is_held_until_both_are_past_the_handshake() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN, IRS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::SynSent, State::SynReceived);
    assert!(c.flow().has(held::HALF_OPEN));
    assert_eq!((c.outcome.released, c.outcome.embryo), (0, 1));
    c.initiator(segment(SYN_ACK, ISS, IRS + 1, 0));
    c.expect(State::Established, State::Established);
    assert_eq!(c.outcome.released, held::HALF_OPEN | held::COUNTED);
    assert_eq!(c.outcome.embryo, 0);
    // It is given back once.
    c.initiator(segment(SYN_ACK, ISS, IRS + 1, 0));
    c.expect(State::SynReceived, State::Established);
    assert_eq!((c.outcome.released, c.outcome.embryo), (0, 1));
    c.responder(segment(ACK, IRS + 1, ISS + 1, 0));
    c.expect(State::Established, State::Established);
    assert_eq!((c.outcome.released, c.outcome.embryo), (0, 0));
}

#[test]
fn a_handshake_that_ends_in_a_close_gives_its_reservation_back() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.expect(State::SynSent, State::FinWait1);
    assert_eq!(c.outcome.released, 0);
    c.initiator(segment(FIN, ISS + 1, IRS + 2, 0));
    c.expect(State::LastAck, State::FinWait2);
    assert_eq!(
        (c.outcome.released, c.outcome.embryo),
        (held::HALF_OPEN | held::COUNTED, 0)
    );
}

#[test]
fn two_msl_begin_when_the_last_fin_is_acknowledged() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    c.wait_ms(10_000);
    let previous = c.flow().last;
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    c.expect(State::TimeWait, State::Closed);
    assert_eq!(c.flow().last, c.now);
    assert_eq!(c.outcome.previous, previous);
}

#[test]
fn a_new_flow_says_who_opened_it() {
    for sender in [0, 1] {
        for (high, guessed) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut flow = crate::abi::Flow::default();
            let mut c = Conversation::new();
            let context = crate::tcp::Context {
                now: Tick(77),
                bytes: 60,
                policy: 5,
                path: crate::abi::Path::new(9, 0, 0),
                ..crate::tcp::Context::default()
            };
            let mut fin = with_options(segment(FIN, 100, 900, 10), 0, 4321);
            fin.window = 500;
            open(
                &mut flow,
                Opening::Pickup,
                &fin,
                7,
                9,
                high,
                guessed,
                sender,
                &context,
                &c.live,
                &mut c.outcome,
            );
            assert!(flow.has(held::PICKUP));
            assert_eq!(flow.has(flow_flags::INITIATOR_HIGH), high);
            assert_eq!(flow.has(flow_flags::GUESSED), guessed);
            assert_eq!((flow.tag, flow.generation, flow.is_stale(5)), (7, 9, 0));
            assert_eq!((flow.first, flow.last), (Tick(77), Tick(77)));
            assert_eq!(usize::from(c.outcome.sender), sender);
            assert_eq!(c.outcome.after, flow.bits());
            assert!(flow.paths[sender].is_known() && !flow.paths[sender ^ 1].is_known());
            let (me, peer) = (flow.ends[sender], flow.ends[sender ^ 1]);
            assert_eq!((me.packets(), me.bytes, peer.packets()), (1, 60, 0));
            let said = end_flags::SEEN | end_flags::SPOKE | end_flags::FIN | end_flags::TIMESTAMPS;
            assert_eq!((me.flags, peer.flags), (said, end_flags::SPOKE));
            assert_eq!((me.ts, me.state()), (4321, State::FinWait1));
            assert_eq!((me.end, peer.end), (Seq(111), Seq(900)));
            assert_eq!(peer.max_end, Seq(900 + (500 << 14)));
            assert_eq!(me.max_end, Seq(111 + (0xffff << 14)));
            assert_eq!((me.scale(), peer.scale()), (14, 14));
        }
    }
}

#[test]
fn a_restart_is_scaled_only_if_both_syns_said_so() {
    let scaled = |segment, scale| with_options(segment, scale, 1);
    let syn = segment(SYN, 70_000, 0, 0);
    let answer = segment(SYN_ACK, 90_000, 70_001, 0);
    for (syn, answer, scales) in [
        (syn, answer, [0, 0]),
        (scaled(syn, 3), answer, [0, 0]),
        (syn, scaled(answer, 4), [0, 0]),
        (scaled(syn, 3), scaled(answer, 4), [3, 4]),
    ] {
        let mut c = Conversation::established();
        c.micros = Micros(123);
        c.initiator(syn);
        assert!(c.flow().has(flow_flags::SYN_ON_LIVE));
        c.micros = Micros(456);
        assert_eq!(c.responder(answer), Reason::FlowRestarted);
        assert_eq!(c.flow().ends.map(|end| end.scale()), scales);
        assert!(c.flow().ends.iter().all(|end| end.has(end_flags::SEEN)));
        // Of a SYN that was seen to pass the time is known.
        c.micros = Micros(1123);
        c.initiator(segment(ACK, 70_001, 90_001, 0));
        assert_eq!(c.flow().handshake_rtt.unpack(), Some(1000));
    }
}

#[test]
fn the_last_of_several_equal_syns_says_what_is_offered() {
    let mut c = Conversation::new();
    c.micros = Micros(100);
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 7, 55));
    assert_eq!(c.flow().ends[0].ack, Seq(100));
    // A client that was not answered leaves its options out.
    c.micros = Micros(500);
    c.initiator(segment(SYN, ISS, 0, 0));
    let end = c.flow().ends[0];
    assert_eq!((end.flags, end.scale()), (end_flags::SEEN, 0));
    assert_eq!(end.ack, Seq(500), "the time of the last SYN");
    let mut mute = segment(SYN_ACK, IRS, ISS + 1, 0);
    mute.options.present = Options::SCALE;
    mute.options.scale = 5;
    c.responder(mute);
    assert_eq!(c.flow().ends[1].scale(), 0);
}

#[test]
fn a_syn_that_passes_on_a_flow_leaves_its_other_facts_alone() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.initiator(segment(SYN, ISS - 1, 0, 0));
    assert!(c.flow().has(flow_flags::SYN_ON_LIVE | held::HALF_OPEN));
    assert_eq!(c.outcome.remember, 1);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(c.outcome.remember, 0);
    assert!(c.flow().has(flow_flags::SYN_ON_LIVE));
    // An answer to what was pending before the flow was open comes late.
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert!(!c.flow().has(flow_flags::SYN_ON_LIVE));
    // One that passes later stays until the end.
    c.initiator(segment(SYN, 9999, 0, 0));
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 10));
    assert!(c.flow().has(flow_flags::SYN_ON_LIVE));
}

#[test]
fn only_data_that_come_again_are_a_retransmission() {
    let mut c = Conversation::established();
    for step in 0..4 {
        c.initiator(segment(ACK, ISS + 1 + step * 500, IRS + 1, 500));
        c.responder(segment(ACK, IRS + 1, ISS + 501 + step * 500, 0));
    }
    // A keep-alive: nothing, or one octet.
    for octets in [0, 1] {
        let probe = segment(ACK, ISS + 2000, IRS + 1, octets);
        assert_eq!(c.initiator(probe), Reason::AlreadyReceived);
        assert_eq!(c.flow().ends[0].run(), 0);
    }
    // Data from long ago are an old duplicate.
    let old = segment(ACK, ISS + 1, IRS + 1, 500);
    assert_eq!(c.initiator(old), Reason::SegmentTooOld);
    assert_eq!(c.flow().ends[0].run(), 0);
    let two = segment(ACK, ISS + 1999, IRS + 1, 2);
    assert_eq!(c.initiator(two), Reason::AlreadyReceived);
    assert_eq!(c.flow().ends[0].run(), 1);
}

#[test]
fn the_largest_window_since_the_syns_is_kept() {
    let windowed = |window| Segment {
        window,
        ..segment(ACK, ISS + 1, IRS + 1, 0)
    };
    let mut c = Conversation::new();
    let mut syn = with_options(segment(SYN, ISS, 0, 0), 7, 1);
    syn.window = 60_000;
    c.initiator(syn);
    assert_eq!(c.flow().ends[0].window(), 60_000);
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), 7, 1));
    // That of the SYN in units of 128, rounded up.
    for (window, largest) in [(100, 469), (0, 469), (500, 500), (300, 500)] {
        c.initiator(windowed(window));
        assert_eq!(c.flow().ends[0].window(), largest << 7);
    }
}

#[test]
fn neither_kind_of_retransmission_leaves_a_round_trip() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert_eq!(c.flow().ends.map(|end| end.syn_retransmits), [1, 1]);
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    assert_eq!(c.flow().handshake_rtt.unpack(), None);
}

#[test]
fn what_was_acknowledged_was_sent_even_if_it_was_not_seen() {
    // A proved pick-up is checked, but what came before it was not seen.
    let mut c = Conversation::new();
    c.initiator(segment(ACK, 100, 900, 10));
    c.responder(segment(ACK, 900, 110, 0));
    assert!(!c.flow().is_liberal());
    c.responder(segment(ACK, 900, 5000, 0));
    assert_eq!(c.flow().ends[0].end, Seq(5000));
    // Behind a fragment nobody knows how much there was.
    let mut c = Conversation::established();
    let mut first = segment(ACK, ISS + 1, IRS + 1, 8);
    first.fragmented = 1;
    c.initiator(first);
    c.responder(segment(ACK, IRS + 1, ISS + 901, 0));
    assert_eq!(c.flow().ends[0].end, Seq(ISS + 901));
    // Else an acknowledgement proves nothing new.
    let mut c = Conversation::established();
    c.responder(segment(ACK, IRS + 1, ISS + 901, 0));
    assert_eq!(c.flow().ends[0].end, Seq(ISS + 1));
}

#[test]
fn doubts_are_counted_each_time() {
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    for times in 1..4 {
        c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
        c.expect(State::FinWait2, State::CloseWait);
        c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
        c.expect(State::FinWait1, State::CloseWait);
        assert_eq!(c.flow().disproved(), times);
        assert!(c.flow().doubts(0) && !c.flow().doubts(1));
        // What moves nothing proves nothing.
        c.responder(segment(ACK, IRS + 1, ISS + 1, 0));
        assert!(c.flow().doubts(0));
    }
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    assert!(!c.flow().is_in_doubt(), "answered");
}

#[test]
fn a_doubt_is_about_one_state_and_about_the_fin_in_it() {
    // Who goes on from the state that was doubted has been there.
    let mut c = Conversation::established();
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    assert!(c.flow().doubts(1));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.expect(State::Established, State::FinWait1);
    assert!(!c.flow().doubts(1));
    // But to take the other's FIN says nothing of one's own.
    let mut c = Conversation::established();
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(ACK, IRS + 1, ISS + 2, 0));
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    assert_eq!(c.flow().states()[0], State::Closing);
    assert!(c.flow().doubts(0));
}

#[test]
fn data_with_an_old_acknowledgement_may_have_been_taken() {
    let mut c = Conversation::established();
    for step in 0..4 {
        c.responder(segment(ACK, IRS + 1 + step * 1024, ISS + 1, 1024));
        c.initiator(segment(ACK, ISS + 1, IRS + 1 + (step + 1) * 1024, 0));
    }
    for (octets, end) in [(0, ISS + 1), (100, ISS + 101), (50, ISS + 101)] {
        let old = segment(ACK, ISS + 1, IRS + 1, octets);
        assert_eq!(c.initiator(old), Reason::AckTooOld);
        assert_eq!(c.flow().ends[0].end, Seq(end));
    }
    assert_eq!(
        c.responder(segment(ACK, IRS + 4097, ISS + 101, 0)),
        Reason::Tracked
    );
}
