//! Segments in fragments.

use tracker_common::reason::Reason;
use tracker_tests::program::talk::{A, B, End, Seg};

use super::{Case, Fate, Packet, Step, inwards, outwards, port};
use crate::packet::Part;

/// Octets of a segment without options and with [`DATA`] octets of data.
const DATA: u16 = 300;
const SEGMENT: usize = 20 + DATA as usize;

const fn part(at: usize, length: usize, more: bool) -> Part {
    Part { at, length, more }
}

/// In two halves.
const HALVES: &[Part] = &[part(0, 160, true), part(160, SEGMENT, false)];
/// The second half first.
const REVERSED: &[Part] = &[part(160, SEGMENT, false), part(0, 160, true)];
/// The second half alone.
const LATER: &[Part] = &[part(160, SEGMENT, false)];
/// The first half alone.
const FIRST: &[Part] = &[part(0, 160, true)];
/// The first one ends inside the TCP header.
const TINY: &[Part] = &[part(0, 16, true), part(16, SEGMENT, false)];
/// What follows a tiny one overlaps the TCP header that should have been whole.
const TINY_FATE: Fate = Fate::Twice([Reason::TinyFragment, Reason::OverlappingFragment]);
/// The second one overlaps the TCP header.
const OVERLAPPING: &[Part] = &[part(0, 160, true), part(8, SEGMENT, false)];
/// The second one overlaps the data of the first one.
const OVERLAPPING_DATA: &[Part] = &[part(0, 160, true), part(80, SEGMENT, false)];

fn in_parts(segment: Seg, parts: &'static [Part], fate: Fate) -> Step {
    Step {
        from: segment.from,
        packet: Packet::Fragments(segment, parts),
        fate,
    }
}

fn sender(from: End) -> Seg {
    match from {
        A => A.ack(),
        B => B.ack(),
    }
}

pub fn cases() -> Vec<Case> {
    let data = |from| sender(from).data(DATA);
    let both = |parts, fate| {
        [
            in_parts(data(A), parts, fate),
            in_parts(data(B), parts, fate),
        ]
    };
    let syn = A.syn().data(DATA);
    vec![
        inwards("data in fragments", port::WEB, both(HALVES, Fate::Arrives)).established(),
        outwards(
            "data in fragments, from inside",
            port::OTHER,
            both(HALVES, Fate::Arrives),
        )
        .established(),
        inwards(
            "data in fragments, the last one first",
            port::WEB,
            both(REVERSED, Fate::Arrives),
        )
        .established(),
        inwards(
            "a first fragment alone",
            port::WEB,
            both(FIRST, Fate::Useless),
        )
        .established(),
        inwards(
            "a later fragment alone",
            port::WEB,
            both(LATER, Fate::Useless),
        )
        .established(),
        inwards(
            "a later fragment of no connection",
            port::OTHER,
            [in_parts(data(A), LATER, Fate::Useless)],
        ),
        inwards(
            "an allowed SYN in fragments",
            port::WEB,
            [in_parts(syn, HALVES, Fate::Arrives)],
        ),
        inwards(
            "a forbidden SYN in fragments",
            port::OTHER,
            [in_parts(syn, HALVES, Fate::Denied("default"))],
        ),
        outwards(
            "a forbidden SYN in fragments, from inside",
            port::MAIL,
            [in_parts(syn, HALVES, Fate::Denied("no-mail"))],
        ),
        inwards(
            "stray data in fragments",
            port::WEB,
            [in_parts(data(A), HALVES, Fate::Refused(Reason::StrayAck))],
        ),
        inwards(
            "an allowed SYN in tiny fragments",
            port::WEB,
            [in_parts(syn, TINY, TINY_FATE)],
        ),
        inwards(
            "a forbidden SYN in tiny fragments",
            port::OTHER,
            [in_parts(syn, TINY, TINY_FATE)],
        ),
        inwards(
            "data in tiny fragments",
            port::WEB,
            [in_parts(data(A), TINY, TINY_FATE)],
        )
        .established(),
        inwards(
            "a fragment that overlaps the TCP header",
            port::WEB,
            [in_parts(
                data(A),
                OVERLAPPING,
                Fate::Refused(Reason::OverlappingFragment),
            )],
        )
        .established(),
        inwards(
            "a forbidden SYN with a fragment that overlaps its header",
            port::OTHER,
            [in_parts(
                syn,
                OVERLAPPING,
                Fate::Twice([Reason::OverlappingFragment, Reason::PolicyDropped]),
            )],
        ),
        inwards(
            "a fragment that overlaps data",
            port::WEB,
            [in_parts(data(A), OVERLAPPING_DATA, Fate::Useless)],
        )
        .established(),
    ]
}
