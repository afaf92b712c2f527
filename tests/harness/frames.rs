//! Raw frames, for flows by the hundred thousand.
//!
//! Real sockets would need as many descriptors at both ends. These frames are
//! written into the end namespaces' interfaces (`AF_PACKET`), cross the router
//! as any packet does, and are counted where they arrive. The hosts are made
//! up: to the end namespaces they are strangers whose packets they ignore, so
//! no kernel answers in between.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use etherparse::{PacketBuilder, TcpOptionElement};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    netns::{Namespace, run},
    topology::{Family, INTERFACE, LAN, Topology, WAN},
};

/// Handshakes in flight at once.
///
/// Below what one end of a veth pair queues (256 frames) and far below any
/// limit of half-open flows.
const BATCH: u32 = 200;

/// How long a batch may take to cross the router.
const CROSSING: Duration = Duration::from_secs(30);

/// Opens connections between made-up hosts on both sides of a router.
pub struct Crowd {
    family: Family,
    /// Each end's socket, and the MAC addresses its frames carry: its own and
    /// the router's.
    client: Wire,
    server: Wire,
}

impl Crowd {
    /// Routes the made-up hosts through the router of a gateway topology.
    ///
    /// # Errors
    ///
    /// The topology has no router; `ip` or a raw socket fails.
    pub fn new(topology: &Topology, family: Family) -> Result<Self> {
        let router = topology
            .router
            .as_ref()
            .context("a crowd needs a gateway topology")?;
        let client_mac = mac(&topology.client.netns, INTERFACE)?;
        let server_mac = mac(&topology.server.netns, INTERFACE)?;
        // Neighbours are permanent so that no frame waits for their address.
        let (client, server) = (
            topology.client.at(family, 0).ip(),
            topology.server.at(family, 0).ip(),
        );
        let (clients, servers) = match family {
            Family::V4 => ("198.18.0.0/16", "198.19.0.0/16"),
            Family::V6 => ("2001:db8:18::/48", "2001:db8:19::/48"),
        };
        router.ip(&format!(
            "neigh replace {client} lladdr {} dev {LAN} nud permanent\n\
             neigh replace {server} lladdr {} dev {WAN} nud permanent\n\
             route add {clients} via {client} dev {LAN}\n\
             route add {servers} via {server} dev {WAN}\n",
            spell(client_mac),
            spell(server_mac),
        ))?;
        Ok(Self {
            family,
            client: Wire::new(
                &topology.client.netns,
                family,
                client_mac,
                mac(router, LAN)?,
            )?,
            server: Wire::new(
                &topology.server.netns,
                family,
                server_mac,
                mac(router, WAN)?,
            )?,
        })
    }

    /// The addresses of connection number `index`: client and server.
    #[must_use]
    pub fn addresses(&self, index: u32) -> (SocketAddr, SocketAddr) {
        // 50,000 and 65,536 meet again after 1.6 billion connections.
        let port = 10_000 + u16::try_from(index % 50_000).unwrap_or_default();
        let [_, _, high, low] = (index % 65_536).to_be_bytes();
        let (client, server) = match self.family {
            Family::V4 => (
                IpAddr::V4(Ipv4Addr::new(198, 18, high, low)),
                IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)),
            ),
            Family::V6 => (
                IpAddr::V6(Ipv6Addr::new(
                    0x2001,
                    0xdb8,
                    0x18,
                    0,
                    0,
                    0,
                    0,
                    u16::from_be_bytes([high, low]),
                )),
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x19, 0, 0, 0, 0, 1)),
            ),
        };
        (SocketAddr::new(client, port), SocketAddr::new(server, 443))
    }

    /// Completes the handshakes of these connections. Every frame has arrived
    /// at its end when this returns.
    ///
    /// # Errors
    ///
    /// Frames were lost on the way.
    pub fn open(&self, connections: Range<u32>) -> Result<()> {
        let mut start = connections.start;
        while start < connections.end {
            let end = connections.end.min(start + BATCH);
            let batch = || start..end;
            let Self {
                family: _,
                client,
                server,
            } = self;
            cross(
                client,
                server,
                batch().map(|i| self.segment(i, Segment::Syn)),
            )
            .and_then(|()| {
                cross(
                    server,
                    client,
                    batch().map(|i| self.segment(i, Segment::SynAck)),
                )
            })
            .and_then(|()| {
                cross(
                    client,
                    server,
                    batch().map(|i| self.segment(i, Segment::Ack)),
                )
            })
            .with_context(|| format!("handshakes {start} to {end} of {connections:?}"))?;
            start = end;
        }
        Ok(())
    }

    fn segment(&self, index: u32, segment: Segment) -> Vec<u8> {
        let (client, server) = self.addresses(index);
        let (client_isn, server_isn) = (index.wrapping_mul(7), index.wrapping_mul(13));
        let (wire, from, to) = match segment {
            Segment::Syn | Segment::Ack => (&self.client, client, server),
            Segment::SynAck => (&self.server, server, client),
        };
        let ethernet = PacketBuilder::ethernet2(wire.own_mac, wire.router_mac);
        let ip = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("both addresses are of the crowd's family")
            }
        };
        let options = [
            TcpOptionElement::MaximumSegmentSize(1440),
            TcpOptionElement::WindowScale(7),
        ];
        let tcp = match segment {
            Segment::Syn => ip
                .tcp(from.port(), to.port(), client_isn, 64_000)
                .syn()
                .options(&options),
            Segment::SynAck => ip
                .tcp(from.port(), to.port(), server_isn, 64_000)
                .syn()
                .ack(client_isn.wrapping_add(1))
                .options(&options),
            Segment::Ack => Ok(ip
                .tcp(from.port(), to.port(), client_isn.wrapping_add(1), 500)
                .ack(server_isn.wrapping_add(1))),
        }
        .unwrap_or_else(|error| unreachable!("two options fit: {error}"));
        let mut frame = Vec::with_capacity(tcp.size(0));
        tcp.write(&mut frame, &[])
            .unwrap_or_else(|error| unreachable!("a vector takes every frame: {error}"));
        frame
    }
}

/// The segments of a handshake.
#[derive(Clone, Copy)]
enum Segment {
    Syn,
    SynAck,
    Ack,
}

/// Sends `frames` at one end and waits until as many have arrived at the
/// other.
fn cross(from: &Wire, to: &Wire, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    to.arrived()?;
    let mut sent = 0;
    for frame in frames {
        from.send(&frame)?;
        sent += 1;
    }
    let start = Instant::now();
    let mut arrived = to.arrived()?;
    while arrived < sent {
        ensure!(
            start.elapsed() < CROSSING,
            "of {sent} frames {arrived} arrived"
        );
        sleep(Duration::from_micros(100));
        arrived += to.arrived()?;
    }
    Ok(())
}

/// A raw socket on [`INTERFACE`] of a namespace, for one family.
pub(crate) struct Wire {
    socket: Socket,
    own_mac: [u8; 6],
    router_mac: [u8; 6],
}

impl Wire {
    pub(crate) fn new(
        netns: &Namespace,
        family: Family,
        own_mac: [u8; 6],
        router_mac: [u8; 6],
    ) -> Result<Self> {
        // A socket for one protocol is not handed its own frames, one for all
        // protocols would be.
        let protocol = match family {
            Family::V4 => libc::ETH_P_IP,
            Family::V6 => libc::ETH_P_IPV6,
        };
        let protocol = u16::try_from(protocol).context("EtherType")?.to_be();
        let make = || -> io::Result<Socket> {
            let index = nix::net::if_::if_nametoindex(INTERFACE)?;
            let socket = Socket::new(
                Domain::PACKET,
                Type::RAW,
                Some(Protocol::from(i32::from(protocol))),
            )?;
            socket.set_nonblocking(true)?;
            socket.set_recv_buffer_size(4 << 20)?;
            socket.bind(&link_address(protocol, index))?;
            Ok(socket)
        };
        let socket = netns
            .run_in(make)?
            .with_context(|| format!("opening a raw socket on {INTERFACE} of {}", netns.name()))?;
        Ok(Self {
            socket,
            own_mac,
            router_mac,
        })
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame).context("sending a raw frame")?;
        Ok(())
    }

    /// TCP frames that have come in since the last call.
    fn arrived(&self) -> Result<u32> {
        // Offset of the protocol number behind the Ethernet header, by the
        // version in the first octet of the IP header.
        let is_tcp = |frame: &[u8]| {
            let offset = if frame.get(14).is_some_and(|octet| octet >> 4 == 6) {
                20
            } else {
                23
            };
            frame.get(offset) == Some(&6)
        };
        let mut count = 0;
        let mut frame = [0; 128];
        loop {
            match io::Read::read(&mut &self.socket, &mut frame) {
                Ok(length) => count += u32::from(is_tcp(frame.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error).context("receiving raw frames"),
            }
        }
    }
}

/// The address of a raw socket: of an interface, and of the protocol (network order)
/// whose frames it is handed, or 0 for none.
pub fn link_address(protocol: u16, index: u32) -> SockAddr {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: socket2::SockAddrStorage = unsafe { zeroed() };
    // SAFETY: sockaddr_ll is one of the addresses that sockaddr_storage is
    // made to hold, in size and in alignment.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol;
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds a sockaddr_ll, whose length this is.
    unsafe { SockAddr::new(storage, length) }
}

/// The MAC address of an interface.
pub(crate) fn mac(netns: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let text = run(netns
        .command("ip")?
        .args(["-br", "link", "show", "dev", interface]))?;
    // eth0@if3  UP  9e:0f:2a:11:22:33 <BROADCAST,MULTICAST,UP,LOWER_UP>
    let word = text
        .split_whitespace()
        .nth(2)
        .with_context(|| format!("no address in {text:?}"))?;
    let octets: Vec<u8> = word
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("MAC address {word:?}"))?;
    octets
        .try_into()
        .ok()
        .with_context(|| format!("MAC address {word:?}"))
}

fn spell(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
