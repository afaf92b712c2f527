//! The verbs of the command line, one file each.
//!
//! | module | what it holds |
//! |---|---|
//! | `run`, `unload`, `list`, `watch`, `stats`, `listeners`, `ban`, `policy`, `explain`, `flush`, `replay` | the verbs |
//! | `look` | one look at the pinned maps, which most verbs begin with |
//! | `live` | the live table of `watch` and `run` |
//! | `screen` | the terminal while a live table is on it |
//! | `log` | where log lines go meanwhile |

mod ban;
mod explain;
mod flush;
mod list;
mod listeners;
mod live;
mod log;
mod look;
mod policy;
mod replay;
mod run;
mod screen;
mod stats;
mod unload;
mod watch;

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use anyhow::Result;

use crate::cli::Command;

/// Does what `command` says; results go to stdout.
///
/// # Errors
///
/// When it fails; the message says what, where and what to do.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Unload(args) => unload::unload(&args, &mut out()),
        Command::List(args) => list::list(&args, &mut out(), colours()),
        Command::Watch(args) => watch::watch(&args),
        Command::Stats(args) => stats::stats(&args, &mut out()),
        Command::Listeners(args) => listeners::listeners(&args, &mut out()),
        Command::Ban(args) => ban::ban(&args, &mut out()),
        Command::Policy(args) => policy::policy(&args, &mut out()),
        Command::Explain(args) => explain::explain(&args, &mut out()),
        Command::Flush(args) => flush::flush(&args, &mut out()),
        Command::Replay(args) => replay::replay(&args, &mut out(), colours()),
    }
}

/// Whether `error` only says that nobody reads stdout any more, as after
/// `| head`.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Stdout in large pieces: line by line, a million flows were a million system
/// calls.
fn out() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Whether stdout takes colours: it is a terminal, and neither `NO_COLOR`
/// (<https://no-color.org>) nor a dumb terminal forbids them.
fn colours() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !forbidden && !dumb
}

/// "1 flow", "2 flows".
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Writes a line and flushes: an error of stdout is noticed.
fn say(out: &mut impl Write, line: &str) -> Result<()> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
