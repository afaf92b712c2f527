//! The cases: what is sent, and what must come of it.

mod closing;
mod established;
mod fragments;
mod icmp;
mod opening;
mod others;
mod strays;

use std::net::{IpAddr, SocketAddr};

use tracker_common::{reason::Reason, tcp::Flags};
use tracker_tests::{
    program::talk::{A, B, End, Seg},
    topology::Family,
};

use crate::{
    bed::{Role, Side},
    packet::{Datagram, Part, UNKNOWN},
    walls::port,
};

pub const ACK: u8 = Flags::ACK;
pub const DATA: u8 = Flags::ACK | Flags::PSH;
pub const FIN: u8 = Flags::FIN | Flags::ACK;

/// A router on the way, of which no wall knows.
const ROUTER_V4: [u8; 4] = [203, 0, 113, 1];
const ROUTER_V6: [u16; 8] = [0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1];

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unlike any other.
    pub name: &'static str,
    /// Where `A` is.
    pub opener: Side,
    /// Port of `A`; without one, a port that no other case has.
    pub from_port: Option<u16>,
    /// Port of `B`.
    pub to_port: u16,
    /// Roles of the wall in which it is told.
    pub roles: &'static [Role],
    /// Families in which it is told.
    pub families: &'static [Family],
    pub steps: Vec<Step>,
}

/// A packet, and what must become of it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub from: End,
    pub packet: Packet,
    pub fate: Fate,
}

/// What becomes of a packet, as the tracker's wall sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It passes, and its receiver can make nothing of it.
    Useless,
    /// It is dropped for this reason, without a rule.
    Refused(Reason),
    /// It is dropped by this rule.
    Denied(&'static str),
    /// Its two fragments are dropped, each for its own reason.
    Twice([Reason; 2]),
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub enum Packet {
    /// A segment.
    Segment(Seg),
    /// A segment behind options of IP.
    Behind(Seg),
    /// A segment in fragments: these, in this order.
    Fragments(Seg, &'static [Part]),
    /// An ICMP error.
    Error(Error),
    /// A UDP datagram between the same ports.
    Udp,
    /// An ICMP echo request.
    Echo,
    /// A packet of a protocol that nobody knows.
    Unknown,
}

/// An ICMP error to the sender of something that it quotes.
#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub kind: Kind,
    /// A router sends it; else the receiver of what is quoted.
    pub by_router: bool,
    pub about: About,
    /// Octets of the quoted segment.
    pub quoted: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum About {
    Segment(Seg),
    /// A UDP datagram between the same ports.
    Udp,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    TooBig,
    TimeExceeded,
    BadHeader,
}

impl Kind {
    /// Type and code, and the four octets that depend on them (RFC 792, RFC 1191, RFC
    /// 4443).
    fn octets(self, family: Family) -> ([u8; 2], [u8; 4]) {
        let kind = match (self, family) {
            (Self::HostUnreachable, Family::V4) => [3, 1],
            (Self::HostUnreachable, Family::V6) => [1, 3],
            (Self::PortUnreachable, Family::V4) => [3, 3],
            (Self::PortUnreachable, Family::V6) => [1, 4],
            (Self::Prohibited, Family::V4) => [3, 13],
            (Self::Prohibited, Family::V6) => [1, 1],
            (Self::TooBig, Family::V4) => [3, 4],
            (Self::TooBig, Family::V6) => [2, 0],
            (Self::TimeExceeded, Family::V4) => [11, 0],
            (Self::TimeExceeded, Family::V6) => [3, 0],
            (Self::BadHeader, Family::V4) => [12, 0],
            (Self::BadHeader, Family::V6) => [4, 0],
        };
        let word = match self {
            Self::TooBig => 1400_u32.to_be_bytes(),
            Self::HostUnreachable
            | Self::PortUnreachable
            | Self::Prohibited
            | Self::TimeExceeded
            | Self::BadHeader => [0; 4],
        };
        (kind, word)
    }
}

/// The table.
pub fn cases() -> Vec<Case> {
    [
        opening::cases(),
        established::cases(),
        closing::cases(),
        strays::cases(),
        icmp::cases(),
        fragments::cases(),
        others::cases(),
    ]
    .concat()
}

/// Whether its only packet is a stray to an allowed port.
pub fn is_stray_to_allowed(case: &Case) -> bool {
    strays::is_to_allowed(case)
}

/// A case between a host outside that opens and port `to_port` inside.
pub fn inwards<const N: usize>(name: &'static str, to_port: u16, steps: [Step; N]) -> Case {
    case(name, Side::Outside, to_port, steps)
}

/// A case between a host inside that opens and port `to_port` outside.
pub fn outwards<const N: usize>(name: &'static str, to_port: u16, steps: [Step; N]) -> Case {
    case(name, Side::Inside, to_port, steps)
}

fn case<const N: usize>(name: &'static str, opener: Side, to_port: u16, steps: [Step; N]) -> Case {
    Case {
        name,
        opener,
        from_port: None,
        to_port,
        roles: &[Role::Host, Role::Gateway],
        families: &[Family::V4, Family::V6],
        steps: steps.to_vec(),
    }
}

impl Case {
    fn calling_from(self, port: u16) -> Self {
        Self {
            from_port: Some(port),
            ..self
        }
    }

    pub fn only(self, roles: &'static [Role]) -> Self {
        Self { roles, ..self }
    }

    /// After a handshake, all of which arrives.
    pub fn established(self) -> Self {
        let handshake = HANDSHAKE.map(arrives);
        Self {
            steps: [handshake.to_vec(), self.steps].concat(),
            ..self
        }
    }
}

/// A whole handshake.
pub const HANDSHAKE: [Seg; 3] = [A.syn(), B.syn_ack(), A.ack()];

pub const fn arrives(segment: Seg) -> Step {
    Step {
        from: segment.from,
        packet: Packet::Segment(segment),
        fate: Fate::Arrives,
    }
}

pub const fn refused(segment: Seg, reason: Reason) -> Step {
    Step {
        fate: Fate::Refused(reason),
        ..arrives(segment)
    }
}

pub const fn denied(segment: Seg, rule: &'static str) -> Step {
    Step {
        fate: Fate::Denied(rule),
        ..arrives(segment)
    }
}

impl Step {
    /// The segment lies behind options of IP.
    fn behind(self) -> Self {
        let Packet::Segment(segment) = self.packet else {
            unreachable!("{self:?} is a segment");
        };
        Self {
            packet: Packet::Behind(segment),
            ..self
        }
    }
}

/// What is sent for a step: the datagram as its receiver should see it, and the
/// packets.
pub struct Sent {
    pub from: Side,
    pub datagram: Datagram,
    pub packets: Vec<Vec<u8>>,
}

/// A conversation in one place: its ends and numbers.
#[derive(Clone, Copy)]
pub struct Stage {
    pub opener: Side,
    pub family: Family,
    /// Addresses of `A` and `B`.
    pub ends: [SocketAddr; 2],
    /// Unlike that of any other conversation.
    pub number: u16,
}

impl Stage {
    /// Near the end of the circle, so that every conversation crosses it.
    const ISNS: [u32; 2] = [u32::MAX - 4, u32::MAX - 1];

    const fn side(&self, end: End) -> Side {
        match end {
            A => self.opener,
            B => self.opener.other(),
        }
    }

    fn segment(&self, segment: Seg) -> Datagram {
        let (me, peer) = (segment.from as usize, segment.from.peer() as usize);
        let isns = [Self::ISNS[me], Self::ISNS[peer]];
        Datagram::segment(self.ends[me], self.ends[peer], isns, segment)
    }

    fn error(&self, from: End, error: &Error) -> Datagram {
        let (me, peer) = (self.ends[from as usize], self.ends[from.peer() as usize]);
        let about = match error.about {
            About::Segment(segment) => self.segment(segment),
            About::Udp => Datagram::udp(peer, me, b"anything"),
        };
        let quoted = Datagram {
            payload: about.payload[..about.payload.len().min(error.quoted)].to_vec(),
            ..about
        };
        let sender = match (error.by_router, self.family) {
            (false, _) => me.ip(),
            (true, Family::V4) => IpAddr::from(ROUTER_V4),
            (true, Family::V6) => IpAddr::from(ROUTER_V6),
        };
        let (kind, word) = error.kind.octets(self.family);
        Datagram::icmp(sender, peer.ip(), kind, word, &quoted.whole())
    }

    /// What is sent for a step.
    pub fn sent(&self, step: &Step) -> Sent {
        let (me, peer) = (step.from as usize, step.from.peer() as usize);
        let [from, to] = [self.ends[me], self.ends[peer]];
        let datagram = match step.packet {
            Packet::Segment(segment) | Packet::Fragments(segment, _) => self.segment(segment),
            Packet::Behind(segment) => Datagram {
                options: true,
                ..self.segment(segment)
            },
            Packet::Error(error) => self.error(step.from, &error),
            Packet::Udp => Datagram::udp(from, to, b"anything"),
            Packet::Echo => {
                let kind = if from.is_ipv4() { [8, 0] } else { [128, 0] };
                let [high, low] = self.number.to_be_bytes();
                Datagram::icmp(from.ip(), to.ip(), kind, [high, low, 0, 1], b"anything")
            }
            Packet::Unknown => {
                let text = format!("conversation {}", self.number).into_bytes();
                Datagram::new(from.ip(), to.ip(), UNKNOWN, text)
            }
        };
        let packets = match step.packet {
            Packet::Fragments(_, parts) => parts
                .iter()
                .map(|&part| datagram.part(part, self.number))
                .collect(),
            Packet::Segment(_)
            | Packet::Behind(_)
            | Packet::Error(_)
            | Packet::Udp
            | Packet::Echo
            | Packet::Unknown => vec![datagram.whole()],
        };
        Sent {
            from: self.side(step.from),
            datagram,
            packets,
        }
    }
}
