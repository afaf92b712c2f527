//! ICMP errors: which are read, and what of the segment that they quote.

use super::{A4, A6, B4, B6, read, v4, v6};
use crate::{abi::Family, parse::Packet, reason::Reason, seq::Seq, tcp::Segment};

/// Where an IP header starts.
const IP: usize = 14;

/// An IPv4 datagram of `protocol` with `words` words of options and no more
/// payload than `payload`, from a router to A4.
fn outer_v4(protocol: u8, words: usize, payload: &[u8]) -> Vec<u8> {
    let header = 20 + words * 4;
    let mut frame = vec![0; IP + header];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[IP] = 0x45 + u8::try_from(words).unwrap();
    let total = u16::try_from(header + payload.len()).unwrap();
    frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    frame[IP + 9] = protocol;
    frame[IP + 12..IP + 16].copy_from_slice(&[203, 0, 113, 1]);
    frame[IP + 16..IP + 20].copy_from_slice(&A4);
    frame.extend(payload);
    frame
}

fn outer_v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; IP + 40];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[IP] = 0x60;
    let length = u16::try_from(payload.len()).unwrap();
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame[IP + 6] = next;
    frame[IP + 8..IP + 24].copy_from_slice(&[0xfd; 16]);
    frame[IP + 24..IP + 40].copy_from_slice(&A6);
    frame.extend(payload);
    frame
}

/// An ICMP message of `kind` that quotes `datagram`.
fn message(kind: u8, datagram: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 1, 0xaa, 0xbb, 0xff, 0xff, 0xff, 0xff];
    message.extend(datagram);
    message
}

/// The datagram of [`v4`] as far as RFC 792 promises it: eight octets of TCP.
fn quoted_v4() -> Vec<u8> {
    v4(0)[IP..IP + 28].to_vec()
}

fn quoted_v6() -> Vec<u8> {
    v6(0)[IP..IP + 48].to_vec()
}

fn expect_quote(packet: &Packet) {
    assert_eq!(packet.quoted, 1);
    assert_eq!((packet.source_port, packet.destination_port), (40_000, 443));
    let expected = Segment {
        seq: Seq(77),
        ..Segment::default()
    };
    assert_eq!(packet.segment, expected, "all else is unknown");
}

#[test]
fn errors_are_read_and_other_messages_are_not() {
    for kind in 0..=255 {
        let frame = outer_v4(1, 0, &message(kind, &quoted_v4()));
        match read(&frame) {
            Ok(packet) => {
                assert!([3, 4, 5, 11, 12].contains(&kind), "{kind}");
                expect_quote(&packet);
            }
            Err(reason) => {
                assert!(![3, 4, 5, 11, 12].contains(&kind), "{kind}");
                assert_eq!(reason, Reason::NotTcp);
            }
        }
        let frame = outer_v6(58, &message(kind, &quoted_v6()));
        match read(&frame) {
            Ok(packet) => {
                assert!((1..=4).contains(&kind), "{kind}");
                expect_quote(&packet);
            }
            Err(reason) => {
                assert!(!(1..=4).contains(&kind), "{kind}");
                assert_eq!(reason, Reason::NotTcp);
            }
        }
    }
}

#[test]
fn the_ends_are_those_of_the_quoted_segment() {
    let packet = read(&outer_v4(1, 0, &message(3, &quoted_v4()))).unwrap();
    assert_eq!(packet.family(), Family::V4);
    assert_eq!(packet.source, [u32::from_ne_bytes(A4), 0, 0, 0]);
    assert_eq!(packet.destination, [u32::from_ne_bytes(B4), 0, 0, 0]);
    assert_eq!(packet.bytes, 20 + 8 + 28, "of the error itself");

    let packet = read(&outer_v6(58, &message(1, &quoted_v6()))).unwrap();
    assert_eq!(packet.family(), Family::V6);
    let octets = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    assert_eq!(octets(packet.source), A6);
    assert_eq!(octets(packet.destination), B6);
    assert_eq!(packet.bytes, 40 + 8 + 48);
}

#[test]
fn options_of_either_header_are_skipped() {
    for (outside, inside) in [(0, 1), (3, 0), (10, 10)] {
        let mut quote = quoted_v4();
        quote[0] = 0x45 + u8::try_from(inside).unwrap();
        quote.splice(20..20, vec![1; inside * 4]);
        let packet = read(&outer_v4(1, outside, &message(11, &quote))).unwrap();
        expect_quote(&packet);
    }
}

#[test]
fn a_quote_of_something_else_is_nothing_to_know() {
    // Version, header length, fragment offset (both octets), protocol.
    for (at, value) in [(0, 0x65), (0, 0x44), (6, 0x10), (7, 0x01), (9, 17), (9, 1)] {
        let mut quote = quoted_v4();
        quote[at] = value;
        let frame = outer_v4(1, 0, &message(3, &quote));
        assert_eq!(read(&frame), Err(Reason::NotTcp), "{at}: {value:#x}");
    }
    // Don't-fragment and more-fragments say nothing about where it starts.
    for bits in [0x40, 0x20] {
        let mut quote = quoted_v4();
        quote[6] = bits;
        expect_quote(&read(&outer_v4(1, 0, &message(3, &quote))).unwrap());
    }
    for (at, value) in [(0, 0x45), (6, 17), (6, 44)] {
        let mut quote = quoted_v6();
        quote[at] = value;
        let frame = outer_v6(58, &message(1, &quote));
        assert_eq!(read(&frame), Err(Reason::NotTcp), "{at}: {value:#x}");
    }
}

#[test]
fn a_cut_error_is_nothing_to_know() {
    let whole = message(3, &quoted_v4());
    for length in 0..whole.len() {
        let frame = outer_v4(1, 0, &whole[..length]);
        assert_eq!(read(&frame), Err(Reason::NotTcp), "{length}");
    }
    let whole = message(3, &quoted_v6());
    for length in 0..whole.len() {
        let frame = outer_v6(58, &whole[..length]);
        assert_eq!(read(&frame), Err(Reason::NotTcp), "{length}");
    }
}

#[test]
fn a_later_fragment_of_an_error_is_not_read() {
    for (field, is_read) in [
        ([0x20, 0x00], true),
        ([0x00, 0x01], false),
        ([0x20, 0x01], false),
        ([0x1f, 0xff], false),
    ] {
        let mut frame = outer_v4(1, 0, &message(3, &quoted_v4()));
        frame[IP + 6..IP + 8].copy_from_slice(&field);
        assert_eq!(read(&frame).is_ok(), is_read, "{field:?}");
    }
}

#[test]
fn the_protocol_of_one_version_means_nothing_in_the_other() {
    let frame = outer_v4(58, 0, &message(3, &quoted_v4()));
    assert_eq!(read(&frame), Err(Reason::NotTcp));
    let frame = outer_v6(1, &message(3, &quoted_v6()));
    assert_eq!(read(&frame), Err(Reason::NotTcp));
}

#[test]
fn a_packet_forgets_the_error_before_it() {
    let mut packet = read(&outer_v4(1, 0, &message(3, &quoted_v4()))).unwrap();
    crate::parse::ethernet(&v6(5)[..], 0, &mut packet).unwrap();
    assert_eq!((packet.quoted, packet.segment.payload), (0, 5));
    let mut packet = read(&outer_v4(1, 0, &message(3, &quoted_v4()))).unwrap();
    crate::parse::datagram(&v6(5)[IP..], 0, &mut packet).unwrap();
    assert_eq!((packet.quoted, packet.segment.payload), (0, 5));
}
