//! The side tables: what is remembered of a flow beside its entry. All of it is
//! written after the flow's lock is given back.

use aya_ebpf::bindings::BPF_ANY;
use tracker_common::{
    abi::{Event, Flow, FlowId, History, NO_REASON, PendingSyn, Refusal, Step},
    parse::Packet,
    tcp::{Context, Outcome, wants_pending},
};

use crate::maps::{HISTORY, PENDING_SYNS, REFUSALS};

/// Room to put a value together that goes into a table.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Drafts {
    history: History,
    refusal: Refusal,
    pending: PendingSyn,
}

/// Keeps a step of a flow that is past its handshake. Steps of a handshake are
/// not kept: a flood would push out everybody else's.
#[inline(never)]
pub fn step(event: &Event, outcome: &Outcome, context: &Context, drafts: &mut Drafts) {
    let step = Step::new(
        context.now,
        outcome.reason as u8,
        outcome.after,
        outcome.seq,
    );
    if let Some(history) = HISTORY.get_ptr_mut(event.flow) {
        // SAFETY: an entry of integers. Another CPU may write another step of
        // it, or this one be recycled: then the number tells.
        unsafe { (&mut (*history).steps)[History::place(outcome.seq)] = step };
        return;
    }
    // The step before this one began when the flow was last heard of.
    let before = outcome.seq.wrapping_sub(1);
    let previous = Step::new(outcome.previous, NO_REASON, outcome.before, before);
    drafts.history = History::default();
    drafts.history.steps[History::place(before)] = previous;
    drafts.history.steps[History::place(outcome.seq)] = step;
    // Without room the flow has no history, which its readers are told.
    let kept: &History = &drafts.history;
    let _ = HISTORY.insert(event.flow, kept, BPF_ANY.into());
}

/// Keeps what was refused and why.
#[inline(never)]
pub fn refusal(
    flow: &FlowId,
    packet: &Packet,
    outcome: &Outcome,
    context: &Context,
    drafts: &mut Drafts,
) {
    drafts.refusal = Refusal {
        time: context.now,
        reason: outcome.reason as u8,
        sender: outcome.sender,
        flags: packet.segment.flags.0,
        reserved: 0,
        seq: packet.segment.seq,
        ack: packet.segment.ack,
        length: packet.segment.length(),
        bound: outcome.bound,
    };
    let kept: &Refusal = &drafts.refusal;
    let _ = REFUSALS.insert(flow, kept, BPF_ANY.into());
}

/// Keeps a SYN that passed on a live flow.
#[inline(never)]
pub fn pending(
    flow: &FlowId,
    packet: &Packet,
    outcome: &Outcome,
    context: &Context,
    drafts: &mut Drafts,
) {
    drafts.pending = PendingSyn::of(&packet.segment, outcome.sender, context.micros);
    let kept: &PendingSyn = &drafts.pending;
    let _ = PENDING_SYNS.insert(flow, kept, BPF_ANY.into());
}

/// Looks for the SYN that a segment may answer, and tells the brain.
///
/// The flow is read without its lock. Should it be another one by the time that
/// it is locked, then the brain compares numbers that do not fit.
#[inline(always)]
pub fn recall(flow: *const Flow, packet: &Packet, context: &mut Context) {
    context.pending.known = 0;
    // SAFETY: a map value of integers, which any bits are.
    let (flags, id) = unsafe { ((*flow).flags, (*flow).id()) };
    if !wants_pending(flags, packet.segment.flags) {
        return;
    }
    // SAFETY: an entry of integers, copied at once.
    if let Some(pending) = unsafe { PENDING_SYNS.get(id) } {
        context.pending = *pending;
    }
}
