//! Which flows make room in a table that is full.
//!
//! The order is the brain's ([`timeout::rank`]): half-open ones, those that are
//! over, those that nobody answers; of each the ones that were silent for longest
//! first. As with flows in TIME_WAIT (`time_wait`) they are counted by age, and a
//! second walk takes those beyond the age that leaves enough room.

use tracker_common::{abi::Flow, tcp::timeout, time::Tick};

/// Where room is made, and how much is left then, in percent of the capacity.
const FROM: u64 = 95;
const DOWN_TO: u64 = 90;

/// Ranks that make room: 1 to this.
const RANKS: usize = 3;
/// Ages that are told apart: each power of two of ticks in sixteen parts.
const AGES: usize = 28 * STEPS + 2 * STEPS;
const STEPS: usize = 16;

/// Flows that must go from a table with `flows` of `capacity`. With `refused`, a
/// flow found no place there lately.
pub fn needed(flows: u64, capacity: u32, refused: bool) -> u64 {
    let percent = |percent: u64| u64::from(capacity).saturating_mul(percent) / 100;
    if refused || flows > percent(FROM) {
        flows.saturating_sub(percent(DOWN_TO))
    } else {
        0
    }
}

/// Flows by rank and age.
pub struct Room {
    now: Tick,
    flows: [Vec<u32>; RANKS],
}

impl Room {
    /// Counts from `now` back.
    pub fn new(now: Tick) -> Self {
        Self {
            now,
            flows: [(); RANKS].map(|()| vec![0; AGES]),
        }
    }

    /// Counts `flow` if it may make room.
    pub fn note(&mut self, flow: &Flow) {
        if let Some((rank, age)) = place(flow, self.now)
            && let Some(flows) = self.flows.get_mut(rank).and_then(|ages| ages.get_mut(age))
        {
            *flows += 1;
        }
    }

    /// Which ones must go to make room for `needed`, or all that may.
    pub fn choose(&self, needed: u64) -> Choice {
        let mut choice = Choice {
            now: self.now,
            rank: 0,
            age: AGES,
            of_that_age: 0,
        };
        let mut left = needed;
        for (rank, ages) in self.flows.iter().enumerate() {
            for (age, &flows) in ages.iter().enumerate().rev() {
                (choice.rank, choice.age, choice.of_that_age) = (rank, age, left);
                match left.checked_sub(flows.into()) {
                    Some(rest) if rest > 0 => left = rest,
                    _ => return choice,
                }
            }
        }
        choice
    }
}

/// The flows that make room.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    now: Tick,
    /// All of lower ranks go.
    rank: usize,
    /// All of this rank that are older go.
    age: usize,
    /// As many of just this age.
    of_that_age: u64,
}

impl Choice {
    /// Whether `flow` is one of them.
    pub fn takes(&mut self, flow: &Flow) -> bool {
        let Some((rank, age)) = place(flow, self.now) else {
            return false;
        };
        if (rank, age) != (self.rank, self.age) {
            return rank < self.rank || (rank == self.rank && age > self.age);
        }
        if self.of_that_age == 0 {
            return false;
        }
        self.of_that_age -= 1;
        true
    }
}

/// Index of a flow's rank, and number of its age; `None` for one that never makes
/// room.
fn place(flow: &Flow, now: Tick) -> Option<(usize, usize)> {
    let rank = timeout::rank(&timeout::settled(flow, now))?;
    let rank = usize::from(rank).checked_sub(1)?;
    (rank < RANKS).then(|| (rank, age(now.since(flow.last))))
}

/// Number of an age: finer than a sixteenth of it.
const fn age(ticks: u32) -> usize {
    let ticks = ticks as usize;
    if ticks < STEPS {
        return ticks;
    }
    // At least 4, for sixteen ticks.
    let power = ticks.ilog2() as usize;
    let step = (ticks >> (power - 4)) & (STEPS - 1);
    let age = (power - 3) * STEPS + step;
    if age < AGES { age } else { AGES - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracker_common::{abi::end_flags, tcp::State};

    use super::*;

    const NOW: Tick = Tick(1 << 30);

    fn flow(silent: u32, states: [State; 2], seen: [bool; 2]) -> Flow {
        let mut flow = Flow {
            last: Tick(NOW.0 - silent),
            ..Flow::default()
        };
        for ((end, state), seen) in flow.ends.iter_mut().zip(states).zip(seen) {
            end.set_state(state);
            if seen {
                end.flags |= end_flags::SEEN;
            }
        }
        flow
    }

    fn half_open(silent: u32) -> Flow {
        flow(silent, [State::SynSent, State::SynReceived], [true; 2])
    }

    fn over(silent: u32) -> Flow {
        flow(silent, [State::TimeWait, State::Closed], [true; 2])
    }

    fn unanswered(silent: u32) -> Flow {
        flow(silent, [State::Established; 2], [true, false])
    }

    fn established(silent: u32) -> Flow {
        flow(silent, [State::Established; 2], [true; 2])
    }

    fn taken(flows: &[Flow], needed: u64) -> Vec<usize> {
        let mut room = Room::new(NOW);
        flows.iter().for_each(|flow| room.note(flow));
        let mut choice = room.choose(needed);
        (0..flows.len())
            .filter(|&index| choice.takes(&flows[index]))
            .collect()
    }

    #[test]
    fn they_go_in_their_order_and_open_ones_never() {
        let flows = [
            established(900_000),
            unanswered(500_000),
            unanswered(10),
            over(5),
            over(20_000),
            half_open(100),
            half_open(3),
            established(1),
        ];
        for (needed, expected) in [
            (0, vec![]),
            (1, vec![5]),
            (2, vec![5, 6]),
            (3, vec![4, 5, 6]),
            (4, vec![3, 4, 5, 6]),
            (5, vec![1, 3, 4, 5, 6]),
            (6, vec![1, 2, 3, 4, 5, 6]),
            (100, vec![1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(taken(&flows, needed), expected, "{needed}");
        }
    }

    #[test]
    fn room_is_made_near_the_end_and_where_a_flow_found_none() {
        assert_eq!(needed(950, 1000, false), 0);
        assert_eq!(needed(951, 1000, false), 51);
        assert_eq!(needed(930, 1000, true), 30);
        assert_eq!(needed(800, 1000, true), 0);
        assert_eq!(needed(u64::MAX, u32::MAX, false) >> 63, 1);
    }

    proptest! {
        #[test]
        fn ages_are_numbered_in_order(a in any::<u32>(), b in any::<u32>()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(age(low) <= age(high));
            prop_assert!(age(high) < AGES);
        }

        #[test]
        fn as_many_as_are_needed(
            silent in prop::collection::vec((0_u32..1 << 29, 0_u8..4), 0..200),
            needed in 0_u64..250,
        ) {
            let flows: Vec<Flow> = silent
                .iter()
                .map(|&(silent, kind)| match kind {
                    0 => half_open(silent),
                    1 => over(silent),
                    2 => unanswered(silent),
                    _ => established(silent),
                })
                .collect();
            let may = silent.iter().filter(|&&(_, kind)| kind < 3).count() as u64;
            prop_assert_eq!(taken(&flows, needed).len() as u64, needed.min(may));
        }
    }
}
