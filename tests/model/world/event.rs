//! What may happen next.

use super::{Setting, World};
use crate::{
    attacker,
    endpoint::{Again, Call},
    scenario::{Place, Scenario},
};

/// Something that happens. `end` is the index of an endpoint; of a segment it
/// is that of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The user calls.
    Call { end: u8, call: Call },
    /// The retransmission time-out.
    Retransmit { end: u8, again: Again },
    /// The user time-out.
    GiveUp { end: u8 },
    /// The delayed ACK goes out.
    Acknowledge { end: u8 },
    /// 2MSL are over.
    TimeWaitOver { end: u8 },
    /// A segment goes on: past the tracker, or to its receiver.
    Move { end: u8, half: u8, index: u8 },
    /// A segment is lost.
    Lose { end: u8, half: u8, index: u8 },
    /// A segment is duplicated.
    Duplicate { end: u8, half: u8, index: u8 },
    /// Somebody sends as if from `end`. The segment passes the tracker and is
    /// lost behind it, or arrives at once.
    Forge { end: u8, form: u16, lost: bool },
}

impl World {
    /// Everything that may happen next.
    pub fn events(&self, setting: &Setting<'_>, events: &mut Vec<Event>) {
        events.clear();
        let scenario = setting.scenario;
        for end in 0..2_u8 {
            for call in Call::ALL {
                if self.may_call(end.into(), call, scenario) {
                    events.push(Event::Call { end, call });
                }
            }
            let who = usize::from(end);
            if self.budget.retransmissions[who] > 0 {
                for again in [Again::All, Again::First] {
                    events.push(Event::Retransmit { end, again });
                }
            } else if scenario.gives_up {
                events.push(Event::GiveUp { end });
            }
            events.push(Event::Acknowledge { end });
            if self.budget.time_waits > 0 && self.is_quiescent() {
                events.push(Event::TimeWaitOver { end });
            }
            for (half, segments) in self.halves[who].iter().enumerate() {
                for index in segments.distinct() {
                    let (half, index) = (half as u8, index as u8);
                    events.push(Event::Move { end, half, index });
                    if self.budget.losses > 0 {
                        events.push(Event::Lose { end, half, index });
                    }
                    if self.budget.duplicates > 0 {
                        events.push(Event::Duplicate { end, half, index });
                    }
                }
            }
            // Off the path to the tracker's own side nothing passes it.
            let passes = match scenario.place {
                Place::Middle => true,
                Place::At(near) => near != who,
            };
            if self.budget.forgeries > 0 && passes {
                for form in 0..attacker::forms(self, who, setting).len() as u16 {
                    for lost in [false, true] {
                        events.push(Event::Forge { end, form, lost });
                    }
                }
            }
        }
    }

    fn may_call(&self, end: usize, call: Call, scenario: &Scenario) -> bool {
        let budget = &self.budget;
        match call {
            Call::OpenActive => budget.opens_active[end] > 0,
            Call::OpenPassive => budget.opens_passive[end] > 0,
            Call::Send => budget.sends[end] > 0,
            Call::Receive => scenario.manners[end].slow_reader,
            Call::Close => scenario.closes[end],
            Call::Abort => budget.aborts[end] > 0,
        }
    }
}
