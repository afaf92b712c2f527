//! Every cell of the state table, reached through the loaded program by real
//! segments.
//!
//! From the empty table on, each endpoint sends each kind of segment in every
//! situation that such segments lead to (breadth first, so by a shortest way),
//! and everybody may be silent for a while; a situation is what the program
//! itself says of the flow. What must become of both endpoints is written out
//! here by hand from RFC 9293 and compared with the program's answer and with
//! the brain's table.

mod expected;
mod situation;
mod table;

use std::collections::{BTreeSet, HashSet, VecDeque};

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{Family, Flow, Live, PROFILES, switches},
    tcp::{
        Move, Received, Sent, State,
        State::{Closed as CL, Established as ES, FinWait2 as F2, TimeWait as TW},
        on_arrival, on_sending, timeout,
    },
    time::{MAX_TIMEOUT_TICKS, Tick},
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::Wrapping,
    talk::{A, B, Talk},
};

use crate::{
    expected::expected,
    situation::{SILENCE_MS, Situation, Step, segment, steps},
    table::{never_sends, never_takes, sends, takes},
};

#[test]
fn the_brains_table_is_the_rfcs() {
    for state in State::ALL {
        for sent in Sent::ALL {
            let next = match on_sending(state, sent) {
                Move::To(next) | Move::Back(next) => Some(next),
                Move::Odd => None,
            };
            assert_eq!(next, sends(state, sent), "{state:?} sends {sent:?}");
        }
        for received in Received::ALL {
            let next = Move::To(takes(state, received));
            assert_eq!(
                on_arrival(state, received),
                next,
                "{state:?} takes {received:?}"
            );
        }
    }
}

/// What an exploration has come through.
#[derive(Debug, Default)]
struct Found {
    /// Steps to the first sight of each of the following.
    ways: Vec<Vec<Step>>,
    sent: BTreeSet<(u8, u8, u8)>,
    received: BTreeSet<(u8, u8)>,
    /// Pairs of states that a reset handshake was revived to.
    revived: BTreeSet<(u8, u8)>,
    /// States that were believed again after a silence.
    believed: BTreeSet<u8>,
    /// What differs from the hand-written table.
    wrong: Vec<String>,
    situations: usize,
    steps: usize,
}

impl Found {
    /// All that there is to see, as a number that grows.
    fn sights(&self) -> usize {
        self.sent.len() + self.received.len() + self.revived.len() + self.believed.len()
    }
}

/// Where the conversations take place.
struct Stage<'a> {
    bench: &'a mut Bench,
    wrapping: Wrapping,
    /// Where the packets of `A` come from.
    origin: Origin,
    /// Numbers are checked, so that an endpoint's numbers must fit its peer's
    /// state; or else its flags alone count.
    checked: bool,
}

impl Stage<'_> {
    /// The flow as whoever looks at it sees it.
    fn flow(&self, talk: &Talk) -> Result<Option<Flow>> {
        let flow = self.bench.flow(self.wrapping.family, &talk.key())?;
        let now = Tick::from_ns(self.bench.now_ns());
        Ok(flow.map(|flow| timeout::settled(&flow, now)))
    }

    /// Takes a step from `flow`; false if it does not exist there.
    fn step(&mut self, talk: &Talk, flow: Option<&Flow>, step: Step) -> Result<bool> {
        if step == Step::Silence {
            self.bench.wait_ms(SILENCE_MS)?;
            return Ok(true);
        }
        let Some(frame) = segment(talk, flow, step) else {
            return Ok(false);
        };
        let from_b = matches!(step, Step::Sends(B, _) | Step::SendsNewSyn(B));
        let origin = if from_b {
            self.origin.opposite()
        } else {
            self.origin
        };
        self.bench.run(origin, &frame.bytes())?;
        Ok(true)
    }

    /// Plays a talk up to a situation, and gives the flow then.
    fn play(&mut self, talk: &Talk, path: &[Step]) -> Result<Flow> {
        let mut flow = None;
        for &step in path {
            ensure!(self.step(talk, flow.as_ref(), step)?, "{step:?} is gone");
            flow = self.flow(talk)?;
        }
        flow.context("no flow")
    }

    /// Takes `step` after `path` and compares what comes of it. The flow then,
    /// if it is still the same one.
    fn look(
        &mut self,
        number: u32,
        path: &[Step],
        step: Step,
        found: &mut Found,
    ) -> Result<Option<Flow>> {
        let talk = Talk::new(self.wrapping, number);
        let before = self.play(&talk, path)?;
        if !self.step(&talk, Some(&before), step)? {
            return Ok(None);
        }
        let after = self.flow(&talk)?.context("no flow")?;
        found.steps += 1;
        let sights = found.sights();
        if let Err(error) = compare(&before, step, self.checked, &after, found) {
            let situation = Situation::of(&before);
            found.wrong.push(format!(
                "{step:?} after {path:?} makes {error:#}, of {situation:?}"
            ));
        }
        if found.sights() > sights {
            found.ways.push([path, &[step]].concat());
        }
        Ok((after.generation == before.generation).then_some(after))
    }

    /// Takes every step from every situation.
    fn explore(&mut self) -> Result<Found> {
        let mut found = Found::default();
        let mut known = HashSet::new();
        let mut ahead = VecDeque::from([vec![Step::Sends(A, Sent::Syn)]]);
        let mut number = 0;
        while let Some(path) = ahead.pop_front() {
            found.situations += 1;
            for step in steps() {
                number += 1;
                if let Some(after) = self.look(number, &path, step, &mut found)?
                    && known.insert(Situation::of(&after))
                {
                    ahead.push_back([path.clone(), vec![step]].concat());
                }
            }
        }
        Ok(found)
    }

    /// Goes ways that another exploration has found.
    fn follow(&mut self, ways: &[Vec<Step>]) -> Result<Found> {
        let mut found = Found::default();
        for (number, way) in (0..).zip(ways) {
            let (&last, path) = way.split_last().context("a way")?;
            self.look(number, path, last, &mut found)?;
        }
        Ok(found)
    }
}

/// Compares what a step came to with what it must.
fn compare(
    before: &Flow,
    step: Step,
    checked: bool,
    after: &Flow,
    found: &mut Found,
) -> Result<()> {
    let (situation, new) = (Situation::of(before), Situation::of(after));
    let expected = expected(&situation, step, checked);
    ensure!(
        new.states() == expected.states,
        "the states {:?} instead of {:?}",
        new.states(),
        expected.states
    );
    let doubted = new.places.map(|place| place.doubted);
    ensure!(
        doubted == expected.doubted && new.resets == expected.resets,
        "doubts {doubted:?} instead of {:?}, resets {:?} instead of {:?}",
        expected.doubted,
        new.resets,
        expected.resets
    );
    ensure!(expected.reopened == (after.generation != before.generation));
    // A place among the half-open flows is kept through the handshake and where
    // an RST seems to have ended it. It is given back by the next segment.
    let holds = situation.half_open || expected.reopened;
    let opening = new.states().into_iter().any(State::is_opening);
    let unmoved = new.states() == situation.states() || step == Step::Silence;
    let half_open = if opening || new.is_over() {
        new.half_open == holds
    } else {
        !new.half_open || (holds && unmoved)
    };
    ensure!(half_open, "half-open: {} after {holds}", new.half_open);

    if let Some((state, sent)) = expected.sent
        && let Step::Sends(from, _) = step
    {
        found.sent.insert((state as u8, sent as u8, from as u8));
    }
    if let Some((state, received)) = expected.received {
        found.received.insert((state as u8, received as u8));
    }
    if situation.is_over() && !new.is_over() && !expected.reopened {
        let [initiator, responder] = new.states();
        found.revived.insert((initiator as u8, responder as u8));
    }
    if step == Step::Silence {
        let pairs = situation.places.into_iter().zip(new.states());
        let believed = pairs.filter(|(place, state)| place.state != *state);
        found
            .believed
            .extend(believed.map(|(_, state)| state as u8));
    }
    Ok(())
}

/// Nothing expires, and nobody gives up: only what is sent moves anything.
fn patient(checked: bool) -> Live {
    Live {
        switches: if checked { 0 } else { switches::LIBERAL },
        timeouts: [[MAX_TIMEOUT_TICKS; 16]; PROFILES],
        syn_ack_retries: u8::MAX,
        ..live()
    }
}

/// Fails if anything differs from the hand-written table.
fn check(found: &Found, place: &str) {
    const SHOWN: usize = 20;
    let wrong = &found.wrong;
    assert!(
        wrong.is_empty(),
        "{place}: {} of {} steps are wrong; the first:\n{}",
        wrong.len(),
        found.steps,
        wrong[..wrong.len().min(SHOWN)].join("\n")
    );
}

/// Explores in both families, then goes to every cell in every wrapping.
fn explore(checked: bool) -> Found {
    let mut bench = Bench::new().unwrap();
    bench.loaded.set_live(&patient(checked)).unwrap();
    let mut stage = |wrapping, origin, ways: Option<&[Vec<Step>]>| {
        let place = format!("{wrapping:?} from {origin:?}");
        let mut stage = Stage {
            bench: &mut bench,
            wrapping,
            origin,
            checked,
        };
        let found = match ways {
            None => stage.explore(),
            Some(ways) => stage.follow(ways),
        };
        let found = found.unwrap_or_else(|error| panic!("{place}: {error:#}"));
        check(&found, &place);
        bench.flush().unwrap();
        found
    };
    let found = stage(Wrapping::plain(Family::V4), Origin::Wire, None);
    let other = stage(Wrapping::plain(Family::V6), Origin::Host, None);
    // What a flow may come to does not depend on what it travels in.
    assert_eq!(found.ways, other.ways);
    assert_eq!(
        (found.situations, found.steps),
        (other.situations, other.steps)
    );
    println!(
        "{} situations, {} steps, {} ways",
        found.situations,
        found.steps,
        found.ways.len()
    );
    for wrapping in Wrapping::ALL {
        for origin in [Origin::Wire, Origin::Host] {
            let followed = stage(wrapping, origin, Some(&found.ways));
            assert_eq!(followed.sights(), found.sights(), "{wrapping:?} {origin:?}");
        }
    }
    let mut wrong = Vec::new();
    for state in State::ALL {
        for from in [A, B] {
            for sent in Sent::ALL {
                let reached = found.sent.contains(&(state as u8, sent as u8, from as u8));
                let excuse = never_sends(state, sent, from, checked);
                if reached != excuse.is_none() {
                    wrong.push(format!("{from:?} {state:?} sends {sent:?}: {excuse:?}"));
                }
            }
        }
        for received in Received::ALL {
            let reached = found.received.contains(&(state as u8, received as u8));
            let excuse = never_takes(state, received);
            if reached != excuse.is_none() {
                wrong.push(format!("{state:?} takes {received:?}: {excuse:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "never reached, or in spite of an excuse:\n{}",
        wrong.join("\n")
    );
    found
}

#[test]
fn every_cell_in_every_wrapping() {
    let found = explore(true);
    let believed = [ES, F2, TW, CL].map(|state| state as u8);
    assert_eq!(found.believed, believed.into());
    assert!(found.revived.len() >= 3, "{:?}", found.revived);
}

#[test]
fn every_cell_where_flags_alone_count() {
    explore(false);
}
