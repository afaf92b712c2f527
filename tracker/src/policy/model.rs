//! A checked policy: what nothing downstream has to question.

use std::path::PathBuf;

use tracker_common::{
    policy::{Action, Directions, Prefix},
    tcp::timeout::Profile,
};

/// Rules that a policy may have, without its default:
/// [`tracker_common::abi::MAX_RULES`] less one.
pub const MAX_RULES: usize = tracker_common::abi::MAX_RULES as usize - 1;

/// Prefixes that all sets of a policy may have together.
pub const MAX_PREFIXES: usize = 100_000;

/// Name under which the default is counted and told; no rule has it.
pub const DEFAULT_RULE: &str = "default";

/// Which connections may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In the order in which they are looked at, at most [`MAX_RULES`]; the default
    /// is not among them.
    pub rules: Vec<Rule>,
    /// What becomes of connections that no rule matches.
    pub default: Action,
    /// Whether that is reported.
    pub default_log: bool,
    /// Sets of addresses, at most [`MAX_PREFIXES`] in all of them together.
    pub sets: Vec<PrefixSet>,
    /// Sets of ports with a name, in order of their names. Rules have the ports
    /// themselves.
    pub port_sets: Vec<PortSet>,
    /// Connections that no change may cut by accident.
    pub management: Management,
    /// Where it was read.
    pub source: Source,
}

/// Where a policy was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file with its rules; `None` if it was never in a file.
    pub path: Option<PathBuf>,
    /// Files of its sets, each once, in order of their names.
    pub set_files: Vec<PathBuf>,
    /// Hash of everything that was read, set files included. Two policies of equal
    /// hashes say the same; to be compared within one version of tracker only.
    pub hash: u64,
}

/// A set of prefixes: none lies in another, and no two make up one prefix together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixSet {
    /// As `@NAME` refers to it. Of prefixes that a rule lists itself, those
    /// prefixes as they were written first.
    pub name: String,
    /// Whether a rule lists its prefixes itself. Equal lists are one set.
    pub inline: bool,
    /// In order, IPv4 first. May be empty if it is not inline.
    pub prefixes: Vec<Prefix>,
}

/// A set of ports with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet {
    /// As `@NAME` refers to it.
    pub name: String,
    /// At least one, as in [`Rule::to_ports`].
    pub ranges: Vec<(u16, u16)>,
}

/// A rule, which decides about the connections that meet all of its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// No other rule has it, nor is it [`DEFAULT_RULE`].
    pub name: String,
    /// Where it begins in the file, from 1.
    pub line: usize,
    /// Which way the connection goes; at least one.
    pub directions: Directions,
    /// Where the initiator's packets are seen; none: anywhere. They need not exist.
    pub interfaces: Vec<String>,
    /// The initiator's address.
    pub from: Addresses,
    /// The responder's address.
    pub to: Addresses,
    /// The initiator's port: inclusive ranges in order, at least one number apart;
    /// none: any port.
    pub from_ports: Vec<(u16, u16)>,
    /// The responder's port, likewise.
    pub to_ports: Vec<(u16, u16)>,
    /// What becomes of it.
    pub action: Action,
    /// Whether its decisions are reported.
    pub log: bool,
    /// It counts what it would decide, and the next one decides.
    pub shadow: bool,
    /// Its flows are exempt from checks of windows, timestamps and RST numbers.
    pub liberal: bool,
    /// Whether it lets connections be picked up in mid-life; `None`: as
    /// `tracking.pickup` says.
    pub pickup: Option<bool>,
    /// Time-outs of its flows; `None`: the configured ones.
    pub timeouts: Option<Profile>,
    /// How many connections it admits; none if it does not admit.
    pub limits: Limits,
}

/// Addresses: those in any of some sets, but in none of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Indices in [`Policy::sets`], each once, in order; none: every address.
    pub among: Vec<usize>,
    /// The same of the exceptions.
    pub except: Vec<usize>,
}

impl Addresses {
    /// Whether every address is among them.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.among.is_empty() && self.except.is_empty()
    }
}

/// How many connections a rule admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often one may open: the time between two in ns, not 0, and how many at
    /// once, at least 1. Their product is below 2^63.
    pub rate: Option<(u64, u64)>,
    /// How many may be open at once, 0: any number.
    pub flows: u32,
    /// [`Limits::rate`] from one source prefix.
    pub source_rate: Option<(u64, u64)>,
    /// [`Limits::flows`] from one source prefix.
    pub source_flows: u32,
    /// Bits of a source prefix, IPv4 (1 to 32) and IPv6 (1 to 128).
    pub source_bits: [u8; 2],
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: None,
            flows: 0,
            source_rate: None,
            source_flows: 0,
            source_bits: [32, 64],
        }
    }
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.rate.is_some() || self.flows != 0 || self.by_source()
    }

    /// Whether sources are told apart.
    #[must_use]
    pub const fn by_source(&self) -> bool {
        self.source_rate.is_some() || self.source_flows != 0
    }
}

/// Connections by which this machine is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// Ports of this host, each once, in order.
    pub ports: Vec<u16>,
    /// Who manages it; none: the peers of connections to those ports that are
    /// established when a policy is applied.
    pub peers: Vec<Prefix>,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            ports: vec![22],
            peers: Vec::new(),
        }
    }
}
