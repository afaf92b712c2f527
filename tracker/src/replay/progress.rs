//! How far a long file is read, on a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// What is over sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr that appears after a second, where stderr is a terminal, and
/// disappears at the end.
pub struct Progress {
    /// `None` where nothing is to be shown.
    start: Option<Instant>,
    length: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of a file of `length` octets, where that is known. With `quiet` nothing
    /// is shown.
    #[must_use]
    pub fn new(length: Option<u64>, quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        Self {
            start: shown.then(Instant::now),
            length,
            bar: None,
        }
    }

    /// Octets that are done.
    pub fn set(&mut self, position: u64) {
        if self.start.is_some_and(|start| start.elapsed() >= PATIENCE) {
            let length = self.length;
            self.bar
                .get_or_insert_with(|| bar(length))
                .set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {bytes_per_sec}",
        ),
    };
    // A template that cannot be read leaves the style as it is.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
