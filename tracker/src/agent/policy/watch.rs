//! Files of a policy that change while it is in force (`policy.watch`).
//!
//! They are looked at once a second: symbolic links, files that are moved into their
//! place and file systems that tell nobody are all the same to a look.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Policies, origin};
use crate::config::Config;

/// Files and how they were when they were last looked at.
#[derive(Debug, Default)]
pub struct PolicyFiles {
    seen: BTreeMap<PathBuf, Option<Print>>,
    /// Something differs from what was read, and may still be written.
    unsettled: bool,
}

/// What tells a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl PolicyFiles {
    /// Those of the configured policy as they are at this moment, where they are to be
    /// watched.
    pub fn of(config: &Config, policies: &Policies) -> Self {
        let Some(path) = origin(config).filter(|_| config.policy.watch) else {
            return Self::default();
        };
        let mut files = vec![path.to_owned()];
        if let Some(policy) = policies.in_force() {
            files.extend(policy.source.path.clone());
            files.extend(policy.source.set_files.iter().cloned());
        }
        Self::seen(files)
    }

    fn seen(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let prints = files.into_iter().map(|file| {
            let print = print(&file);
            (file, print)
        });
        Self {
            seen: prints.collect(),
            unsettled: false,
        }
    }

    /// Whether a file differs from what was read and has stayed so since the last
    /// look: whoever writes one has ended.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.seen {
            let print = print(file);
            if print != *seen {
                *seen = print;
                changed = true;
            }
        }
        let settled = self.unsettled && !changed;
        self.unsettled = changed;
        settled
    }
}

/// `None` for a file that is not there.
fn print(file: &Path) -> Option<Print> {
    let metadata = fs::metadata(file).ok()?;
    Some(Print {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        let mut watch = PolicyFiles::seen([file.clone()]);
        assert!(!watch.changed());
        fs::write(&file, "a").unwrap();
        assert!(!watch.changed());
        fs::write(&file, "ab").unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(!watch.changed());
        // Moved into its place, and of the same size.
        let other = dir.path().join("other");
        fs::write(&other, "cd").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        fs::remove_file(&file).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
    }
}
