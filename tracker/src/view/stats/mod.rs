//! Counters, fill and health: what `tracker stats` shows.

mod defence;
mod json;
mod policy;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use serde::Serialize;
use tracker_common::{
    abi::{FULL_SCALE, Gauge, Hook, LOST_EMBRYO, LOST_EVENTS, Live, ReasonCount, switches},
    reason::Reason,
    tcp::State,
};

pub use self::{
    defence::{CookiesDone, Defence},
    policy::PolicyStats,
};
use super::{
    Row,
    head::{Health, mode},
    text::{Octets, Span},
};

/// Everything that was read for the statistics.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, ns.
    pub now_ns: u64,
    /// Running configuration.
    pub live: Live,
    /// What the agent does beside it, `None` where none has said so.
    pub upkeep: Option<Upkeep>,
    /// By [`Gauge`].
    pub gauges: [u64; Gauge::COUNT as usize],
    /// Packets and octets.
    pub reasons: Vec<(Reason, Hook, ReasonCount)>,
    /// By [`LOST_EVENTS`] and [`LOST_EMBRYO`].
    pub lost: [u64; 2],
    /// What carries the programs.
    pub interfaces: Vec<Interface>,
    /// The loaded programs.
    pub programs: Vec<Program>,
    /// The maps; none where their memory is not known.
    pub maps: Vec<Map>,
    /// Flows counted one by one.
    pub flows: Flows,
    /// What is done against floods.
    pub defence: Defence,
    /// The policy; `None` where no agent has written anything down.
    pub policy: Option<PolicyStats>,
}

/// What the agent, or the last one, does by itself.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// When it ends pick-ups, ns of `CLOCK_MONOTONIC`; `None` where it does not.
    pub pickup_until_ns: Option<u64>,
    /// Flows in TIME_WAIT that it keeps.
    pub time_wait_limit: u32,
    /// Fills of a table, in percent, between which it shortens the time-outs;
    /// `None` where it does not.
    pub adaptive: Option<[u32; 2]>,
}

/// An interface that carries the programs.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// "native" or "generic", `None` where no ingress program is attached or
    /// its mode is not known.
    pub xdp: Option<String>,
    /// Whether the ingress program is attached.
    pub ingress: bool,
    /// Whether the NIC takes VLAN tags away before the programs see them.
    pub strips_tags: bool,
    /// Whether TCP checksums of what comes in are verified.
    pub checksums: bool,
}

/// A loaded program.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// Instructions that the verifier walked, 0 where the kernel does not tell
    /// (before 5.16).
    pub verified_instructions: u32,
    /// Size as BPF instructions, octets.
    pub translated_bytes: u32,
    /// Size as machine instructions, octets; 0 when interpreted.
    pub jited_bytes: u32,
}

/// A map and what it takes.
#[derive(Clone, Debug, Serialize)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Entries that it may hold.
    pub max_entries: u32,
    /// Memory in use, octets, as the kernel tells it.
    pub memory_bytes: u64,
}

/// Flows by their pair of states.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    pairs: [[u64; State::COUNT]; State::COUNT],
    expired: u64,
}

impl Flows {
    /// Counts a flow.
    pub fn count(&mut self, row: &Row<'_>) {
        let [initiator, responder] = row.flow().states().map(|state| state as usize);
        if let Some(flows) = self
            .pairs
            .get_mut(initiator)
            .and_then(|row| row.get_mut(responder))
        {
            *flows += 1;
        }
    }

    /// Counts a flow that has expired and is not swept.
    pub const fn count_expired(&mut self) {
        self.expired += 1;
    }

    /// Those in which an end is in TIME_WAIT.
    fn in_time_wait(&self) -> u64 {
        let pairs = self.by_pair().into_iter();
        pairs
            .filter(|(pair, _)| pair.contains(&State::TimeWait))
            .map(|(_, flows)| flows)
            .sum()
    }

    /// Pairs of states that occur, most frequent first.
    fn by_pair(&self) -> Vec<([State; 2], u64)> {
        let mut counts: Vec<_> = State::ALL
            .into_iter()
            .zip(&self.pairs)
            .flat_map(|(initiator, row)| {
                let pairs = State::ALL.into_iter().zip(row);
                pairs.map(move |(responder, &flows)| ([initiator, responder], flows))
            })
            .filter(|(_, flows)| *flows > 0)
            .collect();
        counts.sort_by_key(|(_, flows)| std::cmp::Reverse(*flows));
        counts
    }
}

impl Snapshot {
    const fn health(&self) -> Health {
        Health::of(&self.live, self.now_ns)
    }

    const fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// Counts of a reason at ingress and egress.
    fn counted(&self, reason: Reason) -> [ReasonCount; 2] {
        [Hook::Ingress, Hook::Egress].map(|hook| {
            self.reasons
                .iter()
                .find(|(other, at, _)| *other == reason && *at == hook)
                .map_or_else(ReasonCount::default, |(_, _, count)| *count)
        })
    }

    /// Writes tables for people. `verbose` shows reasons that never happened
    /// too, and what each means.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn table(&self, out: &mut impl Write, verbose: bool) -> io::Result<()> {
        self.summary(out)?;
        self.states_table(out)?;
        self.half_open_table(out)?;
        self.reasons_table(out, verbose)?;
        self.programs_table(out)?;
        self.maps_table(out)
    }

    fn summary(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Mode        {}", mode(&self.live))?;
        write!(out, "Agent       ")?;
        match self.health() {
            Health::Absent => writeln!(
                out,
                "none: flows are tracked and expire, but are not swept; `tracker run` starts one"
            )?,
            Health::Well { pid, age_ms } => {
                writeln!(out, "process {pid}, last sign of life {} ago", Span(age_ms))?;
            }
            Health::Silent { pid, age_ms } => writeln!(
                out,
                "process {pid} has given no sign of life for {}: expired flows are not swept; end \
                 it and start `tracker run` again",
                Span(age_ms)
            )?,
        }
        self.policy_lines(out)?;
        for (index, interface) in self.interfaces.iter().enumerate() {
            let title = if index == 0 { "Interfaces" } else { "" };
            let xdp = match (&interface.xdp, interface.ingress) {
                (Some(mode), _) => mode.as_str(),
                (None, true) => "attached",
                (None, false) => "none",
            };
            let tags = if interface.strips_tags {
                ", its NIC strips VLAN tags"
            } else {
                ""
            };
            let checksums = if interface.checksums {
                ", TCP checksums verified"
            } else {
                ""
            };
            writeln!(
                out,
                "{title:<11} {} (XDP: {xdp}{tags}{checksums})",
                interface.name
            )?;
        }
        if self.interfaces.is_empty() {
            writeln!(out, "Interfaces  none: nothing is tracked")?;
        }
        let capacity = self.live.capacity.into();
        fill(out, "IPv4 flows", self.gauge(Gauge::FlowsV4), capacity)?;
        fill(out, "IPv6 flows", self.gauge(Gauge::FlowsV6), capacity)?;
        if self.flows.expired > 0 {
            writeln!(
                out,
                "Expired     {} of these, not swept yet",
                self.flows.expired
            )?;
        }
        fill(
            out,
            "Half-open",
            self.gauge(Gauge::HalfOpen),
            self.live.half_open_limit.into(),
        )?;
        self.defence_lines(out)?;
        fill(
            out,
            "Unproved",
            self.gauge(Gauge::Pickup),
            self.live.pickup_limit.into(),
        )?;
        let in_time_wait = self.flows.in_time_wait();
        match self.upkeep {
            Some(upkeep) => fill(
                out,
                "TIME_WAIT",
                in_time_wait,
                upkeep.time_wait_limit.into(),
            )?,
            None => writeln!(out, "TIME_WAIT   {in_time_wait}")?,
        }
        writeln!(out, "Time-outs   {}", self.timeouts())?;
        writeln!(out, "Pick-ups    {}", self.pickup().sentence())?;
        if self.is_liberal() {
            writeln!(
                out,
                "Liberal     all flows: what checks would refuse is counted as `liberal`"
            )?;
        }
        let [open, embryo] = [LOST_EVENTS, LOST_EMBRYO].map(|index| self.lost(index));
        writeln!(
            out,
            "Lost events {open} of open flows, {embryo} of handshakes"
        )
    }

    /// Whether no flow is held against windows, timestamps and RST numbers.
    const fn is_liberal(&self) -> bool {
        self.live.switches & switches::LIBERAL != 0
    }

    fn pickup(&self) -> Pickup {
        let until = self.upkeep.and_then(|upkeep| upkeep.pickup_until_ns);
        let left_ms = until.map(|until| until.saturating_sub(self.now_ns) / 1_000_000);
        match (self.live.pickup != 0, left_ms) {
            (true, None) => Pickup::Loose,
            (true, Some(left_ms)) => Pickup::Grace { left_ms },
            (false, None) => Pickup::Off,
            (false, Some(_)) => Pickup::Over,
        }
    }

    /// How long the time-outs are.
    fn timeouts(&self) -> String {
        let scale = self.live.timeout_scale;
        let length = if scale == FULL_SCALE {
            "full length".to_owned()
        } else {
            let permille = u64::from(scale) * 1000 / u64::from(FULL_SCALE);
            format!("{}.{}% of their length", permille / 10, permille % 10)
        };
        match self.upkeep.map(|upkeep| upkeep.adaptive) {
            Some(Some([start, end])) => {
                format!("{length}; shorter from {start}% of a table on, none at {end}%")
            }
            Some(None) => format!("{length}, however full the tables are"),
            None => length,
        }
    }

    fn lost(&self, index: u32) -> u64 {
        self.lost.get(index as usize).copied().unwrap_or(0)
    }

    fn states_table(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<12} {:<12} {:>10}",
            "Initiator", "Responder", "Flows"
        )?;
        for ([initiator, responder], flows) in self.flows.by_pair() {
            let [initiator, responder] = [initiator, responder].map(State::netstat_name);
            writeln!(out, "{initiator:<12} {responder:<12} {flows:>10}")?;
        }
        Ok(())
    }

    fn reasons_table(&self, out: &mut impl Write, verbose: bool) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<20} {:<6} {:>11} {:>9} {:>11} {:>9}{}",
            "Reason",
            "Class",
            "Packets in",
            "Bytes in",
            "Packets out",
            "Bytes out",
            if verbose { "  Meaning" } else { "" }
        )?;
        for &reason in Reason::ALL {
            let [ingress, egress] = self.counted(reason);
            if !verbose && ingress.packets + egress.packets == 0 {
                continue;
            }
            write!(
                out,
                "{:<20} {:<6} {:>11} {:>9} {:>11} {:>9}",
                reason.as_str(),
                reason.class().as_str(),
                ingress.packets,
                Octets(ingress.bytes).to_string(),
                egress.packets,
                Octets(egress.bytes).to_string()
            )?;
            if verbose {
                write!(out, "  {}", reason.describe())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn programs_table(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<16} {:>8} {:>22} {:>12} {:>12}",
            "Program", "Id", "Verified instructions", "BPF code", "Machine code"
        )?;
        for program in &self.programs {
            writeln!(
                out,
                "{:<16} {:>8} {:>22} {:>12} {:>12}",
                program.name,
                program.id,
                program.verified_instructions,
                Octets(program.translated_bytes.into()).to_string(),
                Octets(program.jited_bytes.into()).to_string()
            )?;
        }
        Ok(())
    }

    fn maps_table(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(memory) = self.memory() else {
            return Ok(());
        };
        writeln!(out, "\n{:<16} {:>12} {:>12}", "Map", "Room for", "Memory")?;
        for map in &self.maps {
            let memory = Octets(map.memory_bytes).to_string();
            writeln!(out, "{:<16} {:>12} {memory:>12}", map.name, map.max_entries)?;
        }
        let total = Octets(memory).to_string();
        writeln!(out, "{:<16} {:>12} {total:>12}", "together", "")
    }

    /// Of all maps together.
    fn memory(&self) -> Option<u64> {
        let sum = self.maps.iter().map(|map| map.memory_bytes).sum();
        (!self.maps.is_empty()).then_some(sum)
    }
}

/// Whether connections are met in mid-life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pickup {
    Off,
    Loose,
    Grace { left_ms: u64 },
    Over,
}

impl Pickup {
    /// The word in JSON.
    const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Loose => "loose",
            Self::Grace { .. } => "grace",
            Self::Over => "grace_over",
        }
    }

    /// For people.
    fn sentence(self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Loose => "loose".to_owned(),
            Self::Grace { left_ms: 0 } => "on: no agent has ended the grace".to_owned(),
            Self::Grace { left_ms } => format!("on for another {}", Span(left_ms)),
            Self::Over => "off: the grace is over".to_owned(),
        }
    }
}

/// Writes how full something is.
fn fill(out: &mut impl Write, title: &str, held: u64, limit: u64) -> io::Result<()> {
    let permille = (held.saturating_mul(1000)).checked_div(limit).unwrap_or(0);
    writeln!(
        out,
        "{title:<11} {held} of {limit} ({}.{}%)",
        permille / 10,
        permille % 10
    )
}
