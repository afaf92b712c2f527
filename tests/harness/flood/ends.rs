//! The programs at both ends of a flooded cable, and what they count.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::PerCpuArray,
    programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, xdp::XdpMode},
};
use flood_ebpf::Slot;

use super::object;
use crate::netns::Namespace;

/// A program at an end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// XDP at the receiving end: drops the flood and lets the rest in.
    Sink,
    /// XDP at the receiving end: sends the flood back.
    Mirror,
    /// XDP at the sending end: drops answers to made-up sources. Frames that a
    /// program sends by `XDP_TX` arrive at a veth only where there is one.
    Absorb,
    /// The same behind the sending end's socket buffers, for answers that come
    /// from a stack: these need not become frames first.
    AbsorbTc,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Mirror => "mirror",
            Self::Absorb => "absorb",
            Self::AbsorbTc => "absorb_tc",
        }
    }
}

/// A program on an interface, until it is dropped.
pub struct Attached(Ebpf);

impl Attached {
    /// Attaches a program, XDP ones natively.
    ///
    /// # Errors
    ///
    /// The kernel refuses; no such interface.
    pub fn new(program: Program, netns: &Namespace, interface: &str) -> Result<Self> {
        let name = program.name();
        let attach = || -> Result<Self> {
            let mut ebpf = object()?;
            let found = ebpf
                .program_mut(name)
                .with_context(|| format!("the object has no program {name}"))?;
            match program {
                Program::Sink | Program::Mirror | Program::Absorb => {
                    let xdp: &mut Xdp = found.try_into()?;
                    xdp.load()?;
                    xdp.attach(interface, XdpMode::Driver)?;
                }
                Program::AbsorbTc => {
                    let classifier: &mut SchedClassifier = found.try_into()?;
                    classifier.load()?;
                    classifier
                        .attach(interface, TcAttachType::Ingress)
                        .map_err(|error: ProgramError| anyhow::Error::new(error))?;
                }
            }
            Ok(Self(ebpf))
        };
        netns
            .run_in(attach)?
            .with_context(|| format!("attaching {name} to {interface} of {}", netns.name()))
    }

    /// Frames of a kind that it has seen.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn count(&self, slot: Slot) -> Result<u64> {
        let counts: PerCpuArray<_, u64> = self
            .0
            .map("COUNTS")
            .context("the object has no map COUNTS")?
            .try_into()?;
        let cores = counts
            .get(&(slot as u32), 0)
            .context("reading what a program has counted")?;
        Ok(cores.iter().sum())
    }
}
