//! IPv4 with options, IPv6 with extension headers, fragments of both.

use super::{Bytes, Packet, icmp, missing};
use crate::reason::Reason;

const TCP: u8 = 6;

/// IPv6 extension headers that are followed. Real traffic has one or two; RFC
/// 8504 section 5.3 lets a node limit them. Each costs the verifier a loop pass.
const MAX_EXTENSIONS: u32 = 8;

/// A later fragment that starts before this many octets of its segment would
/// overwrite the fixed TCP header (RFC 3128).
const TCP_HEADER: u32 = 20;

/// Largest length that the length fields can express; a GSO packet beyond it
/// carries 0 there (BIG TCP).
const MAX_LENGTH: u32 = 0xffff;

/// Where the TCP header is and how long the segment.
#[derive(Clone, Copy)]
pub struct Transport {
    /// Offset of the TCP header in the frame.
    pub offset: u32,
    /// Octets from there to the end of the datagram.
    pub length: u32,
    /// 1 when more of the segment follows in other fragments, else 0.
    pub fragmented: u8,
}

impl Transport {
    /// Of a datagram without TCP.
    const NONE: Self = Self {
        offset: 0,
        length: 0,
        fragmented: 0,
    };

    /// The same, of which the verifier knows only what the masks say: so it
    /// follows the TCP header once, and not once for each way to it.
    #[inline(always)]
    pub const fn veiled(self, veil: u8) -> Self {
        // The farthest header lies behind Ethernet, two tags, the IPv6 header
        // and eight extension headers of 2,048 octets: below 2^15.
        Self {
            offset: self.offset.wrapping_add(veil as u32) & 0x7fff,
            length: self.length ^ veil as u32,
            fragmented: self.fragmented.wrapping_add(veil) & 1,
        }
    }
}

#[inline(always)]
pub fn v4<B: Bytes + ?Sized>(
    frame: &B,
    offset: u32,
    packet: &mut Packet,
) -> Result<Transport, Reason> {
    let Some(raw) = frame.get::<20>(offset) else {
        return Err(missing(frame, offset, 20, Reason::ShortIp));
    };
    let header = u32::from(raw[0] & 0x0f) * 4;
    if raw[0] >> 4 != 4 || header < 20 {
        return Err(Reason::BadIpHeader);
    }
    let total = match u32::from(u16::from_be_bytes([raw[2], raw[3]])) {
        0 => beyond_field(frame, offset),
        total => total,
    };
    if total < header || !frame.reaches(offset + total) {
        return Err(Reason::BadIpLength);
    }
    let fragment = u16::from_be_bytes([raw[6], raw[7]]);
    if raw[9] == icmp::V4 && fragment & 0x1fff == 0 {
        packet.bytes = total;
        icmp::v4(frame, offset + header, packet)?;
        return Ok(Transport::NONE);
    }
    if raw[9] != TCP {
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
    packet.bytes = total;
    let fragmented = (fragment >> 13) as u8 & 1;
    later_fragment(u32::from(fragment & 0x1fff) * 8)?;
    Ok(Transport {
        offset: offset + header,
        length: total - header,
        fragmented,
    })
}

#[inline(always)]
pub fn v6<B: Bytes + ?Sized>(
    frame: &B,
    offset: u32,
    packet: &mut Packet,
) -> Result<Transport, Reason> {
    let Some(raw) = frame.get::<40>(offset) else {
        return Err(missing(frame, offset, 40, Reason::ShortIp));
    };
    if raw[0] >> 4 != 6 {
        return Err(Reason::BadIpHeader);
    }
    let total = match u32::from(u16::from_be_bytes([raw[4], raw[5]])) {
        0 => beyond_field(frame, offset).max(40),
        payload => payload + 40,
    };
    if !frame.reaches(offset + total) {
        return Err(Reason::BadIpLength);
    }
    packet.bytes = total;
    if raw[6] == icmp::V6 {
        icmp::v6(frame, offset + 40, packet)?;
        return Ok(Transport::NONE);
    }
    packet.version = 6;
    packet.addresses_v6(&raw);
    let (at, fragmented) = if raw[6] == TCP {
        (40, 0)
    } else {
        extensions(frame, offset, raw[6], total)?
    };
    Ok(Transport {
        offset: offset + at,
        length: total - at,
        fragmented,
    })
}

/// Length of a datagram whose length field is 0: that of the frame's rest if
/// no field could hold it, else 0.
#[inline(always)]
fn beyond_field<B: Bytes + ?Sized>(frame: &B, offset: u32) -> u32 {
    let rest = frame.length().saturating_sub(offset);
    if rest > MAX_LENGTH { rest } else { 0 }
}

/// Follows the extension headers (RFC 8200 section 4) from `next`, the first
/// one's number, to the TCP header: its offset behind the IPv6 header's start,
/// at most `total`, and whether it is in a first fragment.
#[inline(always)]
fn extensions<B: Bytes + ?Sized>(
    frame: &B,
    offset: u32,
    mut next: u8,
    total: u32,
) -> Result<(u32, u8), Reason> {
    let mut at = 40;
    let mut fragmented = 0;
    let mut seen = 0;
    while seen < MAX_EXTENSIONS {
        if next == TCP {
            return Ok((at, fragmented));
        }
        if !matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
            return Err(Reason::NotTcp);
        }
        let Some(raw) = frame.get::<8>(offset + at) else {
            return Err(missing(frame, offset + at, 8, Reason::ShortExtension));
        };
        let length = match next {
            // Fragment header.
            44 => {
                let field = u16::from_be_bytes([raw[2], raw[3]]);
                fragmented = field as u8 & 1;
                // What follows a later fragment's header is not a header.
                if field & 0xfff8 != 0 {
                    if raw[0] != TCP {
                        return Err(Reason::LaterFragment);
                    }
                    later_fragment(u32::from(field & 0xfff8))?;
                }
                8
            }
            // Authentication header: counted in words, less two (RFC 4302).
            51 => (u32::from(raw[1]) + 2) * 4,
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            _ => (u32::from(raw[1]) + 1) * 8,
        };
        next = raw[0];
        at += length;
        if at > total {
            return Err(Reason::ShortExtension);
        }
        seen += 1;
    }
    if next == TCP {
        Ok((at, fragmented))
    } else {
        Err(Reason::TooManyExtensions)
    }
}

/// Ends a TCP packet that is not its segment's first part. `start` is where in
/// the segment it lies, in octets.
#[inline(always)]
const fn later_fragment(start: u32) -> Result<(), Reason> {
    match start {
        0 => Ok(()),
        1..TCP_HEADER => Err(Reason::OverlappingFragment),
        _ => Err(Reason::LaterFragment),
    }
}
