//! Single segments that no socket sent: an attacker's, or a made-up host's.
//!
//! They leave the client's end as raw frames. Answers to a host that is nobody's
//! come back there and are ignored: no kernel resets them.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use etherparse::PacketBuilder;

use crate::{
    frames::{Wire, mac},
    netns::Namespace,
    topology::{FIRST_MAC, Family, INTERFACE, Placement, Topology},
};

/// A segment to send.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Who seems to send it.
    pub from: SocketAddr,
    /// Who receives it.
    pub to: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement, if it is to carry one.
    pub ack: Option<u32>,
    /// It carries a SYN.
    pub syn: bool,
    /// It carries an RST.
    pub rst: bool,
    /// Data.
    pub payload: &'a [u8],
    /// Its TCP checksum is wrong.
    pub damaged: bool,
}

/// Sends segments from the client's end of a topology without a router.
pub struct Spoofer<'a> {
    wire: Wire,
    own_mac: [u8; 6],
    server_mac: [u8; 6],
    server: &'a Namespace,
}

impl<'a> Spoofer<'a> {
    /// Opens a raw socket there.
    ///
    /// # Errors
    ///
    /// The topology has a router; `ip` or a raw socket fails.
    pub fn new(topology: &'a Topology) -> Result<Self> {
        if topology.placement == Placement::Gateway {
            bail!("a spoofer needs a topology without a router");
        }
        let own_mac = mac(&topology.client.netns, INTERFACE)?;
        let server_mac = mac(&topology.server.netns, INTERFACE)?;
        Ok(Self {
            wire: Wire::new(&topology.client.netns, Family::V4, own_mac, server_mac)?,
            own_mac,
            server_mac,
            server: &topology.server.netns,
        })
    }

    /// Makes an address of nobody known to the server, which then answers it.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn pretend(&self, host: SocketAddr) -> Result<()> {
        self.server.ip(&format!(
            "neigh replace {} lladdr {FIRST_MAC} dev {INTERFACE} nud permanent\n",
            host.ip()
        ))
    }

    /// Sends `segment`.
    ///
    /// # Errors
    ///
    /// Its addresses are not IPv4, or the socket refuses the frame.
    pub fn send(&self, segment: &Segment<'_>) -> Result<()> {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (segment.from, segment.to) else {
            bail!("{} and {} are not both IPv4", segment.from, segment.to);
        };
        let mut packet = PacketBuilder::ethernet2(self.own_mac, self.server_mac)
            .ipv4(from.ip().octets(), to.ip().octets(), 64)
            .tcp(from.port(), to.port(), segment.seq, 64_000);
        if let Some(ack) = segment.ack {
            packet = packet.ack(ack);
        }
        if segment.syn {
            packet = packet.syn();
        }
        if segment.rst {
            packet = packet.rst();
        }
        let mut frame = Vec::with_capacity(packet.size(segment.payload.len()));
        packet
            .write(&mut frame, segment.payload)
            .context("writing a frame")?;
        if segment.damaged {
            // The checksum lies behind the Ethernet header of 14 octets and an
            // IPv4 header of 20, 16 octets into the TCP header.
            let checksum = frame.get_mut(14 + 20 + 16).context("a frame without TCP")?;
            *checksum ^= 0x5a;
        }
        self.wire.send(&frame)
    }
}
