//! Samples of the flows that SYNs from elsewhere open.

use anyhow::Result;
use tracker_common::{
    abi::{Family, Flow, Gauge, INITIATOR, Key, Place, RingSlot, flow_flags},
    tcp::State,
};

use super::sources::Sample;
use crate::{datapath::Pinned, view::place};

/// Flows that are looked at in a second, at most.
const A_SECOND: u64 = 256;

/// A flow that was opened before the last look.
#[derive(Clone, Copy, Debug)]
struct Young {
    family: Family,
    key: Key,
    generation: u32,
    sample: Sample,
}

/// Takes samples, once a second: flows are found by the age ring, in which the
/// programs write down each that a SYN from elsewhere opens, and what has become of
/// them is judged a second later.
#[derive(Debug, Default)]
pub struct Sampler {
    /// Where the ring was when it was last looked at.
    head: Option<u64>,
    young: Vec<Young>,
}

impl Sampler {
    /// The flows that were found by the last call, as they are now; finds others.
    pub fn take(&mut self, pinned: &Pinned) -> Result<Vec<Sample>> {
        let mut samples = Vec::with_capacity(self.young.len());
        for young in self.young.drain(..) {
            let flow = pinned.flow(young.family, &young.key)?;
            let same = flow.filter(|flow| flow.generation == young.generation);
            samples.push(Sample {
                completed: same.is_some_and(|flow| is_completed(&flow)),
                ..young.sample
            });
        }
        let slots = u64::from(pinned.ring_slots()?);
        let head = pinned.gauges()?[Gauge::RingHead as usize];
        let before = self.head.replace(head).unwrap_or(head);
        for position in positions(before, head, slots) {
            // Below the number of slots, which is 32 bits wide.
            let slot = pinned.ring_slot((position % slots) as u32)?;
            self.young.extend(young(pinned, &slot)?);
        }
        Ok(samples)
    }

    /// The flows that the last call has found, judged at first sight.
    pub fn newest(&self) -> impl Iterator<Item = &Sample> {
        self.young.iter().map(|young| &young.sample)
    }
}

/// Positions of the ring from `before` up to `head`, evenly spread; those that have
/// been written over since are left out.
fn positions(before: u64, head: u64, slots: u64) -> impl Iterator<Item = u64> {
    let first = before.max(head.saturating_sub(slots));
    let step = head.saturating_sub(first).div_ceil(A_SECOND).max(1);
    (first..head).step_by(usize::try_from(step).unwrap_or(usize::MAX))
}

/// The flow in a slot, if it is still there.
fn young(pinned: &Pinned, slot: &RingSlot) -> Result<Option<Young>> {
    let family = u8::try_from(slot.family).ok().and_then(Family::from_raw);
    let Some(family) = family else {
        return Ok(None);
    };
    let flow = pinned.flow(family, &slot.key)?;
    Ok(flow
        .filter(|flow| flow.generation == slot.generation)
        .and_then(|flow| {
            let high = flow.flags & flow_flags::INITIATOR_HIGH != 0;
            let (listener, source) = Place::of_flow(&slot.key, family, high, [32, 128]);
            Some(Young {
                family,
                key: slot.key,
                generation: slot.generation,
                sample: Sample {
                    source: place::address(family, source.address),
                    listener: place::listener(&listener)?,
                    completed: is_completed(&flow),
                },
            })
        }))
}

/// Whether its handshake was completed, whatever came after.
fn is_completed(flow: &Flow) -> bool {
    match flow.states()[INITIATOR] {
        State::Closed => flow.handshake_rtt.unpack().is_some(),
        State::Listen | State::SynSent | State::SynReceived => false,
        State::Established
        | State::FinWait1
        | State::FinWait2
        | State::CloseWait
        | State::Closing
        | State::LastAck
        | State::TimeWait => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_spread_over_what_is_new() {
        let taken = |before, head, slots| positions(before, head, slots).collect::<Vec<_>>();
        assert!(taken(5, 5, 100).is_empty());
        assert_eq!(taken(5, 8, 100), [5, 6, 7]);
        assert_eq!(taken(0, 1000, 3), [997, 998, 999]);
        let many = taken(0, 1 << 20, 1 << 15);
        assert_eq!(many.len() as u64, A_SECOND);
        assert_eq!(many.first(), Some(&((1 << 20) - (1 << 15))));
        // A ring that was made anew.
        assert!(taken(1000, 3, 100).is_empty());
    }

    #[test]
    fn a_handshake_counts_even_if_the_connection_is_over() {
        let flow = |initiator, rtt| {
            let mut flow = Flow::default();
            flow.ends[INITIATOR].set_state(initiator);
            flow.handshake_rtt = rtt;
            flow
        };
        let (none, some) = (
            Flow::default().handshake_rtt,
            tracker_common::time::ShortMicros::pack(1500),
        );
        assert!(!is_completed(&flow(State::SynSent, none)));
        assert!(is_completed(&flow(State::Established, none)));
        assert!(is_completed(&flow(State::TimeWait, none)));
        assert!(!is_completed(&flow(State::Closed, none)));
        assert!(is_completed(&flow(State::Closed, some)));
    }
}
