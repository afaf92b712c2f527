//! What the agent does about floods, written down for the command line and for
//! the agent after it.

use std::{fs, path::Path};

use tracker_common::abi::CookieMode;

use super::{
    error::Result,
    upkeep::{replace, word},
};

/// Symbolic link that tells what recounts have corrected.
const RECOUNT: &str = "recount";
/// Symbolic link that tells about SYN cookies.
const COOKIES: &str = "cookies";

/// How far counters were off that a recount has set right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Flows by which [`tracker_common::abi::Gauge`]s were wrong.
    pub gauges: u64,
    /// Flows by which the counts of listeners and source prefixes were wrong.
    pub shares: u64,
}

impl Corrections {
    /// What is written down in `dir`; nothing where nothing is.
    pub(super) fn read(dir: &Path) -> Self {
        let text = text(dir, RECOUNT).unwrap_or_default();
        let number = |key| word(&text, key).and_then(|number| number.parse().ok());
        Self {
            gauges: number("gauges").unwrap_or(0),
            shares: number("shares").unwrap_or(0),
        }
    }

    /// Writes it down in `dir`.
    pub(super) fn write(self, dir: &Path) -> Result<()> {
        let text = format!("gauges={} shares={}", self.gauges, self.shares);
        replace(dir, RECOUNT, &text)
    }
}

/// What the agent does with SYN cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieNote {
    /// As configured, for listeners without a rule of their own; never where
    /// none can be sent.
    pub mode: CookieMode,
    /// Since when SYNs are answered, ns of `CLOCK_MONOTONIC`; `None` while they
    /// are not.
    pub on_since_ns: Option<u64>,
    /// How often that began, since the maps were made.
    pub times_on: u64,
}

impl CookieNote {
    /// What is written down in `dir`.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let text = text(dir, COOKIES)?;
        let mode = word(&text, "mode")?;
        Some(Self {
            mode: [CookieMode::Never, CookieMode::Adaptive, CookieMode::Always]
                .into_iter()
                .find(|known| known.as_str() == mode)?,
            on_since_ns: word(&text, "on_since").and_then(|ns| ns.parse().ok()),
            times_on: word(&text, "times_on")?.parse().ok()?,
        })
    }

    /// Writes it down in `dir`.
    pub(super) fn write(self, dir: &Path) -> Result<()> {
        let mut text = format!("mode={} times_on={}", self.mode.as_str(), self.times_on);
        if let Some(since) = self.on_since_ns {
            text += &format!(" on_since={since}");
        }
        replace(dir, COOKIES, &text)
    }
}

fn text(dir: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(dir.join(name)).ok()?;
    target.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(Corrections::read(dir), Corrections::default());
        assert_eq!(CookieNote::read(dir), None);
        let corrections = Corrections {
            gauges: u64::MAX,
            shares: 3,
        };
        corrections.write(dir).unwrap();
        assert_eq!(Corrections::read(dir), corrections);
        for on_since_ns in [Some(77), None] {
            let note = CookieNote {
                mode: CookieMode::Adaptive,
                on_since_ns,
                times_on: 4,
            };
            note.write(dir).unwrap();
            assert_eq!(CookieNote::read(dir), Some(note));
        }
    }
}
