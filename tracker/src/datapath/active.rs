//! The tracker as its agent holds it: loaded, pinned, attached.

use std::{collections::BTreeMap, os::fd::AsFd, sync::Arc};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{
        SchedClassifier, TcAttachType, Xdp,
        tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcError},
    },
};
use tracker_common::abi::{Hook, Interface, ZoneKey, interface_flags};

use super::{
    LoadOptions, Pinned, ProgramLog, attach,
    attach::XdpMode,
    features::{self, Kernel},
    load::{load, program},
    names,
    nic::{self, Nic},
    pins::{self, PinDir},
    sys,
    unload::{detach_clsact, remove_link},
    upkeep::{self, Upkeep},
};
use crate::config::{Checksums, OnExit, XdpChoice, ZoneRule};

/// An interface that carries the hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name when it was attached.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// How the ingress program is attached.
    pub xdp: XdpMode,
    /// How the egress program is.
    pub egress: Egress,
    /// Whether TCP checksums of what comes in are verified.
    pub checksums: bool,
}

/// How the egress program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By a link in the TCX chain.
    Tcx,
    /// On a clsact qdisc.
    Clsact,
    /// Not at all: what leaves through the loopback comes in there again.
    None,
}

impl Egress {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
            Self::None => "none",
        }
    }
}

/// The running tracker: holds the pin directory and the programs.
pub struct Active {
    dir: PinDir,
    ebpf: Ebpf,
    pinned: Arc<Pinned>,
    kernel: Kernel,
    attached: BTreeMap<u32, Attached>,
    /// Filters on clsact qdiscs, which end with the agent.
    filters: BTreeMap<u32, SchedClassifierLinkId>,
}

impl Active {
    /// Checks the kernel, takes hold of the pin directory and loads the
    /// programs, over the maps that are pinned there if any are. Nothing is
    /// attached yet; what an earlier agent left attached goes on tracking.
    ///
    /// # Errors
    ///
    /// The kernel lacks something, the directory cannot be had, or the
    /// programs cannot be loaded. What was made is removed again.
    pub fn load(
        pin_dir: &std::path::Path,
        mut options: LoadOptions,
        on_exit: OnExit,
    ) -> Result<Self> {
        let kernel = features::check()?;
        attach::can_outlive(kernel.has_tcx(), on_exit == OnExit::Keep)?;
        let dir = PinDir::claim(pin_dir)?;
        let differences = options.adopt(dir.path())?;
        if !differences.is_empty() {
            tracing::warn!(
                "the maps that an earlier run left at {} stay as they are: {}; `tracker unload` \
                 first to change that",
                dir.path().display(),
                differences.join(", ")
            );
        }
        let mut ebpf = load(&options, Some(dir.path()))?;
        pin_programs(&mut ebpf, &dir)?;
        let pinned = Arc::new(Pinned::open(dir.path())?);
        Ok(Self {
            dir,
            ebpf,
            pinned,
            kernel,
            attached: BTreeMap::new(),
            filters: BTreeMap::new(),
        })
    }

    /// The maps.
    #[must_use]
    pub const fn pinned(&self) -> &Arc<Pinned> {
        &self.pinned
    }

    /// Whether everything can be left in place for another agent.
    #[must_use]
    pub fn can_be_kept(&self) -> bool {
        attach::can_outlive(self.kernel.has_tcx(), true).is_ok()
    }

    /// Whether an earlier agent's maps are in use.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.dir.is_adopted()
    }

    /// The interfaces that carry the hooks.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// What the programs log, `None` when they do not. Can be had once.
    pub fn log(&mut self) -> Option<ProgramLog> {
        ProgramLog::of(&mut self.ebpf)
    }

    /// Whether both hooks of an earlier agent are on each of `interfaces`, so that
    /// no packet has passed there unseen since.
    ///
    /// # Errors
    ///
    /// The pins cannot be read.
    pub fn are_in_place(&self, interfaces: &[String]) -> Result<bool> {
        let links = self.dir.links()?;
        Ok(self.is_adopted()
            && interfaces.iter().all(|name| {
                let Ok(nic) = Nic::find(name) else {
                    return false;
                };
                let hooks: &[Hook] = match nic.loopback {
                    true => &[Hook::Ingress],
                    false => &[Hook::Ingress, Hook::Egress],
                };
                hooks.iter().all(|&hook| links.contains(&(hook, nic.index)))
            }))
    }

    /// Writes down what the agent does by itself.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be written.
    pub fn set_upkeep(&self, upkeep: Upkeep) -> super::Result<()> {
        upkeep::write(self.dir.path(), upkeep)
    }

    /// Attaches the hooks to the interface `name`; both or, on an error,
    /// neither. Links that are pinned get the new programs atomically.
    ///
    /// # Errors
    ///
    /// The interface cannot carry them.
    pub fn attach(
        &mut self,
        name: &str,
        xdp: XdpChoice,
        checksums: Checksums,
    ) -> Result<&Attached> {
        let nic = Nic::find(name)?;
        let checksums = verified(&nic, checksums);
        // First of all: a forwarded packet must not be taken for a local one.
        let mut flags = interface_flags::INGRESS;
        if nic.strips_tags {
            flags |= interface_flags::STRIPS_TAGS;
        }
        if checksums {
            flags |= interface_flags::CHECKSUM;
        }
        // An earlier agent's links are not undone: they track on.
        let kept = self
            .dir
            .links()?
            .iter()
            .any(|&(_, index)| index == nic.index);
        self.pinned.set_interface(nic.index, Interface { flags })?;
        match self.hang(&nic, xdp) {
            Ok(attached) => Ok(self
                .attached
                .entry(nic.index)
                .insert_entry(Attached {
                    checksums,
                    ..attached
                })
                .into_mut()),
            Err(error) if kept => Err(error),
            Err(error) => {
                attach::undo(&self.dir, nic.index);
                self.pinned.clear_interface(nic.index)?;
                Err(error)
            }
        }
    }

    fn hang(&mut self, nic: &Nic, xdp: XdpChoice) -> Result<Attached> {
        let ingress: &mut Xdp = program(&mut self.ebpf, names::INGRESS)?;
        let xdp = attach::ingress(&self.dir, nic, ingress.fd()?.as_fd(), xdp)?;
        let egress = if nic.loopback {
            Egress::None
        } else if self.kernel.has_tcx() {
            let egress: &mut SchedClassifier = program(&mut self.ebpf, names::EGRESS)?;
            attach::egress(&self.dir, nic, egress.fd()?.as_fd())?;
            Egress::Tcx
        } else {
            self.hang_on_clsact(nic)?;
            Egress::Clsact
        };
        Ok(Attached {
            name: nic.name.clone(),
            index: nic.index,
            xdp,
            egress,
            checksums: false,
        })
    }

    fn hang_on_clsact(&mut self, nic: &Nic) -> Result<()> {
        let name = &nic.name;
        match tc::qdisc_add_clsact(name) {
            Ok(()) => {}
            Err(TcError::NetlinkError(_) | TcError::AlreadyAttached) => {
                tracing::debug!("{name} has a clsact qdisc already");
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot add a clsact qdisc to {name}"));
            }
        }
        // What an agent left that was killed.
        detach_clsact(name)?;
        let egress: &mut SchedClassifier = program(&mut self.ebpf, names::EGRESS)?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let id = egress
            .attach_with_options(name, TcAttachType::Egress, options)
            .with_context(|| format!("cannot attach to the clsact egress of {name}"))?;
        self.filters.insert(nic.index, id);
        Ok(())
    }

    /// Forgets interfaces that are gone, and returns what they were.
    ///
    /// # Errors
    ///
    /// Their pins or map entries cannot be removed.
    pub fn forget_gone(&mut self) -> Result<Vec<Attached>> {
        let gone: Vec<u32> = self
            .attached
            .keys()
            .copied()
            .filter(|&index| nic::name_of(index).is_none())
            .collect();
        let mut forgotten = Vec::with_capacity(gone.len());
        for index in gone {
            forgotten.extend(self.attached.remove(&index));
            // The filter went with the interface's qdisc.
            self.filters.remove(&index);
            self.release(index)?;
        }
        Ok(forgotten)
    }

    /// Detaches links of interfaces that are not attached by this agent: an
    /// earlier one had them.
    ///
    /// # Errors
    ///
    /// The pins cannot be read or removed.
    pub fn detach_others(&mut self) -> Result<Vec<u32>> {
        let mut others: Vec<u32> = self
            .dir
            .links()?
            .into_iter()
            .map(|(_, index)| index)
            .collect();
        others.extend(
            self.pinned
                .interfaces()?
                .into_iter()
                .map(|(index, _)| index),
        );
        others.sort_unstable();
        others.dedup();
        others.retain(|index| !self.attached.contains_key(index));
        for &index in &others {
            self.release(index)?;
        }
        Ok(others)
    }

    /// Removes what is pinned and written down for an interface. The map entry
    /// goes last: until the hook is gone, packets are seen there.
    fn release(&self, index: u32) -> Result<()> {
        for hook in [Hook::Egress, Hook::Ingress] {
            remove_link(&self.dir.link(hook, index))?;
        }
        self.dir.forget_mode(index)?;
        Ok(self.pinned.clear_interface(index)?)
    }

    /// Fills the map of zones, by the indexes that the interfaces have at this
    /// moment. Rules of interfaces that are gone are left out.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_zones(&self, rules: &[ZoneRule]) -> Result<()> {
        let wanted: Vec<(ZoneKey, u32)> = rules
            .iter()
            .filter_map(|rule| {
                let ifindex = nic::index_of(&rule.interface)?;
                Some((
                    ZoneKey {
                        ifindex,
                        outer: rule.outer,
                        inner: rule.inner,
                    },
                    rule.zone,
                ))
            })
            .collect();
        for (key, zone) in &wanted {
            self.pinned.set_zone(key, *zone)?;
        }
        for (key, _) in self.pinned.zones()? {
            if !wanted.iter().any(|(wanted, _)| *wanted == key) {
                self.pinned.clear_zone(&key)?;
            }
        }
        Ok(())
    }

    /// From here on the pins outlive this process, however it ends.
    pub const fn establish(&mut self) {
        self.dir.establish();
    }

    /// Ends: leaves everything in place for the next agent, or removes all.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub fn finish(mut self, on_exit: OnExit) -> Result<()> {
        match on_exit {
            OnExit::Keep => {
                if !self.filters.is_empty() {
                    bail!("the egress hooks cannot be kept on this kernel");
                }
                Ok(())
            }
            OnExit::Detach => {
                let egress: &mut SchedClassifier = program(&mut self.ebpf, names::EGRESS)?;
                for (index, id) in std::mem::take(&mut self.filters) {
                    if let Err(error) = egress.detach(id) {
                        tracing::warn!(
                            "the egress filter of interface {index} may have stayed: {error}"
                        );
                    }
                }
                Ok(self.dir.destroy()?)
            }
        }
    }
}

/// Whether TCP checksums are verified on an interface; that they are not where
/// they should be is told.
fn verified(nic: &Nic, checksums: Checksums) -> bool {
    match (checksums, nic.partial_checksums) {
        (Checksums::Ignore, _) => false,
        (Checksums::Force, _) | (Checksums::Verify, None) => true,
        (Checksums::Verify, Some(what)) => {
            tracing::warn!(
                "TCP checksums are not verified on {}: it is {what}, which hands over segments \
                 whose checksum was not computed yet; tracking.tcp_checksum_force overrules this",
                nic.name
            );
            false
        }
    }
}

/// Pins the programs, in place of those of an earlier agent.
fn pin_programs(ebpf: &mut Ebpf, dir: &PinDir) -> Result<()> {
    for (name, pin) in names::PROGRAMS {
        let program = ebpf.program(name).ok_or(super::Error::Missing {
            kind: "program",
            name,
        })?;
        let fd = program
            .fd()
            .with_context(|| format!("the program {name} is not loaded"))?;
        // A name without a dot: the file system refuses those.
        let (new, path) = (dir.path().join(format!("{pin}_new")), dir.path().join(pin));
        pins::remove(&new)?;
        sys::object_pin(fd.as_fd(), &new)
            .with_context(|| format!("cannot pin the program {name} at {}", new.display()))?;
        std::fs::rename(&new, &path)
            .with_context(|| format!("cannot move the pin {} into its place", path.display()))?;
    }
    Ok(())
}
