//! Answers what the policy rejects: the packet becomes its own answer.

use tracker_common::{
    abi::Rate,
    policy::{QUOTE, Rejection, conforms, prohibited, quoted, reset},
};

use crate::{
    cookie,
    frame::{Egress, Ingress, Writable},
    scratch::Scratch,
};

/// ICMP errors by CPU: a thousand a second, fifty at once, as Linux sends in all
/// (`net.ipv4.icmp_msgs_per_sec`, `icmp_msgs_burst`).
const ERRORS: Rate = Rate {
    interval_ns: 1_000_000,
    tolerance_ns: 49_000_000,
};

/// Writes the answer over the packet in `scratch`, whose frame came in.
#[inline(always)]
pub fn at_ingress(frame: &Ingress<'_>, scratch: &mut Scratch, rejection: Rejection) -> bool {
    scratch.local == 0
        && !cookie::is_from_nobody(&scratch.packet)
        && answer(frame, scratch, rejection)
}

/// The same of one that this host sends, and takes back.
#[inline(always)]
pub fn at_egress(frame: &Egress<'_>, scratch: &mut Scratch, rejection: Rejection) -> bool {
    scratch.local != 0 && answer(frame, scratch, rejection)
}

#[inline(always)]
fn answer(frame: &impl Writable, scratch: &mut Scratch, rejection: Rejection) -> bool {
    let Scratch {
        packet,
        reply,
        event,
        error_due_ns,
        ..
    } = scratch;
    match rejection {
        Rejection::Reset => reset(packet, reply),
        Rejection::Prohibited => {
            let length = quoted(packet);
            let Some(due) = conforms(*error_due_ns, event.time_ns, &ERRORS) else {
                return false;
            };
            if length == 0 || !frame.copy(packet.network, length, &mut reply.quote) {
                return false;
            }
            *error_due_ns = due;
            prohibited(packet, reply);
        }
    }
    frame.turn_back()
        && frame.resize(packet.network.wrapping_add(reply.length))
        && frame.write(packet.network, &reply.words, reply.length)
}

const _: () = assert!(QUOTE == 64);
