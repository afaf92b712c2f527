//! `policy`: what the first packet of a connection costs under how many rules.
//!
//! | module | concern |
//! |---|---|
//! | [`rules`] | the policies, for the tracker and for nftables |
//! | [`first`] | the ingress program alone, a packet at a time |
//! | [`through`] | a flood of SYNs through the tracker and through nftables |
//!
//! Each rule names a prefix and a port, in one of three arrangements: see [`Order`].

mod first;
mod rules;
mod through;

use std::{collections::BTreeMap, fs, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use self::{first::First, rules::Order, through::Through};
use crate::{machine::Machine, spread::Spread};

/// What to measure.
#[derive(Args)]
pub struct Arguments {
    /// Two short rounds.
    #[arg(long)]
    quick: bool,
    /// Rounds [default: 5, or 2 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Only the program alone, or only the flood.
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The ingress program, a packet at a time.
    First,
    /// The flood.
    Through,
}

/// Numbers of rules that are measured.
const RULES: [u32; 5] = [1, 10, 100, 1000, 10_000];

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    quick: bool,
    rounds: u32,
    /// Mean number of processes that were running or wanted to, over the minute
    /// before the start and at the end.
    load: [f64; 2],
    /// Nanoseconds of a first packet by the number of rules, the last of which
    /// decides.
    first_packet_ns: BTreeMap<u32, f64>,
    /// Time of a SYN through the tracker by that through nftables, likewise.
    nftables_ratio: BTreeMap<u32, f64>,
    /// What the policies take.
    policies: Vec<first::Size>,
    /// The program alone without any policy, ns.
    without: Option<Spread>,
    /// The program alone.
    first: Vec<first::Row>,
    /// The flood.
    through: Vec<through::Row>,
    /// Ratios, each beside what it is to be.
    targets: Vec<Target>,
    /// Of the whole run.
    seconds: f64,
}

/// A ratio, round by round, beside what it is to be.
#[derive(Serialize)]
struct Target {
    what: String,
    at_most: f64,
    ratio: Option<Spread>,
    /// Whether the median meets it; unknown if it was not measured.
    met: Option<bool>,
}

impl Target {
    fn new(what: String, at_most: f64, ratios: Vec<f64>) -> Self {
        let ratio = Spread::of(ratios);
        Self {
            what,
            at_most,
            ratio,
            met: ratio.map(|ratio| ratio.median <= at_most),
        }
    }
}

/// Runs the bench.
///
/// # Errors
///
/// The programs cannot be loaded, or the networks cannot be built.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let start = Instant::now();
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.quick { 2 } else { 5 });
    let before = load()?;
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    let mut first = First::default();
    if wants(Part::First) {
        first = first::run(rounds, arguments.quick)?;
    }
    let mut through = Through::default();
    if wants(Part::Through) {
        through = through::run(rounds, arguments.quick)?;
    }
    let targets = targets(&first, &through);
    Ok(Report {
        machine: Machine::this()?,
        quick: arguments.quick,
        rounds,
        load: [before, load()?],
        first_packet_ns: medians(RULES, |rules| first.ns(rules, Order::Last)),
        nftables_ratio: medians(RULES, |rules| through.ratios(rules, Order::Last)),
        policies: first.sizes.clone(),
        without: Spread::of(first.without.clone()),
        first: first.rows(),
        through: through.rows(),
        targets,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn medians(
    rules: impl IntoIterator<Item = u32>,
    values: impl Fn(u32) -> Vec<f64>,
) -> BTreeMap<u32, f64> {
    let median = |rules| Some((rules, Spread::of(values(rules))?.median));
    rules.into_iter().filter_map(median).collect()
}

fn targets(first: &First, through: &Through) -> Vec<Target> {
    let mut targets = Vec::new();
    for order in Order::ALL {
        let (most, ten) = (first.ns(10_000, order), first.ns(10, order));
        targets.push(Target::new(
            format!("first packet: 10,000 rules / 10 rules, {}", order.title()),
            3.0,
            most.iter()
                .zip(&ten)
                .map(|(most, ten)| most / ten)
                .collect(),
        ));
    }
    for order in Order::ALL {
        for rules in RULES {
            targets.push(Target::new(
                format!("SYN, {rules} rules: tracker / nftables, {}", order.title()),
                1.0,
                through.ratios(rules, order),
            ));
        }
    }
    targets
}

/// The load of the machine over the last minute.
fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let first = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    first.with_context(|| format!("no load in /proc/loadavg: {text:?}"))
}
