//! Who defends the server.

use std::{fs, str::FromStr};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;
use tracker_tests::{
    agent::{Options, Tracker},
    flood::{
        ends::{Attached, Program},
        frame::Kind,
    },
    netns::{feed, run},
    topology::{INTERFACE, Topology},
};

use super::{counters, honest::PORT};

/// Who takes the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// An XDP program that drops it: the floor, and the generator's own cost.
    Sink,
    /// An XDP program that sends it back: the floor of whoever answers.
    Mirror,
    /// The kernel with `tcp_syncookies = 0`.
    None,
    /// The kernel with `tcp_syncookies = 1`: cookies while the queue is full.
    Kernel1,
    /// The kernel with `tcp_syncookies = 2`: cookies for everybody.
    Kernel2,
    /// nftables with synproxy.
    Synproxy,
    /// The tracker, cookies from 25 % of its half-open limit on.
    Adaptive,
    /// The tracker, cookies for everybody.
    Always,
}

impl Contestant {
    /// All, in the order of their turns.
    pub const ALL: [Self; 8] = [
        Self::Sink,
        Self::Mirror,
        Self::None,
        Self::Kernel1,
        Self::Kernel2,
        Self::Synproxy,
        Self::Adaptive,
        Self::Always,
    ];

    /// What it is called in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Mirror => "mirror",
            Self::None => "none",
            Self::Kernel1 => "kernel_1",
            Self::Kernel2 => "kernel_2",
            Self::Synproxy => "synproxy",
            Self::Adaptive => "tracker_adaptive",
            Self::Always => "tracker_always",
        }
    }

    /// What it is called in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Sink => "XDP_DROP (floor)",
            Self::Mirror => "XDP_TX (floor)",
            Self::None => "no defence",
            Self::Kernel1 => "kernel cookies (1)",
            Self::Kernel2 => "kernel cookies (2)",
            Self::Synproxy => "nftables synproxy",
            Self::Adaptive => "tracker adaptive",
            Self::Always => "tracker always",
        }
    }

    /// The one with this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|contestant| contestant.name() == name)
            .with_context(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                format!("no contestant is called {name:?}; there are {names}")
            })
    }

    /// Whether its answers are frames that a program sends by `XDP_TX`.
    const fn answers_by_xdp(self) -> bool {
        match self {
            Self::Mirror | Self::Adaptive | Self::Always => true,
            Self::Sink | Self::None | Self::Kernel1 | Self::Kernel2 | Self::Synproxy => false,
        }
    }
}

impl FromStr for Contestant {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::named(name)
    }
}

/// A defence that stands, until it is dropped.
pub struct Standing<'a> {
    /// At the sending end: counts the answers.
    pub absorber: Attached,
    /// The floors' program.
    pub mouth: Option<Attached>,
    /// The tracker.
    pub tracker: Option<Tracker<'a>>,
    /// What the tracker reads.
    _configuration: Option<NamedTempFile>,
}

/// Sets up a contestant on a topology of its own, with the server's end ready
/// to be flooded.
///
/// # Errors
///
/// The kernel lacks something, or the tracker does not start.
pub fn stand(contestant: Contestant, topology: &Topology, kind: Kind) -> Result<Standing<'_>> {
    let server = &topology.server.netns;
    // What is sent to made-up sources has to leave by the flooded interface.
    server.ip("route add default via 192.0.2.1\nroute add ::/0 via 2001:db8:1::1\n")?;
    for (key, value) in [
        ("ipv4.tcp_max_syn_backlog", "4096"),
        ("core.somaxconn", "4096"),
        ("ipv4.tcp_timestamps", "1"),
        ("ipv4.tcp_syncookies", "1"),
        // A client that was served before would have the last quarter of the
        // queue for itself. Honest clients come for the first time.
        ("ipv4.tcp_no_metrics_save", "1"),
    ] {
        server.sysctl(key, value)?;
    }
    for (key, value) in [
        // One connection after another, thousands a second.
        ("ipv4.ip_local_port_range", "1024 65535"),
        ("ipv4.tcp_tw_reuse", "1"),
    ] {
        topology.client.netns.sysctl(key, value)?;
    }
    let absorb = if contestant.answers_by_xdp() {
        Program::Absorb
    } else {
        Program::AbsorbTc
    };
    let absorber = Attached::new(absorb, &topology.client.netns, INTERFACE)?;
    let mut standing = Standing {
        absorber,
        mouth: None,
        tracker: None,
        _configuration: None,
    };
    match contestant {
        Contestant::Sink => {
            standing.mouth = Some(Attached::new(Program::Sink, server, INTERFACE)?);
        }
        Contestant::Mirror => {
            standing.mouth = Some(Attached::new(Program::Mirror, server, INTERFACE)?);
        }
        Contestant::None => kernel(topology, "0")?,
        Contestant::Kernel1 => kernel(topology, "1")?,
        Contestant::Kernel2 => kernel(topology, "2")?,
        Contestant::Synproxy => synproxy(topology)?,
        Contestant::Adaptive | Contestant::Always => {
            let mode = if contestant == Contestant::Always {
                "always"
            } else {
                "adaptive"
            };
            let file = NamedTempFile::new().context("a file for the tracker's configuration")?;
            fs::write(file.path(), format!("[defence]\ncookies = \"{mode}\"\n"))
                .with_context(|| format!("writing {}", file.path().display()))?;
            let options = Options::on(topology)
                .with(["--mode", "enforce", "-c"])
                .with([file.path()]);
            // Other floods are of packets that belong to no flow, which a tracker
            // that has just started takes for flows from before its time.
            let options = match kind {
                Kind::Syn => options,
                Kind::Ack | Kind::Mixed => options.with(["--pickup", "off"]),
            };
            standing._configuration = Some(file);
            standing.tracker = Some(options.start().with_context(|| {
                format!(
                    "starting `tracker run --mode enforce` with `cookies = \"{mode}\"` in the \
                     table `[defence]` of its configuration"
                )
            })?);
        }
    }
    Ok(standing)
}

fn kernel(topology: &Topology, syncookies: &str) -> Result<()> {
    topology
        .server
        .netns
        .sysctl("ipv4.tcp_syncookies", syncookies)?;
    receive_live_frames(topology)
}

/// Live frames reach a stack only behind a veth with a program or with GRO,
/// which costs less.
fn receive_live_frames(topology: &Topology) -> Result<()> {
    run(topology
        .server
        .netns
        .command("ethtool")?
        .args(["-K", INTERFACE, "gro", "on"]))?;
    Ok(())
}

/// As nft(8) has it, with the options that the listener itself would offer.
fn synproxy(topology: &Topology) -> Result<()> {
    let server = &topology.server.netns;
    let rules = format!(
        "table inet bench {{\n\
           chain raw {{\n\
             type filter hook prerouting priority raw; policy accept;\n\
             tcp dport {PORT} tcp flags & (fin | syn | rst | ack) == syn notrack\n\
           }}\n\
           chain input {{\n\
             type filter hook input priority filter; policy accept;\n\
             tcp dport {PORT} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n\
             ct state invalid drop\n\
           }}\n\
         }}\n"
    );
    feed(server.command("nft")?.args(["-f", "-"]), &rules)
        .context("nftables with synproxy (kernel module nft_synproxy)")?;
    server.sysctl("netfilter.nf_conntrack_tcp_loose", "0")?;
    if counters::synproxy(server)?.is_empty() {
        bail!("the kernel has no /proc/net/stat/synproxy, so nothing would say what it did");
    }
    receive_live_frames(topology)
}
