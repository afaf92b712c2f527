//! Where nf_conntrack and the tracker differ, and which of them RFC 9293 bears
//! out.

mod handshake;
mod numbers;
mod resets;
mod syns;

use tracker_common::{
    abi::{Endpoint, end_flags},
    reason::Reason,
    tcp::{
        Flags,
        State::{self, Closed, Listen, SynSent, TimeWait},
    },
};

use crate::{
    brain::{Ours, pair},
    kernel::Entry,
};

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The tracker: the RFC says so.
    Tracker,
    /// The RFC leaves it to a middlebox, or to either end.
    Both,
}

/// What is different about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Conntrack says INVALID, the tracker does not refuse it.
    OnlyConntrackRefuses,
    /// The tracker refuses it, conntrack does not say INVALID.
    OnlyTrackerRefuses,
    /// The label is none that fits the states.
    States,
    /// Nothing can be seen yet, but the tracker left a segment alone of which
    /// conntrack may have taken numbers.
    Memory,
}

/// A packet on which the two differ.
#[derive(Clone, Debug)]
pub struct Case {
    /// How.
    pub kind: Kind,
    /// The tracker's side.
    pub ours: Ours,
    /// Conntrack's entry before.
    pub before: Entry,
    /// And after.
    pub after: Entry,
    /// Both ends of the connection have sent a SYN without an ACK.
    pub simultaneous: bool,
    /// An end has sent another SYN, or another SYN-ACK.
    pub renewed: bool,
}

impl Case {
    const fn flags(&self) -> Flags {
        self.ours.segment.flags
    }

    /// Sent by the side whose packet opened the entry.
    const fn original(&self) -> bool {
        self.after.original
    }

    const fn is_syn_ack(&self) -> bool {
        self.flags().has(Flags::SYN | Flags::ACK)
    }

    /// Neither SYN nor RST.
    const fn is_plain(&self) -> bool {
        !self.flags().has(Flags::SYN) && !self.flags().has(Flags::RST)
    }

    const fn is(&self, reason: Reason) -> bool {
        self.ours.reason as u8 == reason as u8
    }

    fn among(&self, reasons: &[Reason]) -> bool {
        reasons.contains(&self.ours.reason)
    }

    /// Both ends' states before.
    fn was(&self) -> Option<[State; 2]> {
        self.ours.before.as_ref().map(pair)
    }

    fn was_over(&self) -> bool {
        self.was().is_some_and(|states| {
            states
                .iter()
                .all(|state| [Closed, TimeWait].contains(state))
        })
    }

    fn closed_before(&self) -> bool {
        self.was() == Some([Closed, Closed])
    }

    fn closes(&self) -> bool {
        !self.closed_before() && self.ours.pair() == Some([Closed, Closed])
    }

    /// Neither side's states moved.
    fn moved_nothing(&self) -> bool {
        self.was() == self.ours.pair()
    }

    /// Conntrack's state did not move.
    fn stayed(&self) -> bool {
        self.before.label == self.after.label
    }

    /// The sender and the receiver as they were known before.
    fn ends(&self) -> Option<(&Endpoint, &Endpoint)> {
        let ends = &self.ours.before.as_ref()?.ends;
        let me = self.ours.sender;
        Some((&ends[me], &ends[me ^ 1]))
    }

    /// Whether the RFC's receiver finds it acceptable (RFC 9293 section
    /// 3.10.7.4, first): some of it lies behind what it has acknowledged.
    fn is_old(&self) -> bool {
        let segment = &self.ours.segment;
        let length = segment.length();
        let reach = segment.seq.plus(length.max(1));
        self.ends().is_some_and(|(me, peer)| {
            // Before a handshake's third ACK the acknowledgement is that of
            // the SYN.
            let next = if peer.state() == SynSent {
                me.isn.plus(1)
            } else {
                peer.ack
            };
            !reach.after(next)
        })
    }

    /// Whether it acknowledges the receiver's SYN, and nothing that is not sent.
    fn acknowledges_syn(&self) -> bool {
        self.ends().is_some_and(|(_, peer)| {
            let ack = self.ours.segment.ack;
            self.flags().has(Flags::ACK) && ack.after(peer.isn) && !ack.after(peer.end)
        })
    }

    /// Whether it acknowledges the receiver's FIN.
    fn acknowledges_fin(&self) -> bool {
        self.ends().is_some_and(|(_, peer)| {
            peer.has(end_flags::FIN) && !self.ours.segment.ack.before(peer.end)
        })
    }

    /// Whether its number is one of those that RFC 5961 section 3 calls exact,
    /// as far as the middle knows them: the receiver's highest acknowledgement,
    /// or the sender's own highest end.
    fn is_exact(&self) -> bool {
        let seq = self.ours.segment.seq.0;
        self.ends().is_some_and(|(me, peer)| {
            let next = if peer.state() == SynSent {
                me.isn.plus(1)
            } else if peer.state() == Listen {
                me.end
            } else {
                peer.ack
            };
            seq == me.end.0 || seq == next.0 || peer.state() == Listen && seq == me.isn.0
        })
    }

    /// Whether all numbers of it are such as its receiver expects, as far as the
    /// middle knows them (RFC 9293 section 3.10.7.4, first and fifth).
    fn is_acceptable(&self) -> bool {
        let segment = &self.ours.segment;
        self.ends().is_some_and(|(me, peer)| {
            !segment.seq.after(me.max_end) && !segment.ack.after(peer.end) && !self.is_old()
        })
    }
}

/// A difference that is understood.
pub struct Difference {
    /// In a word.
    pub name: &'static str,
    /// Whether a packet is a case of it.
    pub holds: fn(&Case) -> bool,
    /// Both remember different things about the connection from then on, so that
    /// they may go on differing about it.
    pub lasts: bool,
    /// Who is right.
    pub right: Right,
    /// What conntrack does, and the section that decides.
    pub source: &'static str,
}

/// All of them; the first that holds is the one.
pub fn all() -> impl Iterator<Item = &'static Difference> {
    [handshake::ALL, syns::ALL, resets::ALL, numbers::ALL]
        .into_iter()
        .flatten()
}
