//! A capture that has gone through the brain.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use tracker::{
    replay::{Ended, Id, Replay, Settings, Table},
    view::{self, Clock},
};
use tracker_common::{
    abi::{Flow, Live},
    reason::{Class, Reason},
    tcp::{State, timeout::Profile},
    time::TICK_NS,
};
use tracker_tests::captures::Capture;

use crate::row::Row;

/// A flow as it was at the end of the capture, or of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Initiator and responder.
    pub ends: [SocketAddr; 2],
    /// Their states.
    pub states: [State; 2],
    /// Packets that count to the flow, of each.
    pub packets: [u64; 2],
}

/// What came of a capture.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Packets in it.
    pub packets: u64,
    /// Flows, those that ended first.
    pub flows: Vec<Outcome>,
    /// Packets by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Every pair of states that a flow had.
    pub passed: Vec<[State; 2]>,
}

/// More than any capture has flows.
const ROOM: u32 = 1 << 16;

impl Replayed {
    /// Replays a capture by its own clock, on a tracker without limits where
    /// `row` has it. `pickup` says whether it picks up connections.
    ///
    /// # Errors
    ///
    /// The capture cannot be read.
    pub fn new(capture: &Capture, row: &Row, pickup: bool) -> Result<Self> {
        let live = Live {
            half_open_limit: ROOM,
            pickup_limit: ROOM,
            capacity: ROOM,
            ring_slots: 1,
            pickup: u8::from(pickup),
            ..Live::observing(Profile::Linux)
        };
        let settings = Settings {
            live,
            role: row.role,
            checksum: row.verified,
        };
        let mut replay = Replay::new(Table::new(settings), None);
        let mut replayed = Self::default();
        let mut ended = Vec::new();
        capture.records(|record| {
            let judged = replay.packet(record, |over: Ended, _| {
                ended.push((over.id, over.entry.flow));
                Ok(())
            })?;
            if let Some((_, states)) = judged.flow
                && !replayed.passed.contains(&states)
            {
                replayed.passed.push(states);
            }
            Ok(())
        })?;
        let stats = replay.stats();
        replayed.packets = stats.packets;
        for &reason in Reason::ALL {
            let count = stats.reasons[reason as usize];
            if count != 0 {
                replayed.reasons.insert(reason.as_str(), count);
            }
        }
        let standing = replay.table().flows();
        let flows = ended
            .iter()
            .map(|(id, flow)| (id, flow))
            .chain(standing.iter().map(|(id, entry)| (*id, &entry.flow)));
        for (id, flow) in flows {
            replayed.flows.push(outcome(id, flow)?);
        }
        Ok(replayed)
    }

    /// How many flows came to which pair of states.
    pub fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut outcomes = BTreeMap::new();
        for flow in &self.flows {
            *outcomes.entry(spell(flow.states)).or_default() += 1;
        }
        outcomes
    }

    /// Packets of a class by reason.
    pub fn of_class(&self, class: Class) -> BTreeMap<&'static str, u64> {
        self.reasons
            .iter()
            .filter(|(name, _)| {
                Reason::ALL
                    .iter()
                    .any(|reason| reason.as_str() == **name && reason.class() == class)
            })
            .map(|(&name, &count)| (name, count))
            .collect()
    }
}

/// A pair of states.
pub fn spell([initiator, responder]: [State; 2]) -> String {
    format!("{} {}", initiator.rfc_name(), responder.rfc_name())
}

fn outcome(id: &Id, flow: &Flow) -> Result<Outcome> {
    let key = id.key();
    // No flow has expired by the time it was last heard of.
    let heard_ns = u64::from(flow.last.0) * TICK_NS;
    let clock = Clock::new(heard_ns, Live::observing(Profile::Linux));
    let row = view::Row::new(id.family(), &key, flow, &clock).context("a flow that is blank")?;
    let end = |end: usize| {
        let (address, port): (IpAddr, u16) = row.at(end);
        SocketAddr::new(address, port)
    };
    Ok(Outcome {
        ends: [end(0), end(1)],
        states: flow.bits().map(|bits| bits.state()),
        packets: [flow.ends[0].packets(), flow.ends[1].packets()],
    })
}
