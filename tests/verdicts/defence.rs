//! What the defence says: limits on half-open flows, SYN cookies, sources that
//! may not be answered, bans.
//!
//! Listeners are put into their map, as the agent may do it: there is no socket
//! behind them. The kernel makes and takes cookies without one; only to tell a
//! socket that cookies are out the program looks for it, which these entries say
//! is done.

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{
        AtLimit, Ban, BanKey, CookieMode, Family, Gauge, Listener, Live, Mode,
        defence_flags::{ANSWER, AT_LIMIT, BANS, CHECK, FULL_DROPS, OPTIONS},
    },
    reason::{Class, Reason},
    tcp::{
        Flags, Options,
        State::{Established as ES, FinWait1 as F1, Listen as LI, SynSent as SS},
    },
    time::Tick,
};
use tracker_tests::program::{
    bench::{Origin, live},
    frame::Frame,
    talk::{A, B, Talk},
};

use crate::row::{Row, Stage, row};

/// From where a SYN may be somebody's attack.
const FOREIGN: [Origin; 2] = [Origin::Wire, Origin::Forwarded];
/// From where it is this host's own.
const LOCAL: [Origin; 2] = [Origin::Host, Origin::Loopback];
/// Where cookies are sent and taken back.
const WIRE: [Origin; 1] = [Origin::Wire];

pub fn rows() -> Vec<Row> {
    [
        half_open(),
        shares(),
        local(),
        at_limits(),
        answers(),
        refusals(),
        returns(),
        bans(),
    ]
    .concat()
}

fn enforcing() -> Live {
    Live {
        mode: Mode::Enforce as u8,
        ..live()
    }
}

/// Enforcing, and cookies are on.
fn answering() -> Live {
    Live {
        defence: ANSWER | CHECK | OPTIONS,
        offers: Options::MSS | Options::SCALE | Options::SACK_PERMITTED | Options::TIMESTAMPS,
        ..enforcing()
    }
}

/// The limit is reached by one more, and the next is dropped.
fn dropping(live: &mut Live, gauges: [u64; Gauge::COUNT as usize]) {
    *live = Live {
        at_limit: AtLimit::Drop as u8,
        half_open_limit: gauges[Gauge::HalfOpen as usize] as u32 + 1,
        ..enforcing()
    };
}

fn half_open() -> Vec<Row> {
    vec![
        row(
            "a SYN over the half-open limit where those are dropped",
            Reason::HalfOpenRefused,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(dropping)?;
            stage.other(A.syn())
        })
        .sends(A.syn()),
        row(
            "a SYN over the half-open limit where it would be dropped if that were enforced",
            Reason::HalfOpenRefused,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                dropping(live, gauges);
                live.mode = Mode::Observe as u8;
            })?;
            stage.other(A.syn())
        })
        .sends(A.syn()),
        row(
            "a SYN over the half-open limit where cookies are meant and no listener is known",
            Reason::HalfOpenLimit,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                dropping(live, gauges);
                live.at_limit = AtLimit::Cookie as u8;
                live.defence = AT_LIMIT | CHECK;
            })?;
            stage.other(A.syn())
        })
        .sends(A.syn()),
        row(
            "a SYN for which the oldest half-open flow makes room",
            Reason::FlowOpened,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                dropping(live, gauges);
                live.at_limit = AtLimit::EvictOldest as u8;
                // The oldest is the one before.
                live.ring_slots = 1;
            })?;
            stage.other(A.syn())
        })
        .sends(A.syn())
        .leaves(SS, LI),
        row(
            "a SYN that finds the table full where those are dropped",
            Reason::TableRefused,
        )
        .capacity(2)
        .prepare(fill_and_drop)
        .sends(A.syn()),
        row(
            "a pick-up that finds the table full where those are dropped",
            Reason::TableRefused,
        )
        .capacity(2)
        .prepare(fill_and_drop)
        .sends(A.ack()),
    ]
}

/// Fills tables of two entries.
fn fill(stage: &mut Stage<'_>) -> Result<()> {
    stage.other(A.syn())?;
    stage.other(A.syn())
}

fn fill_and_drop(stage: &mut Stage<'_>) -> Result<()> {
    stage.set(&Live {
        defence: FULL_DROPS,
        ..enforcing()
    })?;
    fill(stage)
}

/// Gives the talk's `A` a host that no other talk has.
fn alone(stage: &mut Stage<'_>) {
    stage.talk.ends[0].host = 0x4000 + stage.talk.ends[0].port % 0x4000;
}

/// Half-open flows that count for the talk's listener and for the prefix of so
/// many bits that its `A` is in.
fn taken(stage: &Stage<'_>, bits: u8) -> Result<[u32; 2]> {
    let Talk { wrapping, ends, .. } = stage.talk;
    let shares = stage.bench.loaded.shares()?;
    let of = |place| {
        let share = shares.iter().find(|&&(other, _)| other == place);
        share.map_or(0, |&(_, count)| count as u32)
    };
    Ok([
        of(ends[1].listener(wrapping)),
        of(ends[0].source(wrapping, bits)),
    ])
}

/// Another talk's SYN to the same listener, after which that has as many as it
/// may.
fn listener_full(stage: &mut Stage<'_>, at_limit: AtLimit, defence: u8) -> Result<()> {
    alone(stage);
    let [taken, _] = taken(stage, 128)?;
    stage.set(&Live {
        at_limit: at_limit as u8,
        defence,
        listener_limit: taken + 1,
        ..answering()
    })?;
    stage.beside(
        A.syn(),
        |talk| talk.ends[0].host ^= 0x800,
        Reason::FlowOpened,
    )
}

/// The same for the prefix that the talk's `A` is in.
fn source_full(
    stage: &mut Stage<'_>,
    at_limit: AtLimit,
    defence: u8,
    bits: [u8; 2],
    neighbour: fn(&mut Talk),
) -> Result<()> {
    alone(stage);
    let [v4, v6] = bits;
    let bits_here = match stage.talk.wrapping.family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    let [_, taken] = taken(stage, bits_here)?;
    stage.set(&Live {
        at_limit: at_limit as u8,
        defence,
        source_limit: taken + 1,
        source_bits: bits,
        ..answering()
    })?;
    stage.beside(A.syn(), neighbour, Reason::FlowOpened)
}

/// Another port of the same host.
fn same_host(talk: &mut Talk) {
    talk.ends[0].port = 9;
}

/// Another host of the same /24.
fn same_net(talk: &mut Talk) {
    talk.ends[0].host ^= 1;
}

fn shares() -> Vec<Row> {
    const WHOLE: [u8; 2] = [32, 128];
    const WIDE: [u8; 2] = [24, 48];
    vec![
        row("a SYN over its listener's limit", Reason::ListenerLimit)
            .from(&FOREIGN)
            .prepare(|stage| listener_full(stage, AtLimit::Cookie, 0))
            .sends(A.syn()),
        row(
            "a SYN over its listener's limit where those are dropped",
            Reason::ListenerRefused,
        )
        .from(&FOREIGN)
        .prepare(|stage| listener_full(stage, AtLimit::Drop, 0))
        .sends(A.syn()),
        row(
            "a SYN to another listener than the full one",
            Reason::FlowOpened,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            listener_full(stage, AtLimit::Drop, 0)?;
            stage.talk.ends[1].port = 4433;
            // Its own has had other talks.
            let [taken, _] = taken(stage, 128)?;
            let mut live = stage.bench.loaded.live()?;
            live.listener_limit = live.listener_limit.max(taken + 1);
            stage.set(&live)
        })
        .sends(A.syn())
        .leaves(SS, LI),
        row("a SYN over its source's limit", Reason::SourceLimit)
            .from(&FOREIGN)
            .prepare(|stage| source_full(stage, AtLimit::Cookie, 0, WHOLE, same_host))
            .sends(A.syn()),
        row(
            "a SYN over its source's limit where those are dropped",
            Reason::SourceRefused,
        )
        .from(&FOREIGN)
        .prepare(|stage| source_full(stage, AtLimit::Drop, 0, WHOLE, same_host))
        .sends(A.syn()),
        row(
            "a SYN over its prefix's limit where those are dropped",
            Reason::SourceRefused,
        )
        .from(&FOREIGN)
        .prepare(|stage| source_full(stage, AtLimit::Drop, 0, WIDE, same_net))
        .sends(A.syn()),
        row(
            "a SYN of another host than that at its limit",
            Reason::FlowOpened,
        )
        .from(&FOREIGN)
        .prepare(|stage| source_full(stage, AtLimit::Drop, 0, WHOLE, same_net))
        .sends(A.syn())
        .leaves(SS, LI),
    ]
}

/// Connections of the host's own clients are nobody's attack.
fn local() -> Vec<Row> {
    vec![
        row(
            "a local client's SYN over the half-open limit",
            Reason::FlowOpened,
        )
        .from(&LOCAL)
        .prepare(|stage| {
            stage.configure(|live, _| {
                dropping(live, [0; _]);
                live.half_open_limit = 0;
            })?;
            stage.other(A.syn())
        })
        .sends(A.syn())
        .leaves(SS, LI),
        row(
            "a local client's SYN where its listener and it may have one",
            Reason::FlowOpened,
        )
        .from(&LOCAL)
        .prepare(|stage| {
            alone(stage);
            stage.set(&Live {
                at_limit: AtLimit::Drop as u8,
                listener_limit: 1,
                source_limit: 1,
                ..enforcing()
            })?;
            stage.beside(A.syn(), same_host, Reason::FlowOpened)
        })
        .sends(A.syn())
        .leaves(SS, LI),
        row(
            "a local client's SYN when such have filled the table",
            Reason::TableFull,
        )
        .from(&LOCAL)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                live.capacity = gauges[Gauge::Calling as usize] as u32 + 1;
            })?;
            stage.other(A.syn())
        })
        .sends(A.syn()),
        row(
            "a local client's SYN to a listener that answers with cookies",
            Reason::FlowOpened,
        )
        .from(&LOCAL)
        .prepare(|stage| learnt(stage, |_| {}))
        .sends(A.syn())
        .leaves(SS, LI),
        row(
            "a banned client's SYN where it is a local one",
            Reason::FlowOpened,
        )
        .from(&LOCAL)
        .prepare(|stage| ban(stage, 0, 0))
        .sends(A.syn())
        .leaves(SS, LI),
    ]
}

/// Puts the talk's `B` among the listeners, and has cookies sent.
fn learnt(stage: &mut Stage<'_>, change: fn(&mut Listener)) -> Result<()> {
    let now = Tick::from_ns(stage.bench.now_ns());
    let mut listener = Listener {
        seen: now,
        asked: now,
        stamped: now,
        window: 65_160,
        mss: 1460,
        scale: 7,
        options: Options::MSS | Options::SCALE,
        ..Listener::default()
    };
    change(&mut listener);
    let Talk { wrapping, ends, .. } = stage.talk;
    let place = ends[1].listener(wrapping);
    stage.bench.loaded.set_listener(&place, &listener)?;
    stage.set(&answering())
}

/// As if the socket of the talk's `B` had just been told that cookies are out.
fn told(stage: &Stage<'_>) -> Result<()> {
    let place = stage.talk.ends[1].listener(stage.talk.wrapping);
    let tables = &stage.bench.loaded;
    let mut listener = tables.listener(&place)?.context("a listener")?;
    listener.stamped = Tick::from_ns(stage.bench.now_ns());
    Ok(tables.set_listener(&place, &listener)?)
}

/// Has the talk's SYN answered with a cookie, which becomes `B`'s ISN.
fn cookie(stage: &mut Stage<'_>) -> Result<()> {
    learnt(stage, |_| {})?;
    take_cookie(stage)
}

fn take_cookie(stage: &mut Stage<'_>) -> Result<()> {
    let syn = stage.talk.frame(A.syn());
    let (reason, answer) = stage.bench.send_and_see(Origin::Wire, &syn.bytes())?;
    ensure!(reason == Reason::CookieSent, "{}", reason.as_str());
    let at = syn.tcp_at() + 4;
    let cookie = answer.get(at..at + 4).context("a short answer")?;
    stage.talk.isns[1] = u32::from_be_bytes(cookie.try_into()?);
    Ok(())
}

fn at_limits() -> Vec<Row> {
    let cookie = |name| row(name, Reason::CookieSent).from(&WIRE).sends(A.syn());
    vec![
        cookie("a SYN over the half-open limit to a learnt listener").prepare(|stage| {
            learnt(stage, |_| {})?;
            stage.configure(|live, gauges| {
                dropping(live, gauges);
                live.at_limit = AtLimit::Cookie as u8;
                live.defence = AT_LIMIT | CHECK;
            })?;
            stage.other(A.syn())
        }),
        cookie("a SYN over the limit of a learnt listener").prepare(|stage| {
            alone(stage);
            learnt(stage, |_| {})?;
            listener_full(stage, AtLimit::Cookie, AT_LIMIT | CHECK)
        }),
        cookie("a SYN over its source's limit to a learnt listener").prepare(|stage| {
            alone(stage);
            learnt(stage, |_| {})?;
            source_full(
                stage,
                AtLimit::Cookie,
                AT_LIMIT | CHECK,
                [32, 128],
                same_host,
            )
        }),
        row(
            "a SYN below every limit to a learnt listener",
            Reason::FlowOpened,
        )
        .from(&WIRE)
        .prepare(|stage| {
            learnt(stage, |_| {})?;
            stage.set(&Live {
                defence: AT_LIMIT | CHECK,
                ..answering()
            })
        })
        .sends(A.syn())
        .leaves(SS, LI),
    ]
}

fn answers() -> Vec<Row> {
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
        passes("a SYN behind extension headers where cookies are on")
            .fits(|wrapping| wrapping.family == Family::V6)
            .prepare(|stage| learnt(stage, |_| {}))
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(60, 8)];
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

fn refusals() -> Vec<Row> {
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

fn returns() -> Vec<Row> {
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

/// Bans the network of the talk's `A`, without its last so many bits, until then.
fn ban(stage: &mut Stage<'_>, host_bits: u32, until_ns: u64) -> Result<()> {
    alone(stage);
    let Talk { wrapping, ends, .. } = stage.talk;
    let length = match wrapping.family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let key = BanKey {
        prefix_len: 32 + length - host_bits,
        family: (wrapping.family as u32).to_ne_bytes(),
        address: ends[0].address(wrapping.family),
        reserved: 0,
    };
    let ban = Ban {
        until_ns,
        refused: 0,
    };
    stage.bench.loaded.set_ban(&key, &ban)?;
    stage.set(&Live {
        defence: BANS,
        ..enforcing()
    })
}

fn bans() -> Vec<Row> {
    let banned = |name| row(name, Reason::Banned).from(&WIRE);
    vec![
        banned("a SYN of a banned host")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.syn()),
        banned("a SYN from a banned network")
            .prepare(|stage| ban(stage, 8, 0))
            .sends(A.syn()),
        banned("a SYN of a host whose ban has not ended")
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now + 1)
            })
            .sends(A.syn()),
        banned("an ACK of a banned host, of no flow")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.ack()),
        banned("a SYN-ACK of a banned host, of no flow")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.syn_ack()),
        row("a SYN of a host whose ban has ended", Reason::FlowOpened)
            .from(&WIRE)
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now)
            })
            .sends(A.syn())
            .leaves(SS, LI),
        row("a banned host's segment of a flow", Reason::Tracked)
            .from(&WIRE)
            .prepare(|stage| {
                alone(stage);
                for segment in [A.syn(), B.syn_ack(), A.ack()] {
                    stage.play(segment, Class::Accept)?;
                }
                ban(stage, 0, 0)
            })
            .sends(A.ack().data(10))
            .leaves(ES, ES),
        row("a banned host's RST of no flow", Reason::StrayReset)
            .from(&WIRE)
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.bare_rst()),
    ]
}
