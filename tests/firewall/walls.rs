//! The two walls: nftables with connection tracking, and the tracker with a policy.
//!
//! Both have the same policy about TCP and about the ICMP errors that quote it, and let
//! all else pass:
//!
//! | rule | from | what |
//! |---|---|---|
//! | `web` | outside | port 80 |
//! | `privileged` | outside | port 514 from a port below 1024 |
//! | `no-mail` | inside | not port 25 |
//! | `outwards` | inside | everything |
//! | `default` | | nothing |

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use tracker::datapath::Pinned;
use tracker_common::{
    abi::{Key, Mode},
    reason::{Class, Reason},
};
use tracker_tests::{
    agent::Tracker,
    configuration::{Configuration, SOON},
    netns::{Namespace, feed},
    topology::{LAN, Topology, WAN},
    wait::wait_for,
};

use crate::{
    bed::Role,
    policy::{Policy, hits},
};

/// Ports that both policies name.
pub mod port {
    /// Anybody may open connections to it.
    pub const WEB: u16 = 80;
    /// Only from a port below 1024.
    pub const SHELL: u16 = 514;
    /// Nobody inside may open connections to it.
    pub const MAIL: u16 = 25;
    /// No rule names it.
    pub const OTHER: u16 = 4443;
}

/// How nftables lets the allowed port in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// What opens a connection, as conntrack sees it.
    New,
    /// Whatever goes there, as a plain packet filter does.
    Plain,
}

/// ICMP errors that quote a TCP segment: by the protocol in the header that they
/// quote, which lies 8 octets into the message.
const ERRORS: &str = "\
    icmp type { destination-unreachable, time-exceeded, parameter-problem } @th,136,8 6 drop\n\
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } \
    @th,112,8 6 drop\n\
    meta l4proto != tcp accept\n";

/// Puts nftables' wall up.
pub fn nftables(netns: &Namespace, role: Role, accept: Accept) -> Result<()> {
    let new = match accept {
        Accept::New => "ct state new ",
        Accept::Plain => "",
    };
    let inwards = format!(
        "{new}tcp dport {} accept\n{new}tcp dport {} tcp sport 1-1023 accept\n",
        port::WEB,
        port::SHELL
    );
    let outwards = format!("ct state new tcp dport != {} accept\n", port::MAIL);
    let known = "ct state established,related accept\n";
    let chains = match role {
        Role::Host => format!(
            "chain input {{ type filter hook input priority 0\n{known}{ERRORS}{inwards}drop\n}}\n\
             chain output {{ type filter hook output priority 0\n{known}\
             meta l4proto != tcp accept\n{outwards}drop\n}}\n"
        ),
        Role::Gateway => format!(
            "chain outside {{\n{inwards}}}\nchain inside {{\n{outwards}}}\n\
             chain forward {{ type filter hook forward priority 0\n{known}{ERRORS}\
             iifname {LAN} jump outside\niifname {WAN} jump inside\ndrop\n}}\n"
        ),
    };
    feed(
        netns.command("nft")?.args(["-f", "-"]),
        &format!("table inet wall {{\n{chains}}}\n"),
    )
    .context("one of the walls is nftables: Debian's package is `nftables`")?;
    // Nothing is picked up, and numbers are held against windows.
    for key in ["loose", "be_liberal"] {
        netns.sysctl(&format!("netfilter.nf_conntrack_tcp_{key}"), "0")?;
    }
    Ok(())
}

/// The tracker's policy.
pub fn policy(role: Role) -> String {
    let (inwards, outwards) = match role {
        Role::Host => (
            r#"direction = "in""#.to_owned(),
            r#"direction = "out""#.to_owned(),
        ),
        Role::Gateway => {
            let from = |interface| format!("direction = \"forward\"\ninterface = \"{interface}\"");
            (from(LAN), from(WAN))
        }
    };
    format!(
        r#"default = "drop"

[[rules]]
name = "web"
{inwards}
ports = [{}]
action = "allow"

[[rules]]
name = "privileged"
{inwards}
from_ports = ["1-1023"]
ports = [{}]
action = "allow"

[[rules]]
name = "no-mail"
{outwards}
ports = [{}]
action = "drop"

[[rules]]
name = "outwards"
{outwards}
action = "allow"
"#,
        port::WEB,
        port::SHELL,
        port::MAIL
    )
}

/// The tracker's wall.
pub struct Wall<'a> {
    tracker: Tracker<'a>,
    pinned: Pinned,
    _files: (Configuration, Policy),
}

/// Counters of reasons.
pub type Reasons = HashMap<Reason, u64>;

impl<'a> Wall<'a> {
    /// With the policy of the table.
    pub fn new(topology: &'a Topology, role: Role) -> Result<Self> {
        Self::with(topology, &policy(role))
    }

    /// With this one.
    pub fn with(topology: &'a Topology, text: &str) -> Result<Self> {
        let policy = Policy::new(text);
        let file = Configuration::new(&policy.enforced());
        let tracker = file.options(topology).start()?;
        let pinned = Pinned::open(tracker.pin_dir())?;
        enforces(&pinned)?;
        Ok(Self {
            tracker,
            pinned,
            _files: (file, policy),
        })
    }

    /// Ends it in order.
    pub fn stop(self) {
        self.tracker.stop().unwrap();
    }

    /// How often a rule has decided.
    pub fn hits(&self, rule: &str) -> Result<u64, String> {
        hits(&self.tracker, rule)
    }

    /// How often each reason was counted, in and out.
    pub fn reasons(&self) -> Result<Reasons> {
        let mut reasons = Reasons::new();
        for (reason, _, count) in self.pinned.reasons()? {
            *reasons.entry(reason).or_default() += count.packets;
        }
        Ok(reasons)
    }

    /// Reasons that were counted since `before`.
    pub fn counted_since(&self, before: &Reasons) -> Result<Vec<(Reason, u64)>> {
        let counted = self.reasons()?.into_iter().filter_map(|(reason, count)| {
            let more = count - before.get(&reason).copied().unwrap_or_default();
            (more != 0).then_some((reason, more))
        });
        Ok(counted.collect())
    }

    /// Those of class refuse, in the order of their numbers.
    pub fn refused_since(&self, before: &Reasons) -> Result<Vec<(Reason, u64)>> {
        let mut refused = self.counted_since(before)?;
        refused.retain(|(reason, _)| reason.class() == Class::Refuse);
        refused.sort_by_key(|(reason, _)| *reason as u8);
        Ok(refused)
    }

    /// Number of the rule that last refused a connection that has no flow, and why.
    pub fn denied(&self, key: &Key) -> Result<Option<(u16, Reason)>> {
        let denial = self.pinned.denial(key)?;
        Ok(denial.and_then(|denial| Some((denial.rule, Reason::from_raw(denial.reason)?))))
    }
}

/// Waits until the programs drop what they refuse.
pub fn enforces(pinned: &Pinned) -> Result<()> {
    wait_for(SOON, || {
        match pinned.live().map_err(|error| error.to_string())?.mode {
            mode if mode == Mode::Enforce as u8 => Ok(()),
            mode => Err(format!("the mode is {mode}")),
        }
    })
    .map_err(|error| anyhow::anyhow!(error))
}
