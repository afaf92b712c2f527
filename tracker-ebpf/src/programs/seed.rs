//! Makes flows of connections that userspace knows of. Attached nowhere: run as the
//! reaper is, a seed a run.

use aya_ebpf::{bindings::TC_ACT_OK, macros::classifier, programs::TcContext};
use tracker_common::{
    abi::{Event, EventKind, Family, Seed},
    reason::Reason,
    tcp::{CLOSED, is_sound, plant},
    time::Tick,
};

use crate::{
    atomic::fetch_add,
    clock, event,
    maps::{LIVE, REAP, SEEDS},
    table,
    track::next_generation,
};

/// What became of a seed, as [`Seed::fate`] has it.
const MADE: u8 = 1;
const THERE: u8 = 2;
const NO_ROOM: u8 = 3;

/// Takes the next seed of the request in `REAP`.
#[classifier]
pub fn tracker_seed(_ctx: TcContext) -> i32 {
    let Some(control) = REAP.get_ptr_mut(1) else {
        return TC_ACT_OK;
    };
    // SAFETY: array elements live as long as the program and are aligned to
    // eight bytes; `count` is written before the first run.
    let (index, count) = unsafe { (fetch_add(&raw mut (*control).next, 1), (*control).count) };
    if index >= count {
        return TC_ACT_OK;
    }
    if let Some(seed) = SEEDS.get_ptr_mut(index as u32) {
        // SAFETY: each run has another element, and userspace waits for the last one.
        let seed = unsafe { &mut *seed };
        seed.fate = make(seed);
    }
    TC_ACT_OK
}

#[inline(always)]
fn make(seed: &Seed) -> u8 {
    let (Some(family), Some(live)) = (Family::from_raw(seed.family), LIVE.get(0)) else {
        return NO_ROOM;
    };
    if !is_sound(seed) {
        return NO_ROOM;
    }
    let key = seed.key;
    if table::find(family, &key).is_some() {
        return THERE;
    }
    if table::insert_blank(family, &key).is_err() {
        return NO_ROOM;
    }
    let generation = next_generation();
    let mut event = Event {
        key,
        family: family as u8,
        time_ns: clock::coarse_ns(),
        ..Event::default()
    };
    let tag = key.tag(family);
    let Some(flow) = table::find(family, &key) else {
        return NO_ROOM;
    };
    // SAFETY: `flow` comes from `find` and is unlocked on every way out.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    let now = Tick::from_ns(event.time_ns);
    if inside.tag != 0 {
        // Ours was removed and somebody else's is there.
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        return THERE;
    }
    plant(inside, seed, tag, generation, now, live.policy);
    let seq = inside.next_event();
    event::copy_totals(&mut event, inside);
    let states = inside.bits();
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    event::describe(
        &mut event,
        EventKind::Opened,
        Reason::FlowPickedUp as u8,
        seq,
    );
    event::states(&mut event, CLOSED, states);
    event::send(&event, false);
    MADE
}
