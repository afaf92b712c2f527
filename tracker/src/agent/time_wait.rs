//! Which flows in TIME_WAIT are too many.
//!
//! The oldest go first. There may be as many as the tables hold, so they are not
//! collected: the sweep counts them by age, and where they are too many a second
//! walk takes those beyond the age that leaves as many as are allowed. The memory
//! that takes does not depend on the tables.

use tracker_common::{abi::Flow, tcp::timeout, time::Tick};

/// Ages that are told apart. With the usual 2MSL each is a single tick.
const AGES: u32 = 1 << 15;

/// Flows in TIME_WAIT by age.
pub struct Ages {
    now: Tick,
    /// Ticks that count as one age.
    grain: u32,
    flows: Vec<u32>,
    total: u64,
}

impl Ages {
    /// Counts from `now` back. `longest` is how long they may get, in ticks;
    /// what is older counts as that old.
    pub fn new(now: Tick, longest: u32) -> Self {
        Self {
            now,
            grain: (longest / AGES).saturating_add(1),
            flows: vec![0; AGES as usize],
            total: 0,
        }
    }

    /// Counts `flow` if it is in TIME_WAIT.
    pub fn note(&mut self, flow: &Flow) {
        if !timeout::waits_2msl(flow.bits()) {
            return;
        }
        let age = age(flow, self.now, self.grain);
        if let Some(flows) = self.flows.get_mut(age) {
            *flows += 1;
            self.total += 1;
        }
    }

    /// Which ones must go so that `limit` are left; `None` where all may stay.
    pub fn beyond(&self, limit: u32) -> Option<Excess> {
        let mut left = self.total.checked_sub(limit.into())?;
        if left == 0 {
            return None;
        }
        let mut excess = Excess {
            now: self.now,
            grain: self.grain,
            age: 0,
            of_that_age: 0,
        };
        for (age, &flows) in self.flows.iter().enumerate().rev() {
            excess.age = age;
            excess.of_that_age = left;
            left = match left.checked_sub(flows.into()) {
                Some(left) if left > 0 => left,
                _ => break,
            };
        }
        Some(excess)
    }
}

/// The oldest flows in TIME_WAIT, as many as are too many.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    now: Tick,
    grain: u32,
    /// All that are older go.
    age: usize,
    /// As many of just this age.
    of_that_age: u64,
}

impl Excess {
    /// Whether `flow` is one of them.
    pub fn takes(&mut self, flow: &Flow) -> bool {
        // One that closed after the count reads as of no age.
        if !timeout::waits_2msl(flow.bits()) {
            return false;
        }
        let age = age(flow, self.now, self.grain);
        if age != self.age || self.of_that_age == 0 {
            return age > self.age;
        }
        self.of_that_age -= 1;
        true
    }
}

/// Number of the age that a flow has been silent for.
fn age(flow: &Flow, now: Tick, grain: u32) -> usize {
    (now.since(flow.last) / grain).min(AGES - 1) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracker_common::tcp::State;

    use super::*;

    const NOW: Tick = Tick(1_000_000);

    fn flow(age: u32, state: State) -> Flow {
        let mut flow = Flow {
            last: Tick(NOW.0 - age),
            ..Flow::default()
        };
        flow.ends[0].set_state(state);
        flow.ends[1].set_state(State::Closed);
        flow
    }

    fn taken(flows: &[Flow], limit: u32, longest: u32) -> Vec<u32> {
        let mut ages = Ages::new(NOW, longest);
        flows.iter().for_each(|flow| ages.note(flow));
        let Some(mut excess) = ages.beyond(limit) else {
            return Vec::new();
        };
        let taken = flows.iter().filter(|flow| excess.takes(flow));
        taken.map(|flow| NOW.since(flow.last)).collect()
    }

    #[test]
    fn the_oldest_go_and_others_are_not_counted() {
        let mut flows: Vec<Flow> = [5, 1, 4, 2, 3]
            .map(|age| flow(age, State::TimeWait))
            .to_vec();
        flows.push(flow(100, State::Established));
        assert_eq!(taken(&flows, 3, 100), [5, 4]);
        assert_eq!(taken(&flows, 5, 100), [0_u32; 0]);
        assert_eq!(taken(&flows, 0, 100).len(), 5);
    }

    #[test]
    fn what_closed_after_the_count_stays() {
        let mut ages = Ages::new(NOW, 100);
        ages.note(&flow(7, State::TimeWait));
        ages.note(&flow(8, State::TimeWait));
        let mut excess = ages.beyond(1).unwrap();
        let mut late = flow(0, State::TimeWait);
        late.last = Tick(NOW.0 + 50);
        assert!(!excess.takes(&late));
        assert!(excess.takes(&flow(8, State::TimeWait)));
    }

    proptest! {
        /// As if they had been sorted, up to the grain of the ages.
        #[test]
        fn as_many_as_are_too_many(
            ages in prop::collection::vec(0_u32..200_000, 0..200),
            limit in 0_u32..200,
            longest in prop::sample::select(vec![100, 28_610, 1_000_000]),
        ) {
            let flows: Vec<Flow> = ages.iter().map(|&age| flow(age, State::TimeWait)).collect();
            let taken = taken(&flows, limit, longest);
            prop_assert_eq!(taken.len(), ages.len().saturating_sub(limit as usize));
            let grain = longest / AGES + 1;
            let mut sorted: Vec<u32> = ages.iter().map(|age| (age / grain).min(AGES - 1)).collect();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(taken.len());
            let mut taken: Vec<u32> = taken.iter().map(|age| (age / grain).min(AGES - 1)).collect();
            taken.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(taken, sorted);
        }
    }
}
