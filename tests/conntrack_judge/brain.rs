//! Our side: the brain, with a table that is never full and time-outs that never
//! come.

use tracker_common::{
    abi::{Flow, Live, PROFILES, Role, Zone},
    parse,
    reason::{Class, Reason},
    tcp::{Segment, State, timeout},
};

use tracker::replay::{Id, Seen, Settings, Table};

/// Ticks that no test lasts.
const NEVER: u32 = 1 << 30;

/// What the tracker makes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// It is a TCP segment, so that its flow is known. What is not has none.
    pub readable: bool,
    /// Its segment, where there is one.
    pub segment: Segment,
    /// Index of its sender in the ends of the flow before, where there was one.
    pub sender: usize,
    /// Why it leaves.
    pub reason: Reason,
    /// Its flow before, if there was one.
    pub before: Option<Flow>,
    /// Its flow afterwards.
    pub after: Option<Flow>,
}

impl Ours {
    /// Whether the segment is one that honest traffic has.
    pub fn refused(&self) -> bool {
        self.reason.class() == Class::Refuse
    }

    /// Both ends' states afterwards.
    pub fn pair(&self) -> Option<[State; 2]> {
        self.after.as_ref().map(pair)
    }
}

/// The states of a flow's ends.
pub fn pair(flow: &Flow) -> [State; 2] {
    flow.bits().map(|bits| bits.state())
}

/// The brain and its flows.
pub struct Brain {
    table: Table,
    now_ns: u64,
}

/// Where its clock begins, ns.
const START: u64 = 3_600_000_000_000;

/// From packet to packet, ns: nothing depends on it but how fast a clock of
/// timestamps may run.
const STEP: u64 = 10_000_000;

impl Brain {
    /// Without flows. `loose` says whether a segment of an unknown connection
    /// may open one.
    pub fn new(loose: bool) -> Self {
        let live = Live {
            policy: 1,
            half_open_limit: u32::MAX,
            pickup_limit: u32::MAX,
            capacity: u32::MAX,
            ring_slots: 1,
            pickup: u8::from(loose),
            syn_ack_retries: u8::MAX,
            timeouts: [[NEVER; 16]; PROFILES],
            ..Live::observing(timeout::Profile::Linux)
        };
        Self {
            // A gateway's does not ask for VLANs either.
            table: Table::new(Settings {
                live,
                role: Role::Gateway,
                // All of them are right.
                checksum: true,
            }),
            now_ns: START,
        }
    }

    /// Lets a frame act that comes in by the interface of that number: each end
    /// of a connection has its own.
    pub fn packet(&mut self, frame: &[u8], ifindex: u32) -> Ours {
        self.now_ns += STEP;
        let mut packet = parse::Packet::default();
        // What cannot be read has no flow, and its reason says so.
        let readable = parse::ethernet(frame, 0, &mut packet).is_ok();
        let (key, side) = packet.key(Zone(0));
        let id = Id::new(packet.family(), &key);
        let flow = |table: &Table| {
            let entry = readable.then(|| table.get(&id)).flatten()?;
            Some(entry.flow)
        };
        let before = flow(&self.table);
        let seen = Seen {
            ifindex,
            local: false,
            leaves: false,
            now_ns: self.now_ns,
        };
        let reason = self.table.packet_of(frame, &seen).reason;
        let after = flow(&self.table);
        let sender = before.as_ref().map_or(0, |flow| flow.index_of(side));
        Ours {
            readable,
            segment: packet.segment,
            sender,
            reason,
            before,
            after,
        }
    }
}
