//! What must hold, and what is listed apart because nobody between the ends can
//! know it.
//!
//! 1. **At rest** ([`at_rest`]): nothing on the way, nothing unacknowledged: the
//!    tracker's pair of states is the endpoints' pair.
//! 2. **Harmlessness**: whatever the tracker refuses, its receiver has no use
//!    for: neither as it is when the tracker refuses it ([`honest_refused`]) nor
//!    as it is when the segment arrives, since nothing is enforced
//!    ([`refused_arrives`]). So dropping it takes no state and no octet out of
//!    reach of either end. What it may take away is an answer: an ACK with
//!    SND.NXT and RCV.NXT, or an RST, which tells its receiver nothing that the
//!    next answer would not; these are counted (`refused_answered`), and that
//!    every connection still comes to the same end is looked at from every point
//!    at which nothing is on the way (`fair`). Counted apart, too, is what is
//!    refused after a SYN of a former connection has passed
//!    (`refused_old_syn`): section 3.5, figure 9, has the ends recover from it.
//! 3. **Forgeries** ([`forged`]): what the receiver discards or challenges moves
//!    nothing.

use tracker_common::{reason::Reason, tcp::State as Proved};

use super::{
    beside::Verdict,
    endpoint::{Endpoint, State},
    segment::{ACK, RST, SYN, Segment, le, lt, mark},
    world::{Notes, Setting, World},
};

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one, and the kind of situation: findings alike are told once.
    pub kind: String,
}

/// What a forged segment did.
#[derive(Clone, Copy, Debug)]
pub struct Forgery {
    /// To whom.
    pub victim: usize,
    /// The segment.
    pub segment: Segment,
    /// The receiver took it: its control block changed.
    pub strikes: bool,
    /// The tracker refused it.
    pub refused: bool,
    /// The end in whose name it was sent has sent the very same before.
    pub identical: bool,
    /// What the tracker said of it.
    pub reason: Reason,
    /// The tracker knows something else after it.
    pub touched: bool,
    /// The tracker's pair before it.
    pub pair: Option<[Proved; 2]>,
}

/// The tracker's name for a state of the model.
pub const fn proved(state: State) -> Proved {
    match state {
        State::Closed => Proved::Closed,
        State::Listen => Proved::Listen,
        State::SynSent => Proved::SynSent,
        State::SynReceived => Proved::SynReceived,
        State::Established => Proved::Established,
        State::FinWait1 => Proved::FinWait1,
        State::FinWait2 => Proved::FinWait2,
        State::CloseWait => Proved::CloseWait,
        State::Closing => Proved::Closing,
        State::LastAck => Proved::LastAck,
        State::TimeWait => Proved::TimeWait,
    }
}

/// Whether the tracker's state of an end is the end's own.
///
/// LISTEN and CLOSED are states of a socket, not of a connection, so where the
/// connection is gone either will do: a flow that is over says CLOSED of an end
/// that has returned to LISTEN, and one that knows nothing of its responder says
/// LISTEN.
fn agrees(pair: Proved, state: State) -> bool {
    if state.is_idle() {
        matches!(pair, Proved::Closed | Proved::Listen)
    } else {
        pair == proved(state)
    }
}

/// Whether the absence of a flow fits an end: there is no connection, or one
/// whose 2MSL have run out on the tracker's clock with its peer's.
fn absent(state: State, waited: bool) -> bool {
    state.is_idle() || (waited && state == State::TimeWait)
}

/// A SYN and nothing else.
fn is_half_open(pair: [Proved; 2]) -> bool {
    pair.contains(&Proved::SynSent) && pair.contains(&Proved::Listen)
}

/// Nothing left.
fn is_over(pair: [Proved; 2]) -> bool {
    pair == [Proved::Closed; 2]
}

/// The pairs after both closes, by who waits.
const ENDED: [[Proved; 2]; 2] = [
    [Proved::TimeWait, Proved::Closed],
    [Proved::Closed, Proved::TimeWait],
];

/// Property 1.
///
/// Listed apart, since it is the nature of these runs that one end does not know
/// of the other, or that an end changed without a segment:
///
/// * `reset_lost`: a segment was lost after the last RST, or that RST itself, and
///   an end is gone. Section 3.5.1: "An established connection is said to be
///   'half-open' if one of the TCP peers has closed or aborted the connection at
///   its end without the knowledge of its peer".
/// * `gave_up`: an end ran into its user time-out and forgot the connection.
/// * `silent`: an end deleted its control block by a call that sends nothing
///   (CLOSE or ABORT in SYN-SENT, ABORT in CLOSING, LAST-ACK and TIME-WAIT).
/// * `closed_unseen`: CLOSE came before the peer's FIN, the own FIN could leave
///   only after it. Section 3.10.4 enters FIN-WAIT-1 "in any case"; on the wire
///   it is the same as CLOSE-WAIT and then LAST-ACK.
/// * `hidden_fin`: both ends closed at once, so one goes through CLOSING to
///   TIME-WAIT; but the FIN that it sent before it took its peer's was lost
///   before the tracker, and the one it repeats is what an end in LAST-ACK sends.
/// * `old_syn`: a SYN of a connection that its sender has left behind opened a
///   flow of one SYN (section 3.5, figure 9), which waits for its time-out.
/// * `misled`: see [`forged`].
/// * `reset_unheard`: a forged copy of an end's FIN has acknowledged the other's
///   FIN, so that one seems to be in CLOSED, and the end aborts. Its RST is then one
///   that nobody takes: "An incoming segment containing a RST is discarded"
///   (section 3.10.7.1), and nothing that either end sends tells that the other had
///   a use for it. Were the FIN true and the RST forged, the segments would be the
///   same, and the states TIME-WAIT and CLOSED. Only that pair may stand for CLOSED
///   and CLOSED.
pub fn at_rest(world: &World, setting: &Setting<'_>, notes: &mut Notes) {
    let states = world.states();
    let pair = world.tracker.pair_at_rest(setting.live);
    let waited = world.budget.time_waits < setting.scenario.budget.time_waits;
    let equal = match pair {
        None => states.iter().all(|&state| absent(state, waited)),
        Some(pair) => pair
            .iter()
            .zip(states)
            .all(|(&pair, state)| agrees(pair, state)),
    };
    let past = &world.past;
    let gone = states.iter().any(|state| state.is_idle());
    if equal {
        notes.apart.push(("equal", None));
    } else if past.lost_since_reset && gone {
        notes.apart.push(("reset_lost", None));
    } else if past.gave_up.contains(&true) {
        notes.apart.push(("gave_up", None));
    } else if past.silent.contains(&true) {
        notes.apart.push(("silent", None));
    } else if world.ends.iter().any(|end| end.closed_unseen) {
        notes.apart.push(("closed_unseen", None));
    } else if world.has_hidden_fin() {
        notes.apart.push(("hidden_fin", None));
    } else if past.old_syn && pair.is_some_and(|pair| is_half_open(pair) || is_over(pair)) {
        notes.apart.push(("old_syn", None));
    } else if past.planted {
        notes.apart.push(("planted", None));
    } else if past.misled {
        notes.apart.push(("misled", None));
    } else if past.last_ack_forged
        && past.reset
        && states == [State::Closed; 2]
        && pair.is_some_and(|pair| ENDED.contains(&pair))
    {
        notes.apart.push(("reset_unheard", None));
    } else {
        notes.findings.push(Finding {
            kind: format!("at rest: tracker {pair:?}, endpoints {states:?}"),
        });
    }
}

/// Property 2, when the tracker refuses a segment of a true end: whether its
/// receiver, as it is at that moment, has any use for it.
pub fn honest_refused(
    world: &World,
    setting: &Setting<'_>,
    end: usize,
    segment: &Segment,
    verdict: Verdict,
    notes: &mut Notes,
) {
    let receiver = end ^ 1;
    let before = world.ends[receiver];
    let mut after = before;
    let mut out = Vec::new();
    after.arrive(segment, setting.manner(receiver), &mut out);
    let reason = verdict.reason.as_str();
    if segment.is_marked(mark::DRAWN) {
        notes.apart.push(("refused_drawn", Some(verdict.reason)));
    } else if world.past.misled {
        notes.apart.push(("refused_misled", Some(verdict.reason)));
    } else if world.past.stray_syn && after != before {
        notes.apart.push(("refused_old_syn", Some(verdict.reason)));
    } else if after != before {
        notes.findings.push(Finding {
            kind: format!(
                "honest segment refused: {reason}, receiver in {:?}",
                before.state
            ),
        });
    } else if out.is_empty() {
        notes.apart.push(("refused_useless", Some(verdict.reason)));
    } else {
        notes.apart.push(("refused_answered", Some(verdict.reason)));
    }
}

/// Property 2, when a refused segment arrives because nothing is enforced: its
/// receiver must not have any use for it.
pub fn refused_arrives(
    world: &World,
    before: &Endpoint,
    after: &Endpoint,
    segment: &Segment,
    notes: &mut Notes,
) {
    if segment.mark & (mark::FORGED | mark::DRAWN) != 0 || world.past.misled || world.past.stray_syn
    {
        return;
    }
    if before != after {
        notes.findings.push(Finding {
            kind: format!(
                "refused segment had a use: flags {:#04x}, receiver {:?} became {:?}",
                segment.flags, before.state, after.state
            ),
        });
    }
}

/// What a forgery leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing of importance.
    None,
    /// The tracker was misled and may stay so.
    Misled,
    /// A flow that the segment opened.
    Planted,
    /// The receiver's FIN was acknowledged, which its peer has not done.
    LastAck,
}

/// Property 3. Says what it leaves behind.
///
/// Listed apart:
///
/// * `forged_idle`: it left no trace; `forged_touched`: it did, which moved no
///   state. What comes of the trace is seen later in the run.
/// * `forged_struck`: the receiver took it. The ends disagree from there, and
///   the run is not followed.
/// * `forged_identical`: the true end has sent the very same, so it is a
///   duplicate to anybody; at the next point of rest all must be equal.
/// * `forged_ahead`: the receiver has acknowledged more than has passed the
///   tracker, which judges by what it saw. It is misled.
/// * `forged_stale`: the receiver is in another state than the tracker can know
///   yet. It is misled.
/// * `forged_in_flight`: an RST with a number that is exact once the data on the
///   way have arrived: the receiver that takes it is silent, like one that has
///   not received it. It is misled.
/// * `forged_exact`: during the handshake, with both next numbers right: an end
///   in SYN-SENT drops what it takes a moment later. It is misled.
/// * `forged_overtaken`: data with an acknowledgement that is too old for RFC 5961
///   section 5.2, but not for RFC 9293. Stacks that do without the former take
///   such data of a true end and acknowledge them, so they count as sent. It is
///   misled.
/// * `forged_crossing`: a SYN-ACK with both ends' numbers right, in the name of
///   the end whose SYN was answered: as in a simultaneous open. At the next point
///   of rest all must be equal.
/// * `forged_reset_in_handshake`: an RST closes a handshake that is not over, and
///   the flow comes back when the ends go on; at the next point of rest all must
///   be equal.
/// * `forged_again`: the true end's FIN with another acknowledgement, as if sent
///   again. It raises a doubt that is over at rest: then all must be equal, but for
///   `reset_unheard`.
/// * `forged_opened`: there was no connection to the tracker's knowledge, and the
///   segment opened a flow. At rest it is listed as `planted`.
/// * `drawn_…`, `refused_drawn`: what a true end answers to a forged segment may
///   carry a number that the forger chose (section 3.10.7.1: <SEQ=SEG.ACK>).
/// * `refused_misled`: a true segment that a misled tracker refuses.
pub fn forged(
    world: &World,
    setting: &Setting<'_>,
    forgery: &Forgery,
    notes: &mut Notes,
) -> Effect {
    let pair = world.tracker.pair(setting.live);
    let victim = &world.ends[forgery.victim];
    if forgery.strikes {
        let class = if forgery.refused {
            "forged_struck_refused"
        } else {
            "forged_struck"
        };
        notes.apart.push((class, Some(forgery.reason)));
        return Effect::None;
    }
    let moved = pair != forgery.pair;
    if !forgery.touched {
        notes.apart.push(("forged_idle", None));
        return Effect::None;
    }
    let known = forgery.pair.map(|pair| pair[forgery.victim]);
    let sender = &world.ends[forgery.victim ^ 1];
    let segment = &forgery.segment;
    let opening = forgery
        .pair
        .is_some_and(|pair| pair.iter().any(|state| state.is_opening()));
    // A SYN where there is no connection, and what is picked up.
    let none = forgery.pair.is_none_or(is_over);
    let opened = matches!(
        forgery.reason,
        Reason::FlowOpened | Reason::FlowReopened | Reason::FlowPickedUp
    );
    if opened || (none && segment.flags & (SYN | ACK) == SYN) {
        notes.apart.push(("forged_opened", Some(forgery.reason)));
        return Effect::Planted;
    }
    if forgery.identical {
        notes.apart.push(("forged_identical", None));
    } else if known != Some(proved(victim.state)) {
        notes.apart.push(("forged_stale", None));
        return Effect::Misled;
    } else if moved && opening && segment.has(RST) {
        notes.apart.push(("forged_reset_in_handshake", None));
    } else if opening
        && segment.has(SYN)
        && segment.seq.wrapping_add(1) == victim.rcv_nxt
        && segment.ack == victim.nxt
    {
        notes.apart.push(("forged_crossing", None));
    } else if opening
        && (segment.seq == sender.iss || segment.seq == sender.nxt)
        && segment.ack == victim.nxt
    {
        notes.apart.push(("forged_exact", None));
        return Effect::Misled;
    } else if forgery.reason == Reason::FinRetransmit {
        notes.apart.push(("forged_again", None));
        if pair.is_some_and(|pair| pair[forgery.victim] == Proved::Closed) {
            return Effect::LastAck;
        }
    } else if moved
        && segment.has(RST)
        && lt(victim.rcv_nxt, segment.seq)
        && le(segment.seq, sender.nxt)
    {
        notes.apart.push(("forged_in_flight", None));
        return Effect::Misled;
    } else if world.shown[forgery.victim] != victim.rcv_nxt {
        notes.apart.push(("forged_ahead", None));
        return Effect::Misled;
    } else if forgery.reason == Reason::AckTooOld && !moved {
        notes.apart.push(("forged_overtaken", None));
        return Effect::Misled;
    } else if !moved {
        notes.apart.push(("forged_touched", Some(forgery.reason)));
    } else {
        notes.findings.push(Finding {
            kind: format!(
                "forged: flags {:#04x}, {:?} became {pair:?}, receiver stays {:?}",
                forgery.segment.flags, forgery.pair, victim.state
            ),
        });
    }
    Effect::None
}
