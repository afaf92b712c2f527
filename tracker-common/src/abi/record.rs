//! What is remembered beside a flow, by its [`super::FlowId`], in tables that
//! forget the least recently used: nothing that is decided depends on them but
//! how a connection that began anew is followed.

use crate::{
    reason::Reason,
    seq::Seq,
    tcp::{Bits, Flags, Options, Segment},
    time::{Micros, Tick},
};

/// Steps that a [`History`] holds.
pub const STEPS: usize = 8;

/// A pair of states that a flow came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Step {
    /// When.
    pub time: Tick,
    /// [`Reason`] of the segment that moved it.
    pub reason: u8,
    /// State of the initiator in the low half, of the responder in the high.
    pub states: u8,
    /// Number of the event that told of it.
    pub seq: u8,
    /// 1 when this step holds something.
    pub used: u8,
}

impl Step {
    /// A step to `states`.
    #[inline(always)]
    #[must_use]
    pub const fn new(time: Tick, reason: u8, states: [Bits; 2], seq: u8) -> Self {
        Self {
            time,
            reason,
            states: states[0].number() | states[1].number() << 4,
            seq,
            used: 1,
        }
    }

    /// States of initiator and responder.
    #[must_use]
    pub const fn pair(self) -> [Bits; 2] {
        [Bits::of(self.states), Bits::of(self.states >> 4)]
    }
}

/// The last steps of a flow, in the table `HISTORY`.
///
/// The step of the event number `n` lies at `n % 8`, so two CPUs that report
/// steps of one flow never write the same place at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct History {
    /// See the type.
    pub steps: [Step; STEPS],
}

impl History {
    /// The place of the step of event `seq`.
    #[inline(always)]
    #[must_use]
    pub const fn place(seq: u8) -> usize {
        seq as usize % STEPS
    }

    /// The steps, oldest first. `newest` is the flow's newest event
    /// ([`super::Flow::event_seq`]); what lies further back than the table
    /// remembers is left over from before and left out.
    pub fn in_order(&self, newest: u8) -> impl Iterator<Item = Step> {
        (0..STEPS as u8).rev().filter_map(move |back| {
            let seq = newest.wrapping_sub(back);
            let step = self.steps[Self::place(seq)];
            (step.used != 0 && step.seq == seq).then_some(step)
        })
    }
}

const _: () = assert!(size_of::<History>() == 8 * STEPS);

/// The last segment of a flow that was refused, in the table `REFUSALS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Refusal {
    /// When.
    pub time: Tick,
    /// [`Reason`], as a number.
    pub reason: u8,
    /// Who seemed to send it: 0 the initiator, 1 the responder.
    pub sender: u8,
    /// Its [`Flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Its sequence number.
    pub seq: Seq,
    /// Its acknowledgement number.
    pub ack: Seq,
    /// Octets of sequence space that it covers.
    pub length: u32,
    /// What the check looked at, and between which two it should have been.
    pub bound: Bound,
}

const _: () = assert!(size_of::<Refusal>() == 32);

/// An inequality that did not hold: `low <= value <= high` on the circle of
/// sequence numbers (or of timestamps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bound {
    /// What was looked at; the reason says what it is.
    pub value: u32,
    /// The least that would have passed.
    pub low: u32,
    /// The most that would have passed.
    pub high: u32,
}

/// A SYN or SYN-ACK that passed on a flow and moved nothing, because the flow
/// lives by the numbers of another, in the table `PENDING_SYNS`. If a SYN is
/// answered by a SYN-ACK, both ends have begun anew; if a SYN-ACK is
/// acknowledged, it was the one that counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PendingSyn {
    /// Sequence number.
    pub seq: Seq,
    /// Octets of data.
    pub payload: u32,
    /// TSval.
    pub ts_value: u32,
    /// When it passed.
    pub time: Micros,
    /// Window.
    pub window: u16,
    /// Maximum segment size.
    pub mss: u16,
    /// See [`Options::present`].
    pub present: u8,
    /// Window scale.
    pub scale: u8,
    /// Index of its sender in [`super::Flow::ends`].
    pub sender: u8,
    /// 0: there is none; 1: a SYN; 2: a SYN-ACK.
    pub known: u8,
}

const _: () = assert!(size_of::<PendingSyn>() == 24);

impl PendingSyn {
    /// What is kept of `segment`, sent by `ends[sender]`.
    #[inline(always)]
    #[must_use]
    pub const fn of(segment: &Segment, sender: u8, time: Micros) -> Self {
        Self {
            seq: segment.seq,
            payload: segment.payload,
            ts_value: segment.options.ts_value,
            time,
            window: segment.window,
            mss: segment.options.mss,
            present: segment.options.present,
            scale: segment.options.scale,
            sender,
            known: 1 + segment.flags.has(Flags::ACK) as u8,
        }
    }

    /// The segment, as far as it was kept.
    #[inline(always)]
    #[must_use]
    pub const fn segment(&self) -> Segment {
        Segment {
            seq: self.seq,
            ack: Seq(0),
            payload: self.payload,
            window: self.window,
            flags: Flags(Flags::SYN),
            fragmented: 0,
            options: Options {
                present: self.present,
                scale: self.scale,
                mss: self.mss,
                ts_value: self.ts_value,
                ts_echo: 0,
                sack_high: Seq(0),
            },
        }
    }

    /// Whether a segment of `ends[sender]` with the acknowledgement `ack`
    /// answers this SYN: it acknowledges the SYN, and maybe its data.
    #[inline(always)]
    #[must_use]
    pub const fn answered_by(&self, sender: usize, ack: Seq) -> bool {
        self.known == 1 && self.is_acknowledged(sender, ack)
    }

    /// Whether a segment of `ends[sender]` with the acknowledgement `ack` takes
    /// this SYN-ACK.
    #[inline(always)]
    #[must_use]
    pub const fn taken_by(&self, sender: usize, ack: Seq) -> bool {
        self.known == 2 && self.is_acknowledged(sender, ack)
    }

    /// Whether this is a SYN without ACK of `ends[sender]`.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn_of(&self, sender: usize) -> bool {
        self.known == 1 && self.sender as usize == sender
    }

    /// Whether this is a SYN-ACK of `ends[sender]`.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn_ack_of(&self, sender: usize) -> bool {
        self.known == 2 && self.sender as usize == sender
    }

    #[inline(always)]
    const fn is_acknowledged(&self, sender: usize, ack: Seq) -> bool {
        let beyond_syn = ack.since(self.seq).wrapping_sub(1);
        self.sender as usize != sender && beyond_syn <= self.payload
    }
}

/// The number of [`Reason`] that stands for "not known" in a [`Step`].
pub const NO_REASON: u8 = Reason::NotIp as u8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::State;

    #[test]
    fn a_history_is_read_in_order_across_the_wrap_of_its_numbers() {
        let mut history = History::default();
        let states = [Bits::of(State::Established as u8); 2];
        for seq in (250..=255).chain(0..=5) {
            history.steps[History::place(seq)] =
                Step::new(Tick(u32::from(seq)), NO_REASON, states, seq);
        }
        let seqs: Vec<u8> = history.in_order(5).map(|step| step.seq).collect();
        assert_eq!(seqs, [254, 255, 0, 1, 2, 3, 4, 5]);
        assert_eq!(history.steps[0].pair(), states);
    }

    #[test]
    fn a_step_that_was_lost_is_left_out() {
        let mut history = History::default();
        let states = [Bits::of(0); 2];
        for seq in [1, 3] {
            history.steps[History::place(seq)] = Step::new(Tick(0), NO_REASON, states, seq);
        }
        let seqs: Vec<u8> = history.in_order(3).map(|step| step.seq).collect();
        assert_eq!(seqs, [1, 3]);
    }

    #[test]
    fn only_the_other_end_answers_a_syn() {
        let pending = PendingSyn {
            seq: Seq(u32::MAX),
            payload: 10,
            sender: 1,
            known: 1,
            ..PendingSyn::default()
        };
        for (ack, sender, answers) in [
            (0, 0, true),
            (10, 0, true),
            (11, 0, false),
            (u32::MAX, 0, false),
            (0, 1, false),
        ] {
            assert_eq!(pending.answered_by(sender, Seq(ack)), answers, "{ack}");
        }
    }
}
