//! The TCP checksum (RFC 9293 section 3.1): one's complement arithmetic, which
//! does not care about byte order (RFC 1071 section 2).

use super::{Bytes, Packet};

/// Whether the checksum of the segment in `packet`, which was read from `frame`,
/// is right. `None` when that cannot be told: the segment is not all within
/// reach, or only a fragment.
#[inline(always)]
#[must_use]
pub fn checksum_fits<B: Bytes + ?Sized>(frame: &B, packet: &Packet) -> Option<bool> {
    const TCP: u16 = 6;
    if packet.segment.fragmented != 0 || packet.quoted != 0 {
        return None;
    }
    let mut sum = frame.sum(packet.at, packet.length)?;
    let mut word = 0;
    while word < 4 {
        sum += u64::from(packet.source[word]) + u64::from(packet.destination[word]);
        word += 1;
    }
    sum += u64::from(TCP.to_be()) + u64::from(packet.length.to_be());
    Some(fold(sum) == 0xffff)
}

/// A sum of 16-bit words, however many were added up at once, in 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Sum of all 32-bit words in `bytes`, as they lie in memory; the last one is
/// filled up with zeros.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from(u32::from_ne_bytes(word))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_come_round() {
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(u64::from(u32::MAX)), 0xffff);
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0x1_fffe), 0xffff);
    }

    #[test]
    fn an_odd_octet_is_the_first_of_its_word() {
        assert_eq!(fold(sum(&[1, 2, 3])), fold(sum(&[1, 2, 3, 0])));
    }
}
