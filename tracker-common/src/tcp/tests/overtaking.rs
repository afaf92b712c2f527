//! Handshakes whose segments overtake each other, and numbers near the wrap.

use super::conversation::{Conversation, IRS, ISS, segment, with_options};
use crate::{
    abi::end_flags,
    reason::Reason,
    seq::Seq,
    tcp::{Flags, State},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;

/// Where the numbers start makes no difference.
#[test]
fn a_conversation_is_the_same_from_any_number() {
    let play = |i: u32, r: u32| {
        let mut c = Conversation::new();
        let at = |base: u32, more: u32| base.wrapping_add(more);
        let mut states = Vec::new();
        let script = [
            (0, SYN, 0, 0, 0),
            (0, SYN, 0, 0, 0),
            (1, SYN_ACK, 0, 1, 0),
            (1, SYN_ACK, 0, 1, 0),
            (0, ACK, 1, 1, 0),
            (0, ACK, 1, 1, 500),
            (0, ACK, 501, 1, 500),
            (1, ACK, 1, 501, 100),
            (1, ACK, 1, 1001, 100),
            (0, ACK, 1000, 1, 1),
            (0, ACK, 501, 1, 500),
            (0, ACK, 9000, 1, 1),
            (0, ACK, 1001, 700, 0),
            (1, RST, 50, 0, 0),
            (1, RST, 5000, 0, 0),
            (0, FIN, 1001, 101, 0),
            (1, ACK, 101, 1002, 0),
            (0, FIN, 1001, 101, 0),
            (1, FIN, 101, 1002, 0),
            (0, ACK, 1002, 102, 0),
            (1, FIN, 101, 1002, 0),
            (0, ACK, 1002, 102, 0),
        ];
        for (from, flags, seq, ack, octets) in script {
            if from == 0 {
                c.initiator(segment(flags, at(i, seq), at(r, ack), octets));
            } else {
                c.responder(segment(flags, at(r, seq), at(i, ack), octets));
            }
            let ends = c.flow().ends;
            states.push((
                c.flow().states(),
                [ends[0].end.since(Seq(i)), ends[1].end.since(Seq(r))],
                [ends[0].max_end.since(Seq(i)), ends[1].max_end.since(Seq(r))],
            ));
        }
        // What an end has not said yet is no number.
        for step in &mut states[..2] {
            step.1[1] = 0;
            step.2 = [0, 0];
        }
        (states, c.reasons)
    };
    let usual = play(ISS, IRS);
    let last = usual.0.last().expect("a step");
    assert_eq!(last.0, [State::TimeWait, State::Closed]);
    let numbers = [
        0,
        1,
        0x7fff_ffff,
        0x8000_0000,
        0xf000_0000,
        u32::MAX - 500,
        u32::MAX,
    ];
    for i in numbers {
        for r in numbers {
            assert_eq!(play(i, r), usual, "{i:#x} {r:#x}");
        }
    }
}

/// After a SYN, and a segment of the responder that lies `ahead` of its SYN-ACK.
fn overtaken(irs: u32, ahead: u32, octets: u32) -> Conversation {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    let early = segment(ACK, irs.wrapping_add(1 + ahead), ISS + 1, octets);
    assert_eq!(c.responder(early), Reason::HandshakeUnseen);
    c.responder(segment(SYN_ACK, irs, ISS + 1, 0));
    c.expect(State::SynSent, State::SynReceived);
    c
}

#[test]
fn what_overtook_the_syn_ack_is_believed_within_the_largest_unscaled_window() {
    for irs in [0, IRS, 0xf000_0000, u32::MAX] {
        for (ahead, believed) in [
            (1, true),
            (0xffff, true),
            (0x1_0000, false),
            (500_000, false),
        ] {
            let c = overtaken(irs, ahead, 0);
            let end = c.flow().ends[1];
            let spoke = end.has(end_flags::SPOKE);
            let sent = end.end.since(Seq(irs).plus(1));
            assert_eq!(
                (sent, spoke),
                (if believed { ahead } else { 0 }, believed),
                "{irs:#x}"
            );
        }
    }
}

#[test]
fn a_fin_that_overtook_the_syn_ack_counts_once_that_is_there() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(FIN, IRS + 1, ISS + 1, 10));
    c.expect(State::SynSent, State::Listen);
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::SynSent, State::FinWait1);
    c.initiator(segment(ACK, ISS + 1, IRS + 12, 0));
    c.expect(State::CloseWait, State::FinWait2);
    // One that is of another connection does not.
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(FIN, IRS + 500_000, ISS + 1, 10));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    c.expect(State::SynSent, State::SynReceived);
    assert!(!c.flow().ends[1].has(end_flags::FIN));
}

#[test]
fn only_what_acknowledges_the_syn_is_kept_for_its_answer() {
    for other in [
        // Says nothing, whatever lies in its acknowledgement field.
        segment(RST, 9999, ISS + 1, 0),
        segment(ACK, 9999, ISS, 10),
        segment(ACK, 9999, ISS + 2, 10),
    ] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(other);
        let end = c.flow().ends[1];
        assert_eq!((end.flags, end.end), (0, Seq(0)), "{other:?}");
    }
}

#[test]
fn the_syns_of_a_simultaneous_open_announce_windows_to_each_other() {
    let mut c = Conversation::new();
    let mut mine = segment(SYN, ISS, 0, 0);
    mine.window = 300;
    c.initiator(mine);
    let mut theirs = segment(SYN, IRS, 0, 0);
    theirs.window = 700;
    c.responder(theirs);
    let [initiator, responder] = c.flow().ends;
    assert_eq!(initiator.max_end, Seq(ISS + 1 + 700));
    assert_eq!(responder.max_end, Seq(IRS + 1 + 300));
}

#[test]
fn a_window_counts_from_what_the_syn_ack_takes_of_the_syn() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 100));
    c.responder(segment(SYN_ACK, IRS, ISS + 101, 0));
    assert_eq!(c.flow().ends[0].max_end, Seq(ISS + 101 + 1024));
    assert_eq!(c.flow().ends[1].max_end, Seq(IRS + 1 + 1024));
}

#[test]
fn a_syn_acknowledges_nothing_whatever_its_field_says() {
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    let again = segment(SYN, ISS, IRS + 1, 0);
    assert_eq!(c.initiator(again), Reason::SynRetransmit);
    c.expect(State::SynSent, State::SynReceived);
}

#[test]
fn an_ack_from_before_the_syn_acknowledges_nothing() {
    for (ack, established) in [(IRS - 5, false), (IRS, false), (IRS + 1, true)] {
        let mut c = Conversation::established();
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        c.expect(State::Established, State::SynReceived);
        c.initiator(segment(ACK, ISS + 1, ack, 10));
        let responder = if established {
            State::Established
        } else {
            State::SynReceived
        };
        c.expect(State::Established, responder);
    }
}

#[test]
fn a_renewed_syn_ack_is_taken_with_all_that_it_offers() {
    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 3, 10));
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), 5, 20));
    let mut renewed = with_options(segment(SYN_ACK, 70_000, ISS + 1, 0), 6, 30);
    renewed.window = 2000;
    assert_eq!(c.responder(renewed), Reason::SynAckRenewed);
    c.initiator(segment(ACK, ISS + 1, 70_001, 0));
    c.expect(State::Established, State::Established);
    let [initiator, responder] = c.flow().ends;
    assert_eq!(
        (responder.isn, responder.ts, responder.scale()),
        (Seq(70_000), 30, 6)
    );
    assert_eq!(initiator.scale(), 3);
    assert_eq!(initiator.max_end, Seq(ISS + 1 + 2000));
    assert_eq!(responder.max_end, Seq(70_001 + (1024 << 3)));
    // Without a scale none counts.
    let mut c = Conversation::new();
    c.initiator(with_options(segment(SYN, ISS, 0, 0), 3, 10));
    c.responder(with_options(segment(SYN_ACK, IRS, ISS + 1, 0), 5, 20));
    c.responder(segment(SYN_ACK, 70_000, ISS + 1, 0));
    c.initiator(segment(ACK, ISS + 1, 70_001, 0));
    assert_eq!(c.flow().ends.map(|end| end.scale()), [0, 0]);
}

#[test]
fn a_renewed_syn_ack_is_taken_by_a_segment_of_the_first_window_only() {
    for (seq, flags, taken) in [
        (ISS + 1, ACK, true),
        (ISS + 1, FIN, true),
        (ISS + 500, ACK, true),
        (ISS + 1 + 1024, ACK, true),
        (ISS, ACK, false),
        (ISS + 2 + 1024, ACK, false),
        (ISS - 100, ACK, false),
    ] {
        let mut c = Conversation::new();
        c.initiator(segment(SYN, ISS, 0, 0));
        c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
        c.responder(segment(SYN_ACK, 70_000, ISS + 1, 0));
        let reason = c.initiator(segment(flags, seq, 70_001, 0));
        if !taken {
            assert_eq!(reason, Reason::HandshakeWrongAck, "{seq}");
            c.expect(State::SynSent, State::SynReceived);
        } else if flags == FIN {
            assert_eq!(reason, Reason::Tracked);
            c.expect(State::FinWait1, State::Established);
        } else {
            assert_eq!(reason, Reason::Tracked, "{seq}");
            c.expect(State::Established, State::Established);
        }
    }
}
