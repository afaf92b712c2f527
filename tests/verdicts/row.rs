//! A row of the table, and the stage it is played on.

use anyhow::{Result, bail};
use tracker_common::{
    abi::Live,
    reason::{Class, Reason},
    tcp::State,
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::{Frame, Wrapping},
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
    /// Any octets; as if the talk's `A` had sent them.
    Raw(fn(&Stage<'_>) -> Vec<u8>),
}

/// A row of the table.
#[derive(Clone)]
pub struct Row {
    pub name: &'static str,
    /// Where the packets of the talk's `A` come from.
    pub origins: Vec<Origin>,
    /// Wrappings that can carry the packet.
    pub fits: fn(Wrapping) -> bool,
    /// Segments before.
    pub played: Vec<Seg>,
    /// What else is before, after the segments.
    pub prepare: fn(&mut Stage<'_>) -> Result<()>,
    sends: Sends,
    pub reason: Reason,
    pub after: After,
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
        sends: Sends::Raw(|_| vec![]),
        reason,
        after: After::Nothing,
        capacity: None,
    }
}

impl Row {
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

    /// The packet is this.
    pub fn raw(self, packet: fn(&Stage<'_>) -> Vec<u8>) -> Self {
        Self {
            sends: Sends::Raw(packet),
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
    /// Other talks begun.
    others: u32,
}

impl<'a> Stage<'a> {
    pub const fn new(bench: &'a mut Bench, talk: Talk, origin: Origin) -> Self {
        Self {
            bench,
            talk,
            origin,
            others: 0,
        }
    }

    const fn origin_of(&self, end: End) -> Origin {
        match end {
            End::A => self.origin,
            End::B => self.origin.opposite(),
        }
    }

    /// Lets a segment pass that must not be refused.
    pub fn play(&mut self, segment: Seg) -> Result<()> {
        self.play_in(self.talk, segment)
    }

    fn play_in(&mut self, talk: Talk, segment: Seg) -> Result<()> {
        let frame = talk.frame(segment).bytes();
        let reason = self.bench.send(self.origin_of(segment.from), &frame)?;
        if reason.class() == Class::Accept {
            Ok(())
        } else {
            bail!("{segment:?} leaves with {}", reason.as_str());
        }
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
        self.play_in(talk, segment)
    }

    /// Configures something.
    pub fn configure(&mut self, change: fn(&mut Live, gauges: [u64; 5])) -> Result<()> {
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
                self.talk.frame(segment).bytes(),
            ),
            Sends::Raw(packet) => (self.origin, packet(self)),
        }
    }
}
