//! Segments of one connection, in numbers relative to its ISNs.

use tracker_common::{abi::Key, tcp::Flags};

use super::frame::{Frame, Socket, Wrapping};

/// An end of a connection. `A` is the one that opens it, where one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that opens.
    A = 0,
    /// The other one.
    B = 1,
}

pub use End::{A, B};

impl End {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            A => B,
            B => A,
        }
    }

    const fn send(self, flags: u8, seq: u32, ack: u32) -> Seg {
        Seg {
            from: self,
            flags,
            seq,
            ack,
            data: 0,
            window: 1000,
            stamp: None,
        }
    }

    /// Its SYN.
    #[must_use]
    pub const fn syn(self) -> Seg {
        self.send(Flags::SYN, 0, 0)
    }

    /// Its SYN that acknowledges the peer's.
    #[must_use]
    pub const fn syn_ack(self) -> Seg {
        self.send(Flags::SYN | Flags::ACK, 0, 1)
    }

    /// An ACK behind its SYN that acknowledges the peer's.
    #[must_use]
    pub const fn ack(self) -> Seg {
        self.send(Flags::ACK, 1, 1)
    }

    /// A FIN right behind its SYN.
    #[must_use]
    pub const fn fin(self) -> Seg {
        self.send(Flags::FIN | Flags::ACK, 1, 1)
    }

    /// An RST with ACK.
    #[must_use]
    pub const fn rst(self) -> Seg {
        self.send(Flags::RST | Flags::ACK, 1, 1)
    }

    /// An RST without ACK.
    #[must_use]
    pub const fn bare_rst(self) -> Seg {
        self.send(Flags::RST, 1, 0)
    }
}

/// A segment of a [`Talk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seg {
    /// Sender.
    pub from: End,
    /// TCP flags.
    pub flags: u8,
    /// Sequence number, relative to the sender's ISN.
    pub seq: u32,
    /// Acknowledgement number, relative to the receiver's ISN.
    pub ack: u32,
    /// Octets of data.
    pub data: u16,
    /// Window as sent.
    pub window: u16,
    /// TSval, where the segment carries timestamps whatever the talk's options.
    pub stamp: Option<u32>,
}

impl Seg {
    /// With this relative sequence number.
    #[must_use]
    pub const fn seq(self, seq: u32) -> Self {
        Self { seq, ..self }
    }

    /// With this relative acknowledgement number.
    #[must_use]
    pub const fn acks(self, ack: u32) -> Self {
        Self { ack, ..self }
    }

    /// With so many octets of data.
    #[must_use]
    pub const fn data(self, data: u16) -> Self {
        Self { data, ..self }
    }

    /// With these flags.
    #[must_use]
    pub const fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// With this TSval.
    #[must_use]
    pub const fn stamp(self, value: u32) -> Self {
        Self {
            stamp: Some(value),
            ..self
        }
    }
}

/// TSval of segments that say nothing else.
pub const STAMP: u32 = 1000;

/// Two ends that talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// What the segments travel in.
    pub wrapping: Wrapping,
    /// Both ends.
    pub ends: [Socket; 2],
    /// Initial sequence numbers. By default near the end of the circle, so that
    /// every conversation crosses it.
    pub isns: [u32; 2],
    /// Whether the segments carry the usual options: MSS, SACK-permitted,
    /// timestamps and window scale on SYNs, timestamps on the others.
    pub options: bool,
}

impl Talk {
    /// The conversation number `number`, unlike any other below 65,536 * 40,000.
    #[must_use]
    pub fn new(wrapping: Wrapping, number: u32) -> Self {
        let a = Socket {
            host: (number / 40_000) as u16,
            port: 10_000 + (number % 40_000) as u16,
        };
        let b = Socket {
            host: 0xfffe,
            port: 443,
        };
        // Half of the conversations are opened by the key's high side.
        let ends = if number.is_multiple_of(2) {
            [a, b]
        } else {
            [Socket { port: a.port, ..b }, Socket { port: 443, ..a }]
        };
        Self {
            wrapping,
            ends,
            isns: [u32::MAX, u32::MAX - 2],
            options: false,
        }
    }

    /// The key of its flow.
    #[must_use]
    pub fn key(&self) -> Key {
        self.ends[0].key(self.ends[1], self.wrapping)
    }

    /// A segment of it as a frame.
    #[must_use]
    pub fn frame(&self, segment: Seg) -> Frame {
        let (me, peer) = (segment.from as usize, segment.from.peer() as usize);
        let has_ack = segment.flags & Flags::ACK != 0;
        Frame {
            seq: self.isns[me].wrapping_add(segment.seq),
            ack: if has_ack {
                self.isns[peer].wrapping_add(segment.ack)
            } else {
                0
            },
            flags: segment.flags,
            window: segment.window,
            options: self.tcp_options(segment),
            data: segment.data.into(),
            ..Frame::syn(self.wrapping, self.ends[me], self.ends[peer])
        }
    }

    fn tcp_options(&self, segment: Seg) -> Vec<u8> {
        if !self.options && segment.stamp.is_none() {
            return Vec::new();
        }
        let mut stamps = vec![8, 10];
        stamps.extend(segment.stamp.unwrap_or(STAMP).to_be_bytes());
        stamps.extend([0; 4]);
        if segment.flags & Flags::SYN == 0 {
            return [vec![1, 1], stamps].concat();
        }
        // As Linux sends them: MSS, SACK-permitted, timestamps, NOP, scale.
        [vec![2, 4, 5, 0xb4, 4, 2], stamps, vec![1, 3, 3, 7]].concat()
    }
}
