//! SYNs that passed on a live flow: the shell looks for them only where asked.

use std::{format, vec::Vec};

use super::conversation::{Conversation, IRS, ISS, LIVE, segment};
use crate::{
    abi::{Flow, Path, PendingSyn, flow_flags},
    tcp::{Context, Flags, Outcome, meet, wants_pending},
    time::Micros,
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const SYN: u8 = Flags::SYN;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = Flags::RST | Flags::ACK;

/// Number of the SYN or SYN-ACK that is pending.
const OTHER: u32 = 70_000;

/// Flows in several states on which a SYN or SYN-ACK has passed.
fn flows() -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut c = Conversation::new();
    c.initiator(segment(SYN, ISS, 0, 0));
    flows.push(*c.flow());
    c.responder(segment(SYN_ACK, IRS, ISS + 1, 0));
    flows.push(*c.flow());
    c.initiator(segment(ACK, ISS + 1, IRS + 1, 0));
    flows.push(*c.flow());
    c.initiator(segment(FIN, ISS + 1, IRS + 1, 0));
    flows.push(*c.flow());
    c.responder(segment(FIN, IRS + 1, ISS + 2, 0));
    flows.push(*c.flow());
    c.initiator(segment(ACK, ISS + 2, IRS + 2, 0));
    flows.push(*c.flow());
    for flow in &mut flows {
        flow.flags |= flow_flags::SYN_ON_LIVE;
    }
    flows
}

/// Whether what is pending makes a difference to this segment.
fn differs(flow: &Flow, flags: u8, seq: u32, ack: u32, sender: usize) -> bool {
    let results = [None, Some(SYN), Some(SYN_ACK)].map(|kind| {
        let pending = kind.map_or_else(PendingSyn::default, |flags| {
            let syn = segment(flags, OTHER, 0, 0);
            PendingSyn::of(&syn, (sender ^ 1) as u8, Micros(5))
        });
        let own = kind == Some(SYN_ACK) && flags & RST != 0;
        let context = Context {
            now: flow.last,
            path: Path::new([2, 3][sender], 0, 0),
            bytes: 40,
            pending: PendingSyn {
                sender: if own { sender as u8 } else { pending.sender },
                ..pending
            },
            ..Context::default()
        };
        let (mut flow, mut outcome) = (*flow, Outcome::default());
        let segment = segment(flags, seq, ack, 0);
        meet(&mut flow, &segment, sender, &context, &LIVE, &mut outcome);
        format!("{flow:?} {outcome:?}")
    });
    results[0] != results[1] || results[0] != results[2]
}

#[test]
fn what_is_pending_makes_no_difference_where_nobody_asks_for_it() {
    let (mut asked, mut different) = (0, 0);
    for flow in flows() {
        for flags in [SYN, SYN_ACK, ACK, FIN, RST, RST_ACK] {
            for seq in [
                0,
                ISS,
                ISS + 1,
                ISS + 2,
                IRS,
                IRS + 1,
                IRS + 2,
                OTHER,
                OTHER + 1,
            ] {
                for ack in [0, ISS + 1, ISS + 2, IRS + 1, IRS + 2, OTHER, OTHER + 1] {
                    for sender in [0, 1] {
                        let wanted = wants_pending(flow.flags, Flags(flags));
                        asked += u32::from(wanted);
                        if differs(&flow, flags, seq, ack, sender) {
                            different += 1;
                            assert!(wanted, "{flags:#x} {seq} {ack} {:?}", flow.states());
                        }
                    }
                }
            }
        }
    }
    assert!(
        different > 100 && asked > different,
        "{different} of {asked}"
    );
}

#[test]
fn all_but_syns_ask_for_what_is_pending() {
    let others = !flow_flags::SYN_ON_LIVE;
    for on_live in [0, others, flow_flags::SYN_ON_LIVE, u16::MAX] {
        let pending = on_live & flow_flags::SYN_ON_LIVE != 0;
        for flags in [SYN_ACK, RST, RST_ACK, ACK, FIN, ACK | Flags::PSH] {
            assert_eq!(wants_pending(on_live, Flags(flags)), pending, "{flags:#x}");
        }
        assert!(!wants_pending(on_live, Flags(SYN)));
    }
}
