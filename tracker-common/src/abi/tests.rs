//! Numbers, words and packed fields that both sides of the ABI rely on.

use std::{collections::HashSet, fmt::Debug, format, string::String, vec::Vec};

use super::{
    Cause, Endpoint, EventKind, Family, Flow, FlowId, Hook, Key, Origin, Path, Side, Zone,
    end_flags, flow_flags, held, reason_slot,
};
use crate::{
    reason::{self, Reason},
    tcp::{
        Options, State,
        timeout::{self, Profile},
    },
};

/// The name of a variant as the command line writes it.
fn snake(variant: &impl Debug) -> String {
    let mut word = String::new();
    for letter in format!("{variant:?}").chars() {
        if (letter.is_ascii_uppercase() || letter.is_ascii_digit()) && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

#[test]
fn words_are_names() {
    for cause in (0..=255).filter_map(Cause::from_raw) {
        assert_eq!(cause.as_str(), snake(&cause));
    }
    for origin in (0..5).map(Origin::from_raw) {
        assert_eq!(origin.as_str(), snake(&origin));
    }
    for class in timeout::Class::ALL {
        assert_eq!(class.as_str(), snake(&class));
    }
    for profile in Profile::ALL {
        assert_eq!(profile.as_str(), snake(&profile));
    }
    for state in State::ALL {
        assert_eq!(state.rfc_name(), snake(&state).to_uppercase());
    }
    use reason::Class::{Accept, Note, Refuse};
    for class in [Accept, Note, Refuse] {
        assert_eq!(class.as_str(), snake(&class));
    }
}

/// The names in netstat(8), section "State".
#[test]
fn states_have_the_names_of_netstat() {
    let names: Vec<&str> = State::ALL
        .iter()
        .map(|state| state.netstat_name())
        .collect();
    let expected = "CLOSE LISTEN SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE_WAIT \
                    CLOSING LAST_ACK TIME_WAIT";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn three_states_are_of_the_handshake() {
    let opening: Vec<State> = State::ALL.into_iter().filter(|s| s.is_opening()).collect();
    assert_eq!(opening, [State::Listen, State::SynSent, State::SynReceived]);
}

#[test]
fn numbers_name_what_they_are_the_numbers_of() {
    let causes: Vec<u8> = (0..=255)
        .filter_map(|raw| Cause::from_raw(raw).map(|cause| (raw, cause as u8)))
        .map(|(raw, number)| {
            assert_eq!(raw, number);
            raw
        })
        .collect();
    assert_eq!(causes, [1, 2, 3, 4, 5, 6]);
    let kinds: Vec<u8> = (0..=255)
        .filter(|&raw| EventKind::from_raw(raw).is_some_and(|kind| kind as u8 == raw))
        .collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5]);
    let families: Vec<u8> = (0..=255)
        .filter(|&raw| Family::from_raw(raw).is_some_and(|family| family as u8 == raw))
        .collect();
    assert_eq!(families, [4, 6]);
    assert_eq!(Side::from_raw(0), Side::Low);
    for raw in 1..=255 {
        assert_eq!(Side::from_raw(raw), Side::High);
    }
    assert_eq!(
        (Side::Low.other(), Side::High.other()),
        (Side::High, Side::Low)
    );
}

#[test]
fn every_reason_has_a_slot_for_each_hook() {
    let mut slots = HashSet::new();
    for &reason in Reason::ALL {
        for hook in [Hook::Ingress, Hook::Egress] {
            let slot = reason_slot(reason, hook);
            assert!(slot < 2 * Reason::SLOTS);
            assert!(slots.insert(slot), "{reason:?} {hook:?}");
        }
    }
}

#[test]
fn the_bits_of_a_flow_are_sixteen() {
    let bits = [
        held::HALF_OPEN,
        held::PICKUP,
        held::COUNTED,
        held::SHARED,
        held::RULE,
        held::RULE_SOURCE,
        flow_flags::INITIATOR_HIGH,
        flow_flags::GUESSED,
        flow_flags::LIBERAL,
        flow_flags::SYN_ON_LIVE,
        flow_flags::RST_INEXACT,
        flow_flags::RST_INEXACT << 1,
        flow_flags::ORIGIN_MASK,
        flow_flags::FAST_TIMESTAMPS,
    ];
    assert_eq!(bits.iter().fold(0, |all, bit| all | bit), u16::MAX);
    assert_eq!(bits.iter().map(|bit| bit.count_ones()).sum::<u32>(), 16);
    assert_eq!(bits[..6].iter().sum::<u16>(), held::MASK);
    let bits = [
        end_flags::FIN,
        end_flags::SCALE,
        end_flags::SACK,
        end_flags::TIMESTAMPS,
        end_flags::SEEN,
        end_flags::SPOKE,
        end_flags::RUN_MAX << end_flags::RUN_SHIFT,
    ];
    assert_eq!(bits.iter().map(|&bit| u16::from(bit)).sum::<u16>(), 0xff);
    assert_eq!(bits.iter().map(|bit| bit.count_ones()).sum::<u32>(), 8);
}

#[test]
fn switches_and_interface_flags_are_bits_of_their_own() {
    use super::{interface_flags as i, switches as s};
    assert_eq!([s::LIBERAL, s::DROP_SYN_DATA, s::STRICT_2MSL], [1, 2, 4]);
    assert_eq!([i::INGRESS, i::STRIPS_TAGS, i::CHECKSUM], [1, 2, 4]);
    let options = [
        Options::MSS,
        Options::SCALE,
        Options::SACK_PERMITTED,
        Options::TIMESTAMPS,
        Options::SACK,
        Options::BROKEN,
    ];
    assert_eq!(options, [1, 2, 4, 8, 16, 32]);
}

#[test]
fn paths_differ_in_any_of_their_parts() {
    let path = Path::new(3, 20, 30);
    assert_eq!((path.outer(), path.inner()), (20, 30));
    for other in [
        Path::new(2, 20, 30),
        Path::new(3, 21, 30),
        Path::new(3, 20, 31),
        // Two that differ by the same bits.
        Path::new(3, 21, 31),
        Path::new(2, 21, 30),
        Path::new(2, 20, 31),
        Path::new(3 | 1 << 16, 20, 30),
        Path::new(3 | 1 << 20, 20, 30),
        Path::new(3 | 1 << 16 | 1 << 20, 20, 30),
        path.leaving(),
    ] {
        assert_ne!(path.differs(other), 0, "{other:?}");
        assert_ne!(other.differs(path), 0, "{other:?}");
    }
    assert_eq!(path.differs(path), 0);
    for known in [Path::new(1, 0, 0), Path::new(0, 1, 0), Path::new(0, 0, 1)] {
        assert!(known.is_known());
    }
    assert!(!Path::default().is_known());
}

#[test]
fn a_run_stops_at_three_and_touches_nothing_else() {
    let others = end_flags::FIN | end_flags::SEEN | end_flags::SPOKE;
    let mut end = Endpoint::default();
    end.flags = others;
    for expected in [1, 2, 3, 3, 3] {
        end.lengthen_run();
        assert_eq!(end.run(), expected);
        assert!(end.has(others));
    }
    end.end_run();
    assert_eq!((end.run(), end.flags), (0, others));
}

#[test]
fn a_window_is_scaled_once_its_end_has_spoken() {
    let mut end = Endpoint::default();
    end.max_window = 3;
    end.set_scale(7);
    for (flags, window) in [
        (0, 3),
        (!end_flags::SPOKE, 3),
        (end_flags::SPOKE, 3 << 7),
        (u8::MAX, 3 << 7),
    ] {
        end.flags = flags;
        assert_eq!(end.window(), window, "{flags:#x}");
    }
    end.set_scale(14);
    assert_eq!(end.window(), 3 << 14);
}

#[test]
fn the_initiator_may_be_either_side_of_the_key() {
    let mut flow = Flow::default();
    assert_eq!(
        (flow.index_of(Side::Low), flow.index_of(Side::High)),
        (0, 1)
    );
    flow.flags = flow_flags::INITIATOR_HIGH;
    assert_eq!(
        (flow.index_of(Side::Low), flow.index_of(Side::High)),
        (1, 0)
    );
}

#[test]
fn a_retired_flow_gives_back_what_it_held_once() {
    let mut flow = Flow {
        tag: 7,
        generation: 9,
        flags: held::HALF_OPEN | held::RULE | flow_flags::LIBERAL | flow_flags::GUESSED,
        ..Flow::default()
    };
    assert_eq!(flow.id(), FlowId(7 << 32 | 9));
    assert_eq!(flow.retire(), held::HALF_OPEN | held::RULE);
    assert_eq!(flow.tag, 0);
    assert_eq!(flow.flags, flow_flags::LIBERAL | flow_flags::GUESSED);
    assert_eq!(flow.retire(), 0);
}

#[test]
fn only_a_handshake_or_a_cookie_anchors_the_numbers_of_a_flow() {
    for raw in 0..5_u16 {
        for others in [0, !flow_flags::ORIGIN_MASK] {
            let flow = Flow {
                flags: others | raw << flow_flags::ORIGIN_SHIFT,
                ..Flow::default()
            };
            assert_eq!(flow.origin() as u16, raw);
            let anchored = matches!(flow.origin(), Origin::Handshake | Origin::Cookie);
            assert_eq!(flow.is_unanchored(), !anchored, "{raw} {others:#x}");
        }
    }
    for (flags, liberal) in [
        (0, false),
        (flow_flags::LIBERAL, true),
        (held::PICKUP, true),
        (flow_flags::LIBERAL | held::PICKUP, true),
        (!(flow_flags::LIBERAL | held::PICKUP), false),
    ] {
        let flow = Flow {
            flags,
            ..Flow::default()
        };
        assert_eq!(flow.is_liberal(), liberal, "{flags:#x}");
    }
}

#[test]
fn events_are_numbered_round_and_round() {
    let mut flow = Flow::default();
    for expected in (1..=255).chain([0, 1]) {
        assert_eq!(flow.next_event(), expected);
        assert_eq!(flow.event_seq(), expected);
    }
    assert_eq!(flow.disproved(), 0);
}

#[test]
fn doubts_are_of_one_end_each_and_their_number_stops() {
    for side in [0, 1] {
        let mut flow = Flow::default();
        assert!(!flow.is_in_doubt());
        for expected in (1..=63).chain([63, 63]) {
            flow.doubt(side);
            assert_eq!(flow.disproved(), expected);
            assert!(flow.is_in_doubt() && flow.doubts(side) && !flow.doubts(side ^ 1));
        }
        let masks = [flow.doubt_mask(0), flow.doubt_mask(1)];
        assert_eq!(masks, if side == 0 { [0xff, 0] } else { [0, 0xff] });
        flow.doubt(side ^ 1);
        assert_eq!([flow.doubt_mask(0), flow.doubt_mask(1)], [0xff, 0xff]);
        flow.end_doubt(side);
        assert!(!flow.doubts(side) && flow.doubts(side ^ 1));
        assert_eq!(flow.disproved(), 63);
        flow.end_doubts();
        assert!(!flow.is_in_doubt());
        assert_eq!((flow.disproved(), flow.event_seq()), (63, 0));
    }
}

#[test]
fn a_key_begins_with_its_lower_pair() {
    for (source, destination, expected) in [
        (([1; 4], 9), ([2; 4], 8), Side::Low),
        (([2; 4], 8), ([1; 4], 9), Side::High),
        (([1, 0, 0, 5], 9), ([1, 0, 0, 4], 8), Side::High),
    ] {
        let (key, side) = Key::v6(source, destination, Zone(5));
        assert_eq!(side, expected);
        let (low, high) = match side {
            Side::Low => (source, destination),
            Side::High => (destination, source),
        };
        let key = key.as_v6();
        assert_eq!((key.low, key.high), (low.0, high.0));
        let ports = [key.ports >> 16, key.ports & 0xffff];
        assert_eq!(ports, [u32::from(low.1), u32::from(high.1)]);
        assert_eq!(key.zone, 5);
    }
    assert_eq!(Zone::of_vids(10, 20), Zone(20 << 16 | 10));
}

/// A pinned table outlives the agent that filled it, so the tags of its flows
/// are part of the layout.
#[test]
fn tags_are_part_of_the_layout() {
    let (v4, _) = Key::v4((1, 40_000), (2, 443), Zone(0));
    let (v6, _) = Key::v6(([1, 2, 3, 4], 40_000), ([5, 6, 7, 8], 443), Zone(77));
    assert_eq!(v4.tag(Family::V4), 0x9eff_8dd5);
    assert_eq!(v6.tag(Family::V6), 0x3dc1_4fa9);
    let mut tags = HashSet::new();
    for port in 0..1000 {
        let (key, _) = Key::v4((1, port), (2, 443), Zone(0));
        let tag = key.tag(Family::V4);
        assert_eq!(tag & 1, 1, "never zero");
        assert!(tags.insert(tag), "{port}");
    }
}
