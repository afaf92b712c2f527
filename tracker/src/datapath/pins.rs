//! The pin directory: what makes a tracker outlive its agent, and how one agent
//! keeps another out.
//!
//! | entry | what it is |
//! |---|---|
//! | `layout` | symbolic link to `tracker-layout-N`; a BPF file system holds no files |
//! | `netns` | symbolic link that names the network namespace of the links |
//! | `reaper/` | empty, locked by whoever talks to the reaper |
//! | `NAME` | a map |
//! | `prog_*` | a program |
//! | `link_xdp_N`, `link_tcx_N` | what is attached to the interface with index N |
//! | `xdp_mode_N` | symbolic link to `native` or `generic` |
//! | `upkeep` | symbolic link that tells what the agent does by itself |
//! | `sysctl_NAME` | symbolic link to `from-VALUE`: what net.ipv4.NAME was before |
//! | `recount` | symbolic link that tells what recounts have corrected |
//! | `cookies` | symbolic link that tells about SYN cookies |
//! | `floods` | symbolic link that tells what was seen of floods |
//! | `run` | symbolic link to the directory of the agent's socket and records |

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sys::{
        stat::{major, minor},
        statfs::{BPF_FS_MAGIC, statfs},
    },
};
use tracker_common::abi::{Hook, LAYOUT_VERSION};

use super::{
    error::{Error, Result},
    unload,
};

/// Where a BPF file system is looked for.
const BPFFS: &str = "/sys/fs/bpf";
/// Symbolic link that tells the layout.
pub const LAYOUT: &str = "layout";
/// What its target begins with; the version follows.
pub const LAYOUT_PREFIX: &str = "tracker-layout-";
/// Symbolic link that tells the network namespace.
const NETNS: &str = "netns";
/// Tells the network namespace of the reading thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// Directory whose lock serialises requests to the reaper.
const REAPER: &str = "reaper";

/// The pin directory, held by this process: another agent is refused.
///
/// Made anew, it is removed with everything in it when dropped, unless
/// [`PinDir::establish`] was called: a start that fails leaves nothing behind.
#[derive(Debug)]
pub struct PinDir {
    path: PathBuf,
    /// The lock lives as long as the descriptor.
    _lock: File,
    adopted: bool,
    provisional: bool,
}

impl PinDir {
    /// Takes hold of the directory and makes it where there is none. Mounts the
    /// BPF file system where it is missing from its usual place.
    ///
    /// # Errors
    ///
    /// It is in use, of another layout or network namespace, not a tracker's,
    /// or cannot be made.
    pub fn claim(path: &Path) -> Result<Self> {
        ensure_bpffs(path)?;
        let lock = create_and_lock(path)?;
        let adopted = match layout(path)? {
            Some(version) if version == LAYOUT_VERSION.to_string() => true,
            Some(found) => {
                return Err(Error::ForeignLayout {
                    dir: path.to_owned(),
                    found,
                });
            }
            None if is_empty(path)? => false,
            None => {
                return Err(Error::NotOurs {
                    dir: path.to_owned(),
                });
            }
        };
        let dir = Self {
            path: path.to_owned(),
            _lock: lock,
            adopted,
            provisional: !adopted,
        };
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(io("restrict the permissions of", path))?;
        if !adopted {
            let target = format!("{LAYOUT_PREFIX}{LAYOUT_VERSION}");
            link(&path.join(LAYOUT), &target)?;
        }
        dir.settle_namespace()?;
        match fs::create_dir(path.join(REAPER)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io("make", &path.join(REAPER))(error))
            }
            _ => Ok(dir),
        }
    }

    /// Records the network namespace, or checks it where it is recorded: the
    /// same index means another interface in another namespace.
    fn settle_namespace(&self) -> Result<()> {
        let ours = namespace().map_err(io("read", Path::new(OWN_NAMESPACE)))?;
        let record = self.path.join(NETNS);
        match fs::read_link(&record) {
            Ok(found) if found == ours => Ok(()),
            Ok(found) => Err(Error::OtherNamespace {
                dir: self.path.clone(),
                found: found.to_string_lossy().into_owned(),
                ours: ours.to_string_lossy().into_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                link(&record, &ours.to_string_lossy())
            }
            Err(error) => Err(io("read", &record)(error)),
        }
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an earlier agent left it.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// From here on the pins stay when this process dies.
    pub const fn establish(&mut self) {
        self.provisional = false;
    }

    /// Where the link of `hook` on an interface is pinned.
    #[must_use]
    pub fn link(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.path.join(link_name(hook, ifindex))
    }

    /// The links that are pinned.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn links(&self) -> Result<Vec<(Hook, u32)>> {
        let names = entries(&self.path)?;
        Ok(names
            .iter()
            .filter_map(|name| parse_link_name(name))
            .collect())
    }

    /// Writes down in which mode XDP is about to be attached to an interface.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn record_mode(&self, ifindex: u32, mode: &str) -> Result<()> {
        self.forget_mode(ifindex)?;
        link(&self.path.join(mode_name(ifindex)), mode)
    }

    /// Forgets the mode written down for an interface.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn forget_mode(&self, ifindex: u32) -> Result<()> {
        remove(&self.path.join(mode_name(ifindex)))
    }

    /// Detaches everything and removes the directory.
    ///
    /// # Errors
    ///
    /// Something cannot be removed; the rest is.
    pub fn destroy(mut self) -> Result<()> {
        self.provisional = false;
        unload::dismantle(&self.path, Duration::ZERO).map(drop)
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        if self.provisional
            && let Err(error) = unload::dismantle(&self.path, Duration::ZERO)
        {
            tracing::error!(
                "cannot clean up {} after the failed start, `tracker unload` does: {:#}",
                self.path.display(),
                anyhow::Error::from(error)
            );
        }
    }
}

/// Checks that `dir` holds a tracker that this program can read.
pub fn check(dir: &Path) -> Result<()> {
    match layout(dir)? {
        Some(version) if version == LAYOUT_VERSION.to_string() => Ok(()),
        Some(found) => Err(Error::ForeignLayout {
            dir: dir.to_owned(),
            found,
        }),
        None if dir.exists() && !is_empty(dir)? => Err(Error::NotOurs {
            dir: dir.to_owned(),
        }),
        None => Err(Error::NoTracker {
            dir: dir.to_owned(),
        }),
    }
}

/// The layout version that is written in `dir`, `None` when none is or there is
/// no such directory.
pub fn layout(dir: &Path) -> Result<Option<String>> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let error = match fs::read_link(dir.join(LAYOUT)) {
        Ok(target) => {
            let target = target.to_string_lossy();
            let version = target.strip_prefix(LAYOUT_PREFIX).map(str::to_owned);
            return version.map(Some).ok_or_else(|| not_ours(dir));
        }
        Err(error) => error,
    };
    let kind = error.kind();
    if matches!(kind, NotFound | NotADirectory) {
        Ok(None)
    } else if kind == PermissionDenied {
        Err(Error::Denied {
            dir: dir.to_owned(),
        })
    } else if kind == InvalidInput {
        // There is something of that name, but it is no link.
        Err(not_ours(dir))
    } else {
        Err(io("read", &dir.join(LAYOUT))(error))
    }
}

fn not_ours(dir: &Path) -> Error {
    Error::NotOurs {
        dir: dir.to_owned(),
    }
}

/// The XDP mode that is written down in `dir` for an interface.
pub fn recorded_mode(dir: &Path, ifindex: u32) -> Option<String> {
    let target = fs::read_link(dir.join(mode_name(ifindex))).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Whether the links in `dir` are of this thread's network namespace.
pub fn is_of_this_namespace(dir: &Path) -> bool {
    match (fs::read_link(dir.join(NETNS)), namespace()) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

/// The network namespace of this thread, as a symbolic link names it.
fn namespace() -> io::Result<PathBuf> {
    fs::read_link(OWN_NAMESPACE)
}

/// Waits for the lock on the reaper of `dir`; it is held until the file is
/// dropped.
pub fn lock_reaper(dir: &Path) -> Result<File> {
    let path = dir.join(REAPER);
    let file = File::open(&path).map_err(io("open", &path))?;
    file.lock().map_err(io("lock", &path))?;
    Ok(file)
}

/// Takes the lock of the directory, or says who holds it.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            dir: path.to_owned(),
            pid: holder(&file),
        }),
        Err(TryLockError::Error(error)) => Err(io("lock", path)(error)),
    }
}

/// Names of the entries of `dir`, sorted.
pub fn entries(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("list", dir))? {
        let entry = entry.map_err(io("list", dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a pin or symbolic link; one that is not there is as good as removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The hook and the interface index in the name of a link's pin.
pub fn parse_link_name(name: &str) -> Option<(Hook, u32)> {
    let (hook, index) = match name.strip_prefix("link_xdp_") {
        Some(index) => (Hook::Ingress, index),
        None => (Hook::Egress, name.strip_prefix("link_tcx_")?),
    };
    Some((hook, index.parse().ok()?))
}

/// An error about `path`.
pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

fn link_name(hook: Hook, ifindex: u32) -> String {
    match hook {
        Hook::Ingress => format!("link_xdp_{ifindex}"),
        Hook::Egress => format!("link_tcx_{ifindex}"),
    }
}

fn mode_name(ifindex: u32) -> String {
    format!("xdp_mode_{ifindex}")
}

pub(super) fn link(path: &Path, target: &str) -> Result<()> {
    symlink(target, path).map_err(io("make the symbolic link", path))
}

fn is_empty(dir: &Path) -> Result<bool> {
    Ok(entries(dir)?.is_empty())
}

/// Makes the directory where it is missing, and locks it.
fn create_and_lock(path: &Path) -> Result<File> {
    // `tracker unload` may remove the directory between the two steps; the
    // lock would then be on a directory that nobody else can reach.
    for _ in 0..8 {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("make the directory", path))?;
        let file = lock(path)?;
        let ours = file.metadata().map_err(io("examine", path))?.ino();
        match fs::metadata(path) {
            Ok(found) if found.ino() == ours => return Ok(file),
            _ => {}
        }
    }
    Err(Error::Busy {
        dir: path.to_owned(),
        pid: None,
    })
}

/// The process that holds the lock of `file`, as /proc/locks tells it.
fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, major(device), minor(device), metadata.ino())
}

fn holder_in(locks: &str, major: u64, minor: u64, inode: u64) -> Option<u32> {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 708 00:1c:22 0 EOF
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let mut fields = fields.skip(2);
        let pid = fields.next()?;
        (fields.next()? == place).then(|| pid.parse().ok())?
    })
}

/// Sees to it that `path` is, or can be made, on a BPF file system.
fn ensure_bpffs(path: &Path) -> Result<()> {
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing)? {
        return Ok(());
    }
    let usual = Path::new(BPFFS);
    if !path.starts_with(usual) || !usual.is_dir() || is_bpffs(usual)? {
        return Err(Error::NotBpffs {
            path: path.to_owned(),
        });
    }
    tracing::info!(
        "no BPF file system is mounted at {BPFFS}, where the maps are pinned: mounting one"
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), usual, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| io("mount a BPF file system at", usual)(errno.into()))
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let found = statfs(path).map_err(|errno| io("examine", path)(errno.into()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_map_back() {
        for hook in [Hook::Ingress, Hook::Egress] {
            assert_eq!(parse_link_name(&link_name(hook, 42)), Some((hook, 42)));
        }
        for other in [
            "link_xdp_",
            "link_tcx_x",
            "FLOWS_V4",
            "xdp_mode_3",
            "link_xdp_-1",
        ] {
            assert_eq!(parse_link_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1c:22 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 708 00:1c:23 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 709 00:1c:22 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 710 00:1c:22 0 EOF\n";
        assert_eq!(holder_in(locks, 0, 0x1c, 22), Some(710));
        assert_eq!(holder_in(locks, 0, 0x1c, 23), Some(708));
        assert_eq!(holder_in(locks, 8, 1, 22), None);
    }

    #[test]
    fn a_lock_is_held_against_others_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let _held = lock(dir.path()).unwrap();
        match lock(dir.path()) {
            Err(Error::Busy { pid, .. }) => {
                // Some file systems number devices otherwise in /proc/locks.
                assert!(pid.is_none() || pid == Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(matches!(
            check(&path.join("none")),
            Err(Error::NoTracker { .. })
        ));
        assert!(matches!(check(path), Err(Error::NoTracker { .. })));
        fs::write(path.join("stranger"), "").unwrap();
        assert!(matches!(check(path), Err(Error::NotOurs { .. })));
        symlink("tracker-layout-999", path.join(LAYOUT)).unwrap();
        match check(path) {
            Err(Error::ForeignLayout { found, .. }) => assert_eq!(found, "999"),
            other => panic!("{other:?}"),
        }
        remove(&path.join(LAYOUT)).unwrap();
        symlink(
            format!("{LAYOUT_PREFIX}{LAYOUT_VERSION}"),
            path.join(LAYOUT),
        )
        .unwrap();
        assert!(check(path).is_ok());
    }

    #[test]
    fn a_directory_elsewhere_is_not_mounted_over() {
        let dir = tempfile::tempdir().unwrap();
        let error = PinDir::claim(&dir.path().join("tracker")).unwrap_err();
        assert!(matches!(error, Error::NotBpffs { .. }), "{error}");
        assert!(!dir.path().join("tracker").exists());
    }
}
