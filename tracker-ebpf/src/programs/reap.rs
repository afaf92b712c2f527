//! Removes flows that userspace proposes. Attached nowhere: userspace runs it
//! through `BPF_PROG_TEST_RUN` with as many repeats as there are candidates,
//! and each run takes one. So the sweep needs no loop that the verifier would
//! have to follow, and the kernel may schedule between candidates.

use aya_ebpf::{bindings::TC_ACT_OK, macros::classifier, programs::TcContext};
use tracker_common::{
    abi::{Cause, Event, EventKind, Family, flow_flags},
    tcp::{CLOSED, timeout},
    time::Tick,
};

use crate::{
    atomic::fetch_add,
    clock, event, gauge,
    maps::{CANDIDATES, LIVE, REAP},
    rules, table,
    track::opening,
};

/// What became of a candidate.
enum Fate {
    Removed,
    Kept,
    Gone,
}

/// Takes the next candidate of the request in `REAP`.
#[classifier]
pub fn tracker_reap(_ctx: TcContext) -> i32 {
    let Some(control) = REAP.get_ptr_mut(0) else {
        return TC_ACT_OK;
    };
    // SAFETY: array elements live as long as the program and are aligned to
    // eight bytes; `count` is written before the first run.
    let (index, count) = unsafe { (fetch_add(&raw mut (*control).next, 1), (*control).count) };
    if index >= count {
        return TC_ACT_OK;
    }
    let Some(fate) = judge(index as u32) else {
        return TC_ACT_OK;
    };
    // SAFETY: as above.
    unsafe {
        let tally = match fate {
            Fate::Removed => &raw mut (*control).removed,
            Fate::Kept => &raw mut (*control).kept,
            Fate::Gone => &raw mut (*control).gone,
        };
        fetch_add(tally, 1);
    }
    TC_ACT_OK
}

#[inline(always)]
fn judge(index: u32) -> Option<Fate> {
    let candidate = CANDIDATES.get(index)?;
    let live = LIVE.get(0)?;
    let (Some(family), Some(cause)) = (
        Family::from_raw(candidate.family),
        Cause::from_raw(candidate.cause),
    ) else {
        return Some(Fate::Gone);
    };
    let mut event = Event {
        key: candidate.key,
        family: family as u8,
        ..Event::default()
    };
    event.time_ns = clock::coarse_ns();
    let tag = event.key.tag(family);
    let now = Tick::from_ns(event.time_ns);
    let Some(flow) = table::find(family, &event.key) else {
        return Some(Fate::Gone);
    };
    // SAFETY: `flow` comes from `find` and is unlocked on every way out.
    unsafe { table::lock(flow) };
    // SAFETY: under the lock this program is the only one that writes.
    let inside = unsafe { &mut *flow };
    if inside.tag != tag || inside.generation != candidate.generation {
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        return Some(Fate::Gone);
    }
    // A packet may have come since userspace looked.
    if !timeout::removable(inside, cause, now, live) {
        // SAFETY: locked above.
        unsafe { table::unlock(flow) };
        return Some(Fate::Kept);
    }
    event::copy_totals(&mut event, inside);
    let before = inside.bits();
    let seq = inside.next_event();
    let released = inside.retire();
    // SAFETY: locked above.
    unsafe { table::unlock(flow) };
    table::delete_retired(family, &event.key);
    let high = event.flags & flow_flags::INITIATOR_HIGH != 0;
    gauge::release(released, &event.key, family, high, event.rule);
    rules::ended(&event);
    event::describe(&mut event, EventKind::Ended, cause as u8, seq);
    event::states(&mut event, before, CLOSED);
    event::send(&event, opening(before));
    Some(Fate::Removed)
}
