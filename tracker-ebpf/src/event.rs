//! Reports to userspace.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use tracker_common::{
    abi::{Event, EventKind, Flow, INITIATOR, LOST_EMBRYO, LOST_EVENTS, RESPONDER},
    tcp::Bits,
};

use crate::maps::{EMBRYO_EVENTS, EVENTS, LOST};

/// Copies what an event says of its flow. Called under the lock: after it the
/// memory may be another flow's.
#[inline(always)]
pub fn copy_totals(event: &mut Event, flow: &Flow) {
    let [initiator, responder] = &flow.ends;
    event.flow = flow.id();
    event.flags = flow.flags;
    event.rule = flow.rule;
    event.handshake_rtt = flow.handshake_rtt.0;
    event.packets = [initiator.packets(), responder.packets()];
    event.bytes = [initiator.bytes, responder.bytes];
}

/// Fills in what happened. `reason` is a reason, or for an end its cause.
#[inline(always)]
pub fn describe(event: &mut Event, kind: EventKind, reason: u8, seq: u8) {
    event.kind = kind as u8;
    event.reason = reason;
    event.seq = seq;
}

/// Fills in the states.
#[inline(always)]
pub fn states(event: &mut Event, before: [Bits; 2], after: [Bits; 2]) {
    event.before = [before[INITIATOR].number(), before[RESPONDER].number()];
    event.after = [after[INITIATOR].number(), after[RESPONDER].number()];
}

/// Wakes the agent: half-open flows have become many. `event` is working memory.
#[inline(never)]
pub fn pressure(event: &mut Event, time_ns: u64) {
    *event = Event {
        time_ns,
        kind: EventKind::Pressure as u8,
        ..Event::default()
    };
    send(event, false);
}

/// Sends an event; a full ring loses it, counted.
///
/// `embryo` is that of a connection that has not completed its handshake. It
/// goes to the other ring, which userspace polls, so that a flood wakes nobody.
#[inline(never)]
pub fn send(event: &Event, embryo: bool) {
    let lost = if embryo {
        if EMBRYO_EVENTS.output(event, BPF_RB_NO_WAKEUP.into()).is_ok() {
            return;
        }
        LOST_EMBRYO
    } else {
        if EVENTS.output(event, 0).is_ok() {
            return;
        }
        LOST_EVENTS
    };
    if let Some(count) = LOST.get_ptr_mut(lost) {
        // SAFETY: this CPU's element; a hook that interrupts the other may lose
        // a count of a lost report, never memory.
        unsafe { *count += 1 };
    }
}
