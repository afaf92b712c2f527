//! Connections that are opened, or not.

use tracker_common::{reason::Reason, tcp::Flags};
use tracker_tests::program::talk::{A, B};

use super::{ACK, Case, DATA, arrives, denied, inwards, outwards, port, refused};

pub fn cases() -> Vec<Case> {
    [inward(), outward(), flags(), both()].concat()
}

fn inward() -> Vec<Case> {
    vec![
        inwards(
            "a handshake with an allowed port",
            port::WEB,
            [arrives(A.syn()), arrives(B.syn_ack()), arrives(A.ack())],
        ),
        inwards(
            "a SYN to a port that no rule allows",
            port::OTHER,
            [denied(A.syn(), "default")],
        ),
        inwards(
            "a SYN to a port that no rule allows, again and again",
            port::OTHER,
            [
                denied(A.syn(), "default"),
                denied(A.syn(), "default"),
                denied(A.syn().seq(77_000), "default"),
            ],
        ),
        inwards(
            "a SYN to an allowed port, again",
            port::WEB,
            [
                arrives(A.syn()),
                arrives(A.syn()),
                arrives(B.syn_ack()),
                arrives(B.syn_ack()),
                arrives(A.ack()),
            ],
        ),
        inwards(
            "a SYN to an allowed port, anew with a higher number",
            port::WEB,
            [
                arrives(A.syn()),
                arrives(A.syn().seq(77_000)),
                arrives(B.syn_ack().acks(77_001)),
                arrives(A.ack().seq(77_001)),
            ],
        ),
        inwards(
            "a SYN with data to an allowed port",
            port::WEB,
            [
                arrives(A.syn().data(100)),
                arrives(B.syn_ack().acks(101)),
                arrives(A.ack().seq(101)),
            ],
        ),
        inwards(
            "a SYN with data to a port that no rule allows",
            port::OTHER,
            [denied(A.syn().data(100), "default")],
        ),
        inwards(
            "a SYN from the allowed port to another one",
            port::OTHER,
            [denied(A.syn(), "default")],
        )
        .calling_from(port::WEB),
        inwards(
            "a SYN from port 20 to a port that no rule allows",
            port::OTHER,
            [denied(A.syn(), "default")],
        )
        .calling_from(20),
        inwards(
            "a handshake that a rule about the source port allows",
            port::SHELL,
            [arrives(A.syn()), arrives(B.syn_ack()), arrives(A.ack())],
        )
        .calling_from(1023),
        inwards(
            "a SYN from a source port that its rule does not allow",
            port::SHELL,
            [denied(A.syn(), "default")],
        )
        .calling_from(1024),
        inwards(
            "a refusal of an allowed SYN",
            port::WEB,
            [
                arrives(A.syn()),
                arrives(B.rst().seq(0u32.wrapping_sub(u32::MAX - 1)).acks(1)),
            ],
        ),
    ]
}

fn outward() -> Vec<Case> {
    vec![
        outwards(
            "a handshake from inside",
            port::OTHER,
            [arrives(A.syn()), arrives(B.syn_ack()), arrives(A.ack())],
        ),
        outwards(
            "replies to a connection from inside",
            port::OTHER,
            [
                arrives(A.syn()),
                arrives(B.syn_ack()),
                arrives(A.ack()),
                arrives(A.ack().flags(DATA).data(300)),
                arrives(B.ack().acks(301)),
                arrives(B.ack().flags(DATA).acks(301).data(700)),
                arrives(A.ack().seq(301).acks(701)),
            ],
        ),
        outwards(
            "a SYN from inside to a forbidden port",
            port::MAIL,
            [denied(A.syn(), "no-mail")],
        ),
        outwards(
            "a SYN-ACK for a SYN that was dropped",
            port::MAIL,
            [
                denied(A.syn(), "no-mail"),
                refused(B.syn_ack(), Reason::StraySynAck),
            ],
        ),
        outwards(
            "a refusal of a SYN from inside",
            port::OTHER,
            [
                arrives(A.syn()),
                arrives(B.rst().seq(0u32.wrapping_sub(u32::MAX - 1)).acks(1)),
            ],
        ),
        outwards(
            "a SYN from inside, again, and both answers",
            port::OTHER,
            [
                arrives(A.syn()),
                arrives(A.syn()),
                arrives(B.syn_ack()),
                arrives(B.syn_ack()),
                arrives(A.ack()),
            ],
        ),
        outwards(
            "a SYN-ACK of another connection",
            port::OTHER,
            [arrives(A.syn()), arrives(B.syn_ack().acks(900_000))],
        ),
        outwards(
            "a refusal of another SYN",
            port::OTHER,
            [
                arrives(A.syn()),
                refused(B.rst().acks(900_000), Reason::ResetWrongAck),
            ],
        ),
        outwards(
            "an ACK before the answer",
            port::OTHER,
            [arrives(A.syn()), arrives(B.ack().acks(900_000))],
        ),
    ]
}

/// Whether they open a connection is up to the SYN; some of them nobody sends.
fn flags() -> Vec<Case> {
    let nonsense = |name, flags| {
        inwards(
            name,
            port::WEB,
            [refused(A.syn().flags(flags), Reason::BadFlags)],
        )
    };
    let open = |name, flags| {
        inwards(
            name,
            port::WEB,
            [
                arrives(A.syn().flags(flags)),
                arrives(B.syn_ack()),
                arrives(A.ack()),
            ],
        )
    };
    vec![
        open("a SYN that asks for ECN", Flags::SYN | 0xc0),
        open("a SYN with PSH", Flags::SYN | Flags::PSH),
        inwards(
            "a SYN that asks for ECN, to a port that no rule allows",
            port::OTHER,
            [denied(A.syn().flags(Flags::SYN | 0xc0), "default")],
        ),
        nonsense("a segment with SYN and FIN", Flags::SYN | Flags::FIN),
        nonsense("a segment with SYN and RST", Flags::SYN | Flags::RST),
        nonsense("a segment with FIN and RST", Flags::FIN | Flags::RST),
        nonsense("a segment without any flag", 0),
        nonsense(
            "a segment with FIN, PSH and URG",
            Flags::FIN | Flags::PSH | Flags::URG,
        ),
        nonsense("a FIN without ACK", Flags::FIN),
    ]
}

/// Both ends open.
fn both() -> Vec<Case> {
    vec![
        inwards(
            "a simultaneous open",
            port::WEB,
            [
                arrives(A.syn()),
                arrives(B.syn()),
                arrives(A.syn_ack()),
                arrives(B.syn_ack()),
                arrives(A.ack()),
                arrives(B.ack()),
            ],
        ),
        inwards(
            "a simultaneous open that only one side may begin",
            port::OTHER,
            [
                denied(A.syn(), "default"),
                arrives(B.syn()),
                arrives(A.syn()),
                arrives(B.syn_ack()),
                arrives(A.syn_ack()),
            ],
        ),
        inwards(
            "data before the SYN was dropped",
            port::OTHER,
            [
                denied(A.syn(), "default"),
                refused(A.ack().data(10), Reason::StrayAck),
                refused(A.ack().flags(ACK | Flags::RST), Reason::StrayReset),
            ],
        ),
    ]
}
