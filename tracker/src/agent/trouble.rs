//! Failures that last.

use std::time::Duration;

use tokio::time::Instant;

/// How long the same trouble is told once only.
pub const QUIET: Duration = Duration::from_secs(60);

/// Keeps a lasting failure from filling the log.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    told: Option<Instant>,
}

impl Trouble {
    /// None yet. `what` says what does not happen while there is.
    pub const fn about(what: &'static str) -> Self {
        Self { what, told: None }
    }

    /// Tells why, unless that was done in the last minute.
    pub fn tell(&mut self, why: &str) {
        if self.told.is_some_and(|told| told.elapsed() < QUIET) {
            return;
        }
        self.told = Some(Instant::now());
        tracing::error!("{}, trying again: {why}", self.what);
    }

    /// It went well; that is told if trouble was.
    pub fn over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("over: {}", self.what);
        }
    }
}
