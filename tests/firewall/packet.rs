//! IP packets octet by octet, with checksums that are right: conntrack looks at them.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use tracker_tests::program::talk::Seg;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP_V6: u8 = 58;
/// For experiments (RFC 3692): neither TCP nor anything else that is known.
pub const UNKNOWN: u8 = 253;

const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

/// What IP carries, whole.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub payload: Vec<u8>,
    /// With a header's worth of options that say nothing: NOPs in IPv4, a header of
    /// destination options with padding in IPv6.
    pub options: bool,
}

/// A part of a datagram's payload.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Octets before it; a multiple of 8.
    pub at: usize,
    /// Octets in it.
    pub length: usize,
    /// Whether it says that more follow.
    pub more: bool,
}

impl Datagram {
    /// A TCP segment from one end to the other; numbers count from `isns`, which are
    /// the sender's and the receiver's.
    pub fn segment(from: SocketAddr, to: SocketAddr, isns: [u32; 2], segment: Seg) -> Self {
        let mut tcp = Vec::with_capacity(40 + usize::from(segment.data));
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(isns[0].wrapping_add(segment.seq).to_be_bytes());
        let acknowledges = segment.flags & tracker_common::tcp::Flags::ACK != 0;
        let ack = isns[1].wrapping_add(segment.ack);
        tcp.extend(if acknowledges { ack } else { 0 }.to_be_bytes());
        let words = if segment.stamp.is_some() { 8 } else { 5 };
        tcp.extend([words << 4, segment.flags]);
        tcp.extend(segment.window.to_be_bytes());
        tcp.extend([0; 4]);
        if let Some(stamp) = segment.stamp {
            tcp.extend([1, 1, 8, 10]);
            tcp.extend(stamp.to_be_bytes());
            tcp.extend([0; 4]);
        }
        tcp.resize(tcp.len() + usize::from(segment.data), 0x5a);
        let mut datagram = Self::new(from.ip(), to.ip(), TCP, tcp);
        datagram.sum(16);
        datagram
    }

    /// A UDP datagram.
    pub fn udp(from: SocketAddr, to: SocketAddr, text: &[u8]) -> Self {
        let length = u16::try_from(8 + text.len()).expect("a short text");
        let mut udp = Vec::with_capacity(length.into());
        udp.extend(from.port().to_be_bytes());
        udp.extend(to.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0; 2]);
        udp.extend(text);
        let mut datagram = Self::new(from.ip(), to.ip(), UDP, udp);
        datagram.sum(6);
        datagram
    }

    /// An ICMP message: type and code, four octets that depend on them, and the rest.
    pub fn icmp(from: IpAddr, to: IpAddr, kind: [u8; 2], word: [u8; 4], rest: &[u8]) -> Self {
        let message = [&[kind[0], kind[1], 0, 0], &word[..], rest].concat();
        let protocol = if from.is_ipv4() { ICMP } else { ICMP_V6 };
        let mut datagram = Self::new(from, to, protocol, message);
        datagram.sum(2);
        datagram
    }

    /// Anything.
    pub const fn new(from: IpAddr, to: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            from,
            to,
            protocol,
            payload,
            options: false,
        }
    }

    /// Writes the payload's checksum `at` those octets of it.
    fn sum(&mut self, at: usize) {
        let length = u32::try_from(self.payload.len()).expect("a datagram's length");
        let mut sum = Sum16BitWords::new();
        let sum = match (self.from, self.to) {
            // ICMP has no pseudo header in IPv4.
            _ if self.protocol == ICMP => sum,
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                sum.add_4bytes(from.octets()).add_4bytes(to.octets())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                sum.add_16bytes(from.octets()).add_16bytes(to.octets())
            }
            (from, to) => unreachable!("{from} and {to} are of one family"),
        };
        let sum = if self.protocol == ICMP {
            sum
        } else {
            sum.add_2bytes([0, self.protocol])
                .add_4bytes(length.to_be_bytes())
        };
        let check = sum.add_slice(&self.payload).ones_complement();
        // 0 would say that there is none (RFC 768).
        let check = if self.protocol == UDP && check == 0 {
            0xffff
        } else {
            check
        };
        self.payload[at..at + 2].copy_from_slice(&check.to_ne_bytes());
    }

    /// The packet in one piece.
    pub fn whole(&self) -> Vec<u8> {
        self.packet(None, 0)
    }

    /// A part of it as a fragment with this identification.
    pub fn part(&self, part: Part, identification: u16) -> Vec<u8> {
        self.packet(Some(part), identification)
    }

    fn packet(&self, part: Option<Part>, identification: u16) -> Vec<u8> {
        let payload = match part {
            Some(Part { at, length, .. }) => &self.payload[at..self.payload.len().min(at + length)],
            None => &self.payload[..],
        };
        let mut packet = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let options: &[u8] = if self.options { &[1; 4] } else { &[] };
                let header = 20 + options.len();
                let total = u16::try_from(header + payload.len()).expect("a packet's length");
                let place = part.map_or(0, |Part { at, more, .. }| {
                    u16::try_from(at / 8).expect("a short datagram") | if more { 0x2000 } else { 0 }
                });
                let mut ip = vec![
                    0x40 | u8::try_from(header / 4).expect("a header's length"),
                    0,
                ];
                ip.extend(total.to_be_bytes());
                ip.extend(identification.to_be_bytes());
                ip.extend(place.to_be_bytes());
                ip.extend([64, self.protocol, 0, 0]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                ip.extend(options);
                let check = Sum16BitWords::new().add_slice(&ip).ones_complement();
                ip[10..12].copy_from_slice(&check.to_ne_bytes());
                ip
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut next = self.protocol;
                let mut headers = vec![];
                if let Some(Part { at, more, .. }) = part {
                    let place = u16::try_from(at).expect("a short datagram") | u16::from(more);
                    headers = vec![next, 0];
                    headers.extend(place.to_be_bytes());
                    headers.extend([0, 0]);
                    headers.extend(identification.to_be_bytes());
                    next = FRAGMENT;
                }
                if self.options {
                    // Padding of six octets (RFC 8200 section 4.2).
                    headers = [&[next, 0, 1, 4, 0, 0, 0, 0], &headers[..]].concat();
                    next = DESTINATION_OPTIONS;
                }
                let length = u16::try_from(headers.len() + payload.len()).expect("a length");
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend(length.to_be_bytes());
                ip.extend([next, 64]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                ip.extend(headers);
                ip
            }
            (from, to) => unreachable!("{from} and {to} are of one family"),
        };
        packet.extend(payload);
        packet
    }
}
