//! Random streams of segments.

use tracker::replay::{Id, Table};
use tracker_common::{abi::Family, tcp::Flags};
use tracker_tests::program::{
    bench::Origin,
    frame::{Fragment, Frame, Tags, Wrapping},
    random::Random,
    talk::{A, B, End, Seg, Talk},
};

/// Pairs of ends that talk at once: more than the tables hold.
const TALKS: u32 = 48;

/// Flags of segments that nobody honest sends, and of some that are.
const FLAGS: [u8; 14] = [
    Flags::SYN,
    Flags::SYN,
    Flags::SYN | Flags::ACK,
    Flags::SYN | Flags::ACK,
    Flags::ACK,
    Flags::ACK,
    Flags::ACK | Flags::PSH,
    Flags::ACK | Flags::URG,
    Flags::FIN | Flags::ACK,
    Flags::FIN | Flags::ACK | Flags::PSH,
    Flags::RST,
    Flags::RST | Flags::ACK,
    Flags::SYN | Flags::ECE | Flags::CWR,
    Flags::SYN | Flags::FIN,
];

/// Distances from a number that something depends on.
const NEAR: [u32; 12] = [
    0,
    0,
    0,
    1,
    1,
    u32::MAX,
    2,
    100,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    u32::MAX - 1000,
];

/// Conversations between some ends, all at once.
pub struct Stream {
    talks: Vec<(Talk, Vec<Seg>)>,
}

impl Stream {
    pub fn new(random: &mut Random) -> Self {
        const TAGS: [Tags; 4] = [
            Tags::Untagged,
            Tags::Untagged,
            Tags::Vlan(9),
            Tags::QinQ(9, 10),
        ];
        let talks = (0..TALKS)
            .map(|number| {
                let family = if number % 2 == 0 {
                    Family::V4
                } else {
                    Family::V6
                };
                let wrapping = Wrapping {
                    family,
                    tags: random.pick(&TAGS),
                };
                (Talk::new(wrapping, number / 2), vec![])
            })
            .collect();
        Self { talks }
    }

    /// How long nothing happens before the next packet.
    pub fn pause_ms(&self, random: &mut Random) -> u64 {
        let limit = match random.below(2000) {
            0..1500 => return 0,
            1500..1960 => 20,
            1960..1990 => 2_000,
            1990..1997 => 60_000,
            1997..1999 => 500_000,
            _ => 500_000_000,
        };
        random.below(limit).into()
    }

    /// The next packet.
    pub fn next(&mut self, random: &mut Random, table: &Table) -> (Origin, Talk, Vec<u8>) {
        let count = self.talks.len() as u32;
        // Mostly among few, so that their conversations come to an end.
        let among = if random.once_in(8) { count } else { 16 };
        let index = random.below(among) as usize;
        let (talk, ahead) = &mut self.talks[index];
        if ahead.is_empty() {
            for isn in &mut talk.isns {
                let anywhere = random.bits();
                *isn = random.pick(&[anywhere, anywhere, 0, u32::MAX, 0x7fff_ff00]);
            }
            talk.options = random.once_in(2);
            *ahead = conversation(random);
            disturb(ahead, random);
            // From the end.
            ahead.reverse();
        }
        let honest = !random.once_in(5);
        let segment = if honest { ahead.pop() } else { None };
        let (from, mut frame) = match segment {
            Some(segment) => (segment.from, talk.frame(segment)),
            None => any(talk, random, table),
        };
        if random.once_in(40) {
            frame.fragment = Some(Fragment {
                offset: 0,
                more: random.once_in(2),
            });
        }
        let near = if from == A {
            Origin::Wire
        } else {
            Origin::Host
        };
        let origin = match random.below(20) {
            0 => Origin::Loopback,
            1 => Origin::Forwarded,
            2 => near.opposite(),
            _ => near,
        };
        let bytes = if random.once_in(30) {
            icmp_error(&frame, random)
        } else {
            frame.bytes()
        };
        (origin, *talk, bytes)
    }
}

/// An ICMP message that quotes the frame's segment, mostly an error.
fn icmp_error(frame: &Frame, random: &mut Random) -> Vec<u8> {
    let at = frame.ip_at();
    let bytes = frame.bytes();
    let (link, datagram) = bytes.split_at(at);
    let (header, kinds) = match frame.wrapping.family {
        Family::V4 => (20, [3, 3, 4, 5, 11, 12, 8]),
        Family::V6 => (40, [1, 1, 2, 3, 4, 128, 4]),
    };
    let quote = &datagram[..datagram.len().min(header + 8)];
    let mut outer = datagram[..header].to_vec();
    let payload = 8 + quote.len() as u16;
    match frame.wrapping.family {
        Family::V4 => {
            outer[2..4].copy_from_slice(&(20 + payload).to_be_bytes());
            outer[6..8].fill(0);
            outer[9] = 1;
        }
        Family::V6 => {
            outer[4..6].copy_from_slice(&payload.to_be_bytes());
            outer[6] = 58;
        }
    }
    let icmp = [random.pick(&kinds), 0, 0, 0, 0, 0, 0, 0];
    [link, &outer, &icmp, quote].concat()
}

/// The segments of a whole connection.
fn conversation(random: &mut Random) -> Vec<Seg> {
    let mut segments = match random.below(12) {
        0 => vec![A.syn(), B.syn(), A.syn_ack(), B.syn_ack()],
        // Unanswered, refused, and older than anybody's knowledge.
        1 => return vec![A.syn(); 3],
        2 => return vec![A.syn(), B.rst()],
        3 => vec![],
        // A responder without memory, and a client that reboots.
        4 => {
            return vec![
                A.syn(),
                B.syn_ack(),
                A.syn(),
                B.syn_ack().seq(777),
                B.syn_ack(),
            ];
        }
        _ => vec![A.syn(), B.syn_ack(), A.ack()],
    };
    // Sequence numbers of both ends.
    let mut next = [1, 1];
    let send = |next: &mut [u32; 2], from: End, flags: u8, data: u16| {
        let (me, peer) = (from as usize, from.peer() as usize);
        let segment = from
            .ack()
            .flags(flags)
            .seq(next[me])
            .acks(next[peer])
            .data(data);
        next[me] += u32::from(data) + u32::from(flags & Flags::FIN);
        segment
    };
    for _ in 0..random.below(8) {
        let from = random.pick(&[A, B]);
        let data = random.pick(&[0, 1, 500, 1460]);
        segments.push(send(&mut next, from, Flags::ACK | Flags::PSH, data));
        segments.push(send(&mut next, from.peer(), Flags::ACK, 0));
    }
    let first = random.pick(&[A, B]);
    let (fin, ack) = (Flags::FIN | Flags::ACK, Flags::ACK);
    match random.below(5) {
        0 => segments.push(first.rst().seq(next[first as usize])),
        // Simultaneous close.
        1 => {
            let before = next;
            segments.push(send(&mut next, first, fin, 0));
            let mut seen = before;
            segments.push(send(&mut seen, first.peer(), fin, 0));
            next[first.peer() as usize] += 1;
            segments.push(send(&mut next, first, ack, 0));
            segments.push(send(&mut next, first.peer(), ack, 0));
        }
        kind => {
            segments.push(send(&mut next, first, fin, 0));
            if kind != 2 {
                segments.push(send(&mut next, first.peer(), ack, 0));
            }
            // The other side may go on.
            if kind == 4 {
                segments.push(send(&mut next, first.peer(), ack, 700));
                segments.push(send(&mut next, first, ack, 0));
            }
            segments.push(send(&mut next, first.peer(), fin, 0));
            segments.push(send(&mut next, first, ack, 0));
        }
    }
    segments
}

/// Loses, repeats and reorders.
fn disturb(segments: &mut Vec<Seg>, random: &mut Random) {
    let mut index = 0;
    while index < segments.len() {
        match random.below(30) {
            0 => drop(segments.remove(index)),
            1 => segments.insert(index, segments[index]),
            2 if index > 0 => segments.swap(index, index - 1),
            3 => {
                let again = segments[random.below(index as u32 + 1) as usize];
                segments.insert(index + 1, again);
            }
            _ => {}
        }
        index += 1;
    }
}

/// A segment that need not make sense, with numbers near those that matter.
fn any(talk: &Talk, random: &mut Random, table: &Table) -> (End, Frame) {
    let from = random.pick(&[A, B]);
    let entry = table.get(&Id::new(talk.wrapping.family, &talk.key()));
    let mut numbers = talk.isns.to_vec();
    for end in entry.iter().flat_map(|entry| &entry.flow.ends) {
        numbers.extend([end.isn.0, end.end.0, end.max_end.0, end.ack.0, end.end.0]);
    }
    let number = |random: &mut Random| {
        if random.once_in(20) {
            random.bits()
        } else {
            random.pick(&numbers).wrapping_add(random.pick(&NEAR))
        }
    };
    let mut segment = from.ack().data(random.pick(&[0, 0, 0, 1, 600]));
    if random.once_in(3) {
        segment = segment.stamp(random.pick(&[1000, 1001, 999, 0x8000_03e8, 0]));
    }
    let mut frame = talk.frame(segment.flags(random.pick(&FLAGS)));
    if random.once_in(30) {
        frame.flags = random.bits() as u8;
    }
    frame.seq = number(random);
    frame.ack = number(random);
    frame.window = random.pick(&[0, 1, 1000, u16::MAX]);
    if random.once_in(10) {
        frame.options = (0..random.below(11) * 4)
            .map(|_| random.below(16) as u8)
            .collect();
    }
    (from, frame)
}
