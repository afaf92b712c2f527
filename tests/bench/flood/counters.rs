//! What the contestants count themselves.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use tracker_tests::{
    netns::{Namespace, run},
    stats::Stats,
};

use super::contestant::Standing;

/// Counters by name.
pub type Counters = BTreeMap<String, u64>;

/// The kernel's counters that a flood of TCP moves.
const KERNEL: [&str; 7] = [
    "SyncookiesSent",
    "SyncookiesRecv",
    "SyncookiesFailed",
    "TCPReqQFullDoCookies",
    "TCPReqQFullDrop",
    "ListenOverflows",
    "ListenDrops",
];

/// Reads all of them: those of the kernel, of synproxy where it is, of the
/// tracker where it is.
///
/// # Errors
///
/// One of them cannot be read.
pub fn all(standing: &Standing<'_>, server: &Namespace) -> Result<Counters> {
    let mut counters = netstat(server)?;
    counters.extend(synproxy(server)?);
    if let Some(tracker) = &standing.tracker {
        counters.extend(reasons(&tracker.stats()?));
    }
    Ok(counters)
}

/// What has come on top of `before`, without those that did not move.
pub fn moved(before: &Counters, after: &Counters) -> Counters {
    after
        .iter()
        .map(|(name, value)| {
            let earlier = before.get(name).copied().unwrap_or(0);
            (name.clone(), value.saturating_sub(earlier))
        })
        .filter(|(_, value)| *value > 0)
        .collect()
}

/// The tracker's reasons for packets that came in, as `tracker:REASON`.
fn reasons(stats: &Stats) -> Counters {
    stats
        .reasons
        .iter()
        .map(|counted| {
            (
                format!("tracker:{}", counted.reason),
                counted.ingress.packets,
            )
        })
        .collect()
}

/// TCP packets among `moved` that the tracker met coming in: not what IPv6 says
/// to its neighbours, for instance.
pub fn met(moved: &Counters) -> u64 {
    moved
        .iter()
        .filter(|(name, _)| name.starts_with("tracker:") && name.as_str() != "tracker:not_tcp")
        .map(|(_, value)| value)
        .sum()
}

fn netstat(netns: &Namespace) -> Result<Counters> {
    let text = file(netns, "/proc/thread-self/net/netstat")?;
    let mut pair = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = pair
        .next()
        .zip(pair.next())
        .context("TcpExt in /proc/net/netstat")?;
    Ok(names
        .split_whitespace()
        .zip(values.split_whitespace())
        .filter(|(name, _)| KERNEL.contains(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

/// /proc/net/stat/synproxy, summed up over the cores; empty without it.
///
/// # Errors
///
/// The namespace cannot be entered, or the file is not as expected.
pub fn synproxy(netns: &Namespace) -> Result<Counters> {
    let path = "/proc/thread-self/net/stat/synproxy";
    let Ok(text) = netns.run_in(|| fs::read_to_string(path))? else {
        return Ok(Counters::new());
    };
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context(path)?.split_whitespace().collect();
    let mut counters = Counters::new();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            let value = u64::from_str_radix(value, 16)
                .with_context(|| format!("reading {line:?}, a line of {path}"))?;
            *counters.entry(format!("synproxy:{name}")).or_default() += value;
        }
    }
    Ok(counters)
}

/// Half-open connections that the defence holds: the tracker's gauge, or the
/// kernel's request sockets.
///
/// # Errors
///
/// They cannot be counted.
pub fn half_open(standing: &Standing<'_>, server: &Namespace) -> Result<(u64, Option<u64>)> {
    if let Some(tracker) = &standing.tracker {
        let held = tracker.stats()?.half_open;
        return Ok((held.held, Some(held.limit)));
    }
    let list = run(server.command("ss")?.args(["-tanH", "state", "syn-recv"]))?;
    Ok((list.lines().count() as u64, None))
}

fn file(netns: &Namespace, path: &str) -> Result<String> {
    netns
        .run_in(|| fs::read_to_string(path))?
        .with_context(|| format!("reading {path}"))
}
