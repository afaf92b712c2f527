//! Connections that end.

use tracker_common::reason::Reason;
use tracker_tests::program::talk::{A, B};

use super::{Case, FIN, Step, arrives, case, port, refused};
use crate::bed::Side;

/// A case in a connection from outside, and the same in one from inside.
fn standing<const N: usize>(names: [&'static str; 2], steps: [Step; N]) -> [Case; 2] {
    let [inwards, outwards] = names;
    [
        case(inwards, Side::Outside, port::WEB, steps).established(),
        case(outwards, Side::Inside, port::OTHER, steps).established(),
    ]
}

/// Both have closed, the opener first.
const CLOSE: [Step; 4] = [
    arrives(A.fin()),
    arrives(B.ack().acks(2)),
    arrives(B.fin().acks(2)),
    arrives(A.ack().seq(2).acks(2)),
];

pub fn cases() -> Vec<Case> {
    let [hello, heard, farewell, over] = CLOSE;
    [
        standing(["a close", "a close, from inside"], CLOSE),
        standing(
            [
                "a close by the responder",
                "a close by the responder, from inside",
            ],
            [
                arrives(B.fin()),
                arrives(A.ack().acks(2)),
                arrives(A.fin().acks(2)),
                arrives(B.ack().seq(2).acks(2)),
            ],
        ),
        standing(
            [
                "data into a half-closed connection",
                "data into a half-closed connection, from inside",
            ],
            [
                hello,
                heard,
                arrives(B.ack().acks(2).data(500)),
                arrives(A.ack().seq(2).acks(501)),
                arrives(B.ack().seq(501).acks(2).data(500)),
                arrives(A.ack().seq(2).acks(1001)),
                arrives(B.fin().seq(1001).acks(2)),
                arrives(A.ack().seq(2).acks(1002)),
            ],
        ),
        standing(
            ["a simultaneous close", "a simultaneous close, from inside"],
            [
                arrives(A.fin()),
                arrives(B.fin()),
                arrives(A.ack().seq(2).acks(2)),
                arrives(B.ack().seq(2).acks(2)),
            ],
        ),
        standing(
            ["a FIN again", "a FIN again, from inside"],
            [
                arrives(A.fin()),
                arrives(A.fin()),
                heard,
                arrives(B.fin().acks(2)),
                arrives(B.fin().acks(2)),
                over,
            ],
        ),
        standing(
            [
                "a FIN after the close",
                "a FIN after the close, from inside",
            ],
            [hello, heard, farewell, over, arrives(B.fin().acks(2)), over],
        ),
        standing(
            ["a FIN with data", "a FIN with data, from inside"],
            [
                arrives(A.fin().data(200)),
                arrives(B.fin().acks(202)),
                arrives(A.ack().seq(202).acks(2)),
            ],
        ),
        standing(
            ["data behind the FIN", "data behind the FIN, from inside"],
            [
                hello,
                heard,
                refused(A.ack().seq(2).data(100), Reason::BeyondFin),
            ],
        ),
        standing(
            [
                "a second FIN behind the FIN",
                "a second FIN behind the FIN, from inside",
            ],
            [hello, heard, refused(A.fin().seq(2), Reason::BeyondFin)],
        ),
        standing(
            ["an RST after the FIN", "an RST after the FIN, from inside"],
            [hello, heard, arrives(A.bare_rst().seq(2))],
        ),
        standing(
            [
                "an RST after the close",
                "an RST after the close, from inside",
            ],
            [hello, heard, farewell, over, arrives(B.bare_rst().seq(2))],
        ),
        standing(
            [
                "the ports again after the close",
                "the ports again after the close, from inside",
            ],
            [
                hello,
                heard,
                farewell,
                over,
                arrives(A.syn().seq(500_000)),
                arrives(B.syn_ack().seq(600_000).acks(500_001)),
                arrives(A.ack().seq(500_001).acks(600_001)),
                arrives(A.ack().flags(FIN).seq(500_001).acks(600_001)),
            ],
        ),
        standing(
            [
                "the ports again after an RST",
                "the ports again after an RST, from inside",
            ],
            [
                arrives(A.rst()),
                arrives(A.syn().seq(500_000)),
                arrives(B.syn_ack().seq(600_000).acks(500_001)),
                arrives(A.ack().seq(500_001).acks(600_001)),
            ],
        ),
    ]
    .concat()
}
