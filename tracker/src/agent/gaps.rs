//! Notices events that never came.

use std::collections::HashMap;

use tracker_common::abi::{Event, EventKind, FlowId};

/// Flows that are watched at most. Whoever misses the end of a flow would keep
/// it for ever, so at this number all are forgotten and begin anew.
const MOST: usize = 1 << 20;

/// Follows each flow's event numbers.
#[derive(Default)]
pub struct Gaps {
    last: HashMap<u64, u8>,
    missed: u64,
}

impl Gaps {
    /// Takes note of `event` and returns how many of its flow's events are
    /// missing before it. Events of one flow that two processors wrote at once
    /// may come in the other order: the later one counts a gap and the earlier
    /// one takes it back.
    pub fn note(&mut self, event: &Event) -> u8 {
        let FlowId(flow) = event.flow;
        let missing = match self.last.get(&flow) {
            Some(&last) => event.seq.wrapping_sub(last).wrapping_sub(1),
            // The first that is seen of a flow: what was before an agent's
            // start is not missed.
            None => 0,
        };
        // Behind the last one, rather than two hundred in front of it.
        let late = missing > u8::MAX / 2;
        if event.kind == EventKind::Ended as u8 {
            self.last.remove(&flow);
        } else if !late {
            if self.last.len() >= MOST {
                self.last.clear();
            }
            self.last.insert(flow, event.seq);
        }
        if late {
            self.missed = self.missed.saturating_sub(1);
            return 0;
        }
        self.missed += u64::from(missing);
        missing
    }

    /// Events that are missing so far.
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(flow: u64, kind: EventKind, seq: u8) -> Event {
        Event {
            flow: FlowId(flow),
            kind: kind as u8,
            seq,
            ..Event::default()
        }
    }

    #[test]
    fn numbers_that_follow_leave_no_gap_even_round_the_corner() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.note(&event(1, EventKind::Opened, 254)), 0);
        for seq in [255, 0, 1] {
            assert_eq!(gaps.note(&event(1, EventKind::Changed, seq)), 0);
        }
        assert_eq!(gaps.missed(), 0);
    }

    #[test]
    fn a_jump_is_a_gap_of_that_flow_alone() {
        let mut gaps = Gaps::default();
        gaps.note(&event(1, EventKind::Opened, 1));
        gaps.note(&event(2, EventKind::Opened, 1));
        assert_eq!(gaps.note(&event(1, EventKind::Changed, 5)), 3);
        assert_eq!(gaps.note(&event(2, EventKind::Changed, 2)), 0);
        assert_eq!(gaps.missed(), 3);
    }

    #[test]
    fn a_late_event_takes_its_gap_back() {
        let mut gaps = Gaps::default();
        gaps.note(&event(1, EventKind::Opened, 1));
        assert_eq!(gaps.note(&event(1, EventKind::Changed, 3)), 1);
        assert_eq!(gaps.note(&event(1, EventKind::Changed, 2)), 0);
        assert_eq!(gaps.missed(), 0);
        assert_eq!(gaps.note(&event(1, EventKind::Changed, 4)), 0);
    }

    #[test]
    fn a_flow_met_in_mid_life_misses_nothing_and_an_ended_one_is_forgotten() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.note(&event(7, EventKind::Changed, 90)), 0);
        gaps.note(&event(7, EventKind::Ended, 91));
        assert!(gaps.last.is_empty());
    }
}
