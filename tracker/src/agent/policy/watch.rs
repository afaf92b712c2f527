//! Files of a policy that change while it is in force (`policy.watch`).
//!
//! They are looked at once a second: symbolic links, files that are moved into their
//! place and file systems that tell nobody are all the same to a look.

use std::{
    collections::BTreeMap,
    fs, mem,
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
    /// Watches the files of the configured policy, which was just read, where that is
    /// wanted.
    pub fn follow(&mut self, config: &Config, policies: &Policies) {
        let Some(path) = origin(config).filter(|_| config.policy.watch) else {
            *self = Self::default();
            return;
        };
        let mut files = vec![path.to_owned()];
        if let Some(policy) = policies.in_force() {
            files.extend(policy.source.path.clone());
            files.extend(policy.source.set_files.iter().cloned());
        }
        self.take(files);
    }

    /// Watches these files. What is known of one is from before it was read; one that
    /// was not looked at yet may have changed since, so all are read again.
    fn take(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let before = mem::take(&mut self.seen);
        self.unsettled = false;
        for file in files {
            let known = before.get(&file).copied();
            self.unsettled |= known.is_none();
            let print = known.unwrap_or_else(|| print(&file));
            self.seen.insert(file, print);
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
        let mut watch = PolicyFiles::default();
        watch.take([file.clone()]);
        // Once more, since nobody looked before it was read.
        assert!(watch.changed());
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
        // What changes while it is read is seen.
        fs::write(&file, "ef").unwrap();
        watch.take([file.clone()]);
        assert!(!watch.changed());
        assert!(watch.changed());
    }
}
