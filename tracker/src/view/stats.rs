//! Counters, fill and health: what `tracker stats` shows.

use std::io::{self, Write};

use serde::Serialize;
use tracker_common::{
    abi::{Gauge, Hook, LOST_EMBRYO, LOST_EVENTS, Live, ReasonCount},
    reason::Reason,
    tcp::State,
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
    /// The maps.
    pub maps: Vec<Map>,
    /// Flows counted one by one.
    pub flows: Flows,
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
            writeln!(out, "{title:<11} {} (XDP: {xdp}{tags})", interface.name)?;
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
        fill(
            out,
            "Unproved",
            self.gauge(Gauge::Pickup),
            self.live.pickup_limit.into(),
        )?;
        let [open, embryo] = [LOST_EVENTS, LOST_EMBRYO].map(|index| self.lost(index));
        writeln!(
            out,
            "Lost events {open} of open flows, {embryo} of handshakes"
        )
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
        writeln!(out, "\n{:<16} {:>12} {:>12}", "Map", "Room for", "Memory")?;
        for map in &self.maps {
            let memory = Octets(map.memory_bytes).to_string();
            writeln!(out, "{:<16} {:>12} {memory:>12}", map.name, map.max_entries)?;
        }
        let total = Octets(self.memory()).to_string();
        writeln!(out, "{:<16} {:>12} {total:>12}", "together", "")
    }

    fn memory(&self) -> u64 {
        self.maps.iter().map(|map| map.memory_bytes).sum()
    }

    /// Writes one JSON object. Fields are only ever added.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.document())?;
        out.write_all(b"\n")
    }

    fn document(&self) -> Document<'_> {
        let capacity = self.live.capacity.into();
        let level = |gauge, limit| Level {
            held: self.gauge(gauge),
            limit,
        };
        let (pid, age_ms, alive) = match self.health() {
            Health::Absent => (None, None, false),
            Health::Well { pid, age_ms } => (Some(pid), Some(age_ms), true),
            Health::Silent { pid, age_ms } => (Some(pid), Some(age_ms), false),
        };
        Document {
            mode: mode(&self.live),
            agent: Agent {
                alive,
                pid,
                heartbeat_age_ms: age_ms,
            },
            interfaces: &self.interfaces,
            flows_ipv4: level(Gauge::FlowsV4, capacity),
            flows_ipv6: level(Gauge::FlowsV6, capacity),
            expired: self.flows.expired,
            half_open: level(Gauge::HalfOpen, self.live.half_open_limit.into()),
            unproved: level(Gauge::Pickup, self.live.pickup_limit.into()),
            lost_events: Lost {
                open: self.lost(LOST_EVENTS),
                handshake: self.lost(LOST_EMBRYO),
            },
            states: self
                .flows
                .by_pair()
                .into_iter()
                .map(|([initiator, responder], flows)| Pair {
                    initiator: initiator.rfc_name(),
                    responder: responder.rfc_name(),
                    flows,
                })
                .collect(),
            reasons: Reason::ALL
                .iter()
                .map(|&reason| {
                    let [ingress, egress] = self.counted(reason).map(Count::from);
                    Counted {
                        reason: reason.as_str(),
                        class: reason.class().as_str(),
                        meaning: reason.describe(),
                        ingress,
                        egress,
                    }
                })
                .collect(),
            programs: &self.programs,
            maps: &self.maps,
            memory_bytes: self.memory(),
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

#[derive(Serialize)]
struct Document<'a> {
    mode: &'static str,
    agent: Agent,
    interfaces: &'a [Interface],
    flows_ipv4: Level,
    flows_ipv6: Level,
    expired: u64,
    half_open: Level,
    unproved: Level,
    lost_events: Lost,
    states: Vec<Pair>,
    reasons: Vec<Counted>,
    programs: &'a [Program],
    maps: &'a [Map],
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Agent {
    alive: bool,
    pid: Option<u32>,
    heartbeat_age_ms: Option<u64>,
}

#[derive(Serialize)]
struct Level {
    held: u64,
    limit: u64,
}

#[derive(Serialize)]
struct Lost {
    open: u64,
    handshake: u64,
}

#[derive(Serialize)]
struct Pair {
    initiator: &'static str,
    responder: &'static str,
    flows: u64,
}

#[derive(Serialize)]
struct Counted {
    reason: &'static str,
    class: &'static str,
    meaning: &'static str,
    ingress: Count,
    egress: Count,
}

#[derive(Serialize)]
struct Count {
    packets: u64,
    bytes: u64,
}

impl From<ReasonCount> for Count {
    fn from(count: ReasonCount) -> Self {
        Self {
            packets: count.packets,
            bytes: count.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{clock, live, now_ns, samples};

    fn snapshot() -> Snapshot {
        let clock = clock();
        let mut flows = Flows::default();
        for sample in samples() {
            flows.count(&Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap());
        }
        flows.count_expired();
        let count = |packets, bytes| ReasonCount { packets, bytes };
        Snapshot {
            now_ns: now_ns(),
            live: live(),
            gauges: [3, 1, 12, 3, 40],
            reasons: vec![
                (
                    Reason::Tracked,
                    Hook::Ingress,
                    count(1_000_000, 1_500_000_000),
                ),
                (Reason::Tracked, Hook::Egress, count(500_000, 30_000_000)),
                (Reason::FlowOpened, Hook::Ingress, count(15, 900)),
                (Reason::StrayReset, Hook::Egress, count(2, 80)),
            ],
            lost: [0, 7],
            interfaces: vec![
                Interface {
                    name: "eth0".to_owned(),
                    index: 2,
                    xdp: Some("native".to_owned()),
                    ingress: true,
                    strips_tags: false,
                },
                Interface {
                    name: "eth1".to_owned(),
                    index: 3,
                    xdp: Some("generic".to_owned()),
                    ingress: true,
                    strips_tags: true,
                },
            ],
            programs: vec![Program {
                name: "tracker_ingress".to_owned(),
                id: 41,
                verified_instructions: 34_567,
                translated_bytes: 12_345,
                jited_bytes: 9_876,
            }],
            maps: vec![
                Map {
                    name: "FLOWS_V4".to_owned(),
                    max_entries: 262_144,
                    memory_bytes: 4_200_000,
                },
                Map {
                    name: "LIVE".to_owned(),
                    max_entries: 1,
                    memory_bytes: 408,
                },
            ],
            flows,
        }
    }

    fn table(snapshot: &Snapshot, verbose: bool) -> String {
        let mut out = Vec::new();
        snapshot.table(&mut out, verbose).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_shows_what_was_counted() {
        insta::assert_snapshot!(table(&snapshot(), false), @r"
        Mode        observe
        Agent       process 4711, last sign of life 0.4s ago
        Interfaces  eth0 (XDP: native)
                    eth1 (XDP: generic, its NIC strips VLAN tags)
        IPv4 flows  12 of 262144 (0.0%)
        IPv6 flows  3 of 262144 (0.0%)
        Expired     1 of these, not swept yet
        Half-open   3 of 32768 (0.0%)
        Unproved    1 of 32768 (0.0%)
        Lost events 0 of open flows, 7 of handshakes

        Initiator    Responder         Flows
        ESTABLISHED  ESTABLISHED           5
        SYN_SENT     SYN_RECV              2
        CLOSE        CLOSE                 1
        SYN_SENT     LISTEN                1
        FIN_WAIT1    ESTABLISHED           1
        FIN_WAIT2    CLOSE_WAIT            1
        CLOSING      CLOSING               1
        TIME_WAIT    CLOSE                 1
        TIME_WAIT    LAST_ACK              1

        Reason               Class   Packets in  Bytes in Packets out Bytes out
        tracked              accept     1000000   1.3 GiB      500000    28 MiB
        flow_opened          accept          15     900 B           0       0 B
        stray_reset          refuse           0       0 B           2      80 B

        Program                Id  Verified instructions     BPF code Machine code
        tracker_ingress        41                  34567       12 KiB      9.6 KiB

        Map                  Room for       Memory
        FLOWS_V4               262144      4.0 MiB
        LIVE                        1        408 B
        together                           4.0 MiB
        ");
    }

    #[test]
    fn the_verbose_table_explains_every_reason() {
        let text = table(&snapshot(), true);
        for reason in Reason::ALL {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{} ", reason.as_str())));
            assert!(line.unwrap().ends_with(reason.describe()), "{reason:?}");
        }
    }

    #[test]
    fn the_health_of_the_agent_is_told() {
        let agent = |snapshot: &Snapshot| table(snapshot, false).lines().nth(1).unwrap().to_owned();
        let mut snapshot = snapshot();
        insta::assert_snapshot!(agent(&snapshot), @"Agent       process 4711, last sign of life 0.4s ago");
        snapshot.live.heartbeat_ns = snapshot.now_ns - 37_000_000_000;
        insta::assert_snapshot!(agent(&snapshot), @"Agent       process 4711 has given no sign of life for 37s: expired flows are not swept; end it and start `tracker run` again");
        snapshot.live.agent_pid = 0;
        insta::assert_snapshot!(agent(&snapshot), @"Agent       none: flows are tracked and expire, but are not swept; `tracker run` starts one");
    }

    #[test]
    fn the_document_says_the_same() {
        let mut out = Vec::new();
        snapshot().json(&mut out).unwrap();
        let mut document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let reasons = document["reasons"].as_array_mut().unwrap();
        assert_eq!(reasons.len(), Reason::ALL.len());
        reasons.retain(|reason| reason["reason"] == "tracked");
        insta::assert_snapshot!(format!("{document:#}"), @r#"
        {
          "agent": {
            "alive": true,
            "heartbeat_age_ms": 400,
            "pid": 4711
          },
          "expired": 1,
          "flows_ipv4": {
            "held": 12,
            "limit": 262144
          },
          "flows_ipv6": {
            "held": 3,
            "limit": 262144
          },
          "half_open": {
            "held": 3,
            "limit": 32768
          },
          "interfaces": [
            {
              "index": 2,
              "ingress": true,
              "name": "eth0",
              "strips_tags": false,
              "xdp": "native"
            },
            {
              "index": 3,
              "ingress": true,
              "name": "eth1",
              "strips_tags": true,
              "xdp": "generic"
            }
          ],
          "lost_events": {
            "handshake": 7,
            "open": 0
          },
          "maps": [
            {
              "max_entries": 262144,
              "memory_bytes": 4200000,
              "name": "FLOWS_V4"
            },
            {
              "max_entries": 1,
              "memory_bytes": 408,
              "name": "LIVE"
            }
          ],
          "memory_bytes": 4200408,
          "mode": "observe",
          "programs": [
            {
              "id": 41,
              "jited_bytes": 9876,
              "name": "tracker_ingress",
              "translated_bytes": 12345,
              "verified_instructions": 34567
            }
          ],
          "reasons": [
            {
              "class": "accept",
              "egress": {
                "bytes": 30000000,
                "packets": 500000
              },
              "ingress": {
                "bytes": 1500000000,
                "packets": 1000000
              },
              "meaning": "A segment of a tracked flow.",
              "reason": "tracked"
            }
          ],
          "states": [
            {
              "flows": 5,
              "initiator": "ESTABLISHED",
              "responder": "ESTABLISHED"
            },
            {
              "flows": 2,
              "initiator": "SYN_SENT",
              "responder": "SYN_RECEIVED"
            },
            {
              "flows": 1,
              "initiator": "CLOSED",
              "responder": "CLOSED"
            },
            {
              "flows": 1,
              "initiator": "SYN_SENT",
              "responder": "LISTEN"
            },
            {
              "flows": 1,
              "initiator": "FIN_WAIT_1",
              "responder": "ESTABLISHED"
            },
            {
              "flows": 1,
              "initiator": "FIN_WAIT_2",
              "responder": "CLOSE_WAIT"
            },
            {
              "flows": 1,
              "initiator": "CLOSING",
              "responder": "CLOSING"
            },
            {
              "flows": 1,
              "initiator": "TIME_WAIT",
              "responder": "CLOSED"
            },
            {
              "flows": 1,
              "initiator": "TIME_WAIT",
              "responder": "LAST_ACK"
            }
          ],
          "unproved": {
            "held": 1,
            "limit": 32768
          }
        }
        "#);
    }
}
