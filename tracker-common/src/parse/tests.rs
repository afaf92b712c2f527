//! The parser against etherparse, and on frames that nobody should send.

mod limits;
mod quoted;
mod sums;

use etherparse::{
    IpFragOffset, Ipv4Header, Ipv4Options, PacketBuilder, SlicedPacket, TcpOptionElement,
    TransportSlice, VlanId,
};
use proptest::prelude::*;

use super::{Bytes as _, Packet, ethernet};
use crate::{
    abi::{Family, Zone},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options},
};

const A4: [u8; 4] = [10, 1, 2, 3];
const B4: [u8; 4] = [192, 168, 7, 9];
const A6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn read(frame: &[u8]) -> Result<Packet, Reason> {
    let mut packet = Packet::default();
    ethernet(frame, 0, &mut packet).map(|()| packet)
}

/// A SYN with the options that Linux sends, and `payload` octets.
fn v4(payload: usize) -> Vec<u8> {
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(11, 22),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4(A4, B4, 64)
        .tcp(40_000, 443, 77, 64_240)
        .syn()
        .options(&options)
        .unwrap();
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0xab; payload]).unwrap();
    frame
}

fn v6(payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6(A6, B6, 64)
        .tcp(40_000, 443, 77, 500)
        .ack(99);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0xab; payload]).unwrap();
    frame
}

/// `frame` with `tags` (type and TCI) put behind its addresses.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for (kind, tci) in tags {
        out.extend(kind.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(&frame[12..]);
    out
}

#[test]
fn a_syn_is_read_whole() {
    let packet = read(&v4(0)).unwrap();
    assert_eq!(packet.family(), Family::V4);
    assert_eq!(packet.source[0].to_ne_bytes(), A4);
    assert_eq!(packet.destination[0].to_ne_bytes(), B4);
    assert_eq!((packet.source_port, packet.destination_port), (40_000, 443));
    let segment = packet.segment;
    assert_eq!(
        (segment.seq, segment.window, segment.payload),
        (Seq(77), 64_240, 0)
    );
    assert_eq!(segment.flags, Flags(Flags::SYN));
    let options = segment.options;
    assert!(
        options.has(Options::MSS | Options::SCALE | Options::SACK_PERMITTED | Options::TIMESTAMPS)
    );
    assert_eq!((options.mss, options.scale), (1460, 7));
    assert_eq!((options.ts_value, options.ts_echo), (11, 22));
    assert_eq!(packet.bytes, 60);
}

#[test]
fn tags_are_read_and_priority_tags_are_none() {
    let plain = v4(3);
    for (tags, vids) in [
        (&[(0x8100, 0x0064)][..], (100, 0)),
        (&[(0x88a8, 0xe064), (0x8100, 0x2007)][..], (100, 7)),
        (&[(0x9100, 5), (0x8100, 6)][..], (5, 6)),
        (&[(0x8100, 0xe000)][..], (0, 0)),
        (&[(0x8100, 0xe000), (0x8100, 9)][..], (9, 0)),
        (&[(0x8100, 9), (0x8100, 0)][..], (9, 0)),
    ] {
        let packet = read(&tagged(&plain, tags)).unwrap();
        assert_eq!((packet.outer, packet.inner), vids, "{tags:?}");
        assert_eq!(packet.segment.payload, 3);
    }
    let three = tagged(&plain, &[(0x8100, 1), (0x8100, 2), (0x8100, 3)]);
    assert_eq!(read(&three), Err(Reason::TooManyTags));
}

#[test]
fn a_tag_beside_the_frame_is_the_outer_one() {
    let mut packet = Packet::default();
    ethernet(&v4(0)[..], 0x6005, &mut packet).unwrap();
    assert_eq!((packet.outer, packet.inner), (5, 0));
    ethernet(&tagged(&v4(0), &[(0x8100, 6)])[..], 5, &mut packet).unwrap();
    assert_eq!((packet.outer, packet.inner), (5, 6));
    let two = tagged(&v4(0), &[(0x8100, 6), (0x8100, 7)]);
    assert_eq!(ethernet(&two[..], 5, &mut packet), Err(Reason::TooManyTags));
}

#[test]
fn ethernet_padding_is_no_payload() {
    let mut frame = v4(0);
    frame.extend([0; 20]);
    assert_eq!(read(&frame).unwrap().segment.payload, 0);
}

#[test]
fn what_is_not_tcp_passes_by() {
    let mut arp = v4(0);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(read(&arp), Err(Reason::NotIp));
    let mut udp = v4(0);
    udp[23] = 17;
    assert_eq!(read(&udp), Err(Reason::NotTcp));
    let mut icmp6 = v6(0);
    icmp6[20] = 58;
    assert_eq!(read(&icmp6), Err(Reason::NotTcp));
}

#[test]
fn fragments() {
    let fragment = |units: u16, more: bool, protocol: u8, payload: usize| {
        let mut frame = v4(payload);
        let field = units | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[23] = protocol;
        read(&frame)
    };
    let first = fragment(0, true, 6, 100).unwrap();
    assert_eq!((first.segment.fragmented, first.segment.payload), (1, 100));
    assert_eq!(fragment(1, true, 6, 100), Err(Reason::OverlappingFragment));
    assert_eq!(fragment(2, false, 6, 100), Err(Reason::OverlappingFragment));
    assert_eq!(fragment(3, false, 6, 100), Err(Reason::LaterFragment));
    assert_eq!(fragment(1, false, 17, 100), Err(Reason::NotTcp));
    // A first fragment that ends inside the header.
    let mut tiny = v4(0);
    tiny[16..18].copy_from_slice(&36_u16.to_be_bytes());
    tiny[20] = 0x20;
    assert_eq!(read(&tiny), Err(Reason::TinyFragment));
    // The fixed header is there, its options are not.
    tiny[16..18].copy_from_slice(&44_u16.to_be_bytes());
    assert_eq!(read(&tiny), Err(Reason::TinyFragment));
}

#[test]
fn extension_headers_are_followed_up_to_eight() {
    let with = |count: usize, kinds: &[u8]| {
        let plain = v6(5);
        let mut frame = plain[..54].to_vec();
        frame[20] = kinds[0];
        for index in 0..count {
            let next = if index + 1 < count {
                kinds[(index + 1) % kinds.len()]
            } else {
                6
            };
            frame.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        frame.extend(&plain[54..]);
        let payload = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        frame
    };
    for count in 1..=8 {
        let packet = read(&with(count, &[60])).unwrap();
        assert_eq!(packet.segment.payload, 5, "{count}");
    }
    assert_eq!(read(&with(9, &[60])), Err(Reason::TooManyExtensions));
    for kind in [0, 43, 135, 139, 140] {
        assert!(read(&with(1, &[kind])).is_ok(), "{kind}");
    }
    // ESP hides what follows.
    assert_eq!(read(&with(1, &[50])), Err(Reason::NotTcp));
    let mut cut = with(2, &[60]);
    cut.truncate(54 + 9);
    cut[18..20].copy_from_slice(&9_u16.to_be_bytes());
    assert_eq!(read(&cut), Err(Reason::ShortExtension));
}

#[test]
fn fragments_of_ipv6() {
    let with = |field: u16, next: u8| {
        let plain = v6(5);
        let mut frame = plain[..54].to_vec();
        frame[20] = 44;
        frame.extend([next, 0]);
        frame.extend(field.to_be_bytes());
        frame.extend([0, 0, 0, 1]);
        frame.extend(&plain[54..]);
        let payload = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        read(&frame)
    };
    assert_eq!(with(0, 6).unwrap().segment.fragmented, 0, "atomic");
    assert_eq!(with(1, 6).unwrap().segment.fragmented, 1);
    assert_eq!(with(8, 6), Err(Reason::OverlappingFragment));
    assert_eq!(with(16 | 1, 6), Err(Reason::OverlappingFragment));
    assert_eq!(with(24, 6), Err(Reason::LaterFragment));
    assert_eq!(with(8, 17), Err(Reason::LaterFragment));
}

#[test]
fn lengths_that_cannot_be() {
    let bad = |offset: usize, value: u8, expected: Reason| {
        let mut frame = v4(4);
        frame[offset] = value;
        assert_eq!(read(&frame), Err(expected), "{offset}: {value:#x}");
    };
    bad(14, 0x44, Reason::BadIpHeader);
    bad(14, 0x65, Reason::BadIpHeader);
    bad(17, 19, Reason::BadIpLength);
    bad(17, 255, Reason::BadIpLength);
    bad(17, 30, Reason::ShortTcp);
    bad(46, 0x40, Reason::BadTcpOffset);
    bad(46, 0xf0, Reason::BadTcpOffset);
    bad(47, 0x03, Reason::BadFlags);
    let mut six = v6(0);
    six[14] = 0x45;
    assert_eq!(read(&six), Err(Reason::BadIpHeader));
    let mut six = v6(0);
    six[19] = 200;
    assert_eq!(read(&six), Err(Reason::BadIpLength));
}

#[test]
fn a_length_of_zero_is_only_believed_beyond_64_kib() {
    let mut small = v4(100);
    small[16..18].fill(0);
    assert_eq!(read(&small), Err(Reason::BadIpLength));
    let mut big = v4(100);
    big[16..18].fill(0);
    big.resize(14 + 70_000, 0);
    assert_eq!(read(&big).unwrap().segment.payload, 70_000 - 60);
    let mut six = v6(100);
    six[18..20].fill(0);
    six.resize(14 + 70_000, 0);
    assert_eq!(read(&six).unwrap().segment.payload, 70_000 - 60);
}

#[test]
fn equal_ends_are_no_flow() {
    let mut land = v4(0);
    land.copy_within(26..30, 30);
    assert!(read(&land).is_ok(), "one address, two ports");
    land.copy_within(34..36, 36);
    assert_eq!(read(&land), Err(Reason::EqualEnds));
}

#[test]
fn options_in_any_order_and_broken_ones() {
    let with = |options: &[u8]| {
        let mut frame = v6(0);
        let words = options.len().div_ceil(4);
        frame.extend(options);
        frame.resize(54 + 20 + words * 4, 0);
        frame[66] = u8::try_from((5 + words) << 4).unwrap();
        let payload = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        read(&frame).unwrap().segment.options
    };
    let stamps = with(&[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1]);
    assert_eq!((stamps.ts_value, stamps.ts_echo), (1, 2));
    let sack = with(&[
        1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0xff, 0xf8,
    ]);
    assert!(sack.has(Options::SACK));
    assert_eq!(sack.sack_high, Seq(9), "the highest on the circle");
    let unknown = with(&[253, 4, 0, 0, 3, 3, 5, 0]);
    assert!(unknown.has(Options::SCALE) && unknown.scale == 5);
    for broken in [
        &[2, 0, 0, 0][..],
        &[2, 1, 0, 0],
        &[8, 40, 0, 0],
        &[1, 1, 1, 8],
    ] {
        let options = with(broken);
        assert_eq!(options.present, Options::BROKEN, "{broken:?}");
    }
    assert_eq!(with(&[0, 2, 4, 5]).present, 0, "the end is the end");
    assert_eq!(with(&[1; 40]).present, 0);
    assert!(
        with(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 2]).has(Options::SACK_PERMITTED)
    );
}

#[test]
fn a_frame_cut_anywhere_has_a_reason() {
    for whole in [v4(10), v6(10), tagged(&v4(10), &[(0x88a8, 1), (0x8100, 2)])] {
        for length in 0..whole.len() {
            let reason = read(&whole[..length]).unwrap_err();
            assert!(
                matches!(
                    reason,
                    Reason::ShortEthernet | Reason::ShortIp | Reason::BadIpLength
                ),
                "{length}: {reason:?}"
            );
        }
    }
}

/// Frames as etherparse builds them.
fn built() -> impl Strategy<Value = (Vec<u8>, u16, u16)> {
    let tags = prop::collection::vec(1_u16..4095, 0..=2);
    (
        any::<bool>(),
        tags,
        any::<[u16; 2]>(),
        any::<[u32; 2]>(),
        0_usize..200,
        0_u8..=10,
    )
        .prop_filter("not LAND", |(_, _, ports, ..)| ports[0] != ports[1])
        .prop_map(|(six, vids, ports, numbers, payload, ip_options)| {
            let id = |index: usize| VlanId::try_new(vids[index]).unwrap();
            let link = PacketBuilder::ethernet2([1; 6], [2; 6]);
            let mut header = Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, A4, B4).unwrap();
            header.options =
                Ipv4Options::try_from(&[1; 40][..usize::from(ip_options) * 4]).unwrap();
            header.fragment_offset = IpFragOffset::ZERO;
            let ip = if six {
                etherparse::IpHeaders::Ipv6(
                    etherparse::Ipv6Header {
                        source: A6,
                        destination: B6,
                        ..Default::default()
                    },
                    etherparse::Ipv6Extensions::default(),
                )
            } else {
                etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
            };
            let builder = match vids.len() {
                0 => link.ip(ip),
                1 => link.single_vlan(id(0)).ip(ip),
                _ => link.double_vlan(id(0), id(1)).ip(ip),
            };
            let mut frame = Vec::new();
            builder
                .tcp(ports[0], ports[1], numbers[0], 1)
                .ack(numbers[1])
                .psh()
                .write(&mut frame, &vec![0; payload])
                .unwrap();
            (
                frame,
                vids.first().copied().unwrap_or(0),
                vids.get(1).copied().unwrap_or(0),
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn reads_what_etherparse_reads((frame, outer, inner) in built()) {
        let packet = read(&frame).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        prop_assert_eq!(packet.source_port, tcp.source_port());
        prop_assert_eq!(packet.destination_port, tcp.destination_port());
        prop_assert_eq!(packet.segment.seq.0, tcp.sequence_number());
        prop_assert_eq!(packet.segment.ack.0, tcp.acknowledgment_number());
        prop_assert_eq!(packet.segment.payload as usize, tcp.payload().len());
        prop_assert_eq!((packet.outer, packet.inner), (outer, inner));
    }

    /// Whatever the bytes: no panic, and a segment never ends behind its frame.
    #[test]
    fn survives_anything(
        (mut frame, ..) in built(),
        edits in prop::collection::vec((0_usize..120, any::<u8>()), 0..6),
        cut in 0_usize..300,
    ) {
        for (at, value) in edits {
            if let Some(byte) = frame.get_mut(at) { *byte = value }
        }
        frame.truncate(cut);
        if let Ok(packet) = read(&frame) {
            prop_assert!(packet.bytes as usize <= frame.len());
            prop_assert!(packet.segment.payload < packet.bytes);
            let (key, from) = packet.key(Zone::default());
            let mut back = packet;
            (back.source, back.destination) = (packet.destination, packet.source);
            (back.source_port, back.destination_port) =
                (packet.destination_port, packet.source_port);
            let (same, other) = back.key(Zone::default());
            prop_assert_eq!(key, same);
            prop_assert_ne!(from, other);
        }
    }

    #[test]
    fn survives_noise(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut packet = Packet::default();
        let _ = ethernet(&frame[..], 0, &mut packet);
        prop_assert_eq!(frame[..].length() as usize, frame.len());
    }
}
