//! Project commands, run as `cargo xtask COMMAND`.
//!
//! They hold what cargo itself cannot express: installing the eBPF tools once,
//! starting programs as root, running tests that need root, and linting in the
//! two passes that an eBPF crate in a workspace asks for.

mod bench;
mod cargo;
mod judge;
mod lint;
mod paths;
mod privilege;
mod process;
mod run;
mod setup;
mod test;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Purpose;

/// Project commands of tracker.
///
/// Each of them sets up what it needs first: it says what it installs and why,
/// installs it once, and goes straight on the next time. Nothing here has to be
/// run as root; what needs root goes through sudo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building the eBPF programs needs, and record it.
    ///
    /// A compiler with the source of `core` (rustup's nightly with rust-src, or
    /// Debian's rustc-web) and a bpf-linker whose LLVM is not older than the
    /// compiler's. Environment: TRACKER_EBPF_TOOLCHAIN=auto|rustup|debian chooses
    /// where the compiler comes from, TRACKER_TOOLCHAIN_FILE where the record is.
    Setup {
        /// Choose again even if the recorded tools are in order.
        #[arg(long)]
        again: bool,
    },
    /// Build tracker and run `tracker run ARGS` as root.
    Run {
        /// Run on real connections between network namespaces made for it, and
        /// show every state live; ARGS go to the lab.
        #[arg(long)]
        lab: bool,
        /// Arguments of `tracker run`, or of the lab.
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run all tests: without root first, then those that load the programs.
    ///
    /// The last line is `N passed, N failed`.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
        /// Arguments for the test programs, such as `--nocapture`.
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run all judges of correctness in full, and write docs/correctness.md.
    ///
    /// The kernel's TCP, nf_conntrack, captures that others made, RFC 9293 as a
    /// model, the brain beside the loaded program, the fuzzer and its corpus. All
    /// of them take hours. Numbers are kept in docs/correctness.json, so judges can
    /// run one by one. Captures are looked for in the folder that the environment
    /// variable TRACKER_CAPTURES names. The exit status is 1 if a judge finds
    /// something.
    Judge {
        /// Judges to run, by name; all but `mutants` if none is named.
        names: Vec<String>,
        /// The short forms, as in `cargo xtask test`; their numbers are shown and
        /// not kept.
        #[arg(long)]
        quick: bool,
        /// cargo-mutants on the brain, too, which takes hours more.
        #[arg(long)]
        mutants: bool,
        /// Run nothing: write the page anew from the numbers that are kept, after a
        /// change of docs/correctness.template.md.
        #[arg(long, conflicts_with_all = ["names", "quick", "mutants"])]
        page: bool,
    },
    /// Measure, beside floors and peers of the same run, and write docs/bench.md.
    ///
    /// Without a name it says which benches there are. Everything takes place in
    /// network namespaces made for it.
    Bench {
        /// The bench.
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Write the result to this file, too, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// A short run, whose figures are shown and not kept.
        #[arg(long)]
        quick: bool,
        /// Run nothing: write the page anew from docs/bench.json.
        #[arg(long, conflicts_with_all = ["name", "json", "quick", "args"])]
        page: bool,
        /// Arguments of the bench, such as `--kind ack`; the figures are shown and
        /// not kept.
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Check formatting, clippy and documentation, warnings refused.
    Lint,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { again } => setup::command(again),
        Command::Run { lab: false, args } => run::agent(&args),
        Command::Run { lab: true, args } => run::lab(&args),
        Command::Test { filter, args } => test::command(filter.as_deref(), &args),
        Command::Judge { page: true, .. } => judge::page(),
        Command::Judge {
            names,
            quick,
            mutants,
            page: false,
        } => judge::command(&judge::Wanted {
            names,
            quick,
            mutants,
        }),
        Command::Bench {
            name,
            json,
            quick,
            page,
            args,
        } => bench::command(&bench::Wanted {
            name,
            json,
            quick,
            page,
            args,
        }),
        Command::Lint => lint::command(&setup::ensure(Purpose::Build)?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_agent_follow_two_dashes() {
        let cli = Cli::try_parse_from(["xtask", "run", "--", "-i", "eth0"]).expect("parses");
        let Command::Run { lab, args } = cli.command else {
            panic!("`run` parsed as another command");
        };
        assert!(!lab);
        assert_eq!(args, ["-i", "eth0"]);
        assert!(Cli::try_parse_from(["xtask", "run", "-i", "eth0"]).is_err());
    }
}
