//! Captures that were not made for this project, in a folder that is not part of
//! it.

use std::{
    env,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tracker::replay::{capture, frame};

/// Names the folder.
const FOLDER: &str = "TRACKER_CAPTURES";

/// Where it is unless [`FOLDER`] says something else, from the repository's root.
const DEFAULT: &str = "../shared/pcaps";

/// A file with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name in the folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The folder of the captures, whether it is there or not.
#[must_use]
pub fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // A relative path counts from the root, wherever the test runs.
    root.join(env::var_os(FOLDER).map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from))
}

/// The captures, in the order of their names. When there is no folder, says so
/// on stdout and gives `None`.
///
/// # Panics
///
/// There is a folder and it cannot be read.
#[must_use]
pub fn find() -> Option<Vec<Capture>> {
    let folder = folder();
    if !folder.is_dir() {
        println!(
            "captures not found: {} is no folder, so nothing is said about captures; {FOLDER} \
             names another",
            folder.display()
        );
        return None;
    }
    let entries = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()));
    let mut captures: Vec<Capture> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_capture = path
                .extension()
                .is_some_and(|extension| extension == "pcap" || extension == "pcapng");
            (is_capture && path.is_file()).then(|| Capture {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into(),
                path,
            })
        })
        .collect();
    captures.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Some(captures)
}

impl Capture {
    /// Hands over its packets, read one by one.
    ///
    /// # Errors
    ///
    /// It cannot be read, or `each` fails.
    pub fn records(&self, mut each: impl FnMut(&capture::Record<'_>) -> Result<()>) -> Result<()> {
        let file =
            File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        let mut packets = capture::Capture::open(BufReader::new(file))
            .with_context(|| format!("reading {}", self.path.display()))?;
        while let Some(record) = packets
            .next()
            .with_context(|| format!("reading {}", self.path.display()))?
        {
            each(&record)?;
        }
        Ok(())
    }

    /// Hands over its packets as whole Ethernet frames, with zeros for what was
    /// not captured.
    ///
    /// # Errors
    ///
    /// As [`Capture::records`], or a packet is of an unknown link type.
    pub fn frames(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut raw = Vec::new();
        self.records(|record| {
            let heading = frame(record)
                .with_context(|| format!("link type {:?} at {}", record.link, record.offset))?;
            heading.frame.write(&mut raw);
            each(&raw)
        })
    }
}
