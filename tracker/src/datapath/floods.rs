//! What the agent has seen of floods, written down for the command line and for
//! the agent after it.

use std::{fs, path::Path};

use super::{
    error::Result,
    upkeep::{replace, word},
};

/// Symbolic link that tells it.
const FLOODS: &str = "floods";

/// What stands in the pin directory. Counts are since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floods {
    /// Since when one goes on, ns of `CLOCK_MONOTONIC`; `None` where none does.
    pub since_ns: Option<u64>,
    /// Floods that began.
    pub begun: u64,
    /// Floods that were not told, since one was told just before.
    pub suppressed: u64,
    /// Bans that the agent made by itself.
    pub bans: u64,
}

impl Floods {
    /// What is written down in `dir`; nothing where nothing is.
    pub(super) fn read(dir: &Path) -> Self {
        let target = fs::read_link(dir.join(FLOODS)).unwrap_or_default();
        let text = target.to_string_lossy();
        let number = |key| word(&text, key).and_then(|number| number.parse().ok());
        Self {
            since_ns: number("since"),
            begun: number("begun").unwrap_or(0),
            suppressed: number("suppressed").unwrap_or(0),
            bans: number("bans").unwrap_or(0),
        }
    }

    /// Writes it down in `dir`.
    pub(super) fn write(self, dir: &Path) -> Result<()> {
        let mut text = format!(
            "begun={} suppressed={} bans={}",
            self.begun, self.suppressed, self.bans
        );
        if let Some(since) = self.since_ns {
            text += &format!(" since={since}");
        }
        replace(dir, FLOODS, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Floods::read(dir.path()), Floods::default());
        for since_ns in [Some(u64::MAX), None] {
            let floods = Floods {
                since_ns,
                begun: 3,
                suppressed: 2,
                bans: 1,
            };
            floods.write(dir.path()).unwrap();
            assert_eq!(Floods::read(dir.path()), floods);
        }
    }
}
