//! `tracker run`: the agent, and on a terminal the live table.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    live::{self, Ended},
    log::Log,
};
use crate::{
    agent,
    cli::RunArgs,
    config::{self, Config, File, System},
    datapath::Pinned,
};

/// Between two frames of the live table.
const REFRESH: Duration = Duration::from_secs(1);

/// Tracks until told to stop.
pub fn run(args: &RunArgs) -> Result<()> {
    let log = Log::install()?;
    let config = config::check(&read(args.config.as_deref())?, args, &System::read()?)?;
    let table = !args.no_table && has_terminal();
    let interfaces = config.interfaces.clone();
    let shutdown = CancellationToken::new();
    let viewer = Viewer {
        stop: Arc::new(AtomicBool::new(false)),
        log: log.clone(),
        shutdown: shutdown.clone(),
    };
    let stop = Arc::clone(&viewer.stop);
    let mut thread: Option<JoinHandle<()>> = None;

    // The verifier takes its time, and nothing can be seen meanwhile.
    tracing::info!("loading the programs for {}", interfaces.join(", "));
    let runtime = Runtime::new().context("cannot start the threads of the agent")?;
    let result = runtime.block_on(agent::run(
        config,
        || reload(args, &interfaces),
        |running| {
            if table {
                let pinned = Arc::clone(running.pinned());
                thread = Some(thread::spawn(move || viewer.show(&pinned)));
            }
        },
        shutdown,
    ));
    stop.store(true, Ordering::Relaxed);
    if let Some(Err(_)) = thread.map(JoinHandle::join) {
        log.release().context("cannot write to stderr")?;
        tracing::error!("the live table ended by a fault of this program");
    }
    result
}

/// The configuration file, or one without keys where none was named.
fn read(path: Option<&Path>) -> Result<File> {
    path.map_or_else(|| Ok(File::default()), config::load)
}

/// Reads the configuration again for an agent that tracks `interfaces`.
fn reload(args: &RunArgs, interfaces: &[String]) -> Result<Config> {
    let file = read(args.config.as_deref())?;
    let mut system = System::read()?;
    // Which interfaces are tracked is fixed: neither a new default route nor
    // one that has gone is an error.
    system.default_routes = interfaces.to_vec();
    system.interfaces.extend_from_slice(interfaces);
    config::check(&file, args, &system)
}

/// Whether a live table can be shown: both ends of the terminal are ours, and
/// this process may use it.
fn has_terminal() -> bool {
    let foreground = || tcgetpgrp(io::stdout()).is_ok_and(|group| group == getpgrp());
    io::stdin().is_terminal() && io::stdout().is_terminal() && foreground()
}

/// Shows the live table while the agent runs.
struct Viewer {
    stop: Arc<AtomicBool>,
    log: Log,
    shutdown: CancellationToken,
}

impl Viewer {
    /// Until the user leaves, which ends the agent, or the agent ends. Without
    /// the table the agent goes on and logs.
    fn show(self, pinned: &Arc<Pinned>) {
        self.log.hold();
        let pinned = || Ok(Arc::clone(pinned));
        let ended = live::show(pinned, REFRESH, &self.stop, || self.log.newest());
        if let Err(error) = self.log.release() {
            tracing::warn!("log lines are lost: {error}");
        }
        match ended {
            Ok(Ended::ByUser) => self.shutdown.cancel(),
            Ok(Ended::Stopped) => {}
            Err(error) if has_terminal() => {
                tracing::warn!("no live table: {error:#}; tracking goes on");
            }
            // Its window was closed, which ends a program that has one.
            Err(error) => {
                tracing::warn!("the terminal is gone: {error:#}");
                self.shutdown.cancel();
            }
        }
    }
}
