//! A configuration file of an agent.

use std::{fs, io::Write, time::Duration};

use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::{
    agent::{Options, Tracker},
    topology::Topology,
};

/// How long anything may take that happens by itself, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A configuration file, gone when dropped.
pub struct Configuration(NamedTempFile);

impl Configuration {
    /// A file that says `text`.
    ///
    /// # Panics
    ///
    /// It cannot be written.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(file)
    }

    /// How an agent starts on `topology` that reads it.
    #[must_use]
    pub fn options<'a>(&self, topology: &'a Topology) -> Options<'a> {
        Options::on(topology).with(["-c".as_ref(), self.0.path().as_os_str()])
    }

    /// Starts that agent, with `more` arguments.
    ///
    /// # Panics
    ///
    /// It does not start.
    #[must_use]
    pub fn start<'a>(&self, topology: &'a Topology, more: &[&str]) -> Tracker<'a> {
        self.options(topology).with(more).start().unwrap()
    }

    /// Writes `text` instead and has the agent read it.
    ///
    /// # Panics
    ///
    /// The agent does not say within [`SOON`] that it has.
    pub fn reload(&self, tracker: &Tracker<'_>, text: &str) {
        fs::write(self.0.path(), text).unwrap();
        let before = tracker.log();
        tracker.signal(Signal::SIGHUP).unwrap();
        tracker
            .wait_for_log(&before, "configuration read again", SOON)
            .unwrap();
    }
}
