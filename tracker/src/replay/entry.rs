//! A flow of the table, and what is remembered beside it, as in the side tables of
//! the programs (tracker-ebpf/src/memory.rs).

use tracker_common::{
    abi::{Flow, History, NO_REASON, PendingSyn, Refusal, Step},
    parse::Packet,
    reason::Class,
    tcp::{Context, Flags, Outcome, wants_pending},
    time::Tick,
};

/// A flow, and what is remembered beside it.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The flow.
    pub flow: Flow,
    /// Its last steps, once it is past its handshake.
    pub history: Option<Box<History>>,
    /// The last segment of it that was refused.
    pub refusal: Option<Box<Refusal>>,
    /// The last SYN or SYN-ACK that passed on it and moved nothing.
    pub pending: Option<Box<PendingSyn>>,
}

impl Entry {
    /// Keeps beside a flow what the brain's answer says is worth it.
    pub(super) fn remember(&mut self, packet: &Packet, context: &Context, outcome: &Outcome) {
        let segment = &packet.segment;
        if outcome.event != 0 {
            if outcome.embryo == 0 {
                self.step(outcome, context.now);
            }
            return;
        }
        if outcome.remember != 0 {
            let pending = PendingSyn::of(segment, outcome.sender, context.micros);
            self.pending = Some(Box::new(pending));
        }
        if outcome.reason.class() == Class::Refuse {
            self.refusal = Some(Box::new(Refusal {
                time: context.now,
                reason: outcome.reason as u8,
                sender: outcome.sender,
                flags: segment.flags.0,
                reserved: 0,
                seq: segment.seq,
                ack: segment.ack,
                length: segment.length(),
                bound: outcome.bound,
            }));
        }
    }

    /// Keeps a step of a flow that is past its handshake.
    fn step(&mut self, outcome: &Outcome, now: Tick) {
        let history = self.history.get_or_insert_with(|| {
            // The step before this one began when the flow was last heard of.
            let before = outcome.seq.wrapping_sub(1);
            let mut history = Box::<History>::default();
            put(
                &mut history,
                Step::new(outcome.previous, NO_REASON, outcome.before, before),
            );
            history
        });
        let reason = outcome.reason as u8;
        put(history, Step::new(now, reason, outcome.after, outcome.seq));
    }

    /// The SYN or SYN-ACK that a segment may answer.
    pub(super) fn recall(&self, flags: Flags) -> PendingSyn {
        match &self.pending {
            Some(pending) if wants_pending(self.flow.flags, flags) => **pending,
            Some(_) | None => PendingSyn::default(),
        }
    }
}

fn put(history: &mut History, step: Step) {
    if let Some(place) = history.steps.get_mut(History::place(step.seq)) {
        *place = step;
    }
}
