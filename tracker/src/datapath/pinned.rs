//! A tracker reached through its pins: with or without an agent.

use std::{
    io,
    ops::Deref,
    path::{Path, PathBuf},
};

use aya::{
    maps::{Map, MapData, MapError},
    programs::{ProgramError, ProgramInfo, SchedClassifier},
};
use nix::time::{ClockId, clock_gettime};
use tracker_common::abi::{Cause, Family, Key};

use super::{
    error::{Error, Result},
    facts::{MapFacts, ProgramFacts},
    floods::Floods,
    names,
    notes::{CookieNote, Corrections},
    pins,
    reap::{self, ReapTotals},
    sysctl::Sysctls,
    tables::Tables,
    upkeep::{self, Upkeep},
};

/// The tracker that is pinned in a directory.
///
/// Dereferences to its [`Tables`].
pub struct Pinned {
    dir: PathBuf,
    tables: Tables,
}

impl Pinned {
    /// Opens the maps pinned at `dir`.
    ///
    /// # Errors
    ///
    /// There is no tracker, one of another layout, an incomplete one, or the
    /// pins may not be read.
    pub fn open(dir: &Path) -> Result<Self> {
        pins::check(dir)?;
        let mut tables = Tables::collect(|name| {
            let opening = |source| Error::Map {
                action: "open",
                map: name,
                source,
            };
            Map::from_map_data(open_map(dir, name)?).map_err(opening)
        })?;
        tables.policy.pages.pin_at(dir);
        Ok(Self {
            dir: dir.to_owned(),
            tables,
        })
    }

    /// The programs' clock: coarse `CLOCK_MONOTONIC`, ns.
    ///
    /// # Errors
    ///
    /// The kernel has no such clock.
    pub fn now_ns() -> Result<u64> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(|errno| Error::Clock(errno.into()))?;
        // Time since boot, so neither is negative.
        Ok(now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
    }

    /// The pin directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the interfaces are those of this thread's network namespace:
    /// elsewhere the same indexes are other interfaces.
    #[must_use]
    pub fn is_of_this_namespace(&self) -> bool {
        pins::is_of_this_namespace(&self.dir)
    }

    /// How the ingress program is attached to the interface with this index:
    /// "native" or "generic", `None` where it is not.
    #[must_use]
    pub fn xdp_mode(&self, ifindex: u32) -> Option<String> {
        pins::recorded_mode(&self.dir, ifindex)
    }

    /// What the agent, or the last one, does beside what `LIVE` tells; `None`
    /// where none has written it down.
    #[must_use]
    pub fn upkeep(&self) -> Option<Upkeep> {
        upkeep::read(&self.dir)
    }

    /// What recounts have corrected since the maps were made.
    #[must_use]
    pub fn corrections(&self) -> Corrections {
        Corrections::read(&self.dir)
    }

    /// Writes down what recounts have corrected.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be written.
    pub fn set_corrections(&self, corrections: Corrections) -> Result<()> {
        corrections.write(&self.dir)
    }

    /// What the agent, or the last one, does with SYN cookies; `None` where none
    /// has written it down.
    #[must_use]
    pub fn cookies(&self) -> Option<CookieNote> {
        CookieNote::read(&self.dir)
    }

    /// Writes down what the agent does with SYN cookies.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be written.
    pub fn set_cookies(&self, note: CookieNote) -> Result<()> {
        note.write(&self.dir)
    }

    /// The sysctls that the tracker changes, with what they were before.
    #[must_use]
    pub fn sysctls(&self) -> Sysctls {
        Sysctls::of(&self.dir)
    }

    /// What agents have seen of floods since the maps were made.
    #[must_use]
    pub fn floods(&self) -> Floods {
        Floods::read(&self.dir)
    }

    /// Writes down what was seen of floods. Only the agent does.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be written.
    pub fn set_floods(&self, floods: Floods) -> Result<()> {
        floods.write(&self.dir)
    }

    /// What the kernel knows about the programs.
    ///
    /// # Errors
    ///
    /// A program's pin is missing or cannot be opened.
    pub fn programs(&self) -> Result<Vec<ProgramFacts>> {
        names::PROGRAMS
            .iter()
            .map(|&(program, pin)| {
                let info = ProgramInfo::from_pin(self.dir.join(pin))
                    .map_err(|source| self.program_error(program, source))?;
                Ok(ProgramFacts::of(program, &info))
            })
            .collect()
    }

    /// What the kernel knows about the maps.
    ///
    /// # Errors
    ///
    /// A map's pin is missing, or the kernel does not tell.
    pub fn maps(&self) -> Result<Vec<MapFacts>> {
        names::MAPS
            .iter()
            .map(|&name| MapFacts::of(name, &open_map(&self.dir, name)?))
            .collect()
    }

    /// Asks the kernel to remove flows, each named by its key and the
    /// generation that was seen. `Expired` is judged again there; the other
    /// causes remove the flow if it is still that one.
    ///
    /// Requests of several processes wait for each other.
    ///
    /// # Errors
    ///
    /// The request cannot be made; some of the flows may be gone.
    pub fn remove(&self, cause: Cause, candidates: &[(Family, Key, u32)]) -> Result<ReapTotals> {
        if candidates.is_empty() {
            return Ok(ReapTotals::default());
        }
        let _turn = pins::lock_reaper(&self.dir)?;
        // Opened each time: an agent may have replaced it meanwhile.
        let reaper = SchedClassifier::from_pin(self.dir.join(names::program_pin(names::REAP)))
            .map_err(|source| self.program_error(names::REAP, source))?;
        reap::reap(&self.tables, &reaper, cause, candidates)
    }

    fn program_error(&self, program: &'static str, source: ProgramError) -> Error {
        let pin = names::program_pin(program);
        if let ProgramError::SyscallError(error) = source {
            return failed_to_open(&self.dir, pin, error.io_error);
        }
        Error::Program {
            action: "open",
            program,
            source,
        }
    }
}

impl Deref for Pinned {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

fn open_map(dir: &Path, name: &'static str) -> Result<MapData> {
    MapData::from_pin(dir.join(name)).map_err(|source| {
        if let MapError::SyscallError(error) = source {
            return failed_to_open(dir, name, error.io_error);
        }
        Error::Map {
            action: "open",
            map: name,
            source,
        }
    })
}

/// What it means that the pin `name` cannot be opened.
fn failed_to_open(dir: &Path, name: &str, source: io::Error) -> Error {
    let dir = dir.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        let name = name.to_owned();
        return Error::Incomplete { dir, name };
    }
    if source.kind() == io::ErrorKind::PermissionDenied {
        return Error::Denied { dir };
    }
    Error::Io {
        action: "open",
        path: dir.join(name),
        source,
    }
}
