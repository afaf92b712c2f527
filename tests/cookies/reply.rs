//! A SYN-ACK as it lies on the wire, read by etherparse.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};

/// What is read of it. Its lengths and checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Octets of the IP packet.
    pub ip_length: usize,
    pub hops: u8,
    /// IPv4: it may not be cut in pieces, and has no need of an identification.
    pub whole: bool,
    /// Octets of the IP header's options.
    pub ip_options: Vec<u8>,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// Octets of the TCP header's options.
    pub room: usize,
    /// Options but for the NOPs among them.
    pub options: Vec<TcpOptionElement>,
    pub payload: usize,
}

/// Reads a frame.
pub fn read(frame: &[u8]) -> Result<Reply> {
    let packet = SlicedPacket::from_ethernet(frame).context("the frame")?;
    let (from, to, ip_length, hops, whole, ip_options) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let sum = header.to_header().calc_header_checksum();
            ensure!(
                header.header_checksum() == sum,
                "the header's checksum is {:#06x} instead of {sum:#06x}",
                header.header_checksum()
            );
            ensure!(
                !header.is_fragmenting_payload() && header.dcp().value() == 0,
                "{header:?}"
            );
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                usize::from(header.total_len()),
                header.ttl(),
                header.dont_fragment() && header.identification() == 0,
                header.options().to_vec(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            ensure!(
                header.traffic_class() == 0 && header.flow_label().value() == 0,
                "{header:?}"
            );
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                40 + usize::from(header.payload_length()),
                header.hop_limit(),
                true,
                vec![],
            )
        }
        other => bail!("no IP, but {other:?}"),
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        bail!("no TCP, but {:?}", packet.transport);
    };
    let sum = checksum(&tcp, from, to)?;
    ensure!(
        tcp.checksum() == sum,
        "the checksum is {:#06x} instead of {sum:#06x}",
        tcp.checksum()
    );
    ensure!(tcp.urgent_pointer() == 0, "an urgent pointer");
    let options: Result<Vec<_>, _> = tcp.options_iterator().collect();
    let mut options = options.context("an option")?;
    options.retain(|option| *option != TcpOptionElement::Noop);
    Ok(Reply {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        ip_length,
        hops,
        whole,
        ip_options,
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        flags: tcp.header_slice()[13],
        window: tcp.window_size(),
        room: tcp.options().len(),
        options,
        payload: tcp.payload().len(),
    })
}

fn checksum(tcp: &TcpSlice<'_>, from: IpAddr, to: IpAddr) -> Result<u16> {
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
        _ => bail!("addresses of two families"),
    };
    sum.context("the segment's length")
}
