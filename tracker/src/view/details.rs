//! What is remembered beside a flow: the states it went through, and the last
//! segment of it that was refused.

use std::cmp::Reverse;

use tracker_common::{
    abi::{Flow, History, NO_REASON, Origin, Refusal, Step},
    reason::Reason,
    tcp::{Bits, State},
    time::{Tick, ticks_from_ms},
};

use super::Row;

/// Number of the event with which a flow comes to be.
const OPENING: u8 = 1;
/// Number of the event of a SYN-ACK.
const ANSWER: u8 = 2;
/// Number of the event of the ACK that completes a handshake of which nothing was
/// repeated: the only kind whose duration is measured.
const COMPLETION: u8 = 3;

/// What is remembered beside one flow. Tables that forget the least recently
/// used hold it, so either may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details {
    /// Its last steps.
    pub history: Option<History>,
    /// The last segment that was refused.
    pub refusal: Option<Refusal>,
}

/// A pair of states that a flow was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Initiator and responder.
    pub states: [State; 2],
    /// How long ago it came to it, ms; `None` where that is not known.
    pub ago_ms: Option<u64>,
    /// How long it stayed, up to this moment in the last one, ms; `None` where
    /// that is not known.
    pub lasted_ms: Option<u64>,
    /// Reason of the segment that brought it there; `None` where that is not
    /// known.
    pub reason: Option<Reason>,
}

/// The pairs of states that the flow went through, oldest first; `None` stands
/// for one or more that are not known.
///
/// What the history does not hold is filled in from the flow itself: it knows
/// when it came to be, how long its handshake took, and where it is.
#[must_use]
pub fn timeline(row: &Row<'_>, details: &Details) -> Vec<Option<Stay>> {
    let flow = row.flow();
    let newest = flow.event_seq();
    let mut steps = steps_of(flow, details);
    // Numbers count from the newest back, so that they order across their wrap.
    steps.sort_by_key(|known| Reverse(newest.wrapping_sub(known.step.seq)));

    let mut line: Vec<Option<Stay>> = Vec::new();
    let mut next = OPENING;
    for Known { step, timed } in steps {
        let ago_ms = timed.then(|| row.since_ms(step.time));
        if step.seq != next {
            line.push(None);
        } else if let Some(Some(before)) = line.last_mut() {
            let between = before.ago_ms.zip(ago_ms);
            before.lasted_ms = between.map(|(from, to)| from.saturating_sub(to));
        }
        next = step.seq.wrapping_add(1);
        line.push(Some(Stay {
            states: step.pair().map(Bits::state),
            ago_ms,
            lasted_ms: None,
            reason: Reason::from_raw(step.reason).filter(|_| step.reason != NO_REASON),
        }));
    }
    if next.wrapping_sub(1) == newest
        && let Some(Some(last)) = line.last_mut()
    {
        last.lasted_ms = last.ago_ms;
    } else {
        line.push(None);
        line.push(Some(Stay {
            states: flow.states(),
            ago_ms: None,
            lasted_ms: None,
            reason: None,
        }));
    }
    line
}

/// A step, and whether its time is that of its segment.
struct Known {
    step: Step,
    timed: bool,
}

/// The steps of a flow that are known, in no order.
fn steps_of(flow: &Flow, details: &Details) -> Vec<Known> {
    let newest = flow.event_seq();
    let mut steps: Vec<Known> = Vec::new();
    if let Some(history) = &details.history {
        // Of the step before the first one that it keeps, a history only has the
        // time of the last segment before that; which for the answer to a SYN is
        // the same.
        steps.extend(history.in_order(newest).map(|step| Known {
            step,
            timed: step.reason != NO_REASON || step.seq == ANSWER,
        }));
    }
    let mut add = |seq: u8, time: Tick, states: Option<[State; 2]>| {
        if let Some(known) = steps.iter_mut().find(|known| known.step.seq == seq) {
            if !known.timed {
                known.step.time = time;
                known.timed = true;
            }
        } else if let Some([initiator, responder]) = states {
            steps.push(Known {
                step: Step {
                    time,
                    reason: NO_REASON,
                    states: initiator as u8 | (responder as u8) << 4,
                    seq,
                    used: 1,
                },
                timed: true,
            });
        }
    };
    let opening = match flow.origin() {
        _ if newest == OPENING => Some(flow.states()),
        Origin::Handshake => Some([State::SynSent, State::Listen]),
        Origin::Pickup | Origin::Cookie | Origin::Socket | Origin::Conntrack => None,
    };
    add(OPENING, flow.first, opening);
    if let Some(micros) = flow.handshake_rtt.unpack()
        && newest >= COMPLETION
    {
        let ticks = ticks_from_ms(u64::from(micros) / 1000);
        let time = Tick(flow.first.0.wrapping_add(ticks));
        add(COMPLETION, time, Some([State::Established; 2]));
    }
    steps
}

#[cfg(test)]
mod tests {
    use tracker_common::time::ShortMicros;

    use super::*;
    use crate::view::samples::{Sample, clock, now};

    const SYN_SENT: [State; 2] = [State::SynSent, State::Listen];
    const ANSWERED: [State; 2] = [State::SynSent, State::SynReceived];
    const OPEN: [State; 2] = [State::Established; 2];
    const CLOSING: [State; 2] = [State::FinWait1, State::CloseWait];

    fn flow(states: [State; 2], events: u8) -> Sample {
        let mut sample = Sample::new("192.0.2.1:1", "192.0.2.2:2", states);
        for _ in 0..events {
            sample.flow.next_event();
        }
        sample
    }

    /// `(number, seconds ago, states, reason)`
    fn history(steps: &[(u8, u64, [State; 2], u8)]) -> Details {
        let mut history = History::default();
        for &(seq, ago, states, reason) in steps {
            let time = Tick(now().0 - ticks_from_ms(ago * 1000));
            let states = states.map(|state| Bits::of(state as u8));
            if let Some(place) = history.steps.get_mut(History::place(seq)) {
                *place = Step::new(time, reason, states, seq);
            }
        }
        Details {
            history: Some(history),
            refusal: None,
        }
    }

    /// Each stay as its states, seconds ago and seconds long.
    fn read(sample: &Sample, details: &Details) -> Vec<String> {
        let clock = clock();
        let row = Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap();
        let seconds =
            |ms: Option<u64>| ms.map_or("?".to_owned(), |ms| ((ms + 500) / 1000).to_string());
        timeline(&row, details)
            .iter()
            .map(|stay| {
                stay.map_or("…".to_owned(), |stay| {
                    let [a, b] = stay.states.map(State::netstat_name);
                    let reason = stay.reason.map_or("-", Reason::as_str);
                    format!(
                        "{a} {b} {} {} {reason}",
                        seconds(stay.ago_ms),
                        seconds(stay.lasted_ms)
                    )
                })
            })
            .collect()
    }

    #[test]
    fn a_flow_without_a_history_still_knows_its_beginning_and_its_end() {
        let none = Details::default();
        assert_eq!(read(&flow(SYN_SENT, 1), &none), ["SYN_SENT LISTEN 2 2 -"]);
        assert_eq!(
            read(&flow(CLOSING, 4), &none),
            ["SYN_SENT LISTEN 2 ? -", "…", "FIN_WAIT1 CLOSE_WAIT ? ? -"]
        );
        // Of one that was met in mid-life not even that.
        let mut met = flow(OPEN, 1).picked_up();
        assert_eq!(read(&met, &none), ["ESTABLISHED ESTABLISHED 2 2 -"]);
        met.flow.next_event();
        assert_eq!(read(&met, &none), ["…", "ESTABLISHED ESTABLISHED ? ? -"]);
    }

    #[test]
    fn the_duration_of_the_handshake_tells_when_it_was_over() {
        let mut sample = flow(CLOSING, 4);
        sample.flow.handshake_rtt = ShortMicros::pack(1_000_000);
        assert_eq!(
            read(&sample, &Details::default()),
            [
                "SYN_SENT LISTEN 2 ? -",
                "…",
                "ESTABLISHED ESTABLISHED 1 ? -",
                "…",
                "FIN_WAIT1 CLOSE_WAIT ? ? -"
            ]
        );
    }

    #[test]
    fn a_whole_history_has_no_gaps() {
        let reason = Reason::Tracked as u8;
        let mut sample = flow(CLOSING, 4);
        sample.flow.first = Tick(now().0 - ticks_from_ms(9_000));
        let details = history(&[
            (2, 8, ANSWERED, NO_REASON),
            (3, 7, OPEN, reason),
            (4, 1, CLOSING, reason),
        ]);
        assert_eq!(
            read(&sample, &details),
            [
                "SYN_SENT LISTEN 9 1 -",
                "SYN_SENT SYN_RECV 8 1 -",
                "ESTABLISHED ESTABLISHED 7 6 tracked",
                "FIN_WAIT1 CLOSE_WAIT 1 1 tracked"
            ]
        );
    }

    #[test]
    fn a_time_that_is_not_that_of_the_step_is_not_told() {
        let reason = Reason::Tracked as u8;
        let details = history(&[(5, 8, OPEN, NO_REASON), (6, 1, CLOSING, reason)]);
        assert_eq!(
            read(&flow(CLOSING, 6), &details),
            [
                "SYN_SENT LISTEN 2 ? -",
                "…",
                "ESTABLISHED ESTABLISHED ? ? -",
                "FIN_WAIT1 CLOSE_WAIT 1 1 tracked"
            ]
        );
    }

    #[test]
    fn a_history_that_was_read_before_the_flow_moved_lacks_its_end() {
        let reason = Reason::Tracked as u8;
        let details = history(&[(2, 2, ANSWERED, NO_REASON), (3, 1, OPEN, reason)]);
        assert_eq!(
            read(&flow(CLOSING, 4), &details).last_chunk::<2>().unwrap(),
            &["…", "FIN_WAIT1 CLOSE_WAIT ? ? -"]
        );
    }
}
