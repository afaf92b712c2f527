//! What packets of a capture begin with, and how each becomes an Ethernet frame
//! as the hooks see one.

use tracker_common::parse::{Bytes, sum};

use super::capture::{Direction, Record};

/// A link type (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u32);

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const LOOP: u32 = 108;
const RAW: u32 = 101;
/// Raw IP as OpenBSD and as other BSDs number it, in files that tcpdump did not
/// translate.
const RAW_BSD: u32 = 12;
const RAW_OPENBSD: u32 = 14;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const COOKED: u32 = 113;
const COOKED_2: u32 = 276;

impl Link {
    /// The link types that are read, for messages.
    pub const KNOWN: &'static str = "Ethernet (1), raw IP (12, 14, 101, 228, 229), Linux cooked \
         (113, 276), BSD loopback (0, 108)";

    /// Whether packets of this link type are read.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(
            self.0,
            NULL | ETHERNET | LOOP | RAW | RAW_BSD | RAW_OPENBSD | IPV4 | IPV6 | COOKED | COOKED_2
        )
    }
}

/// Octets of an Ethernet header.
const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// No protocol's number (IEEE 802.3: below 0x0600 it is a length).
const NOTHING: u16 = 0;

/// A packet as an Ethernet frame: its own, or one made up around what it
/// carries. Of a packet that was cut it tells the length that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header where it had none.
    header: [u8; ETHERNET_HEADER],
    /// Octets of `header` that count, all or none.
    made_up: usize,
    body: &'a [u8],
    length: u32,
}

/// What else a link header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading<'a> {
    /// The frame.
    pub frame: Frame<'a>,
    /// Which way the packet went.
    pub direction: Direction,
    /// Number of the interface on the machine that captured it, where the
    /// packet itself says so.
    pub ifindex: Option<u32>,
    /// Which way it came: the station that sent it, or what stands for it.
    pub from: [u8; 6],
}

impl<'a> Frame<'a> {
    /// A whole Ethernet frame of `length` octets, of which `body` was captured.
    const fn own(body: &'a [u8], length: u32) -> Self {
        Self {
            header: [0; ETHERNET_HEADER],
            made_up: 0,
            body,
            length,
        }
    }

    /// What lies behind the first `header` octets of a packet of another link
    /// type, as an Ethernet frame.
    fn wrapped(data: &'a [u8], header: u32, original: u32, ethertype: u16) -> Self {
        let mut made_up = [0; ETHERNET_HEADER];
        let [.., high, low] = &mut made_up;
        [*high, *low] = ethertype.to_be_bytes();
        Self {
            header: made_up,
            made_up: ETHERNET_HEADER,
            body: data.get(header as usize..).unwrap_or_default(),
            length: original
                .saturating_sub(header)
                .saturating_add(ETHERNET_HEADER as u32),
        }
    }

    /// Octets that were captured.
    #[must_use]
    pub const fn captured(&self) -> usize {
        self.made_up + self.body.len()
    }

    /// Whether octets are missing at its end.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.captured() < self.length as usize
    }

    /// Writes the frame to `out`, with zeros for what was not captured.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.header.iter().take(self.made_up));
        out.extend(self.body);
        out.resize(self.length as usize, 0);
    }

    /// The octets from `offset` on, which lies behind a made-up header.
    fn body(&self, offset: u32) -> Option<&'a [u8]> {
        let start = (offset as usize).checked_sub(self.made_up)?;
        self.body.get(start..)
    }

    /// The `N` octets at `offset`, which lies in a made-up header.
    fn head<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let header = self.header.iter().take(self.made_up);
        let mut octets = header.chain(self.body).skip(offset as usize);
        let mut out = [0; N];
        for place in &mut out {
            *place = *octets.next()?;
        }
        Some(out)
    }
}

impl Bytes for Frame<'_> {
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // The parser looks into the link header once.
        match self.body(offset) {
            Some(rest) => rest.first_chunk().copied(),
            None => self.head(offset),
        }
    }

    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; 64]) -> bool {
        let length = length as usize;
        let source = self.body(offset).and_then(|rest| rest.get(..length));
        match (source, buffer.get_mut(..length)) {
            (Some(source), Some(target)) => {
                target.copy_from_slice(source);
                true
            }
            // Nothing that is copied lies in a link header.
            _ => false,
        }
    }

    fn length(&self) -> u32 {
        self.length
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        if length > SUMMABLE {
            return None;
        }
        let rest = self.body(offset)?;
        Some(sum(rest.get(..length as usize)?))
    }
}

/// Octets of the longest segment whose checksum is looked at, as in
/// tracker-ebpf/src/frame.rs: a jumbo frame's. What is longer was put together
/// by the capturing machine, which has not computed a checksum for it.
const SUMMABLE: u32 = 9216;

/// What `record` is as a frame; `None` for a link type that is not known.
#[must_use]
pub fn frame<'a>(record: &Record<'a>) -> Option<Heading<'a>> {
    let Record { data, original, .. } = *record;
    let mut heading = Heading {
        frame: Frame::own(data, original),
        direction: record.direction,
        ifindex: None,
        from: [0; 6],
    };
    heading.frame = match record.link.0 {
        ETHERNET => {
            let sender = data.get(6..).and_then(|rest| rest.first_chunk());
            heading.from = sender.copied().unwrap_or_default();
            heading.frame
        }
        RAW | RAW_BSD | RAW_OPENBSD => {
            let ethertype = match data.first().map(|first| first >> 4) {
                Some(6) => ETHERTYPE_IPV6,
                // An empty one is an IP header that is too short.
                Some(4) | None => ETHERTYPE_IPV4,
                Some(_) => NOTHING,
            };
            Frame::wrapped(data, 0, original, ethertype)
        }
        IPV4 => Frame::wrapped(data, 0, original, ETHERTYPE_IPV4),
        IPV6 => Frame::wrapped(data, 0, original, ETHERTYPE_IPV6),
        NULL | LOOP => match data.first_chunk() {
            Some(&family) => Frame::wrapped(data, 4, original, of_family(family)),
            None => headless(data.len(), original),
        },
        COOKED => match data.first_chunk::<16>() {
            Some(&[kind, kind_low, hardware, hardware_low, .., high, low]) => {
                heading.direction = direction(u16::from_be_bytes([kind, kind_low]));
                let hardware = u16::from_be_bytes([hardware, hardware_low]);
                let protocol = u16::from_be_bytes([high, low]);
                Frame::wrapped(data, 16, original, of_hardware(hardware, protocol))
            }
            None => headless(data.len(), original),
        },
        COOKED_2 => match data.first_chunk::<20>() {
            Some(
                &[
                    high,
                    low,
                    _,
                    _,
                    a,
                    b,
                    c,
                    d,
                    hardware,
                    hardware_low,
                    kind,
                    ..,
                ],
            ) => {
                heading.direction = direction(kind.into());
                heading.ifindex = Some(u32::from_be_bytes([a, b, c, d]));
                let hardware = u16::from_be_bytes([hardware, hardware_low]);
                let protocol = u16::from_be_bytes([high, low]);
                Frame::wrapped(data, 20, original, of_hardware(hardware, protocol))
            }
            None => headless(data.len(), original),
        },
        _ => return None,
    };
    if matches!(
        record.link.0,
        NULL | LOOP | RAW | RAW_BSD | RAW_OPENBSD | IPV4 | IPV6
    ) {
        heading.from = [0, 0, 0, 0, 0, u8::from(is_upward(&heading.frame))];
    }
    Some(heading)
}

/// Whether a datagram goes to the higher of its two addresses. Where nothing
/// tells which way packets go, each direction is taken for one.
fn is_upward(frame: &Frame<'_>) -> bool {
    const IP: u32 = ETHERNET_HEADER as u32;
    match frame.get::<1>(IP).map(|[first]| first >> 4) {
        Some(6) => frame.get::<16>(IP + 8) < frame.get::<16>(IP + 24),
        _ => frame.get::<4>(IP + 12) < frame.get::<4>(IP + 16),
    }
}

/// A packet of which `captured` octets are there, that ends or was cut inside
/// its link header: an Ethernet frame of which the same is true.
fn headless(captured: usize, original: u32) -> Frame<'static> {
    let was_cut = captured < original as usize;
    Frame::own(&[], if was_cut { original } else { 0 })
}

/// EtherType of an address family in the order of whoever captured it. IPv6 has
/// another number on each system.
fn of_family(raw: [u8; 4]) -> u16 {
    let (little, big) = (u32::from_le_bytes(raw), u32::from_be_bytes(raw));
    match little.min(big) {
        // `AF_INET` everywhere.
        2 => ETHERTYPE_IPV4,
        // `AF_INET6` of Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 24 | 28 | 30 => ETHERTYPE_IPV6,
        _ => NOTHING,
    }
}

/// EtherType of a cooked packet. On netlink and on radio devices the field
/// holds something else.
const fn of_hardware(hardware: u16, protocol: u16) -> u16 {
    /// `ARPHRD_FRAD`, `ARPHRD_IEEE80211` and its two variants,
    /// `ARPHRD_NETLINK` (include/uapi/linux/if_arp.h).
    const OTHERS: [u16; 5] = [770, 801, 802, 803, 824];
    let mut index = 0;
    while index < OTHERS.len() {
        if OTHERS[index] == hardware {
            return NOTHING;
        }
        index += 1;
    }
    protocol
}

/// `PACKET_OUTGOING` is 4 (include/uapi/linux/if_packet.h), those below came in.
const fn direction(kind: u16) -> Direction {
    match kind {
        0..=3 => Direction::Inbound,
        4 => Direction::Outbound,
        _ => Direction::Unknown,
    }
}
