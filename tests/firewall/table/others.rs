//! What IP carries otherwise, and how it wraps TCP.

use tracker_common::reason::Reason;
use tracker_tests::program::talk::{A, B, End};

use super::{Case, Fate, Packet, Step, arrives, case, denied, inwards, outwards, port, refused};
use crate::bed::Side;

pub fn cases() -> Vec<Case> {
    let passes = |from: End, packet| Step {
        from,
        packet,
        fate: Fate::Arrives,
    };
    vec![
        inwards(
            "UDP to a port that no rule allows",
            port::OTHER,
            [passes(A, Packet::Udp), passes(B, Packet::Udp)],
        ),
        outwards(
            "UDP to a port that is forbidden to TCP",
            port::MAIL,
            [passes(A, Packet::Udp)],
        ),
        inwards(
            "a protocol that nobody knows",
            port::OTHER,
            [passes(A, Packet::Unknown), passes(B, Packet::Unknown)],
        ),
        inwards(
            "an allowed SYN behind options of IP",
            port::WEB,
            [
                arrives(A.syn()).behind(),
                arrives(B.syn_ack()),
                arrives(A.ack()).behind(),
            ],
        ),
        inwards(
            "a forbidden SYN behind options of IP",
            port::OTHER,
            [denied(A.syn(), "default").behind()],
        ),
        inwards(
            "a stray ACK behind options of IP",
            port::WEB,
            [refused(A.ack(), Reason::StrayAck).behind()],
        ),
        case(
            "a connection beside another of the same host",
            Side::Outside,
            port::WEB,
            [
                arrives(A.syn()),
                arrives(B.syn_ack()),
                arrives(A.ack()),
                arrives(A.ack().data(10)),
            ],
        )
        .calling_from(30_000),
        case(
            "the forbidden twin of an open connection",
            Side::Outside,
            port::OTHER,
            [
                denied(A.syn(), "default"),
                refused(A.ack().data(10), Reason::StrayAck),
            ],
        )
        .calling_from(30_000),
    ]
}
