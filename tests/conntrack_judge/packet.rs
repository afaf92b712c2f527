//! Packets as both judges get them: the TCP segment untouched but for its
//! checksum, which is made right, in an IP header of ours.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, checksum::Sum16BitWords};

use crate::kernel::{Entry, Verdict};

/// Of the router's interface, to which frames are addressed.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

const TCP: u8 = 6;

/// Octets of a TCP header without options.
const TCP_HEADER: usize = 20;

/// What conntrack makes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// Of the packet.
    pub verdict: Verdict,
    /// Of its connection, afterwards.
    pub entry: Entry,
}

/// Numbers for the hosts of a capture. Its own addresses may be such as a router
/// refuses (127.0.0.1), and mean nothing to TCP.
#[derive(Debug, Default)]
pub struct Hosts(HashMap<IpAddr, u32>);

impl Hosts {
    fn number(&mut self, address: IpAddr) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX) + 1;
        *self.0.entry(address).or_insert(next)
    }
}

/// A TCP segment between two numbered hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    v4: bool,
    /// Host numbers of sender and receiver, below 2^24.
    hosts: [u32; 2],
    /// Header and data.
    segment: Vec<u8>,
}

impl Packet {
    /// Takes the segment out of a frame as it was captured, whatever its tags.
    ///
    /// # Errors
    ///
    /// Why neither judge could say something about it.
    pub fn of_ethernet(frame: &[u8], hosts: &mut Hosts) -> Result<Self, &'static str> {
        let parsed = LaxSlicedPacket::from_ethernet(frame).map_err(|_| "no whole link header")?;
        Self::of(&parsed, hosts)
    }

    fn of(parsed: &LaxSlicedPacket, hosts: &mut Hosts) -> Result<Self, &'static str> {
        let (source, destination, payload, length) = match &parsed.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                (
                    IpAddr::V4(header.source_addr()),
                    IpAddr::V4(header.destination_addr()),
                    ip.payload(),
                    usize::from(header.total_len()).saturating_sub(usize::from(header.ihl()) * 4),
                )
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                let extensions = ip.extensions().slice().len();
                (
                    IpAddr::V6(header.source_addr()),
                    IpAddr::V6(header.destination_addr()),
                    ip.payload(),
                    usize::from(header.payload_length()).saturating_sub(extensions),
                )
            }
            Some(LaxNetSlice::Arp(_)) | None => return Err("not IP"),
        };
        if payload.ip_number.0 != TCP {
            return Err("not TCP");
        }
        if payload.fragmented {
            return Err("a fragment");
        }
        if length == 0 {
            return Err("no length in its IP header");
        }
        if payload.payload.len() < TCP_HEADER {
            return Err("no whole TCP header");
        }
        let mut segment = payload.payload.to_vec();
        // What the capture left out was there.
        segment.resize(length.max(segment.len()), 0);
        Ok(Self {
            v4: source.is_ipv4(),
            hosts: [hosts.number(source), hosts.number(destination)],
            segment,
        })
    }

    /// Whether it is IPv4.
    pub const fn is_v4(&self) -> bool {
        self.v4
    }

    /// Ports of sender and receiver.
    pub fn ports(&self) -> (u16, u16) {
        let port = |at: usize| u16::from_be_bytes([self.segment[at], self.segment[at + 1]]);
        (port(0), port(2))
    }

    /// Addresses of sender and receiver.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let address = |host: u32| {
            let [_, a, b, c] = host.to_be_bytes();
            if self.v4 {
                IpAddr::V4(Ipv4Addr::new(10, a, b, c))
            } else {
                let [high, low] = [u16::from(a), u16::from_be_bytes([b, c])];
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low))
            }
        };
        (address(self.hosts[0]), address(self.hosts[1]))
    }

    /// The frame, numbered `number` (in the IPv4 identification, or the low bits
    /// of the IPv6 flow label), to `mac`.
    pub fn frame(&self, mac: [u8; 6], number: u16) -> Vec<u8> {
        let mut frame = Vec::with_capacity(54 + self.segment.len());
        frame.extend(mac);
        frame.extend([2, 0, 0, 0, 0, 2]);
        let length = u16::try_from(self.segment.len()).unwrap_or(u16::MAX);
        let mut sum = Sum16BitWords::new()
            .add_2bytes([0, TCP])
            .add_2bytes(length.to_be_bytes());
        let sum = match self.addresses() {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0];
                header.extend((length + 20).to_be_bytes());
                header.extend(number.to_be_bytes());
                header.extend([0, 0, 64, TCP, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let check = Sum16BitWords::new().add_slice(&header).ones_complement();
                header[10..12].copy_from_slice(&check.to_ne_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(header);
                sum.add_4bytes(source.octets())
                    .add_4bytes(destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0]);
                frame.extend(number.to_be_bytes());
                frame.extend(length.to_be_bytes());
                frame.extend([TCP, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                sum.add_16bytes(source.octets())
                    .add_16bytes(destination.octets())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("both addresses are of the packet's family")
            }
        };
        let mut segment = self.segment.clone();
        segment[16..18].fill(0);
        let check = sum.add_slice(&segment).ones_complement();
        segment[16..18].copy_from_slice(&check.to_ne_bytes());
        frame.extend(segment);
        frame
    }
}
