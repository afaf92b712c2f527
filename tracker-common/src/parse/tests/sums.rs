//! TCP checksums, and bytes that are not all within reach.

use super::{read, tagged, v4, v6};
use crate::{
    parse::{Bytes, Packet, checksum_fits, ethernet},
    reason::Reason,
};

/// A frame of which only the first octets can be read, as a program sees one
/// that lies in several buffers.
struct Reach<'a>(&'a [u8], usize);

impl Bytes for Reach<'_> {
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        Bytes::get(&self.0[..self.1], offset)
    }

    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; 64]) -> bool {
        self.0[..self.1].copy(offset, length, buffer)
    }

    fn length(&self) -> u32 {
        self.0.length()
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        self.0[..self.1].sum(offset, length)
    }
}

#[test]
fn a_checksum_fits_what_it_was_made_for() {
    for payload in [0, 1, 2, 3, 4, 99, 1400] {
        for frame in [
            v4(payload),
            v6(payload),
            tagged(&v4(payload), &[(0x8100, 5)]),
        ] {
            let packet = read(&frame).unwrap();
            assert_eq!(checksum_fits(&frame[..], &packet), Some(true), "{payload}");
        }
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    for frame in [v4(5), v6(5)] {
        let packet = read(&frame).unwrap();
        let start = packet.at as usize;
        for at in start..frame.len() {
            let mut frame = frame.clone();
            frame[at] ^= 0x10;
            assert_eq!(checksum_fits(&frame[..], &packet), Some(false), "{at}");
        }
        // The pseudo-header: addresses and length.
        for word in 0..4 {
            let mut other = packet;
            other.source[word] ^= 0x100;
            assert_eq!(checksum_fits(&frame[..], &other), Some(false));
            let mut other = packet;
            other.destination[word] ^= 0x100;
            assert_eq!(checksum_fits(&frame[..], &other), Some(false));
        }
        let mut longer = frame.clone();
        longer.push(0);
        let mut other = packet;
        other.length += 1;
        assert_eq!(checksum_fits(&longer[..], &other), Some(false));
    }
}

#[test]
fn a_checksum_that_cannot_be_told_is_not_wrong() {
    let frame = v4(100);
    let packet = read(&frame).unwrap();
    let cut = Reach(&frame, frame.len() - 1);
    assert_eq!(checksum_fits(&cut, &packet), None);
    let whole = Reach(&frame, frame.len());
    assert_eq!(checksum_fits(&whole, &packet), Some(true));
    let mut fragment = packet;
    fragment.segment.fragmented = 1;
    assert_eq!(checksum_fits(&frame[..], &fragment), None);
    let mut error = packet;
    error.quoted = 1;
    assert_eq!(checksum_fits(&frame[..], &error), None);
}

#[test]
fn what_is_out_of_reach_is_not_missing() {
    // With an extension header (destination options).
    let mut extended = v6(4);
    extended.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
    (extended[19], extended[20]) = (32, 60);
    for frame in [
        v4(4),
        v6(4),
        tagged(&v4(4), &[(0x88a8, 1), (0x8100, 2)]),
        extended,
    ] {
        let header = read(&frame).unwrap().at as usize + 20;
        for reach in 0..frame.len() {
            let mut packet = Packet::default();
            let result = ethernet(&Reach(&frame, reach), 0, &mut packet);
            if reach < header {
                assert_eq!(result, Err(Reason::Unreachable), "{reach}");
            } else {
                assert_eq!(result, Ok(()), "{reach}");
            }
        }
    }
}

#[test]
fn options_out_of_reach_are_not_read() {
    let frame = v4(4);
    let mut packet = Packet::default();
    ethernet(&Reach(&frame, 14 + 20 + 20), 0, &mut packet).unwrap();
    assert_eq!(packet.segment.options.present, 0);
    assert_eq!(packet.segment.payload, 4);
}

#[test]
fn bytes_are_given_from_inside_the_frame_only() {
    let frame = [1_u8, 2, 3, 4, 5];
    assert_eq!(Bytes::get::<2>(&frame[..], 3), Some([4, 5]));
    assert_eq!(Bytes::get::<2>(&frame[..], 4), None);
    assert_eq!(Bytes::get::<1>(&frame[..], u32::MAX), None);
    assert!(frame[..].reaches(5) && !frame[..].reaches(6));

    let mut buffer = [0; 64];
    assert!(frame[..].copy(1, 4, &mut buffer));
    assert_eq!(buffer[..5], [2, 3, 4, 5, 0]);
    assert!(!frame[..].copy(1, 5, &mut buffer));
    assert!(!frame[..].copy(6, 0, &mut buffer));
    let long = [7; 70];
    assert!(long[..].copy(5, 64, &mut buffer));
    assert!(!long[..].copy(5, 65, &mut buffer), "more than it holds");

    let word = |octets: [u8; 4]| u64::from(u32::from_ne_bytes(octets));
    assert_eq!(
        frame[..].sum(0, 5),
        Some(word([1, 2, 3, 4]) + word([5, 0, 0, 0]))
    );
    assert_eq!(frame[..].sum(2, 2), Some(word([3, 4, 0, 0])));
    assert_eq!(frame[..].sum(2, 4), None);
    assert_eq!(frame[..].sum(6, 0), None);
}

/// Bytes whose sum is this.
struct Sum(u64);

impl Bytes for Sum {
    fn get<const N: usize>(&self, _: u32) -> Option<[u8; N]> {
        None
    }

    fn copy(&self, _: u32, _: u32, _: &mut [u8; 64]) -> bool {
        false
    }

    fn length(&self) -> u32 {
        0
    }

    fn sum(&self, _: u32, _: u32) -> Option<u64> {
        Some(self.0)
    }
}

/// RFC 1071 section 4.1: fold until nothing is left to fold.
#[test]
fn carries_of_carries_come_round() {
    let pseudo = u64::from(6_u16.to_be());
    for sum in [
        0xffff,
        0x1_fffe,
        0xffff_0000,
        0xffff_ffff,
        0x1_0000_fffe,
        0x1_0000_ffff,
        0x1_0000_ffff_ffff,
        0xffff_ffff_0000,
        0xffff_ffff_ffff,
        0xffff_fffe_ffff_ffff,
    ] {
        let mut folded: u64 = sum;
        while folded > 0xffff {
            folded = (folded & 0xffff) + (folded >> 16);
        }
        let fits = checksum_fits(&Sum(sum - pseudo), &Packet::default());
        assert_eq!(fits, Some(folded == 0xffff), "{sum:#x}");
    }
}
