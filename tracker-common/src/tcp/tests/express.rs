//! The short way beside the whole one.

use proptest::prelude::*;

use super::conversation::{Conversation, IRS, ISS, LIVE, both_ways, segment};
use crate::{
    abi::{Flow, Live, end_flags, flow_flags, switches},
    reason::Reason,
    seq::Seq,
    tcp::{Context, Flags, Options, Outcome, Segment, State},
    time::Tick,
};

/// Small distances from where the conversation stands, both ways, and any.
fn near() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (0_u32..8).prop_map(|d| d.wrapping_sub(3)),
        2 => (0_u32..70_000).prop_map(|d| d.wrapping_sub(2000)),
        1 => any::<u32>(),
    ]
}

/// A bit of `mask`, rarely.
fn spoiled(mask: u16) -> impl Strategy<Value = u16> {
    let bit = (0_u32..16).prop_map(move |bit| (1 << bit) & mask);
    prop_oneof![12 => Just(0_u16), 1 => bit]
}

/// An established flow, somewhat spoiled.
fn flow() -> impl Strategy<Value = Flow> {
    let established = Just(State::Established);
    let state = prop_oneof![14 => established, 1 => prop::sample::select(&State::ALL[..])];
    (
        [state.clone(), state],
        [near(), near(), near(), near()],
        spoiled(u16::MAX),
        [spoiled(0x00ff), spoiled(0x00ff)],
        spoiled(0x00ff),
        any::<[bool; 2]>(),
        0_u8..15,
    )
        .prop_map(|(states, edges, flags, of_ends, tally, stamped, scale)| {
            let mut c = Conversation::established();
            let flow = c.flow.as_mut().unwrap();
            for (index, end) in flow.ends.iter_mut().enumerate() {
                end.set_state(states[index]);
                end.set_scale(scale);
                end.end = end.end.plus(edges[index] % 5000);
                end.max_end = end.max_end.plus(edges[index + 2]);
                end.flags ^= of_ends[index] as u8;
                end.ts = 1_000_000;
                if stamped[index] {
                    end.flags |= end_flags::TIMESTAMPS;
                }
            }
            flow.flags ^= flags;
            for _ in 0..tally & 3 {
                flow.doubt(usize::from(tally & 1));
            }
            *flow
        })
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let plain = prop::sample::select(&[Flags::ACK, Flags::ACK | Flags::PSH][..]);
    let flags = prop_oneof![9 => plain, 1 => any::<u8>()];
    let payload = prop::sample::select(&[0_u32, 1, 100, 1460, 70_000][..]);
    let stamp = prop_oneof![6 => 0_u32..3, 1 => any::<u32>()];
    let numbers = (near(), near(), payload, any::<u16>());
    (flags, numbers, any::<bool>(), stamp, spoiled(1)).prop_map(
        |(flags, (seq, ack, payload, window), stamped, stamp, fragmented)| Segment {
            window,
            fragmented: fragmented as u8,
            options: Options {
                present: if stamped { Options::TIMESTAMPS } else { 0 },
                ts_value: 1_000_000_u32.wrapping_add(stamp).wrapping_sub(1),
                ..Options::default()
            },
            ..segment(flags, seq, ack, payload)
        },
    )
}

fn configuration() -> impl Strategy<Value = Live> {
    let scale = prop::sample::select(&[1024_u32, 1024, 1024, 512, 1, 0][..]);
    let switch = prop_oneof![9 => Just(0), 1 => 0..8_u8];
    (scale, switch).prop_map(|(timeout_scale, switches)| Live {
        timeout_scale,
        switches,
        ..LIVE
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60_000))]

    #[test]
    fn the_short_way_says_what_the_whole_way_says(
        flow in flow(),
        segment in any_segment(),
        live in configuration(),
        sender in 0_usize..2,
        waited in prop_oneof![8 => 0_u32..100, 1 => any::<u32>()],
    ) {
        let [from, to] = if sender == 0 { [ISS + 1, IRS + 1] } else { [IRS + 1, ISS + 1] };
        let segment = Segment {
            seq: segment.seq.plus(from),
            ack: segment.ack.plus(to),
            ..segment
        };
        let context = Context { now: Tick(flow.last.0.wrapping_add(waited)), bytes: 100, ..Context::default() };
        let mut flow = flow;
        both_ways(&mut flow, &segment, sender, &context, &live, &mut Outcome::default());
    }
}

/// What every connection sends most takes it, and what asks for a look does not.
#[test]
fn ordinary_segments_take_the_short_way() {
    let mut c = Conversation::established();
    let before = c.passed;
    for turn in 0..10 {
        let [seq, ack] = [ISS + 1 + 100 * turn, IRS + 1 + 10 * turn];
        assert_eq!(
            c.initiator(segment(Flags::ACK, seq, ack, 100)),
            Reason::Tracked
        );
        assert_eq!(
            c.responder(segment(Flags::ACK, ack, seq + 100, 10)),
            Reason::Tracked
        );
    }
    assert_eq!(c.passed - before, 20);
    let before = c.passed;
    c.flow.as_mut().unwrap().flags |= flow_flags::LIBERAL;
    c.initiator(segment(Flags::ACK, ISS + 1001, IRS + 101, 1));
    c.flow.as_mut().unwrap().flags &= !flow_flags::LIBERAL;
    c.responder(segment(Flags::ACK | Flags::FIN, IRS + 101, ISS + 1002, 0));
    assert_eq!(c.passed, before);
}

/// A switch that exempts all flows from checks has no say in what passes them.
#[test]
fn switches_do_not_matter_to_what_is_in_order() {
    for switches in [0, switches::LIBERAL, switches::STRICT_2MSL] {
        let mut c = Conversation::established();
        c.live.switches = switches;
        let before = c.passed;
        c.initiator(segment(Flags::ACK, ISS + 1, IRS + 1, 10));
        assert_eq!(
            (c.passed - before, c.flow().ends[0].end),
            (1, Seq(ISS + 11))
        );
    }
}
