//! Sysctls that the defence changes for as long as it needs them, and what they
//! were before, written down in the pin directory: whoever removes the tracker
//! finds it there, however the agent ended.
//!
//! /proc/sys/net shows the network namespace of the thread that opens it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    error::Result,
    pins::{self, io as io_error},
};

/// Where they are.
const BASE: &str = "/proc/sys/net/ipv4";
/// What the name of a record begins with; the sysctl's follows.
pub(super) const RECORD: &str = "sysctl_";
/// What a record's target begins with; the value before the change follows.
const FROM: &str = "from-";

/// A sysctl of net.ipv4 that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// With 2 timestamps carry no offset that only the kernel knows.
    Timestamps,
    /// With 2 the kernel makes a cookie whenever it is asked for one.
    SynCookies,
}

impl Managed {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Timestamps, Self::SynCookies];

    /// What the defence sets them to.
    pub const WANTED: u8 = 2;

    /// Its name below net.ipv4.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timestamps => "tcp_timestamps",
            Self::SynCookies => "tcp_syncookies",
        }
    }

    fn from_record(name: &str) -> Option<Self> {
        let name = name.strip_prefix(RECORD)?;
        Self::ALL.into_iter().find(|managed| managed.name() == name)
    }
}

/// A change of a sysctl that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub sysctl: Managed,
    /// Its value before.
    pub from: u8,
    /// Its value from here on.
    pub to: u8,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sysctl, from, to } = self;
        write!(f, "net.ipv4.{}: {from} → {to}", sysctl.name())
    }
}

/// The sysctls of this thread's network namespace, with records in a pin
/// directory.
#[derive(Clone, Debug)]
pub struct Sysctls {
    base: PathBuf,
    records: PathBuf,
}

impl Sysctls {
    /// With records in the pin directory `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self {
            base: BASE.into(),
            records: dir.to_owned(),
        }
    }

    /// The value of one.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no number from 0 to 255.
    pub fn value(&self, sysctl: Managed) -> Result<u8> {
        let path = self.path(sysctl);
        number(&path).map_err(io_error("read", &path))
    }

    /// What it was before the tracker changed it; `None` where it did not.
    #[must_use]
    pub fn original(&self, sysctl: Managed) -> Option<u8> {
        let target = fs::read_link(self.record(sysctl)).ok()?;
        target.to_str()?.strip_prefix(FROM)?.parse().ok()
    }

    /// Sets one to [`Managed::WANTED`]. What it was before is written down
    /// first; where an earlier agent did so, its record stays.
    ///
    /// # Errors
    ///
    /// It cannot be read or written: then it is as it was.
    pub fn raise(&self, sysctl: Managed) -> Result<Option<Change>> {
        let from = self.value(sysctl)?;
        if from == Managed::WANTED {
            return Ok(None);
        }
        let (record, path) = (self.record(sysctl), self.path(sysctl));
        let recorded = self.original(sysctl).is_some();
        if !recorded {
            pins::remove(&record)?;
            pins::link(&record, &format!("{FROM}{from}"))?;
        }
        let change = Change {
            sysctl,
            from,
            to: Managed::WANTED,
        };
        match fs::write(&path, Managed::WANTED.to_string()) {
            Ok(()) => Ok(Some(change)),
            Err(error) => {
                if !recorded {
                    pins::remove(&record)?;
                }
                Err(io_error("write", &path)(error))
            }
        }
    }

    /// Sets one back to what is written down, and forgets that. Where somebody
    /// else has changed it meanwhile, it stays as it is.
    ///
    /// # Errors
    ///
    /// It cannot be read or written: the record stays.
    pub fn restore(&self, sysctl: Managed) -> Result<Option<Change>> {
        let Some(original) = self.original(sysctl) else {
            pins::remove(&self.record(sysctl))?;
            return Ok(None);
        };
        let from = self.value(sysctl)?;
        let ours = from == Managed::WANTED;
        if ours {
            let path = self.path(sysctl);
            fs::write(&path, original.to_string()).map_err(io_error("write", &path))?;
        }
        pins::remove(&self.record(sysctl))?;
        Ok(ours.then_some(Change {
            sysctl,
            from,
            to: original,
        }))
    }

    /// What the record `name` in the pin directory is about: nothing where it is
    /// none of these.
    pub(super) fn of_record(name: &str) -> Option<Managed> {
        Managed::from_record(name)
    }

    fn path(&self, sysctl: Managed) -> PathBuf {
        self.base.join(sysctl.name())
    }

    fn record(&self, sysctl: Managed) -> PathBuf {
        self.records.join(format!("{RECORD}{}", sysctl.name()))
    }
}

/// What this host's TCP does, by its sysctls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTcp {
    /// `tcp_timestamps`.
    pub timestamps: u8,
    /// `tcp_syncookies`.
    pub syncookies: u8,
    /// `tcp_sack`.
    pub sack: bool,
    /// `tcp_window_scaling`.
    pub scaling: bool,
    /// `tcp_ecn`: whether a request for ECN is granted.
    pub ecn: bool,
    /// The window scale of a listener that has set no buffer size of its own.
    pub scale: u8,
}

impl HostTcp {
    /// Reads them. What cannot be read is taken as off: nothing is then promised
    /// that the host would not keep.
    #[must_use]
    pub fn read() -> Self {
        let flag = |name: &str| number(&Path::new(BASE).join(name)).unwrap_or(0);
        let rmem = fs::read_to_string(Path::new(BASE).join("tcp_rmem")).unwrap_or_default();
        // Shown in the first network namespace only; elsewhere 0.
        let rmem_max = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
        Self {
            timestamps: flag(Managed::Timestamps.name()),
            syncookies: flag(Managed::SynCookies.name()),
            sack: flag("tcp_sack") != 0,
            scaling: flag("tcp_window_scaling") != 0,
            ecn: flag("tcp_ecn") != 0,
            scale: scale(&rmem, &rmem_max),
        }
    }
}

/// The window scale that Linux begins with (`tcp_select_initial_window` in
/// net/ipv4/tcp_output.c): that of the largest window that the buffers allow.
fn scale(rmem: &str, rmem_max: &str) -> u8 {
    const MAX_SCALE: u32 = 14;
    let largest: u32 = rmem
        .split_ascii_whitespace()
        .nth(2)
        .and_then(|largest| largest.parse().ok())
        .unwrap_or(0);
    let space = largest.max(rmem_max.trim().parse().unwrap_or(0));
    let scale = space.checked_ilog2().unwrap_or(0).saturating_sub(15);
    scale.min(MAX_SCALE) as u8
}

fn number(path: &Path) -> io::Result<u8> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("`{}`", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        _dir: tempfile::TempDir,
        sysctls: Sysctls,
    }

    fn scene(timestamps: &str, syncookies: &str) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (base, records) = (dir.path().join("ipv4"), dir.path().join("pins"));
        for path in [&base, &records] {
            fs::create_dir(path).unwrap();
        }
        fs::write(base.join("tcp_timestamps"), format!("{timestamps}\n")).unwrap();
        fs::write(base.join("tcp_syncookies"), format!("{syncookies}\n")).unwrap();
        Scene {
            _dir: dir,
            sysctls: Sysctls { base, records },
        }
    }

    #[test]
    fn what_was_there_is_written_down_and_comes_back() {
        let Scene { sysctls, _dir } = scene("1", "1");
        let change = sysctls.raise(Managed::Timestamps).unwrap().unwrap();
        assert_eq!(change.to_string(), "net.ipv4.tcp_timestamps: 1 → 2");
        assert_eq!(sysctls.value(Managed::Timestamps).unwrap(), 2);
        assert_eq!(sysctls.original(Managed::Timestamps), Some(1));
        assert_eq!(sysctls.original(Managed::SynCookies), None);
        let back = sysctls.restore(Managed::Timestamps).unwrap().unwrap();
        assert_eq!((back.from, back.to), (2, 1));
        assert_eq!(sysctls.original(Managed::Timestamps), None);
        assert_eq!(sysctls.restore(Managed::Timestamps).unwrap(), None);
    }

    /// As an agent that was killed left it: the record of that one holds.
    #[test]
    fn a_second_agent_keeps_the_first_ones_record() {
        let Scene { sysctls, _dir } = scene("0", "1");
        sysctls.raise(Managed::Timestamps).unwrap().unwrap();
        assert_eq!(sysctls.raise(Managed::Timestamps).unwrap(), None);
        // Between the two somebody has set it otherwise.
        fs::write(sysctls.path(Managed::Timestamps), "1").unwrap();
        let again = sysctls.raise(Managed::Timestamps).unwrap().unwrap();
        assert_eq!((again.from, again.to), (1, 2));
        sysctls.restore(Managed::Timestamps).unwrap().unwrap();
        assert_eq!(sysctls.value(Managed::Timestamps).unwrap(), 0);
    }

    #[test]
    fn what_was_right_all_along_is_not_touched() {
        let Scene { sysctls, _dir } = scene("2", "2");
        for sysctl in Managed::ALL {
            assert_eq!(sysctls.raise(sysctl).unwrap(), None);
            assert_eq!(sysctls.original(sysctl), None);
            assert_eq!(sysctls.restore(sysctl).unwrap(), None);
            assert_eq!(sysctls.value(sysctl).unwrap(), 2);
        }
    }

    #[test]
    fn what_somebody_else_has_set_meanwhile_stays() {
        let Scene { sysctls, _dir } = scene("1", "1");
        sysctls.raise(Managed::SynCookies).unwrap().unwrap();
        fs::write(sysctls.path(Managed::SynCookies), "0").unwrap();
        assert_eq!(sysctls.restore(Managed::SynCookies).unwrap(), None);
        assert_eq!(sysctls.value(Managed::SynCookies).unwrap(), 0);
        assert_eq!(sysctls.original(Managed::SynCookies), None);
    }

    #[test]
    fn records_are_told_from_other_entries() {
        assert_eq!(
            Sysctls::of_record("sysctl_tcp_syncookies"),
            Some(Managed::SynCookies)
        );
        for other in ["sysctl_tcp_sack", "tcp_syncookies", "LIVE", "sysctl_"] {
            assert_eq!(Sysctls::of_record(other), None, "{other}");
        }
    }

    #[test]
    fn the_scale_is_the_kernels() {
        // Linux's defaults: 6 MiB, and 208 KiB.
        assert_eq!(scale("4096\t131072\t6291456\n", "212992\n"), 7);
        assert_eq!(scale("4096\t131072\t33554432\n", ""), 10);
        assert_eq!(scale("4096 131072 131072", "67108864"), 11);
        assert_eq!(scale("", ""), 0);
        assert_eq!(scale("1 1 4294967295", ""), 14);
    }
}
