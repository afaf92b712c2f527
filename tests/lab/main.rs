//! A small network with every TCP state in it, for the tracker to be watched
//! on: what `cargo xtask run --lab` runs.
//!
//! A client, a router and a server in network namespaces, real sockets, and
//! nftables drops inside the end namespaces that hold the passing states
//! still. On a terminal the tracker gets it and shows its live table; else the
//! table is printed from time to time.

mod show;
mod traffic;

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use tracker_tests::topology::{Placement, Topology};

use crate::{show::Shown, traffic::Traffic};

/// A small network with every TCP state in it, and the tracker on it.
#[derive(Parser)]
struct Arguments {
    /// Where the tracker sits: on the router between client and server, or on
    /// the server.
    #[arg(long, value_enum, default_value = "gateway")]
    role: Role,
    /// Stop by itself after so many seconds [default: at Ctrl-C].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Where the tracker pins its maps.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/tracker-lab")]
    pin_dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Host,
    Gateway,
}

const WELCOME: &str = "\
A client, a server, and the tracker in between. Within seconds the table shows:
  ESTABLISHED   short requests all the time, and one long slow download
  SYN_SENT      a SYN that nobody answers (the other end: LISTEN)
  SYN_RECEIVED  a SYN-ACK that gets lost
  FIN_WAIT_2    a half-closed connection (the other end: CLOSE_WAIT), from either side
  FIN_WAIT_1    a FIN that gets lost; CLOSING and LAST_ACK likewise
  TIME_WAIT     an orderly end; CLOSED after a refusal or a reset
What gets lost is dropped in the receiver's namespace, behind the tracker.";

/// How long the welcome stands before the live table takes the screen.
const TO_READ: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    match lab(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lab(arguments: &Arguments) -> Result<()> {
    // Blocked before the first thread exists, so that every thread inherits it
    // and a signal does nothing but wake the loop below: all that was made is
    // then removed by the drops on the way out.
    let signals = Signals::take_over()?;

    let placement = match arguments.role {
        Role::Host => Placement::Server,
        Role::Gateway => Placement::Gateway,
    };
    let topology = Topology::new(placement).context("building the network")?;
    println!("{WELCOME}");
    println!(
        "Elsewhere: tracker list --pin-dir {}{}",
        arguments.pin_dir.display(),
        if arguments.seconds.is_none() {
            "   (Ctrl-C ends the lab)"
        } else {
            ""
        }
    );

    let mut shown = if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        // The table takes the whole screen: time to read the lines above.
        if signals.wait(TO_READ)? {
            return Ok(());
        }
        Shown::on_terminal(&topology, &arguments.pin_dir)?
    } else {
        Shown::as_text(&topology, &arguments.pin_dir)?
    };
    let end = arguments
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let late = || end.is_some_and(|end| Instant::now() >= end);

    std::thread::scope(|scope| {
        let traffic = Traffic::start(scope, &topology);
        let result = (|| {
            while !late() && !signals.wait(Duration::from_millis(200))? && !shown.ended()? {
                shown.refresh()?;
            }
            Ok(())
        })();
        // The tracker leaves first, or it would show how the network is torn
        // down.
        let stopped = shown.stop();
        drop(traffic);
        result.and(stopped)
    })
}

/// SIGINT, SIGTERM and SIGHUP, turned from a sudden end into something to ask
/// for.
struct Signals(SignalFd);

impl Signals {
    fn take_over() -> Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        set.thread_block().context("blocking signals")?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Self(signals.context("making a signalfd")?))
    }

    /// Whether one comes within `timeout`.
    fn wait(&self, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        loop {
            if self
                .0
                .read_signal()
                .context("reading a signalfd")?
                .is_some()
            {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
