//! What the agent does by itself, written down for the command line and for the
//! agent after it. The programs need none of it, so it is not in `LIVE`.

use std::{fs, path::Path};

use super::{
    error::Result,
    pins::{self, io},
};

/// Symbolic link that tells it.
const UPKEEP: &str = "upkeep";

/// What stands in the pin directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// `CLOCK_MONOTONIC` since when the hooks have been in place without a gap,
    /// ns.
    pub hooks_since_ns: u64,
    /// When pick-ups end, ns of `CLOCK_MONOTONIC`; `None` where they do not, or
    /// never began.
    pub pickup_until_ns: Option<u64>,
    /// Flows in TIME_WAIT that are kept.
    pub time_wait_limit: u32,
    /// Fills of a table, in percent, between which the time-outs shrink from
    /// their full length to nothing; `None` where they do not.
    pub adaptive: Option<[u32; 2]>,
}

impl Upkeep {
    fn to_text(self) -> String {
        let mut text = format!(
            "hooks_since={} time_wait_limit={}",
            self.hooks_since_ns, self.time_wait_limit
        );
        if let Some(until) = self.pickup_until_ns {
            text += &format!(" pickup_until={until}");
        }
        if let Some([start, end]) = self.adaptive {
            text += &format!(" adaptive_start={start} adaptive_end={end}");
        }
        text
    }

    /// `None` where `text` was not written by [`Upkeep::to_text`]. Words that it
    /// does not know are left out.
    fn from_text(text: &str) -> Option<Self> {
        let value = |key: &str| word(text, key);
        let percent = |key| value(key)?.parse().ok();
        Some(Self {
            hooks_since_ns: value("hooks_since")?.parse().ok()?,
            pickup_until_ns: value("pickup_until").and_then(|until| until.parse().ok()),
            time_wait_limit: value("time_wait_limit")?.parse().ok()?,
            adaptive: percent("adaptive_start")
                .zip(percent("adaptive_end"))
                .map(|(start, end)| [start, end]),
        })
    }
}

/// What is written down in `dir`.
pub(super) fn read(dir: &Path) -> Option<Upkeep> {
    let target = fs::read_link(dir.join(UPKEEP)).ok()?;
    Upkeep::from_text(target.to_str()?)
}

/// Writes it down in `dir`, in place of what stands there.
pub(super) fn write(dir: &Path, upkeep: Upkeep) -> Result<()> {
    replace(dir, UPKEEP, &upkeep.to_text())
}

/// Writes `text` down in `dir` under `name`, in place of what stands there.
pub(super) fn replace(dir: &Path, name: &str, text: &str) -> Result<()> {
    let (new, path) = (dir.join(format!("{name}_new")), dir.join(name));
    pins::remove(&new)?;
    pins::link(&new, text)?;
    fs::rename(&new, &path).map_err(io("replace", &path))
}

/// The value behind `key=` among the words of `text`.
pub(super) fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        for upkeep in [
            Upkeep {
                hooks_since_ns: u64::MAX,
                pickup_until_ns: Some(7),
                time_wait_limit: 0,
                adaptive: Some([60, 120]),
            },
            Upkeep::default(),
        ] {
            write(dir.path(), upkeep).unwrap();
            assert_eq!(read(dir.path()), Some(upkeep));
        }
    }

    #[test]
    fn words_to_come_do_not_harm() {
        let text = "hooks_since=5 colour=blue time_wait_limit=9";
        let upkeep = Upkeep::from_text(text).unwrap();
        assert_eq!((upkeep.hooks_since_ns, upkeep.time_wait_limit), (5, 9));
        assert_eq!(Upkeep::from_text("native"), None);
    }
}
