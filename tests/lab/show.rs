//! The tracker in the lab, and its table on the screen.

use std::{
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracker_tests::{
    agent::{Options, Tracker},
    attached::Attached,
    topology::Topology,
    wait::wait_for,
};

/// How often the table is printed when there is no terminal.
const PRINT: Duration = Duration::from_secs(5);

/// A running tracker.
pub enum Shown<'a> {
    /// It has the terminal and shows the live table itself.
    OnTerminal(Terminal),
    /// Its table is printed from time to time.
    AsText {
        /// The tracker.
        tracker: Box<Tracker<'a>>,
        /// When to print next.
        next: Instant,
    },
}

impl<'a> Shown<'a> {
    /// Hands the terminal to a tracker, and waits until it can be asked.
    pub fn on_terminal(topology: &'a Topology, pin_dir: &Path) -> Result<Self> {
        let child = Options::on(topology)
            .pinned_at(pin_dir)
            .command()?
            .spawn()
            .context("starting tracker run")?;
        let mut shown = Self::OnTerminal(Terminal(child));
        // It does not say on the screen when it is ready. Traffic that began
        // before would be met in mid-life, and what had its handshake before
        // and is silent since would not be met at all.
        let ready = wait_for(Duration::from_secs(20), || match shown.ended() {
            Ok(false) => all_attached(topology),
            // Not worth waiting any longer; the loop of the lab says why.
            Ok(true) | Err(_) => Ok(()),
        });
        ready.map_err(|mismatch| anyhow!("tracker run does not get ready: {mismatch}"))?;
        Ok(shown)
    }

    /// Starts a tracker that logs.
    pub fn as_text(topology: &'a Topology, pin_dir: &Path) -> Result<Self> {
        let tracker = Box::new(Options::on(topology).pinned_at(pin_dir).start()?);
        Ok(Self::AsText {
            tracker,
            next: Instant::now() + PRINT,
        })
    }

    /// Prints the table when it is time to.
    pub fn refresh(&mut self) -> Result<()> {
        match self {
            Self::OnTerminal(_) => {}
            Self::AsText { tracker, next } => {
                if Instant::now() >= *next {
                    println!("\n{}", tracker.ask(&["list"])?.trim_end());
                    *next = Instant::now() + PRINT;
                }
            }
        }
        Ok(())
    }

    /// Whether the tracker has ended by itself, as it does when its user
    /// leaves the live table.
    pub fn ended(&mut self) -> Result<bool> {
        match self {
            Self::OnTerminal(Terminal(child)) => {
                let Some(status) = child.try_wait().context("looking at tracker run")? else {
                    return Ok(false);
                };
                ensure!(status.success(), "tracker run ended with {status}");
                Ok(true)
            }
            // It would have to fail to end, and asking it for its table says
            // so.
            Self::AsText { .. } => Ok(false),
        }
    }

    /// Ends the tracker in an orderly way, so that it removes its pins and
    /// gives the terminal back as it was.
    pub fn stop(self) -> Result<()> {
        match self {
            Self::OnTerminal(mut terminal) => terminal.stop(),
            Self::AsText { tracker, .. } => tracker.stop().map(drop),
        }
    }
}

/// Whether both hooks are on every interface that is to be tracked.
fn all_attached(topology: &Topology) -> Result<(), String> {
    let (netns, interfaces) = topology.tracked();
    for interface in interfaces {
        let attached = Attached::to(netns, interface).map_err(|error| format!("{error:#}"))?;
        if !attached.xdp || attached.tcx == 0 {
            return Err(format!("on {interface} there is {attached:?}"));
        }
    }
    Ok(())
}

/// A tracker that has the terminal. Killed on drop if it still runs.
pub struct Terminal(Child);

impl Terminal {
    fn stop(&mut self) -> Result<()> {
        if self
            .0
            .try_wait()
            .context("looking at tracker run")?
            .is_some()
        {
            return Ok(());
        }
        // Ctrl-C reaches the whole foreground group: it may be on its way out
        // already, and a second SIGINT must not cut that short.
        let pid = Pid::from_raw(self.0.id().try_into().context("process id")?);
        kill(pid, Signal::SIGTERM).context("ending tracker run")?;
        let ended = wait_for(Duration::from_secs(10), || match self.0.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        ensure!(ended.is_ok(), "tracker run does not end on SIGTERM");
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
