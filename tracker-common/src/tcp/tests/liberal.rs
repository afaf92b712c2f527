//! Flows that are exempt from checks: never in silence.

use super::conversation::{Conversation, IRS, ISS, segment};
use crate::{
    abi::switches,
    reason::Reason,
    tcp::{Flags, State, in_flight},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;

#[test]
fn what_a_check_would_refuse_counts_as_liberal() {
    let mut c = Conversation::established();
    c.live.switches = switches::LIBERAL;
    assert_eq!(
        c.initiator(segment(ACK, ISS + 70_000, IRS + 1, 10)),
        Reason::Liberal
    );
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 90_000, 0)),
        Reason::Liberal
    );
    assert_eq!(
        c.responder(segment(FIN, IRS + 1, ISS + 70_010, 0)),
        Reason::Tracked
    );
    c.expect(State::Established, State::FinWait1);
}

#[test]
fn any_rst_inside_the_window_closes_a_liberal_flow() {
    let mut c = Conversation::established();
    c.live.switches = switches::LIBERAL;
    assert_eq!(
        c.responder(segment(Flags::RST, IRS + 5000, 0, 0)),
        Reason::ResetOutsideWindow
    );
    assert_eq!(
        c.responder(segment(Flags::RST, IRS + 5, 0, 0)),
        Reason::Liberal
    );
    c.expect(State::Closed, State::Closed);
}

#[test]
fn a_fragment_makes_its_flow_liberal() {
    let mut c = Conversation::established();
    let mut first = segment(ACK, ISS + 1, IRS + 1, 8);
    first.fragmented = 1;
    assert_eq!(c.initiator(first), Reason::FirstFragment);
    assert!(c.flow().is_liberal());
    // The rest of it was longer than anybody saw.
    assert_eq!(
        c.responder(segment(ACK, IRS + 1, ISS + 901, 0)),
        Reason::Liberal
    );
    assert_eq!(
        c.initiator(segment(ACK, ISS + 901, IRS + 1, 10)),
        Reason::Tracked
    );
}

#[test]
fn an_icmp_error_is_about_what_is_in_flight() {
    let mut c = Conversation::established();
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 100));
    for (seq, related) in [
        (ISS, false),
        (ISS + 1, true),
        (ISS + 101, true),
        (ISS + 102, false),
    ] {
        assert_eq!(
            in_flight(c.flow(), 0, crate::seq::Seq(seq)),
            related,
            "{seq}"
        );
    }
    let mut c = Conversation::new();
    c.initiator(segment(Flags::SYN, ISS, 0, 0));
    assert!(in_flight(c.flow(), 0, crate::seq::Seq(ISS)));
}
