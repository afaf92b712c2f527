//! What the tracker holds, and whether it is as at the start.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use tracker::datapath::Pinned;
use tracker_common::abi::Gauge;
use tracker_tests::agent::Tracker;

use super::Law;
use crate::machine::memory;

/// How long everything may take to be given back: time-outs and cookies of some
/// seconds, sweeps of one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Octets by which the agent's memory may differ: allocators keep what they were given.
const TOLERATED: u64 = 32 << 20;

/// What is held at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Home {
    half_open: u64,
    calling: u64,
    unproved: u64,
    flows: u64,
    /// Entries of listeners and sources with half-open flows.
    shares: u64,
    /// Octets of all maps, by the kernel's account.
    maps: u64,
    /// Octets that the kernel holds and cannot reclaim. Other programs of the machine
    /// have a part in it, so nothing is held against it.
    kernel: u64,
    /// Octets of the agent that are in memory.
    agent: u64,
    /// SYNs are answered with cookies.
    answering: bool,
}

impl Home {
    /// Looks.
    ///
    /// # Errors
    ///
    /// A map or /proc cannot be read.
    pub fn now(pinned: &Pinned, tracker: &Tracker<'_>) -> Result<Self> {
        let gauges = pinned.gauges()?;
        let of = |gauge: Gauge| gauges[gauge as usize];
        let stats: Value = serde_json::from_str(&tracker.ask(&["stats", "-o", "json"])?)
            .context("tracker stats -o json")?;
        Ok(Self {
            half_open: of(Gauge::HalfOpen),
            calling: of(Gauge::Calling),
            unproved: of(Gauge::Pickup),
            flows: of(Gauge::FlowsV4) + of(Gauge::FlowsV6),
            shares: pinned.shares()?.len() as u64,
            maps: stats["memory_bytes"]
                .as_u64()
                .context("memory of the maps")?,
            kernel: memory("SUnreclaim")? + memory("VmallocUsed")? + memory("Percpu")?,
            agent: resident(tracker.pid())?,
            answering: stats["defence"]["cookies"]["on"] == true,
        })
    }

    /// Waits until what is held is as in `self`, or [`PATIENCE`] is over; gives what
    /// is held then.
    ///
    /// # Errors
    ///
    /// As [`Home::now`].
    pub fn wait_for(&self, pinned: &Pinned, tracker: &Tracker<'_>) -> Result<Self> {
        let start = Instant::now();
        loop {
            let now = Self::now(pinned, tracker)?;
            if now.is_like(self) || start.elapsed() > PATIENCE {
                return Ok(now);
            }
            sleep(Duration::from_millis(250));
        }
    }

    fn is_like(&self, start: &Self) -> bool {
        self.compared_with(start).iter().all(|law| law.holds)
    }

    /// What must be as at the start.
    pub fn compared_with(&self, start: &Self) -> Vec<Law> {
        let same = |what, of: fn(&Self) -> u64| Law {
            what,
            holds: of(self) == of(start),
            measured: format!("{}, and {} at the start", of(self), of(start)),
        };
        let megabytes = |octets: u64| octets as f64 / 1e6;
        let near = |what, of: fn(&Self) -> u64| Law {
            what,
            holds: of(self) <= of(start) + TOLERATED,
            measured: format!(
                "{:.1} MB, and {:.1} MB at the start",
                megabytes(of(self)),
                megabytes(of(start))
            ),
        };
        vec![
            same("half-open flows are as at the start", |home| home.half_open),
            same("local clients' half-open flows, too", |home| home.calling),
            same("unproved flows, too", |home| home.unproved),
            same("all flows, too", |home| home.flows),
            same("shares of listeners and sources, too", |home| home.shares),
            same("octets of the maps, too", |home| home.maps),
            same("cookies are off again", |home| home.answering.into()),
            near("memory of the agent is at most 32 MB more", |home| {
                home.agent
            }),
        ]
    }
}

/// Octets of a process that are in memory.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("VmRSS in {path}"))?;
    Ok(kilobytes * 1024)
}
