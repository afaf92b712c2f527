//! What `tracker stats -o json` prints, as far as the tests ask for it.

use serde::Deserialize;

/// Statistics of a tracker.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// Flows in the IPv4 table.
    pub flows_ipv4: Level,
    /// Flows in the IPv6 table.
    pub flows_ipv6: Level,
    /// Reservations of flows whose handshake is not complete.
    pub half_open: Level,
    /// Reservations of flows met in mid-life that are not proved.
    pub unproved: Level,
    /// Flows in TIME_WAIT.
    pub time_wait: Level,
    /// Factor on every time-out, 1 at full length.
    pub timeout_scale: f64,
    /// Whether connections are met in mid-life.
    pub pickup: Pickup,
    /// Packets by reason.
    pub reasons: Vec<Counted>,
    /// The defence against floods.
    pub defence: Defence,
}

/// The defence against floods.
#[derive(Clone, Debug, Deserialize)]
pub struct Defence {
    /// Half-open flows that this host's own clients opened, which no limit counts.
    pub calling: u64,
}

/// How many of something there are.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Level {
    /// There are.
    pub held: u64,
    /// There may be.
    pub limit: u64,
}

/// Whether connections are met in mid-life.
#[derive(Clone, Debug, Deserialize)]
pub struct Pickup {
    /// `off`, `loose`, `grace` or `grace_over`.
    pub mode: String,
}

/// Packets that left under one reason.
#[derive(Clone, Debug, Deserialize)]
pub struct Counted {
    /// Its name.
    pub reason: String,
    /// `accept`, `note` or `refuse`.
    pub class: String,
    /// On their way in.
    pub ingress: Count,
    /// On their way out.
    pub egress: Count,
}

/// Packets and octets.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

impl Stats {
    /// Packets of a reason, both ways.
    #[must_use]
    pub fn packets(&self, reason: &str) -> u64 {
        self.reasons
            .iter()
            .filter(|counted| counted.reason == reason)
            .map(|counted| counted.ingress.packets + counted.egress.packets)
            .sum()
    }

    /// The reasons of a class that have been met, each with its packets in and
    /// out.
    #[must_use]
    pub fn met(&self, class: &str) -> Vec<String> {
        self.reasons
            .iter()
            .filter(|counted| counted.class == class)
            .filter(|counted| counted.ingress.packets + counted.egress.packets > 0)
            .map(
                |Counted {
                     reason,
                     class: _,
                     ingress,
                     egress,
                 }| {
                    format!("{reason} in {} out {}", ingress.packets, egress.packets)
                },
            )
            .collect()
    }
}
