//! Two ends that send whatever they are told and hear all that reaches their
//! transport layer, and between them, or in one of them, what is tested.
//!
//! ```text
//! host     outside eth0 ──────────────────────── eth0 inside = the wall
//! gateway  outside eth0 ── lan the wall wan ──── eth0 inside
//! ```
//!
//! No socket of TCP is there: what the kernels would say of their own accord, RSTs
//! and ICMP errors, they are not let say. What has arrived is what a raw socket is
//! handed in the receiver's namespace: behind its hooks, put together again if it was
//! in fragments. Each packet is followed by a datagram that may pass anywhere, on the
//! same way: once that is there, the packet is, too, or never comes.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracker_tests::{
    frames::link_address,
    netns::{Namespace, feed},
    topology::{FIRST_MAC, Family, INTERFACE, LAN, Placement, SECOND_MAC, Topology, WAN, mac_of},
};

use crate::packet::{Datagram, ICMP, ICMP_V6, TCP, UDP, UNKNOWN};

/// What the marks of our own packets are.
const MARK: u32 = 0x77;

/// Ports of the datagrams that follow.
const FENCE: u16 = 9;

/// How long a packet may take; far beyond what it takes.
const CROSSING: Duration = Duration::from_secs(20);

/// Where the wall is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In the inside end.
    Host,
    /// Between the ends.
    Gateway,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Outside = 0,
    Inside = 1,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }
}

/// How an end sends.
enum Mouth {
    /// Frames, past its own stack.
    Frames { socket: Socket, header: [u8; 12] },
    /// Packets, by way of its own stack and of its hooks.
    Stack { v4: Socket, v6: Socket },
}

struct End {
    mouth: Mouth,
    ears: Vec<(Family, u8, Socket)>,
}

/// What an end has heard: protocol and payload.
pub type Heard = (u8, Vec<u8>);

/// See the module.
pub struct Bed<'a> {
    topology: &'a Topology,
    pub role: Role,
    ends: [End; 2],
    fences: u32,
}

impl Role {
    /// Namespaces for it.
    pub fn topology(self) -> Result<Topology> {
        Topology::new(match self {
            Self::Host => Placement::Server,
            Self::Gateway => Placement::Gateway,
        })
    }
}

impl<'a> Bed<'a> {
    /// On namespaces that are this role's.
    pub fn new(topology: &'a Topology, role: Role) -> Result<Self> {
        if let Some(router) = &topology.router {
            // Errors come from routers that it has no route to.
            for scope in ["all", "default", LAN, WAN] {
                router.sysctl(&format!("ipv4.conf.{scope}.rp_filter"), "0")?;
            }
        }
        for netns in [&topology.client.netns, &topology.server.netns] {
            hush(netns)?;
        }
        let inside = match role {
            Role::Host => Mouth::stack(&topology.server.netns)?,
            Role::Gateway => Mouth::frames(&topology.server.netns, [SECOND_MAC, FIRST_MAC])?,
        };
        let outside = Mouth::frames(&topology.client.netns, [FIRST_MAC, SECOND_MAC])?;
        let ends = [
            End {
                mouth: outside,
                ears: ears(&topology.client.netns)?,
            },
            End {
                mouth: inside,
                ears: ears(&topology.server.netns)?,
            },
        ];
        Ok(Self {
            topology,
            role,
            ends,
            fences: 0,
        })
    }

    pub const fn at(&self, side: Side, family: Family, port: u16) -> SocketAddr {
        match side {
            Side::Outside => self.topology.client.at(family, port),
            Side::Inside => self.topology.server.at(family, port),
        }
    }

    /// Sends packets of one family from one end; what has reached the other's
    /// transport layer by then.
    pub fn send(&mut self, from: Side, family: Family, packets: &[Vec<u8>]) -> Result<Vec<Heard>> {
        let end = &self.ends[from as usize];
        for packet in packets {
            end.mouth.send(packet)?;
        }
        self.fences += 1;
        let text = format!("fence {}", self.fences);
        let [source, sink] = [from, from.other()].map(|side| self.at(side, family, FENCE));
        let fence = Datagram::udp(source, sink, text.as_bytes());
        end.mouth.send(&fence.whole())?;
        self.ends[from.other() as usize].hear(family, &fence.payload)
    }
}

impl Mouth {
    fn frames(netns: &Namespace, macs: [&str; 2]) -> Result<Self> {
        let make = || -> io::Result<Socket> {
            let index = nix::net::if_::if_nametoindex(INTERFACE)?;
            // Of no protocol: it is handed nothing.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            socket.bind(&link_address(0, index))?;
            Ok(socket)
        };
        let [own, next] = macs.map(mac_of);
        let mut header = [0; 12];
        header[..6].copy_from_slice(&next);
        header[6..].copy_from_slice(&own);
        Ok(Self::Frames {
            socket: netns.run_in(make)?.context("a socket for frames")?,
            header,
        })
    }

    fn stack(netns: &Namespace) -> Result<Self> {
        let make = |domain| -> io::Result<Socket> {
            // Packets bring their own headers.
            let raw = Protocol::from(libc::IPPROTO_RAW);
            let socket = Socket::new(domain, Type::RAW, Some(raw))?;
            socket.set_mark(MARK)?;
            Ok(socket)
        };
        Ok(Self::Stack {
            v4: netns
                .run_in(|| make(Domain::IPV4))?
                .context("a raw socket")?,
            v6: netns
                .run_in(|| make(Domain::IPV6))?
                .context("a raw socket")?,
        })
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        let is_v4 = packet.first().is_some_and(|octet| octet >> 4 == 4);
        let sent = match self {
            Self::Frames { socket, header } => {
                let kind: [u8; 2] = if is_v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
                socket.send(&[&header[..], &kind, packet].concat())
            }
            Self::Stack { v4, v6 } => {
                let socket = if is_v4 { v4 } else { v6 };
                socket.send_to(packet, &destination(packet, is_v4))
            }
        };
        match sent {
            Ok(_) => Ok(()),
            // A wall in the sender's own host says so.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOBUFS)) => {
                Ok(())
            }
            Err(error) => Err(error).context("sending a packet"),
        }
    }
}

/// Where a packet goes, as its own header says.
fn destination(packet: &[u8], is_v4: bool) -> SockAddr {
    let octets = if is_v4 {
        &packet[16..20]
    } else {
        &packet[24..40]
    };
    let address = match <[u8; 4]>::try_from(octets) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets).expect("a whole header")),
    };
    SocketAddr::new(address, 0).into()
}

impl End {
    /// All that comes up to the `fence`.
    fn hear(&self, family: Family, fence: &[u8]) -> Result<Vec<Heard>> {
        let begun = Instant::now();
        let mut heard = vec![];
        loop {
            // Datagrams first: what came before one is there when that is.
            let mut passed = false;
            for protocol in [UDP, TCP, UNKNOWN, ICMP, ICMP_V6] {
                for (of, number, ear) in &self.ears {
                    if *of != family || *number != protocol {
                        continue;
                    }
                    while let Some(payload) = next(ear, family)? {
                        if protocol == UDP && payload == fence {
                            passed = true;
                        } else {
                            heard.push((protocol, payload));
                        }
                    }
                }
            }
            if passed {
                return Ok(heard);
            }
            if begun.elapsed() > CROSSING {
                bail!("what may pass anywhere has not arrived in {CROSSING:?}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The payload of the next packet that an ear is handed.
fn next(ear: &Socket, family: Family) -> Result<Option<Vec<u8>>> {
    let mut buffer = [0; 4096];
    match (&mut &*ear).read(&mut buffer) {
        Ok(length) => {
            let packet = &buffer[..length];
            // Only IPv4 hands its header over, too.
            let header = match family {
                Family::V4 => usize::from(packet[0] & 0x0f) * 4,
                Family::V6 => 0,
            };
            Ok(Some(packet[header..].to_vec()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("hearing packets"),
    }
}

fn ears(netns: &Namespace) -> Result<Vec<(Family, u8, Socket)>> {
    let make = |family, protocol: u8| -> io::Result<(Family, u8, Socket)> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_nonblocking(true)?;
        Ok((family, protocol, socket))
    };
    let all = || -> io::Result<Vec<_>> {
        let of = |family, last| [UDP, TCP, UNKNOWN, last].map(|protocol| make(family, protocol));
        of(Family::V4, ICMP)
            .into_iter()
            .chain(of(Family::V6, ICMP_V6))
            .collect()
    };
    netns.run_in(all)?.context("raw sockets to hear with")
}

/// Keeps a kernel from saying anything about TCP and UDP of its own accord.
fn hush(netns: &Namespace) -> Result<()> {
    for scope in ["all", "default", INTERFACE] {
        netns.sysctl(&format!("ipv4.conf.{scope}.rp_filter"), "0")?;
    }
    // Before conntrack, so that it does not hear either.
    let rules = format!(
        "table inet hush {{\n chain output {{\n type filter hook output priority raw;\n \
         meta mark {MARK} accept\n meta l4proto {{ tcp, icmp }} drop\n \
         icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, \
         parameter-problem }} drop\n }}\n}}\n"
    );
    feed(netns.command("nft")?.args(["-f", "-"]), &rules)
}

/// Keeps this thread, and with it the packets that it sends, on one CPU: packets
/// overtake each other where they are on several.
pub fn stay_on_one_cpu() -> Result<()> {
    let here = Pid::from_raw(0);
    let allowed = sched_getaffinity(here)?;
    let first = (0..CpuSet::count())
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(first)?;
    Ok(sched_setaffinity(here, &one)?)
}
