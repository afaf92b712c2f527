//! Packets dropped behind the tracker.
//!
//! The drops are in the *receiver's* namespace, at the input hook: the tracker
//! has seen the packet, wherever it sits, and the truth about who received
//! what is known.

use std::{net::SocketAddr, ops::RangeInclusive};

use anyhow::{Context, Result, anyhow};

use crate::{
    netns::{Namespace, feed, run},
    sockets::PATIENCE,
    wait::wait_for,
};

/// Name of the table.
const TABLE: &str = "inet tracker_test";

/// Which packets of a connection to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// All of them.
    All,
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// Whatever carries a FIN.
    Fin,
}

impl Packets {
    const fn expression(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Syn => "tcp flags & (syn | ack) == syn",
            Self::SynAck => "tcp flags & (syn | ack) == (syn | ack)",
            Self::Fin => "tcp flags & fin == fin",
        }
    }
}

/// The packet filter of an end namespace.
pub struct Firewall<'a> {
    netns: &'a Namespace,
}

impl<'a> Firewall<'a> {
    /// Adds an empty table with an input chain.
    ///
    /// # Errors
    ///
    /// `nft` is missing, or the kernel has no nf_tables.
    pub fn new(netns: &'a Namespace) -> Result<Self> {
        let rules = format!(
            "add table {TABLE}\n\
             add chain {TABLE} input {{ type filter hook input priority 0; policy accept; }}\n"
        );
        feed(netns.command("nft")?.args(["-f", "-"]), &rules)
            .context("packets are dropped by nftables: Debian's package is `nftables`")?;
        Ok(Self { netns })
    }

    /// Loses this many of a thousand TCP packets that arrive, any of them but
    /// resets: who lost one of those a [`crate::wire::Wire`] knows, and this
    /// does not. Replaces what an earlier call said.
    ///
    /// # Errors
    ///
    /// `nft` fails.
    pub fn thin(&self, per_thousand: u32) -> Result<()> {
        let rules = format!(
            "flush chain {TABLE} input\n\
             add rule {TABLE} input meta l4proto tcp tcp flags & rst == 0 \
             numgen random mod 1000 < {per_thousand} drop\n"
        );
        feed(self.netns.command("nft")?.args(["-f", "-"]), &rules)
    }

    /// Lets no packet out any more that goes from or to one of these ports of
    /// the client. This one drops before the tracker, so that silence falls.
    ///
    /// # Errors
    ///
    /// `nft` fails.
    pub fn mute(&self, ports: RangeInclusive<u16>) -> Result<()> {
        let ports = format!("{}-{}", ports.start(), ports.end());
        let rules = format!(
            "add chain {TABLE} output {{ type filter hook output priority 0; policy accept; }}\n\
             add rule {TABLE} output tcp sport {ports} drop\n\
             add rule {TABLE} output tcp dport {ports} drop\n"
        );
        feed(self.netns.command("nft")?.args(["-f", "-"]), &rules)
    }

    /// Drops `packets` that arrive from `from` for `to`, until the returned
    /// rule is dropped.
    ///
    /// # Errors
    ///
    /// `nft` fails.
    pub fn drop(&self, packets: Packets, from: SocketAddr, to: SocketAddr) -> Result<Rule<'a>> {
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        let rule = format!(
            "{family} saddr {} {family} daddr {} tcp sport {} tcp dport {} {} counter drop",
            from.ip(),
            to.ip(),
            from.port(),
            to.port(),
            packets.expression()
        );
        let echo = run(self
            .netns
            .command("nft")?
            .args(["--echo", "--handle", "add rule", TABLE, "input"])
            .arg(&rule))?;
        // add rule … counter packets 0 bytes 0 drop # handle 7
        // # new generation 3 by process 123 (nft)
        let handle = echo
            .split_once("# handle ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("no handle in what nft echoed: {echo:?}"))?;
        Ok(Rule {
            netns: self.netns,
            handle,
        })
    }
}

/// A rule that is in force until it is dropped.
pub struct Rule<'a> {
    netns: &'a Namespace,
    handle: u64,
}

impl Rule<'_> {
    /// Waits until it has dropped a packet. What is done after that, the
    /// tracker sees after that packet.
    ///
    /// # Errors
    ///
    /// It did not in [`PATIENCE`]; `nft` fails.
    pub fn wait_for_packet(&self) -> Result<()> {
        let mark = format!("# handle {}", self.handle);
        wait_for(PATIENCE, || {
            let mut nft = self
                .netns
                .command("nft")
                .map_err(|error| format!("{error:#}"))?;
            let rules = run(nft.args(["--handle", "list table", TABLE]))
                .map_err(|error| format!("{error:#}"))?;
            let rule = rules.lines().find(|line| line.trim_end().ends_with(&mark));
            match rule {
                Some(rule) if !rule.contains("counter packets 0 ") => Ok(()),
                _ => Err(format!(
                    "rule {} has dropped nothing:\n{rules}",
                    self.handle
                )),
            }
        })
        .map_err(|mismatch| anyhow!(mismatch))
    }
}

impl Drop for Rule<'_> {
    fn drop(&mut self) {
        let removed = self.netns.command("nft").and_then(|mut nft| {
            run(nft.args([
                "delete rule",
                TABLE,
                "input handle",
                &self.handle.to_string(),
            ]))
        });
        // The namespace takes it along in the end; a script that goes on as if
        // the rule were gone fails at its resting point.
        if let Err(error) = removed {
            eprintln!("rule {} stays: {error:#}", self.handle);
        }
    }
}
