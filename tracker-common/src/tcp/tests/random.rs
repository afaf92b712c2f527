//! Properties that hold for every sequence of segments.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::conversation::{Conversation, IRS, ISS, LIVE, segment};
use crate::{
    abi::held,
    reason::{Class, Reason},
    tcp::{Bits, Flags, Segment, State, timeout},
};

/// Numbers at and around the edges of what has been sent.
fn number(base: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0_u32..4).prop_map(move |d| base.wrapping_add(d)),
        1 => (0_u32..4).prop_map(move |d| base.wrapping_sub(d)),
        1 => any::<u32>(),
    ]
}

fn any_segment() -> impl Strategy<Value = (bool, Segment, u64)> {
    let flags = prop::sample::select(vec![
        Flags::SYN,
        Flags::SYN | Flags::ACK,
        Flags::ACK,
        Flags::FIN | Flags::ACK,
        Flags::RST,
        Flags::RST | Flags::ACK,
    ]);
    let wait = prop_oneof![9 => Just(0_u64), 1 => 0_u64..200_000];
    (
        any::<bool>(),
        flags,
        number(ISS),
        number(IRS),
        0_u32..3,
        wait,
    )
        .prop_map(|(from_initiator, flags, a, b, payload, wait)| {
            let (seq, ack) = if from_initiator { (a, b) } else { (b, a) };
            (from_initiator, segment(flags, seq, ack, payload), wait)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is refused moves no state and counts to nobody; what moves a state
    /// says so in an event with the next number; reservations are given back
    /// once, and a flow beyond its handshake holds none, unless an RST ended it.
    #[test]
    fn books_balance(script in prop::collection::vec(any_segment(), 1..40)) {
        let mut c = Conversation::new();
        let mut reserved: i32 = 0;
        for (from_initiator, segment, wait) in script {
            c.wait_ms(wait);
            let before = c.flow;
            let reason = if from_initiator { c.initiator(segment) } else { c.responder(segment) };
            let opened = matches!(
                reason,
                Reason::FlowOpened
                    | Reason::FlowReopened
                    | Reason::FlowPickedUp
                    | Reason::FlowRestarted
            );
            let Some(after) = c.flow else { continue };
            if opened {
                // A handshake is open and counted, a pick-up only waits for proof.
                reserved = if reason == Reason::FlowPickedUp { 1 } else { 2 };
                prop_assert_eq!(after.event_seq(), 1);
            } else {
                // That a doubt ends is no event.
                let before = timeout::settled(&before.expect("it was there"), c.now);
                if reason.class() == Class::Refuse {
                    prop_assert_eq!(before.states(), after.states());
                    prop_assert_eq!(before.ends[0].packets(), after.ends[0].packets());
                    prop_assert_eq!(before.ends[1].packets(), after.ends[1].packets());
                    prop_assert_eq!(before.last, after.last);
                }
                let moved = before.states() != after.states();
                prop_assert_eq!(moved, c.outcome.event != 0);
                prop_assert_eq!(after.event_seq(), before.event_seq().wrapping_add(u8::from(moved)));
                reserved -= c.outcome.released.count_ones() as i32;
            }
            let holds = after.flags & held::MASK;
            prop_assert_eq!(holds.count_ones() as i32, reserved);
            let bits: Vec<Bits> = after.bits().to_vec();
            let closed = bits.iter().all(|b| b.is(State::Closed));
            if !closed && !bits.iter().any(|b| b.is_opening()) {
                prop_assert!(!after.has(held::HALF_OPEN));
            }
        }
    }

    /// Without an ACK of the responder's very number nobody gets past the
    /// handshake, whatever is sent.
    #[test]
    fn no_handshake_without_the_number(
        script in prop::collection::vec((any_segment(), any::<u32>()), 1..30)
    ) {
        let mut c = Conversation::new();
        c.initiator(segment(Flags::SYN, ISS, 0, 0));
        c.responder(segment(Flags::SYN | Flags::ACK, IRS, ISS + 1, 0));
        for ((_, mut segment, _), ack) in script {
            prop_assume!(ack != IRS + 1);
            segment.ack.0 = ack;
            if segment.flags.has(Flags::RST) || segment.is_syn() {
                continue;
            }
            c.initiator(segment);
            prop_assert_eq!(c.flow().states(), [State::SynSent, State::SynReceived]);
        }
    }

    /// A flow's time-out is that of its class, and it is absent once it is over.
    #[test]
    fn expiry_is_exact(wait in 0_u64..500_000) {
        let mut c = Conversation::established();
        c.initiator(segment(Flags::FIN | Flags::ACK, ISS + 1, IRS + 1, 0));
        c.wait_ms(wait);
        let expired = timeout::expired(c.flow(), c.now, &LIVE);
        let left = timeout::remaining(c.flow(), c.now, &LIVE);
        prop_assert_eq!(expired, left == 0);
        if wait < 119_900 { prop_assert!(!expired) }
        if wait > 120_100 { prop_assert!(expired) }
    }
}
