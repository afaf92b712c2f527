//! From the bytes of a frame to a TCP segment and its endpoints.
//!
//! The same code reads a frame in the kernel, in a capture file and under the
//! fuzzer: it sees bytes only through [`Bytes`]. It never panics; whatever it
//! cannot read has a [`Reason`].

mod checksum;
mod icmp;
mod ip;
mod link;
mod options;
mod tcp;

pub use checksum::{checksum_fits, fold, sum};

use crate::{
    abi::{Family, Key, Side, Zone},
    reason::Reason,
    tcp::Segment,
};

/// Bytes of a frame.
pub trait Bytes {
    /// The `N` bytes at `offset`, or `None` when they are not all within reach.
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// Copies the `length` bytes at `offset` to the start of `buffer`; false
    /// when they are not all in the frame, or more than the buffer holds.
    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; options::BUFFER]) -> bool;

    /// Length of the whole frame, within reach or not. May be slow.
    fn length(&self) -> u32;

    /// Sum of the `length` octets at `offset` in words of 32 bits, as they lie in
    /// memory, the last one filled up with zeros; `None` when they are not all
    /// within reach.
    fn sum(&self, offset: u32, length: u32) -> Option<u64>;

    /// Whether the frame, within reach or not, is at least `end` octets long.
    #[inline(always)]
    fn reaches(&self, end: u32) -> bool {
        end <= self.length()
    }
}

impl Bytes for [u8] {
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(N)?;
        self.get(start..end)?.try_into().ok()
    }

    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; options::BUFFER]) -> bool {
        let Ok(start) = usize::try_from(offset) else {
            return false;
        };
        let Some(source) = self
            .get(start..)
            .and_then(|rest| rest.get(..length as usize))
        else {
            return false;
        };
        let Some(target) = buffer.get_mut(..source.len()) else {
            return false;
        };
        target.copy_from_slice(source);
        true
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        let rest = self.get(usize::try_from(offset).ok()?..)?;
        Some(sum(rest.get(..usize::try_from(length).ok()?)?))
    }
}

/// A TCP packet as the tracker reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// 4 or 6; see [`Packet::family`].
    version: u8,
    /// Sender's address as it lies in the packet; IPv4 in the first word.
    pub source: [u32; 4],
    /// Receiver's address.
    pub destination: [u32; 4],
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Outer VLAN identifier, 0 when untagged.
    pub outer: u16,
    /// Inner VLAN identifier, 0 when there is none.
    pub inner: u16,
    /// Octets of the IP datagram.
    pub bytes: u32,
    /// Offset of the IP header in the frame.
    pub network: u32,
    /// Offset of the TCP header in the frame.
    pub at: u32,
    /// Octets from there to the end of the datagram.
    pub length: u32,
    /// The segment.
    pub segment: Segment,
    /// 1: the packet is an ICMP error. Endpoints and sequence number are those of
    /// the segment that it quotes, all else of `segment` is empty.
    pub quoted: u8,
    /// Zero, of which the compiler and the verifier know nothing; see
    /// [`crate::tcp::Context::veil`].
    pub veil: u8,
    /// Working memory of the option parser.
    raw_options: [u8; options::BUFFER],
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            version: 0,
            source: [0; 4],
            destination: [0; 4],
            source_port: 0,
            destination_port: 0,
            outer: 0,
            inner: 0,
            bytes: 0,
            network: 0,
            at: 0,
            length: 0,
            segment: Segment::default(),
            quoted: 0,
            veil: 0,
            raw_options: [0; options::BUFFER],
        }
    }
}

impl Packet {
    /// Address family.
    #[inline(always)]
    #[must_use]
    pub const fn family(&self) -> Family {
        if self.version == 4 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// Takes the addresses of an IPv6 header.
    #[inline(always)]
    fn addresses_v6(&mut self, raw: &[u8; 40]) {
        let mut word = 0;
        while word < 4 {
            let at = 8 + word * 4;
            self.source[word] =
                u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
            self.destination[word] =
                u32::from_ne_bytes([raw[at + 16], raw[at + 17], raw[at + 18], raw[at + 19]]);
            word += 1;
        }
    }

    /// The key of its flow in `zone`, and which side of the key sent it.
    #[inline(always)]
    #[must_use]
    pub fn key(&self, zone: Zone) -> (Key, Side) {
        match self.family() {
            Family::V4 => Key::v4(
                (self.source[0], self.source_port),
                (self.destination[0], self.destination_port),
                zone,
            ),
            Family::V6 => Key::v6(
                (self.source, self.source_port),
                (self.destination, self.destination_port),
                zone,
            ),
        }
    }
}

/// Reads an Ethernet frame into `packet`, whatever was there before but for
/// `veil`, which is only read.
///
/// `stripped_tag` is the VLAN tag (TCI) that the kernel or the NIC holds beside
/// the frame, 0 for none.
///
/// # Errors
///
/// The reason with which the frame leaves when it is no TCP segment that can be
/// tracked. `packet` is then filled in part.
#[inline(always)]
pub fn ethernet<B: Bytes + ?Sized>(
    frame: &B,
    stripped_tag: u16,
    packet: &mut Packet,
) -> Result<(), Reason> {
    packet.bytes = 0;
    packet.quoted = 0;
    let network = link::ethernet(frame, stripped_tag, packet)?;
    // From here on it does not matter how many tags there were: veiled and
    // masked, the offset is the same unknown to the verifier on every way.
    let offset = network.offset.wrapping_add(packet.veil.into()) & link::OFFSET_MASK;
    packet.network = offset;
    let transport = match network.kind {
        link::Kind::Ipv4 => ip::v4(frame, offset, packet)?,
        link::Kind::Ipv6 => ip::v6(frame, offset, packet)?,
    };
    segment(frame, transport, packet)
}

/// Reads an IP datagram that starts at `offset` of the frame into `packet`, as
/// [`ethernet`] does; the VLAN identifiers in `packet` stay as they are.
///
/// # Errors
///
/// As [`ethernet`]; [`Reason::NotIp`] for another version.
pub fn datagram<B: Bytes + ?Sized>(
    frame: &B,
    offset: u32,
    packet: &mut Packet,
) -> Result<(), Reason> {
    packet.bytes = 0;
    packet.quoted = 0;
    packet.network = offset;
    let Some([first]) = frame.get::<1>(offset) else {
        return Err(missing(frame, offset, 1, Reason::ShortIp));
    };
    let transport = match first >> 4 {
        4 => ip::v4(frame, offset, packet)?,
        6 => ip::v6(frame, offset, packet)?,
        _ => return Err(Reason::NotIp),
    };
    segment(frame, transport, packet)
}

/// Reads what the datagram carries.
#[inline(always)]
fn segment<B: Bytes + ?Sized>(
    frame: &B,
    transport: ip::Transport,
    packet: &mut Packet,
) -> Result<(), Reason> {
    if packet.quoted != 0 {
        return Ok(());
    }
    let transport = transport.veiled(packet.veil);
    packet.at = transport.offset;
    packet.length = transport.length;
    tcp::header(frame, transport, packet)?;
    if packet.source_port == packet.destination_port && packet.source == packet.destination {
        return Err(Reason::EqualEnds);
    }
    Ok(())
}

/// The reason for `wanted` bytes at `offset` that [`Bytes::get`] did not give:
/// `short` when the frame ends before them.
#[inline(always)]
fn missing<B: Bytes + ?Sized>(frame: &B, offset: u32, wanted: u32, short: Reason) -> Reason {
    if frame.reaches(offset.wrapping_add(wanted)) {
        Reason::Unreachable
    } else {
        short
    }
}

#[cfg(test)]
mod tests;
