//! Where log lines go: to stderr, except while a live table has the terminal.
//! Then they are held back; the newest stands below the table, and all are
//! printed when the terminal is free again.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Result, anyhow};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Says how much is logged, as tracing-subscriber's `EnvFilter` reads it.
const LEVEL: &str = "TRACKER_LOG";

/// What only the developers of these crates want at the level of ours: they log
/// each relocation. `TRACKER_LOG=debug,aya_obj=debug` overrules it.
const QUIET: &str = "aya=warn,aya_obj=warn";

/// Lines that are held back at most; of more, the oldest are dropped.
const HELD: usize = 1000;

/// The log. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    holding: bool,
    held: VecDeque<Vec<u8>>,
    dropped: usize,
}

impl Log {
    /// Sends what the program logs here.
    ///
    /// # Errors
    ///
    /// When `TRACKER_LOG` is not understood.
    pub fn install() -> Result<Self> {
        let log = Self::default();
        let filter = filter(&std::env::var(LEVEL).unwrap_or_default())?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            // The newest line also stands below the table, which would have to
            // cut escape sequences.
            .with_ansi(false)
            .with_writer(log.clone())
            .try_init()
            .map_err(|error| anyhow!("cannot begin to log: {error}"))?;
        Ok(log)
    }

    /// Holds lines back from here on, where they would go to a terminal.
    pub fn hold(&self) {
        self.state().holding = io::stderr().is_terminal();
    }

    /// Prints what was held back, and all further lines at once.
    ///
    /// # Errors
    ///
    /// When stderr fails.
    pub fn release(&self) -> io::Result<()> {
        let mut state = self.state();
        state.holding = false;
        let mut stderr = io::stderr().lock();
        if state.dropped > 0 {
            writeln!(stderr, "({} older lines were dropped)", state.dropped)?;
            state.dropped = 0;
        }
        for line in state.held.drain(..) {
            stderr.write_all(&line)?;
        }
        stderr.flush()
    }

    /// The newest line that was held back; of several lines in one, the first.
    #[must_use]
    pub fn newest(&self) -> Option<String> {
        let state = self.state();
        let newest = String::from_utf8_lossy(state.held.back()?);
        newest.lines().next().map(str::to_owned)
    }

    /// Lines are added whole, so a thread that panicked left nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is logged where `wanted` was asked for: from info on, if that is nothing.
fn filter(wanted: &str) -> Result<EnvFilter> {
    let ours = if wanted.is_empty() { "info" } else { wanted };
    EnvFilter::builder()
        .parse(format!("{QUIET},{ours}"))
        // Its source says the same again.
        .map_err(|error| anyhow!("{LEVEL} is `{wanted}`, which names no level: {error}"))
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line; the subscriber writes each with one call.
#[derive(Debug)]
pub struct Line<'a>(&'a Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.holding {
            if state.held.len() >= HELD {
                state.held.pop_front();
                state.dropped += 1;
            }
            state.held.push_back(line.to_vec());
        } else {
            // Where stderr is gone there is nobody left to tell, and an error here
            // makes the subscriber panic on telling it, in the middle of the
            // agent's cleaning up.
            match io::stderr().write_all(line) {
                Ok(()) | Err(_) => {}
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn held_lines_are_bounded_and_the_newest_is_known() {
        let log = Log::default();
        log.state().holding = true;
        for number in 0..HELD + 5 {
            log.make_writer()
                .write_all(format!("line {number}\n").as_bytes())
                .unwrap();
        }
        assert_eq!(log.newest().as_deref(), Some("line 1004"));
        let state = log.state();
        assert_eq!((state.held.len(), state.dropped), (HELD, 5));
    }

    #[test]
    fn the_level_is_info_unless_asked_for() {
        let level = |wanted| filter(wanted).unwrap().max_level_hint();
        assert_eq!(level(""), Some(LevelFilter::INFO));
        assert_eq!(level("error"), Some(LevelFilter::WARN));
        assert_eq!(level("debug"), Some(LevelFilter::DEBUG));
        assert!(filter("tracker=loud").is_err());
    }

    #[test]
    fn nothing_is_held_unless_asked_for() {
        let log = Log::default();
        log.make_writer().write_all(b"").unwrap();
        assert_eq!(log.newest(), None);
    }
}
