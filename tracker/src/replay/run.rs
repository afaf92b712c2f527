//! A capture going through the tracker, packet by packet.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use tracker_common::{abi::Refusal, parse::Packet, reason::Reason, tcp::State};

use super::{
    Beside, Clock, Ended, Id, Passage, Seen, Table,
    capture::{Direction, Record},
    link::{Heading, frame},
};

/// Time of the capture between two sweeps, ns: the agent's.
const SWEEP_EVERY: u64 = 1_000_000_000;

/// The longest step of the clock in which no time-out can go by unseen: a
/// quarter of the circle of ticks.
const STRIDE: u64 = 1 << 52;

/// Number of the first station that sends packets; numbers below are those of
/// interfaces of the capturing machine, which few captures tell.
pub const STATIONS: u32 = 1 << 20;

/// Stations that are told apart.
const MOST_STATIONS: usize = 1 << 16;

/// Numbers for the ways that packets come. The tracker asks whether a segment
/// comes the way that its sender's others came. Live, a way is an interface; in
/// a capture it is the station on the link that sent it.
#[derive(Debug, Default)]
struct Ways {
    stations: HashMap<(u32, [u8; 6]), u32>,
}

impl Ways {
    fn number(&mut self, record: &Record<'_>, heading: &Heading<'_>) -> u32 {
        if let Some(ifindex) = heading.ifindex {
            return ifindex;
        }
        let count = self.stations.len().min(MOST_STATIONS);
        let next = STATIONS + u32::try_from(count).unwrap_or(0);
        let station = (record.interface.unwrap_or(0), heading.from);
        if count == MOST_STATIONS {
            return self.stations.get(&station).copied().unwrap_or(next);
        }
        *self.stations.entry(station).or_insert(next)
    }
}

/// What was seen of the packets.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Packets of all captures.
    pub packets: u64,
    /// Octets that they had on the wire.
    pub bytes: u64,
    /// Packets by the number of their reason.
    pub reasons: [u64; Reason::SLOTS as usize],
    /// Packets of which the capture holds only the beginning.
    pub cut: u64,
    /// Packets of a link type that is not known, in captures of several.
    pub strange: u64,
    /// Packets whose time lay before that of one in front of them.
    pub backwards: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            reasons: [0; Reason::SLOTS as usize],
            cut: 0,
            strange: 0,
            backwards: 0,
        }
    }
}

/// What became of one packet.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Which packet of its capture it is, from 1.
    pub number: u64,
    /// From the first packet, ns.
    pub elapsed_ns: u64,
    /// Where it is in the capture.
    pub record: &'a Record<'a>,
    /// The reason with which it left; `None` where its link type is not known.
    pub reason: Option<Reason>,
    /// The segment, where it is one.
    pub packet: Option<&'a Packet>,
    /// Name and states of its flow after it, where it has one.
    pub flow: Option<(u64, [State; 2])>,
    /// The numbers that did not fit, where it was refused for those.
    pub refusal: Option<Refusal>,
}

/// Takes a flow that is over, and when that was on the capture's clock, ns since
/// 1970.
pub trait Sink: FnMut(Ended, u64) -> Result<()> {}

impl<F: FnMut(Ended, u64) -> Result<()>> Sink for F {}

/// A table, and the clock and counters around it.
pub struct Replay {
    table: Table,
    beside: Option<Beside>,
    clock: Clock,
    ways: Ways,
    swept_ns: u64,
    number: u64,
    stats: Stats,
}

impl Replay {
    /// Goes through `table`, and through the loaded program `beside` it where
    /// there is one.
    #[must_use]
    pub fn new(table: Table, beside: Option<Beside>) -> Self {
        Self {
            table,
            beside,
            clock: Clock::default(),
            ways: Ways::default(),
            swept_ns: 0,
            number: 0,
            stats: Stats::default(),
        }
    }

    /// The flows.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The time.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What was seen so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            backwards: self.stats.backwards + self.clock.backwards(),
            ..self.stats.clone()
        }
    }

    /// The program beside, where there is one.
    #[must_use]
    pub const fn beside(&self) -> Option<&Beside> {
        self.beside.as_ref()
    }

    /// Begins to count packets from 1 again: another capture.
    pub const fn begin_capture(&mut self) {
        self.number = 0;
    }

    /// Forgets all flows and the time: what comes has nothing to do with what
    /// came.
    ///
    /// # Errors
    ///
    /// The program beside does not let go of its flows.
    pub fn begin(&mut self) -> Result<()> {
        self.stats = self.stats();
        self.clock = Clock::default();
        self.ways = Ways::default();
        self.swept_ns = 0;
        self.table = Table::new(*self.table.settings());
        self.beside.as_mut().map_or(Ok(()), Beside::flush)
    }

    /// Lets a packet act on the flows. Flows that turn out to be over go to
    /// `ended`.
    ///
    /// # Errors
    ///
    /// The program beside cannot be run, or answers otherwise than the brain;
    /// or `ended` fails.
    pub fn packet<'a>(
        &'a mut self,
        record: &'a Record<'a>,
        mut ended: impl Sink,
    ) -> Result<Judged<'a>> {
        self.number += 1;
        self.stats.packets += 1;
        self.stats.bytes += u64::from(record.original);
        let mut judged = Judged {
            number: self.number,
            elapsed_ns: 0,
            record,
            reason: None,
            packet: None,
            flow: None,
            refusal: None,
        };
        let before_ns = self.clock.now_ns();
        let now_ns = self.clock.advance(record.time_ns);
        judged.elapsed_ns = self.clock.elapsed_ns();
        self.wait(before_ns, now_ns, &mut ended)?;
        let Some(heading) = frame(record) else {
            self.stats.strange += 1;
            return Ok(judged);
        };
        self.stats.cut += u64::from(heading.frame.is_cut());
        let mut seen = Seen {
            ifindex: self.ways.number(record, &heading),
            // A router's capture does not tell what it forwards from its own.
            local: heading.direction == Direction::Outbound,
            leaves: heading.direction == Direction::Outbound,
            now_ns,
        };
        if let Some(beside) = &mut self.beside {
            seen.ifindex = beside.ifindex(&seen);
            if !beside
                .run(&heading.frame, &seen)
                .with_context(|| place(self.number, record))?
            {
                return Ok(judged);
            }
        }
        let passage = self.table.packet_of(&heading.frame, &seen);
        if let Some(beside) = &mut self.beside {
            beside
                .compare(&seen, &self.table, &passage)
                .with_context(|| place(self.number, record))?;
        }
        let Passage {
            reason,
            id,
            ended: over,
        } = passage;
        if let Some(over) = over {
            let at_ns = self.clock.captured_ns(over.at_ns);
            ended(over, at_ns)?;
        }
        if let Some(count) = self.stats.reasons.get_mut(reason as usize) {
            *count += 1;
        }
        judged.reason = Some(reason);
        if let Some(id) = id {
            judged.packet = Some(self.table.packet());
            if let Some(entry) = self.table.get(&id) {
                judged.flow = Some((entry.flow.id().0, entry.flow.states()));
                if reason.refuses() {
                    judged.refusal = entry.refusal.as_deref().copied();
                }
            }
        }
        Ok(judged)
    }

    /// Lets the time from `before_ns` to `now_ns` pass: removes what has expired
    /// where it is in the way, at most as often as the agent does. A flow that
    /// has expired is absent to every packet, swept or not.
    fn wait(&mut self, before_ns: u64, now_ns: u64, ended: &mut impl Sink) -> Result<()> {
        let mut at_ns = before_ns;
        // Beyond half of their circle ticks would count backwards. After three
        // strides, longer than any time-out, nothing is left.
        while now_ns - at_ns > STRIDE && !self.table.is_empty() {
            at_ns += STRIDE;
            self.sweep(at_ns, ended)?;
        }
        if self.table.is_tight() && now_ns.saturating_sub(self.swept_ns) >= SWEEP_EVERY {
            self.sweep(now_ns, ended)?;
        }
        Ok(())
    }

    fn sweep(&mut self, now_ns: u64, ended: &mut impl Sink) -> Result<()> {
        self.swept_ns = now_ns;
        let expired = self.table.sweep(now_ns);
        if let Some(beside) = &mut self.beside {
            let ids: Vec<Id> = expired.iter().map(|ended| ended.id).collect();
            beside.expire(&ids, now_ns)?;
        }
        self.hand_over(expired, ended)
    }

    fn hand_over(&self, flows: Vec<Ended>, ended: &mut impl Sink) -> Result<()> {
        flows.into_iter().try_for_each(|over| {
            let at_ns = self.clock.captured_ns(over.at_ns);
            ended(over, at_ns)
        })
    }

    /// Lets time pass until every flow has expired, and hands them to `ended` in
    /// the order in which that happens.
    ///
    /// # Errors
    ///
    /// The program beside keeps one; or `ended` fails.
    pub fn run_out(&mut self, mut ended: impl Sink) -> Result<()> {
        let expired = self.table.run_out(self.clock.now_ns());
        self.hand_over(expired, &mut ended)
    }

    /// Checks at the end that the program beside has the same flows and counters.
    ///
    /// # Errors
    ///
    /// It has not.
    pub fn settle(&self) -> Result<()> {
        self.beside
            .as_ref()
            .map_or(Ok(()), |beside| beside.settle(&self.table))
    }
}

/// Where a packet is, for messages.
fn place(number: u64, record: &Record<'_>) -> String {
    format!("packet {number}, at octet {}", record.offset)
}
