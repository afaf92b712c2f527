//! Connections that nf_conntrack knows of.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple,
        Protocol, Tuple,
    },
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use tracker_common::tcp::State;

use crate::netlink::Netlink;

/// How many entries there are; absent where nf_conntrack is not loaded. To ask it
/// anything else would load it.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// A connection whose handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who opened it, and to whom, before any translation.
    pub original: [SocketAddr; 2],
    /// Who answers, and to whom, after it: the same the other way round where
    /// nothing is translated.
    pub reply: [SocketAddr; 2],
    /// States of initiator and responder.
    pub states: [State; 2],
}

impl Entry {
    /// Initiator and responder as each side of a translation sees them, once if they
    /// are the same.
    pub fn views(&self) -> impl Iterator<Item = [SocketAddr; 2]> {
        let [answers, to] = self.reply;
        let behind = [to, answers];
        let translated = behind != self.original;
        [self.original]
            .into_iter()
            .chain(translated.then_some(behind))
    }
}

/// Whether nf_conntrack is loaded and follows anything.
pub fn is_in_use() -> bool {
    let count = fs::read_to_string(COUNT).unwrap_or_default();
    count.trim().parse::<u64>().is_ok_and(|count| count > 0)
}

/// The TCP connections that it knows of whose handshake is over and which have not
/// come to TIME_WAIT.
///
/// # Errors
///
/// The kernel does not tell.
pub fn entries() -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut netlink = Netlink::open(NETLINK_NETFILTER)?;
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let question = NetfilterMessage::new(
            NetfilterHeader::new(family, 0, 0),
            ConntrackMessage::Get(Vec::new()),
        );
        netlink
            .dump(question, |message| {
                if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) =
                    message.inner
                {
                    found.extend(entry(&attributes));
                }
                Ok(())
            })
            .context("cannot ask nf_conntrack for its connections")?;
    }
    Ok(found)
}

/// `None` for what is not TCP, or in no state that was asked for.
fn entry(attributes: &[ConntrackAttribute]) -> Option<Entry> {
    let (mut original, mut reply, mut states) = (None, None, None);
    for attribute in attributes {
        if let ConntrackAttribute::CtaTupleOrig(tuple) = attribute {
            original = ends(tuple);
        } else if let ConntrackAttribute::CtaTupleReply(tuple) = attribute {
            reply = ends(tuple);
        } else if let ConntrackAttribute::CtaProtoInfo(infos) = attribute {
            states = infos.iter().find_map(label).and_then(states_of);
        }
    }
    Some(Entry {
        original: original?,
        reply: reply?,
        states: states?,
    })
}

/// Source and destination of a TCP tuple.
fn ends(tuple: &[Tuple]) -> Option<[SocketAddr; 2]> {
    let (mut addresses, mut ports): ([Option<IpAddr>; 2], [Option<u16>; 2]) = Default::default();
    let mut tcp = false;
    for part in tuple {
        if let Tuple::Ip(parts) = part {
            for part in parts {
                if let IPTuple::SourceAddress(address) = part {
                    addresses[0] = Some(*address);
                } else if let IPTuple::DestinationAddress(address) = part {
                    addresses[1] = Some(*address);
                }
            }
        } else if let Tuple::Proto(parts) = part {
            for part in parts {
                if let ProtoTuple::Protocol(protocol) = part {
                    tcp = *protocol == Protocol::Tcp;
                } else if let ProtoTuple::SourcePort(port) = part {
                    ports[0] = Some(*port);
                } else if let ProtoTuple::DestinationPort(port) = part {
                    ports[1] = Some(*port);
                }
            }
        }
    }
    let [source, destination] = addresses;
    let [from, to] = ports;
    let ends = [
        SocketAddr::new(source?, from?),
        SocketAddr::new(destination?, to?),
    ];
    tcp.then_some(ends)
}

/// The number of its state.
fn label(info: &ProtoInfo) -> Option<u8> {
    let ProtoInfo::TCP(parts) = info else {
        return None;
    };
    parts.iter().find_map(|part| {
        let ProtoInfoTCP::State(number) = part else {
            return None;
        };
        Some(*number)
    })
}

/// What conntrack's state (`enum tcp_conntrack` in
/// include/uapi/linux/netfilter/nf_conntrack_tcp.h) tells of both ends. It does not
/// know whose FIN it saw: of a flow that is closing both ends may be anywhere
/// after it.
const fn states_of(number: u8) -> Option<[State; 2]> {
    Some(match number {
        3 => [State::Established, State::Established],
        // A FIN, and an ACK after it.
        4 => [State::FinWait1, State::Established],
        5 => [State::FinWait2, State::CloseWait],
        // Another FIN.
        6 => [State::FinWait2, State::LastAck],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: Protocol, from: &str, to: &str) -> Vec<Tuple> {
        let [from, to] = [from, to].map(|end| end.parse::<SocketAddr>().unwrap());
        vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(from.ip()),
                IPTuple::DestinationAddress(to.ip()),
            ]),
            Tuple::Proto(vec![
                ProtoTuple::Protocol(protocol),
                ProtoTuple::SourcePort(from.port()),
                ProtoTuple::DestinationPort(to.port()),
            ]),
        ]
    }

    fn attributes(protocol: Protocol, state: u8, reply_to: &str) -> Vec<ConntrackAttribute> {
        vec![
            ConntrackAttribute::CtaTupleOrig(tuple(protocol, "10.0.0.1:1000", "192.0.2.1:80")),
            ConntrackAttribute::CtaTupleReply(tuple(protocol, "192.0.2.1:80", reply_to)),
            ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(vec![ProtoInfoTCP::State(
                state,
            )])]),
        ]
    }

    #[test]
    fn a_translated_connection_is_seen_in_two_ways() {
        let plain = entry(&attributes(Protocol::Tcp, 3, "10.0.0.1:1000")).unwrap();
        assert_eq!(plain.states, [State::Established; 2]);
        assert_eq!(plain.views().collect::<Vec<_>>(), [plain.original]);
        let masked = entry(&attributes(Protocol::Tcp, 3, "198.51.100.1:7")).unwrap();
        let views: Vec<_> = masked
            .views()
            .map(|ends| ends.map(|end| end.to_string()))
            .collect();
        assert_eq!(
            views,
            [
                ["10.0.0.1:1000", "192.0.2.1:80"],
                ["198.51.100.1:7", "192.0.2.1:80"]
            ]
        );
    }

    #[test]
    fn what_is_not_open_or_not_tcp_is_left_out() {
        for state in [0, 1, 2, 7, 8, 9, 200] {
            assert_eq!(
                entry(&attributes(Protocol::Tcp, state, "10.0.0.1:1000")),
                None
            );
        }
        assert_eq!(entry(&attributes(Protocol::Udp, 3, "10.0.0.1:1000")), None);
        assert_eq!(entry(&[]), None);
    }
}
