//! Benches of the tracker that need namespaces and root: what `cargo xtask
//! bench NAME` runs. Prints what it does on stderr, and one JSON object on
//! stdout.

mod flood;
mod long;
mod machine;
mod policy;
mod spread;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Benches of the tracker.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What a flood costs, and what honest clients notice of it.
    Flood(flood::Arguments),
    /// Whether a long flood's packets are all counted, and what it took given back.
    LongFlood(long::Arguments),
    /// What the first packet of a connection costs under how many rules.
    Policy(policy::Arguments),
}

fn main() -> ExitCode {
    match bench(&Arguments::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(bench: &Bench) -> Result<()> {
    let result = match bench {
        Bench::Flood(arguments) => serde_json::to_value(flood::run(arguments)?),
        Bench::LongFlood(arguments) => serde_json::to_value(long::run(arguments)?),
        Bench::Policy(arguments) => serde_json::to_value(policy::run(arguments)?),
    }
    .context("writing the result as JSON")?;
    println!("{result:#}");
    Ok(())
}
