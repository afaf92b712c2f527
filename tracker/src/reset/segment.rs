//! RSTs that an end of a connection takes for its peer's.
//!
//! RFC 5961 section 3.2 has an end accept an RST only if its sequence number is the
//! next that the end expects (`RCV.NXT`); any other inside the window draws a
//! challenge ACK. That number is what the end acknowledged last, or, while its ACK is
//! delayed, the end of what its peer has sent. Where the two differ both are sent:
//! the wrong one does no harm.

use std::net::{IpAddr, SocketAddr};

use tracker_common::{
    abi::{Endpoint, Flow, INITIATOR, end_flags},
    tcp::{Flags, State},
};

/// Hops that a datagram may take.
const HOPS: u8 = 64;
/// Octets of a TCP header without options.
const TCP: u16 = 20;
const PROTOCOL: u8 = 6;

/// An RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rst {
    /// Whose it looks like.
    pub from: SocketAddr,
    /// Who is to accept it.
    pub to: SocketAddr,
    /// Its sequence number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: Option<u32>,
}

/// The RSTs that end `flow` at both of its ends, initiator and responder. None for an
/// end whose numbers were never seen, or which has no connection any more.
#[must_use]
pub fn resets(ends: [SocketAddr; 2], flow: &Flow) -> Vec<Rst> {
    let mut resets = Vec::new();
    if flow.is_unread() {
        return resets;
    }
    for (to, (end, peer)) in [(0, (0, 1)), (1, (1, 0))] {
        let [receiver, sender] = [end, peer].map(|index| &flow.ends[index]);
        if matches!(receiver.state(), State::Closed | State::TimeWait) {
            continue;
        }
        let rst = |seq, ack| Rst {
            from: ends[peer],
            to: ends[to],
            seq,
            ack,
        };
        if to == INITIATOR && !receiver.has(end_flags::SPOKE) {
            // It waits for the answer to its SYN, and takes an RST for one that
            // acknowledges that SYN (RFC 9293 section 3.10.7.3).
            resets.push(rst(0, Some(receiver.end.0)));
            continue;
        }
        let expected = numbers(receiver, sender);
        resets.extend(expected.into_iter().flatten().map(|seq| rst(seq, None)));
    }
    resets
}

/// What an end may expect next.
fn numbers(receiver: &Endpoint, sender: &Endpoint) -> [Option<u32>; 2] {
    let sent = sender.end.0;
    let acknowledged = receiver.has(end_flags::SPOKE).then_some(receiver.ack.0);
    [acknowledged.filter(|&seq| seq != sent), Some(sent)]
}

impl Rst {
    /// The whole IP datagram; `None` where the ends are of two families.
    #[must_use]
    pub fn datagram(&self) -> Option<Vec<u8>> {
        let mut datagram = Vec::with_capacity(60);
        let mut pseudo = Sum::default();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [high, low] = (20 + TCP).to_be_bytes();
                datagram.extend([0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, PROTOCOL, 0, 0]);
                datagram.extend(from.octets());
                datagram.extend(to.octets());
                pseudo.add(&from.octets());
                pseudo.add(&to.octets());
                let sum = Sum::of(&datagram);
                datagram[10..12].copy_from_slice(&sum);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [high, low] = TCP.to_be_bytes();
                datagram.extend([0x60, 0, 0, 0, high, low, PROTOCOL, HOPS]);
                datagram.extend(from.octets());
                datagram.extend(to.octets());
                pseudo.add(&from.octets());
                pseudo.add(&to.octets());
            }
            _ => return None,
        }
        let at = datagram.len();
        let flags = Flags::RST | if self.ack.is_some() { Flags::ACK } else { 0 };
        datagram.extend(self.from.port().to_be_bytes());
        datagram.extend(self.to.port().to_be_bytes());
        datagram.extend(self.seq.to_be_bytes());
        datagram.extend(self.ack.unwrap_or(0).to_be_bytes());
        datagram.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        pseudo.add(&[0, PROTOCOL]);
        pseudo.add(&TCP.to_be_bytes());
        pseudo.add(&datagram[at..]);
        datagram[at + 16..at + 18].copy_from_slice(&pseudo.finish());
        Some(datagram)
    }
}

/// The Internet checksum (RFC 1071) of octets in pairs.
#[derive(Clone, Copy, Debug, Default)]
struct Sum(u32);

impl Sum {
    fn of(octets: &[u8]) -> [u8; 2] {
        let mut sum = Self::default();
        sum.add(octets);
        sum.finish()
    }

    fn add(&mut self, octets: &[u8]) {
        for pair in octets.as_chunks::<2>().0 {
            self.0 += u32::from(u16::from_be_bytes(*pair));
        }
    }

    fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, TransportHeader};
    use tracker_common::seq::Seq;

    use super::*;

    fn ends(v6: bool) -> [SocketAddr; 2] {
        let texts = match v6 {
            false => ["192.0.2.1:40000", "198.51.100.2:80"],
            true => ["[2001:db8::1]:40000", "[2001:db8::2]:80"],
        };
        texts.map(|text| text.parse().unwrap())
    }

    fn established() -> Flow {
        let mut flow = Flow {
            tag: 1,
            ..Flow::default()
        };
        for (end, (sent, acknowledged)) in [(0, (1100, 5300)), (1, (5300, 1050))] {
            flow.ends[end].set_state(State::Established);
            flow.ends[end].flags = end_flags::SPOKE | end_flags::SEEN;
            flow.ends[end].isn = Seq(1000);
            flow.ends[end].end = Seq(sent);
            flow.ends[end].ack = Seq(acknowledged);
            flow.ends[end].max_window = 100;
        }
        flow
    }

    #[test]
    fn each_end_gets_the_number_that_it_expects() {
        let [client, server] = ends(false);
        let expected: Vec<(SocketAddr, u32)> = resets(ends(false), &established())
            .iter()
            .map(|rst| (rst.to, rst.seq))
            .collect();
        // The server has not acknowledged all that the client has sent.
        assert_eq!(expected, [(client, 5300), (server, 1050), (server, 1100)]);
    }

    #[test]
    fn a_client_that_waits_gets_its_syn_acknowledged() {
        let mut flow = established();
        flow.ends[0].set_state(State::SynSent);
        flow.ends[0].flags = end_flags::SEEN;
        let first = resets(ends(false), &flow)[0];
        assert_eq!((first.to, first.ack), (ends(false)[0], Some(1100)));
    }

    #[test]
    fn an_end_that_is_gone_gets_none() {
        let mut flow = established();
        flow.ends[0].set_state(State::Closed);
        flow.ends[1].set_state(State::TimeWait);
        assert_eq!(resets(ends(false), &flow), []);
    }

    #[test]
    fn a_datagram_is_whole() {
        for v6 in [false, true] {
            for ack in [None, Some(7)] {
                let [from, to] = ends(v6);
                let rst = Rst {
                    from,
                    to,
                    seq: 0xdead_beef,
                    ack,
                };
                let datagram = rst.datagram().unwrap();
                let headers = PacketHeaders::from_ip_slice(&datagram).unwrap();
                let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
                    panic!("no TCP in {datagram:?}");
                };
                assert!(tcp.rst && tcp.ack == ack.is_some());
                assert_eq!(tcp.sequence_number, 0xdead_beef);
                assert_eq!(tcp.source_port, from.port());
                let sum = match headers.net.unwrap() {
                    etherparse::NetHeaders::Ipv4(ip, _) => {
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        tcp.calc_checksum_ipv4(&ip, &[]).unwrap()
                    }
                    etherparse::NetHeaders::Ipv6(ip, _) => {
                        tcp.calc_checksum_ipv6(&ip, &[]).unwrap()
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(tcp.checksum, sum);
            }
        }
        let mixed = Rst {
            from: ends(false)[0],
            to: ends(true)[0],
            seq: 0,
            ack: None,
        };
        assert_eq!(mixed.datagram(), None);
    }
}
