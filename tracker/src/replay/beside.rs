//! The loaded program beside the brain: the same packets by
//! `BPF_PROG_TEST_RUN`, and the same flows afterwards.
//!
//! Packets that leave the host go through the egress program, all others
//! through the ingress program, as if they came in on an interface in a network
//! namespace of its own.

use std::{collections::HashMap, io, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use tracker_common::{
    abi::{Cause, Family, Flow, Gauge, Hook, Interface, SpinLock, interface_flags, reason_slot},
    parse::{self, Bytes as _, Packet},
    reason::Reason,
};

use super::{Frame, Id, Passage, Seen, Settings, Table};
use crate::datapath::{LoadOptions, Loaded, Place, Run, index_of, load_for_test};

/// `XDP_PASS` (include/uapi/linux/bpf.h).
const XDP_PASS: u32 = 2;
/// `TC_ACT_UNSPEC`, -1 (include/uapi/linux/pkt_cls.h).
const TC_ACT_UNSPEC: u32 = u32::MAX;

/// The interfaces on which packets seem to come in.
const INTERFACES: [&str; 2] = ["replay0", "replay1"];
/// The loopback device, on which test runs of the egress program take place.
const LOOPBACK: u32 = 1;

/// Octets of a frame that every kernel's test run takes. (The first page less
/// headroom and tailroom; newer ones take longer frames in pieces.)
const SURE: usize = 3000;
/// Octets of the longest frame that is made for a test run, of which a capture
/// may claim four thousand times as many.
const LONGEST: u32 = 1 << 20;

/// The loaded program.
pub struct Beside {
    loaded: Loaded,
    /// Indices of the interfaces on which packets seem to come in.
    ifindices: [u32; 2],
    checksum: bool,
    clock_ns: u64,
    frame: Vec<u8>,
    /// Packets by [`reason_slot`].
    sent: HashMap<u32, u64>,
    skipped: Skipped,
    padded: u64,
    agreed: u64,
}

/// Packets that went through neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Longer than a test run takes.
    pub long: u64,
    /// Shorter than an Ethernet header, which a test run asks for.
    pub short: u64,
    /// Cut so short that what is to be read of them is missing.
    pub cut: u64,
}

impl Beside {
    /// Loads the programs with these settings, in a network namespace that only
    /// this thread is in, and that ends with it.
    ///
    /// # Errors
    ///
    /// Not root, `ip` is missing, or the programs cannot be loaded.
    pub fn load(settings: &Settings) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "--kernel loads the programs, which needs root: run this with sudo, or leave it out"
        );
        let ifindices = enter_namespace()?;
        let Settings {
            live,
            role,
            checksum,
        } = settings;
        let loaded = load_for_test(&LoadOptions {
            role: *role,
            checksum: *checksum,
            capacity: live.capacity,
            half_open_limit: live.half_open_limit.max(1),
            ..LoadOptions::default()
        })?;
        loaded.set_live(live)?;
        if *checksum {
            let flags = interface_flags::INGRESS | interface_flags::CHECKSUM;
            for ifindex in ifindices {
                loaded.set_interface(ifindex, Interface { flags })?;
            }
        }
        Ok(Self {
            loaded,
            ifindices,
            checksum: *checksum,
            clock_ns: 0,
            frame: Vec::new(),
            sent: HashMap::new(),
            skipped: Skipped::default(),
            padded: 0,
            agreed: 0,
        })
    }

    /// Index of the interface that the program sees with a packet. There are two
    /// on which packets come in: of more ways that number, some are one to both.
    #[must_use]
    pub const fn ifindex(&self, seen: &Seen) -> u32 {
        let [even, odd] = self.ifindices;
        if seen.leaves {
            LOOPBACK
        } else if seen.ifindex.is_multiple_of(2) {
            even
        } else {
            odd
        }
    }

    /// Packets that could not be run.
    #[must_use]
    pub const fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Packets of which the capture holds only the beginning, and which the
    /// program saw with zeros behind it.
    #[must_use]
    pub const fn padded(&self) -> u64 {
        self.padded
    }

    /// Packets that went through both, and left both with the same reason and
    /// the same flow behind them.
    #[must_use]
    pub const fn agreed(&self) -> u64 {
        self.agreed
    }

    fn set_clock(&mut self, now_ns: u64) -> Result<()> {
        if self.clock_ns != now_ns {
            self.loaded.set_test_clock(now_ns)?;
            self.clock_ns = now_ns;
        }
        Ok(())
    }

    /// Runs the program on a frame. False where a test run cannot: the brain is
    /// not to see it either.
    ///
    /// What was not captured of a frame is zeros to the program: it reads no
    /// data.
    ///
    /// # Errors
    ///
    /// The kernel refuses the run, or the program does not let the packet pass.
    pub fn run(&mut self, frame: &Frame<'_>, seen: &Seen) -> Result<bool> {
        self.set_clock(seen.now_ns)?;
        if frame.length() > LONGEST {
            self.skipped.long += 1;
            return Ok(false);
        }
        frame.write(&mut self.frame);
        if self.frame.len() < 14 {
            self.skipped.short += 1;
            return Ok(false);
        }
        // Of what is not in one piece the program cannot form the sum.
        if self.checksum && self.frame.len() > SURE {
            self.skipped.long += 1;
            return Ok(false);
        }
        if frame.is_cut() {
            // The brain knows what is missing, the program would read zeros.
            if self.checksum || !has_headers(frame) {
                self.skipped.cut += 1;
                return Ok(false);
            }
            self.padded += 1;
        }
        let run = Run {
            place: Place {
                // A packet that leaves and had come in was forwarded, and counts
                // where it came in: none of these did.
                ingress_ifindex: if seen.leaves { 0 } else { seen.ifindex },
                ..Place::UNKNOWN
            },
            ..Run::once(&self.frame)
        };
        let (ran, pass) = if seen.leaves {
            (self.loaded.egress(run), TC_ACT_UNSPEC)
        } else {
            (self.loaded.ingress(run), XDP_PASS)
        };
        match ran {
            Ok(ran) => {
                ensure!(
                    ran.verdict == pass,
                    "the program's verdict is {} instead of {pass}, which lets it pass",
                    ran.verdict
                );
                Ok(true)
            }
            Err(error) if self.frame.len() > SURE && is_too_long(&error) => {
                self.skipped.long += 1;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Compares what the program made of the packet that ran last with what the
    /// brain made of it.
    ///
    /// # Errors
    ///
    /// They differ, in the reason or anywhere in the flow.
    pub fn compare(&mut self, seen: &Seen, table: &Table, passage: &Passage) -> Result<()> {
        let hook = if seen.leaves {
            Hook::Egress
        } else {
            Hook::Ingress
        };
        let slot = reason_slot(passage.reason, hook);
        let sent = self.sent.entry(slot).or_default();
        *sent += 1;
        if self.loaded.reason(passage.reason, hook)?.packets != *sent {
            *sent -= 1;
            let theirs = self.news()?;
            bail!(
                "the brain and the program disagree: the brain says {}, the program says {theirs}",
                passage.reason.as_str()
            );
        }
        self.agreed += 1;
        let Some(id) = &passage.id else {
            return Ok(());
        };
        let theirs = self.loaded.flow(id.family(), &id.key())?;
        let ours = table.get(id).map(|entry| entry.flow);
        same(ours.as_ref(), theirs.as_ref())
    }

    /// Has the reaper remove every flow.
    ///
    /// # Errors
    ///
    /// The reaper fails.
    pub fn flush(&mut self) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let mut candidates = Vec::new();
            let mut reader = self.loaded.flows(family)?;
            while let Some(chunk) = reader.next_chunk()? {
                let flows = chunk.iter();
                candidates.extend(flows.map(|(key, flow)| (family, *key, flow.generation)));
            }
            self.loaded.remove(Cause::Flushed, &candidates)?;
        }
        Ok(())
    }

    /// The reasons that were counted and not expected.
    fn news(&self) -> Result<String> {
        let mut news = Vec::new();
        for (reason, hook, count) in self.loaded.reasons()? {
            let sent = self.sent.get(&reason_slot(reason, hook)).copied();
            if count.packets != sent.unwrap_or(0) {
                news.push(reason.as_str());
            }
        }
        Ok(if news.is_empty() {
            "nothing".to_owned()
        } else {
            news.join(", ")
        })
    }

    /// Has the reaper remove flows that the brain found expired.
    ///
    /// # Errors
    ///
    /// The reaper keeps one.
    pub fn expire(&mut self, ids: &[Id], now_ns: u64) -> Result<()> {
        self.set_clock(now_ns)?;
        let mut candidates = Vec::with_capacity(ids.len());
        for id in ids {
            let (family, key) = (id.family(), id.key());
            let flow = self.loaded.flow(family, &key)?.with_context(|| {
                format!(
                    "the brain and the program disagree: {id:?} expires, the program has not got it"
                )
            })?;
            candidates.push((family, key, flow.generation));
        }
        let totals = self.loaded.remove(Cause::Expired, &candidates)?;
        ensure!(
            totals.removed == ids.len() as u64,
            "the brain and the program disagree: {} flows expire, of which the program says {totals:?}",
            ids.len()
        );
        Ok(())
    }

    /// Compares every flow, what is remembered beside it, and every shared
    /// counter.
    ///
    /// # Errors
    ///
    /// Any differs.
    pub fn settle(&self, table: &Table) -> Result<()> {
        let gauges = self.loaded.gauges()?;
        for (gauge, ours) in [
            (Gauge::HalfOpen, table.half_open()),
            (Gauge::Pickup, table.pickups()),
            (Gauge::FlowsV4, table.count(Family::V4)),
            (Gauge::FlowsV6, table.count(Family::V6)),
        ] {
            let theirs = gauges.get(gauge as usize).copied().unwrap_or(0);
            ensure!(
                ours == theirs,
                "the brain and the program disagree: {gauge:?} is {ours} and {theirs}"
            );
        }
        let (histories, refusals) = (self.loaded.histories()?, self.loaded.refusals()?);
        for (id, entry) in table.flows() {
            let theirs = self.loaded.flow(id.family(), &id.key())?;
            same(Some(&entry.flow), theirs.as_ref())?;
            let theirs = theirs.map_or(0, |flow| flow.id().0);
            // The program's tables forget; what they do hold must fit.
            let history = histories.get(&theirs);
            ensure!(
                history.is_none() || history == entry.history.as_deref(),
                "the brain and the program disagree about a history: the brain has {:#?}, the \
                 program has {history:#?}",
                entry.history
            );
            let refusal = refusals.get(&theirs);
            ensure!(
                refusal.is_none() || refusal == entry.refusal.as_deref(),
                "the brain and the program disagree about a refusal: the brain has {:#?}, the \
                 program has {refusal:#?}",
                entry.refusal
            );
        }
        Ok(())
    }
}

/// Checks that a flow is the same to both.
///
/// # Errors
///
/// It is not; the message has both.
fn same(ours: Option<&Flow>, theirs: Option<&Flow>) -> Result<()> {
    ensure!(
        ours.map(comparable) == theirs.map(comparable),
        "the brain and the program disagree about a flow:\nthe brain has {ours:?}\nthe program has \
         {theirs:?}"
    );
    Ok(())
}

/// All octets of a flow but those that only the program knows: the lock, and the
/// generation.
#[must_use]
pub fn comparable(flow: &Flow) -> [u8; size_of::<Flow>()] {
    let flow = Flow {
        lock: SpinLock::default(),
        generation: 0,
        ..*flow
    };
    // SAFETY: a flow is made of integers without padding, which its layout's
    // asserts hold (it is plain old data to maps), so every octet is initialised.
    unsafe { std::mem::transmute(flow) }
}

/// Whether a frame that was cut off has all its headers. What lies behind those
/// is not read.
fn has_headers(frame: &Frame<'_>) -> bool {
    let mut packet = Packet::default();
    match parse::ethernet(frame, 0, &mut packet) {
        Err(reason) => reason != Reason::Unreachable,
        // An ICMP error quotes less than a header.
        Ok(()) if packet.quoted != 0 => true,
        Ok(()) => frame.get::<1>(packet.at + 12).is_some_and(|[words]| {
            packet.at as usize + usize::from(words >> 4) * 4 <= frame.captured()
        }),
    }
}

/// Whether the kernel says so.
fn is_too_long(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| {
            matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::E2BIG | libc::EMSGSIZE | libc::ENOMEM)
            )
        })
}

/// Moves this thread to a network namespace of its own with two interfaces beside
/// the loopback device, whose indices it gives. They are down and carry nothing:
/// packets only seem to come from there. The program asks this namespace who
/// listens, and nobody does.
fn enter_namespace() -> Result<[u32; 2]> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    let [name, peer] = INTERFACES;
    let output = Command::new("ip")
        .args(["link", "add", name, "type", "veth", "peer", "name", peer])
        .output()
        .context("cannot start `ip`, which --kernel needs: install the package iproute2")?;
    ensure!(
        output.status.success(),
        "`ip link add {name} type veth` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let index = |name| index_of(name).with_context(|| format!("the interface {name} is gone"));
    Ok([index(name)?, index(peer)?])
}
