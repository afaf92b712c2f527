//! Counters that have drifted from what they count.
//!
//! Packets count with atomic additions, but an agent or a packet may be cut short
//! between a flow and its counter, and a configuration may change between the
//! two. Each sweep reads all flows anyway, so it counts them again. While packets
//! move, the two never agree to the last flow: only what cannot be explained by the
//! flows that were opened during the sweep is drift, and it is set right when two
//! sweeps in a row agree on it. A reload that changes the prefixes by which sources
//! are counted is followed by a sweep at once, which counts them anew.

use std::collections::HashMap;

use anyhow::Result;
use tracker_common::{
    abi::{Family, Flow, Gauge, Hook, Key, Live, Place, flow_flags, held},
    reason::Reason,
};

use crate::datapath::{Corrections, Pinned};

/// Gauges that flows hold places in.
const GAUGES: [Gauge; 3] = [Gauge::HalfOpen, Gauge::Calling, Gauge::Pickup];

/// Reasons of packets that open flows.
const OPENING: [Reason; 4] = [
    Reason::FlowOpened,
    Reason::FlowReopened,
    Reason::FlowPickedUp,
    Reason::FlowRestarted,
];

/// The counters as they stand at one moment.
struct Reading {
    gauges: [u64; GAUGES.len()],
    /// Flows opened since the maps were made.
    opened: u64,
    shares: HashMap<Place, u64>,
}

impl Reading {
    fn take(pinned: &Pinned) -> Result<Self> {
        let all = pinned.gauges()?;
        let mut opened = 0_u64;
        for reason in OPENING {
            for hook in [Hook::Ingress, Hook::Egress] {
                opened = opened.wrapping_add(pinned.reason(reason, hook)?.packets);
            }
        }
        Ok(Self {
            gauges: GAUGES.map(|gauge| all[gauge as usize]),
            opened,
            shares: pinned.shares()?.into_iter().collect(),
        })
    }
}

/// What a sweep counts.
pub struct Census {
    before: Reading,
    source_bits: [u8; 2],
    gauges: [u64; GAUGES.len()],
    shares: HashMap<Place, u64>,
}

impl Census {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// The counters cannot be read.
    pub fn begin(pinned: &Pinned, live: &Live) -> Result<Self> {
        Ok(Self {
            before: Reading::take(pinned)?,
            source_bits: live.source_bits,
            gauges: [0; GAUGES.len()],
            shares: HashMap::new(),
        })
    }

    /// Counts `flow`.
    pub fn note(&mut self, family: Family, key: &Key, flow: &Flow) {
        let [half_open, calling, pickup] = &mut self.gauges;
        if flow.has(held::PICKUP) {
            *pickup += 1;
        } else if flow.has(held::COUNTED) {
            *half_open += 1;
        } else if flow.has(held::HALF_OPEN) {
            *calling += 1;
        }
        if flow.has(held::SHARED) {
            let high = flow.has(flow_flags::INITIATOR_HIGH);
            let (listener, source) = Place::of_flow(key, family, high, self.source_bits);
            for place in [listener, source] {
                *self.shares.entry(place).or_default() += 1;
            }
        }
    }
}

/// Remembers what the sweep before this one could not explain.
#[derive(Debug, Default)]
pub struct Recount {
    gauges: [i64; GAUGES.len()],
    shares: HashMap<Place, Share>,
    /// The prefixes that sources were counted by; `None` before the first sweep.
    source_bits: Option<[u8; 2]>,
}

/// The count of a place, and how many flows hold a share of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    count: Option<u64>,
    held: u64,
}

impl Recount {
    /// Ends `census`, and sets right what this one and the one before agree on.
    ///
    /// # Errors
    ///
    /// The counters cannot be read or written.
    pub fn settle(&mut self, pinned: &Pinned, census: Census) -> Result<Corrections> {
        let after = Reading::take(pinned)?;
        let drifts = drifts(&census, &after);
        let mut corrections = Corrections::default();
        for ((gauge, drift), last) in GAUGES.into_iter().zip(drifts).zip(&mut self.gauges) {
            let sure = agreed(*last, drift);
            // What was set right is no longer there to be agreed on.
            *last = drift - sure;
            if sure != 0 {
                pinned.correct_gauge(gauge, sure)?;
                corrections.gauges = corrections.gauges.saturating_add(sure.unsigned_abs());
            }
        }
        let anew = self
            .source_bits
            .replace(census.source_bits)
            .is_some_and(|bits| bits != census.source_bits);
        let doubtful = doubtful(census, &after);
        for (place, share) in &doubtful {
            // What was counted by other prefixes is no drift, and right at once.
            if !anew && self.shares.get(place) != Some(share) {
                continue;
            }
            match share.held {
                0 => pinned.clear_share(place)?,
                held => pinned.set_share(place, held)?,
            }
            if !anew {
                let off = share.count.unwrap_or(0).abs_diff(share.held);
                corrections.shares = corrections.shares.saturating_add(off);
            }
        }
        self.shares = if anew { HashMap::new() } else { doubtful };
        Ok(corrections)
    }
}

/// By how many flows each gauge is off for sure: above 0 where it is too low.
///
/// A flow that holds its place all the time is counted once. One that was opened
/// meanwhile may be counted or not, and may have gone again. So at the end a gauge
/// is at most what was counted and what was opened, and at the beginning it was at
/// least what was counted less what was opened.
fn drifts(census: &Census, after: &Reading) -> [i64; GAUGES.len()] {
    let opened = after.opened.wrapping_sub(census.before.opened);
    // Packets that were in the middle of it when a counter was read.
    let opened = match opened {
        0 => 0,
        some => some.saturating_add(cpus()),
    };
    let mut drifts = [0; GAUGES.len()];
    for (index, drift) in drifts.iter_mut().enumerate() {
        let (counted, before, after) = (
            census.gauges[index],
            census.before.gauges[index],
            after.gauges[index],
        );
        // A gauge that was brought below 0 is a number above all counts.
        let signed = |gauge: u64| gauge.cast_signed();
        let high = signed(after) - signed(counted.saturating_add(opened));
        let low = signed(counted.saturating_sub(opened)) - signed(before);
        *drift = if signed(after) < 0 {
            signed(counted) - signed(after)
        } else if high > 0 {
            -high
        } else {
            low.max(0)
        };
    }
    drifts
}

/// What two drifts have in common.
fn agreed(a: i64, b: i64) -> i64 {
    if a.signum() == b.signum() {
        a.signum() * a.abs().min(b.abs())
    } else {
        0
    }
}

/// The places whose count stood still and is not the number of flows that hold a
/// share, or is 0, where there should be none.
fn doubtful(census: Census, after: &Reading) -> HashMap<Place, Share> {
    let mut doubtful = HashMap::new();
    let mut held = census.shares;
    for (&place, &count) in &after.shares {
        let held = held.remove(&place).unwrap_or(0);
        if (held != count || count == 0) && census.before.shares.get(&place) == Some(&count) {
            let count = Some(count);
            doubtful.insert(place, Share { count, held });
        }
    }
    // What is left has no count at all.
    for (place, held) in held {
        if !census.before.shares.contains_key(&place) {
            doubtful.insert(place, Share { count: None, held });
        }
    }
    doubtful
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(half_open: u64, opened: u64, shares: &[(Place, u64)]) -> Reading {
        Reading {
            gauges: [half_open, 0, 0],
            opened,
            shares: shares.iter().copied().collect(),
        }
    }

    fn census(before: Reading, half_open: u64, shares: &[(Place, u64)]) -> Census {
        Census {
            before,
            source_bits: [32, 64],
            gauges: [half_open, 0, 0],
            shares: shares.iter().copied().collect(),
        }
    }

    fn drift(before: [u64; 2], counted: u64, after: [u64; 2]) -> i64 {
        let [gauge, opened] = before;
        let census = census(reading(gauge, opened, &[]), counted, &[]);
        let [gauge, opened] = after;
        drifts(&census, &reading(gauge, opened, &[]))[0]
    }

    #[test]
    fn at_rest_every_flow_counts() {
        assert_eq!(drift([7, 100], 7, [7, 100]), 0);
        assert_eq!(drift([9, 100], 7, [9, 100]), -2);
        assert_eq!(drift([5, 100], 7, [5, 100]), 2);
        // Below nothing.
        assert_eq!(drift([u64::MAX, 100], 0, [u64::MAX, 100]), 1);
        // Two of the counted ended during the sweep.
        assert_eq!(drift([9, 100], 9, [7, 100]), 0);
        assert_eq!(drift([9, 100], 7, [7, 100]), 0);
    }

    #[test]
    fn what_packets_may_have_done_meanwhile_is_no_drift() {
        let cpus = cpus();
        assert_eq!(drift([50, 0], 55, [60, 10]), 0);
        assert_eq!(drift([50, 0], 45, [50, 10]), 0);
        assert_eq!(drift([50, 0], 60, [50, 10]), 0);
        let lost = i64::try_from(1000 - 10 - cpus).unwrap();
        assert_eq!(drift([1000, 0], 0, [1000, 10]), -lost);
        assert_eq!(drift([0, 0], 1000, [0, 10]), lost);
    }

    #[test]
    fn only_what_two_sweeps_agree_on_is_sure() {
        assert_eq!(agreed(0, 5), 0);
        assert_eq!(agreed(5, -5), 0);
        assert_eq!(agreed(5, 3), 3);
        assert_eq!(agreed(-2, -7), -2);
    }

    #[test]
    fn a_share_is_doubtful_where_it_stands_still_and_is_wrong() {
        let place = |port| Place::listener(Family::V4, [1, 0, 0, 0], port, 0);
        let [right, wrong, moving, gone, lost, empty] = [1, 2, 3, 4, 5, 6].map(place);
        let counts = [(right, 2), (wrong, 3), (moving, 1), (gone, 4), (empty, 0)];
        let census = census(
            reading(0, 0, &counts),
            0,
            &[(right, 2), (wrong, 1), (lost, 6)],
        );
        let mut now = counts;
        now[2].1 = 2;
        let found = doubtful(census, &reading(0, 0, &now));
        let mut expected = HashMap::new();
        let share = |count, held| Share { count, held };
        expected.insert(wrong, share(Some(3), 1));
        expected.insert(gone, share(Some(4), 0));
        expected.insert(lost, share(None, 6));
        expected.insert(empty, share(Some(0), 0));
        assert_eq!(found, expected);
    }
}
