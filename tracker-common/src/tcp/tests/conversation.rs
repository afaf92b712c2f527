//! A flow and the segments that its two endpoints send, as a script.

use std::vec::Vec;

use crate::{
    abi::{Flow, INITIATOR, Live, Path, PendingSyn, RESPONDER},
    reason::Reason,
    seq::Seq,
    tcp::{
        Admission, Admitted, Context, Flags, Opening, Options, Outcome, Segment, State, admit,
        meet, open, pass, timeout,
    },
    time::{Micros, Tick, ticks_from_ms},
};

/// The initiator's initial sequence number.
pub const ISS: u32 = 1000;
/// The responder's.
pub const IRS: u32 = 5000;
/// The default configuration.
pub const LIVE: Live = Live::observing(timeout::Profile::Linux);

/// A segment with these flags; numbers are absolute.
pub fn segment(flags: u8, seq: u32, ack: u32, payload: u32) -> Segment {
    Segment {
        seq: Seq(seq),
        ack: Seq(ack),
        payload,
        window: 1024,
        flags: Flags(flags),
        ..Segment::default()
    }
}

/// One flow, fed segment by segment.
pub struct Conversation {
    /// The flow, `None` before its first segment and after its end.
    pub flow: Option<Flow>,
    /// Now.
    pub now: Tick,
    /// Now, exactly.
    pub micros: Micros,
    /// What became of the last segment.
    pub outcome: Outcome,
    /// Reasons so far.
    pub reasons: Vec<Reason>,
    /// Running configuration.
    pub live: Live,
    replaced: u8,
    pending: PendingSyn,
    /// Where the packets of either end come in.
    pub interfaces: [u32; 2],
    /// The flow's responder is who `initiator` speaks for: it began anew that
    /// way.
    pub turned: bool,
    /// Segments that took the short way.
    pub passed: usize,
}

/// [`meet`], and whether [`pass`] would have taken the segment: then it must have
/// done the same, else nothing.
///
/// # Panics
///
/// It has not.
pub fn both_ways(
    flow: &mut Flow,
    segment: &Segment,
    sender: usize,
    context: &Context,
    live: &Live,
    outcome: &mut Outcome,
) -> bool {
    let before = *flow;
    let mut short = before;
    let passes = pass(&mut short, segment, sender, context, live);
    meet(flow, segment, sender, context, live, outcome);
    let expected = if passes { *flow } else { before };
    assert_eq!(
        std::format!("{short:?}"),
        std::format!("{expected:?}"),
        "{segment:?} on {before:?}"
    );
    if passes {
        let plain = Outcome {
            seq: outcome.seq,
            before: before.bits(),
            after: before.bits(),
            previous: before.last,
            sender: sender as u8,
            ..Outcome::default()
        };
        assert_eq!(*outcome, plain, "{segment:?} on {before:?}");
    }
    passes
}

impl Conversation {
    pub fn new() -> Self {
        Self {
            flow: None,
            now: Tick(1000),
            micros: Micros(0),
            outcome: Outcome::default(),
            reasons: Vec::new(),
            live: LIVE,
            replaced: 0,
            pending: PendingSyn::default(),
            interfaces: [2, 3],
            turned: false,
            passed: 0,
        }
    }

    /// After a three-way handshake.
    pub fn established() -> Self {
        let mut c = Self::new();
        c.initiator(segment(Flags::SYN, ISS, 0, 0));
        c.responder(segment(Flags::SYN | Flags::ACK, IRS, ISS + 1, 0));
        c.initiator(segment(Flags::ACK, ISS + 1, IRS + 1, 0));
        c.expect(State::Established, State::Established);
        c
    }

    pub fn initiator(&mut self, segment: Segment) -> Reason {
        self.send(segment, INITIATOR)
    }

    pub fn responder(&mut self, segment: Segment) -> Reason {
        self.send(segment, RESPONDER)
    }

    /// As the shell does it: pass, or meet the flow; if that is over, or there is none,
    /// ask whether the segment opens one.
    fn send(&mut self, segment: Segment, from: usize) -> Reason {
        let sender = from ^ usize::from(self.turned);
        let context = Context {
            now: self.now,
            micros: self.micros,
            path: Path::new(self.interfaces[from], 0, 0),
            bytes: 40 + segment.payload,
            policy: 0,
            admitted: Admitted::default(),
            replaced: self.replaced,
            veil: 0,
            pending: self.pending,
        };
        if let Some(flow) = &mut self.flow {
            self.passed += usize::from(both_ways(
                flow,
                &segment,
                sender,
                &context,
                &self.live,
                &mut self.outcome,
            ));
            if self.outcome.remember != 0 {
                self.pending = PendingSyn::of(&segment, sender as u8, self.micros);
            }
            if self.outcome.replace == 0 {
                self.reasons.push(self.outcome.reason);
                return self.outcome.reason;
            }
            self.flow = None;
            self.replaced = 1;
            if self.outcome.restart == 0 {
                self.pending = PendingSyn::default();
                return self.send(segment, from);
            }
            self.turned ^= sender != RESPONDER;
        }
        let sender = from ^ usize::from(self.turned);
        let admission = if self.outcome.restart != 0 {
            Admission::Open(Opening::Answered)
        } else {
            admit(&segment, false, false, &self.live)
        };
        let reason = match admission {
            Admission::Leave(reason) => reason,
            Admission::Open(opening) => {
                let mut flow = Flow::default();
                open(
                    &mut flow,
                    opening,
                    &segment,
                    7,
                    9,
                    false,
                    false,
                    sender,
                    &context,
                    &self.live,
                    &mut self.outcome,
                );
                self.flow = Some(flow);
                self.outcome.reason
            }
        };
        self.replaced = 0;
        self.pending = PendingSyn::default();
        self.reasons.push(reason);
        reason
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.now = Tick(self.now.0.wrapping_add(ticks_from_ms(ms)));
    }

    #[track_caller]
    pub fn flow(&self) -> &Flow {
        self.flow.as_ref().expect("a flow")
    }

    #[track_caller]
    pub fn expect(&self, initiator: State, responder: State) {
        assert_eq!(
            self.flow().states(),
            [initiator, responder],
            "{:?}",
            self.reasons
        );
    }
}

/// A segment with a window scale, SACK-permitted and a timestamp.
pub fn with_options(mut segment: Segment, scale: u8, ts: u32) -> Segment {
    segment.options = Options {
        present: Options::SCALE | Options::SACK_PERMITTED | Options::TIMESTAMPS,
        scale,
        ts_value: ts,
        ..Options::default()
    };
    segment
}
