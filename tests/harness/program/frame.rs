//! Frames with every header that the tracker reads, whole or broken.
//!
//! Checksums are left 0 unless asked for: the tracker leaves them to the
//! receiver, where nobody has told it otherwise.

use etherparse::TcpSlice;
use tracker_common::{
    abi::{Family, Key, Place, Zone},
    tcp::Flags,
};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// VLAN tags of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// None.
    Untagged,
    /// One with this identifier; 0 is a priority tag.
    Vlan(u16),
    /// A service tag and a customer tag.
    QinQ(u16, u16),
}

/// What a segment travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// IP version.
    pub family: Family,
    /// VLAN tags.
    pub tags: Tags,
}

impl Wrapping {
    /// Every wrapping that tests go through.
    pub const ALL: [Self; 8] = {
        const TAGS: [Tags; 4] = [
            Tags::Untagged,
            Tags::Vlan(0),
            Tags::Vlan(0xfff),
            Tags::QinQ(100, 7),
        ];
        let mut all = [Self {
            family: Family::V4,
            tags: Tags::Untagged,
        }; 8];
        let mut index = 0;
        while index < 4 {
            all[index].tags = TAGS[index];
            all[index + 4] = Self {
                family: Family::V6,
                tags: TAGS[index],
            };
            index += 1;
        }
        all
    };

    /// The wrapping without tags.
    #[must_use]
    pub const fn plain(family: Family) -> Self {
        Self {
            family,
            tags: Tags::Untagged,
        }
    }

    /// The zone of a host's tracker for this wrapping.
    #[must_use]
    pub const fn zone(self) -> Zone {
        match self.tags {
            Tags::Untagged => Zone::of_vids(0, 0),
            Tags::Vlan(vid) => Zone::of_vids(vid, 0),
            Tags::QinQ(outer, inner) => Zone::of_vids(outer, inner),
        }
    }

    /// Octets of the link header.
    #[must_use]
    pub const fn link_length(self) -> usize {
        match self.tags {
            Tags::Untagged => 14,
            Tags::Vlan(_) => 18,
            Tags::QinQ(..) => 22,
        }
    }
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Number of the made-up host.
    pub host: u16,
    /// Port.
    pub port: u16,
}

impl Socket {
    /// Its IPv4 address.
    #[must_use]
    pub const fn v4(self) -> [u8; 4] {
        let [high, low] = self.host.to_be_bytes();
        [10, 77, high, low]
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn v6(self) -> [u8; 16] {
        let [high, low] = self.host.to_be_bytes();
        [
            0x20, 0x01, 0x0d, 0xb8, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, high, low,
        ]
    }

    /// Its address of this family as the tracker's maps have it.
    #[must_use]
    pub fn address(self, family: Family) -> [u32; 4] {
        let octets = match family {
            Family::V4 => {
                let [a, b, c, d] = self.v4();
                [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            }
            Family::V6 => self.v6(),
        };
        let mut words = [0; 4];
        for (word, octets) in words.iter_mut().zip(octets.as_chunks().0) {
            *word = u32::from_ne_bytes(*octets);
        }
        words
    }

    /// It as a place where connections are accepted.
    #[must_use]
    pub fn listener(self, wrapping: Wrapping) -> Place {
        let Wrapping { family, .. } = wrapping;
        Place::listener(family, self.address(family), self.port, wrapping.zone().0)
    }

    /// The prefix of `bits` that it is in.
    #[must_use]
    pub fn source(self, wrapping: Wrapping, bits: u8) -> Place {
        let Wrapping { family, .. } = wrapping;
        Place::source(family, self.address(family), bits, wrapping.zone().0)
    }

    /// The key of the flow between two ends.
    #[must_use]
    pub fn key(self, other: Self, wrapping: Wrapping) -> Key {
        let zone = wrapping.zone();
        let (key, _) = match wrapping.family {
            Family::V4 => Key::v4(
                (u32::from_ne_bytes(self.v4()), self.port),
                (u32::from_ne_bytes(other.v4()), other.port),
                zone,
            ),
            Family::V6 => Key::v6(
                (self.address(Family::V6), self.port),
                (other.address(Family::V6), other.port),
                zone,
            ),
        };
        key
    }
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in units of eight octets.
    pub offset: u16,
    /// More follow.
    pub more: bool,
}

/// A frame to build. [`Frame::bytes`] fills in the lengths, so the frame is
/// whole until a test breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Link and network layer.
    pub wrapping: Wrapping,
    /// Sender.
    pub from: Socket,
    /// Receiver.
    pub to: Socket,
    /// Octets of IPv4 options, a multiple of 4 up to 40.
    pub ip_options: usize,
    /// IPv6 extension headers: number and length in octets.
    pub extensions: Vec<(u8, usize)>,
    /// A fragment's place; in IPv6 in a header behind the extensions.
    pub fragment: Option<Fragment>,
    /// Number of the protocol behind IP.
    pub protocol: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// TCP options, a multiple of 4 up to 40 octets.
    pub options: Vec<u8>,
    /// Octets of data.
    pub data: usize,
    /// Octets of the segment that the packet carries, where not all of them.
    pub carried: Option<usize>,
    /// What IP carries instead of a TCP segment.
    pub message: Option<Vec<u8>>,
}

impl Frame {
    /// A frame that carries a SYN without options.
    #[must_use]
    pub const fn syn(wrapping: Wrapping, from: Socket, to: Socket) -> Self {
        Self {
            wrapping,
            from,
            to,
            ip_options: 0,
            extensions: Vec::new(),
            fragment: None,
            protocol: TCP,
            seq: 1000,
            ack: 0,
            flags: Flags::SYN,
            window: 64_000,
            options: Vec::new(),
            data: 0,
            carried: None,
            message: None,
        }
    }

    /// An ICMP error of type `kind` about this datagram, of which it quotes up
    /// to so many octets. The receiver sends it, or a router in its name.
    #[must_use]
    pub fn icmp_error(&self, kind: u8, quoted: usize) -> Self {
        let datagram = &self.bytes()[self.ip_at()..];
        // Type, code, checksum, and four octets that depend on the type.
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(&datagram[..quoted.min(datagram.len())]);
        Self {
            protocol: match self.wrapping.family {
                Family::V4 => ICMP,
                Family::V6 => ICMP_V6,
            },
            message: Some(message),
            ..Self::syn(self.wrapping, self.to, self.from)
        }
    }

    /// Offset of the IP header.
    #[must_use]
    pub const fn ip_at(&self) -> usize {
        self.wrapping.link_length()
    }

    /// Offset of the first extension header.
    #[must_use]
    pub const fn extensions_at(&self) -> usize {
        self.ip_at() + 40
    }

    /// Offset of the TCP header.
    #[must_use]
    pub fn tcp_at(&self) -> usize {
        match self.wrapping.family {
            Family::V4 => self.ip_at() + 20 + self.ip_options,
            Family::V6 => {
                let extensions: usize = self.extensions.iter().map(|&(_, length)| length).sum();
                let fragment = if self.fragment.is_some() { 8 } else { 0 };
                self.extensions_at() + extensions + fragment
            }
        }
    }

    /// The whole frame.
    ///
    /// # Panics
    ///
    /// A length does not fit its field.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let mut tag = |ethertype: u16, vid: u16| {
            frame.extend(ethertype.to_be_bytes());
            // Priority bits, which name no VLAN.
            frame.extend((vid | 0xa000).to_be_bytes());
        };
        match self.wrapping.tags {
            Tags::Untagged => {}
            Tags::Vlan(vid) => tag(0x8100, vid),
            Tags::QinQ(outer, inner) => {
                tag(0x88a8, outer);
                tag(0x8100, inner);
            }
        }
        let segment = self.segment();
        match self.wrapping.family {
            Family::V4 => self.v4(&mut frame, &segment),
            Family::V6 => self.v6(&mut frame, &segment),
        }
        frame.extend(segment);
        frame
    }

    /// The whole frame, which carries a whole segment, with a TCP checksum that
    /// fits.
    ///
    /// # Panics
    ///
    /// A length does not fit its field, or the packet carries something else.
    #[must_use]
    pub fn summed(&self) -> Vec<u8> {
        let mut frame = self.bytes();
        let segment = &mut frame[self.tcp_at()..];
        let tcp = TcpSlice::from_slice(segment).expect("a whole segment");
        let sum = match self.wrapping.family {
            Family::V4 => tcp.calc_checksum_ipv4(self.from.v4(), self.to.v4()),
            Family::V6 => tcp.calc_checksum_ipv6(self.from.v6(), self.to.v6()),
        };
        let sum = sum.expect("a segment's length");
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn v4(&self, frame: &mut Vec<u8>, segment: &[u8]) {
        let header = 20 + self.ip_options;
        let total = u16::try_from(header + segment.len()).expect("an IPv4 packet's length");
        let place = self.fragment.map_or(0, |Fragment { offset, more }| {
            offset | if more { 0x2000 } else { 0 }
        });
        frame.extend([0x08, 0x00]);
        frame.push(0x40 | u8::try_from(header / 4).expect("an IPv4 header's length"));
        frame.push(0);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(place.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(self.from.v4());
        frame.extend(self.to.v4());
        // NOP.
        frame.extend(vec![1; self.ip_options]);
    }

    fn v6(&self, frame: &mut Vec<u8>, segment: &[u8]) {
        let mut chain: Vec<(u8, usize)> = self.extensions.clone();
        if self.fragment.is_some() {
            chain.push((44, 8));
        }
        let extensions: usize = chain.iter().map(|&(_, length)| length).sum();
        let payload = u16::try_from(extensions + segment.len()).expect("an IPv6 packet's length");
        let after = |index: usize| {
            chain
                .get(index)
                .map_or(self.protocol, |&(number, _)| number)
        };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(payload.to_be_bytes());
        frame.extend([after(0), 64]);
        frame.extend(self.from.v6());
        frame.extend(self.to.v6());
        for (index, &(number, length)) in chain.iter().enumerate() {
            let mut header = vec![0; length];
            header[0] = after(index + 1);
            if number == 44 {
                let place = self
                    .fragment
                    .map_or(0, |Fragment { offset, more }| offset << 3 | u16::from(more));
                header[2..4].copy_from_slice(&place.to_be_bytes());
            } else if number == 51 {
                header[1] = u8::try_from(length / 4 - 2).expect("an authentication header");
            } else {
                header[1] = u8::try_from(length / 8 - 1).expect("an extension header");
            }
            frame.extend(header);
        }
    }

    fn segment(&self) -> Vec<u8> {
        if let Some(message) = &self.message {
            return message.clone();
        }
        let mut tcp = Vec::with_capacity(20 + self.options.len() + self.data);
        let words = u8::try_from(5 + self.options.len() / 4).expect("a TCP header's length");
        tcp.extend(self.from.port.to_be_bytes());
        tcp.extend(self.to.port.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([words << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.resize(tcp.len() + self.data, 0x5a);
        tcp.truncate(self.carried.unwrap_or(tcp.len()));
        tcp
    }
}
