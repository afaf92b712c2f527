//! The brain on the host, and a table as the programs keep it: look-up, expiry,
//! removal, admission, reservation, insertion, in the order of
//! tracker-ebpf/src/track.rs.
//!
//! A shell like that one, so it decides nothing. What the programs have beyond
//! it comes from their being many at once: locks, blanks, generations per CPU.

use std::collections::HashMap;

use tracker_common::{
    abi::{Cause, Family, Flow, INITIATOR, Key, Live, Path, Role, Side, Zone, held},
    parse::{self, Bytes, Packet},
    reason::Reason,
    tcp::{
        Admission, Context, Flags, Limit, Opening, Outcome, State, admit, full, in_flight, meet,
        open, pass, timeout,
    },
    time::{Micros, TICK_NS, Tick},
};

use super::Entry;

/// What the hooks know of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Interface.
    pub ifindex: u32,
    /// Sent by the host's own stack.
    pub local: bool,
    /// It leaves, rather than coming in.
    pub leaves: bool,
    /// Now, ns; never before an earlier packet's.
    pub now_ns: u64,
}

/// What a table is made for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time-outs, limits and switches; the capacity is for each family.
    pub live: Live,
    /// Where the tracker stands.
    pub role: Role,
    /// TCP checksums of what comes in are verified.
    pub checksum: bool,
}

/// Name of a flow while it is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    family: u8,
    words: [u32; 10],
}

impl Id {
    /// The name of the flow with that key.
    #[must_use]
    pub const fn new(family: Family, key: &Key) -> Self {
        Self {
            family: family as u8,
            words: key.words,
        }
    }

    /// Address family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match Family::from_raw(self.family) {
            Some(family) => family,
            // `new` takes nothing else than a family.
            None => Family::V4,
        }
    }

    /// Key of the flow.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key { words: self.words }
    }
}

/// A flow that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its name.
    pub id: Id,
    /// The flow as it stood.
    pub entry: Entry,
    /// Why it ended.
    pub cause: Cause,
    /// When, ns of the tracker's clock.
    pub at_ns: u64,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Passage {
    /// The reason with which it left.
    pub reason: Reason,
    /// The flow that it belongs to or would belong to; `None` for what is no TCP
    /// segment.
    pub id: Option<Id>,
    /// The flow that this packet found over.
    pub ended: Option<Ended>,
}

/// Flows, and what they hold.
#[derive(Debug)]
pub struct Table {
    flows: HashMap<Id, Entry>,
    settings: Settings,
    packet: Packet,
    /// Flows that were made, which is the generation of the newest.
    made: u32,
    counts: [u64; 2],
    half_open: u64,
    calling: u64,
    pickups: u64,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            flows: HashMap::new(),
            settings,
            packet: Packet::default(),
            made: 0,
            counts: [0; 2],
            half_open: 0,
            calling: 0,
            pickups: 0,
        }
    }

    /// What it was made for.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Half-open reservations taken.
    #[must_use]
    pub const fn half_open(&self) -> u64 {
        self.half_open
    }

    /// Reservations of picked-up flows taken.
    #[must_use]
    pub const fn pickups(&self) -> u64 {
        self.pickups
    }

    /// Flows of a family.
    #[must_use]
    pub const fn count(&self, family: Family) -> u64 {
        let [v4, v6] = self.counts;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// One flow.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&Entry> {
        self.flows.get(id)
    }

    /// Every flow, in the order in which they came to be.
    #[must_use]
    pub fn flows(&self) -> Vec<(&Id, &Entry)> {
        let mut flows: Vec<_> = self.flows.iter().collect();
        flows.sort_unstable_by_key(|(_, entry)| entry.flow.generation);
        flows
    }

    /// The packet that was judged last, as far as it was read.
    #[must_use]
    pub const fn packet(&self) -> &Packet {
        &self.packet
    }

    /// Removes a flow if it has expired, as the reaper does.
    pub fn expire(&mut self, id: &Id, now_ns: u64) -> Option<Ended> {
        let (now, live) = (Tick::from_ns(now_ns), &self.settings.live);
        let flow = &self.flows.get(id)?.flow;
        if !timeout::removable(flow, Cause::Expired, now, live) {
            return None;
        }
        let at_ns = now_ns - overdue_ns(flow, now_ns, live);
        self.remove(id, Cause::Expired, at_ns)
    }

    /// Removes every flow that has expired, in the order in which they came to
    /// be.
    pub fn sweep(&mut self, now_ns: u64) -> Vec<Ended> {
        let now = Tick::from_ns(now_ns);
        let mut expired: Vec<(u32, Id)> = self
            .flows
            .iter()
            .filter(|(_, entry)| timeout::expired(&entry.flow, now, &self.settings.live))
            .map(|(id, entry)| (entry.flow.generation, *id))
            .collect();
        expired.sort_unstable_by_key(|&(generation, _)| generation);
        expired
            .iter()
            .filter_map(|(_, id)| self.expire(id, now_ns))
            .collect()
    }

    /// Removes every flow as if time went on from `now_ns` without a packet, in
    /// the order in which they expire.
    pub fn run_out(&mut self, now_ns: u64) -> Vec<Ended> {
        let mut flows: Vec<(u64, Id, Flow)> = self
            .flows
            .iter()
            .map(|(id, entry)| {
                let (at_ns, flow) = last_of(&entry.flow, now_ns, &self.settings.live);
                (at_ns, *id, flow)
            })
            .collect();
        flows.sort_unstable_by_key(|&(at_ns, _, flow)| (at_ns, flow.generation));
        flows
            .into_iter()
            .filter_map(|(at_ns, id, flow)| {
                let mut ended = self.remove(&id, Cause::Expired, at_ns)?;
                ended.entry.flow = flow;
                Some(ended)
            })
            .collect()
    }

    /// Whether it holds no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether a sweep could make room: some limit is nearly reached.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        let tight = |taken: u64, limit: u32| taken >= u64::from(limit - limit / 4);
        self.counts
            .iter()
            .any(|&count| tight(count, self.settings.live.capacity))
            || tight(self.half_open, self.settings.live.half_open_limit)
            || tight(self.pickups, self.settings.live.pickup_limit)
    }

    fn remove(&mut self, id: &Id, cause: Cause, at_ns: u64) -> Option<Ended> {
        let entry = self.flows.remove(id)?;
        *self.counter(id.family()) -= 1;
        self.release(entry.flow.flags & held::MASK);
        Some(Ended {
            id: *id,
            entry,
            cause,
            at_ns,
        })
    }

    const fn counter(&mut self, family: Family) -> &mut u64 {
        let [v4, v6] = &mut self.counts;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Takes what a flow that is to be must hold; gives the limit that it would
    /// exceed. There are no limits by listener and source here.
    fn reserve(&mut self, reservation: u16) -> Option<Limit> {
        let (limit, allowed) = Limit::on(reservation, &self.settings.live);
        let taken = match limit {
            Limit::Pickup => &mut self.pickups,
            Limit::HalfOpen | Limit::Listener | Limit::Source => &mut self.half_open,
            Limit::Capacity => &mut self.calling,
        };
        if *taken >= allowed.into() {
            return Some(limit);
        }
        *taken += 1;
        None
    }

    const fn release(&mut self, released: u16) {
        if released & held::COUNTED != 0 {
            self.half_open -= 1;
        } else if released & held::HALF_OPEN != 0 {
            self.calling -= 1;
        }
        if released & held::PICKUP != 0 {
            self.pickups -= 1;
        }
    }

    /// The zone of the packet.
    const fn zone(&self) -> Zone {
        match self.settings.role {
            Role::Host => Zone::of_vids(self.packet.outer, self.packet.inner),
            Role::Gateway => Zone(0),
        }
    }

    /// Lets a frame act on the flows.
    pub fn packet_of<B: Bytes + ?Sized>(&mut self, frame: &B, seen: &Seen) -> Passage {
        let reason = match parse::ethernet(frame, 0, &mut self.packet) {
            Err(reason) => reason,
            // What leaves has its checksum put in by the NIC.
            Ok(())
                if self.settings.checksum
                    && !seen.leaves
                    && parse::checksum_fits(frame, &self.packet) == Some(false) =>
            {
                Reason::BadChecksum
            }
            Ok(()) => return self.track(seen),
        };
        Passage {
            reason,
            id: None,
            ended: None,
        }
    }

    /// Lets the packet that was read act on its flow.
    fn track(&mut self, seen: &Seen) -> Passage {
        let packet = &self.packet;
        let family = packet.family();
        let (key, from) = packet.key(self.zone());
        let id = Id::new(family, &key);
        if packet.quoted != 0 {
            return Passage {
                reason: self.relate(&id, from),
                id: Some(id),
                ended: None,
            };
        }
        let path = Path::new(seen.ifindex, packet.outer, packet.inner);
        let mut context = Context {
            now: Tick::from_ns(seen.now_ns),
            path: if seen.leaves { path.leaving() } else { path },
            bytes: packet.bytes,
            policy: self.settings.live.policy,
            ..Context::default()
        };
        let exact = Micros::from_ns(seen.now_ns);
        if packet.segment.flags.has(Flags::SYN) {
            context.micros = exact;
        }
        let mut passage = Passage {
            reason: Reason::Tracked,
            id: Some(id),
            ended: None,
        };
        let mut outcome = Outcome::default();
        if let Some(entry) = self.flows.get_mut(&id) {
            if entry.flow.ends[INITIATOR].state() == State::SynSent {
                context.micros = exact;
            }
            context.pending = entry.recall(packet.segment.flags);
            let sender = entry.flow.index_of(from);
            let (segment, live) = (&packet.segment, &self.settings.live);
            if pass(&mut entry.flow, segment, sender, &context, live) {
                return passage;
            }
            meet(
                &mut entry.flow,
                segment,
                sender,
                &context,
                live,
                &mut outcome,
            );
            if outcome.replace == 0 {
                entry.remember(packet, &context, &outcome);
                self.release(outcome.released);
                passage.reason = outcome.reason;
                return passage;
            }
            passage.ended = self
                .expire(&id, seen.now_ns)
                .or_else(|| self.remove(&id, Cause::Replaced, seen.now_ns));
            context.replaced = 1;
        }
        let admission = if outcome.restart == 0 {
            admit(&self.packet.segment, seen.local, false, &self.settings.live)
        } else {
            Admission::Open(Opening::Answered)
        };
        passage.reason = match admission {
            Admission::Leave(reason) => reason,
            Admission::Open(opening) => self.create(id, from, opening, &context, &mut outcome),
        };
        passage
    }

    /// Finds the flow that an ICMP error is about. It moves nothing.
    fn relate(&self, id: &Id, from: Side) -> Reason {
        let seq = self.packet.segment.seq;
        let related = self
            .flows
            .get(id)
            .is_some_and(|Entry { flow, .. }| in_flight(flow, flow.index_of(from), seq));
        if related {
            Reason::IcmpRelated
        } else {
            Reason::IcmpUnrelated
        }
    }

    fn create(
        &mut self,
        id: Id,
        from: Side,
        opening: Opening,
        context: &Context,
        outcome: &mut Outcome,
    ) -> Reason {
        let live = self.settings.live;
        let (initiator, guessed) = match opening {
            // A capture holds no cookie's listener, so none opens a flow.
            Opening::Handshake | Opening::Calling | Opening::Cookie => (from, false),
            // Who answers is the responder.
            Opening::Answered => (from.other(), false),
            // No socket can be asked who listens.
            Opening::Pickup if self.packet.source_port >= self.packet.destination_port => {
                (from, true)
            }
            Opening::Pickup => (from.other(), true),
        };
        let reservation = opening.reservation(&live);
        if let Some(limit) = self.reserve(reservation) {
            return limit.reason(&live);
        }
        let family = id.family();
        if self.count(family) >= live.capacity.into() {
            self.release(reservation);
            return full(&live);
        }
        let mut entry = Entry::default();
        self.made = self.made.wrapping_add(1);
        open(
            &mut entry.flow,
            opening,
            &self.packet.segment,
            id.key().tag(family),
            self.made,
            initiator == Side::High,
            guessed,
            usize::from(initiator != from),
            context,
            &live,
            outcome,
        );
        self.flows.insert(id, entry);
        *self.counter(family) += 1;
        outcome.reason
    }
}

/// How long ago an expired flow expired, ns.
fn overdue_ns(flow: &Flow, now_ns: u64, live: &Live) -> u64 {
    let waited = Tick::from_ns(now_ns).since(flow.last);
    let ticks = waited.saturating_sub(timeout::timeout_ticks(flow, live));
    (u64::from(ticks) * TICK_NS).min(now_ns)
}

/// When a flow expires of which nothing more is heard, ns, and how it stands
/// then.
fn last_of(flow: &Flow, now_ns: u64, live: &Live) -> (u64, Flow) {
    let mut at_ns = now_ns;
    let mut flow = timeout::settled(flow, Tick::from_ns(at_ns));
    if timeout::remaining(&flow, Tick::from_ns(at_ns), live) == 0 {
        return (now_ns - overdue_ns(&flow, now_ns, live), flow);
    }
    // A state that is in doubt settles once, and then has another time-out.
    for _ in 0..2 {
        let left = timeout::remaining(&flow, Tick::from_ns(at_ns), live);
        at_ns += u64::from(left) * TICK_NS;
        flow = timeout::settled(&flow, Tick::from_ns(at_ns));
    }
    (at_ns, flow)
}
