//! What a SYN is answered with, and what returns.

use anyhow::Result;
use tracker_common::{
    abi::{
        CookieMode, Family, Listener, Live, Mode,
        defence_flags::{CHECK, OPTIONS},
    },
    reason::Reason,
    tcp::{
        Flags,
        State::{Established as ES, FinWait1 as F1, Listen as LI, SynSent as SS},
    },
};
use tracker_tests::program::{frame::Frame, talk::A};

use super::{WIRE, alone, answering, cookie, fill, learnt, same_host, told};
use crate::row::{Row, Stage, row};

pub fn answers() -> Vec<Row> {
    let answered = |name| row(name, Reason::CookieSent).from(&WIRE);
    let passes = |name| {
        row(name, Reason::FlowOpened)
            .from(&WIRE)
            .sends(A.syn())
            .leaves(SS, LI)
    };
    vec![
        answered("a SYN where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .sends(A.syn()),
        answered("a SYN with data where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .sends(A.syn().data(100)),
        answered("a SYN with ECN bits where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .sends(A.syn().flags(Flags::SYN | Flags::ECE | Flags::CWR)),
        answered("a SYN with IP options where cookies are on")
            .fits(|wrapping| wrapping.family == Family::V4)
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.ip_options = 40;
                frame.bytes()
            }),
        answered("a SYN in a frame with padding where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| [stage.syn().bytes(), vec![0; 6]].concat()),
        answered("a SYN to a listener that always answers with cookies")
            .prepare(|stage| {
                learnt(stage, |listener| listener.mode = CookieMode::Always as u8)?;
                stage.set(&Live {
                    defence: CHECK,
                    ..answering()
                })
            })
            .sends(A.syn()),
        passes("a SYN to a listener that never does")
            .prepare(|stage| learnt(stage, |listener| listener.mode = CookieMode::Never as u8)),
        passes("a SYN where no listener is known").prepare(|stage| {
            stage.talk.ends[1].port = 81;
            stage.set(&answering())
        }),
        passes("a SYN to a listener that the agent alone has named").prepare(|stage| {
            learnt(stage, |listener| {
                *listener = Listener {
                    mode: CookieMode::Always as u8,
                    ..Listener::default()
                };
            })
        }),
        passes("a SYN to a listener not seen for ten seconds").prepare(|stage| {
            learnt(stage, |_| {})?;
            stage.bench.wait_ms(10_010)
        }),
        passes("a SYN that has a listener confirmed after a second").prepare(|stage| {
            learnt(stage, |_| {})?;
            stage.bench.wait_ms(1010)
        }),
        answered("the SYN behind one that has a listener confirmed")
            .prepare(|stage| {
                alone(stage);
                learnt(stage, |_| {})?;
                stage.bench.wait_ms(1010)?;
                stage.beside(A.syn(), same_host, Reason::FlowOpened)?;
                // There is no socket to be told.
                told(stage)
            })
            .sends(A.syn()),
        passes("a SYN that could be answered only by way of a socket that is not there").prepare(
            |stage| {
                learnt(stage, |_| {})?;
                stage.bench.wait_ms(600)
            },
        ),
        passes("a SYN where the tracker observes").prepare(|stage| {
            learnt(stage, |_| {})?;
            stage.set(&Live {
                mode: Mode::Observe as u8,
                ..answering()
            })
        }),
        answered("a SYN behind extension headers where cookies are on")
            .fits(|wrapping| wrapping.family == Family::V6)
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(60, 8)];
                frame.bytes()
            }),
        passes("a SYN behind an authentication header where cookies are on")
            .fits(|wrapping| wrapping.family == Family::V6)
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(60, 8), (51, 24)];
                frame.bytes()
            }),
        passes("a SYN to a group of stations where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn().bytes();
                frame[0] |= 1;
                frame
            }),
        passes("a SYN from a group of stations where cookies are on")
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn().bytes();
                frame[6] |= 1;
                frame
            }),
        row(
            "a SYN that is sent again, whose flow there is",
            Reason::SynRetransmit,
        )
        .from(&WIRE)
        .after([A.syn()])
        .prepare(|stage| learnt(stage, |_| {}))
        .sends(A.syn())
        .leaves(SS, LI),
    ]
}

/// The frame with another source address: the given octets of IPv4, or of IPv6.
fn from_address(frame: &Frame, v4: [u8; 4], v6: [u8; 16]) -> Vec<u8> {
    let at = frame.ip_at();
    let mut frame_bytes = frame.bytes();
    match frame.wrapping.family {
        Family::V4 => frame_bytes[at + 12..at + 16].copy_from_slice(&v4),
        Family::V6 => frame_bytes[at + 8..at + 24].copy_from_slice(&v6),
    }
    frame_bytes
}

/// An IPv6 address of which only the ends are not zero.
const fn v6(first: [u8; 2], last: u8) -> [u8; 16] {
    let [a, b] = first;
    [a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

pub fn refusals() -> Vec<Row> {
    let nobody = |name| {
        row(name, Reason::BadSource)
            .from(&WIRE)
            .prepare(|stage| learnt(stage, |_| {}))
    };
    vec![
        nobody("a SYN from a loopback address")
            .raw(|stage| from_address(&stage.syn(), [127, 0, 0, 1], v6([0, 0], 1))),
        nobody("a SYN from the unspecified address")
            .raw(|stage| from_address(&stage.syn(), [0; 4], [0; 16])),
        nobody("a SYN from a multicast address")
            .raw(|stage| from_address(&stage.syn(), [224, 0, 0, 5], v6([0xff, 2], 5))),
        nobody("a SYN from the broadcast address")
            .raw(|stage| from_address(&stage.syn(), [255; 4], v6([0xff, 0xff], 5))),
        row(
            "a SYN from an address that has had its answers of this second",
            Reason::AnswerLimit,
        )
        .from(&WIRE)
        .prepare(answered_once)
        .sends(A.syn()),
        row(
            "a SYN from an address that may have another answer a second later",
            Reason::CookieSent,
        )
        .from(&WIRE)
        .prepare(|stage| {
            answered_once(stage)?;
            stage.bench.wait_ms(1000)?;
            learnt(stage, |_| {})?;
            stage.set(&rated())
        })
        .sends(A.syn()),
        row(
            "a SYN from an address beyond its answers that has returned a cookie",
            Reason::CookieSent,
        )
        .from(&WIRE)
        .prepare(proved_and_answered_once)
        .sends(A.syn()),
    ]
}

/// One answer to an address a second.
fn rated() -> Live {
    Live {
        answer_rate: 1,
        ..answering()
    }
}

/// An address that nobody else has gets the answer that it may have this second.
fn answered_once(stage: &mut Stage<'_>) -> Result<()> {
    alone(stage);
    // Addresses that share a cell of the sketch share its answers.
    stage.bench.wait_ms(1000)?;
    learnt(stage, |_| {})?;
    stage.set(&rated())?;
    stage.beside(A.syn(), same_host, Reason::CookieSent)
}

/// So does one that returns a cookie before.
fn proved_and_answered_once(stage: &mut Stage<'_>) -> Result<()> {
    alone(stage);
    let talk = stage.talk;
    stage.talk.ends[0].port = 10;
    cookie(stage)?;
    return_cookie(stage)?;
    stage.talk = talk;
    answered_once(stage)
}

fn return_cookie(stage: &mut Stage<'_>) -> Result<()> {
    stage.beside(A.ack(), |_| {}, Reason::CookieReturned)
}

pub fn returns() -> Vec<Row> {
    let returned = |name| {
        row(name, Reason::CookieReturned)
            .from(&WIRE)
            .prepare(cookie)
    };
    vec![
        returned("an ACK that returns a cookie")
            .sends(A.ack())
            .leaves(ES, ES),
        returned("data that return a cookie")
            .sends(A.ack().data(500))
            .leaves(ES, ES),
        returned("a FIN that returns a cookie")
            .sends(A.fin())
            .leaves(F1, ES),
        returned("an ACK that returns a cookie when cookies are off again")
            .prepare(|stage| {
                cookie(stage)?;
                stage.set(&Live {
                    defence: CHECK | OPTIONS,
                    pickup: 0,
                    ..answering()
                })
            })
            .sends(A.ack())
            .leaves(ES, ES),
        row("an ACK that returns no valid cookie", Reason::CookieInvalid)
            .from(&WIRE)
            .prepare(|stage| {
                cookie(stage)?;
                stage.set(&no_pickup())
            })
            // Neighbours of a cookie are cookies: the lowest bits are the index of a
            // segment size.
            .sends(A.ack().acks(0x0010_0000)),
        row("data that return no valid cookie", Reason::CookieInvalid)
            .from(&WIRE)
            .prepare(|stage| {
                learnt(stage, |_| {})?;
                stage.set(&no_pickup())
            })
            .sends(A.ack().data(10)),
        row(
            "an ACK that returns no valid cookie while connections may be older than the tracker",
            Reason::FlowPickedUp,
        )
        .from(&WIRE)
        .prepare(|stage| learnt(stage, |_| {}))
        .sends(A.ack())
        .leaves(ES, ES),
        row("an ACK where no cookie can be out", Reason::StrayAck)
            .from(&WIRE)
            .prepare(|stage| {
                cookie(stage)?;
                stage.set(&Live {
                    defence: 0,
                    ..no_pickup()
                })
            })
            .sends(A.ack()),
        row("an ACK to a port where nothing listens", Reason::StrayAck)
            .from(&WIRE)
            .prepare(|stage| {
                stage.talk.ends[1].port = 82;
                stage.set(&no_pickup())
            })
            .sends(A.ack()),
        row(
            "an RST to a listener where cookies are on",
            Reason::StrayReset,
        )
        .from(&WIRE)
        .prepare(cookie)
        .sends(A.bare_rst()),
        row(
            "an ACK that returns a cookie and finds the table full",
            Reason::CookieUntracked,
        )
        .from(&WIRE)
        .capacity(2)
        .prepare(|stage| {
            cookie(stage)?;
            fill(stage)
        })
        .sends(A.ack()),
        row("the ACK that has returned a cookie again", Reason::Tracked)
            .from(&WIRE)
            .prepare(|stage| {
                cookie(stage)?;
                return_cookie(stage)
            })
            .sends(A.ack())
            .leaves(ES, ES),
    ]
}

/// Answering, and no connection is older than the tracker.
fn no_pickup() -> Live {
    Live {
        pickup: 0,
        ..answering()
    }
}
