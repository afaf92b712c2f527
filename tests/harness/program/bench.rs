//! The programs, their clock, and an account of their counters.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use tracker::{
    datapath::{Fresh, LoadOptions, Loaded, Place, Ran, Run, load_for_test},
    policy::compile::Compiled,
};
use tracker_common::{
    abi::{Cause, Family, Flow, Gauge, Hook, Key, Live, Mode, reason_slot},
    reason::Reason,
    tcp::timeout::Profile,
};

use crate::netns::run;

/// Verdicts of XDP (include/uapi/linux/bpf.h).
mod xdp {
    pub const DROP: u32 = 1;
    pub const PASS: u32 = 2;
    pub const TX: u32 = 3;
}

/// Verdicts of TCX (include/uapi/linux/pkt_cls.h).
mod tc {
    /// `TC_ACT_UNSPEC`, -1.
    pub const UNSPEC: u32 = u32::MAX;
    pub const SHOT: u32 = 2;
    pub const REDIRECT: u32 = 7;
}

/// Octets that a frame may have when it comes out of a run.
const LONGEST: usize = 4096;

/// The interface on which packets of [`Origin::Wire`] arrive.
const INTERFACE: &str = "wire0";

/// Bits of the source prefixes that limits of rules tell apart, IPv4 and IPv6.
const SOURCE_BITS: [u8; 2] = [32, 64];

/// Where a packet seems to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It came in on an interface.
    Wire,
    /// It came in on the loopback device.
    Loopback,
    /// This host sends it.
    Host,
    /// This host forwards it from an interface that carries no program of ours.
    Forwarded,
}

impl Origin {
    /// The hook that sees it.
    #[must_use]
    pub const fn hook(self) -> Hook {
        match self {
            Self::Wire | Self::Loopback => Hook::Ingress,
            Self::Host | Self::Forwarded => Hook::Egress,
        }
    }

    /// Where the packets of the other end come from.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Wire => Self::Host,
            Self::Host => Self::Wire,
            Self::Loopback => Self::Loopback,
            Self::Forwarded => Self::Forwarded,
        }
    }

    /// Whether this host's own stack sent it.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Loopback | Self::Host)
    }
}

/// What the bench configures unless a test says otherwise.
#[must_use]
pub fn live() -> Live {
    Live {
        policy: 1,
        half_open_limit: 1 << 20,
        pickup_limit: 1 << 20,
        capacity: 1 << 16,
        ring_slots: 1 << 12,
        ..Live::observing(Profile::Linux)
    }
}

/// Options that fit [`live`].
#[must_use]
pub fn options() -> LoadOptions {
    LoadOptions {
        capacity: 1 << 16,
        half_open_limit: 1 << 12,
        event_ring_bytes: 1 << 12,
        embryo_ring_bytes: 1 << 12,
        ..LoadOptions::default()
    }
}

/// The loaded programs in the hands of a test.
///
/// Made in a network namespace that only the making thread is in, and that
/// ends with it: the programs look for the host's sockets and interfaces, and
/// must find only the test's. So every packet is run from that thread.
pub struct Bench {
    /// The programs and their maps.
    pub loaded: Loaded,
    /// Nanoseconds of the programs' clock.
    clock: u64,
    /// Index of [`INTERFACE`].
    wire: u32,
    /// Packets sent so far, by [`reason_slot`].
    sent: HashMap<u32, u64>,
    /// Slot of the policy that [`Bench::policy`] has installed.
    policy: Option<u32>,
}

impl Bench {
    /// Loads the programs with [`options`] and configures [`live`].
    ///
    /// # Errors
    ///
    /// Not root, or the programs cannot be loaded.
    pub fn new() -> Result<Self> {
        Self::with(&options())
    }

    /// Loads the programs.
    ///
    /// # Errors
    ///
    /// As [`Bench::new`].
    pub fn with(options: &LoadOptions) -> Result<Self> {
        let wire = enter_namespace()?;
        let loaded = load_for_test(options)?;
        loaded.set_live(&live())?;
        let mut bench = Self {
            loaded,
            clock: 0,
            wire,
            sent: HashMap::new(),
            policy: None,
        };
        bench.wait_ms(3_600_000)?;
        Ok(bench)
    }

    /// Slot of the one policy of this bench, for [`Live::policy_slot`]; it is `made`
    /// the first time that it is asked for.
    ///
    /// # Errors
    ///
    /// It cannot be installed.
    pub fn policy(&mut self, made: impl FnOnce() -> Compiled) -> Result<u32> {
        if let Some(slot) = self.policy {
            return Ok(slot);
        }
        let compiled = made();
        let fresh: Vec<Fresh> = compiled
            .rules
            .iter()
            .map(|rule| Fresh {
                number: rule.number,
                source_bits: SOURCE_BITS,
            })
            .collect();
        let slot = self.loaded.install_policy(&compiled, &fresh)?.slot;
        self.policy = Some(slot);
        Ok(slot)
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// The clock's map cannot be written.
    pub fn wait_ms(&mut self, ms: u64) -> Result<()> {
        self.clock += ms * 1_000_000;
        Ok(self.loaded.set_test_clock(self.clock)?)
    }

    /// The programs' clock, ns.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.clock
    }

    /// What the program's context says of a packet of this origin.
    #[must_use]
    pub const fn place(&self, origin: Origin) -> Place {
        let ingress_ifindex = match origin {
            Origin::Wire | Origin::Forwarded => self.wire,
            Origin::Loopback | Origin::Host => 0,
        };
        Place {
            ingress_ifindex,
            ..Place::UNKNOWN
        }
    }

    /// Index of the interface that the program sees with a packet of this
    /// origin.
    #[must_use]
    pub const fn ifindex(&self, origin: Origin) -> u32 {
        match origin {
            Origin::Wire => self.wire,
            // The loopback device, on which test runs take place.
            Origin::Loopback | Origin::Host | Origin::Forwarded => 1,
        }
    }

    /// Runs a packet through its hook, and checks that it may pass.
    ///
    /// # Errors
    ///
    /// The kernel refuses the run, or the program does not let it pass.
    pub fn run(&self, origin: Origin, frame: &[u8]) -> Result<()> {
        self.repeat(origin, frame, 1)
    }

    /// Runs a packet through its hook so many times without a pause.
    ///
    /// # Errors
    ///
    /// As [`Bench::run`], of the last time.
    pub fn repeat(&self, origin: Origin, frame: &[u8], times: u32) -> Result<()> {
        let run = Run {
            repeat: times,
            ..Run::once(frame)
        };
        let verdict = self.raw(origin, run)?.verdict;
        let pass = match origin.hook() {
            Hook::Ingress => xdp::PASS,
            Hook::Egress => tc::UNSPEC,
        };
        ensure!(verdict == pass, "verdict {verdict} instead of {pass}");
        Ok(())
    }

    fn raw(&self, origin: Origin, run: Run<'_>) -> Result<Ran> {
        let run = Run {
            place: self.place(origin),
            ..run
        };
        Ok(match origin.hook() {
            Hook::Ingress => self.loaded.ingress(run)?,
            Hook::Egress => self.loaded.egress(run)?,
        })
    }

    /// Checks the verdict on a packet that left with `reason`: what is refused
    /// is dropped while enforcing, and what is answered goes back.
    fn judge(&self, origin: Origin, reason: Reason, verdict: u32) -> Result<()> {
        let drops = reason.refuses() && self.loaded.live()?.mode == Mode::Enforce as u8;
        let rejects = drops && matches!(reason, Reason::PolicyReset | Reason::PolicyProhibited);
        let expected = match (origin.hook(), reason) {
            (Hook::Ingress, Reason::CookieSent) => xdp::TX,
            _ if rejects && origin == Origin::Wire => xdp::TX,
            _ if rejects && origin == Origin::Host => tc::REDIRECT,
            (Hook::Ingress, _) if drops => xdp::DROP,
            (Hook::Ingress, _) => xdp::PASS,
            (Hook::Egress, _) if drops => tc::SHOT,
            (Hook::Egress, _) => tc::UNSPEC,
        };
        ensure!(
            verdict == expected,
            "verdict {verdict} instead of {expected} on {}",
            reason.as_str()
        );
        Ok(())
    }

    /// Runs a packet that must leave with `reason`: that one counter moves by
    /// one, and the verdict fits. That no other does is for [`Bench::settle`].
    ///
    /// # Errors
    ///
    /// The kernel refuses the run, another reason or another verdict.
    pub fn expect(&mut self, origin: Origin, frame: &[u8], reason: Reason) -> Result<()> {
        let verdict = self.raw(origin, Run::once(frame))?.verdict;
        self.expected(origin, reason, verdict)
    }

    /// As [`Bench::expect`]; gives the frame as the program left it.
    ///
    /// # Errors
    ///
    /// As [`Bench::expect`].
    pub fn expect_and_see(
        &mut self,
        origin: Origin,
        frame: &[u8],
        reason: Reason,
    ) -> Result<Vec<u8>> {
        let (verdict, out) = self.see(origin, frame)?;
        self.expected(origin, reason, verdict)?;
        Ok(out)
    }

    fn expected(&mut self, origin: Origin, reason: Reason, verdict: u32) -> Result<()> {
        let hook = origin.hook();
        let wanted = self.sent.entry(reason_slot(reason, hook)).or_default();
        *wanted += 1;
        let wanted = *wanted;
        let counted = self.loaded.reason(reason, hook)?.packets;
        if counted != wanted {
            self.settle()
                .with_context(|| format!("the packet should be {}", reason.as_str()))?;
        }
        self.judge(origin, reason, verdict)
    }

    /// Runs a packet; gives the verdict and the frame as the program left it.
    fn see(&self, origin: Origin, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; LONGEST.max(frame.len())];
        let run = Run {
            out: Some(&mut out),
            ..Run::once(frame)
        };
        let ran = self.raw(origin, run)?;
        out.truncate(ran.out_len);
        Ok((ran.verdict, out))
    }

    /// Runs a packet and gives its reason, which the verdict fits.
    ///
    /// # Errors
    ///
    /// The kernel refuses the run, the verdict is another one, or not exactly one
    /// counter moved by one.
    pub fn send(&mut self, origin: Origin, frame: &[u8]) -> Result<Reason> {
        Ok(self.send_and_see(origin, frame)?.0)
    }

    /// As [`Bench::send`]; gives the frame, too, as the program left it.
    ///
    /// # Errors
    ///
    /// As [`Bench::send`].
    pub fn send_and_see(&mut self, origin: Origin, frame: &[u8]) -> Result<(Reason, Vec<u8>)> {
        let (verdict, out) = self.see(origin, frame)?;
        let reason = self.moved(origin.hook())?;
        self.judge(origin, reason, verdict)?;
        Ok((reason, out))
    }

    /// The reason whose counter has moved by one since the last packet; no other
    /// has.
    fn moved(&mut self, at: Hook) -> Result<Reason> {
        let mut found = Vec::new();
        for (reason, hook, count) in self.loaded.reasons()? {
            let before = self
                .sent
                .insert(reason_slot(reason, hook), count.packets)
                .unwrap_or(0);
            if count.packets != before {
                found.push((reason, hook, count.packets - before));
            }
        }
        match found[..] {
            [(reason, hook, 1)] if hook == at => Ok(reason),
            _ => bail!("one packet at {at:?} moved the counters {found:?}"),
        }
    }

    /// Checks every counter against what was sent.
    ///
    /// # Errors
    ///
    /// A counter differs.
    pub fn settle(&self) -> Result<()> {
        let mut wrong = Vec::new();
        for (reason, hook, count) in self.loaded.reasons()? {
            let sent = self
                .sent
                .get(&reason_slot(reason, hook))
                .copied()
                .unwrap_or(0);
            if count.packets != sent {
                wrong.push(format!(
                    "{} at {hook:?}: counted {}, expected {sent}",
                    reason.as_str(),
                    count.packets
                ));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// Reads a flow.
    ///
    /// # Errors
    ///
    /// The table cannot be read.
    pub fn flow(&self, family: Family, key: &Key) -> Result<Option<Flow>> {
        Ok(self.loaded.flow(family, key)?)
    }

    /// A shared counter.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn gauge(&self, gauge: Gauge) -> Result<u64> {
        Ok(self.loaded.gauges()?[gauge as usize])
    }

    /// Every flow of a family.
    ///
    /// # Errors
    ///
    /// The table cannot be read.
    pub fn flows(&self, family: Family) -> Result<Vec<(Key, Flow)>> {
        let mut reader = self.loaded.flows(family)?;
        let mut flows = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            flows.extend_from_slice(chunk);
        }
        Ok(flows)
    }

    /// Removes every flow, by way of the reaper.
    ///
    /// # Errors
    ///
    /// The reaper fails.
    pub fn flush(&self) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let flows: Vec<_> = self
                .flows(family)?
                .into_iter()
                .map(|(key, flow)| (family, key, flow.generation))
                .collect();
            self.loaded.remove(Cause::Flushed, &flows)?;
        }
        Ok(())
    }
}

/// Moves this thread to a network namespace of its own with one interface
/// besides the loopback device, whose index it gives. It is down and nothing is
/// attached to it: packets only seem to come from there.
fn enter_namespace() -> Result<u32> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "loading the programs needs root: run `cargo xtask test`, which asks sudo for it"
    );
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
    run(std::process::Command::new("ip").args([
        "link", "add", INTERFACE, "type", "veth", "peer", "name", "wire1",
    ]))?;
    nix::net::if_::if_nametoindex(INTERFACE).with_context(|| format!("the index of {INTERFACE}"))
}
