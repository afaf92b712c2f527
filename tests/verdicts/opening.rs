//! Packets of no flow: what opens one, what may not, and what is in the way.

use anyhow::Result;
use tracker_common::{
    abi::{Flow, Gauge},
    reason::Reason,
    tcp::{
        Flags,
        State::{
            Established as ES, FinWait1 as F1, Listen as LI, SynReceived as SR, SynSent as SS,
        },
    },
};
use tracker_tests::program::{
    bench::Origin,
    frame::Fragment,
    talk::{A, B, STAMP},
};

use crate::row::{Row, Stage, row};

/// From where a stray packet may be somebody's attack.
const FOREIGN: [Origin; 2] = [Origin::Wire, Origin::Forwarded];
/// From where it is this host's own.
const LOCAL: [Origin; 2] = [Origin::Host, Origin::Loopback];
const ANYWHERE: [Origin; 4] = [
    Origin::Wire,
    Origin::Loopback,
    Origin::Host,
    Origin::Forwarded,
];

pub fn rows() -> Vec<Row> {
    [openers(), strays(), reopeners(), obstacles()].concat()
}

fn openers() -> Vec<Row> {
    vec![
        row("a SYN opens a flow", Reason::FlowOpened)
            .from(&ANYWHERE)
            .sends(A.syn())
            .leaves(SS, LI),
        row("a SYN with Fast Open data opens a flow", Reason::FlowOpened)
            .sends(A.syn().data(100))
            .leaves(SS, LI),
        row("a SYN with ECN bits opens a flow", Reason::FlowOpened)
            .sends(A.syn().flags(Flags::SYN | Flags::ECE | Flags::CWR))
            .leaves(SS, LI),
        row(
            "a SYN behind eight extension headers or IP options opens a flow",
            Reason::FlowOpened,
        )
        .raw(|stage| {
            let mut frame = stage.syn();
            frame.ip_options = 40;
            frame.extensions = vec![
                (0, 8),
                (60, 16),
                (43, 24),
                (51, 24),
                (135, 8),
                (139, 8),
                (140, 8),
                (60, 2048 - 8),
            ];
            frame.bytes()
        })
        .leaves(SS, LI),
        row("a SYN with broken options opens a flow", Reason::FlowOpened)
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.options = vec![2, 4, 5, 0xb4, 8, 1, 0, 0];
                frame.bytes()
            })
            .leaves(SS, LI),
        row(
            "a SYN in a frame with padding opens a flow",
            Reason::FlowOpened,
        )
        .raw(|stage| [stage.syn().bytes(), vec![0; 6]].concat())
        .leaves(SS, LI),
        row(
            "an IPv6 packet with a fragment header alone opens a flow",
            Reason::FlowOpened,
        )
        .raw(|stage| {
            let mut frame = stage.syn();
            frame.fragment = Some(Fragment {
                offset: 0,
                more: false,
            });
            frame.bytes()
        })
        .leaves(SS, LI),
        row(
            "an ACK of an unknown connection is picked up",
            Reason::FlowPickedUp,
        )
        .from(&ANYWHERE)
        .sends(A.ack().seq(5000).acks(9000))
        .leaves(ES, ES),
        row(
            "data of an unknown connection is picked up",
            Reason::FlowPickedUp,
        )
        .from(&ANYWHERE)
        .sends(B.ack().seq(5000).acks(9000).data(1000))
        .leaves(ES, ES),
        // The side with the higher port is taken for the initiator: `A`.
        row(
            "a FIN of an unknown connection is picked up",
            Reason::FlowPickedUp,
        )
        .from(&ANYWHERE)
        .sends(A.fin())
        .leaves(F1, ES),
    ]
}

fn strays() -> Vec<Row> {
    let stray = |name, reason| row(name, reason).from(&FOREIGN);
    let local = |name| row(name, Reason::LocalStray).from(&LOCAL);
    vec![
        stray("a SYN-ACK of no flow", Reason::StraySynAck).sends(A.syn_ack()),
        stray(
            "an ACK of no flow where none is picked up",
            Reason::StrayAck,
        )
        .prepare(no_pickup)
        .sends(A.ack()),
        stray("data of no flow where none are picked up", Reason::StrayAck)
            .prepare(no_pickup)
            .sends(A.ack().data(100)),
        stray("a FIN of no flow where none is picked up", Reason::StrayFin)
            .prepare(no_pickup)
            .sends(A.fin()),
        stray("an RST of no flow", Reason::StrayReset).sends(A.bare_rst()),
        stray("an RST with ACK of no flow", Reason::StrayReset).sends(A.rst()),
        local("this host's RST of no flow").sends(A.rst()),
        local("this host's SYN-ACK of no flow").sends(A.syn_ack()),
        local("this host's ACK of no flow where none is picked up")
            .prepare(no_pickup)
            .sends(A.ack()),
        local("this host's FIN of no flow where none is picked up")
            .prepare(no_pickup)
            .sends(A.fin()),
    ]
}

fn reopeners() -> Vec<Row> {
    let reopened = |name| row(name, Reason::FlowReopened);
    vec![
        reopened("a SYN after an RST opens anew")
            .after([A.syn(), B.rst()])
            .sends(A.syn().seq(7))
            .leaves(SS, LI),
        reopened("a SYN with a higher number ends TIME_WAIT (RFC 1122 4.2.2.13)")
            .after([A.syn(), B.syn_ack(), A.ack(), A.fin(), B.fin().acks(2)])
            .after([A.ack().seq(2).acks(2)])
            .sends(A.syn().seq(3))
            .leaves(SS, LI),
        reopened("so does the responder's")
            .after([A.syn(), B.syn_ack(), A.ack(), A.fin(), B.fin().acks(2)])
            .after([A.ack().seq(2).acks(2)])
            .sends(B.syn().seq(3))
            .leaves(SS, LI),
        reopened("a SYN with a newer timestamp ends TIME_WAIT (RFC 6191)")
            .after([
                A.syn().stamp(STAMP),
                B.syn_ack().stamp(STAMP),
                A.ack().stamp(STAMP),
            ])
            .after([
                A.fin().stamp(STAMP),
                B.fin().acks(2),
                A.ack().seq(2).acks(2),
            ])
            .sends(A.syn().seq(0xc000_0000).stamp(STAMP + 1))
            .leaves(SS, LI),
        reopened("a SYN takes over an expired handshake")
            .after([A.syn()])
            .prepare(|stage| stage.bench.wait_ms(121_000))
            .sends(A.syn())
            .leaves(SS, LI),
        row(
            "an ACK of an expired flow is picked up",
            Reason::FlowPickedUp,
        )
        .after([A.syn(), B.syn_ack(), A.ack()])
        .prepare(|stage| stage.bench.wait_ms(432_001_000))
        .sends(A.ack())
        .leaves(ES, ES),
        row("an RST of an expired flow is a stray", Reason::StrayReset)
            .from(&[Origin::Wire])
            .after([A.syn(), B.syn_ack(), A.ack()])
            .prepare(|stage| stage.bench.wait_ms(432_001_000))
            .sends(A.bare_rst())
            .removes(),
        row("a SYN-ACK at the last moment is in time", Reason::Tracked)
            .after([A.syn()])
            .prepare(|stage| stage.bench.wait_ms(119_000))
            .sends(B.syn_ack())
            .leaves(SS, SR),
    ]
}

fn obstacles() -> Vec<Row> {
    vec![
        // The host's own clients have no such limit: `defence` has their rows.
        row("a SYN over the half-open limit", Reason::HalfOpenLimit)
            .from(&FOREIGN)
            .prepare(|stage| {
                stage.configure(|live, gauges| {
                    live.half_open_limit = gauges[Gauge::HalfOpen as usize] as u32 + 1;
                })?;
                stage.other(A.syn())
            })
            .sends(A.syn()),
        row("a pick-up over its limit", Reason::PickupLimit)
            .prepare(|stage| {
                stage.configure(|live, gauges| {
                    live.pickup_limit = gauges[Gauge::Pickup as usize] as u32 + 1;
                })?;
                stage.other(A.ack())
            })
            .sends(A.ack()),
        row(
            "an answered SYN frees its place under the limit",
            Reason::FlowOpened,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                live.half_open_limit = gauges[Gauge::HalfOpen as usize] as u32 + 1;
            })?;
            stage.other(A.syn())?;
            stage.same(B.syn_ack())?;
            stage.same(A.ack())
        })
        .sends(A.syn())
        .leaves(SS, LI),
        row(
            "a connection whose SYN was over the limit, when it proves itself",
            Reason::FlowPickedUp,
        )
        .from(&FOREIGN)
        .prepare(|stage| {
            stage.configure(|live, gauges| {
                live.half_open_limit = gauges[Gauge::HalfOpen as usize] as u32 + 1;
            })?;
            stage.other(A.syn())?;
            stage.same(A.syn())?;
            stage.same(B.syn_ack())
        })
        .sends(A.ack())
        .leaves(ES, ES),
        row("a SYN that finds the table full", Reason::TableFull)
            .capacity(2)
            .prepare(fill)
            .sends(A.syn()),
        row("a pick-up that finds the table full", Reason::TableFull)
            .capacity(2)
            .prepare(fill)
            .sends(A.ack()),
        row(
            "a SYN that finds the table full but replaces its own flow",
            Reason::FlowReopened,
        )
        .capacity(2)
        .after([A.syn(), B.rst()])
        .prepare(|stage| stage.other(A.syn()))
        .sends(A.syn().seq(9))
        .leaves(SS, LI),
        row(
            "a flow that another CPU is still filling",
            Reason::Contended,
        )
        .prepare(|stage| {
            let Stage { bench, talk, .. } = stage;
            bench
                .loaded
                .put_flow(talk.wrapping.family, &talk.key(), &Flow::default())
        })
        .sends(A.syn()),
        row(
            "an ACK for a flow that another CPU is removing",
            Reason::Contended,
        )
        .after([A.syn(), B.syn_ack()])
        .prepare(|stage| {
            let Stage { bench, talk, .. } = stage;
            let (family, key) = (talk.wrapping.family, talk.key());
            let mut flow = bench.flow(family, &key)?.expect("the flow just opened");
            flow.retire();
            bench.loaded.put_flow(family, &key, &flow)
        })
        .sends(A.ack()),
    ]
}

/// No connection is older than the tracker's knowledge of it.
fn no_pickup(stage: &mut Stage<'_>) -> Result<()> {
    stage.configure(|live, _| live.pickup = 0)
}

/// Fills tables of two entries.
fn fill(stage: &mut Stage<'_>) -> Result<()> {
    stage.other(A.syn())?;
    stage.other(A.syn())
}
