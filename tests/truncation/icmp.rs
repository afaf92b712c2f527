//! ICMP errors of every type, quoting any part of a packet and any header.

use std::collections::HashSet;

use anyhow::Context as _;
use tracker_common::{abi::Family, reason::Reason};
use tracker_tests::program::frame::{Frame, Tags, Wrapping};

use crate::{ORIGINS, bench, check, fields, frames, one_value};

/// ICMP errors about those that are TCP packets.
pub fn errors(wrapping: Wrapping) -> Vec<Frame> {
    let first = of_family(wrapping.family)[0];
    let frames = frames(wrapping);
    frames
        .iter()
        .map(|frame| frame.icmp_error(first, usize::MAX))
        .collect()
}

/// Types of ICMP and ICMPv6 errors (RFC 792, RFC 4443 section 2.1).
const fn of_family(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[3, 4, 5, 11, 12],
        Family::V6 => &[1, 2, 3, 4],
    }
}

/// A TCP packet and how many of its octets an ICMP error must quote to tell which
/// segment it is about; `None` where its header cannot be found.
fn quotable(wrapping: Wrapping) -> Vec<(Frame, Option<usize>)> {
    frames(wrapping)
        .into_iter()
        .map(|frame| {
            let extended = !frame.extensions.is_empty() || frame.fragment.is_some();
            let looked_into = wrapping.family == Family::V4 || !extended;
            let enough = frame.tcp_at() - frame.ip_at() + 8;
            (frame, looked_into.then_some(enough))
        })
        .collect()
}

#[test]
fn icmp_errors_of_every_type_that_quote_any_part() {
    let mut bench = bench();
    let mut runs = 0;
    let mut unrelated = 0;
    let mut expect = |frame: &Frame, related: bool| {
        let reason = if related {
            unrelated += 1;
            Reason::IcmpUnrelated
        } else {
            Reason::NotTcp
        };
        let octets = frame.bytes();
        for origin in ORIGINS {
            bench
                .expect(origin, &octets, reason)
                .with_context(|| format!("{frame:?} from {origin:?}"))
                .unwrap();
            runs += 1;
        }
    };
    for wrapping in Wrapping::ALL {
        let errors = of_family(wrapping.family);
        for (frame, enough) in quotable(wrapping) {
            for kind in 0..=u8::MAX {
                let error = frame.icmp_error(kind, usize::MAX);
                expect(&error, enough.is_some() && errors.contains(&kind));
            }
            let whole = frame.bytes().len() - frame.ip_at();
            for quoted in 0..=whole {
                let error = frame.icmp_error(errors[0], quoted);
                expect(&error, enough.is_some_and(|enough| quoted >= enough));
            }
            // And messages that end before they quote anything.
            for length in 0..8 {
                let mut error = frame.icmp_error(errors[0], 0);
                error.message.as_mut().unwrap().truncate(length);
                expect(&error, false);
            }
        }
    }
    assert!(unrelated > 1000);
    check(&bench, runs);
}

#[test]
fn icmp_errors_that_quote_any_header() {
    let mut bench = bench();
    let mut runs = 0;
    let mut seen = HashSet::new();
    for wrapping in Wrapping::ALL {
        for (index, (frame, _)) in quotable(wrapping).into_iter().enumerate() {
            let error = frame.icmp_error(of_family(wrapping.family)[0], usize::MAX);
            // Behind the error's own headers.
            let ip_header = match wrapping.family {
                Family::V4 => 20,
                Family::V6 => 40,
            };
            let behind = ip_header + 8;
            for mut field in fields(&frame) {
                if field.octets == 2 && (wrapping.tags != Tags::Untagged || index > 0) {
                    continue;
                }
                field.at += behind;
                let mut octets = error.bytes();
                for value in field.values() {
                    field.put(&mut octets, value);
                    for origin in ORIGINS {
                        let reason = one_value(&mut bench, origin, &octets)
                            .with_context(|| format!("{} = {value:#x} in {frame:?}", field.name))
                            .unwrap();
                        seen.insert(reason);
                        runs += 1;
                    }
                }
            }
        }
    }
    check(&bench, runs);
    let expected = [Reason::NotTcp, Reason::IcmpUnrelated];
    assert_eq!(seen, expected.into());
}
