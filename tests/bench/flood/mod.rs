//! `flood`: what a flood costs whom, and what honest clients notice of it.
//!
//! ```text
//! client: generator (core 0), honest sockets (other cores) --eth0---eth0-- server: listener, behind
//!         Absorb: drops answers to made-up sources                         the defence under test
//! ```
//!
//! | module | concern |
//! |---|---|
//! | [`contestant`] | who defends the server, and how it is set up |
//! | [`honest`] | clients and servers that do what they should |
//! | [`counters`] | what the contestants count themselves |
//! | [`phase`] | one contestant's turn: the flood alone, then beside honest clients |
//! | [`summary`] | ratios over all rounds |

mod contestant;
mod counters;
mod honest;
mod phase;
mod summary;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tracker_tests::{flood::frame, topology::Family};

use self::{
    contestant::Contestant,
    phase::{Load, Turn},
    summary::Summary,
};
use crate::machine::Machine;

/// What to measure.
#[derive(Args)]
pub struct Arguments {
    /// Two short rounds, at full speed only.
    #[arg(long)]
    quick: bool,
    /// What the flood consists of.
    #[arg(long, value_enum, default_value = "syn")]
    kind: Kind,
    /// The flood's, and the honest clients', version of IP.
    #[arg(long, value_enum, default_value = "ipv4")]
    family: Ip,
    /// Frames a second of the paced flood.
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    rate: u32,
    /// Flood and honest clients share the single queue of the interface, rather
    /// than having one for the flood's core and one for the others.
    #[arg(long)]
    one_queue: bool,
    /// Frames of the flood that is measured alone [default: 1,000,000, or
    /// 400,000 with --quick].
    #[arg(long, value_name = "N")]
    frames: Option<u32>,
    /// Rounds [default: 5, or 2 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Contestants, by name; all of them by default. The sink always takes part.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Contestant>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Syn,
    Ack,
    Mixed,
}

impl From<Kind> for frame::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Syn => Self::Syn,
            Kind::Ack => Self::Ack,
            Kind::Mixed => Self::Mixed,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Ip {
    #[value(name = "ipv4")]
    V4,
    #[value(name = "ipv6")]
    V6,
}

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    settings: Settings,
    contestants: Vec<Account>,
    summary: Summary,
    /// Of the whole run.
    seconds: f64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Settings {
    /// Not a full run.
    pub quick: bool,
    /// What the flood consists of.
    pub kind: &'static str,
    /// Its version of IP.
    pub family: &'static str,
    /// Flood and honest packets shared a queue.
    pub one_queue: bool,
    /// Octets of a frame, from the Ethernet header on.
    pub frame_octets: usize,
    /// Rounds.
    pub rounds: u32,
    /// Frames of the flood that is measured alone.
    pub alone_frames: u32,
    /// Seconds of the flood at full speed beside honest clients.
    pub beside_seconds: f64,
    /// The same of the paced flood.
    pub paced_seconds: f64,
    /// Frames a second of the paced flood.
    pub rate: u32,
    /// Octets a second at which the bulk transfer is paced.
    pub bulk_pace: u64,
    /// Backlog of the honest listener.
    pub backlog: i32,
}

/// One contestant's rounds.
#[derive(Serialize)]
pub struct Account {
    name: &'static str,
    title: &'static str,
    /// Why there are no rounds, or not all.
    error: Option<String>,
    rounds: Vec<Turn>,
}

/// Runs the bench.
///
/// # Errors
///
/// The network cannot be built, or the sink fails. A contestant that fails is
/// reported instead.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let start = Instant::now();
    let machine = Machine::this()?;
    ensure!(
        machine.cores >= 2,
        "the flood takes a core and the honest clients need another; this machine has one"
    );
    let load = Load {
        kind: arguments.kind.into(),
        family: match arguments.family {
            Ip::V4 => Family::V4,
            Ip::V6 => Family::V6,
        },
        alone: arguments
            .frames
            .unwrap_or(if arguments.quick { 400_000 } else { 1_000_000 }),
        beside: Duration::from_millis(if arguments.quick { 1000 } else { 2500 }),
        rate: (!arguments.quick).then_some(arguments.rate),
        beside_paced: Duration::from_millis(1500),
        one_queue: arguments.one_queue,
        cores: machine.cores,
    };
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.quick { 2 } else { 5 });
    let mut accounts: Vec<Account> = Contestant::ALL
        .into_iter()
        .filter(|contestant| {
            *contestant == Contestant::Sink
                || arguments.only.is_empty()
                || arguments.only.contains(contestant)
        })
        .map(|contestant| Account {
            name: contestant.name(),
            title: contestant.title(),
            error: None,
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=rounds {
        for account in &mut accounts {
            if account.error.is_some() {
                continue;
            }
            eprint!("round {round} of {rounds}: {:<22} ", account.title);
            let turn = Contestant::named(account.name)
                .and_then(|contestant| phase::turn(contestant, &load));
            match turn {
                Ok(turn) => {
                    eprintln!("{turn}");
                    account.rounds.push(turn);
                }
                Err(error) => {
                    eprintln!("failed: {error:#}");
                    ensure!(
                        account.name != Contestant::Sink.name(),
                        "nothing can be measured without the sink: {error:#}"
                    );
                    account.error = Some(format!("{error:#}"));
                }
            }
        }
    }
    let summary = Summary::of(&accounts);
    Ok(Report {
        settings: Settings {
            quick: arguments.quick,
            kind: load.kind.as_str(),
            family: load.family.as_str(),
            one_queue: load.one_queue,
            frame_octets: load.frame_octets()?,
            rounds,
            alone_frames: load.alone,
            beside_seconds: load.beside.as_secs_f64(),
            paced_seconds: load.beside_paced.as_secs_f64(),
            rate: arguments.rate,
            bulk_pace: honest::BULK_PACE,
            backlog: honest::BACKLOG,
        },
        machine,
        contestants: accounts,
        summary,
        seconds: start.elapsed().as_secs_f64(),
    })
}
