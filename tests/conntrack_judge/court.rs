//! Both judges before the same packets, and an account of what they said.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::IpAddr,
};

use anyhow::Result;
use serde_json::{Value, json};
use tracker_common::{
    abi::end_flags,
    reason::Reason,
    tcp::{
        Flags,
        State::{SynReceived, SynSent},
    },
};

use crate::{
    brain::{Brain, Ours},
    differences::{self, Case, Difference, Kind},
    kernel::{Entry, Kernel, Label, Verdict},
    labels::labels,
    packet::{Judged, Packet, ROUTER_MAC},
};

/// Cases of a difference.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Packets that are cases of it.
    packets: u64,
    /// Packets on which both agree, and remember different things from then on.
    silent: u64,
    /// Packets on which both differ because of one of those before.
    after: u64,
}

/// What both have come to differ about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// The difference with this place in the list.
    Known(usize),
    /// Something that is not in the list.
    Unknown,
}

/// A connection that both judge.
#[derive(Default)]
struct Connection {
    /// Conntrack's entry after the last packet.
    entry: Option<Entry>,
    /// An end has sent its FIN more than once.
    fin_again: bool,
    /// Which ends have sent a SYN without an ACK, the lower one first.
    called: [bool; 2],
    /// Both have, or the tracker says so.
    simultaneous: bool,
    /// An end has sent another SYN, or another SYN-ACK.
    renewed: bool,
    /// The lasting difference that both have about it.
    since: Option<Since>,
    /// A line a packet.
    trace: Vec<String>,
}

/// What both judges have said.
pub struct Court {
    kernel: Kernel,
    brain: Brain,
    loose: bool,
    connections: HashMap<[(IpAddr, u16); 2], Connection>,
    known: Vec<&'static Difference>,
    tallies: Vec<Tally>,
    /// Packets judged.
    pub packets: u64,
    /// Connections that were seen.
    pub seen: u64,
    /// Packets that conntrack called INVALID.
    invalid: u64,
    /// Packets that never came out.
    pub dropped: u64,
    /// Refused by the tracker.
    pub refused: BTreeMap<&'static str, u64>,
    /// Differences that no entry explains, with what led there.
    pub unexplained: Vec<String>,
    /// Packets on which both differ because of one of those before.
    after_unexplained: u64,
}

impl Court {
    /// A court in session.
    ///
    /// # Errors
    ///
    /// As [`Kernel::new`].
    pub fn new() -> Result<Self> {
        let known: Vec<&Difference> = differences::all().collect();
        Ok(Self {
            kernel: Kernel::new()?,
            brain: Brain::new(true),
            loose: true,
            connections: HashMap::new(),
            tallies: vec![Tally::default(); known.len()],
            known,
            packets: 0,
            seen: 0,
            invalid: 0,
            dropped: 0,
            refused: BTreeMap::new(),
            unexplained: vec![],
            after_unexplained: 0,
        })
    }

    /// Lets both forget every connection; `loose` says whether they pick
    /// connections up from then on.
    ///
    /// # Errors
    ///
    /// As [`Kernel::begin`].
    pub fn begin(&mut self, loose: bool) -> Result<()> {
        self.loose = loose;
        self.kernel.begin(loose)?;
        self.brain = Brain::new(loose);
        self.connections.clear();
        Ok(())
    }

    /// Shows a packet to both: whether the tracker knows its connection and
    /// refuses it. `name` says where it comes from, for who reads about a
    /// difference.
    ///
    /// # Errors
    ///
    /// As [`Kernel::packet`].
    pub fn packet(&mut self, packet: &Packet, name: &str) -> Result<bool> {
        let theirs = self.kernel.packet(packet)?;
        let (low, ends) = ends(packet);
        let ours = self
            .brain
            .packet(&packet.frame(ROUTER_MAC, 0), 2 + u32::from(low));
        self.packets += 1;
        match theirs.verdict {
            Verdict::Invalid => self.invalid += 1,
            Verdict::Dropped => self.dropped += 1,
            Verdict::New | Verdict::Established => {}
        }
        if ours.refused() {
            *self.refused.entry(ours.reason.as_str()).or_default() += 1;
        }
        let connection = self.connections.entry(ends).or_insert_with(|| {
            self.seen += 1;
            Connection::default()
        });
        let before = connection.entry.unwrap_or(Entry::GONE);
        connection.watch(low, &ours, before, theirs.entry);
        connection.trace.push(line(low, &ours, before, &theirs));
        let refused = ours.refused() && ours.before.is_some();
        let differs = connection.differs(&ours, &theirs, before);
        let case = Case {
            kind: differs.unwrap_or(Kind::Memory),
            ours,
            before,
            after: theirs.entry,
            simultaneous: connection.simultaneous,
            renewed: connection.renewed,
        };
        let known = self.known.iter().position(|known| (known.holds)(&case));
        if let Some(index) = known {
            self.tallies[index].packets += u64::from(differs.is_some());
            self.tallies[index].silent += u64::from(differs.is_none());
            if self.known[index].lasts && connection.since.is_none() {
                connection.since = Some(Since::Known(index));
            }
        }
        let (Some(kind), None) = (differs, known) else {
            return Ok(refused);
        };
        match connection.since {
            Some(Since::Known(index)) => self.tallies[index].after += 1,
            Some(Since::Unknown) => self.after_unexplained += 1,
            None => {
                connection.since = Some(Since::Unknown);
                self.unexplained.push(format!(
                    "{kind:?}, {name}, loose {}:\n    {}",
                    self.loose,
                    connection.trace.join("\n    ")
                ));
            }
        }
        Ok(refused)
    }

    /// What both said of the connection of a packet so far, a line a packet.
    pub fn trace(&self, packet: &Packet) -> &[String] {
        self.connections
            .get(&ends(packet).1)
            .map_or(&[], |connection| &connection.trace)
    }

    /// Packets on which both agree.
    pub fn agreed(&self) -> u64 {
        let differ: u64 = self
            .tallies
            .iter()
            .map(|tally| tally.packets + tally.after)
            .sum();
        self.packets - differ - self.unexplained.len() as u64 - self.after_unexplained
    }

    /// The differences that were met, for people.
    pub fn report(&self) -> String {
        let mut report = String::new();
        for (difference, tally) in self.met() {
            let _ = writeln!(
                report,
                "{}: {} packets, {} that show only later, {} because of those; right: {:?}\n    {}",
                difference.name,
                tally.packets,
                tally.silent,
                tally.after,
                difference.right,
                difference.source
            );
        }
        for (difference, tally) in self.known.iter().zip(&self.tallies) {
            if tally.packets + tally.silent == 0 {
                let _ = writeln!(report, "not met: {}", difference.name);
            }
        }
        report
    }

    /// The same and all other numbers, for programs.
    pub fn numbers(&self) -> Value {
        let differences: serde_json::Map<String, Value> = self
            .met()
            .map(|(difference, tally)| {
                let numbers = json!({
                    "packets": tally.packets,
                    "silent": tally.silent,
                    "after": tally.after,
                    "right": format!("{:?}", difference.right).to_lowercase(),
                    "source": difference.source,
                });
                (difference.name.to_owned(), numbers)
            })
            .collect();
        json!({
            "connections": self.seen,
            "packets": self.packets,
            "agreed": self.agreed(),
            "conntrack_invalid": self.invalid,
            "conntrack_dropped": self.dropped,
            "tracker_refused": self.refused,
            "differences": differences,
            "unexplained": self.unexplained.len(),
        })
    }

    fn met(&self) -> impl Iterator<Item = (&Difference, &Tally)> {
        self.known
            .iter()
            .copied()
            .zip(&self.tallies)
            .filter(|(_, tally)| tally.packets + tally.silent != 0)
    }

    /// Whether the rules counted as many INVALID packets as came out so marked.
    ///
    /// # Errors
    ///
    /// As [`Kernel::counted_invalid`].
    pub fn counted_all(&self) -> Result<bool> {
        Ok(self.kernel.counted_invalid()? == self.invalid)
    }
}

impl Connection {
    /// Keeps what the map from states to labels needs to know.
    fn watch(&mut self, low: bool, ours: &Ours, before: Entry, after: Entry) {
        self.entry = Some(after);
        if !ours.readable {
            return;
        }
        let anew = matches!(
            ours.reason,
            Reason::FlowOpened
                | Reason::FlowReopened
                | Reason::FlowPickedUp
                | Reason::FlowRestarted
        );
        if anew {
            self.fin_again = false;
            self.simultaneous = false;
            // A restart is by the other of two SYNs.
            let restarted = ours.reason == Reason::FlowRestarted;
            self.renewed &= restarted;
            self.called = self.called.map(|called| called && restarted);
            // Whatever they thought of the old connection, both have a new one.
            let theirs_too = matches!(
                (before.label, after.label),
                (Label::Gone | Label::TimeWait | Label::Close, Label::SynSent)
                    | (Label::Gone, Label::Established)
            );
            if theirs_too {
                self.since = None;
            }
        }
        self.fin_again |= ours.segment.flags.has(Flags::FIN)
            && !ours.refused()
            && ours
                .before
                .is_some_and(|flow| flow.ends[ours.sender].has(end_flags::FIN));
        self.renewed |= matches!(ours.reason, Reason::SynRenewed | Reason::SynAckRenewed);
        self.called[usize::from(!low)] |= ours.segment.is_syn() && !ours.refused();
        self.simultaneous |= self.called == [true; 2]
            || matches!(ours.pair(), Some([SynSent, SynSent] | [SynReceived, _]));
    }

    fn differs(&self, ours: &Ours, theirs: &Judged, before: Entry) -> Option<Kind> {
        let fits = if ours.readable {
            labels(ours.pair(), self.fin_again).contains(&theirs.entry.label)
        } else {
            theirs.entry.label == before.label
        };
        match (theirs.verdict, ours.refused()) {
            (Verdict::Invalid, false) => Some(Kind::OnlyConntrackRefuses),
            (Verdict::New | Verdict::Established | Verdict::Dropped, true) => {
                Some(Kind::OnlyTrackerRefuses)
            }
            _ if !fits => Some(Kind::States),
            _ => None,
        }
    }
}

/// Whether the sender of a packet is the lower end of its connection, and both
/// ends, the lower one first.
fn ends(packet: &Packet) -> (bool, [(IpAddr, u16); 2]) {
    let (source, destination) = packet.addresses();
    let (from, to) = packet.ports();
    let mut ends = [(source, from), (destination, to)];
    ends.sort_unstable();
    (ends[0] == (source, from), ends)
}

/// A packet and what both made of it, in one line.
fn line(low: bool, ours: &Ours, before: Entry, theirs: &Judged) -> String {
    let segment = &ours.segment;
    format!(
        "{} flags {:02x} seq {} ack {} length {} window {}: conntrack {:?}, {:?} to {:?}; \
         tracker {}, {:?}",
        // The end with the lower address, and the direction that conntrack sees.
        match (low, theirs.entry.original) {
            (true, true) => "A, original:",
            (true, false) => "A, reply:",
            (false, true) => "B, original:",
            (false, false) => "B, reply:",
        },
        segment.flags.0,
        segment.seq.0,
        segment.ack.0,
        segment.payload,
        segment.window,
        theirs.verdict,
        before.label,
        theirs.entry.label,
        ours.reason.as_str(),
        ours.pair(),
    )
}
