//! Configuration, in two stages: what was typed (a file and flags) becomes a
//! checked [`Config`] that nothing downstream has to question.
//!
//! Flags win over the file, the file over the defaults. The defaults are
//! documented, key by key, in `tracker/dist/tracker.toml`.

mod captures;
mod check;
mod defence;
mod file;
mod policy;
mod reload;
mod system;
mod tracking;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use tracker_common::{
    abi::{AtLimit, CookieMode, Mode, Role, switches},
    tcp::timeout::CLASSES,
};

pub use self::{
    captures::of_captures,
    check::check,
    defence::OLDEST_COOKIE,
    file::{File, load},
    reload::{Reloaded, merge},
    system::System,
};
pub use crate::cli::{FlowsChoice, ModeChoice, OnExit, PickupChoice, XdpChoice};

/// A checked configuration of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names of the interfaces to track; at least one, each once, each existed
    /// when this was checked.
    pub interfaces: Vec<String>,
    /// Where this machine stands.
    pub role: Role,
    /// What becomes of packets of class refuse.
    pub mode: Mode,
    /// How to attach the ingress program.
    pub xdp: XdpChoice,
    /// What to leave behind at the end.
    pub on_exit: OnExit,
    /// Where to pin maps and links.
    pub pin_dir: PathBuf,
    /// Where the agent can be talked to, and keeps what it is to find again after a
    /// restart. Absolute.
    pub run_dir: PathBuf,
    /// Entries of each flow table (one per address family), 1 to 2^26.
    pub capacity: u32,
    /// Take the memory of the flow tables at load instead of as flows come.
    pub preallocate: bool,
    /// Half-open flows of both families together, 1 to `capacity` and at most
    /// 2^24.
    pub half_open_limit: u32,
    /// Flows met in mid-life and not yet proved, 0 (none is picked up) to
    /// `capacity`.
    pub pickup_limit: u32,
    /// How flows are followed.
    pub tracking: Tracking,
    /// The policy, and what becomes of its changes.
    pub policy: Policy,
    /// What is done against floods while [`Config::mode`] is [`Mode::Enforce`].
    pub defence: Defence,
    /// Time-outs by [`tracker_common::tcp::timeout::Class`], in ticks, at
    /// least 1.
    pub timeouts: [u32; CLASSES],
    /// Zones that replace the one made of the VLAN identifiers; each
    /// (interface, outer, inner) once.
    pub zones: Vec<ZoneRule>,
    /// Time between two sweeps for expired flows, 10 ms to 1 h.
    pub sweep_interval: Duration,
    /// Size of the ring of events after the handshake: a power of two, 4 KiB
    /// to 1 GiB.
    pub event_ring_bytes: u32,
    /// Size of the ring of events before the handshake completes, likewise.
    pub embryo_ring_bytes: u32,
}

/// How flows are followed: the table `[tracking]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Whether connections are met in mid-life.
    pub pickup: PickupChoice,
    /// How long [`PickupChoice::Grace`] does so, 1 ms to 1 day.
    pub pickup_grace: Duration,
    /// No flow's segments are held against windows, timestamps or RST numbers.
    pub liberal: bool,
    /// A SYN with data is refused.
    pub drop_syn_data: bool,
    /// A connection in TIME-WAIT is not reopened before 2MSL are over.
    pub strict_2msl: bool,
    /// SYN-ACKs that a responder may repeat before its half-open flow ends.
    pub syn_ack_retries: u8,
    /// Flows in TIME_WAIT that are kept, both families together.
    pub time_wait_limit: u32,
    /// Time-outs get shorter as the tables fill; `None`: never.
    pub adaptive: Option<Adaptive>,
    /// TCP checksums are verified where the frames carry whole ones.
    pub checksum: bool,
    /// Names of interfaces where they are verified whatever the interface is;
    /// each one of [`Config::interfaces`].
    pub checksum_force: Vec<String>,
}

impl Tracking {
    /// Bits of [`tracker_common::abi::Live::switches`].
    #[must_use]
    pub const fn switches(&self) -> u8 {
        let mut bits = 0;
        if self.liberal {
            bits |= switches::LIBERAL;
        }
        if self.drop_syn_data {
            bits |= switches::DROP_SYN_DATA;
        }
        if self.strict_2msl {
            bits |= switches::STRICT_2MSL;
        }
        bits
    }

    /// What becomes of TCP checksums on an interface.
    #[must_use]
    pub fn checksums_on(&self, interface: &str) -> Checksums {
        if !self.checksum {
            Checksums::Ignore
        } else if self.checksum_force.iter().any(|name| name == interface) {
            Checksums::Force
        } else {
            Checksums::Verify
        }
    }
}

/// What becomes of TCP checksums on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// They are not looked at.
    Ignore,
    /// They are verified where frames carry whole ones.
    Verify,
    /// They are verified.
    Force,
}

/// Between which fills of the fuller table the time-outs shrink from their full
/// length to nothing, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Up to here they have their full length: 1 to 100.
    pub start: u32,
    /// Here they would be nothing: above `start`, at most 1000. A table is never
    /// more than full, so above 100 the factor stays above 0.
    pub end: u32,
}

/// The policy, and what becomes of its changes: the table `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The file to read it from with [`crate::policy::read`], which may be the
    /// configuration itself; `None`: everything is allowed.
    pub path: Option<PathBuf>,
    /// A change of its files takes effect at once, not at the next reload.
    pub watch: bool,
    /// What becomes of open connections when the configured policy changes.
    pub flows: FlowsChoice,
    /// How long a gateway watches before it enforces a policy, where the kernel does
    /// not tell of the connections that there are; at most a day.
    pub grace: Duration,
}

/// What is done against floods: the table `[defence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defence {
    /// When SYNs are answered with a cookie; always [`CookieMode::Never`] in the
    /// gateway role.
    pub cookies: CookieMode,
    /// Percent of the half-open limit at which adaptive cookies go on, 1 to 100.
    pub cookies_on: u32,
    /// Percent below which they go off, at least 1 and less than `cookies_on`.
    pub cookies_off: u32,
    /// How long a cookie counts as in flight, 1 s to [`OLDEST_COOKIE`].
    pub cookie_age: Duration,
    /// What becomes of a SYN that finds a limit reached.
    pub at_limit: AtLimit,
    /// Half-open flows that one listener may have, 0 for any number.
    pub listener_limit: u32,
    /// Half-open flows that one source prefix may have, 0 for any number.
    pub source_limit: u32,
    /// Bits of a source prefix: IPv4 (24 to 32) and IPv6 (48 to 64).
    pub source_bits: [u8; 2],
    /// A new flow that finds its table full is refused.
    pub full_drops: bool,
    /// SYN-ACKs a second to one address that has proved nothing, 0 for any number.
    pub answer_rate: u32,
    /// The agent sets the sysctls that cookies need.
    pub manage_sysctls: bool,
    /// How long the end waits for cookies in flight, at most [`OLDEST_COOKIE`].
    pub drain: Duration,
    /// Listeners with a mode of their own, each (address, port) once.
    pub listeners: Vec<ListenerRule>,
    /// Sources that keep hitting limits.
    pub ban: Ban,
}

/// A listener that does not follow [`Defence::cookies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerRule {
    /// Its address; unspecified for all of the family that have no rule of their
    /// own.
    pub address: IpAddr,
    /// Its port, not 0.
    pub port: u16,
    /// When SYNs to it are answered with a cookie.
    pub cookies: CookieMode,
}

/// When a source is banned: the table `[defence.ban]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whether the agent bans by itself; then [`Defence::source_limit`] is not 0.
    pub enabled: bool,
    /// How long a source must stand at [`Defence::source_limit`], 1 s to 1 h.
    pub after: Duration,
    /// How long a ban lasts, 1 s to a year.
    pub lasts: Duration,
}

/// One row of the zone table: frames with these tags on this interface belong
/// to that zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRule {
    /// Name of one of [`Config::interfaces`].
    pub interface: String,
    /// Outer VLAN identifier, 0 for untagged frames.
    pub outer: u16,
    /// Inner VLAN identifier, 0 where there is none.
    pub inner: u16,
    /// The zone.
    pub zone: u32,
}

/// The word among `candidates` that was probably meant by `word`.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_typing_error_finds_its_word() {
        let words = ["interfaces", "role", "capacity"];
        assert_eq!(closest("interfces", words), Some("interfaces"));
        assert_eq!(closest("capasity", words), Some("capacity"));
        assert_eq!(closest("zzz", words), None);
    }
}
