//! What the frames of a flood are.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{PacketBuilder, TcpOptionElement};
use flood_ebpf::{
    Plan, ROOM, SOURCES_IPV4, SOURCES_IPV6, fold,
    offset::{FLAGS, ID, SEQ, SOURCE_V4, SOURCE_V6, TCP_V4, TCP_V6},
};

use crate::topology::Family;

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs with the options of a Linux client: MSS, SACK, timestamp, window
    /// scale; 74 octets of IPv4.
    Syn,
    /// ACKs of connections that do not exist, with a timestamp.
    Ack,
    /// As ACKs, with all eight flags at random.
    Mixed,
}

impl Kind {
    /// Its name on command lines and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::Ack => "ack",
            Self::Mixed => "mixed",
        }
    }
}

/// Whom a flood is for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Address and port; it decides the family.
    pub at: SocketAddr,
    /// MAC address of the interface that the frames leave.
    pub from_mac: [u8; 6],
    /// MAC address of the interface that they are for.
    pub to_mac: [u8; 6],
}

impl Target {
    /// The family of its address.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.at {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

/// A frame with right checksums, from which all others are made.
///
/// # Errors
///
/// The target's address is among the made-up sources.
pub fn template(kind: Kind, target: &Target) -> Result<Vec<u8>> {
    const PORT: u16 = 40_000;
    const WINDOW: u16 = 64_240;
    let ethernet = PacketBuilder::ethernet2(target.from_mac, target.to_mac);
    let (ip, mss) = match target.at.ip() {
        IpAddr::V4(to) => {
            ensure!(
                to.octets()[0] & 0xf0 != SOURCES_IPV4,
                "{to} is among the made-up sources"
            );
            (
                ethernet.ipv4([SOURCES_IPV4, 0, 0, 1], to.octets(), 64),
                1460,
            )
        }
        IpAddr::V6(to) => {
            let source = Ipv6Addr::new(0x2001, 0xdb8, u16::from(SOURCES_IPV6) << 8, 0, 0, 0, 0, 1);
            ensure!(
                to.octets()[4] != SOURCES_IPV6,
                "{to} is among the made-up sources"
            );
            (ethernet.ipv6(source.octets(), to.octets(), 64), 1440)
        }
    };
    let tcp = ip.tcp(PORT, target.at.port(), 1, WINDOW);
    let (now, then) = (1_000_000, 0);
    let tcp = match kind {
        Kind::Syn => tcp.syn().options(&[
            TcpOptionElement::MaximumSegmentSize(mss),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::Timestamp(now, then),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
        ]),
        Kind::Ack | Kind::Mixed => tcp.ack(1).options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(now, then),
        ]),
    };
    let tcp = tcp.map_err(|error| anyhow::anyhow!("options of a flood: {error}"))?;
    let mut frame = Vec::with_capacity(ROOM);
    tcp.write(&mut frame, &[])
        .map_err(|error| anyhow::anyhow!("writing a frame of a flood: {error}"))?;
    Ok(frame)
}

/// What the generator's program needs to know to make frames from `template`.
///
/// # Errors
///
/// The template is longer than there is room for, or of an odd length.
pub fn plan(kind: Kind, family: Family, template: &[u8]) -> Result<Plan> {
    if template.len() > ROOM || !template.len().is_multiple_of(2) {
        bail!(
            "a template of {} octets; at most {ROOM}, and an even number",
            template.len()
        );
    }
    let mut room = [0; ROOM];
    room[..template.len()].copy_from_slice(template);
    let word = |offset: usize| -> Result<u32> {
        let octets: [u8; 2] = room
            .get(offset..offset + 2)
            .and_then(|octets| octets.try_into().ok())
            .with_context(|| format!("a template without octet {offset}"))?;
        Ok(u32::from(u16::from_ne_bytes(octets)))
    };
    let sum = |offsets: &[usize]| -> Result<u32> {
        let mut sum = 0;
        for offset in offsets {
            sum += word(*offset)?;
        }
        Ok(fold(sum))
    };
    let (source, tcp) = match family {
        Family::V4 => ([SOURCE_V4, SOURCE_V4 + 2], TCP_V4),
        Family::V6 => ([SOURCE_V6 + 6, SOURCE_V6 + 14], TCP_V6),
    };
    let ip_sum = match family {
        Family::V4 => sum(&[ID, source[0], source[1]])?,
        Family::V6 => 0,
    };
    let mut words = [0; ROOM / 8];
    for (word, octets) in words.iter_mut().zip(room.chunks_exact(8)) {
        *word = u64::from_ne_bytes(octets.try_into().context("chunks of eight")?);
    }
    Ok(Plan {
        template: words,
        ip_sum,
        tcp_sum: sum(&[
            source[0],
            source[1],
            tcp,
            tcp + SEQ,
            tcp + SEQ + 2,
            tcp + FLAGS,
        ])?,
        random_flags: u32::from(kind == Kind::Mixed),
        gap_ns: 0,
    })
}
