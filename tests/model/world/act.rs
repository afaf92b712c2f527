//! What happens.

use tracker_common::reason::Reason;

use super::{Event, FAR, NEAR, Notes, SAID, Setting, Told, World};
use crate::{
    attacker,
    beside::Verdict,
    endpoint::{Call, Called},
    properties::{self, Effect, Forgery},
    scenario::Place,
    segment::{ACK, FIN, RST, SYN, Segment, lt, mark},
};

impl World {
    /// Lets `event` happen; false when it does not.
    pub fn step(&mut self, event: Event, setting: &Setting<'_>, notes: &mut Notes) -> bool {
        notes.tell(|| Told::Happens(format!("{event:?}")));
        let mut out = std::mem::take(&mut notes.out);
        out.clear();
        let happens = self.act(event, setting, notes, &mut out);
        notes.out = out;
        happens
    }

    fn act(
        &mut self,
        event: Event,
        setting: &Setting<'_>,
        notes: &mut Notes,
        out: &mut Vec<Segment>,
    ) -> bool {
        match event {
            Event::Call { end, call } => {
                let end = usize::from(end);
                let called = self.ends[end].call(call, setting.manner(end), out);
                if called == Called::Error {
                    return false;
                }
                let budget = &mut self.budget;
                match call {
                    Call::OpenActive => budget.opens_active[end] -= 1,
                    Call::OpenPassive => budget.opens_passive[end] -= 1,
                    Call::Send => budget.sends[end] -= 1,
                    Call::Abort => budget.aborts[end] -= 1,
                    Call::Receive | Call::Close => {}
                }
                if call == Call::OpenActive {
                    self.past.silent[end] = false;
                    self.past.gave_up[end] = false;
                }
                self.past.silent[end] |= called == Called::Silently;
                self.send(end, setting, notes, out)
            }
            Event::Retransmit { end, again } => {
                let end = usize::from(end);
                self.budget.retransmissions[end] -= 1;
                self.ends[end].retransmit(again, setting.manner(end), out)
                    && self.send(end, setting, notes, out)
            }
            Event::GiveUp { end } => {
                let end = usize::from(end);
                self.past.gave_up[end] = true;
                self.ends[end].give_up()
            }
            Event::Acknowledge { end } => {
                let end = usize::from(end);
                self.ends[end].acknowledge_now(setting.manner(end), out)
                    && self.send(end, setting, notes, out)
            }
            Event::TimeWaitOver { end } => {
                self.budget.time_waits -= 1;
                self.tracker.wait(setting.scenario.msl2_ticks);
                self.ends[usize::from(end)].time_wait_over()
            }
            Event::Move { end, half, index } => {
                let (end, half) = (usize::from(end), usize::from(half));
                let segment = self.halves[end][half].take(index.into());
                if half == FAR {
                    return self.arrive(end, segment, setting, notes, out);
                }
                let (segment, _) = self.pass(end, segment, setting, notes);
                if setting.enforces && segment.is_marked(mark::REFUSED) {
                    return true;
                }
                match setting.scenario.place {
                    Place::Middle => self.halves[end][FAR].put(segment),
                    Place::At(_) => self.arrive(end, segment, setting, notes, out),
                }
            }
            Event::Lose { end, half, index } => {
                self.budget.losses -= 1;
                self.halves[usize::from(end)][usize::from(half)].take(index.into());
                self.past.lost_since_reset |= self.past.reset;
                true
            }
            Event::Duplicate { end, half, index } => {
                self.budget.duplicates -= 1;
                let half = &mut self.halves[usize::from(end)][usize::from(half)];
                let segment = half.segments()[usize::from(index)];
                half.put(segment)
            }
            Event::Forge { end, form, lost } => {
                self.forge(end.into(), form, lost, setting, notes, out)
            }
        }
    }

    /// Puts what `end` sends on the way; false when there is no room.
    fn send(
        &mut self,
        end: usize,
        setting: &Setting<'_>,
        notes: &mut Notes,
        out: &mut Vec<Segment>,
    ) -> bool {
        for segment in out.drain(..) {
            notes.tell(|| Told::Sends { end, segment });
            if segment.has(RST) {
                self.past.reset = true;
            }
            self.remember(end, segment);
            let sent = if setting.scenario.place == Place::At(end) {
                let (segment, _) = self.pass(end, segment, setting, notes);
                let dropped = setting.enforces && segment.is_marked(mark::REFUSED);
                dropped || self.halves[end][FAR].put(segment)
            } else {
                self.halves[end][NEAR].put(segment)
            };
            if !sent {
                return false;
            }
        }
        true
    }

    fn remember(&mut self, end: usize, segment: Segment) {
        if self.budget.forgeries == 0 || self.has_said(end, &segment) {
            return;
        }
        let said = &mut self.said[end];
        assert!(said[0] == 0, "raise SAID");
        said[0] = segment.print();
        said.sort_unstable();
    }

    /// Whether `end` has sent this very segment before.
    pub fn has_said(&self, end: usize, segment: &Segment) -> bool {
        self.said[end].contains(&segment.print())
    }

    /// Lets a segment pass the tracker, and marks it if that refuses it.
    fn pass(
        &mut self,
        end: usize,
        mut segment: Segment,
        setting: &Setting<'_>,
        notes: &mut Notes,
    ) -> (Segment, Reason) {
        let pair = self.tracker.pair(setting.live);
        let verdict = self.tracker.see(setting.brain, end, &segment, setting.live);
        // Its number is the forger's choice, its receiver may know better.
        self.past.misled |= segment.is_marked(mark::DRAWN)
            && segment.has(RST)
            && self.tracker.pair(setting.live) != pair;
        notes.tell(|| Told::Sees {
            end,
            segment,
            verdict,
            pair: self.tracker.pair(setting.live),
        });
        if !segment.is_marked(mark::FORGED) {
            self.watch(end, &segment, verdict);
            let newer = segment.has(SYN) || lt(self.shown[end], segment.ack);
            if self.budget.forgeries > 0 && segment.has(ACK) && newer {
                self.shown[end] = segment.ack;
            }
            if verdict.is_refused() {
                notes.refused = true;
                properties::honest_refused(self, setting, end, &segment, verdict, notes);
            }
        }
        if verdict.is_refused() {
            segment.mark |= mark::REFUSED;
        }
        (segment, verdict.reason)
    }

    /// Writes down what tells later why the tracker may be wrong at rest.
    fn watch(&mut self, end: usize, segment: &Segment, verdict: Verdict) {
        let past = &mut self.past;
        let sender = &self.ends[end];
        if segment.has(FIN) && past.fin_shown[end] != sender.connections {
            past.fin_shown[end] = sender.connections;
            // A FIN from before CLOSING acknowledges one less.
            if sender.crossed && segment.ack == sender.rcv_nxt {
                past.hidden_fin[end] = sender.connections;
            }
        }
        if segment.flags & (SYN | ACK) == SYN {
            past.stray_syn |= sender.state.is_idle() || sender.iss != segment.seq;
        }
        let reason = verdict.reason;
        past.old_syn |= if matches!(reason, Reason::FlowOpened | Reason::FlowReopened) {
            sender.state.is_idle() || sender.iss != segment.seq
        } else {
            let opener = &self.ends[end ^ 1];
            let known = !opener.state.is_idle() && opener.iss.wrapping_add(1) == segment.ack;
            reason == Reason::FlowRestarted && !known
        };
    }

    /// Whether one of the ends, in this very connection, closed at the same time
    /// as its peer and the tracker could not see it.
    pub fn has_hidden_fin(&self) -> bool {
        let ends = self.ends.iter().zip(self.past.hidden_fin);
        ends.into_iter()
            .any(|(end, hidden)| hidden != 0 && hidden == end.connections)
    }

    /// Lets a segment arrive at the other end.
    fn arrive(
        &mut self,
        end: usize,
        segment: Segment,
        setting: &Setting<'_>,
        notes: &mut Notes,
        out: &mut Vec<Segment>,
    ) -> bool {
        let receiver = end ^ 1;
        notes.tell(|| Told::Arrives { end, segment });
        let before = self.ends[receiver];
        self.ends[receiver].arrive(&segment, setting.manner(receiver), out);
        if segment.is_marked(mark::REFUSED) {
            properties::refused_arrives(self, &before, &self.ends[receiver], &segment, notes);
        }
        // What an answer to a forged segment does is the forger's doing, where
        // he chose its number: <SEQ=SEG.ACK><CTL=RST>.
        if segment.is_marked(mark::DRAWN) && segment.has(RST) && before != self.ends[receiver] {
            notes.apart.push(("drawn_reset_struck", None));
            return false;
        }
        if segment.mark & (mark::FORGED | mark::DRAWN) != 0 {
            for answer in out.iter_mut() {
                answer.mark |= mark::DRAWN;
            }
        }
        self.send(receiver, setting, notes, out)
    }

    /// Lets somebody send as if from `end`.
    fn forge(
        &mut self,
        end: usize,
        form: u16,
        lost: bool,
        setting: &Setting<'_>,
        notes: &mut Notes,
        out: &mut Vec<Segment>,
    ) -> bool {
        let mut segment = attacker::forms(self, end, setting)[usize::from(form)];
        segment.mark = mark::FORGED;
        let victim = end ^ 1;
        let before = self.ends[victim];
        let mut after = before;
        after.arrive(&segment, setting.manner(victim), out);
        let strikes = after != before;
        let replies = !out.is_empty();
        // Without an answer nothing tells whether it was lost.
        if lost && !replies && !strikes {
            return false;
        }
        out.clear();
        let identical = self.has_said(end, &segment);
        let pair = self.tracker.pair(setting.live);
        let tracker = self.tracker;
        let (passed, reason) = self.pass(end, segment, setting, notes);
        let refused = passed.is_marked(mark::REFUSED);
        let forgery = Forgery {
            victim,
            segment,
            strikes,
            refused,
            identical,
            reason,
            touched: !self.tracker.is_like(&tracker),
            pair,
        };
        match properties::forged(self, setting, &forgery, notes) {
            Effect::None => {}
            Effect::Misled => self.past.misled = true,
            Effect::Planted => self.past.planted = true,
            Effect::LastAck => self.past.last_ack_forged = true,
        }
        self.budget.forgeries -= 1;
        if strikes {
            // A successful attack is not followed: the ends disagree from here.
            return false;
        }
        if self.budget.forgeries == 0 {
            self.said = [[0; SAID]; 2];
            self.shown = [0; 2];
        }
        if lost || (setting.enforces && refused) {
            return true;
        }
        self.arrive(end, passed, setting, notes, out)
    }
}
