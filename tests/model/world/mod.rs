//! Everything at one moment: both endpoints, what is on the way between them,
//! what the tracker knows. `event` says what may happen next, and `act` what
//! comes of it.

mod act;
mod event;

use tracker_common::{abi::Live, reason::Reason, tcp::State as Proved};

use super::{
    beside::{Beside, Brain, Verdict},
    channel::Half,
    endpoint::{Endpoint, Manner, State},
    properties::Finding,
    scenario::Scenario,
    segment::Segment,
};

pub use event::Event;

/// Before the tracker.
pub const NEAR: usize = 0;
/// Behind it.
pub const FAR: usize = 1;

/// What may still happen how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub losses: u8,
    pub duplicates: u8,
    pub forgeries: u8,
    pub time_waits: u8,
    pub retransmissions: [u8; 2],
    pub sends: [u8; 2],
    pub opens_active: [u8; 2],
    pub opens_passive: [u8; 2],
    pub aborts: [u8; 2],
}

/// What has happened that makes a difference at rest. See `properties`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    /// This end's last connection went without a word: CLOSE or ABORT where
    /// nothing is sent.
    pub silent: [bool; 2],
    /// This end gave up.
    pub gave_up: [bool; 2],
    /// A segment was lost after an RST was sent, or that RST itself.
    pub lost_since_reset: bool,
    /// An RST was sent.
    pub reset: bool,
    /// The connection of this end of which a FIN has passed the tracker; 0 for
    /// none.
    fin_shown: [u8; 2],
    /// The connection in which this end was in CLOSING, and the first FIN that
    /// passed the tracker acknowledged its peer's; 0 for none.
    hidden_fin: [u8; 2],
    /// A SYN of a connection that its sender has left behind opened a flow, or
    /// its answer did.
    pub old_syn: bool,
    /// A SYN of a connection that its sender has left behind has passed.
    pub stray_syn: bool,
    /// A forged segment opened the flow that is there.
    pub planted: bool,
    /// A forged segment that its receiver threw away moved the tracker, which
    /// could not know better. See `properties::forged`.
    pub misled: bool,
    /// A forged segment has acknowledged the FIN of its receiver, which was in
    /// LAST-ACK. See `properties::at_rest`.
    pub last_ack_forged: bool,
}

/// How many different segments of each end are remembered for comparison with
/// forged ones.
const SAID: usize = 24;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub ends: [Endpoint; 2],
    /// By sender, then [`NEAR`] or [`FAR`].
    pub halves: [[Half; 2]; 2],
    pub tracker: Beside,
    pub budget: Budget,
    pub past: Past,
    /// Prints of the segments that each end has sent, while somebody may yet
    /// forge them; sorted, 0 for none.
    said: [[u32; SAID]; 2],
    /// Highest RCV.NXT of each end that has passed the tracker.
    pub shown: [u32; 2],
}

/// One step with its circumstances, for the trace.
#[derive(Clone, Debug)]
pub enum Told {
    /// What happened.
    Happens(String),
    /// A segment was sent.
    Sends { end: usize, segment: Segment },
    /// The tracker saw a segment.
    Sees {
        end: usize,
        segment: Segment,
        verdict: Verdict,
        pair: Option<[Proved; 2]>,
    },
    /// A segment arrived.
    Arrives { end: usize, segment: Segment },
    /// What came of it.
    Stands {
        states: [State; 2],
        pair: Option<[Proved; 2]>,
    },
}

/// A class, and the tracker's reason where that says more.
pub type Apart = (&'static str, Option<Reason>);

/// What one step leaves beside the new world.
#[derive(Debug, Default)]
pub struct Notes {
    /// What the step violates.
    pub findings: Vec<Finding>,
    /// Classes that are counted apart.
    pub apart: Vec<Apart>,
    /// The trace, when one is wanted.
    pub told: Option<Vec<Told>>,
    /// A segment of a true end was refused.
    pub refused: bool,
    /// Working memory.
    out: Vec<Segment>,
}

impl Notes {
    /// With a trace.
    pub fn telling() -> Self {
        Self {
            told: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Forgets the last step.
    pub fn clear(&mut self) {
        self.findings.clear();
        self.apart.clear();
        if let Some(told) = &mut self.told {
            told.clear();
        }
    }

    fn tell(&mut self, told: impl FnOnce() -> Told) {
        if let Some(all) = &mut self.told {
            all.push(told());
        }
    }
}

/// What does not change during a search.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub scenario: &'a Scenario,
    pub live: &'a Live,
    pub brain: Brain,
    /// Whether refused segments are dropped.
    pub enforces: bool,
}

impl Setting<'_> {
    pub const fn manner(&self, end: usize) -> &Manner {
        &self.scenario.manners[end]
    }
}

impl World {
    /// Nothing has happened yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            ends: [Endpoint::new(); 2],
            halves: [[Half::default(); 2]; 2],
            tracker: Beside::default(),
            budget: scenario.budget,
            past: Past::default(),
            said: [[0; SAID]; 2],
            shown: [0; 2],
        }
    }

    /// Whether nothing is on the way.
    pub fn is_channel_empty(&self) -> bool {
        self.halves
            .iter()
            .flatten()
            .all(|half| half.segments().is_empty())
    }

    /// A quiescent point: nothing on the way, nothing unacknowledged.
    pub fn is_quiescent(&self) -> bool {
        self.ends.iter().all(Endpoint::is_at_rest) && self.is_channel_empty()
    }

    /// All that the future depends on, as bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        use std::hash::Hash as _;
        let mut writer = Writer(out);
        self.ends.hash(&mut writer);
        self.budget.hash(&mut writer);
        self.past.hash(&mut writer);
        for half in self.halves.iter().flatten() {
            half.segments().hash(&mut writer);
        }
        if self.budget.forgeries > 0 {
            self.shown.hash(&mut writer);
            self.said.hash(&mut writer);
        }
        self.tracker.write_to(out);
    }

    /// The state of each end.
    pub fn states(&self) -> [State; 2] {
        self.ends.map(|end| end.state)
    }
}

/// Collects what would be hashed.
struct Writer<'a>(&'a mut Vec<u8>);

impl std::hash::Hasher for Writer<'_> {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}
