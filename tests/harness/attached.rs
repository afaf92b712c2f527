//! What is attached to an interface, asked of the kernel.

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};

use crate::netns::{Namespace, run};

/// What hangs on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// An XDP program, in whatever mode.
    pub xdp: bool,
    /// Programs in the TCX chain, ingress and egress together.
    pub tcx: usize,
    /// The qdisc that clsact filters hang on.
    pub clsact: bool,
}

impl Attached {
    /// Looks at `interface` of `netns`.
    ///
    /// # Errors
    ///
    /// The interface does not exist, or the kernel cannot be asked.
    pub fn to(netns: &Namespace, interface: &str) -> Result<Self> {
        let link = run(netns
            .command("ip")?
            .args(["-d", "link", "show", "dev", interface]))?;
        let qdiscs = run(netns
            .command("tc")?
            .args(["qdisc", "show", "dev", interface]))?;
        let tcx = netns.run_in(|| -> Result<usize> {
            let mut programs = 0;
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                let (_, chain) = SchedClassifier::query_tcx(interface, direction)
                    .with_context(|| format!("asking for the TCX programs of {interface}"))?;
                programs += chain.len();
            }
            Ok(programs)
        })??;
        Ok(Self {
            // "xdp", "xdpgeneric" or "xdpoffload", with "prog/xdp id N" below.
            xdp: link.contains("prog/xdp"),
            tcx,
            clsact: qdiscs.contains("clsact"),
        })
    }
}
