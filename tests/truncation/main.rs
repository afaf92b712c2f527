//! Broken frames of any kind at the loaded programs: cut at every octet, with
//! every value in every field that tells a length, an offset or what follows,
//! and with checksums that do not fit.
//!
//! Whatever the frame, the program ends, lets it pass, counts it under exactly
//! one reason, and opens no flow.

mod checksum;
mod icmp;

use anyhow::{Context as _, Result};
use tracker_common::{
    abi::{Family, Gauge, Live},
    parse::{self, Packet},
    reason::Reason,
    tcp::{Admission, Limit, admit},
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::{Fragment, Frame, Tags, Wrapping},
    random::Random,
    talk::{A, Talk},
};

const ORIGINS: [Origin; 2] = [Origin::Wire, Origin::Host];

/// Whole frames of every make.
fn frames(wrapping: Wrapping) -> Vec<Frame> {
    let talk = Talk::new(wrapping, 1);
    let stamped = Talk {
        options: true,
        ..talk
    };
    let syn = talk.frame(A.syn());
    vec![
        syn.clone(),
        stamped.frame(A.syn()),
        stamped.frame(A.ack().data(33)),
        Frame {
            ip_options: 40,
            extensions: vec![(0, 8), (51, 24), (60, 16)],
            ..syn.clone()
        },
        Frame {
            fragment: Some(Fragment {
                offset: 0,
                more: true,
            }),
            data: 12,
            extensions: vec![(43, 24)],
            ..syn
        },
    ]
}

/// A configuration that opens no flow for whole frames either, so that none can
/// hide among others.
fn nothing_opens() -> Live {
    Live {
        half_open_limit: 0,
        pickup_limit: 0,
        capacity: 0,
        ..live()
    }
}

fn bench() -> Bench {
    let bench = Bench::new().unwrap();
    bench.loaded.set_live(&nothing_opens()).unwrap();
    bench
}

/// Checks what a test has left behind.
fn check(bench: &Bench, runs: u64) {
    bench.settle().unwrap();
    let counted: u64 = bench
        .loaded
        .reasons()
        .unwrap()
        .iter()
        .map(|(_, _, count)| count.packets)
        .sum();
    assert_eq!(counted, runs);
    for gauge in [
        Gauge::FlowsV4,
        Gauge::FlowsV6,
        Gauge::HalfOpen,
        Gauge::Pickup,
    ] {
        assert_eq!(bench.gauge(gauge).unwrap(), 0, "{gauge:?}");
    }
    for family in [Family::V4, Family::V6] {
        assert!(bench.flows(family).unwrap().is_empty());
    }
}

/// Octets below which a kernel may refuse to run a program: it wants an
/// Ethernet header, and for a classifier the network header that follows.
const fn shortest(origin: Origin, wrapping: Wrapping) -> usize {
    match (origin, wrapping) {
        (Origin::Wire | Origin::Loopback, _) => 14,
        (
            _,
            Wrapping {
                tags: Tags::Untagged,
                family: Family::V4,
            },
        ) => 34,
        (
            _,
            Wrapping {
                tags: Tags::Untagged,
                family: Family::V6,
            },
        ) => 54,
        (..) => 15,
    }
}

/// What is wrong with a frame of which only the first `length` octets are
/// there.
fn reason_of_cut(frame: &Frame, length: usize) -> Reason {
    let ip_header = match frame.wrapping.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    if length < frame.ip_at() {
        Reason::ShortEthernet
    } else if length < frame.ip_at() + ip_header {
        Reason::ShortIp
    } else {
        Reason::BadIpLength
    }
}

#[test]
fn frames_cut_at_every_octet() {
    let mut bench = bench();
    let mut runs = 0;
    for wrapping in Wrapping::ALL {
        for frame in [frames(wrapping), icmp::errors(wrapping)].concat() {
            let whole = frame.bytes();
            for length in 0..whole.len() {
                let cut = &whole[..length];
                let reason = reason_of_cut(&frame, length);
                let said = parse::ethernet(cut, 0, &mut Packet::default());
                assert_eq!(said, Err(reason), "{length} octets of {frame:?}");
                for origin in ORIGINS {
                    if length < shortest(origin, wrapping) {
                        continue;
                    }
                    bench
                        .expect(origin, cut, reason)
                        .with_context(|| format!("{length} octets of {frame:?} from {origin:?}"))
                        .unwrap();
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 5000);
    check(&bench, runs);
}

/// A datagram that is cut short, so that its own lengths are right and its
/// headers are not all there.
#[test]
fn datagrams_that_end_in_their_headers() {
    let mut bench = bench();
    let mut runs = 0;
    for wrapping in Wrapping::ALL {
        for mut frame in frames(wrapping) {
            let header = 20 + frame.options.len();
            for carried in 0..header {
                frame.carried = Some(carried);
                let reason = if frame.fragment.is_some() {
                    Reason::TinyFragment
                } else if carried < 20 {
                    Reason::ShortTcp
                } else {
                    Reason::BadTcpOffset
                };
                for origin in ORIGINS {
                    bench
                        .expect(origin, &frame.bytes(), reason)
                        .with_context(|| format!("{frame:?} from {origin:?}"))
                        .unwrap();
                    runs += 1;
                }
            }
        }
    }
    check(&bench, runs);
}

/// A field of a frame and the values to put there.
struct Field {
    name: String,
    at: usize,
    /// Octets of the field, 1 or 2.
    octets: usize,
    /// Bits of it that the field takes.
    mask: u16,
}

impl Field {
    fn new(name: impl Into<String>, at: usize, octets: usize, mask: u16) -> Self {
        Self {
            name: name.into(),
            at,
            octets,
            mask,
        }
    }

    /// Every value of the field.
    fn values(&self) -> impl Iterator<Item = u16> {
        let mask = self.mask;
        (0..=u16::MAX).filter(move |value| value & !mask == 0)
    }

    /// Puts a value into the field.
    fn put(&self, frame: &mut [u8], value: u16) {
        let value = value.to_be_bytes();
        let mask = (!self.mask).to_be_bytes();
        for (index, octet) in frame[self.at..self.at + self.octets].iter_mut().enumerate() {
            let from = index + 2 - self.octets;
            *octet = *octet & mask[from] | value[from];
        }
    }
}

/// The fields that tell a length, an offset or what follows.
fn fields(frame: &Frame) -> Vec<Field> {
    let ip = frame.ip_at();
    let mut fields = vec![Field::new("TCP data offset", frame.tcp_at() + 12, 1, 0xf0)];
    for index in 0..frame.options.len() {
        let name = format!("octet {index} of the TCP options");
        fields.push(Field::new(name, frame.tcp_at() + 20 + index, 1, 0xff));
    }
    match frame.wrapping.family {
        Family::V4 => {
            fields.push(Field::new("version", ip, 1, 0xf0));
            fields.push(Field::new("IHL", ip, 1, 0x0f));
            fields.push(Field::new("total length", ip + 2, 2, 0xffff));
            fields.push(Field::new("fragment offset", ip + 6, 2, 0x3fff));
            fields.push(Field::new("protocol", ip + 9, 1, 0xff));
        }
        Family::V6 => {
            fields.push(Field::new("version", ip, 1, 0xf0));
            fields.push(Field::new("payload length", ip + 4, 2, 0xffff));
            fields.push(Field::new("next header", ip + 6, 1, 0xff));
            let mut at = frame.extensions_at();
            let fragment = frame.fragment.map(|_| (44, 8));
            for (number, length) in frame.extensions.iter().copied().chain(fragment) {
                let of = |what: &str| format!("{what} of extension header {number}");
                fields.push(Field::new(of("next header"), at, 1, 0xff));
                fields.push(Field::new(of("length"), at + 1, 1, 0xff));
                if number == 44 {
                    fields.push(Field::new(of("fragment offset"), at + 2, 2, 0xfff9));
                }
                at += length;
            }
        }
    }
    fields
}

/// The reason of a frame that belongs to no flow and opens none.
fn reason_of(frame: &[u8], origin: Origin) -> Reason {
    let mut packet = Packet::default();
    match parse::ethernet(frame, 0, &mut packet) {
        Err(reason) => reason,
        Ok(()) if packet.quoted != 0 => Reason::IcmpUnrelated,
        Ok(()) => match admit(&packet.segment, origin.is_local(), false, &nothing_opens()) {
            Admission::Open(opening) => {
                let live = nothing_opens();
                let (limit, _) = Limit::on(opening.reservation(&live), &live);
                limit.reason(&live)
            }
            Admission::Leave(reason) => reason,
        },
    }
}

fn one_value(bench: &mut Bench, origin: Origin, frame: &[u8]) -> Result<Reason> {
    let reason = reason_of(frame, origin);
    bench.expect(origin, frame, reason)?;
    Ok(reason)
}

#[test]
fn every_value_of_every_length_and_offset() {
    let mut bench = bench();
    let mut runs = 0;
    let mut seen = std::collections::HashSet::new();
    for wrapping in Wrapping::ALL {
        for (index, frame) in frames(wrapping).into_iter().enumerate() {
            for field in fields(&frame) {
                // The fields of 16 bits once for each family: 65,536 values.
                if field.octets == 2 && (wrapping.tags != Tags::Untagged || index > 0) {
                    continue;
                }
                let mut octets = frame.bytes();
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
    for reason in [
        Reason::NotTcp,
        Reason::LaterFragment,
        Reason::BadIpHeader,
        Reason::BadIpLength,
        Reason::ShortExtension,
        Reason::TinyFragment,
        Reason::OverlappingFragment,
        Reason::ShortTcp,
        Reason::BadTcpOffset,
    ] {
        assert!(seen.contains(&reason), "{} never came up", reason.as_str());
    }
}

/// Frames of noise behind a link header that promises IP.
#[test]
fn noise() {
    const ROUNDS: u64 = 20_000;
    let mut bench = bench();
    let mut random = Random::new(1);
    let mut runs = 0;
    for round in 0..ROUNDS {
        let wrapping = Wrapping::ALL[(round % 8) as usize];
        let whole = Talk::new(wrapping, 1).frame(A.syn()).bytes();
        let link = wrapping.link_length();
        let mut frame = whole[..link].to_vec();
        // Half of them begin as an IP header does.
        let version = whole[link];
        frame.extend((0..64 + random.below(200)).map(|_| random.bits() as u8));
        if random.once_in(2) {
            frame[link] = version;
        }
        for origin in ORIGINS {
            let reason = reason_of(&frame, origin);
            let result = bench.expect(origin, &frame, reason);
            result.with_context(|| format!("{frame:02x?}")).unwrap();
            runs += 1;
        }
    }
    assert_eq!(runs, ROUNDS * 2);
    check(&bench, runs);
}
