//! Flows for the tests of the views: every state, both families, VLANs,
//! retransmissions.

use std::net::IpAddr;

use tracker_common::{
    abi::{
        Family, Flow, Gauge, INITIATOR, Key, Live, Origin, Path, RESPONDER, Side, Zone, flow_flags,
    },
    tcp::{State, timeout::Profile},
    time::{ShortMicros, TICK_NS, Tick, ticks_from_ms},
};

use super::{Clock, Names};

/// The moment of all samples, in ticks.
const NOW: u32 = 10_000_000;

/// A running configuration with the default profile.
pub fn live() -> Live {
    Live {
        agent_pid: 4711,
        heartbeat_ns: u64::from(NOW) * TICK_NS - 400_000_000,
        half_open_limit: 32_768,
        pickup_limit: 32_768,
        capacity: 262_144,
        ring_slots: 32_768,
        ..Live::observing(Profile::Linux)
    }
}

/// The moment of all samples, in ns.
pub const fn now_ns() -> u64 {
    NOW as u64 * TICK_NS
}

/// The same as a tick.
pub const fn now() -> Tick {
    Tick(NOW)
}

/// What the gauges tell.
pub fn gauges() -> [u64; Gauge::COUNT as usize] {
    let mut gauges = [0; Gauge::COUNT as usize];
    for (gauge, value) in [
        (Gauge::HalfOpen, 3),
        (Gauge::Pickup, 1),
        (Gauge::FlowsV4, 12),
        (Gauge::FlowsV6, 3),
        (Gauge::RingHead, 40),
        (Gauge::Calling, 2),
    ] {
        gauges[gauge as usize] = value;
    }
    gauges
}

pub fn clock() -> Clock {
    Clock::new(now_ns(), live())
}

pub fn names() -> Names {
    Names::new([(2, "eth0".to_owned()), (3, "eth1".to_owned())])
}

/// A flow in the making.
#[derive(Debug)]
pub struct Sample {
    pub family: Family,
    pub key: Key,
    pub flow: Flow,
}

impl Sample {
    /// A flow from `from` to `to` with these states, 2 s old and 1 s idle.
    pub fn new(from: &str, to: &str, states: [State; 2]) -> Self {
        Self::in_zone(from, to, states, Zone::default())
    }

    /// The same in the zone of these tags.
    pub fn tagged(from: &str, to: &str, states: [State; 2], outer: u16, inner: u16) -> Self {
        let mut sample = Self::in_zone(from, to, states, Zone::of_vids(outer, inner));
        sample.flow.paths = [Path::new(2, outer, inner), Path::new(3, outer, inner)];
        sample
    }

    fn in_zone(from: &str, to: &str, states: [State; 2], zone: Zone) -> Self {
        let (from, to): (std::net::SocketAddr, std::net::SocketAddr) =
            (from.parse().unwrap(), to.parse().unwrap());
        let (family, key, side) = match (from.ip(), to.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let word = |addr: std::net::Ipv4Addr| u32::from_ne_bytes(addr.octets());
                let (key, side) = Key::v4((word(a), from.port()), (word(b), to.port()), zone);
                (Family::V4, key, side)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let words = |addr: std::net::Ipv6Addr| {
                    let octets = addr.octets();
                    [0, 4, 8, 12].map(|at| {
                        u32::from_ne_bytes([
                            octets[at],
                            octets[at + 1],
                            octets[at + 2],
                            octets[at + 3],
                        ])
                    })
                };
                let (key, side) = Key::v6((words(a), from.port()), (words(b), to.port()), zone);
                (Family::V6, key, side)
            }
            _ => panic!("{from} and {to} are of two families"),
        };
        let mut flow = Flow {
            tag: key.tag(family),
            generation: 7,
            first: Tick(NOW - ticks_from_ms(2000)),
            last: Tick(NOW - ticks_from_ms(1000)),
            flags: if side == Side::High {
                flow_flags::INITIATOR_HIGH
            } else {
                0
            },
            paths: [Path::new(2, 0, 0); 2],
            ..Flow::default()
        };
        for (end, state) in flow.ends.iter_mut().zip(states) {
            end.set_state(state);
        }
        flow.ends[INITIATOR].count(60);
        Self { family, key, flow }
    }

    /// Counts packets of 100 octets at one end.
    pub fn packets(mut self, end: usize, packets: u32) -> Self {
        (0..packets).for_each(|_| self.flow.ends[end].count(100));
        self
    }

    /// SYNs and SYN-ACKs sent again.
    pub fn retransmits(mut self, syn: u8, syn_ack: u8) -> Self {
        self.flow.ends[INITIATOR].syn_retransmits = syn;
        self.flow.ends[RESPONDER].syn_retransmits = syn_ack;
        self
    }

    /// Met in mid-life, its direction a guess.
    pub fn picked_up(mut self) -> Self {
        self.flow.flags |= flow_flags::GUESSED;
        self.flow.flags |= (Origin::Pickup as u16) << flow_flags::ORIGIN_SHIFT;
        self
    }

    /// A measured handshake.
    pub fn rtt(mut self, micros: u32) -> Self {
        self.flow.handshake_rtt = ShortMicros::pack(micros);
        self
    }

    /// Silent for so long.
    pub fn idle(mut self, ms: u64) -> Self {
        self.flow.last = Tick(NOW - ticks_from_ms(ms));
        self
    }
}

/// A table with every state in it.
pub fn samples() -> Vec<Sample> {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
        SynSent, TimeWait,
    };
    let server = "192.0.2.1:443";
    vec![
        Sample::new("198.51.100.9:40001", server, [SynSent, Listen]).retransmits(3, 0),
        Sample::new("198.51.100.9:40002", server, [SynSent, SynReceived]).retransmits(0, 2),
        Sample::new("198.51.100.9:40003", server, [Established, Established])
            .packets(INITIATOR, 20)
            .packets(RESPONDER, 300)
            .rtt(1500),
        Sample::new(
            "192.0.2.1:55000",
            "203.0.113.5:22",
            [Established, Established],
        )
        .picked_up(),
        Sample::new("198.51.100.9:40004", server, [FinWait1, Established]),
        Sample::new("198.51.100.9:40005", server, [FinWait2, CloseWait]).idle(600_000),
        Sample::new("198.51.100.9:40006", server, [Closing, Closing]),
        Sample::new("198.51.100.9:40007", server, [TimeWait, LastAck]),
        Sample::new("198.51.100.9:40008", server, [TimeWait, Closed]),
        Sample::new("198.51.100.9:40009", server, [Closed, Closed]),
        Sample::tagged(
            "198.51.100.9:40003",
            server,
            [Established, Established],
            10,
            0,
        ),
        Sample::tagged(
            "198.51.100.9:40003",
            server,
            [Established, Established],
            100,
            7,
        ),
        Sample::new(
            "[2001:db8::9]:50000",
            "[2001:db8::1]:443",
            [Established, Established],
        )
        .packets(RESPONDER, 4),
        Sample::new(
            "[fe80::1]:50000",
            "[2001:db8:1:2:3:4:5:6]:65535",
            [SynSent, SynReceived],
        ),
    ]
}
