//! Where the agent's socket and records are, as the pin directory tells it: so the
//! command line asks for one directory only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{error::Result, pinned::Pinned, upkeep};

/// Symbolic link to the runtime directory.
const RUN: &str = "run";

impl Pinned {
    /// The runtime directory of the agent, or of the last one; `None` where none has
    /// written it down.
    #[must_use]
    pub fn run_dir(&self) -> Option<PathBuf> {
        run_dir(self.dir())
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be written.
    pub fn set_run_dir(&self, path: &Path) -> Result<()> {
        upkeep::replace(self.dir(), RUN, &path.to_string_lossy())
    }
}

/// The runtime directory that is written down in the pin directory `dir`.
#[must_use]
pub fn run_dir(dir: &Path) -> Option<PathBuf> {
    fs::read_link(dir.join(RUN)).ok()
}
