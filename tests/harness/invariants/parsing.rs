//! Any octets as a frame.

use std::ops::RangeInclusive;

use tracker_common::{
    abi::{Side, Zone},
    parse::{self, Bytes, Packet, checksum_fits},
    reason::Reason,
    tcp::{Options, Segment},
};

/// Numbers of the reasons for which a frame is not read: it is not for the
/// tracker, or malformed.
const NOT_READ: [RangeInclusive<u8>; 3] = [
    Reason::NotIp as u8..=Reason::LaterFragment as u8,
    Reason::Unreachable as u8..=Reason::TooManyTags as u8,
    Reason::ShortEthernet as u8..=Reason::EqualEnds as u8,
];

/// A frame of which only the beginning is within reach, as in the kernel.
struct Within<'a> {
    frame: &'a [u8],
    reach: usize,
}

impl Within<'_> {
    fn covers(&self, offset: u32, length: u32) -> bool {
        u64::from(offset) + u64::from(length) <= self.reach as u64
    }
}

impl Bytes for Within<'_> {
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.covers(offset, u32::try_from(N).ok()?)
            .then(|| Bytes::get(self.frame, offset))?
    }

    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; 64]) -> bool {
        self.covers(offset, length) && self.frame.copy(offset, length, buffer)
    }

    fn length(&self) -> u32 {
        self.frame.length()
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        self.covers(offset, length)
            .then(|| self.frame.sum(offset, length))?
    }
}

/// How the octets of an input are read.
struct Input<'a> {
    frame: &'a [u8],
    /// The VLAN tag beside the frame.
    stripped: u16,
    /// Where the IP header is, for what is no Ethernet frame.
    offset: Option<u32>,
    /// Octets within reach.
    reach: usize,
}

impl<'a> Input<'a> {
    /// Two octets tell how the others are read.
    fn new(octets: &'a [u8]) -> Option<Self> {
        let (&[how, reach], frame) = octets.split_first_chunk()?;
        let ethernet = how & 1 == 0;
        Some(Self {
            frame,
            stripped: if how & 2 == 0 { 0 } else { u16::from(how) << 4 },
            offset: (!ethernet).then(|| u32::from(how >> 1)),
            reach: frame.len().min(reach.into()),
        })
    }

    fn read(&self, frame: &(impl Bytes + ?Sized), packet: &mut Packet) -> Result<(), Reason> {
        match self.offset {
            None => parse::ethernet(frame, self.stripped, packet),
            Some(offset) => parse::datagram(frame, offset, packet),
        }
    }
}

/// What was read of a packet, without its options.
type Facts = ([u32; 4], [u32; 4], [u16; 4], [u32; 3], Segment, u8);

fn facts(packet: &Packet) -> Facts {
    let segment = Segment {
        options: Options::default(),
        ..packet.segment
    };
    (
        packet.source,
        packet.destination,
        [
            packet.source_port,
            packet.destination_port,
            packet.outer,
            packet.inner,
        ],
        [packet.bytes, packet.at, packet.length],
        segment,
        packet.quoted,
    )
}

/// Reads the octets as a frame, whole, cut off and in part, and checks what
/// came of it.
#[must_use]
pub fn check(octets: &[u8]) -> u64 {
    let Some(input) = Input::new(octets) else {
        return 0;
    };
    let mut packet = Packet::default();
    let read = input.read(input.frame, &mut packet);
    judge(&input, read, &packet);
    again(&input, read, &packet);
    within_reach(&input, read, &packet);
    cut_off(&input, read);
    1
}

fn judge(input: &Input<'_>, read: Result<(), Reason>, packet: &Packet) {
    if let Err(reason) = read {
        let number = reason as u8;
        assert!(
            NOT_READ.iter().any(|reasons| reasons.contains(&number)),
            "a frame is not read because of {reason:?}, which is no reason for that"
        );
        return;
    }
    let length = u32::try_from(input.frame.len()).unwrap_or(u32::MAX);
    let ip_at = input.offset.unwrap_or(14);
    assert!(
        packet.bytes <= length - ip_at,
        "a datagram is longer than its frame: {packet:?}"
    );
    assert!(packet.outer <= 0xfff && packet.inner <= 0xfff);
    assert!(input.offset.is_some() || packet.outer != 0 || packet.inner == 0);
    let (key, side) = packet.key(Zone::of_vids(packet.outer, packet.inner));
    assert_ne!(key.tag(packet.family()), 0);
    let mut back = *packet;
    (back.source, back.destination) = (packet.destination, packet.source);
    (back.source_port, back.destination_port) = (packet.destination_port, packet.source_port);
    let (back, other) = back.key(Zone::of_vids(packet.outer, packet.inner));
    assert_eq!(key, back, "two directions, two keys");
    if packet.quoted != 0 {
        assert_eq!(packet.segment.flags.0, 0);
        assert_eq!(checksum_fits(input.frame, packet), None);
        return;
    }
    assert_eq!(side == Side::Low, other == Side::High);
    let segment = &packet.segment;
    assert!(segment.flags.legal(), "{:?} is read", segment.flags);
    assert!(packet.at >= ip_at + 20 && packet.at + packet.length <= length);
    assert!(packet.length >= 20 && packet.length <= packet.bytes - 20);
    assert!(segment.payload <= packet.length - 20);
    assert!(segment.fragmented <= 1);
    let header = input.frame[packet.at as usize + 12] >> 4;
    assert_eq!(packet.length - segment.payload, u32::from(header) * 4);
    let options = &segment.options;
    assert!(options.has(Options::TIMESTAMPS) || options.ts_value == 0 && options.ts_echo == 0);
    assert!(options.has(Options::SCALE) || options.scale == 0);
    assert!(options.has(Options::MSS) || options.mss == 0);
    assert!(header > 5 || options.present == 0);
    let fits = checksum_fits(input.frame, packet);
    assert_eq!(fits.is_none(), segment.fragmented != 0);
    if fits == Some(true) {
        one_bit(input, packet);
    }
}

/// A checksum that fits no longer does when any one bit is another. (The two
/// octets at the end may be the only ones that count, so one there.)
fn one_bit(input: &Input<'_>, packet: &Packet) {
    let mut frame = input.frame.to_vec();
    let last = (packet.at + packet.length) as usize - 1;
    frame[last] ^= 1;
    assert_eq!(checksum_fits(&frame[..], packet), Some(false));
}

/// What was in the packet before does not matter.
fn again(input: &Input<'_>, read: Result<(), Reason>, packet: &Packet) {
    let mut dirty = Packet::default();
    dirty.source = [u32::MAX; 4];
    dirty.destination = [u32::MAX; 4];
    dirty.source_port = u16::MAX;
    dirty.destination_port = u16::MAX;
    dirty.bytes = u32::MAX;
    dirty.at = u32::MAX;
    dirty.length = u32::MAX;
    dirty.quoted = 1;
    dirty.segment.payload = u32::MAX;
    dirty.segment.window = u16::MAX;
    dirty.segment.fragmented = 1;
    dirty.segment.options = Options {
        present: u8::MAX,
        scale: u8::MAX,
        mss: u16::MAX,
        ts_value: u32::MAX,
        ..Options::default()
    };
    let again = input.read(input.frame, &mut dirty);
    assert_eq!(read, again, "a packet is read otherwise the second time");
    if read.is_ok() && packet.quoted == 0 {
        assert_eq!(facts(packet), facts(&dirty));
        assert_eq!(packet.segment.options, dirty.segment.options);
    }
}

/// With less within reach less can be read, but nothing otherwise.
fn within_reach(input: &Input<'_>, read: Result<(), Reason>, whole: &Packet) {
    let frame = Within {
        frame: input.frame,
        reach: input.reach,
    };
    let mut packet = Packet::default();
    let in_part = input.read(&frame, &mut packet);
    match in_part {
        Err(Reason::Unreachable) => {}
        // A message that is not all there is nobody's error.
        Err(Reason::NotTcp) if read.is_ok() => assert_ne!(whole.quoted, 0),
        _ => {
            assert_eq!(in_part, read, "what is within reach is read otherwise");
            if read.is_ok() {
                assert_eq!(facts(whole), facts(&packet));
                let fits = checksum_fits(&frame, &packet);
                assert!(fits.is_none() || fits == checksum_fits(input.frame, whole));
            }
        }
    }
}

/// Of a frame that was cut off nothing is read that the whole one has not: a
/// segment that reaches to its end is not there.
fn cut_off(input: &Input<'_>, read: Result<(), Reason>) {
    let mut packet = Packet::default();
    let Some((_, frame)) = input.frame.split_last() else {
        return;
    };
    let cut = input.read(frame, &mut packet);
    if cut.is_ok() && read.is_err() {
        // A datagram whose length is not told is as long as its frame.
        assert!(packet.bytes > u16::MAX.into(), "{read:?} and {cut:?}");
    }
}
