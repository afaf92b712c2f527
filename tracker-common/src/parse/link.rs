//! Ethernet, 802.1Q and QinQ.

use super::{Bytes, Packet, missing};
use crate::reason::Reason;

const ETHERNET_HEADER: u32 = 14;
const TAG: u32 = 4;

/// Covers every offset that a network header can have: 14 to 22.
pub const OFFSET_MASK: u32 = 0x1f;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Customer tag (IEEE 802.1Q).
const TAG_C: u16 = 0x8100;
/// Service tag (IEEE 802.1ad).
const TAG_S: u16 = 0x88a8;
/// Service tag as used before 802.1ad.
const TAG_OLD: u16 = 0x9100;

/// The identifier in a tag; the rest is priority.
const VID_MASK: u16 = 0x0fff;

/// What follows the link header.
#[derive(Clone, Copy)]
pub enum Kind {
    Ipv4,
    Ipv6,
}

/// Where and what the network header is.
#[derive(Clone, Copy)]
pub struct Network {
    pub kind: Kind,
    pub offset: u32,
}

#[inline(always)]
pub fn ethernet<B: Bytes + ?Sized>(
    frame: &B,
    stripped_tag: u16,
    packet: &mut Packet,
) -> Result<Network, Reason> {
    let Some(raw) = frame.get::<2>(ETHERNET_HEADER - 2) else {
        return Err(missing(frame, 0, ETHERNET_HEADER, Reason::ShortEthernet));
    };
    let mut kind = u16::from_be_bytes(raw);
    let mut offset = ETHERNET_HEADER;
    let mut outer = stripped_tag & VID_MASK;
    let mut inner = 0;
    if is_tag(kind) {
        let (vid, next) = tag(frame, offset)?;
        // Identifier 0 is a priority tag: it names no VLAN.
        if outer == 0 {
            outer = vid
        } else {
            inner = vid
        }
        kind = next;
        offset += TAG;
        if is_tag(kind) {
            let (vid, next) = tag(frame, offset)?;
            if outer == 0 {
                outer = vid;
            } else if inner == 0 {
                inner = vid;
            } else {
                return Err(Reason::TooManyTags);
            }
            kind = next;
            offset += TAG;
        }
    }
    packet.outer = outer;
    packet.inner = inner;
    match kind {
        IPV4 => Ok(Network {
            kind: Kind::Ipv4,
            offset,
        }),
        IPV6 => Ok(Network {
            kind: Kind::Ipv6,
            offset,
        }),
        other if is_tag(other) => Err(Reason::TooManyTags),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    matches!(kind, TAG_C | TAG_S | TAG_OLD)
}

/// The identifier of the tag at `offset` and what follows it.
#[inline(always)]
fn tag<B: Bytes + ?Sized>(frame: &B, offset: u32) -> Result<(u16, u16), Reason> {
    let Some([a, b, c, d]) = frame.get::<4>(offset) else {
        return Err(missing(frame, offset, TAG, Reason::ShortEthernet));
    };
    Ok((
        u16::from_be_bytes([a, b]) & VID_MASK,
        u16::from_be_bytes([c, d]),
    ))
}
