//! Lengths and headers at the very edge of what can be.

use super::{A4, A6, B4, read, tagged, v4, v6};
use crate::{
    abi::{Family, Side, Zone},
    parse::{Packet, datagram, ethernet},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options},
};

/// Where an IP header starts.
const IP: usize = 14;

/// [`v4`] without options, cut to its header and `payload` octets.
fn plain_v4(payload: usize) -> Vec<u8> {
    let full = v4(payload);
    let mut frame = full[..IP + 40].to_vec();
    frame.extend(&full[IP + 60..]);
    frame[IP + 32] = 0x50;
    set_length(&mut frame);
    frame
}

/// Makes the IPv4 length that of the frame.
fn set_length(frame: &mut [u8]) {
    let total = u16::try_from(frame.len() - IP).unwrap();
    frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
}

/// [`v6`] with these extension headers, `first` being the first one's number.
fn extended(first: u8, headers: &[u8], payload: usize) -> Vec<u8> {
    let plain = v6(payload);
    let mut frame = plain[..IP + 40].to_vec();
    frame.extend(headers);
    frame.extend(&plain[IP + 40..]);
    frame[IP + 6] = first;
    let length = u16::try_from(frame.len() - IP - 40).unwrap();
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

#[test]
fn a_datagram_is_read_at_its_offset_and_by_its_version() {
    for frame in [v4(9), v6(9)] {
        let expected = read(&frame).unwrap();
        for offset in [0, 4, 16] {
            let mut bytes = vec![0xee; offset];
            bytes.extend(&frame[IP..]);
            let mut packet = Packet {
                outer: 5,
                inner: 6,
                ..Packet::default()
            };
            datagram(&bytes[..], u32::try_from(offset).unwrap(), &mut packet).unwrap();
            assert_eq!(packet.segment, expected.segment);
            assert_eq!(packet.source, expected.source);
            assert_eq!(packet.bytes, expected.bytes);
            assert_eq!(packet.at as usize, expected.at as usize - IP + offset);
            assert_eq!((packet.outer, packet.inner), (5, 6), "its link's");
        }
    }
    let mut other = v4(9)[IP..].to_vec();
    other[0] = 0x55;
    let mut packet = Packet::default();
    assert_eq!(datagram(&other[..], 0, &mut packet), Err(Reason::NotIp));
    assert_eq!(datagram(&[][..], 0, &mut packet), Err(Reason::ShortIp));
    assert_eq!(datagram(&other[..1], 1, &mut packet), Err(Reason::ShortIp));
}

#[test]
fn a_header_may_fill_its_datagram() {
    let packet = read(&plain_v4(0)).unwrap();
    assert_eq!(
        (packet.bytes, packet.length, packet.segment.payload),
        (40, 20, 0)
    );
    let mut cut = plain_v4(0);
    cut.truncate(IP + 39);
    set_length(&mut cut);
    assert_eq!(read(&cut), Err(Reason::ShortTcp));
    // An IP header alone is a datagram, too, but no segment.
    cut.truncate(IP + 20);
    set_length(&mut cut);
    assert_eq!(read(&cut), Err(Reason::ShortTcp));
    let mut cut = v6(0);
    cut.truncate(IP + 40);
    cut[IP + 4..IP + 6].copy_from_slice(&[0, 1]);
    cut.push(0);
    assert_eq!(read(&cut), Err(Reason::ShortTcp));
    // All of the header is options.
    let frame = v4(0);
    assert_eq!(read(&frame).unwrap().segment.payload, 0);
    let mut beyond = frame;
    beyond[IP + 32] = 0xb0;
    assert_eq!(read(&beyond), Err(Reason::BadTcpOffset));
}

#[test]
fn a_frame_that_ends_early_is_short_and_not_out_of_reach() {
    let frame = v4(0);
    for length in 0..IP {
        assert_eq!(
            read(&frame[..length]),
            Err(Reason::ShortEthernet),
            "{length}"
        );
    }
    for length in IP..IP + 20 {
        assert_eq!(read(&frame[..length]), Err(Reason::ShortIp), "{length}");
    }
    let frame = v6(0);
    for length in IP..IP + 40 {
        assert_eq!(read(&frame[..length]), Err(Reason::ShortIp), "{length}");
    }
    let frame = tagged(&v4(0), &[(0x8100, 1), (0x8100, 2)]);
    for length in 0..IP + 8 {
        assert_eq!(
            read(&frame[..length]),
            Err(Reason::ShortEthernet),
            "{length}"
        );
    }
}

#[test]
fn the_first_length_beyond_64_kib_is_believed() {
    for (rest, is_read) in [(0xffff, false), (0x1_0000, true)] {
        let mut frame = v4(0);
        frame[IP + 2..IP + 4].fill(0);
        frame.resize(IP + rest, 0);
        let result = read(&frame);
        assert_eq!(result.is_ok(), is_read, "{rest}");
        if let Ok(packet) = result {
            assert_eq!(packet.bytes as usize, rest);
        }
        let mut frame = v6(0);
        frame[IP + 4..IP + 6].fill(0);
        frame.resize(IP + rest, 0);
        assert_eq!(read(&frame).is_ok(), is_read, "{rest}");
    }
}

#[test]
fn addresses_of_ipv6_are_read_whole() {
    let mut frame = v6(0);
    for (index, octet) in frame[IP + 8..IP + 40].iter_mut().enumerate() {
        *octet = 0xa0 + u8::try_from(index).unwrap();
    }
    let packet = read(&frame).unwrap();
    assert_eq!(packet.family(), Family::V6);
    let octets = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    assert_eq!(octets(packet.source), frame[IP + 8..IP + 24]);
    assert_eq!(octets(packet.destination), frame[IP + 24..IP + 40]);
    let (key, side) = packet.key(Zone(3));
    assert_eq!(key.as_v6().zone, 3);
    let low = if side == Side::Low {
        packet.source
    } else {
        packet.destination
    };
    assert_eq!(key.as_v6().low, low);
}

#[test]
fn the_key_is_that_of_the_family() {
    let packet = read(&v4(0)).unwrap();
    let (key, side) = packet.key(Zone(9));
    let [a, b] = [A4, B4].map(u32::from_ne_bytes);
    let (low, high, ports, from) = if a < b {
        (a, b, 40_000 << 16 | 443, Side::Low)
    } else {
        (b, a, 443 << 16 | 40_000, Side::High)
    };
    let key4 = key.as_v4();
    assert_eq!(
        (key4.low, key4.high, key4.ports, key4.zone),
        (low, high, ports, 9)
    );
    assert_eq!(side, from);
}

#[test]
fn an_extension_header_tells_its_own_length() {
    // Hop-by-hop of 24 octets.
    let mut headers = vec![6, 2];
    headers.resize(24, 1);
    let packet = read(&extended(0, &headers, 7)).unwrap();
    assert_eq!((packet.segment.payload, packet.length), (7, 27));
    // Authentication: in words, less two.
    for words in [1_u8, 4, 30] {
        let mut headers = vec![6, words];
        headers.resize((usize::from(words) + 2) * 4, 1);
        let packet = read(&extended(51, &headers, 7)).unwrap();
        assert_eq!((packet.segment.payload, packet.length), (7, 27));
    }
    // Authentication behind hop-by-hop.
    let mut headers = vec![51, 0, 0, 0, 0, 0, 0, 0, 6, 4];
    headers.resize(8 + 24, 1);
    assert_eq!(read(&extended(0, &headers, 7)).unwrap().segment.payload, 7);
    // The longest there is.
    let mut headers = vec![6, 255];
    headers.resize(2048, 0);
    assert_eq!(read(&extended(60, &headers, 7)).unwrap().segment.payload, 7);
}

#[test]
fn an_extension_header_ends_within_its_datagram() {
    let with_length = |headers: &[u8]| {
        let mut frame = extended(0, headers, 0);
        frame.truncate(IP + 40 + headers.len());
        let length = u16::try_from(headers.len()).unwrap();
        frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
        read(&frame)
    };
    // It may end it: then nothing is left for TCP.
    assert_eq!(
        with_length(&[6, 0, 0, 0, 0, 0, 0, 0]),
        Err(Reason::ShortTcp)
    );
    assert_eq!(
        with_length(&[6, 1, 0, 0, 0, 0, 0, 0]),
        Err(Reason::ShortExtension)
    );
    // What the frame holds beyond the datagram (padding) does not count.
    let mut padded = extended(0, &[6, 1, 0, 0, 0, 0, 0, 0], 0);
    padded.truncate(IP + 48);
    padded[IP + 4..IP + 6].copy_from_slice(&[0, 8]);
    padded.extend([0; 40]);
    assert_eq!(read(&padded), Err(Reason::ShortExtension));
}

#[test]
fn a_fragment_header_is_eight_octets_whatever_its_second_says() {
    let packet = read(&extended(44, &[6, 77, 0, 1, 0, 0, 0, 9], 7)).unwrap();
    assert_eq!((packet.segment.payload, packet.segment.fragmented), (7, 1));
    // The two reserved bits say nothing.
    let packet = read(&extended(44, &[6, 0, 0, 6, 0, 0, 0, 9], 7)).unwrap();
    assert_eq!(packet.segment.fragmented, 0);
    // Behind others, and before others.
    let headers = [
        44, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 1, 0, 0, 0, 9, 6, 0, 0, 0, 0, 0, 0, 0,
    ];
    let packet = read(&extended(0, &headers, 7)).unwrap();
    assert_eq!((packet.segment.payload, packet.segment.fragmented), (7, 1));
    // A fragment that starts beyond 64 octets, and one in the high octet.
    for field in [[0x00, 0x48], [0x01, 0x00], [0xff, 0xf8]] {
        let frame = extended(44, &[6, 0, field[0], field[1], 0, 0, 0, 9], 7);
        assert_eq!(read(&frame), Err(Reason::LaterFragment), "{field:?}");
    }
}

#[test]
fn a_dont_fragment_bit_is_no_fragment() {
    for (bits, fragmented) in [(0x40, 0), (0x80, 0), (0x60, 1)] {
        let mut frame = v4(3);
        frame[IP + 6] = bits;
        assert_eq!(read(&frame).unwrap().segment.fragmented, fragmented);
    }
    let mut frame = v4(3);
    frame[IP + 6..IP + 8].copy_from_slice(&[0x1f, 0xff]);
    assert_eq!(read(&frame), Err(Reason::LaterFragment));
}

#[test]
fn the_whole_header_is_read() {
    let mut frame = plain_v4(6);
    frame[IP + 20..IP + 40].copy_from_slice(&[
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x50, 0x18, 13, 14, 15, 16, 17, 18,
    ]);
    let packet = read(&frame).unwrap();
    assert_eq!(
        (packet.source_port, packet.destination_port),
        (0x0102, 0x0304)
    );
    let segment = packet.segment;
    assert_eq!(
        (segment.seq, segment.ack),
        (Seq(0x0506_0708), Seq(0x090a_0b0c))
    );
    assert_eq!(segment.flags, Flags(Flags::ACK | Flags::PSH));
    assert_eq!((segment.window, segment.payload), (0x0d0e, 6));
    assert_eq!(segment.options, Options::default());
}

#[test]
fn equal_ports_are_no_equal_ends() {
    let mut frame = v6(0);
    frame.copy_within(IP + 40..IP + 42, IP + 42);
    assert!(read(&frame).is_ok());
    frame[IP + 24..IP + 40].copy_from_slice(&A6);
    assert_eq!(read(&frame), Err(Reason::EqualEnds));
}

/// The options that [`read`] finds in a header that ends in `options`, and data
/// that look like more of them.
fn options(options: &[u8]) -> Options {
    let mut frame = v6(0);
    let words = options.len().div_ceil(4);
    frame.extend(options);
    frame.resize(IP + 60 + words * 4, 0);
    frame.extend([0xfe; 40]);
    frame[IP + 52] = u8::try_from((5 + words) << 4).unwrap();
    let payload = u16::try_from(frame.len() - IP - 40).unwrap();
    frame[IP + 4..IP + 6].copy_from_slice(&payload.to_be_bytes());
    read(&frame).unwrap().segment.options
}

#[test]
fn the_highest_of_all_sack_blocks_counts_and_nothing_behind_them() {
    for blocks in 1..=4_usize {
        for highest in 0..blocks {
            let mut raw = vec![1, 1, 5, u8::try_from(2 + 8 * blocks).unwrap()];
            for block in 0..blocks {
                let right = if block == highest {
                    0xf000_3000
                } else {
                    0xf000_2000_u32
                };
                raw.extend(0x1000_u32.to_be_bytes());
                raw.extend((right + u32::try_from(block).unwrap()).to_be_bytes());
            }
            let found = options(&raw);
            assert_eq!(found.present, Options::SACK);
            let expected = 0xf000_3000 + u32::try_from(highest).unwrap();
            assert_eq!(found.sack_high, Seq(expected), "{highest} of {blocks}");
        }
    }
}

#[test]
fn padded_timestamps_with_others_behind_them_hide_none() {
    let raw = [
        1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9,
    ];
    let found = options(&raw);
    assert_eq!(found.present, Options::TIMESTAMPS | Options::SACK);
    assert_eq!((found.ts_value, found.ts_echo), (0x102, 0x304));
    assert_eq!(found.sack_high, Seq(9));
    // Alone they fill twelve octets.
    let found = options(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(found.present, Options::TIMESTAMPS);
    assert_eq!((found.ts_value, found.ts_echo), (0x0102_0304, 0x0506_0708));
    // Not padded they are the same.
    let found = options(&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1]);
    assert_eq!(found.present, Options::TIMESTAMPS);
    assert_eq!((found.ts_value, found.ts_echo), (0x0102_0304, 0x0506_0708));
    // Twelve octets of something else.
    let found = options(&[8, 10, 0, 0, 1, 2, 0, 0, 3, 4, 3, 3]);
    assert_eq!(found.present, Options::TIMESTAMPS | Options::BROKEN);
    let found = options(&[2, 4, 0x05, 0xb4, 3, 3, 7, 4, 2, 1, 1, 0]);
    let expected = Options::MSS | Options::SCALE | Options::SACK_PERMITTED;
    assert_eq!(
        (found.present, found.mss, found.scale),
        (expected, 0x05b4, 7)
    );
}

#[test]
fn an_option_of_another_size_is_skipped() {
    for raw in [
        &[2, 3, 9, 3, 3, 7, 0, 0][..],
        &[3, 4, 9, 9, 3, 3, 7, 0],
        &[4, 3, 9, 3, 3, 7, 0, 0],
        &[8, 9, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7],
        &[5, 11, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7, 0, 0],
    ] {
        let found = options(raw);
        assert_eq!((found.present, found.scale), (Options::SCALE, 7), "{raw:?}");
    }
}

#[test]
fn an_option_may_fill_the_header_and_not_more() {
    assert_eq!(options(&[1, 3, 3, 7]).present, Options::SCALE);
    assert_eq!(options(&[1, 1, 3, 3]).present, Options::BROKEN);
    assert_eq!(options(&[1, 1, 1, 3]).present, Options::BROKEN);
    assert_eq!(options(&[1, 1, 4, 2]).present, Options::SACK_PERMITTED);
    let mut full = [1; 40];
    full[36..].copy_from_slice(&[2, 4, 1, 2]);
    assert_eq!(options(&full).mss, 0x102);
}

#[test]
fn a_tag_stripped_from_the_frame_counts_among_two() {
    let mut packet = Packet::default();
    // A stripped priority tag names no VLAN.
    let frame = tagged(&v4(0), &[(0x88a8, 6), (0x8100, 7)]);
    ethernet(&frame[..], 0xe000, &mut packet).unwrap();
    assert_eq!((packet.outer, packet.inner), (6, 7));
    let frame = tagged(&v4(0), &[(0x8100, 0), (0x8100, 7)]);
    ethernet(&frame[..], 5, &mut packet).unwrap();
    assert_eq!((packet.outer, packet.inner), (5, 7));
}
