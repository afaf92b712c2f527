//! The brain on the host, and a table as the program keeps it: look-up, expiry,
//! reservation, insertion, in the shell's order.

use std::collections::HashMap;

use tracker_common::{
    abi::{Family, Flow, Key, Live, Path, Side, Zone, held},
    parse::{self, Packet},
    reason::Reason,
    tcp::{Admission, Context, Flags, Opening, Outcome, State, admit, meet, open, timeout},
    time::{Micros, Tick},
};

/// What the hooks know beside the frame.
pub struct Seen {
    pub ifindex: u32,
    pub local: bool,
    pub now_ns: u64,
}

/// The brain and its flows.
pub struct Model {
    flows: HashMap<(u8, [u32; 10]), Flow>,
    live: Live,
    capacity: u64,
    /// Half-open reservations taken.
    pub half_open: u64,
    /// Reservations of picked-up flows taken.
    pub pickups: u64,
}

impl Model {
    pub fn new(live: Live, capacity: u32) -> Self {
        Self {
            flows: HashMap::new(),
            live,
            capacity: capacity.into(),
            half_open: 0,
            pickups: 0,
        }
    }

    pub fn flow(&self, family: Family, key: &Key) -> Option<Flow> {
        self.flows.get(&(family as u8, key.words)).copied()
    }

    /// Flows of a family.
    pub fn count(&self, family: Family) -> u64 {
        self.flows
            .keys()
            .filter(|&&(of, _)| of == family as u8)
            .count() as u64
    }

    /// Judges a flow's expiry as the reaper does: whether it is gone.
    pub fn expire(&mut self, family: Family, key: &Key, now_ns: u64) -> bool {
        let at = (family as u8, key.words);
        let expired = timeout::expired(&self.flows[&at], Tick::from_ns(now_ns), &self.live);
        if expired {
            self.remove(at);
        }
        expired
    }

    fn remove(&mut self, at: (u8, [u32; 10])) {
        if let Some(mut flow) = self.flows.remove(&at) {
            self.release(flow.retire());
        }
    }

    const fn release(&mut self, released: u16) {
        if released & held::HALF_OPEN != 0 {
            self.half_open -= 1;
        }
        if released & held::PICKUP != 0 {
            self.pickups -= 1;
        }
    }

    /// Lets a frame act on the flows, and gives its reason.
    pub fn packet(&mut self, frame: &[u8], seen: &Seen) -> Reason {
        let mut packet = Packet::default();
        if let Err(reason) = parse::ethernet(frame, 0, &mut packet) {
            return reason;
        }
        let family = packet.family();
        let (key, from) = packet.key(Zone::of_vids(packet.outer, packet.inner));
        let at = (family as u8, key.words);
        let mut context = Context {
            now: Tick::from_ns(seen.now_ns),
            path: Path::new(seen.ifindex, packet.outer, packet.inner),
            bytes: packet.bytes,
            policy: self.live.policy,
            ..Context::default()
        };
        let exact = Micros::from_ns(seen.now_ns);
        if packet.segment.flags.has(Flags::SYN) {
            context.micros = exact;
        }
        let mut outcome = Outcome::default();
        if let Some(flow) = self.flows.get_mut(&at) {
            if flow.ends[0].state() == State::SynSent {
                context.micros = exact;
            }
            let sender = flow.index_of(from);
            meet(
                flow,
                &packet.segment,
                sender,
                &context,
                &self.live,
                &mut outcome,
            );
            if outcome.replace == 0 {
                self.release(outcome.released);
                return outcome.reason;
            }
            self.remove(at);
            context.replaced = 1;
        }
        match admit(&packet.segment, seen.local) {
            Admission::Leave(reason) => reason,
            Admission::Open(opening) => {
                self.create(&packet, &key, from, opening, &context, &mut outcome)
            }
        }
    }

    fn create(
        &mut self,
        packet: &Packet,
        key: &Key,
        from: Side,
        opening: Opening,
        context: &Context,
        outcome: &mut Outcome,
    ) -> Reason {
        let family = packet.family();
        let (taken, limit) = match opening {
            Opening::Handshake => (&mut self.half_open, self.live.half_open_limit),
            Opening::Pickup => (&mut self.pickups, self.live.pickup_limit),
        };
        if *taken >= limit.into() {
            return opening.refusal();
        }
        *taken += 1;
        if self.count(family) >= self.capacity {
            self.release(opening.reservation());
            return Reason::TableFull;
        }
        // Nothing listens in the bench's namespace: by port it is a guess.
        let guessed = opening == Opening::Pickup;
        let sends_first = !guessed || packet.source_port >= packet.destination_port;
        let from_high = from == Side::High;
        let mut flow = Flow::default();
        open(
            &mut flow,
            opening,
            &packet.segment,
            key.tag(family),
            0,
            from_high == sends_first,
            guessed,
            usize::from(!sends_first),
            context,
            outcome,
        );
        self.flows.insert((family as u8, key.words), flow);
        outcome.reason
    }
}
