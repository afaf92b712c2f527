//! One flow as the views see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracker_common::{
    abi::{
        Cause, Endpoint, Family, Flow, INITIATOR, Key, Live, Path, RESPONDER, Zone, flow_flags,
        switches,
    },
    tcp::timeout::{self, Class},
    time::{Tick, ms_from_ticks},
};

use super::names::Quoted;

/// The moment of a look at the tables, and the time-outs in force.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Tick,
    live: Live,
}

impl Clock {
    /// The moment `now_ns` of `CLOCK_MONOTONIC` under the configuration `live`.
    #[must_use]
    pub const fn new(now_ns: u64, live: Live) -> Self {
        Self {
            now: Tick::from_ns(now_ns),
            live,
        }
    }

    /// From then to this moment, ms.
    #[must_use]
    pub const fn since_ms(&self, then: Tick) -> u64 {
        ms_from_ticks(self.now.since(then))
    }
}

/// What is to be said of a flow of a capture besides.
#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    /// The capture.
    pub file: &'a Quoted,
    /// The moment of the look on the capture's clock, ms since 1970.
    pub at_ms: u64,
    /// Why the flow has ended, where it has.
    pub ended: Option<Cause>,
}

/// One flow at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    family: Family,
    key: &'a Key,
    flow: Flow,
    clock: &'a Clock,
    replayed: Option<Replayed<'a>>,
}

impl<'a> Row<'a> {
    /// The flow of that key, or `None` where there is none to show: the element
    /// is a blank or dying, or the flow has expired. The programs take an
    /// expired flow for absent, swept or not, and so do the views.
    #[must_use]
    pub fn new(family: Family, key: &'a Key, flow: &Flow, clock: &'a Clock) -> Option<Self> {
        let flow = timeout::settled(flow, clock.now);
        let alive = flow.tag != 0 && !timeout::expired(&flow, clock.now, &clock.live);
        alive.then_some(Self {
            family,
            key,
            flow,
            clock,
            replayed: None,
        })
    }

    /// The same flow as one of a capture.
    #[must_use]
    pub const fn of_capture(self, replayed: Replayed<'a>) -> Self {
        Self {
            replayed: Some(replayed),
            ..self
        }
    }

    /// A flow of a capture that is over, at the moment when it ended.
    #[must_use]
    pub const fn ended(
        family: Family,
        key: &'a Key,
        flow: &Flow,
        clock: &'a Clock,
        replayed: Replayed<'a>,
    ) -> Self {
        Self {
            family,
            key,
            flow: *flow,
            clock,
            replayed: Some(replayed),
        }
    }

    /// What is to be said of it as one of a capture, where it is that.
    #[must_use]
    pub const fn replayed(&self) -> Option<&Replayed<'a>> {
        self.replayed.as_ref()
    }

    /// Its key in the table.
    #[must_use]
    pub const fn key(&self) -> &Key {
        self.key
    }

    /// Address family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The flow itself; what was in doubt has settled.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Address and port of [`INITIATOR`] or [`RESPONDER`].
    #[must_use]
    pub fn at(&self, end: usize) -> (IpAddr, u16) {
        let high = (end == INITIATOR) == self.flow.has(flow_flags::INITIATOR_HIGH);
        let (addr, ports): (IpAddr, u32) = match self.family {
            Family::V4 => {
                let key = self.key.as_v4();
                let word = if high { key.high } else { key.low };
                (Ipv4Addr::from(word.to_ne_bytes()).into(), key.ports)
            }
            Family::V6 => {
                let key = self.key.as_v6();
                let words = if high { key.high } else { key.low };
                (ipv6(words).into(), key.ports)
            }
        };
        (
            addr,
            if high {
                ports as u16
            } else {
                (ports >> 16) as u16
            },
        )
    }

    /// What is known of [`INITIATOR`] or [`RESPONDER`].
    #[must_use]
    pub fn end(&self, end: usize) -> &Endpoint {
        let [initiator, responder] = &self.flow.ends;
        if end == INITIATOR {
            initiator
        } else {
            responder
        }
    }

    /// Where that end's packets were last seen.
    #[must_use]
    pub fn path(&self, end: usize) -> Path {
        let [initiator, responder] = self.flow.paths;
        if end == INITIATOR {
            initiator
        } else {
            responder
        }
    }

    /// Where the flow is seen: on the initiator's path, else the responder's.
    #[must_use]
    pub fn seen_at(&self) -> Path {
        let path = self.path(INITIATOR);
        if path == Path::default() {
            self.path(RESPONDER)
        } else {
            path
        }
    }

    /// The zone that keeps it apart from flows of equal addresses and ports.
    #[must_use]
    pub const fn zone(&self) -> Zone {
        Zone(match self.family {
            Family::V4 => self.key.as_v4().zone,
            Family::V6 => self.key.as_v6().zone,
        })
    }

    /// Since it came to be, ms.
    #[must_use]
    pub const fn age_ms(&self) -> u64 {
        self.since_ms(self.flow.first)
    }

    /// Since a segment of it was last accepted, ms.
    #[must_use]
    pub const fn idle_ms(&self) -> u64 {
        self.since_ms(self.flow.last)
    }

    /// From then to this moment, ms.
    #[must_use]
    pub const fn since_ms(&self, then: Tick) -> u64 {
        self.clock.since_ms(then)
    }

    /// Whether its segments are exempt from the checks of windows, timestamps and
    /// RST numbers: for good, until it is proved, or because all are.
    #[must_use]
    pub const fn is_liberal(&self) -> bool {
        self.flow.is_liberal() || self.clock.live.switches & switches::LIBERAL != 0
    }

    /// Whether an RST came that was not exact, and its sender has not shown since
    /// that it lives.
    #[must_use]
    pub const fn is_reset_pending(&self) -> bool {
        self.flow.flags & flow_flags::RST_INEXACT_BOTH != 0
    }

    /// Until it expires if nothing happens, ms, rounded down: the current tick is
    /// partly over, and more than the configured time-out would look wrong.
    #[must_use]
    pub fn expires_ms(&self) -> u64 {
        let ticks = timeout::remaining(&self.flow, self.clock.now, &self.clock.live);
        ms_from_ticks(ticks.saturating_sub(1))
    }

    /// What it waits for.
    #[must_use]
    pub const fn timer(&self) -> Class {
        timeout::class_of_flow(&self.flow)
    }
}

/// The address whose words lie in memory as they lie in the packet.
fn ipv6(words: [u32; 4]) -> Ipv6Addr {
    let [a, b, c, d] = words.map(u32::from_be);
    let [a, b, c, d] = [a, b, c, d].map(u128::from);
    Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d)
}
