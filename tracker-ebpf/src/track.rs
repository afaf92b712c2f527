//! A packet meets its flow: look-up, lock, the brain, unlock, and only then
//! what the brain asked for.

use core::ffi::c_void;

use tracker_common::{
    abi::{
        Cause, Event, EventKind, Family, Flow, Gauge, Hook, INITIATOR, Key, Live, Path, PendingSyn,
        RingSlot, Side, Zone, ZoneKey, flow_flags, held, interface_flags,
    },
    parse::Packet,
    policy::unrelated,
    reason::Reason,
    tcp::{
        Admission, Admitted, Bits, CLOSED, Context, Flags, Limit, Opening, Outcome, State, admit,
        full, in_flight, is_plain, meet, open, pass,
    },
    time::{Micros, Tick},
};

use crate::{
    clock, event, evict, gauge, globals, interfaces,
    maps::{GENERATION, HALF_OPEN_RING, LIVE, ZONES},
    memory, policy, rules,
    scratch::Scratch,
    shares, sockets, table,
};

/// Look-ups before a packet gives up on a flow that others are making or
/// removing. Either takes less than a microsecond, so a third finds it done.
const TRIES: u32 = 3;

/// What the hooks know of a packet beside its bytes.
pub struct Seen {
    /// The program's context.
    pub context: *mut c_void,
    /// Interface.
    pub ifindex: u32,
    /// Which hook.
    pub hook: Hook,
}

/// The zone of a packet.
#[inline(always)]
fn zone_of(packet: &Packet, seen: &Seen) -> Zone {
    if globals::zones_configured() {
        let key = ZoneKey {
            ifindex: seen.ifindex,
            outer: packet.outer,
            inner: packet.inner,
        };
        // SAFETY: the agent writes zones before the hooks are attached.
        if let Some(&zone) = unsafe { ZONES.get(key) } {
            return Zone(zone);
        }
    }
    // Where tags may be taken off on the way in, one direction sees fewer of
    // them than the other. An untagged packet has nothing to ask about.
    if globals::gateway()
        || (packet.outer != 0
            && interfaces::flags(seen.ifindex) & interface_flags::STRIPS_TAGS != 0)
    {
        return Zone::default();
    }
    Zone::of_vids(packet.outer, packet.inner)
}

/// Prepares the meeting of the packet in `scratch` with its flow: who and where it
/// is. Gives its reason if that is all there is to it: an ICMP error, or an ordinary
/// segment of an established flow.
#[inline(always)]
pub fn pass_by(scratch: &mut Scratch, seen: &Seen) -> Option<Reason> {
    let Some(live) = LIVE.get(0) else {
        return Some(Reason::NotConfigured);
    };
    let Scratch {
        packet,
        event,
        context,
        tag,
        from,
        returned,
        refused,
        asked,
        local,
        ..
    } = scratch;
    *returned = 0;
    *refused = 0;
    *asked = 0;
    let family = packet.family();
    let (key, side) = packet.key(zone_of(packet, seen));
    *from = side as u8;
    event.key = key;
    event.family = family as u8;
    event.ifindex = seen.ifindex;
    event.time_ns = clock::coarse_ns();
    *tag = event.key.tag(family);
    if packet.quoted != 0 {
        return Some(relate(packet, event, side, *tag, *local != 0, live));
    }
    *context = Context {
        now: Tick::from_ns(event.time_ns),
        micros: Micros(0),
        path: path_of(packet, seen),
        bytes: packet.bytes,
        policy: live.policy,
        admitted: Admitted::default(),
        replaced: 0,
        veil: packet.veil,
        pending: PendingSyn::default(),
    };
    if is_plain(packet.segment.flags)
        && passes(packet, event, context, Side::from_raw(*from), live, *tag)
    {
        return Some(Reason::Tracked);
    }
    None
}

/// Whether an ordinary segment of an established flow has passed.
///
/// Whatever else comes locks its flow once more: under one lock the verifier
/// would carry what it found out here through all of the brain.
#[inline(always)]
fn passes(
    packet: &Packet,
    event: &Event,
    context: &Context,
    from: Side,
    live: &Live,
    tag: u32,
) -> bool {
    let Some(flow) = table::find(packet.family(), &event.key) else {
        return false;
    };
    // SAFETY: `flow` comes from `find` and is unlocked below.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    let sender = inside.index_of(from);
    let passes = inside.tag == tag && pass(inside, &packet.segment, sender, context, live);
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    passes
}

/// What became of a packet that was to meet its flow.
pub enum Met {
    /// It leaves with this reason.
    Leaves(Reason),
    /// There is no flow, or it is over.
    Nobody,
    /// Another policy than the one in force has judged its flow.
    Stale,
}

/// Lets the packet in `scratch`, which [`pass_by`] has prepared, act on its flow.
#[inline(always)]
pub fn track(scratch: &mut Scratch) -> Met {
    let Some(live) = LIVE.get(0) else {
        return Met::Leaves(Reason::NotConfigured);
    };
    let Scratch {
        packet,
        event,
        context,
        outcome,
        tag,
        from,
        restarts,
        asked,
        ..
    } = scratch;
    *restarts = 0;
    if packet.segment.flags.has(Flags::SYN) {
        context.micros = clock::exact();
    }
    let flow = match acquire(packet, event, context, *tag) {
        Acquired::Contended => return Met::Leaves(Reason::Contended),
        Acquired::Absent => return Met::Nobody,
        Acquired::Locked(flow) => flow,
    };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    if inside.is_stale(context.policy) != 0 && *asked == 0 {
        // SAFETY: `acquire` locked it.
        unsafe { table::unlock(flow) };
        return Met::Stale;
    }
    let sender = inside.index_of(Side::from_raw(*from));
    meet(inside, &packet.segment, sender, context, live, outcome);
    if outcome.replace == 0 {
        event.flow = inside.id();
        if outcome.event != 0 {
            event::copy_totals(event, inside);
        }
        // SAFETY: `acquire` locked it.
        unsafe { table::unlock(flow) };
        return Met::Leaves(Reason::known(follow_up(scratch)));
    }
    event::copy_totals(event, inside);
    // A connection that begins anew keeps the rule of the one before.
    if outcome.restart != 0 {
        context.admitted.rule = inside.rule;
        context.admitted.profile = inside.profile() as u8;
    }
    let seq = inside.next_event();
    let released = inside.retire();
    // SAFETY: `acquire` locked it.
    unsafe { table::unlock(flow) };
    bury(scratch, released, seq, Cause::Replaced);
    Met::Nobody
}

/// Writes into the flow of the packet in `scratch` what the policy in force says of
/// it ([`crate::policy::judge_again`]), or ends it. Gives the packet's reason if it
/// has ended.
#[inline(always)]
pub fn rejudge(scratch: &mut Scratch, revoked: bool) -> Option<Reason> {
    let Scratch {
        packet,
        event,
        context,
        outcome,
        tag,
        asked,
        ..
    } = scratch;
    *asked = 1;
    let flow = table::find(packet.family(), &event.key)?;
    // SAFETY: `flow` comes from `find` and is unlocked on every way out.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    if inside.tag != *tag {
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        return None;
    }
    event::copy_totals(event, inside);
    let moved = inside.rule != context.admitted.rule;
    inside.rule = context.admitted.rule;
    inside.judged(context.policy, context.admitted.profile);
    outcome.before = inside.bits();
    if !revoked {
        // What it held of another rule's counts goes back; that it counts to this one
        // is left to its successors.
        let mut released = 0;
        if moved {
            released = inside.flags & held::RULED;
            inside.flags &= !released;
        }
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        let high = event.flags & flow_flags::INITIATOR_HIGH != 0;
        gauge::release(released, &event.key, packet.family(), high, event.rule);
        return None;
    }
    let seq = inside.next_event();
    let released = inside.retire();
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    bury(scratch, released, seq, Cause::Revoked);
    Some(Reason::PolicyRevoked)
}

/// What the brain asked for when the packet met its flow: gives back, reports,
/// remembers. Gives the number of the packet's [`Reason`].
///
/// A function of its own, as is the next: when it is called, all ways that the
/// brain may have gone are one to the verifier.
#[inline(never)]
fn follow_up(scratch: &mut Scratch) -> u8 {
    let Scratch {
        packet,
        event,
        context,
        outcome,
        drafts,
        returned,
        ..
    } = scratch;
    if outcome.released != 0 {
        // Only what moves a flow frees its shares, so the event tells who opened.
        let high = event.flags & flow_flags::INITIATOR_HIGH != 0;
        gauge::release(
            outcome.released,
            &event.key,
            packet.family(),
            high,
            event.rule,
        );
    }
    if outcome.event != 0 {
        report(event, outcome);
        if outcome.embryo == 0 {
            memory::step(event, outcome, context, drafts);
        }
        return if *returned != 0 {
            Reason::CookieReturned as u8
        } else {
            outcome.reason as u8
        };
    }
    if outcome.remember != 0 {
        memory::pending(&event.flow, packet, outcome, context, drafts);
    }
    if outcome.reason.refuses() {
        memory::refusal(&event.flow, packet, outcome, context, drafts);
    }
    outcome.reason as u8
}

/// Removes the flow that the packet has ended, and prepares for another one.
#[inline(never)]
fn bury(scratch: &mut Scratch, released: u16, seq: u8, cause: Cause) {
    let Scratch {
        packet,
        event,
        context,
        outcome,
        restarts,
        ..
    } = scratch;
    let family = packet.family();
    event::describe(event, EventKind::Ended, cause as u8, seq);
    table::delete_retired(family, &event.key);
    let high = event.flags & flow_flags::INITIATOR_HIGH != 0;
    gauge::release(released, &event.key, family, high, event.rule);
    rules::ended(event);
    event::states(event, outcome.before, CLOSED);
    event::send(event, opening(outcome.before));
    context.replaced = 1;
    *restarts = outcome.restart;
}

/// Lets the packet in `scratch`, which has no flow, open one where the brain says
/// so.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, seen: &Seen) -> Reason {
    let Some(live) = LIVE.get(0) else {
        return Reason::NotConfigured;
    };
    let admission = if scratch.restarts != 0 {
        Admission::Open(Opening::Answered)
    } else {
        let asked = scratch.context.admitted.rule != 0;
        admit(&scratch.packet.segment, scratch.local != 0, asked, live)
    };
    match admission {
        Admission::Open(opening) => {
            scratch.opener = scratch.packet.segment;
            let from = Side::from_raw(scratch.from);
            let (initiator, guessed) = match opening {
                Opening::Handshake | Opening::Calling | Opening::Cookie => (from, false),
                // Who answers is the responder.
                Opening::Answered => (from.other(), false),
                Opening::Pickup => initiator_of(&scratch.packet, seen, from),
            };
            let reason = create(scratch, opening, initiator, guessed, live);
            if scratch.refused != 0 {
                Reason::known(scratch.refused)
            } else {
                reason
            }
        }
        Admission::Leave(reason) => reason,
    }
}

/// The way that a packet goes.
#[inline(always)]
fn path_of(packet: &Packet, seen: &Seen) -> Path {
    let path = Path::new(seen.ifindex, packet.outer, packet.inner);
    match seen.hook {
        Hook::Ingress => path,
        Hook::Egress => path.leaving(),
    }
}

/// Finds the flow that an ICMP error is about. It moves nothing (RFC 5927
/// section 6), so the flow is only read, and without its lock.
#[inline(always)]
fn relate(packet: &Packet, event: &Event, side: Side, tag: u32, ours: bool, live: &Live) -> Reason {
    let Some(flow) = table::find(packet.family(), &event.key) else {
        let reason = unrelated(policy::flags(live), ours);
        return if matches!(reason, Reason::IcmpStray) && policy::is_own(event) {
            Reason::OwnRejection
        } else {
            reason
        };
    };
    // SAFETY: a map value of integers, which any bits are.
    let flow = unsafe { &*flow.cast_const() };
    if flow.tag == tag && in_flight(flow, flow.index_of(side), packet.segment.seq) {
        Reason::IcmpRelated
    } else {
        Reason::IcmpUnrelated
    }
}

/// What a look-up brought.
enum Acquired {
    /// The packet's flow, locked: the caller must unlock it.
    Locked(*mut Flow),
    /// There is none.
    Absent,
    /// It is being made or removed, and still was after [`TRIES`] looks.
    Contended,
}

/// Finds the packet's flow and takes its lock.
#[inline(always)]
fn acquire(packet: &Packet, event: &Event, context: &mut Context, tag: u32) -> Acquired {
    for _ in 0..TRIES {
        let Some(flow) = table::find(packet.family(), &event.key) else {
            return Acquired::Absent;
        };
        // The ACK that completes a handshake is timed exactly. This look is
        // without the lock, and decides nothing but the clock.
        // SAFETY: a map value of integers, which any bits are.
        let initiator = unsafe { (*flow).ends[INITIATOR].bits() };
        if initiator.is(State::SynSent) {
            context.micros = clock::exact();
        }
        memory::recall(flow, packet, context);
        // SAFETY: `flow` comes from `find`; it is unlocked here or by the caller.
        unsafe { table::lock(flow) };
        // SAFETY: under the lock nobody else writes it.
        if unsafe { (*flow).tag } == tag {
            return Acquired::Locked(flow);
        }
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
    }
    Acquired::Contended
}

/// Makes the flow that [`Scratch::opener`] opens.
#[inline(always)]
pub fn create(
    scratch: &mut Scratch,
    opening: Opening,
    initiator: Side,
    guessed: bool,
    live: &Live,
) -> Reason {
    let Scratch {
        packet,
        event,
        evicted,
        opener,
        context,
        outcome,
        tag,
        from,
        ..
    } = scratch;
    let from = Side::from_raw(*from);
    let family = packet.family();
    let high = matches!(initiator, Side::High);
    let reservation = opening.reservation(live);
    if let Some(limit) = reserve(reservation, event, evicted, family, high, live) {
        give_up(0, context, event, family, high);
        return limit.reason(live);
    }
    if let Err(reason) = table::insert_blank(family, &event.key) {
        give_up(reservation, context, event, family, high);
        return if reason == Reason::TableFull {
            full(live)
        } else {
            reason
        };
    }
    let generation = next_generation();
    let Some(flow) = table::find(family, &event.key) else {
        give_up(reservation, context, event, family, high);
        return Reason::Contended;
    };
    // SAFETY: `flow` comes from `find` and is unlocked on every way out.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    if inside.tag != 0 {
        // Ours was removed and somebody else's is there.
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        give_up(reservation, context, event, family, high);
        return Reason::Contended;
    }
    // The ACK that returns a cookie stands for the SYN-ACK before it.
    let other = initiator as u8 != from as u8 || matches!(opening, Opening::Cookie);
    let sender = usize::from(other);
    open(
        inside, opening, opener, *tag, generation, high, guessed, sender, context, live, outcome,
    );
    event::copy_totals(event, inside);
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    if reservation & held::COUNTED != 0 {
        remember_age(&event.key, family, generation, live.ring_slots);
    }
    report(event, outcome);
    outcome.reason
}

/// Gives back what a flow was to hold that does not come to be.
#[inline(always)]
fn give_up(reservation: u16, context: &Context, event: &Event, family: Family, high: bool) {
    let Admitted { rule, flags, .. } = context.admitted;
    let released = reservation | flags & held::RULED;
    gauge::release(released, &event.key, family, high, rule);
}

/// Takes what a flow that is to be must hold; gives the limit that it would
/// exceed.
#[inline(always)]
fn reserve(
    reservation: u16,
    event: &Event,
    evicted: &mut Event,
    family: Family,
    initiator_high: bool,
    live: &Live,
) -> Option<Limit> {
    let (exceeded, limit) = Limit::on(reservation, live);
    let mut taken = gauge::reserve(reservation, limit);
    if taken.is_none() && exceeded.evicts(live) && evict::oldest(evicted, live.ring_slots) {
        taken = gauge::reserve(reservation, limit);
    }
    let Some(before) = taken else {
        return Some(exceeded);
    };
    if before + 1 == u64::from(live.wake_level) && reservation & held::COUNTED != 0 {
        event::pressure(evicted, event.time_ns);
    }
    if reservation & held::SHARED == 0 {
        return None;
    }
    let exceeded = shares::take(&event.key, family, initiator_high, live)?;
    gauge::release(
        reservation & !held::SHARED,
        &event.key,
        family,
        initiator_high,
        0,
    );
    Some(exceeded)
}

/// The side that opened a connection met in mid-life, and whether that is a
/// guess: not the one that listens, else the one with the higher port.
#[inline(always)]
pub fn initiator_of(packet: &Packet, seen: &Seen, from: Side) -> (Side, bool) {
    let inbound = matches!(seen.hook, Hook::Ingress);
    let to = from.other();
    if sockets::listens(seen.context, packet, inbound) {
        (if inbound { from } else { to }, false)
    } else if packet.source_port >= packet.destination_port {
        (from, true)
    } else {
        (to, true)
    }
}

/// A generation that no other flow of any CPU has, modulo 2^32.
#[inline(always)]
pub fn next_generation() -> u32 {
    let Some(counter) = GENERATION.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's element. A hook that interrupts the other between the
    // two accesses can give both the same number; the flows' keys differ then.
    let count = unsafe {
        *counter += 1;
        *counter
    };
    // SAFETY: the helper takes no arguments.
    let cpu = unsafe { aya_ebpf::helpers::bpf_get_smp_processor_id() };
    (count as u32)
        .wrapping_mul(globals::cpus())
        .wrapping_add(cpu)
}

/// Puts a half-open flow at the head of the age ring.
#[inline(always)]
fn remember_age(key: &Key, family: Family, generation: u32, slots: u32) {
    if slots == 0 {
        return;
    }
    let slot = gauge::take(Gauge::RingHead) % u64::from(slots);
    if let Some(place) = HALF_OPEN_RING.get_ptr_mut(slot as u32) {
        // SAFETY: an array element of this layout; see `RingSlot` for why
        // another writer does no harm.
        unsafe {
            *place = RingSlot {
                key: *key,
                generation,
                family: family as u32,
            }
        };
    }
}

/// Sends the event that the brain asked for.
#[inline(always)]
fn report(event: &mut Event, outcome: &Outcome) {
    event.kind = outcome.event;
    event.reason = outcome.reason as u8;
    event.seq = outcome.seq;
    event::states(event, outcome.before, outcome.after);
    event::send(event, outcome.embryo != 0);
}

/// Whether a pair of states belongs to a handshake.
#[inline(always)]
pub const fn opening(states: [Bits; 2]) -> bool {
    states[0].is_opening() || states[1].is_opening()
}
