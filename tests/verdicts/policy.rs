//! What the policy says: rules with their answers and limits, segments of no flow
//! beside it, and flows that it has come to forbid.
//!
//! One policy has a rule for every row, by the responder's port; no row is about the
//! port that talks have otherwise.

use anyhow::Result;
use tracker::policy::{
    compile::Compiled,
    model::{Limits, Rule},
};
use tracker_common::{
    abi::{Live, Mode},
    policy::Action,
    reason::Reason,
    tcp::State::{Established as ES, Listen as LI, SynSent as SS},
};
use tracker_tests::{
    policies::{numbered, policy, rule},
    program::{
        bench::{Origin, live},
        talk::{A, B, Seg, Talk},
    },
};

use crate::{
    checked::about,
    row::{Row, Stage, row},
    segments::HANDSHAKE,
};

/// From where a packet may be somebody's attack.
const FOREIGN: [Origin; 2] = [Origin::Wire, Origin::Forwarded];
const ANYWHERE: [Origin; 4] = [
    Origin::Wire,
    Origin::Loopback,
    Origin::Host,
    Origin::Forwarded,
];

/// Responders' ports, each with a rule of its own.
mod port {
    pub const ALLOWED: u16 = 1000;
    pub const DROPPED: u16 = 1001;
    pub const RESET: u16 = 1002;
    pub const PROHIBITED: u16 = 1003;
    pub const RATE: u16 = 1004;
    pub const SOURCE_RATE: u16 = 1005;
    pub const FLOWS: u16 = 1006;
    pub const SOURCE_FLOWS: u16 = 1007;
    pub const PICKUP: u16 = 1008;
    pub const LIBERAL: u16 = 1009;
    pub const SHADOW: u16 = 1010;
    /// No rule names it.
    pub const OTHER: u16 = 1011;
}

/// Between two connections that a rate allows, ns; one at once.
const RATE: (u64, u64) = (1_000_000, 1);

fn compiled() -> Compiled {
    let to = |port: u16, action| Rule {
        to_ports: vec![(port, port)],
        ..rule(&format!("port {port}"), action)
    };
    let limited = |port, limits| Rule {
        limits,
        ..to(port, Action::Allow)
    };
    let none = Limits::default();
    let rules = vec![
        to(port::ALLOWED, Action::Allow),
        to(port::DROPPED, Action::Drop),
        to(port::RESET, Action::Reset),
        to(port::PROHIBITED, Action::Prohibit),
        limited(
            port::RATE,
            Limits {
                rate: Some(RATE),
                ..none
            },
        ),
        limited(
            port::SOURCE_RATE,
            Limits {
                source_rate: Some(RATE),
                ..none
            },
        ),
        limited(port::FLOWS, Limits { flows: 1, ..none }),
        limited(
            port::SOURCE_FLOWS,
            Limits {
                source_flows: 1,
                ..none
            },
        ),
        Rule {
            pickup: Some(true),
            ..to(port::PICKUP, Action::Allow)
        },
        Rule {
            liberal: true,
            ..to(port::LIBERAL, Action::Allow)
        },
        Rule {
            shadow: true,
            name: "a shadow".to_owned(),
            ..to(port::SHADOW, Action::Drop)
        },
        to(port::SHADOW, Action::Allow),
    ];
    numbered(&policy(rules, vec![]), 1)
}

/// Has the talk go to `port`, under the policy.
fn at(stage: &mut Stage<'_>, port: u16, mode: Mode) -> Result<()> {
    stage.talk.ends[1].port = port;
    let policy_slot = stage.bench.policy(compiled)?;
    stage.set(&Live {
        policy_slot,
        mode: mode as u8,
        pickup: 0,
        ..live()
    })
}

fn enforced(stage: &mut Stage<'_>, port: u16) -> Result<()> {
    at(stage, port, Mode::Enforce)
}

/// Opens a flow beside the talk's, from another port of the same host, behind which a
/// limit is reached.
fn reaches(stage: &mut Stage<'_>, port: u16) -> Result<()> {
    enforced(stage, port)?;
    // What earlier runs hold, and when they came.
    stage.bench.flush()?;
    stage.bench.wait_ms(10)?;
    let neighbour = |talk: &mut Talk| talk.ends[0].port -= 9_000;
    stage.beside(A.syn(), neighbour, Reason::FlowOpened)
}

/// Opens the talk's flow before there is a policy, which then comes into force and is
/// to judge it again.
fn opened_before(stage: &mut Stage<'_>, port: u16) -> Result<()> {
    stage.talk.ends[1].port = port;
    for segment in HANDSHAKE {
        stage.play(segment, tracker_common::reason::Class::Accept)?;
    }
    let policy_slot = stage.bench.policy(compiled)?;
    stage.set(&Live {
        policy_slot,
        policy: 2,
        mode: Mode::Enforce as u8,
        ..live()
    })
}

pub fn rows() -> Vec<Row> {
    [actions(), limits(), strays(), again()].concat()
}

fn actions() -> Vec<Row> {
    let dropped = |name| row(name, Reason::PolicyDropped).sends(A.syn());
    let reset = |name| row(name, Reason::PolicyReset).sends(A.syn());
    let prohibited = |name| row(name, Reason::PolicyProhibited).sends(A.syn());
    vec![
        row("a SYN that a rule allows", Reason::FlowOpened)
            .from(&ANYWHERE)
            .prepare(|stage| enforced(stage, port::ALLOWED))
            .sends(A.syn())
            .leaves(SS, LI),
        row(
            "a SYN that a rule behind a shadow allows",
            Reason::FlowOpened,
        )
        .prepare(|stage| enforced(stage, port::SHADOW))
        .sends(A.syn())
        .leaves(SS, LI),
        dropped("a SYN that a rule drops")
            .from(&ANYWHERE)
            .prepare(|stage| enforced(stage, port::DROPPED)),
        dropped("a SYN that no rule allows")
            .from(&ANYWHERE)
            .prepare(|stage| enforced(stage, port::OTHER)),
        dropped("a SYN that a rule drops where nothing is enforced")
            .from(&ANYWHERE)
            .prepare(|stage| at(stage, port::DROPPED, Mode::Observe))
            .leaves(SS, LI),
        reset("a SYN that a rule rejects")
            .from(&ANYWHERE)
            .prepare(|stage| enforced(stage, port::RESET)),
        reset("a SYN that a rule rejects where nothing is enforced")
            .prepare(|stage| at(stage, port::RESET, Mode::Observe))
            .leaves(SS, LI),
        prohibited("a SYN that a rule prohibits")
            .prepare(|stage| enforced(stage, port::PROHIBITED)),
        row(
            "our answer to a SYN of this host that a rule rejects",
            Reason::OwnRejection,
        )
        .from(&[Origin::Host])
        .prepare(|stage| {
            enforced(stage, port::RESET)?;
            // Of refusals a thousand are kept in a second.
            stage.bench.wait_ms(10)?;
            stage.beside(A.syn(), |_| {}, Reason::PolicyReset)
        })
        .sends(B.rst()),
    ]
}

fn limits() -> Vec<Row> {
    vec![
        row("a connection too soon for its rule", Reason::RuleRate)
            .prepare(|stage| reaches(stage, port::RATE))
            .sends(A.syn()),
        row(
            "a connection too soon for its source",
            Reason::RuleSourceRate,
        )
        .prepare(|stage| reaches(stage, port::SOURCE_RATE))
        .sends(A.syn()),
        row("a connection too many for its rule", Reason::RuleFlows)
            .prepare(|stage| reaches(stage, port::FLOWS))
            .sends(A.syn()),
        row(
            "a connection too many for its source",
            Reason::RuleSourceFlows,
        )
        .prepare(|stage| reaches(stage, port::SOURCE_FLOWS))
        .sends(A.syn()),
    ]
}

/// Segments of no flow, and ICMP errors about them.
fn strays() -> Vec<Row> {
    let stray = |name, reason, segment: Seg| {
        row(name, reason)
            .from(&FOREIGN)
            .prepare(|stage| enforced(stage, port::ALLOWED))
            .sends(segment)
    };
    vec![
        stray(
            "an ACK to a port that a rule allows",
            Reason::StrayAck,
            A.ack(),
        ),
        stray(
            "a FIN to a port that a rule allows",
            Reason::StrayFin,
            A.fin(),
        ),
        stray(
            "an RST to a port that a rule allows",
            Reason::StrayReset,
            A.bare_rst(),
        ),
        stray(
            "a SYN-ACK to a port that a rule allows",
            Reason::StraySynAck,
            A.syn_ack(),
        ),
        row("data that a rule picks up", Reason::FlowPickedUp)
            .from(&FOREIGN)
            .prepare(|stage| enforced(stage, port::PICKUP))
            .sends(A.ack().data(10))
            .leaves(ES, ES),
        row(
            "an ICMP error about a segment of no flow, under a closed policy",
            Reason::IcmpStray,
        )
        .from(&FOREIGN)
        .prepare(|stage| enforced(stage, port::ALLOWED))
        .raw(|stage| about(stage, B.ack())),
    ]
}

/// Flows that are older than the policy, and one that a rule exempts.
fn again() -> Vec<Row> {
    vec![
        row("data of a flow that a new policy allows", Reason::Tracked)
            .prepare(|stage| opened_before(stage, port::ALLOWED))
            .sends(A.ack().data(10))
            .leaves(ES, ES),
        row(
            "data of a flow that a new policy forbids",
            Reason::PolicyRevoked,
        )
        .prepare(|stage| opened_before(stage, port::DROPPED))
        .sends(A.ack().data(10))
        .removes(),
        row("data beyond the window of a liberal rule", Reason::Liberal)
            .prepare(|stage| {
                enforced(stage, port::LIBERAL)?;
                for segment in HANDSHAKE {
                    stage.play(segment, tracker_common::reason::Class::Accept)?;
                }
                Ok(())
            })
            .sends(A.ack().seq(500_000).data(10))
            .leaves(ES, ES),
    ]
}
