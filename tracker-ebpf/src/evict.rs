//! Makes room among the half-open flows.

use tracker_common::{
    abi::{Cause, Event, EventKind, Family, Gauge, flow_flags, held},
    tcp::CLOSED,
};

use crate::{event, gauge, maps::HALF_OPEN_RING, rules, table, track::opening};

/// Slots of the age ring that one packet looks at. An opening writes one slot and
/// each is looked at once, so that more than one suffice to catch up.
const LOOKS: u64 = 4;

/// Removes the oldest half-open flow that came from elsewhere; false if none was
/// found among so many slots, and another packet goes on from there.
#[inline(never)]
pub fn oldest(event: &mut Event, slots: u32) -> bool {
    if slots == 0 {
        return false;
    }
    let head = gauge::taken(Gauge::RingHead);
    // Behind that, slots have been written anew.
    let mut at = gauge::taken(Gauge::RingTail).max(head.saturating_sub(slots.into()));
    for _ in 0..LOOKS {
        if at >= head {
            return false;
        }
        let slot = at % u64::from(slots);
        at += 1;
        let Some(place) = HALF_OPEN_RING.get(slot as u32) else {
            return false;
        };
        let Some(family) = Family::from_raw(place.family as u8) else {
            continue;
        };
        event.key = place.key;
        event.family = family as u8;
        if remove(event, family, place.generation) {
            gauge::set(Gauge::RingTail, at);
            return true;
        }
    }
    gauge::set(Gauge::RingTail, at);
    false
}

/// Removes the flow that `event` names, if it is half-open and of this generation.
#[inline(always)]
fn remove(event: &mut Event, family: Family, generation: u32) -> bool {
    let Some(flow) = table::find(family, &event.key) else {
        return false;
    };
    let tag = event.key.tag(family);
    // SAFETY: `flow` comes from `find` and is unlocked on every way out.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    let half_open = inside.flags & held::COUNTED != 0;
    if inside.tag != tag || inside.generation != generation || !half_open {
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        return false;
    }
    event::copy_totals(event, inside);
    let before = inside.bits();
    let seq = inside.next_event();
    let released = inside.retire();
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    table::delete_retired(family, &event.key);
    let initiator_high = event.flags & flow_flags::INITIATOR_HIGH != 0;
    gauge::release(released, &event.key, family, initiator_high, event.rule);
    rules::ended(event);
    event::describe(event, EventKind::Ended, Cause::Evicted as u8, seq);
    event::states(event, before, CLOSED);
    event::send(event, opening(before));
    true
}
