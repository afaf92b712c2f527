//! Made-up conversations.
//!
//! An honest one is a script of two endpoints that obey RFC 9293, disturbed in
//! ways that a network has: neighbours from one sender change places, anything
//! comes again later. A hostile one has segments in it that nobody honest sends,
//! with numbers near those that something depends on.

mod script;

use tracker_common::{abi::Family, tcp::Flags};
use tracker_tests::program::{
    frame::{Frame, Wrapping},
    random::Random,
    talk::{A, B, End, STAMP, Seg, Talk},
};

const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const PUSH: u8 = Flags::PSH | Flags::ACK;

/// Octets of a full segment.
const FULL: u16 = 1400;

/// Distances from a number that something depends on.
const NEAR: [u32; 15] = [
    0,
    0,
    0,
    1,
    u32::MAX,
    2,
    100,
    0u32.wrapping_sub(100),
    5000,
    0u32.wrapping_sub(5000),
    70_000,
    0u32.wrapping_sub(70_000),
    10_000_000,
    0x7fff_ffff,
    0x8000_0001,
];

/// A segment of a conversation.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its sender.
    pub from: End,
    /// The frame, without tags.
    pub frame: Frame,
}

/// A whole conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// What kind of opening, traffic and end it has.
    pub name: String,
    /// Nobody but its two ends had a hand in it, and no connection before it.
    pub honest: bool,
    /// In the order in which they pass.
    pub steps: Vec<Step>,
}

/// What an endpoint knows, in numbers relative to the ISNs.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// SND.NXT.
    next: u32,
    /// Octets that it is ready to take, a multiple of the largest unit in which
    /// windows are told.
    window: u32,
    /// Shift of its windows.
    scale: u8,
}

struct Writer<'a> {
    talk: Talk,
    random: &'a mut Random,
    sides: [Side; 2],
    steps: Vec<Step>,
    /// Newest TSval.
    clock: u32,
}

/// The conversation number `number`.
pub fn conversation(random: &mut Random, number: u32) -> Conversation {
    let family = random.pick(&[Family::V4, Family::V6]);
    let mut talk = Talk::new(Wrapping::plain(family), number);
    for isn in &mut talk.isns {
        let anywhere = random.bits();
        *isn = random.pick(&[anywhere, anywhere, 0, u32::MAX - 1, 0x7fff_fff0]);
    }
    talk.options = random.once_in(2);
    let side = |random: &mut Random, talk: &Talk| Side {
        next: 1,
        window: random.pick(&[2816, 8192, 60_032]),
        scale: if talk.options { 7 } else { 0 },
    };
    let sides = [side(random, &talk), side(random, &talk)];
    let mut writer = Writer {
        talk,
        random,
        sides,
        steps: vec![],
        clock: STAMP,
    };
    let (opening, goes_on) = writer.open();
    let mut name = opening.to_owned();
    if goes_on {
        let traffic = writer.traffic();
        let end = writer.close();
        name = format!("{opening}, {traffic}, {end}");
    }
    writer.disturb();
    if goes_on && writer.random.once_in(4) {
        writer.again();
        name += ", again";
    }
    // A former connection that has a say is nobody's fault, but of what it says
    // duplicates lie outside the windows of the new one.
    let alone = !matches!(opening, "half-open responder" | "old SYN-ACK");
    let hostile = writer.random.once_in(3);
    if hostile {
        let many = writer.random.pick(&[1, 1, 2, 4]);
        for _ in 0..many {
            writer.attack();
        }
        name += &format!(", {many} hostile");
    }
    Conversation {
        name,
        honest: alone && !hostile,
        steps: writer.steps,
    }
}

impl Writer<'_> {
    fn push(&mut self, segment: Seg) {
        let frame = self.frame(segment);
        self.push_frame(segment.from, frame);
    }

    /// A segment with its sender's window and the time.
    fn frame(&self, segment: Seg) -> Frame {
        let side = self.sides[segment.from as usize];
        // A window in a segment with SYN is never scaled (RFC 7323 section 2.2).
        let shift = if segment.flags & Flags::SYN != 0 {
            0
        } else {
            side.scale
        };
        let segment = Seg {
            window: u16::try_from(side.window >> shift).unwrap_or(u16::MAX),
            ..segment
        };
        self.talk
            .frame(segment.stamp_if(self.talk.options, self.clock))
    }

    fn push_frame(&mut self, from: End, frame: Frame) {
        self.steps.push(Step { from, frame });
        self.clock += self.random.below(3);
    }

    /// A segment of `from` behind the handshake, with so much data.
    fn say(&mut self, from: End, flags: u8, data: u16) {
        let (me, peer) = (from as usize, from.peer() as usize);
        let segment = from
            .ack()
            .flags(flags)
            .seq(self.sides[me].next)
            .acks(self.sides[peer].next)
            .data(data);
        self.sides[me].next += u32::from(data) + u32::from(flags & Flags::FIN);
        self.push(segment);
    }

    /// What a network does: neighbours change places, packets come twice.
    fn disturb(&mut self) {
        let mut index = 1;
        while index < self.steps.len() {
            let neighbours = self.steps[index].from == self.steps[index - 1].from;
            match self.random.below(25) {
                0 if neighbours => self.steps.swap(index, index - 1),
                1 => {
                    let earlier = index - self.random.below(index.min(4) as u32 + 1) as usize;
                    let again = self.steps[earlier].clone();
                    self.steps.insert(index + 1, again);
                    index += 1;
                }
                _ => {}
            }
            index += 1;
        }
    }

    /// A segment from outside.
    fn attack(&mut self) {
        const FLAGS: [u8; 12] = [
            Flags::SYN,
            Flags::SYN,
            Flags::SYN | Flags::ACK,
            Flags::SYN | Flags::ACK,
            ACK,
            PUSH,
            FIN,
            FIN,
            Flags::RST,
            Flags::RST,
            Flags::RST,
            Flags::RST | Flags::ACK,
        ];
        let from = self.random.pick(&[A, B]);
        let (me, peer) = (from as usize, from.peer() as usize);
        let at = self.random.below(self.steps.len() as u32 + 1) as usize;
        // What both had sent by then.
        let mut numbers = [vec![self.talk.isns[0]], vec![self.talk.isns[1]]];
        for step in &self.steps[..at] {
            let (sender, receiver) = (step.from as usize, step.from.peer() as usize);
            let end = step.frame.seq.wrapping_add(step.frame.data as u32);
            numbers[sender].push(end);
            if step.frame.flags & ACK != 0 {
                numbers[receiver].push(step.frame.ack);
                numbers[receiver].push(step.frame.ack.wrapping_add(step.frame.window.into()));
            }
        }
        let near = |random: &mut Random, side: usize| {
            let newest = numbers[side][numbers[side].len() - 1];
            let any = random.pick(&numbers[side]);
            random
                .pick(&[newest, newest, any])
                .wrapping_add(random.pick(&NEAR))
        };
        let seq = near(self.random, me);
        let ack = near(self.random, peer);
        let segment = from
            .ack()
            .flags(self.random.pick(&FLAGS))
            .data(self.random.pick(&[0, 0, 0, 1, 600]));
        let stamp = self
            .random
            .pick(&[self.clock, self.clock, STAMP.wrapping_sub(1_000_000)]);
        let mut frame = self.talk.frame(segment.stamp_if(self.talk.options, stamp));
        frame.seq = seq;
        if frame.flags & ACK != 0 || self.random.once_in(4) {
            frame.ack = ack;
        }
        self.steps.insert(at, Step { from, frame });
    }
}

/// A stamp where the conversation has them.
trait Stamped {
    fn stamp_if(self, has: bool, value: u32) -> Self;
}

impl Stamped for Seg {
    fn stamp_if(self, has: bool, value: u32) -> Self {
        if has { self.stamp(value) } else { self }
    }
}
