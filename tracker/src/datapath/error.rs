//! What callers of the datapath branch on.

use std::{io, path::PathBuf};

use aya::{maps::MapError, programs::ProgramError};
use tracker_common::abi::LAYOUT_VERSION;

/// Why the pinned tracker could not be reached or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is pinned there.
    #[error("no tracker is pinned at {}; `tracker run` starts one, and `--pin-dir` names another directory", dir.display())]
    NoTracker {
        /// The pin directory.
        dir: PathBuf,
    },
    /// What is there was not made by a tracker.
    #[error("{} holds other things than a tracker's pins; name another directory with `--pin-dir`", dir.display())]
    NotOurs {
        /// The pin directory.
        dir: PathBuf,
    },
    /// Maps of another layout.
    #[error(
        "the tracker pinned at {} has layout {found}, this program reads layout {LAYOUT_VERSION}; \
         use the program that made it, or remove it with `tracker unload`",
        dir.display()
    )]
    ForeignLayout {
        /// The pin directory.
        dir: PathBuf,
        /// The version found there, as it is written there.
        found: String,
    },
    /// A pin is missing: starting up, or the start was cut short.
    #[error(
        "the tracker pinned at {} is incomplete, `{name}` is missing: it is starting or its start \
         was cut short; `tracker run` completes it and `tracker unload` removes it",
        dir.display()
    )]
    Incomplete {
        /// The pin directory.
        dir: PathBuf,
        /// Name of the missing pin.
        name: String,
    },
    /// An agent holds the pin directory.
    #[error(
        "the tracker at {} is in use by {}; stop that one first or name another directory with `--pin-dir`",
        dir.display(),
        Holder(*pid)
    )]
    Busy {
        /// The pin directory.
        dir: PathBuf,
        /// Process id of the agent, where the kernel tells it.
        pid: Option<u32>,
    },
    /// The pins belong to another network namespace.
    #[error(
        "the tracker pinned at {} belongs to another network namespace ({found}, this one is {ours}); \
         run in that one, remove it with `tracker unload`, or name another directory with `--pin-dir`",
        dir.display()
    )]
    OtherNamespace {
        /// The pin directory.
        dir: PathBuf,
        /// The namespace the pins were made in.
        found: String,
        /// The namespace of this process.
        ours: String,
    },
    /// The directory is not on a BPF file system.
    #[error(
        "{} is not on a BPF file system, so nothing can be pinned there; mount one \
         (`mount -t bpf bpf /sys/fs/bpf`) or name a directory on one with `--pin-dir`",
        path.display()
    )]
    NotBpffs {
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// The directory is another user's.
    #[error(
        "permission denied at {}: the tracker's pins belong to root; run this with sudo",
        dir.display()
    )]
    Denied {
        /// The pin directory.
        dir: PathBuf,
    },
    /// A map could not be read or written.
    #[error("cannot {action} the map {map}")]
    Map {
        /// What was tried: "read", "write", "open".
        action: &'static str,
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A batched map call failed.
    #[error("cannot {action} the map {map} in batches")]
    Batch {
        /// What was tried.
        action: &'static str,
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object lacks a map or program that this program needs.
    #[error(
        "the eBPF object has no {kind} named `{name}`: it was built from other sources than this program"
    )]
    Missing {
        /// "map" or "program".
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A program could not be opened or run.
    #[error("cannot {action} the program {program}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// The program's name.
        program: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// A program stopped before it had taken every element of its request.
    #[error("{program} took {taken} of {asked} elements of a request and went no further")]
    Stuck {
        /// The program's name.
        program: &'static str,
        /// Elements taken.
        taken: u64,
        /// Elements of the request.
        asked: u64,
    },
    /// The clock could not be read.
    #[error("cannot read the coarse monotonic clock")]
    Clock(#[source] io::Error),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The result of what this module offers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the process behind a lock.
struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "a running agent (process {pid})"),
            None => write!(f, "another process"),
        }
    }
}
