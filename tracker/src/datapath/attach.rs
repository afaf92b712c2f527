//! Hangs the hooks on one interface: a new link, or an earlier agent's.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use aya_obj::generated::bpf_attach_type;
use tracker_common::abi::Hook;

use super::{
    nic::Nic,
    pins::{self, PinDir},
    sys,
    unload::remove_link,
};
use crate::config::XdpChoice;

/// How the ingress program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// In the network stack.
    Generic,
}

impl XdpMode {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Attaches the ingress program, or replaces the program of the link that is
/// pinned. The link stays pinned: it outlives this process.
///
/// # Errors
///
/// Another XDP program is there, or the chosen mode is not possible.
pub(super) fn ingress(
    dir: &PinDir,
    nic: &Nic,
    program: BorrowedFd<'_>,
    choice: XdpChoice,
) -> Result<XdpMode> {
    let name = &nic.name;
    if replace(&dir.link(Hook::Ingress, nic.index), program)? {
        let mode = match pins::recorded_mode(dir.path(), nic.index).as_deref() {
            Some("native") => XdpMode::Native,
            _ => XdpMode::Generic,
        };
        if matches!(
            (choice, mode),
            (XdpChoice::Native, XdpMode::Generic) | (XdpChoice::Generic, XdpMode::Native)
        ) {
            tracing::warn!(
                "{name}: the link that an earlier run left stays in {mode} mode; `tracker unload` \
                 first to change it"
            );
        }
        return Ok(mode);
    }
    match choice {
        XdpChoice::Generic => {
            if let Err(error) = create_xdp(dir, nic, program, XdpMode::Generic) {
                let reason = reason(&error, nic);
                return Err(error).with_context(|| {
                    format!("cannot attach XDP in generic mode to {name}: {reason}")
                });
            }
            Ok(XdpMode::Generic)
        }
        XdpChoice::Native => {
            if let Err(error) = create_xdp(dir, nic, program, XdpMode::Native) {
                let reason = reason(&error, nic);
                let advice = if taken(&error) {
                    ""
                } else {
                    "; `--xdp auto` takes generic mode where native is not possible"
                };
                return Err(error).with_context(|| {
                    format!("cannot attach XDP in native mode to {name}: {reason}{advice}")
                });
            }
            Ok(XdpMode::Native)
        }
        XdpChoice::Auto => {
            let Err(native) = create_xdp(dir, nic, program, XdpMode::Native) else {
                return Ok(XdpMode::Native);
            };
            let why = reason(&native, nic);
            if taken(&native) {
                return Err(native).with_context(|| format!("cannot attach XDP to {name}: {why}"));
            }
            create_xdp(dir, nic, program, XdpMode::Generic).with_context(|| {
                format!(
                    "cannot attach XDP to {name} in generic mode either (native: {why}: {native})"
                )
            })?;
            if nic.loopback {
                tracing::debug!("{name}: XDP in generic mode, the only one of the loopback");
            } else {
                tracing::info!(
                    "{name}: XDP in generic mode, since native is not possible: {why} ({native})"
                );
            }
            Ok(XdpMode::Generic)
        }
    }
}

/// Attaches the egress program in front of the others of the TCX chain, or
/// replaces the program of the link that is pinned.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn egress(dir: &PinDir, nic: &Nic, program: BorrowedFd<'_>) -> Result<()> {
    let pin = dir.link(Hook::Egress, nic.index);
    if replace(&pin, program)? {
        return Ok(());
    }
    let attach_type = bpf_attach_type::BPF_TCX_EGRESS;
    let link = sys::link_create(program, nic.index, attach_type, sys::BPF_F_BEFORE)
        .with_context(|| format!("cannot attach to the TCX egress of {}", nic.name))?;
    sys::object_pin(link.as_fd(), &pin).with_context(|| {
        format!(
            "cannot pin the TCX link of {} at {}",
            nic.name,
            pin.display()
        )
    })
}

/// Puts `program` into the link that is pinned at `pin`; false where there is
/// none that still hangs on an interface.
fn replace(pin: &Path, program: BorrowedFd<'_>) -> Result<bool> {
    let link = match sys::object_get(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot open the link {}", pin.display()));
        }
    };
    match sys::link_update(link.as_fd(), program) {
        Ok(()) => Ok(true),
        // Its interface is gone, and another one has the index; or somebody
        // detached it.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
            remove_link(pin)?;
            Ok(false)
        }
        Err(error) => Err(error)
            .with_context(|| format!("cannot replace the program of the link {}", pin.display())),
    }
}

fn create_xdp(dir: &PinDir, nic: &Nic, program: BorrowedFd<'_>, mode: XdpMode) -> io::Result<()> {
    // Before the link is pinned, so that no link is without its record.
    dir.record_mode(nic.index, mode.as_str())
        .map_err(io::Error::other)?;
    let attach_type = bpf_attach_type::BPF_XDP;
    let link = sys::link_create(program, nic.index, attach_type, mode.flags())?;
    sys::object_pin(link.as_fd(), &dir.link(Hook::Ingress, nic.index))
}

/// Whether the place is taken by another XDP program.
fn taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// What an error of `BPF_LINK_CREATE` for XDP means (net/core/dev.c,
/// `dev_xdp_attach`, and the drivers).
fn reason(error: &io::Error, nic: &Nic) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached, and an interface carries one; see `ip link show` and \
             remove it with `ip link set dev … xdp off`, or with the tool that attached it"
        }
        _ if nic.loopback => "the loopback has no driver",
        Some(libc::EOPNOTSUPP) => "the driver cannot",
        Some(libc::EINVAL) => "the driver refuses it with the interface's settings",
        Some(libc::ERANGE | libc::E2BIG | libc::EMSGSIZE) => "the MTU is too large for the driver",
        Some(libc::ENOSPC) => "the interface has too few queues for it",
        Some(libc::ENOMEM) => "the driver found no memory",
        _ => "the kernel refuses",
    }
}

/// Makes sure that nothing is half attached: used where a later step failed.
pub(super) fn undo(dir: &PinDir, ifindex: u32) {
    for hook in [Hook::Ingress, Hook::Egress] {
        if let Err(error) = remove_link(&dir.link(hook, ifindex)) {
            tracing::error!("{:#}", anyhow::Error::from(error));
        }
    }
    if let Err(error) = dir.forget_mode(ifindex) {
        tracing::error!("{:#}", anyhow::Error::from(error));
    }
}

/// Refuses what the kernel cannot do without TCX.
///
/// # Errors
///
/// Maps and programs should outlive the agent, but the egress filter cannot.
pub(super) fn can_outlive(tcx: bool, keep: bool) -> Result<()> {
    if keep && !tcx {
        bail!(
            "`--on-exit keep` needs TCX, which Linux has since 6.6: on this kernel the egress hook \
             hangs on a clsact qdisc and cannot be handed to the next run; use `--on-exit detach`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_place_is_told_from_an_unable_driver() {
        let nic = Nic {
            name: "x".into(),
            index: 1,
            loopback: false,
            strips_tags: false,
            partial_checksums: None,
        };
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let unable = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        assert!(taken(&busy) && !taken(&unable));
        assert!(reason(&busy, &nic).contains("xdp off"));
        assert_eq!(reason(&unable, &nic), "the driver cannot");
        let lo = Nic {
            loopback: true,
            ..nic
        };
        assert_eq!(reason(&unable, &lo), "the loopback has no driver");
    }

    #[test]
    fn without_tcx_nothing_can_be_kept() {
        assert!(can_outlive(true, true).is_ok());
        assert!(can_outlive(false, false).is_ok());
        assert!(
            can_outlive(false, true)
                .unwrap_err()
                .to_string()
                .contains("6.6")
        );
    }
}
