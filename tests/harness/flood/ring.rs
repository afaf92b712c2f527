//! What the queue of a veth pair took, and what it dropped.

use anyhow::{Context as _, Result};

use crate::netns::{Namespace, run};

/// Counters of an interface's sending side, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Frames that the peer's queue took from a program.
    pub taken: u64,
    /// Frames from a program that found the peer's queue full.
    pub lost: u64,
}

impl Ring {
    /// Asks `ethtool` inside `netns`.
    ///
    /// # Errors
    ///
    /// `ethtool` is missing or prints something else; no such interface.
    pub fn so_far(netns: &Namespace, interface: &str) -> Result<Self> {
        let text = run(netns.command("ethtool")?.args(["-S", interface]))?;
        Ok(Self {
            taken: sum(&text, "_xdp_xmit")?,
            lost: sum(&text, "_xdp_xmit_errors")?,
        })
    }

    /// What has come on top of `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            taken: self.taken - earlier.taken,
            lost: self.lost - earlier.lost,
        }
    }
}

/// Sum over all queues: `tx_queue_0_xdp_xmit: 200000`.
fn sum(text: &str, ending: &str) -> Result<u64> {
    let mut found = None;
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once(": ") else {
            continue;
        };
        if name.starts_with("tx_queue_") && name.ends_with(ending) {
            let value: u64 = value
                .trim()
                .parse()
                .with_context(|| format!("reading {line:?}, a line of ethtool -S"))?;
            found = Some(found.unwrap_or(0) + value);
        }
    }
    found.with_context(|| format!("no counter tx_queue_…{ending} in what ethtool printed:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_summed_up() {
        let text = "NIC statistics:\n     peer_ifindex: 2\n     rx_queue_0_xdp_tx: 7\n     \
                    tx_queue_0_xdp_xmit: 5\n     tx_queue_0_xdp_xmit_errors: 1\n     \
                    tx_queue_1_xdp_xmit: 6\n     tx_queue_1_xdp_xmit_errors: 2\n";
        assert_eq!(sum(text, "_xdp_xmit").unwrap(), 11);
        assert_eq!(sum(text, "_xdp_xmit_errors").unwrap(), 3);
        assert!(sum(text, "_none").is_err());
    }
}
