//! What a rejected packet is answered with: an RST, or an ICMP error.

use crate::{
    abi::Family,
    parse::{Packet, fold},
    tcp::Flags,
};

/// Octets of an IPv4 header without options, of an IPv6 header, of a TCP header, and
/// of an ICMP header.
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const TCP: u32 = 20;
const ICMP: u32 = 8;

/// Hops that an answer may take.
const HOPS: u8 = 64;

/// Octets of the rejected packet that an ICMP error can quote.
pub const QUOTE: usize = 64;

/// An answer, from its IP header on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reply {
    /// As it lies in the packet.
    pub words: [u32; 32],
    /// Octets of it, a multiple of four.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
    /// What an ICMP error quotes: the packet from its IP header on.
    pub quote: [u8; QUOTE],
}

/// Makes the RST that answers the segment in `packet`, as a closed port does (RFC 9293
/// section 3.10.7.1): with the number that it acknowledges, or none and an
/// acknowledgement of all that it holds.
#[inline(always)]
pub fn reset(packet: &Packet, reply: &mut Reply) {
    let segment = &packet.segment;
    let acknowledges = segment.flags.has(Flags::ACK);
    let (seq, ack, flags) = if acknowledges {
        (segment.ack.0, 0, Flags::RST)
    } else {
        (0, segment.end().0, Flags::RST | Flags::ACK)
    };
    let at = begin(packet, 6, TCP, reply);
    let ports = u32::from(packet.destination_port) << 16 | u32::from(packet.source_port);
    let words = [
        ports.to_be(),
        seq.to_be(),
        ack.to_be(),
        u32::from_ne_bytes([(TCP << 2) as u8, flags, 0, 0]),
        0,
    ];
    let mut sum = ends(packet) + u64::from((6 + TCP).to_be());
    let mut index = 0;
    while index < words.len() {
        sum += u64::from(words[index]);
        reply.words[at + index] = words[index];
        index += 1;
    }
    reply.words[at + 4] = u32::from(!fold(sum));
}

/// Octets that an ICMP error quotes of the packet: its IP header, and of the segment
/// what tells which one it was. 0: so much is not there.
#[inline(always)]
#[must_use]
pub const fn quoted(packet: &Packet) -> u32 {
    let header = packet.at.wrapping_sub(packet.network);
    let length = header.wrapping_add(TCP);
    if header > QUOTE as u32 - TCP {
        return 0;
    }
    length & !3
}

/// Makes the ICMP error that answers the packet, from the [`quoted`] octets in
/// [`Reply::quote`]: communication administratively prohibited (RFC 1812 section
/// 5.2.7.1, RFC 4443 section 3.1). In the name of whom the packet was for, as its
/// sender expects no other.
#[inline(always)]
pub fn prohibited(packet: &Packet, reply: &mut Reply) {
    let quoted = quoted(packet);
    let (protocol, kind, code) = match packet.family() {
        Family::V4 => (1, 3, 13),
        Family::V6 => (58, 1, 1),
    };
    let length = ICMP + quoted;
    let at = begin(packet, protocol, length, reply);
    let first = u32::from_ne_bytes([kind, code, 0, 0]);
    let mut sum = u64::from(first);
    // IPv6 has a pseudo-header here, too (RFC 4443 section 2.3).
    if let Family::V6 = packet.family() {
        sum += ends(packet) + u64::from((u32::from(protocol) + length).to_be());
    }
    reply.words[at + 1] = 0;
    let mut index = 0;
    while index < QUOTE / 4 {
        if (index as u32) < quoted / 4 {
            let octets = [0, 1, 2, 3].map(|octet| reply.quote[index * 4 + octet]);
            let word = u32::from_ne_bytes(octets);
            sum += u64::from(word);
            reply.words[at + 2 + index] = word;
        }
        index += 1;
    }
    reply.words[at] = first | u32::from_ne_bytes(with_sum(!fold(sum)));
}

/// A checksum in the upper half of a word, as it lies in the packet.
#[inline(always)]
const fn with_sum(sum: u16) -> [u8; 4] {
    let [a, b] = sum.to_ne_bytes();
    [0, 0, a, b]
}

/// Both addresses of the packet, as a pseudo-header has them.
#[inline(always)]
fn ends(packet: &Packet) -> u64 {
    let mut sum = 0;
    let mut word = 0;
    while word < 4 {
        sum += u64::from(packet.source[word]) + u64::from(packet.destination[word]);
        word += 1;
    }
    sum
}

/// Writes the IP header of an answer with a payload of `length` octets; gives the word
/// where that begins.
#[inline(always)]
fn begin(packet: &Packet, protocol: u8, length: u32, reply: &mut Reply) -> usize {
    match packet.family() {
        Family::V4 => {
            reply.length = IPV4 + length;
            let [high, low] = (reply.length as u16).to_be_bytes();
            let words = [
                u32::from_ne_bytes([0x45, 0, high, low]),
                // No identification, not to be fragmented.
                u32::from_ne_bytes([0, 0, 0x40, 0]),
                u32::from_ne_bytes([HOPS, protocol, 0, 0]),
                packet.destination[0],
                packet.source[0],
            ];
            let mut sum = 0;
            let mut index = 0;
            while index < words.len() {
                sum += u64::from(words[index]);
                reply.words[index] = words[index];
                index += 1;
            }
            reply.words[2] |= u32::from_ne_bytes(with_sum(!fold(sum)));
            5
        }
        Family::V6 => {
            reply.length = IPV6 + length;
            let [high, low] = (length as u16).to_be_bytes();
            reply.words[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
            reply.words[1] = u32::from_ne_bytes([high, low, protocol, HOPS]);
            let mut word = 0;
            while word < 4 {
                reply.words[2 + word] = packet.destination[word];
                reply.words[6 + word] = packet.source[word];
                word += 1;
            }
            10
        }
    }
}
