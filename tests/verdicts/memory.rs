//! What the programs remember beside the flows: refusals, the steps of a flow,
//! and SYNs that may be answered.

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{Flow, NO_REASON, Refusal, end_flags, held},
    reason::Reason,
    tcp::{
        Flags,
        State::{
            CloseWait as CW, Closed as CL, Established as ES, FinWait1 as F1, FinWait2 as F2,
            LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS, TimeWait as TW,
        },
    },
    time::Tick,
};
use tracker_tests::program::{
    bench::{Bench, Origin},
    frame::Wrapping,
    talk::{A, B, Seg, Talk},
};

use crate::row::{Row, Stage};

/// Checks what is remembered of a refused segment of a flow, and that nothing
/// is remembered of any other.
pub fn refusal(row: &Row, stage: &Stage<'_>, flow: &Flow) -> Result<()> {
    let refusals = stage.bench.loaded.refusals()?;
    let refusal = refusals.get(&flow.id().0).copied();
    let segment = row.segment().filter(|_| row.reason.refuses());
    let Some(segment) = segment else {
        ensure!(refusal.is_none(), "{refusal:?} is remembered");
        return Ok(());
    };
    if is_of_policy(row.reason) {
        // It breaks nothing: what it was is kept by its addresses and ports.
        ensure!(refusal.is_none(), "{refusal:?} is remembered");
        return Ok(());
    }
    let broken = row
        .broken
        .context("the row does not say what its segment breaks")?;
    let frame = stage.talk.frame(segment);
    let fin_or_syn = segment.flags & (Flags::FIN | Flags::SYN);
    let expected = Refusal {
        time: Tick::from_ns(stage.bench.now_ns()),
        reason: row.reason as u8,
        sender: segment.from as u8,
        flags: frame.flags,
        reserved: 0,
        seq: tracker_common::seq::Seq(frame.seq),
        ack: tracker_common::seq::Seq(frame.ack),
        length: u32::from(segment.data) + fin_or_syn.count_ones(),
        bound: broken.bound(&stage.talk),
    };
    ensure!(
        refusal == Some(expected),
        "{refusal:?} is remembered instead of {expected:?}"
    );
    Ok(())
}

/// Whether the policy refuses, and not what is known of a flow.
const fn is_of_policy(reason: Reason) -> bool {
    let number = reason as u8;
    number >= Reason::PolicyDropped as u8 && number <= Reason::RuleSourceFlows as u8
}

/// Plays segments of `A`, who is on the wire, and of this host, one second apart.
fn play<const N: usize>(bench: &mut Bench, talk: &Talk, segments: [(Seg, Reason); N]) {
    for (segment, reason) in segments {
        let origin = if segment.from == A {
            Origin::Wire
        } else {
            Origin::Host
        };
        bench.wait_ms(1000).unwrap();
        bench
            .expect(origin, &talk.frame(segment).bytes(), reason)
            .unwrap_or_else(|error| panic!("{segment:?} of {talk:?}: {error:#}"));
    }
}

fn flow(bench: &Bench, talk: &Talk) -> Flow {
    let flow = bench.flow(talk.wrapping.family, &talk.key()).unwrap();
    flow.expect("a flow")
}

/// Steps as far as a test compares them: seconds since the first of them,
/// reason, states of initiator and responder, and number.
fn steps(bench: &Bench, flow: &Flow) -> Vec<(u64, u8, [tracker_common::tcp::State; 2], u8)> {
    let histories = bench.loaded.histories().unwrap();
    let Some(history) = histories.get(&flow.id().0) else {
        return vec![];
    };
    let steps: Vec<_> = history.in_order(flow.event_seq()).collect();
    let first = steps[0].time;
    let seconds = |time: Tick| {
        // Rounded: a tick is 4 ms.
        (tracker_common::time::ms_from_ticks(time.since(first)) + 500) / 1000
    };
    steps
        .iter()
        .map(|step| {
            let states = step.pair().map(|bits| bits.state());
            (seconds(step.time), step.reason, states, step.seq)
        })
        .collect()
}

#[test]
fn the_steps_of_a_flow_are_kept_once_it_is_past_its_handshake() {
    let mut bench = Bench::new().unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let talk = Talk::new(wrapping, number);
        let tracked = Reason::Tracked;
        play(
            &mut bench,
            &talk,
            [(A.syn(), Reason::FlowOpened), (B.syn_ack(), tracked)],
        );
        let opened = flow(&bench, &talk);
        assert_eq!(steps(&bench, &opened), [], "{wrapping:?}");
        play(
            &mut bench,
            &talk,
            [
                (A.ack(), tracked),
                // Moves nothing, so it is no step.
                (B.ack().data(10), tracked),
                (A.fin().acks(11), tracked),
                (B.ack().seq(11).acks(2), tracked),
            ],
        );
        let half = flow(&bench, &talk);
        let by = tracked as u8;
        let mut expected = vec![
            (0, NO_REASON, [SS, SR], 2),
            (1, by, [ES, ES], 3),
            (3, by, [F1, ES], 4),
            (4, by, [F2, CW], 5),
        ];
        assert_eq!(steps(&bench, &half), expected, "{wrapping:?}");
        play(
            &mut bench,
            &talk,
            [
                (B.fin().seq(11).acks(2), tracked),
                (A.ack().seq(2).acks(12), tracked),
                // The last ACK was lost.
                (B.fin().seq(11).acks(2), Reason::FinRetransmit),
                (A.ack().seq(2).acks(12), tracked),
                (A.rst().seq(2).acks(12), Reason::AfterClose),
            ],
        );
        let over = flow(&bench, &talk);
        // Eight steps are kept.
        expected.extend([
            (5, by, [F2, LA], 6),
            (6, by, [TW, CL], 7),
            (7, Reason::FinRetransmit as u8, [TW, LA], 8),
            (8, by, [TW, CL], 9),
        ]);
        assert_eq!(steps(&bench, &over), expected, "{wrapping:?}");
        play(
            &mut bench,
            &talk,
            [(B.fin().seq(11).acks(2), Reason::FinRetransmit)],
        );
        let again = flow(&bench, &talk);
        expected.remove(0);
        let later = |step: &mut (u64, _, _, _)| step.0 -= 1;
        expected.iter_mut().for_each(later);
        expected.push((9, Reason::FinRetransmit as u8, [TW, LA], 10));
        assert_eq!(steps(&bench, &again), expected, "{wrapping:?}");
    }
    bench.settle().unwrap();
}

/// What of the SYN the table kept is what the new flow begins with.
#[test]
fn a_connection_begins_anew_with_the_syn_that_was_kept() {
    let mut bench = Bench::new().unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        for options in [false, true] {
            let talk = Talk {
                options,
                ..Talk::new(wrapping, number * 2 + u32::from(options))
            };
            play(
                &mut bench,
                &talk,
                [
                    (A.syn(), Reason::FlowOpened),
                    (B.syn_ack(), Reason::Tracked),
                    (A.ack(), Reason::Tracked),
                ],
            );
            let before = flow(&bench, &talk);
            let syn = Seg {
                window: 2222,
                ..A.syn().seq(70_000).data(7).stamp(5_000_000)
            };
            let answer = Seg {
                window: 3333,
                ..B.syn_ack().seq(90_000).acks(70_008)
            };
            play(&mut bench, &talk, [(syn, Reason::SynOnLive)]);
            let live = flow(&bench, &talk);
            assert_eq!(
                (live.generation, live.states()),
                (before.generation, [ES, ES])
            );
            play(&mut bench, &talk, [(answer, Reason::FlowRestarted)]);
            let after = flow(&bench, &talk);
            assert_ne!(after.generation, before.generation);
            assert_eq!(after.states(), [SS, SR]);
            assert!(after.has(held::HALF_OPEN) && !before.has(held::HALF_OPEN));
            let [initiator, responder] = &after.ends;
            let number = |end: usize, relative: u32| talk.isns[end].wrapping_add(relative);
            let place = format!("{wrapping:?} {options}");
            assert_eq!(initiator.isn.0, number(0, 70_000), "{place}");
            assert_eq!(initiator.end.0, number(0, 70_008), "{place}");
            assert_eq!(initiator.max_end.0, number(0, 70_008 + 3333), "{place}");
            assert_eq!(initiator.max_window, 2222, "{place}");
            assert_eq!(initiator.ts, 5_000_000, "{place}");
            // Both offer a scale, or it is not in force.
            let scales = [initiator.scale(), responder.scale()];
            assert_eq!(scales, if options { [7, 7] } else { [0, 0] }, "{place}");
            assert!(initiator.has(end_flags::TIMESTAMPS | end_flags::SACK));
            assert_eq!(responder.isn.0, number(1, 90_000), "{place}");
            assert_eq!(responder.max_end.0, number(1, 90_001 + 2222), "{place}");
            assert_eq!(responder.max_window, 3333, "{place}");
            // The third ACK measures from the SYN, which came two seconds ago.
            let ack = A.ack().seq(70_008).acks(90_001).stamp(5_002_000);
            play(&mut bench, &talk, [(ack, Reason::Tracked)]);
            let open = flow(&bench, &talk);
            assert_eq!(open.states(), [ES, ES], "{place}");
            let rtt = open.handshake_rtt.unpack().expect("a round trip");
            assert!((1_995_000..=2_000_000).contains(&rtt), "{place}: {rtt} µs");
        }
    }
    bench.settle().unwrap();
}

/// A SYN-ACK with another number moves nothing; the third ACK tells which of
/// them the initiator has taken.
#[test]
fn the_third_ack_tells_which_syn_ack_counts() {
    let mut bench = Bench::new().unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        for (second, ack) in [(false, 1), (true, 4445)] {
            let talk = Talk::new(wrapping, number * 2 + u32::from(second));
            play(
                &mut bench,
                &talk,
                [
                    (A.syn(), Reason::FlowOpened),
                    (B.syn_ack(), Reason::Tracked),
                    (B.syn_ack().seq(4444), Reason::SynAckRenewed),
                ],
            );
            let waiting = flow(&bench, &talk);
            assert_eq!(waiting.ends[1].isn.0, talk.isns[1], "{wrapping:?}");
            play(&mut bench, &talk, [(A.ack().acks(ack), Reason::Tracked)]);
            let open = flow(&bench, &talk);
            assert_eq!(open.states(), [ES, ES], "{wrapping:?}");
            let isn = talk.isns[1].wrapping_add(ack - 1);
            assert_eq!(open.ends[1].isn.0, isn, "{wrapping:?}");
        }
    }
}

/// RFC 5927: an ICMP error does not so much as count to the flow.
#[test]
fn an_icmp_error_leaves_its_flow_as_it_is() {
    let mut bench = Bench::new().unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let talk = Talk::new(wrapping, number);
        play(&mut bench, &talk, [(A.syn(), Reason::FlowOpened)]);
        let before = flow(&bench, &talk);
        for kind in 1..=12 {
            bench.wait_ms(1000).unwrap();
            let error = talk.frame(A.syn()).icmp_error(kind, 1000).bytes();
            bench.run(Origin::Host, &error).unwrap();
        }
        let after = flow(&bench, &talk);
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
        assert_eq!(after.states(), [SS, LI]);
    }
}
