//! The statistics as one JSON object.

use std::io::{self, Write};

use serde::Serialize;
use tracker_common::{
    abi::{FULL_SCALE, Gauge, LOST_EMBRYO, LOST_EVENTS, ReasonCount},
    reason::Reason,
};

use super::{Interface, Map, Pickup, PolicyStats, Program, Snapshot, defence};
use crate::view::head::{Health, mode};

impl Snapshot {
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
            time_wait: TimeWait {
                held: self.flows.in_time_wait(),
                limit: self.upkeep.map(|upkeep| upkeep.time_wait_limit),
            },
            timeout_scale: f64::from(self.live.timeout_scale) / f64::from(FULL_SCALE),
            adaptive: self
                .upkeep
                .and_then(|upkeep| upkeep.adaptive)
                .map(|[start, end]| Adaptive { start, end }),
            pickup: Picking {
                mode: self.pickup().word(),
                grace_left_ms: match self.pickup() {
                    Pickup::Grace { left_ms } => Some(left_ms),
                    Pickup::Off | Pickup::Loose | Pickup::Over => None,
                },
            },
            liberal: self.is_liberal(),
            defence: self.defence_document(),
            policy: self.policy.as_ref(),
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
    time_wait: TimeWait,
    timeout_scale: f64,
    adaptive: Option<Adaptive>,
    pickup: Picking,
    liberal: bool,
    defence: defence::Document,
    policy: Option<&'a PolicyStats>,
    lost_events: Lost,
    states: Vec<Pair>,
    reasons: Vec<Counted>,
    programs: &'a [Program],
    maps: &'a [Map],
    memory_bytes: Option<u64>,
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
struct TimeWait {
    held: u64,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Adaptive {
    start: u32,
    end: u32,
}

#[derive(Serialize)]
struct Picking {
    mode: &'static str,
    grace_left_ms: Option<u64>,
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
