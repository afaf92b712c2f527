//! The machine that a bench runs on, and how busy it is.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tracker_tests::netns::run;

/// What a reader needs to know of a machine to read figures from it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As date(1) prints it, UTC.
    pub date: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model name of the first core.
    pub cpu: String,
    /// Cores.
    pub cores: usize,
    /// Memory, octets.
    pub memory: u64,
    /// Frequency governor of the first core, if it has one.
    pub governor: Option<String>,
    /// Whether a hypervisor is beneath.
    pub virtual_machine: bool,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    ///
    /// /proc is not as expected.
    pub fn this() -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Ok(Self {
            date: run(std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?
                .trim()
                .to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: field("model name")
                .or_else(|| field("CPU part"))
                .unwrap_or_else(|| "unknown".to_owned()),
            cores: Busy::now()?.0.len(),
            memory: memory("MemTotal")?,
            governor: governor.ok().map(|text| text.trim().to_owned()),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
        })
    }
}

/// A value of /proc/meminfo, octets.
///
/// # Errors
///
/// It is not there.
pub fn memory(name: &str) -> Result<u64> {
    let text = read("/proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .with_context(|| format!("{name} in /proc/meminfo"))
}

/// What each core has done since the machine was started.
#[derive(Clone, Debug)]
pub struct Busy(Vec<Ticks>);

#[derive(Clone, Copy, Debug)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Busy {
    /// Until now.
    ///
    /// # Errors
    ///
    /// /proc/stat is not as expected.
    pub fn now() -> Result<Self> {
        let text = read("/proc/stat")?;
        let core = |line: &str| -> Result<Ticks> {
            // cpu0 user nice system idle iowait irq softirq steal guest guest_nice
            let values: Vec<u64> = line
                .split_whitespace()
                .skip(1)
                .take(8)
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| format!("reading {line:?}, a line of /proc/stat"))?;
            let all = values.iter().sum();
            let idle: u64 = values.iter().skip(3).take(2).sum();
            Ok(Ticks {
                busy: all - idle,
                all,
            })
        };
        let cores = text
            .lines()
            .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
            .map(core)
            .collect::<Result<_>>()?;
        Ok(Self(cores))
    }

    /// The share of its time that each core was busy since `earlier`, 0 to 1.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<f64> {
        let share = |(now, then): (&Ticks, &Ticks)| {
            let all = now.all.saturating_sub(then.all).max(1);
            now.busy.saturating_sub(then.busy) as f64 / all as f64
        };
        self.0.iter().zip(&earlier.0).map(share).collect()
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}
