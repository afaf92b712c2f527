//! Removes a tracker from the kernel: detaches its links and removes its pins.

use std::{fs, io, os::fd::AsFd, path::Path, thread, time::Duration};

use aya::programs::{
    TcAttachType,
    tc::{TcError, qdisc_detach_program},
};
use tracker_common::abi::Hook;

use super::{
    error::{Error, Result},
    features::Kernel,
    names, nic,
    pins::{self, io as io_error},
    sys,
    sysctl::{self, Change, Managed, Sysctls},
};

/// How long [`unload`] waits for cookies in flight: their ACKs are decoded by
/// sysctls that it then sets back.
const DRAIN: Duration = Duration::from_secs(3);

/// What [`unload`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unloaded {
    /// Version of the layout, as it was written there; empty where none was.
    pub layout: String,
    /// Interfaces that were detached; "index N" for one that is gone.
    pub interfaces: Vec<String>,
    /// Links that were detached.
    pub links: usize,
    /// Programs whose pins were removed.
    pub programs: usize,
    /// Maps whose pins were removed.
    pub maps: usize,
    /// Sysctls that were set back.
    pub sysctls: Vec<Change>,
}

/// Removes the tracker that is pinned at `dir`, whatever its layout.
///
/// # Errors
///
/// There is none, an agent is running, or something cannot be removed.
pub fn unload(dir: &Path) -> Result<Unloaded> {
    if !dir.exists() {
        // An unreadable parent hides the directory too.
        pins::layout(dir)?;
        return Err(Error::NoTracker {
            dir: dir.to_owned(),
        });
    }
    let layout = pins::layout(dir)?;
    let _lock = pins::lock(dir)?;
    if layout.is_none() && !pins::entries(dir)?.is_empty() {
        return Err(Error::NotOurs {
            dir: dir.to_owned(),
        });
    }
    let cookies = Sysctls::of(dir).original(Managed::SynCookies).is_some();
    dismantle(dir, if cookies { DRAIN } else { Duration::ZERO })
}

/// Detaches and removes everything in `dir`, and `dir`. The caller holds its
/// lock. What cannot be removed does not keep the rest. `drain` passes between the
/// detaching and the restoring of sysctls.
pub(super) fn dismantle(dir: &Path, drain: Duration) -> Result<Unloaded> {
    let mut removed = Unloaded {
        layout: pins::layout(dir)?.unwrap_or_default(),
        ..Unloaded::default()
    };
    // Elsewhere the indexes are those of other interfaces.
    let here = pins::is_of_this_namespace(dir);
    let mut first_error = None;
    let mut attempt = |result: Result<()>| match result {
        Ok(()) => true,
        Err(error) => {
            first_error.get_or_insert(error);
            false
        }
    };
    let mut entries = pins::entries(dir)?;
    // What carries packets goes first; what tells that this is a tracker's
    // goes last, so that another attempt finds its way.
    entries.sort_by_key(|name| match name.as_str() {
        pins::LAYOUT => 3,
        name if name.starts_with("link_") => 0,
        name if name.starts_with(sysctl::RECORD) => 1,
        _ => 2,
    });
    let sysctls = Sysctls::of(dir);
    let mut drain = Some(drain);
    for name in entries {
        let path = dir.join(&name);
        if let Some(sysctl) = Sysctls::of_record(&name) {
            thread::sleep(drain.take().unwrap_or_default());
            if here {
                let restored = sysctls.restore(sysctl);
                attempt(restored.map(|change| removed.sysctls.extend(change)));
                continue;
            }
            tracing::warn!(
                "net.ipv4.{} stays {} in the network namespace of that tracker, which is not this \
                 one; it was {} before",
                sysctl.name(),
                Managed::WANTED,
                sysctls.original(sysctl).unwrap_or_default()
            );
        }
        if name.starts_with("link_") {
            if attempt(remove_link(&path)) {
                removed.links += 1;
            }
            if let Some((Hook::Ingress, index)) = pins::parse_link_name(&name) {
                let interface = here.then(|| nic::name_of(index)).flatten();
                if let Some(interface) = &interface {
                    attempt(detach_clsact(interface));
                }
                removed
                    .interfaces
                    .push(interface.unwrap_or_else(|| format!("index {index}")));
            }
            continue;
        }
        let kind = fs::symlink_metadata(&path).map(|metadata| metadata.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            attempt(fs::remove_dir(&path).map_err(io_error("remove", &path)));
        } else if attempt(pins::remove(&path)) && kind.is_ok_and(|kind| !kind.is_symlink()) {
            match name.starts_with("prog_") {
                true => removed.programs += 1,
                false => removed.maps += 1,
            }
        }
    }
    attempt(fs::remove_dir(dir).map_err(io_error("remove", dir)));
    first_error.map_or(Ok(removed), Err)
}

/// Detaches the link that is pinned at `path` and removes the pin.
pub(super) fn remove_link(path: &Path) -> Result<()> {
    match sys::object_get(path) {
        // Where detaching is refused, removing the last reference does it.
        Ok(link) => match sys::link_detach(link.as_fd()) {
            Ok(()) => {}
            Err(error) => tracing::debug!("cannot detach {} by command: {error}", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("open", path)(error)),
    }
    pins::remove(path)
}

/// Removes our filters from an interface's clsact qdisc, on kernels where
/// egress hangs there. The qdisc itself stays: others may use it.
pub(super) fn detach_clsact(interface: &str) -> Result<()> {
    if Kernel::running().is_ok_and(Kernel::has_tcx) {
        return Ok(());
    }
    match qdisc_detach_program(interface, TcAttachType::Egress, names::EGRESS) {
        Ok(()) => Ok(()),
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::Program {
            action: "detach from its clsact qdisc",
            program: names::EGRESS,
            source: error.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_removed_that_is_not_a_trackers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(matches!(
            unload(&path.join("none")),
            Err(Error::NoTracker { .. })
        ));
        fs::write(path.join("stranger"), "").unwrap();
        assert!(matches!(unload(path), Err(Error::NotOurs { .. })));
        assert!(path.join("stranger").exists());
    }

    #[test]
    fn a_foreign_layout_is_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tracker");
        fs::create_dir_all(path.join("reaper")).unwrap();
        symlink("tracker-layout-77", path.join(pins::LAYOUT)).unwrap();
        for name in ["SOME_MAP", "OTHER", "prog_x"] {
            fs::write(path.join(name), "").unwrap();
        }
        let removed = unload(&path).unwrap();
        assert_eq!(
            (removed.layout.as_str(), removed.maps, removed.programs),
            ("77", 2, 1)
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_running_agent_is_not_unloaded() {
        let dir = tempfile::tempdir().unwrap();
        symlink("tracker-layout-1", dir.path().join(pins::LAYOUT)).unwrap();
        let _agent = pins::lock(dir.path()).unwrap();
        assert!(matches!(unload(dir.path()), Err(Error::Busy { .. })));
        assert!(dir.path().join(pins::LAYOUT).is_symlink());
    }
}
