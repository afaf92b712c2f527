//! What the defence says: limits on half-open flows, SYN cookies, sources that
//! may not be answered, bans.
//!
//! Listeners are put into their map, as the agent may do it: there is no socket
//! behind them. The kernel makes and takes cookies without one; only to tell a
//! socket that cookies are out the program looks for it, which these entries say
//! is done.

mod bans;
mod cookies;

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{
        AtLimit, Family, Gauge, Listener, Live, Mode,
        defence_flags::{ANSWER, AT_LIMIT, CHECK, FULL_DROPS, OPTIONS},
    },
    reason::Reason,
    tcp::{
        Options,
        State::{Listen as LI, SynSent as SS},
    },
    time::Tick,
};
use tracker_tests::program::{
    bench::{Origin, live},
    talk::{A, Talk},
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
        cookies::answers(),
        cookies::refusals(),
        cookies::returns(),
        bans::bans(),
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
        .prepare(|stage| bans::ban(stage, 0, 0))
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
