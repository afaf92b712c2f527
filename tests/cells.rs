//! Every cell of the state table, reached through the loaded program by real
//! segments.
//!
//! From the empty table on, each endpoint sends each kind of segment in every
//! situation that such segments lead to (breadth first, so by a shortest way);
//! a situation is what the program itself says of the flow. What must become of
//! both endpoints is written out here by hand from RFC 9293 and compared with
//! the program's answer and with the brain's table.

use std::collections::{BTreeSet, HashSet, VecDeque};

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{Flow, end_flags},
    tcp::{
        Flags, Move, Received, Sent, State,
        State::{
            CloseWait as CW, Closed as CL, Closing as CG, Established as ES, FinWait1 as F1,
            FinWait2 as F2, LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS,
            TimeWait as TW,
        },
        on_arrival, on_sending,
    },
};
use tracker_tests::program::{
    bench::{Bench, Origin},
    frame::{Frame, Wrapping},
    talk::{A, B, End, Talk},
};

/// What RFC 9293 makes of an endpoint that sends. `None`: an endpoint in this
/// state does not send that.
///
/// A state taken on sight (SYN_RECEIVED → ESTABLISHED, FIN_WAIT_1 → FIN_WAIT_2,
/// CLOSING → TIME_WAIT, LAST_ACK → CLOSED) is taken back by a segment that
/// proves the endpoint to be in the one before.
#[rustfmt::skip]
const SENDS: [(State, [Option<State>; 7]); 11] = [
    // A SYN, a SYN-ACK, an ACK, an ACK of the FIN, a FIN, both, an RST.
    (CL, [None,     None,     None,     None,     None,     Some(LA), Some(CL)]),
    // CLOSED still repeats its FIN: LAST-ACK it is (3.10.7.4 eighth).
    (LI, [Some(SS), Some(SR), None,     None,     None,     None,     Some(CL)]),
    // Active open from LISTEN (3.10.1); SYN arrives (3.10.7.2 third).
    (SS, [Some(SS), Some(SR), Some(ES), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // 3.10.7.3 fourth; CLOSE in ESTABLISHED (3.10.4) before any segment was seen.
    (SR, [None,     Some(SR), Some(SR), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // CLOSE in SYN-RECEIVED (3.10.4).
    (ES, [None,     Some(SR), Some(ES), Some(CW), Some(F1), Some(LA), Some(CL)]),
    // FIN arrives (3.10.7.4 eighth), CLOSE (3.10.4).
    (F1, [None,     None,     Some(F1), Some(CG), Some(F1), Some(CG), Some(CL)]),
    // FIN arrives before the ACK of its own (3.10.7.4 eighth: CLOSING).
    (F2, [None,     None,     Some(F2), Some(TW), Some(F1), Some(CG), Some(CL)]),
    // FIN arrives (3.10.7.4 eighth: TIME-WAIT).
    (CW, [None,     None,     Some(CW), Some(CW), Some(LA), Some(LA), Some(CL)]),
    // CLOSE in CLOSE-WAIT (3.10.4: LAST-ACK).
    (CG, [None,     None,     Some(CG), Some(CG), Some(CG), Some(CG), Some(CL)]),
    (LA, [None,     None,     Some(LA), Some(LA), Some(LA), Some(LA), Some(CL)]),
    (TW, [None,     None,     Some(TW), Some(TW), Some(TW), Some(CG), Some(CL)]),
    // TIME-WAIT acknowledges a FIN that comes again (3.10.7.4 eighth).
];

/// What RFC 9293 makes of an endpoint to which something arrives, as far as it
/// says nothing about it: an ACK of its SYN, an ACK of its FIN, an RST.
#[rustfmt::skip]
const TAKES: [(State, [State; 3]); 11] = [
    (CL, [CL, CL, CL]),
    (LI, [LI, LI, CL]),
    (SS, [SS, SS, CL]),
    (SR, [ES, ES, CL]), // 3.10.7.4 fifth: "enter ESTABLISHED state"
    (ES, [ES, ES, CL]),
    (F1, [F1, F2, CL]), // 3.10.7.4 fifth: "enter FIN-WAIT-2"
    (F2, [F2, F2, CL]),
    (CW, [CW, CW, CL]),
    (CG, [CG, TW, CL]), // 3.10.7.4 fifth: "enter the TIME-WAIT state"
    (LA, [LA, CL, CL]), // 3.10.7.4 fifth: "enter the CLOSED state"
    (TW, [TW, TW, CL]),
];

/// Why no segments lead to a cell of [`SENDS`] for this end, where none do.
fn never_sends(state: State, sent: Sent, from: End) -> Option<&'static str> {
    match (from, state, sent) {
        (A, LI, _) => Some("whoever opens a flow has sent its SYN"),
        (B, LI, Sent::AckOfFin | Sent::FinAckOfFin) => {
            Some("nobody has closed before the responder has said anything")
        }
        _ => None,
    }
}

/// The same for [`TAKES`].
fn never_takes(state: State, received: Received) -> Option<&'static str> {
    match (state, received) {
        (LI, Received::AckOfSyn | Received::AckOfFin) => {
            Some("nobody can acknowledge a SYN that was not sent")
        }
        (SS | SR | ES | CW, Received::AckOfFin) => {
            Some("an endpoint that has sent a FIN has left this state")
        }
        _ => None,
    }
}

fn sends(state: State, sent: Sent) -> Option<State> {
    let (of, row) = SENDS[state as usize];
    assert_eq!(of, state);
    row[sent as usize]
}

fn takes(state: State, received: Received) -> State {
    let (of, row) = TAKES[state as usize];
    assert_eq!(of, state);
    row[received as usize]
}

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

/// A flow as far as it matters for what may follow, per end: state, whether it
/// has sent a FIN, whether anything, and whether anything but SYNs.
type Situation = [(State, bool, bool, bool); 2];

fn situation(flow: &Flow) -> Situation {
    flow.ends.map(|end| {
        (
            end.state(),
            end.has(end_flags::FIN),
            end.has(end_flags::SEEN),
            end.has(end_flags::SPOKE),
        )
    })
}

/// One step: which end sends what.
type Step = (End, Sent);

/// The segment of a step, in a flow or as the first of all. `None` where there
/// is no FIN to acknowledge.
fn segment(talk: &Talk, flow: Option<&Flow>, (from, sent): Step) -> Option<Frame> {
    let (me, peer) = (from as usize, from.peer() as usize);
    let mut frame = talk.frame(from.syn());
    let Some(flow) = flow else { return Some(frame) };
    let fin = |end: usize| u32::from(flow.ends[end].has(end_flags::FIN));
    let seen = |end: usize| flow.ends[end].has(end_flags::SEEN);
    // Of an end that has said nothing yet the flow knows no numbers.
    let isn = |end: usize| {
        if seen(end) {
            flow.ends[end].isn.0
        } else {
            talk.isns[end]
        }
    };
    let end = |end: usize| {
        if seen(end) {
            flow.ends[end].end.0
        } else {
            isn(end).wrapping_add(1)
        }
    };
    let without_fin = |index: usize| end(index).wrapping_sub(fin(index));
    let acks_fin = matches!(sent, Sent::AckOfFin | Sent::FinAckOfFin);
    if acks_fin && fin(peer) == 0 {
        return None;
    }
    let (flags, seq, ack) = match sent {
        Sent::Syn => (Flags::SYN, isn(me), 0),
        Sent::SynAck => (Flags::SYN | Flags::ACK, isn(me), isn(peer).wrapping_add(1)),
        Sent::Ack => (Flags::ACK, end(me), without_fin(peer)),
        Sent::AckOfFin => (Flags::ACK, end(me), end(peer)),
        Sent::Fin => (Flags::FIN | Flags::ACK, without_fin(me), without_fin(peer)),
        Sent::FinAckOfFin => (Flags::FIN | Flags::ACK, without_fin(me), end(peer)),
        Sent::Reset => (Flags::RST | Flags::ACK, end(me), end(peer)),
    };
    (frame.flags, frame.seq, frame.ack) = (flags, seq, ack);
    Some(frame)
}

/// What a step must come to, and the cells that say so.
struct Expected {
    states: [State; 2],
    /// The flow is another one afterwards.
    reopened: bool,
    sent: Option<(State, Sent)>,
    received: Option<(State, Received)>,
}

fn expected(situation: Situation, (from, sent): Step) -> Expected {
    let (me, peer) = (from as usize, from.peer() as usize);
    let (mine, _, _, talked) = situation[me];
    let (theirs, _, peer_seen, _) = situation[peer];
    let states = [situation[0].0, situation[1].0];
    let unmoved = Expected {
        states,
        reopened: false,
        sent: None,
        received: None,
    };
    let asked = Expected {
        sent: Some((mine, sent)),
        ..unmoved
    };
    let handshake_unseen = mine == SS && !peer_seen;
    let acks = match sent {
        // A closed flow's SYN opens a new one (3.10.7.1); this one, with its
        // old number, not in TIME-WAIT (RFC 6191).
        Sent::Syn if states == [CL, CL] => {
            return Expected {
                states: [SS, LI],
                reopened: true,
                ..unmoved
            };
        }
        Sent::Syn => None,
        // Nothing else comes from a flow that is over.
        _ if states == [CL, CL] => return unmoved,
        // Without a SYN of the peer there is nothing to acknowledge.
        Sent::SynAck | Sent::Ack | Sent::Fin if handshake_unseen => return unmoved,
        // An endpoint that has talked since its SYN-ACK has seen its ACK.
        Sent::SynAck if mine == ES && talked => return unmoved,
        Sent::SynAck | Sent::Ack | Sent::Fin => Some(Received::AckOfSyn),
        Sent::AckOfFin | Sent::FinAckOfFin => Some(Received::AckOfFin),
        Sent::Reset => Some(Received::Reset),
    };
    let Some(next) = sends(mine, sent) else {
        return asked;
    };
    let mut states = states;
    states[me] = next;
    if let Some(received) = acks {
        states[peer] = takes(theirs, received);
    }
    Expected {
        states,
        received: acks.map(|received| (theirs, received)),
        ..asked
    }
}

/// What an exploration has come through.
#[derive(Default)]
struct Found {
    sent: BTreeSet<(u8, u8, u8)>,
    received: BTreeSet<(u8, u8)>,
    situations: usize,
    steps: usize,
}

/// Plays a talk up to a situation, and gives the flow then.
fn play(bench: &Bench, talk: &Talk, origin: Origin, path: &[Step]) -> Result<Option<Flow>> {
    let (family, key) = (talk.wrapping.family, talk.key());
    let mut flow = None;
    for &step in path {
        let frame = segment(talk, flow.as_ref(), step).context("a FIN to acknowledge")?;
        let from = if step.0 == A {
            origin
        } else {
            origin.opposite()
        };
        bench.run(from, &frame.bytes())?;
        flow = bench.flow(family, &key)?;
    }
    Ok(flow)
}

fn explore(bench: &Bench, wrapping: Wrapping, origin: Origin, talks: &mut u32) -> Result<Found> {
    let mut found = Found::default();
    let mut known = HashSet::new();
    let mut ahead = VecDeque::from([vec![(A, Sent::Syn)]]);
    while let Some(path) = ahead.pop_front() {
        found.situations += 1;
        for from in [A, B] {
            for sent in Sent::ALL {
                let step = (from, sent);
                *talks += 1;
                let talk = Talk::new(wrapping, *talks);
                let before = play(bench, &talk, origin, &path)?.context("no flow")?;
                let Some(frame) = segment(&talk, Some(&before), step) else {
                    continue;
                };
                let expected = expected(situation(&before), step);
                let origin = if from == A { origin } else { origin.opposite() };
                bench.run(origin, &frame.bytes())?;
                let after = bench
                    .flow(wrapping.family, &talk.key())?
                    .context("no flow")?;
                ensure!(
                    after.states() == expected.states,
                    "{step:?} after {path:?} makes of {before:?} the states {:?} instead of {:?}",
                    after.states(),
                    expected.states
                );
                ensure!(expected.reopened == (after.generation != before.generation));
                found.steps += 1;
                if let Some((state, sent)) = expected.sent {
                    found.sent.insert((state as u8, sent as u8, from as u8));
                }
                if let Some((state, received)) = expected.received {
                    found.received.insert((state as u8, received as u8));
                }
                if !expected.reopened && known.insert(situation(&after)) {
                    ahead.push_back([path.clone(), vec![step]].concat());
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn every_cell_in_every_wrapping() {
    let bench = Bench::new().unwrap();
    let mut talks = 0;
    let mut sizes = HashSet::new();
    for wrapping in Wrapping::ALL {
        for origin in [Origin::Wire, Origin::Host] {
            let place = format!("{wrapping:?} from {origin:?}");
            let found = explore(&bench, wrapping, origin, &mut talks)
                .unwrap_or_else(|error| panic!("{place}: {error:#}"));
            sizes.insert((found.situations, found.steps));
            for state in State::ALL {
                for (sent, from) in Sent::ALL
                    .into_iter()
                    .flat_map(|sent| [(sent, A), (sent, B)])
                {
                    let reached = found.sent.contains(&(state as u8, sent as u8, from as u8));
                    let excuse = never_sends(state, sent, from);
                    assert_eq!(
                        reached,
                        excuse.is_none(),
                        "{place}: {from:?} {state:?} {sent:?}"
                    );
                }
                for received in Received::ALL {
                    let reached = found.received.contains(&(state as u8, received as u8));
                    let excuse = never_takes(state, received);
                    assert_eq!(reached, excuse.is_none(), "{place}: {state:?} {received:?}");
                }
            }
        }
    }
    // What a flow may come to does not depend on what it travels in.
    assert_eq!(sizes.len(), 1, "situations and steps: {sizes:?}");
    println!("situations and steps in each wrapping: {sizes:?}");
}
