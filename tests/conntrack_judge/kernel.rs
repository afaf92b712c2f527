//! A live nf_conntrack, asked about every packet.
//!
//! ```text
//! ends  wire0 ────── in0  router  out0 ────── sink0  ends
//! ```
//!
//! A frame is written into `wire0`. The router's conntrack judges it, a rule
//! writes the judgement into the packet (its DSCP), and the packet is forwarded
//! to `sink0`, where it is read: so it has been judged once it is there, and
//! there is no waiting and no guessing which packet a counter counted. No socket
//! is behind any address, so nobody answers.

use std::{
    io::Read as _,
    mem::{size_of, zeroed},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple,
        Protocol, Tuple,
    },
};
use socket2::{Domain, SockAddr, Socket, Type};
use tracker_tests::{
    netns::{Namespace, feed, run},
    topology::cable,
};

use crate::packet::{Judged, Packet, ROUTER_MAC};

/// What conntrack calls a connection's state (`enum tcp_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// There is no entry.
    Gone,
    /// A SYN.
    SynSent,
    /// A SYN from each end.
    SynSent2,
    /// A SYN-ACK.
    SynRecv,
    /// The ACK of it, or a segment of an unknown connection.
    Established,
    /// A FIN.
    FinWait,
    /// Any ACK after it.
    CloseWait,
    /// Another FIN after it, of either end.
    LastAck,
    /// Any ACK after that.
    TimeWait,
    /// An RST.
    Close,
}

impl Label {
    fn of(number: u8) -> Result<Self> {
        Ok(match number {
            1 => Self::SynSent,
            2 => Self::SynRecv,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Close,
            9 => Self::SynSent2,
            other => bail!("conntrack has a state number {other}, which is in no header"),
        })
    }
}

/// What `ct state` says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It belongs to no connection and opens none.
    Invalid,
    /// The first of a connection, or before there was an answer.
    New,
    /// Of a connection that has been answered.
    Established,
    /// It never came out.
    Dropped,
}

/// A conntrack entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// State.
    pub label: Label,
    /// Whether the side that sent the packet asked about is the first one's.
    pub original: bool,
}

impl Entry {
    /// None.
    pub const GONE: Self = Self {
        label: Label::Gone,
        original: true,
    };
}

const IN: &str = "in0";
const OUT: &str = "out0";
const WIRE: &str = "wire0";
const SINK: &str = "sink0";

/// Longer than any test, and short enough for the kernel's jiffies.
const NEVER: &str = "1000000";

const TIMEOUTS: [&str; 10] = [
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    "max_retrans",
    "unacknowledged",
];

/// How long a packet may take through the router; far beyond what it takes.
const CROSSING: Duration = Duration::from_secs(10);

/// The router and the way to it.
pub struct Kernel {
    _ends: Namespace,
    router: Namespace,
    wire: Socket,
    sink: Socket,
    netlink: netlink_sys::Socket,
    /// Identifies the packet that is on its way.
    number: u16,
    received: Vec<u8>,
}

impl Kernel {
    /// Makes the namespaces and starts conntrack in one of them.
    ///
    /// # Errors
    ///
    /// Not root; the kernel has no veth, nftables or nf_conntrack.
    pub fn new() -> Result<Self> {
        let ends = Namespace::new("ends")?;
        let router = Namespace::new("router")?;
        // Neither side says anything of its own accord.
        for scope in ["all", "default"] {
            ends.sysctl(&format!("ipv6.conf.{scope}.disable_ipv6"), "1")?;
            router.sysctl(&format!("ipv4.conf.{scope}.rp_filter"), "0")?;
            router.sysctl(&format!("ipv6.conf.{scope}.accept_dad"), "0")?;
        }
        router.sysctl("ipv4.ip_forward", "1")?;
        router.sysctl("ipv6.conf.all.forwarding", "1")?;
        cable((&ends, WIRE), (&router, IN))?;
        cable((&ends, SINK), (&router, OUT))?;
        let mac = ROUTER_MAC.map(|octet| format!("{octet:02x}")).join(":");
        // Segments as the offloads of a capturing host made them.
        ends.ip(&format!(
            "link set {WIRE} mtu 65535 up\nlink set {SINK} mtu 65535 up\n"
        ))?;
        router.ip(&format!(
            "link set {IN} address {mac}\n\
             link set {IN} mtu 65535 up\n\
             link set {OUT} mtu 65535 arp off up\n\
             route add default dev {OUT}\n\
             route add ::/0 dev {OUT}\n"
        ))?;
        feed(
            router.command("nft")?.args(["-f", "-"]),
            &rules(&["invalid", "new", "established"]),
        )
        .context("conntrack's judgement is read by nftables: Debian's package is `nftables`")?;
        for state in TIMEOUTS {
            router.sysctl(
                &format!("netfilter.nf_conntrack_tcp_timeout_{state}"),
                NEVER,
            )?;
        }
        let kernel = Self {
            wire: raw_socket(&ends, WIRE)?,
            sink: raw_socket(&ends, SINK)?,
            netlink: router
                .run_in(netlink)?
                .context("opening a netlink socket for conntrack")?,
            _ends: ends,
            router,
            number: 0,
            received: vec![0; 1 << 16],
        };
        kernel
            .sink
            .set_read_timeout(Some(CROSSING))
            .context("setting a time-out")?;
        Ok(kernel)
    }

    /// Begins with no entries, and with `nf_conntrack_tcp_loose` as told.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn begin(&mut self, loose: bool) -> Result<()> {
        let value = if loose { "1" } else { "0" };
        self.router
            .sysctl("netfilter.nf_conntrack_tcp_loose", value)?;
        let all = ConntrackMessage::Delete(vec![]);
        let answer = self.ask(NetfilterProtoFamily::Unspec, all)?;
        ensure!(
            matches!(&answer, NetlinkPayload::Error(error) if error.code.is_none()),
            "conntrack does not forget its entries: {answer:?}"
        );
        Ok(())
    }

    /// Sends a packet through the router: what conntrack makes of it, and the
    /// entry that it has for it then.
    ///
    /// # Errors
    ///
    /// A socket fails.
    pub fn packet(&mut self, packet: &Packet) -> Result<Judged> {
        self.number = self.number.wrapping_add(1);
        let frame = packet.frame(ROUTER_MAC, self.number);
        self.wire.send(&frame).context("sending a raw frame")?;
        let verdict = self.arrival()?;
        Ok(Judged {
            verdict,
            entry: self.entry(packet)?,
        })
    }

    /// Waits for the packet at the sink and reads its mark.
    fn arrival(&mut self) -> Result<Verdict> {
        loop {
            let length = match (&self.sink).read(&mut self.received) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Verdict::Dropped);
                }
                Err(error) => return Err(error).context("receiving raw frames"),
            };
            let Some((number, mark)) = mark(&self.received[..length]) else {
                continue;
            };
            if number != self.number {
                // Late: it was taken for dropped.
                continue;
            }
            return Ok(match mark {
                1 => Verdict::Invalid,
                2 => Verdict::New,
                3 => Verdict::Established,
                other => bail!("a packet came out with the mark {other}, which no rule sets"),
            });
        }
    }

    /// What conntrack knows of the connection of a packet.
    fn entry(&mut self, packet: &Packet) -> Result<Entry> {
        let family = if packet.is_v4() {
            NetfilterProtoFamily::IPv4
        } else {
            NetfilterProtoFamily::IPv6
        };
        let (source, destination) = packet.addresses();
        let (from, to) = packet.ports();
        let tuple = vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(source),
                IPTuple::DestinationAddress(destination),
            ]),
            Tuple::Proto(vec![
                ProtoTuple::Protocol(Protocol::Tcp),
                ProtoTuple::SourcePort(from),
                ProtoTuple::DestinationPort(to),
            ]),
        ];
        let question = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
        let answer = self.ask(family, question)?;
        if let NetlinkPayload::Error(error) = &answer
            && error.code.map(std::num::NonZeroI32::get) == Some(-libc::ENOENT)
        {
            return Ok(Entry::GONE);
        }
        let NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
            ..
        }) = answer
        else {
            bail!("conntrack answers {answer:?}");
        };
        let mut entry = Entry::GONE;
        for attribute in &attributes {
            if let ConntrackAttribute::CtaTupleOrig(parts) = attribute {
                entry.original = parts.iter().all(|part| {
                    if let Tuple::Proto(parts) = part {
                        parts.contains(&ProtoTuple::SourcePort(from))
                    } else if let Tuple::Ip(parts) = part {
                        parts.contains(&IPTuple::SourceAddress(source))
                    } else {
                        true
                    }
                });
            } else if let ConntrackAttribute::CtaProtoInfo(parts) = attribute {
                for part in parts {
                    if let ProtoInfo::TCP(parts) = part {
                        for part in parts {
                            if let ProtoInfoTCP::State(number) = part {
                                entry.label = Label::of(*number)?;
                            }
                        }
                    }
                }
            }
        }
        ensure!(
            entry.label != Label::Gone,
            "conntrack has an entry for {packet:?} without a TCP state"
        );
        Ok(entry)
    }

    /// One question about conntrack, one answer.
    fn ask(
        &mut self,
        family: NetfilterProtoFamily,
        question: ConntrackMessage,
    ) -> Result<NetlinkPayload<NetfilterMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        if matches!(question, ConntrackMessage::Delete(_)) {
            header.flags |= NLM_F_ACK;
        }
        let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), question);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut raw = vec![0; message.buffer_len()];
        message.serialize(&mut raw);
        self.netlink
            .send(&raw, 0)
            .context("asking conntrack by netlink")?;
        let (answer, _) = self
            .netlink
            .recv_from_full()
            .context("hearing from conntrack by netlink")?;
        let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer)
            .context("reading conntrack's answer")?;
        Ok(answer.payload)
    }

    /// Packets that the rules counted as invalid, in both families.
    ///
    /// # Errors
    ///
    /// `nft` fails, or says what cannot be read.
    pub fn counted_invalid(&self) -> Result<u64> {
        let text = run(self
            .router
            .command("nft")?
            .args(["-j", "list", "counter", "inet", "judge", "invalid"]))?;
        let json: serde_json::Value = serde_json::from_str(&text).context("what nft printed")?;
        json["nftables"]
            .as_array()
            .and_then(|items| {
                items
                    .iter()
                    .find_map(|item| item["counter"]["packets"].as_u64())
            })
            .with_context(|| format!("no counter in {text}"))
    }
}

/// Rules that write the judgement into the packet: the place in `states`,
/// counted from 1, as its DSCP.
fn rules(states: &[&str]) -> String {
    let mut rules = String::from(
        "table inet judge {\n counter invalid { }\n chain forward {\n \
         type filter hook forward priority 0; policy accept;\n \
         ct state invalid counter name invalid\n",
    );
    for (state, mark) in states.iter().zip(1..) {
        for (protocol, header) in [("ipv4", "ip"), ("ipv6", "ip6")] {
            rules += &format!(
                "meta nfproto {protocol} ct state {state} {header} dscp set {mark} accept\n"
            );
        }
    }
    rules + "}\n}\n"
}

/// The number and the mark of a forwarded packet; `None` for what is not IP.
fn mark(frame: &[u8]) -> Option<(u16, u8)> {
    let ip = frame.get(14..)?;
    match ip.first()? >> 4 {
        4 => Some((
            u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]),
            ip.get(1)? >> 2,
        )),
        6 => Some((
            u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]),
            ((ip[0] & 0x0f) << 2) | (ip.get(1)? >> 6),
        )),
        _ => None,
    }
}

fn netlink() -> std::io::Result<netlink_sys::Socket> {
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A socket that sends frames out of an interface and is handed those that come
/// in there.
fn raw_socket(netns: &Namespace, interface: &str) -> Result<Socket> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let make = || -> std::io::Result<Socket> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(i32::from(protocol).into()))?;
        socket.bind(&link_address(protocol, index))?;
        Ok(socket)
    };
    netns
        .run_in(make)?
        .with_context(|| format!("opening a raw socket on {interface} of {}", netns.name()))
}

fn link_address(protocol: u16, index: u32) -> SockAddr {
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
