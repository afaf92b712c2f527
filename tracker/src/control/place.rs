//! Where an agent's socket and records are: a directory of its own for each pin
//! directory, so that several trackers do not meet.

use std::{
    fmt::Write as _,
    fs::{DirBuilder, Permissions, set_permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where the directories of all trackers are unless somebody says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/tracker";

/// Name of the agent's socket.
const SOCKET: &str = "control.sock";

/// Longest readable name of a directory. A socket's path has 107 octets
/// (unix(7)), which must do for the directory above, too.
const READABLE: usize = 48;

/// The directory of one tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// The directory below `run_dir` of the tracker that is pinned at `pin_dir`.
    #[must_use]
    pub fn of(run_dir: &Path, pin_dir: &Path) -> Self {
        Self(run_dir.join(name(pin_dir)))
    }

    /// The directory whose path was written down.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Makes it where it is missing, for its owner alone.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn create(&self) -> Result<()> {
        let path = self.path();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| set_permissions(path, Permissions::from_mode(0o700)))
            .with_context(|| {
                format!(
                    "cannot make the runtime directory {}; `run_dir` in the configuration names \
                     another one",
                    path.display()
                )
            })
    }
}

/// A name that tells the path: slashes as `-`, everything unusual as `_` and two
/// digits. A long path is told by its end and a hash.
fn name(pin_dir: &Path) -> String {
    let octets = pin_dir.as_os_str().as_encoded_bytes();
    let mut name = String::new();
    for &octet in octets.strip_prefix(b"/").unwrap_or(octets) {
        match octet {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => name.push(octet.into()),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(name, "_{octet:02x}");
            }
        }
    }
    if name.len() <= READABLE && !name.starts_with('.') && !name.is_empty() {
        return name;
    }
    // FNV-1a: the next version must find the same directory.
    let hash = octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
    let end = name
        .get(name.len().saturating_sub(24)..)
        .unwrap_or_default();
    format!("{hash:016x}-{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> String {
        name(Path::new(path))
    }

    #[test]
    fn a_usual_path_can_be_read_from_the_name() {
        assert_eq!(named("/sys/fs/bpf/tracker"), "sys-fs-bpf-tracker");
        assert_eq!(named("/sys/fs/bpf/t-1"), "sys-fs-bpf-t_2d1");
    }

    #[test]
    fn different_paths_have_different_names() {
        let long = |end: &str| format!("/sys/fs/bpf/{}{end}", "x".repeat(80));
        assert_ne!(named("/a/b"), named("/a-b"));
        assert_ne!(named("/a_2db"), named("/a-b"));
        assert_ne!(named(&long("1")), named(&long("2")));
        assert!(named(&long("")).len() <= READABLE);
        assert!(!named("/..").starts_with('.'));
    }

    #[test]
    fn the_directory_is_its_owners_alone() {
        let run = tempfile::tempdir().unwrap();
        let place = Place::of(&run.path().join("deep"), Path::new("/sys/fs/bpf/x"));
        place.create().unwrap();
        place.create().unwrap();
        let mode = place.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(place.socket().as_os_str().len() < 107);
    }
}
