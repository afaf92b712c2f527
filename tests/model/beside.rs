//! The tracker that stands beside the channel: the brain with a table of one
//! flow, in the shell's order of look-up, expiry, admission and opening.

use std::sync::OnceLock;

use tracker_common::{
    abi::{Flow, Live, Path, PendingSyn, Side, end_flags, flow_flags},
    reason::{Class, Reason},
    seq::Seq,
    tcp::{
        Admission, Context, Flags, Opening, Outcome, Segment as Seen, State, admit, meet, open,
        pass, timeout, wants_pending,
    },
    time::{Micros, Tick, ticks_from_ms},
};

use super::segment::Segment;

/// The end with index 0 is the key's low side, the other one its high side.
const SIDES: [Side; 2] = [Side::Low, Side::High];

/// Where their packets, and those in their name, come in.
const INTERFACES: [u32; 2] = [2, 3];

/// Any tag but 0 is a flow's.
const TAG: u32 = 1;

/// A moment after every time-out has run once. The clock stands still: when time
/// passes, what the flow remembers grows older.
const NOW: Tick = Tick(1 << 24);

/// Ticks after which no doubt is left: the longest retransmission time-out.
const DOUBT: u32 = ticks_from_ms(240_000);

/// Exact time of every segment.
const MICROS: Micros = Micros(1);

/// Which brain stands there. All but the first are broken on purpose, to show
/// that the judge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brain {
    /// The tracker's.
    Real,
    /// Closes on any RST that comes by, whatever its numbers are.
    ClosesOnAnyReset,
    /// Takes a SYN-ACK for an answer, whatever it acknowledges.
    TakesAnySynAck,
    /// Takes any ACK for one of the FIN.
    TakesAnyAck,
    /// Refuses every FIN that comes again.
    RefusesFinAgain,
    /// Refuses what its receiver has already.
    RefusesReceived,
    /// Lets a SYN on a live flow begin it anew.
    RestartsOnAnySyn,
    /// Believes every FIN that comes again, for good.
    DoubtsNoFin,
}

impl Brain {
    /// Those that are broken, each with the scenario that must show it.
    pub const BROKEN: [(Self, &str); 7] = [
        (Self::ClosesOnAnyReset, "plain"),
        (Self::TakesAnySynAck, "forge_at_client"),
        (Self::TakesAnyAck, "forge_at_server"),
        (Self::RefusesFinAgain, "early_fin"),
        (Self::RefusesReceived, "loss"),
        (Self::RestartsOnAnySyn, "loss"),
        (Self::DoubtsNoFin, "forge_at_server"),
    ];
}

/// What the tracker says of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it leaves as it does.
    pub reason: Reason,
}

impl Verdict {
    /// Whether an enforcing tracker drops it.
    pub fn is_refused(self) -> bool {
        self.reason.class() == Class::Refuse
    }
}

/// The tracker's only flow, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    flow: Option<Flow>,
    /// The last SYN that passed on it while it was live.
    pending: PendingSyn,
}

impl Beside {
    /// States of both ends, by their index; `None` when no flow is there.
    pub fn pair(&self, live: &Live) -> Option<[State; 2]> {
        let flow = self.flow.as_ref()?;
        if timeout::expired(flow, NOW, live) {
            return None;
        }
        Some(SIDES.map(|side| flow.ends[flow.index_of(side)].state()))
    }

    /// The same when nothing has been sent for so long that the tracker no
    /// longer believes a retransmission: doubts that one has raised are over.
    pub fn pair_at_rest(&self, live: &Live) -> Option<[State; 2]> {
        self.pair(live)?;
        let flow = timeout::settled(self.flow.as_ref()?, Tick(NOW.0 + DOUBT));
        Some(SIDES.map(|side| flow.ends[flow.index_of(side)].state()))
    }

    /// Lets that many ticks pass.
    pub fn wait(&mut self, ticks: u32) {
        if let Some(flow) = &mut self.flow {
            flow.first = older(flow.first, ticks);
            flow.last = older(flow.last, ticks);
        }
    }

    /// Shows the tracker a segment that the end with index `from` sent, or that
    /// claims so.
    pub fn see(&mut self, brain: Brain, from: usize, segment: &Segment, live: &Live) -> Verdict {
        let seen = translate(segment);
        let mut context = Context {
            now: NOW,
            micros: MICROS,
            path: Path::new(INTERFACES[from], 0, 0),
            bytes: 40 + seen.payload,
            ..Context::default()
        };
        let mut outcome = Outcome::default();
        let mut restarts = false;
        if let Some(mut flow) = self.flow {
            let before = flow;
            let sender = flow.index_of(SIDES[from]);
            // Only what may answer it asks for it.
            if wants_pending(flow.flags, seen.flags) {
                context.pending = self.pending;
            }
            if !pass(&mut flow, &seen, sender, &context, live) {
                meet(&mut flow, &seen, sender, &context, live, &mut outcome);
            }
            if outcome.replace == 0 {
                if outcome.remember != 0 {
                    self.pending = PendingSyn::of(&seen, outcome.sender, MICROS);
                }
                let reason = distort(brain, &before, &mut flow, &seen, sender, outcome.reason);
                self.keep(flow);
                return Verdict { reason };
            }
            self.flow = None;
            self.pending = PendingSyn::default();
            context.replaced = 1;
            restarts = outcome.restart != 0;
        }
        let admission = if restarts {
            Admission::Open(Opening::Answered)
        } else {
            admit(&seen, false, false, live)
        };
        let opening = match admission {
            Admission::Leave(reason) => return Verdict { reason },
            Admission::Open(opening) => opening,
        };
        let initiator = match opening {
            Opening::Handshake | Opening::Calling | Opening::Cookie => from,
            // Who answers is the responder.
            Opening::Answered => from ^ 1,
            // Of a flow met in mid-life it is a guess.
            Opening::Pickup => 0,
        };
        let mut flow = Flow::default();
        open(
            &mut flow,
            opening,
            &seen,
            TAG,
            0,
            initiator == 1,
            opening == Opening::Pickup,
            usize::from(initiator != from),
            &context,
            live,
            &mut outcome,
        );
        self.keep(flow);
        Verdict {
            reason: outcome.reason,
        }
    }

    /// Keeps a flow without what only counts packets.
    fn keep(&mut self, mut flow: Flow) {
        for end in &mut flow.ends {
            end.bytes = 0;
            end.packets_low = 0;
            end.packets_high = 0;
        }
        self.flow = Some(flow);
    }

    /// All that it knows and may act on, as bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let Some(flow) = &self.flow else { return };
        let pending = &self.pending;
        if flow.has(flow_flags::SYN_ON_LIVE) {
            out.extend_from_slice(&pending.seq.0.to_ne_bytes());
            out.extend_from_slice(&[pending.window as u8, pending.sender, pending.known]);
        }
        let at = out.len();
        out.extend_from_slice(bytes(flow));
        out[at + tally()] = 0;
    }
}

impl Beside {
    /// Whether both know the same.
    pub fn is_like(&self, other: &Self) -> bool {
        let [mine, theirs] = [self, other].map(|beside| {
            let mut bytes = Vec::new();
            beside.write_to(&mut bytes);
            bytes
        });
        mine == theirs
    }
}

/// A flow as it lies in memory.
const fn bytes(flow: &Flow) -> &[u8] {
    let start = std::ptr::from_ref(flow).cast::<u8>();
    // SAFETY: the pointer and the length are those of one live flow, which is
    // made of integers without padding (its size is that of its fields), so all
    // of its bytes are initialised; nothing changes it while the slice borrows
    // it.
    unsafe { std::slice::from_raw_parts(start, size_of::<Flow>()) }
}

/// Where a flow numbers its events, on which nothing else depends.
fn tally() -> usize {
    static TALLY: OnceLock<usize> = OnceLock::new();
    *TALLY.get_or_init(|| {
        let blank = Flow::default();
        let mut counted = blank;
        counted.next_event();
        let mut pairs = bytes(&blank).iter().zip(bytes(&counted));
        pairs.position(|(a, b)| a != b).expect("it counts")
    })
}

/// A moment that much longer ago.
const fn older(moment: Tick, ticks: u32) -> Tick {
    Tick(moment.0.wrapping_sub(ticks))
}

/// What the tracker's parser would read from the wire.
fn translate(segment: &Segment) -> Seen {
    Seen {
        seq: Seq(segment.seq),
        ack: Seq(segment.ack),
        payload: segment.text.into(),
        window: segment.window.into(),
        // The model's bits are those of the header.
        flags: Flags(segment.flags),
        ..Seen::default()
    }
}

/// Breaks what the brain has decided as `brain` says.
fn distort(
    brain: Brain,
    before: &Flow,
    flow: &mut Flow,
    seen: &Seen,
    sender: usize,
    reason: Reason,
) -> Reason {
    let flags = seen.flags;
    let [me, peer] = [sender, sender ^ 1];
    match brain {
        Brain::Real => {}
        Brain::ClosesOnAnyReset => {
            if flags.has(Flags::RST) {
                for end in &mut flow.ends {
                    end.set_state(State::Closed);
                }
            }
        }
        Brain::TakesAnySynAck => {
            let end = &mut flow.ends[me];
            if flags.has(Flags::SYN | Flags::ACK) && end.state() == State::Listen {
                end.set_state(State::SynReceived);
                end.isn = seen.seq;
                end.end = seen.end();
            }
        }
        Brain::TakesAnyAck => {
            let end = &mut flow.ends[peer];
            if flags.has(Flags::ACK) && end.state() == State::FinWait1 {
                end.set_state(State::FinWait2);
            }
        }
        Brain::RefusesFinAgain => {
            let again = before.ends[me].has(end_flags::FIN) && flags.has(Flags::FIN);
            if again {
                *flow = *before;
                return Reason::BeyondFin;
            }
        }
        Brain::RefusesReceived => {
            if reason == Reason::AlreadyReceived {
                return Reason::BeyondWindow;
            }
        }
        Brain::DoubtsNoFin => {
            if reason == Reason::FinRetransmit {
                flow.end_doubts();
            }
        }
        Brain::RestartsOnAnySyn => {
            if reason == Reason::SynOnLive {
                flow.ends[me].set_state(State::SynSent);
                flow.ends[peer].set_state(State::Listen);
            }
        }
    }
    reason
}
