//! What a capture must come to.

use std::collections::BTreeMap;

use tracker_common::{abi::Role, reason::Class, tcp::State};

use crate::replayed::{Replayed, spell};

/// So many flows with these final states, initiator's and responder's.
pub type Flows = &'static [(u64, State, State)];

/// So many packets with this reason.
pub type Counts = &'static [(&'static str, u64)];

/// One capture.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in the folder.
    pub file: &'static str,
    /// What it is about, and the outcome that the baseline requires.
    pub requires: &'static str,
    /// Where the tracker stands.
    pub role: Role,
    /// It verifies checksums.
    pub verified: bool,
    /// Flows at the end, by their states; an earlier flow of the same ports counts
    /// by its own end. Connections are picked up.
    pub flows: Flows,
    /// Packets that are refused: these, and no others.
    pub refused: Counts,
    /// Flows where connections are not picked up; `None`: the same.
    pub strict_flows: Option<Flows>,
    /// Packets that are refused then; `None`: the same.
    pub strict_refused: Option<Counts>,
    /// Packets that pass with a word, as far as the outcome depends on them.
    pub noted: Counts,
    /// States that some flow goes through on the way.
    pub through: &'static [(State, State)],
    /// A state that no end of any flow may ever have.
    pub never: Option<State>,
    /// File in `baselines/` that tells packets and states of flows.
    pub baseline: Option<&'static str>,
    /// Entries of it from which the outcome differs.
    pub differs: usize,
    /// Nothing more is required than that it is read.
    pub anything: bool,
    /// Why the outcome differs from the baseline, or goes beyond it.
    pub why: &'static str,
}

impl Row {
    /// A capture without flows and refusals.
    pub const fn new(file: &'static str, requires: &'static str) -> Self {
        Self {
            file,
            requires,
            role: Role::Host,
            verified: false,
            flows: &[],
            refused: &[],
            strict_flows: None,
            strict_refused: None,
            noted: &[],
            through: &[],
            never: None,
            baseline: None,
            differs: 0,
            anything: false,
            why: "",
        }
    }

    /// Compares with what came of it: a line for everything that is otherwise.
    pub fn compare(&self, pickup: bool, replayed: &Replayed) -> Vec<String> {
        let mut wrong = vec![];
        if self.anything {
            return wrong;
        }
        let (flows, refused) = if pickup {
            (self.flows, self.refused)
        } else {
            (
                self.strict_flows.unwrap_or(self.flows),
                self.strict_refused.unwrap_or(self.refused),
            )
        };
        let wanted: BTreeMap<String, u64> = flows
            .iter()
            .map(|&(count, initiator, responder)| (spell([initiator, responder]), count))
            .collect();
        let found = replayed.outcomes();
        if found != wanted {
            wrong.push(format!("the flows are {found:?}, not {wanted:?}"));
        }
        let wanted: BTreeMap<&str, u64> = refused.iter().copied().collect();
        let found = replayed.of_class(Class::Refuse);
        if found != wanted {
            wrong.push(format!("refused is {found:?}, not {wanted:?}"));
        }
        if pickup || self.strict_flows.is_none() {
            for &(reason, count) in self.noted {
                let found = replayed.reasons.get(reason).copied().unwrap_or(0);
                if found != count {
                    wrong.push(format!("{found} packets are {reason}, not {count}"));
                }
            }
            for &(initiator, responder) in self.through {
                if !replayed.passed.contains(&[initiator, responder]) {
                    let states = spell([initiator, responder]);
                    wrong.push(format!("no flow went through {states}"));
                }
            }
        }
        if let Some(state) = self.never
            && replayed.passed.iter().any(|states| states.contains(&state))
        {
            wrong.push(format!("an end was {}", state.rfc_name()));
        }
        wrong
    }
}
