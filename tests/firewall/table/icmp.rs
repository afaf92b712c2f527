//! ICMP errors about connections.

use tracker_common::reason::Reason;
use tracker_tests::program::talk::{A, B, End, Seg};

use super::{
    About, Case, Error, Fate, Kind, Packet, Step, arrives, case, denied, inwards, outwards, port,
};
use crate::bed::{Role, Side};

/// Octets of a segment that every error quotes at least (RFC 792).
const LEAST: usize = 8;
/// And what most quote of one: all.
const ALL: usize = 2000;

fn error(kind: Kind, about: Seg) -> Step {
    Step {
        from: about.from.peer(),
        packet: Packet::Error(Error {
            kind,
            by_router: true,
            about: About::Segment(about),
            quoted: ALL,
        }),
        fate: Fate::Arrives,
    }
}

/// The receiver itself sends it.
fn by_receiver(step: Step) -> Step {
    with(step, |error| error.by_router = false)
}

/// It quotes as little as it may.
fn short(step: Step) -> Step {
    with(step, |error| error.quoted = LEAST)
}

fn with(step: Step, change: impl Fn(&mut Error)) -> Step {
    let Packet::Error(mut error) = step.packet else {
        unreachable!("{step:?} is an error");
    };
    change(&mut error);
    Step {
        packet: Packet::Error(error),
        ..step
    }
}

fn stray(step: Step) -> Step {
    Step {
        fate: Fate::Refused(Reason::IcmpStray),
        ..step
    }
}

pub fn cases() -> Vec<Case> {
    [related(), opening(), unrelated(), others()].concat()
}

/// About data in flight, of either end.
fn related() -> Vec<Case> {
    const KINDS: [(Kind, [&str; 2]); 6] = [
        (
            Kind::HostUnreachable,
            [
                "an unreachable host in a connection",
                "an unreachable host in a connection, from inside",
            ],
        ),
        (
            Kind::PortUnreachable,
            [
                "an unreachable port in a connection",
                "an unreachable port in a connection, from inside",
            ],
        ),
        (
            Kind::Prohibited,
            [
                "a prohibition in a connection",
                "a prohibition in a connection, from inside",
            ],
        ),
        (
            Kind::TooBig,
            [
                "a packet too big in a connection",
                "a packet too big in a connection, from inside",
            ],
        ),
        (
            Kind::TimeExceeded,
            [
                "an exceeded time in a connection",
                "an exceeded time in a connection, from inside",
            ],
        ),
        (
            Kind::BadHeader,
            [
                "a bad header in a connection",
                "a bad header in a connection, from inside",
            ],
        ),
    ];
    let sent = [A.ack().data(500), B.ack().data(500)];
    KINDS
        .into_iter()
        .flat_map(|(kind, names)| {
            let steps = [
                arrives(sent[0]),
                arrives(sent[1]),
                error(kind, sent[0]),
                error(kind, sent[1]),
                short(error(kind, sent[0])),
                by_receiver(error(kind, sent[1])),
            ];
            [
                case(names[0], Side::Outside, port::WEB, steps).established(),
                case(names[1], Side::Inside, port::OTHER, steps).established(),
            ]
        })
        .collect()
}

/// About a SYN.
fn opening() -> Vec<Case> {
    vec![
        outwards(
            "a prohibition of a SYN from inside",
            port::OTHER,
            [arrives(A.syn()), error(Kind::Prohibited, A.syn())],
        ),
        outwards(
            "a port that is unreachable for a SYN from inside",
            port::OTHER,
            [
                arrives(A.syn()),
                by_receiver(error(Kind::PortUnreachable, A.syn())),
            ],
        ),
        inwards(
            "a host that is unreachable for a SYN to an allowed port",
            port::WEB,
            [arrives(A.syn()), error(Kind::HostUnreachable, A.syn())],
        )
        .only(&[Role::Gateway]),
    ]
}

/// About what nobody sent, or what was not let pass.
fn unrelated() -> Vec<Case> {
    let about = |from: End| match from {
        A => A.ack().data(100),
        B => B.ack().data(100),
    };
    vec![
        inwards(
            "an unreachable port of no connection",
            port::WEB,
            [stray(error(Kind::PortUnreachable, about(B)))],
        ),
        inwards(
            "a packet too big of no connection",
            port::WEB,
            [stray(error(Kind::TooBig, about(B)))],
        ),
        inwards(
            "an exceeded time of no connection",
            port::OTHER,
            [stray(error(Kind::TimeExceeded, about(B)))],
        ),
        inwards(
            "a bad header of no connection",
            port::OTHER,
            [stray(error(Kind::BadHeader, about(B)))],
        ),
        outwards(
            "a prohibition of a SYN that was dropped",
            port::MAIL,
            [
                denied(A.syn(), "no-mail"),
                stray(error(Kind::Prohibited, A.syn())),
            ],
        ),
        inwards(
            "an unreachable port of no connection, from inside",
            port::WEB,
            [stray(error(Kind::PortUnreachable, about(A)))],
        )
        .only(&[Role::Gateway]),
        inwards(
            "an ICMP error about what was never sent",
            port::WEB,
            [
                arrives(B.ack().data(100)),
                // Its receiver is to look (RFC 5927 section 4.1).
                error(Kind::TooBig, B.ack().seq(900_000).data(100)),
            ],
        )
        .established(),
    ]
}

/// What is not about TCP.
fn others() -> Vec<Case> {
    let about_udp = |from, kind| Step {
        from,
        packet: Packet::Error(Error {
            kind,
            by_router: true,
            about: About::Udp,
            quoted: ALL,
        }),
        fate: Fate::Arrives,
    };
    vec![
        inwards(
            "an ICMP error about UDP",
            port::OTHER,
            [about_udp(A, Kind::PortUnreachable)],
        ),
        inwards(
            "an echo request",
            port::OTHER,
            [Step {
                from: A,
                packet: Packet::Echo,
                fate: Fate::Arrives,
            }],
        ),
    ]
}
