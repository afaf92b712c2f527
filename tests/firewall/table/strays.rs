//! Segments of no connection.

use tracker_common::{reason::Reason, tcp::Flags};
use tracker_tests::program::talk::{A, Seg};

use super::{Case, DATA, arrives, inwards, outwards, port, refused};
use crate::bed::Role;

/// Segments that open nothing, and why they are refused.
const STRAYS: [(Seg, Reason); 7] = [
    (A.ack(), Reason::StrayAck),
    (A.ack().flags(DATA).data(100), Reason::StrayAck),
    (A.fin(), Reason::StrayFin),
    (A.rst(), Reason::StrayReset),
    (A.bare_rst(), Reason::StrayReset),
    (A.syn_ack(), Reason::StraySynAck),
    (A.ack().flags(DATA | Flags::URG).data(10), Reason::StrayAck),
];

const TO_ALLOWED: [&str; 7] = [
    "a stray ACK to an allowed port",
    "stray data to an allowed port",
    "a stray FIN to an allowed port",
    "a stray RST with ACK to an allowed port",
    "a stray RST to an allowed port",
    "a stray SYN-ACK to an allowed port",
    "stray urgent data to an allowed port",
];

const TO_FORBIDDEN: [&str; 7] = [
    "a stray ACK to a port that no rule allows",
    "stray data to a port that no rule allows",
    "a stray FIN to a port that no rule allows",
    "a stray RST with ACK to a port that no rule allows",
    "a stray RST to a port that no rule allows",
    "a stray SYN-ACK to a port that no rule allows",
    "stray urgent data to a port that no rule allows",
];

const FROM_INSIDE: [&str; 7] = [
    "a stray ACK through the gateway",
    "stray data through the gateway",
    "a stray FIN through the gateway",
    "a stray RST with ACK through the gateway",
    "a stray RST through the gateway",
    "a stray SYN-ACK through the gateway",
    "stray urgent data through the gateway",
];

const OF_THIS_HOST: [&str; 7] = [
    "a stray ACK of this host",
    "stray data of this host",
    "a stray FIN of this host",
    "a stray RST with ACK of this host",
    "a stray RST of this host",
    "a stray SYN-ACK of this host",
    "stray urgent data of this host",
];

/// Whether it is one of those to an allowed port.
pub fn is_to_allowed(case: &Case) -> bool {
    TO_ALLOWED.contains(&case.name)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (index, (segment, reason)) in STRAYS.into_iter().enumerate() {
        cases.push(inwards(
            TO_ALLOWED[index],
            port::WEB,
            [refused(segment, reason)],
        ));
        cases.push(inwards(
            TO_FORBIDDEN[index],
            port::OTHER,
            [refused(segment, reason)],
        ));
        cases.push(
            outwards(FROM_INSIDE[index], port::OTHER, [refused(segment, reason)])
                .only(&[Role::Gateway]),
        );
        cases.push(
            outwards(OF_THIS_HOST[index], port::OTHER, [arrives(segment)]).only(&[Role::Host]),
        );
    }
    cases
}
