//! What got lost, by the kernel's own counters.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    netns::Namespace,
    topology::{INTERFACE, Topology},
};

/// Counters of a topology since its namespaces were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Segments that both ends sent again.
    pub resent: u64,
    /// Those of them that turned out to have arrived the first time: the
    /// receiver reported a duplicate (DSACK, RFC 2883). A timer that fires
    /// early on a busy machine makes these.
    pub needless: u64,
    /// Packets that an interface dropped, most of all at a full veth queue.
    pub dropped: u64,
}

impl Losses {
    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// /proc/net does not look as expected.
    pub fn so_far(topology: &Topology) -> Result<Self> {
        let mut losses = Self::default();
        for end in [&topology.client.netns, &topology.server.netns] {
            losses.resent += counter(end, "snmp", "Tcp:", "RetransSegs")?;
            losses.needless += counter(end, "netstat", "TcpExt:", "TCPDSACKRecvSegs")?;
            losses.dropped += dropped(end, INTERFACE)?;
        }
        if topology.router.is_some() {
            let (router, interfaces) = topology.tracked();
            for interface in interfaces {
                losses.dropped += dropped(router, interface)?;
            }
        }
        Ok(losses)
    }

    /// What has come on top of `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            resent: self.resent - earlier.resent,
            needless: self.needless - earlier.needless,
            dropped: self.dropped - earlier.dropped,
        }
    }

    /// Segments that were sent again and not needlessly.
    #[must_use]
    pub const fn lost(self) -> u64 {
        self.resent.saturating_sub(self.needless)
    }
}

/// One value of a file whose lines come in pairs, names above values.
fn counter(netns: &Namespace, file: &str, line: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/thread-self/net/{file}");
    let text = netns
        .run_in(|| fs::read_to_string(&path))?
        .with_context(|| path.clone())?;
    let mut pair = text.lines().filter(|text| text.starts_with(line));
    let (names, values) = pair
        .next()
        .zip(pair.next())
        .with_context(|| format!("{line} in {path}"))?;
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.parse().ok())
        .with_context(|| format!("{line} {name} in {path}"))
}

/// Packets that an interface dropped on the way in and on the way out.
///
/// # Errors
///
/// /proc/net/dev does not look as expected, or no such interface.
pub fn dropped(netns: &Namespace, interface: &str) -> Result<u64> {
    let path = "/proc/thread-self/net/dev";
    let text = netns.run_in(|| fs::read_to_string(path))?.context(path)?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))
        .with_context(|| format!("{interface} in {path}"))?;
    let values: Vec<u64> = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{interface} in {path}: {line}"))?;
    // Receive: bytes packets errs drop …; transmit, from the ninth, the same.
    values
        .get(3)
        .zip(values.get(11))
        .map(|(received, sent)| received + sent)
        .context(path)
}
