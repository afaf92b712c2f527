//! ICMP errors that quote a TCP segment (RFC 792, RFC 4443).

use super::{Bytes, Packet};
use crate::{
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options, Segment},
};

/// Protocol number of ICMP.
pub const V4: u8 = 1;
/// Protocol number of ICMPv6.
pub const V6: u8 = 58;

const TCP: u8 = 6;

/// Octets before the quoted datagram, in both versions.
const HEADER: u32 = 8;

/// Reads the ICMP message at `offset` of a datagram that is no later fragment.
/// If it is an error about a TCP segment, then `packet` has the endpoints and
/// the sequence number of that segment, as its sender wrote them.
///
/// # Errors
///
/// [`Reason::NotTcp`] for everything else, cut messages included: what cannot be
/// read is nothing that a tracked flow would have to know.
#[inline(always)]
pub fn v4<B: Bytes + ?Sized>(frame: &B, offset: u32, packet: &mut Packet) -> Result<(), Reason> {
    let kind = frame.get::<1>(offset).ok_or(Reason::NotTcp)?;
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    if !matches!(kind[0], 3 | 4 | 5 | 11 | 12) {
        return Err(Reason::NotTcp);
    }
    let inner = offset + HEADER;
    let raw = frame.get::<20>(inner).ok_or(Reason::NotTcp)?;
    let header = u32::from(raw[0] & 0x0f) * 4;
    let later = u16::from_be_bytes([raw[6], raw[7]]) & 0x1fff;
    if raw[0] >> 4 != 4 || header < 20 || raw[9] != TCP || later != 0 {
        return Err(Reason::NotTcp);
    }
    packet.version = 4;
    packet.source = [
        u32::from_ne_bytes([raw[12], raw[13], raw[14], raw[15]]),
        0,
        0,
        0,
    ];
    packet.destination = [
        u32::from_ne_bytes([raw[16], raw[17], raw[18], raw[19]]),
        0,
        0,
        0,
    ];
    quoted(frame, inner + header, packet)
}

/// The same of an ICMPv6 message. A quoted datagram with extension headers is
/// not looked into.
///
/// # Errors
///
/// As [`v4`].
#[inline(always)]
pub fn v6<B: Bytes + ?Sized>(frame: &B, offset: u32, packet: &mut Packet) -> Result<(), Reason> {
    let kind = frame.get::<1>(offset).ok_or(Reason::NotTcp)?;
    // Unreachable, too big, time exceeded, parameter problem (section 2.1:
    // errors have the high bit off).
    if !matches!(kind[0], 1..=4) {
        return Err(Reason::NotTcp);
    }
    let inner = offset + HEADER;
    let raw = frame.get::<40>(inner).ok_or(Reason::NotTcp)?;
    if raw[0] >> 4 != 6 || raw[6] != TCP {
        return Err(Reason::NotTcp);
    }
    packet.version = 6;
    packet.addresses_v6(&raw);
    quoted(frame, inner + 40, packet)
}

/// Takes the first eight octets of the quoted TCP header, all that RFC 792
/// promises.
#[inline(always)]
fn quoted<B: Bytes + ?Sized>(frame: &B, offset: u32, packet: &mut Packet) -> Result<(), Reason> {
    let raw = frame.get::<8>(offset).ok_or(Reason::NotTcp)?;
    packet.quoted = 1;
    packet.source_port = u16::from_be_bytes([raw[0], raw[1]]);
    packet.destination_port = u16::from_be_bytes([raw[2], raw[3]]);
    packet.segment = Segment {
        seq: Seq(u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]])),
        ack: Seq(0),
        payload: 0,
        window: 0,
        flags: Flags(0),
        fragmented: 0,
        options: Options::default(),
    };
    Ok(())
}
