//! Connections that userspace knows of: their states are told, their numbers come
//! with the first segment.

use super::{Bits, Flags, Options, Segment, State, open::MAX_SCALE, open::at_least_one};
use crate::{
    abi::{Flow, Seed, end_flags, flow_flags},
    time::Tick,
};

/// States in which an endpoint has sent a FIN (RFC 9293 section 3.3.2).
const CLOSING: [State; 5] = [
    State::FinWait1,
    State::FinWait2,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

/// Fills a blank element with the connection that `seed` tells of, under the policy of
/// generation `policy`; it becomes owner of `tag` and `generation`.
#[inline(always)]
pub fn plant(flow: &mut Flow, seed: &Seed, tag: u32, generation: u32, now: Tick, policy: u16) {
    flow.tag = tag;
    flow.generation = generation;
    flow.first = now;
    flow.last = now;
    flow.judged(policy, 0);
    flow.flags = flow_flags::LIBERAL
        | (seed.origin as u16) << flow_flags::ORIGIN_SHIFT & flow_flags::ORIGIN_MASK;
    if seed.initiator_high != 0 {
        flow.flags |= flow_flags::INITIATOR_HIGH;
    }
    if seed.guessed != 0 {
        flow.flags |= flow_flags::GUESSED;
    }
    flow.paths = seed.paths;
    for (end, state) in flow.ends.iter_mut().zip(seed.states) {
        let state = Bits::of(state & 0x0f);
        end.set_bits(state);
        end.flags = end_flags::SPOKE;
        if state.among(Bits::set(&CLOSING)) {
            end.flags |= end_flags::FIN;
        }
    }
}

/// Whether the states of `seed` are states.
#[inline(always)]
#[must_use]
pub const fn is_sound(seed: &Seed) -> bool {
    let [initiator, responder] = seed.states;
    (initiator as usize) < State::COUNT && (responder as usize) < State::COUNT
}

/// Takes the numbers of both ends from the first segment that is seen of such a
/// connection. An RST or a SYN has none that could be trusted: whoever sends one
/// need not know the connection.
#[inline(always)]
pub fn read(flow: &mut Flow, me: usize, peer: usize, segment: &Segment) {
    let told = segment.flags.0 & (Flags::SYN | Flags::RST | Flags::ACK) == Flags::ACK;
    if !(flow.is_unread() && told) {
        return;
    }
    // The scale of neither window is known: it is taken for the largest.
    let end = &mut flow.ends[me];
    end.isn = segment.seq;
    end.end = segment.seq;
    end.ack = segment.ack;
    end.max_window = at_least_one(segment.window);
    end.max_end = segment.seq.plus((u16::MAX as u32) << MAX_SCALE);
    end.set_scale(MAX_SCALE);
    end.flags |= segment.options.present & Options::TIMESTAMPS;
    end.ts = segment.options.ts_value;
    let end = &mut flow.ends[peer];
    end.isn = segment.ack;
    end.end = segment.ack;
    end.ack = segment.seq;
    end.max_window = 1;
    end.max_end = segment.ack.plus((segment.window as u32) << MAX_SCALE);
    end.set_scale(MAX_SCALE);
}

const _: () = assert!(end_flags::TIMESTAMPS == Options::TIMESTAMPS);
