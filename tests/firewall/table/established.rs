//! Segments of connections that stand.

use tracker_common::{reason::Reason, tcp::Flags};
use tracker_tests::program::talk::{A, B};

use super::{Case, DATA, Step, arrives, case, port, refused};
use crate::bed::Side;

/// The window that both ends offer.
const WINDOW: u32 = 1000;

/// Before every number of a conversation.
const LONG_AGO: u32 = 0xc000_0000;

pub fn cases() -> Vec<Case> {
    [data(), resets(), syns(), stamps()].concat()
}

/// A case in a connection from outside, and the same in one from inside.
fn standing<const N: usize>(names: [&'static str; 2], steps: [Step; N]) -> [Case; 2] {
    let [inwards, outwards] = names;
    [
        case(inwards, Side::Outside, port::WEB, steps).established(),
        case(outwards, Side::Inside, port::OTHER, steps).established(),
    ]
}

fn data() -> Vec<Case> {
    [
        standing(
            ["data both ways", "data both ways, from inside"],
            [
                arrives(A.ack().flags(DATA).data(300)),
                arrives(B.ack().acks(301)),
                arrives(B.ack().flags(DATA).acks(301).data(700)),
                arrives(A.ack().seq(301).acks(701)),
            ],
        ),
        standing(
            ["data sent again", "data sent again, from inside"],
            [
                arrives(A.ack().data(300)),
                arrives(A.ack().data(300)),
                arrives(B.ack().acks(301)),
            ],
        ),
        standing(
            [
                "an old duplicate of acknowledged data",
                "an old duplicate of acknowledged data, from inside",
            ],
            [
                arrives(A.ack().data(300)),
                arrives(B.ack().acks(301)),
                arrives(A.ack().seq(301).data(300)),
                arrives(B.ack().acks(601)),
                arrives(A.ack().data(300)),
            ],
        ),
        standing(
            ["a duplicate ACK", "a duplicate ACK, from inside"],
            [
                arrives(A.ack().data(300)),
                arrives(B.ack().acks(301)),
                arrives(B.ack().acks(301)),
                arrives(B.ack().acks(301)),
            ],
        ),
        standing(
            ["data out of order", "data out of order, from inside"],
            [
                arrives(A.ack().seq(301).data(300)),
                arrives(B.ack()),
                arrives(A.ack().data(300)),
                arrives(B.ack().acks(601)),
            ],
        ),
        standing(
            ["a keep-alive", "a keep-alive, from inside"],
            [
                arrives(A.ack().seq(0)),
                arrives(B.ack()),
                arrives(B.ack().seq(0).data(1)),
                arrives(A.ack()),
            ],
        ),
        standing(
            [
                "a probe of a closed window",
                "a probe of a closed window, from inside",
            ],
            [
                arrives(A.ack().data(1000)),
                arrives(with_window(B.ack().acks(1001), 0)),
                arrives(A.ack().seq(1001).data(1)),
                arrives(with_window(B.ack().acks(1001), 0)),
                arrives(B.ack().acks(1001)),
            ],
        ),
        standing(
            ["urgent data", "urgent data, from inside"],
            [
                arrives(A.ack().flags(DATA | Flags::URG).data(10)),
                arrives(B.ack().acks(11)),
            ],
        ),
        standing(
            [
                "data far beyond the window",
                "data far beyond the window, from inside",
            ],
            [
                refused(A.ack().seq(WINDOW + 100_000).data(10), Reason::BeyondWindow),
                refused(B.ack().seq(WINDOW + 100_000).data(10), Reason::BeyondWindow),
                arrives(A.ack().data(10)),
            ],
        ),
        standing(
            [
                "an acknowledgement of what was not sent",
                "an acknowledgement of what was not sent, from inside",
            ],
            [
                refused(A.ack().acks(50_000), Reason::AckUnsent),
                refused(B.ack().acks(50_000), Reason::AckUnsent),
                arrives(A.ack().data(10)),
            ],
        ),
        standing(
            ["data of long ago", "data of long ago, from inside"],
            [
                arrives(A.ack().seq(LONG_AGO).data(10)),
                arrives(B.ack().seq(LONG_AGO).data(10)),
                arrives(A.ack().data(10)),
            ],
        ),
    ]
    .concat()
}

const fn with_window(
    segment: tracker_tests::program::talk::Seg,
    window: u16,
) -> tracker_tests::program::talk::Seg {
    tracker_tests::program::talk::Seg { window, ..segment }
}

fn resets() -> Vec<Case> {
    [
        standing(
            ["an exact RST", "an exact RST, from inside"],
            [arrives(A.rst())],
        ),
        standing(
            [
                "an exact RST of the responder",
                "an exact RST of the responder inside out",
            ],
            [arrives(B.rst())],
        ),
        standing(
            ["an RST without ACK", "an RST without ACK, from inside"],
            [arrives(A.bare_rst())],
        ),
        standing(
            [
                "an RST inside the window",
                "an RST inside the window, from inside",
            ],
            [
                arrives(A.bare_rst().seq(500)),
                arrives(B.bare_rst().seq(500)),
                arrives(A.ack().data(10)),
                arrives(B.ack().acks(11)),
            ],
        ),
        standing(
            [
                "an RST beyond the window",
                "an RST beyond the window, from inside",
            ],
            [
                refused(
                    A.bare_rst().seq(WINDOW + 100_000),
                    Reason::ResetOutsideWindow,
                ),
                refused(
                    B.bare_rst().seq(WINDOW + 100_000),
                    Reason::ResetOutsideWindow,
                ),
                arrives(A.ack().data(10)),
                arrives(B.ack().acks(11)),
            ],
        ),
        standing(
            ["an RST of long ago", "an RST of long ago, from inside"],
            [
                refused(A.bare_rst().seq(LONG_AGO), Reason::ResetOutsideWindow),
                refused(B.bare_rst().seq(LONG_AGO), Reason::ResetOutsideWindow),
                arrives(A.ack().data(10)),
            ],
        ),
        standing(
            ["data behind an RST", "data behind an RST, from inside"],
            [
                arrives(A.rst()),
                arrives(B.ack().data(10)),
                arrives(A.bare_rst()),
            ],
        ),
        standing(
            ["an RST again", "an RST again, from inside"],
            [arrives(A.rst()), arrives(A.rst())],
        ),
    ]
    .concat()
}

fn syns() -> Vec<Case> {
    [
        standing(
            [
                "a SYN on a live connection",
                "a SYN on a live connection, from inside",
            ],
            [
                arrives(A.syn().seq(500_000)),
                arrives(B.ack()),
                arrives(A.ack().data(10)),
            ],
        ),
        standing(
            [
                "a SYN of the responder on a live connection",
                "a SYN of the responder on a live connection, from inside",
            ],
            [arrives(B.syn().seq(500_000)), arrives(A.ack().data(10))],
        ),
        standing(
            [
                "a late copy of the SYN",
                "a late copy of the SYN, from inside",
            ],
            [arrives(A.syn()), arrives(B.ack())],
        ),
        standing(
            [
                "a late copy of the SYN-ACK",
                "a late copy of the SYN-ACK, from inside",
            ],
            [arrives(B.syn_ack()), arrives(A.ack())],
        ),
    ]
    .concat()
}

fn stamps() -> Vec<Case> {
    let stamped = |name, opener, to_port| {
        case(
            name,
            opener,
            to_port,
            [
                arrives(A.syn().stamp(100_000)),
                arrives(B.syn_ack().stamp(100_000)),
                arrives(A.ack().stamp(100_000)),
                arrives(A.ack().data(10).stamp(100_001)),
                refused(A.ack().seq(11).data(10).stamp(10_000), Reason::TimestampOld),
                arrives(A.ack().seq(11).data(10).stamp(100_002)),
            ],
        )
    };
    vec![
        stamped(
            "data with a timestamp of a minute ago",
            Side::Outside,
            port::WEB,
        ),
        stamped(
            "data with a timestamp of a minute ago, from inside",
            Side::Inside,
            port::OTHER,
        ),
    ]
}
