//! A row of the table, and the stage it is played on.

use anyhow::{Result, bail, ensure};
use tracker_common::{
    abi::{Bound, Gauge, Interface, Live, interface_flags},
    reason::{Class, Reason},
    tcp::State,
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::{Fragment, Frame, Wrapping},
    talk::{End, Seg, Talk},
};

/// What is there after the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// No flow, and as many elements in the tables as before.
    Nothing,
    /// No flow: the one that was there is gone.
    Gone,
    /// The flow, with the states of its initiator and responder.
    States([State; 2]),
}

/// The packet under test.
#[derive(Clone, Copy)]
enum Sends {
    /// A segment of the talk.
    Segment(Seg),
    /// Any octets; as if this end of the talk had sent them.
    Raw(End, fn(&Stage<'_>) -> Vec<u8>),
}

/// What the numbers of a [`Broken`] inequality count from.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// The ISN of this end.
    Isn(End),
    /// Nothing: they are timestamps.
    Zero,
}

/// The inequality that a refused segment breaks: value, least and most, where
/// windows are scaled by the given shift.
#[derive(Clone, Copy)]
pub struct Broken {
    of: Of,
    numbers: fn(shift: u32) -> [u32; 3],
}

impl Broken {
    /// As the program writes it down.
    pub fn bound(self, talk: &Talk) -> Bound {
        // The scale that a talk's options offer.
        let shift = if talk.options { 7 } else { 0 };
        let from = match self.of {
            Of::Isn(end) => talk.isns[end as usize],
            Of::Zero => 0,
        };
        let [value, low, high] = (self.numbers)(shift).map(|number| from.wrapping_add(number));
        Bound { value, low, high }
    }
}

/// A row of the table.
#[derive(Clone)]
pub struct Row {
    pub name: &'static str,
    /// Where the packets of the talk's `A` come from.
    pub origins: Vec<Origin>,
    /// Wrappings that can carry the packet.
    pub fits: fn(Wrapping) -> bool,
    /// Segments before, and of which class their reasons are.
    pub played: Vec<(Seg, Class)>,
    /// What else is before, after the segments.
    pub prepare: fn(&mut Stage<'_>) -> Result<()>,
    sends: Sends,
    pub reason: Reason,
    pub after: After,
    /// What is written down of a refused segment of a flow.
    pub broken: Option<Broken>,
    /// Checksums are verified at load, and those of the talk are right.
    pub checksum: bool,
    /// Entries of the flow tables, where it matters.
    pub capacity: Option<u32>,
}

/// Starts a row: its packet leaves with `reason`.
pub fn row(name: &'static str, reason: Reason) -> Row {
    Row {
        name,
        origins: vec![Origin::Wire, Origin::Host],
        fits: |_| true,
        played: vec![],
        prepare: |_| Ok(()),
        sends: Sends::Raw(End::A, |_| vec![]),
        reason,
        after: After::Nothing,
        broken: None,
        checksum: false,
        capacity: None,
    }
}

impl Row {
    /// The segment that is sent, where it is one.
    pub const fn segment(&self) -> Option<Seg> {
        match self.sends {
            Sends::Segment(segment) => Some(segment),
            Sends::Raw(..) => None,
        }
    }

    /// Only from there.
    pub fn from(self, origins: &[Origin]) -> Self {
        Self {
            origins: origins.to_vec(),
            ..self
        }
    }

    /// Only in these wrappings.
    pub fn fits(self, fits: fn(Wrapping) -> bool) -> Self {
        Self { fits, ..self }
    }

    /// After these segments.
    pub fn after<const N: usize>(self, played: [Seg; N]) -> Self {
        self.played(Class::Accept, played)
    }

    /// After these segments, which pass and move nothing.
    pub fn noting<const N: usize>(self, played: [Seg; N]) -> Self {
        self.played(Class::Note, played)
    }

    fn played<const N: usize>(self, class: Class, played: [Seg; N]) -> Self {
        let played = played.map(|segment| (segment, class));
        Self {
            played: [self.played, played.to_vec()].concat(),
            ..self
        }
    }

    /// After this, too.
    pub fn prepare(self, prepare: fn(&mut Stage<'_>) -> Result<()>) -> Self {
        Self { prepare, ..self }
    }

    /// The packet is this segment.
    pub fn sends(self, segment: Seg) -> Self {
        Self {
            sends: Sends::Segment(segment),
            ..self
        }
    }

    /// The packet is this, from `A`.
    pub fn raw(self, packet: fn(&Stage<'_>) -> Vec<u8>) -> Self {
        self.raw_from(End::A, packet)
    }

    /// The packet is this, from there.
    pub fn raw_from(self, from: End, packet: fn(&Stage<'_>) -> Vec<u8>) -> Self {
        Self {
            sends: Sends::Raw(from, packet),
            ..self
        }
    }

    /// The packet is refused, since these do not hold: value, least and most,
    /// where windows are scaled by the given shift.
    pub fn breaks(self, of: Of, numbers: fn(u32) -> [u32; 3]) -> Self {
        Self {
            broken: Some(Broken { of, numbers }),
            ..self
        }
    }

    /// Checksums are verified.
    pub fn checksum(self) -> Self {
        Self {
            checksum: true,
            ..self
        }
    }

    /// Leaves a flow with these states of initiator and responder.
    pub fn leaves(self, initiator: State, responder: State) -> Self {
        Self {
            after: After::States([initiator, responder]),
            ..self
        }
    }

    /// Removes the flow.
    pub fn removes(self) -> Self {
        Self {
            after: After::Gone,
            ..self
        }
    }

    /// With tables of so many entries.
    pub fn capacity(self, capacity: u32) -> Self {
        Self {
            capacity: Some(capacity),
            ..self
        }
    }
}

/// One run of a row.
pub struct Stage<'a> {
    pub bench: &'a mut Bench,
    pub talk: Talk,
    origin: Origin,
    /// Frames have checksums.
    checksum: bool,
    /// Other talks begun.
    others: u32,
}

impl<'a> Stage<'a> {
    pub const fn new(bench: &'a mut Bench, talk: Talk, origin: Origin, checksum: bool) -> Self {
        Self {
            bench,
            talk,
            origin,
            checksum,
            others: 0,
        }
    }

    /// Has what comes in on every interface verified.
    pub fn verify(&mut self) -> Result<()> {
        for origin in [Origin::Wire, Origin::Loopback] {
            let verified = Interface {
                flags: interface_flags::CHECKSUM,
            };
            let ifindex = self.bench.ifindex(origin);
            self.bench.loaded.set_interface(ifindex, verified)?;
        }
        Ok(())
    }

    const fn origin_of(&self, end: End) -> Origin {
        match end {
            End::A => self.origin,
            End::B => self.origin.opposite(),
        }
    }

    /// Lets a segment pass whose reason must be of this class.
    pub fn play(&mut self, segment: Seg, class: Class) -> Result<()> {
        self.play_in(self.talk, segment, class)
    }

    fn frame(&self, talk: &Talk, segment: Seg) -> Vec<u8> {
        let frame = talk.frame(segment);
        if self.checksum {
            frame.summed()
        } else {
            frame.bytes()
        }
    }

    fn play_in(&mut self, talk: Talk, segment: Seg, class: Class) -> Result<()> {
        let frame = self.frame(&talk, segment);
        let reason = self.bench.send(self.origin_of(segment.from), &frame)?;
        if reason.class() == class {
            Ok(())
        } else {
            bail!("{segment:?} leaves with {}", reason.as_str());
        }
    }

    /// A segment of the talk as a first fragment of which more follow.
    pub fn first_fragment(&self, segment: Seg) -> Frame {
        let mut frame = self.talk.frame(segment);
        frame.fragment = Some(Fragment {
            offset: 0,
            more: true,
        });
        frame
    }

    /// Lets that pass.
    pub fn fragment(&mut self, segment: Seg) -> Result<()> {
        let frame = self.first_fragment(segment).bytes();
        let reason = self.bench.send(self.origin_of(segment.from), &frame)?;
        ensure!(reason == Reason::FirstFragment, "{}", reason.as_str());
        Ok(())
    }

    /// Lets the first segment of another talk pass.
    pub fn other(&mut self, segment: Seg) -> Result<()> {
        self.others += 1;
        self.same(segment)
    }

    /// Lets another segment of that talk pass.
    pub fn same(&mut self, segment: Seg) -> Result<()> {
        let mut talk = self.talk;
        // Addresses of which no other talk is made.
        for end in &mut talk.ends {
            end.host = 0x8000 + u16::try_from(self.others)?;
        }
        self.play_in(talk, segment, Class::Accept)
    }

    /// Sends a segment of the talk as changed, which must leave with this reason.
    pub fn beside(&mut self, segment: Seg, change: fn(&mut Talk), expected: Reason) -> Result<()> {
        let mut talk = self.talk;
        change(&mut talk);
        let frame = self.frame(&talk, segment);
        let reason = self.bench.send(self.origin_of(segment.from), &frame)?;
        ensure!(
            reason == expected,
            "{segment:?} beside leaves with {} instead of {}",
            reason.as_str(),
            expected.as_str()
        );
        Ok(())
    }

    /// Configures everything.
    pub fn set(&mut self, live: &Live) -> Result<()> {
        Ok(self.bench.loaded.set_live(live)?)
    }

    /// Configures something.
    pub fn configure(
        &mut self,
        change: fn(&mut Live, gauges: [u64; Gauge::COUNT as usize]),
    ) -> Result<()> {
        let mut live = live();
        change(&mut live, self.bench.loaded.gauges()?);
        Ok(self.bench.loaded.set_live(&live)?)
    }

    /// The talk's SYN with usual options or without, to be broken.
    pub fn syn(&self) -> Frame {
        self.talk.frame(End::A.syn())
    }

    /// The packet of `row`, and where it comes from.
    pub fn packet(&self, row: &Row) -> (Origin, Vec<u8>) {
        match row.sends {
            Sends::Segment(segment) => (
                self.origin_of(segment.from),
                self.frame(&self.talk, segment),
            ),
            Sends::Raw(from, packet) => (self.origin_of(from), packet(self)),
        }
    }
}
