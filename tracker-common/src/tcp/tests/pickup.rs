//! Connections that are older than the tracker's knowledge of them.

use super::conversation::{Conversation, LIVE, segment};
use crate::{
    abi::{Live, Origin, held},
    reason::Reason,
    tcp::{Admission, Flags, Opening, State, admit},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;

#[test]
fn a_picked_up_flow_is_proved_by_the_other_sides_answer() {
    let mut c = Conversation::new();
    assert_eq!(
        c.initiator(segment(ACK, 100, 900, 10)),
        Reason::FlowPickedUp
    );
    c.expect(State::Established, State::Established);
    assert!(c.flow().has(held::PICKUP) && c.flow().is_liberal());
    assert_eq!(c.flow().origin(), Origin::Pickup);
    // More from the same side proves nothing.
    c.initiator(segment(ACK, 110, 900, 10));
    assert!(c.flow().has(held::PICKUP));
    // Nor does an answer to something that was never said.
    c.responder(segment(ACK, 900, 5000, 0));
    assert!(c.flow().has(held::PICKUP));
    c.responder(segment(ACK, 900, 120, 0));
    assert!(!c.flow().has(held::PICKUP));
    assert_eq!(c.outcome.released, held::PICKUP);
}

#[test]
fn an_unproved_pickup_is_forgotten_soon() {
    let mut c = Conversation::new();
    c.initiator(segment(ACK, 100, 900, 10));
    c.wait_ms(30_100);
    // To the packet path it is absent, swept or not.
    assert_eq!(
        c.initiator(segment(ACK, 110, 900, 10)),
        Reason::FlowPickedUp
    );
    assert_eq!(c.flow().ends[0].packets(), 1);
}

#[test]
fn a_picked_up_flow_closes_like_any() {
    let mut c = Conversation::new();
    c.responder(segment(ACK, 900, 100, 10));
    c.initiator(segment(ACK, 100, 910, 0));
    c.responder(segment(FIN, 910, 100, 0));
    c.expect(State::Established, State::FinWait1);
    c.initiator(segment(FIN, 100, 911, 0));
    c.responder(segment(ACK, 911, 101, 0));
    c.expect(State::Closed, State::TimeWait);
}

#[test]
fn what_a_live_connection_sends_is_picked_up() {
    let cases = [
        (
            Flags::SYN,
            Admission::Open(Opening::Handshake),
            Admission::Open(Opening::Calling),
        ),
        (
            ACK,
            Admission::Open(Opening::Pickup),
            Admission::Open(Opening::Pickup),
        ),
        (
            Flags::SYN | ACK,
            Admission::Leave(Reason::StraySynAck),
            Admission::Leave(Reason::LocalStray),
        ),
        (
            FIN,
            Admission::Open(Opening::Pickup),
            Admission::Open(Opening::Pickup),
        ),
        (
            Flags::RST,
            Admission::Leave(Reason::StrayReset),
            Admission::Leave(Reason::LocalStray),
        ),
        (
            Flags::RST | ACK,
            Admission::Leave(Reason::StrayReset),
            Admission::Leave(Reason::LocalStray),
        ),
    ];
    for (flags, from_outside, from_here) in cases {
        let segment = segment(flags, 1, 2, 0);
        assert_eq!(
            admit(&segment, false, false, &LIVE),
            from_outside,
            "{flags:#04x}"
        );
        assert_eq!(
            admit(&segment, true, false, &LIVE),
            from_here,
            "{flags:#04x}"
        );
    }
}

#[test]
fn nothing_is_picked_up_unless_allowed() {
    let live = Live { pickup: 0, ..LIVE };
    for (flags, reason) in [(ACK, Reason::StrayAck), (FIN, Reason::StrayFin)] {
        let segment = segment(flags, 1, 2, 0);
        assert_eq!(
            admit(&segment, false, false, &live),
            Admission::Leave(reason)
        );
        let local = Admission::Leave(Reason::LocalStray);
        assert_eq!(admit(&segment, true, false, &live), local);
    }
}

#[test]
fn a_fin_is_picked_up_and_closes() {
    let mut c = Conversation::new();
    assert_eq!(c.initiator(segment(FIN, 100, 900, 0)), Reason::FlowPickedUp);
    c.expect(State::FinWait1, State::Established);
    c.responder(segment(ACK, 900, 101, 0));
    c.expect(State::FinWait2, State::CloseWait);
    c.responder(segment(FIN, 900, 101, 0));
    c.initiator(segment(ACK, 101, 901, 0));
    c.expect(State::TimeWait, State::Closed);
}

#[test]
fn a_proved_pickup_is_checked_with_the_largest_windows() {
    let mut c = Conversation::new();
    c.initiator(segment(ACK, 100, 900, 10));
    c.responder(segment(ACK, 900, 110, 0));
    assert!(!c.flow().is_liberal());
    let edge = 110 + (1024 << 14);
    assert_eq!(c.initiator(segment(ACK, edge - 1, 900, 1)), Reason::Tracked);
    assert_eq!(
        c.initiator(segment(ACK, edge + 1, 900, 0)),
        Reason::BeyondWindow
    );
    // What it sent before we looked may be acknowledged now.
    let sent = edge - 5000;
    assert_eq!(c.responder(segment(ACK, 900, sent, 0)), Reason::Tracked);
}
