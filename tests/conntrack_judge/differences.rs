//! Where nf_conntrack and the tracker differ, and which of them RFC 9293 bears
//! out.

use tracker_common::{
    abi::{Endpoint, INITIATOR, Origin, end_flags, flow_flags},
    reason::Reason,
    tcp::{
        Flags,
        State::{self, Closed, FinWait1, Listen, SynSent, TimeWait},
    },
};

use crate::{
    brain::{Ours, pair},
    kernel::{Entry, Label},
};

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The tracker: the RFC says so.
    Tracker,
    /// Conntrack: the RFC says so.
    Conntrack,
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
            let next = match peer.state() {
                SynSent => me.isn.plus(1),
                Listen => me.end,
                _ => peer.ack,
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

use Kind::{Memory, OnlyConntrackRefuses, OnlyTrackerRefuses, States};

/// All of them; the first that holds is the one.
pub const DIFFERENCES: &[Difference] = &[
    // The handshake.
    Difference {
        name: "syn_ack_of_another_connection",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::SynAckWrongAck)
                && !case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack calls it INVALID. RFC 9293 section 3.10.7.3, first: the endpoint answers \
                 it with a reset, which is how a half-open connection is discovered (section \
                 3.5.1), so it must arrive",
    },
    Difference {
        name: "syn_ack_that_acknowledges_no_syn",
        holds: |case| {
            case.kind == States
                && case.among(&[Reason::SynAckWrongAck, Reason::SynAckOnLive])
                && case.is_syn_ack()
                && !case.acknowledges_syn()
                && case.after.label == Label::SynRecv
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes any acknowledgement up to 66,000 below the SYN's. RFC 9293 \
                 section 3.10.7.3, first: \"If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset \
                 ... and discard the segment\"",
    },
    Difference {
        name: "reset_of_a_foreign_segment",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.is(Reason::ResetForeign)
                && case.was() == Some([SynSent, Listen])
                && case.ours.sender == INITIATOR
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack ends the entry, or calls the reset INVALID. RFC 9293 section 3.10.7.3, \
                 first: an endpoint in SYN-SENT resets what acknowledges something else, and \
                 stays in SYN-SENT",
    },
    Difference {
        name: "refusal_that_acknowledges_no_syn",
        holds: |case| {
            case.kind != Memory
                && case.among(&[Reason::ResetWrongAck, Reason::ResetForeign])
                && !case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes any acknowledgement up to 66,000 below the SYN's, and none at all. \
                 RFC 9293 section 3.10.7.3, second: \"If the ACK was acceptable, then signal to the \
                 user\"; RFC 5961 section 3.2: \"acceptable if the ACK field acknowledges the SYN\"",
    },
    Difference {
        name: "third_ack_that_acknowledges_no_syn",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::HandshakeWrongAck)
                && !case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes any acknowledgement up to 66,000 below the SYN-ACK's, so whoever \
                 cannot see it completes a handshake. RFC 9293 section 3.10.7.4, fifth, \
                 SYN-RECEIVED: \"If the segment acknowledgment is not acceptable, form a reset\"",
    },
    Difference {
        name: "numbers_of_a_segment_without_effect",
        holds: |case| {
            case.kind == Memory
                && matches!(
                    case.before.label,
                    Label::SynSent | Label::SynSent2 | Label::SynRecv
                )
                && case.among(&[
                    Reason::SynAckWrongAck,
                    Reason::SynAckOnLive,
                    Reason::ResetWrongAck,
                    Reason::HandshakeUnseen,
                ])
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes an endpoint's numbers from the first segment that it sees of it, or \
                 from the SYN-ACK with the highest, before it has judged it; what comes from the \
                 endpoint itself is then outside. RFC 9293 section 3.10.7.3, first and second: such \
                 a segment is discarded",
    },
    Difference {
        name: "fin_that_overtook_the_syn_ack",
        holds: |case| {
            case.kind == States
                && case.is_syn_ack()
                && case.was() == Some([SynSent, Listen])
                && case.ours.pair() == Some([SynSent, FinWait1])
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack forgets a FIN that comes before the SYN-ACK. RFC 9293 section 3.10.4: \
                 whoever has sent it is in FIN-WAIT-1",
    },
    Difference {
        name: "half_a_handshake",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::HandshakeUnseen)
                && case.is_plain()
                && case.before.label == Label::SynSent
        },
        lasts: false,
        right: Right::Both,
        source: "what an initiator sends behind its SYN while no answer has passed: the answer goes \
                 another way. Conntrack calls it INVALID, the tracker notes it; neither moves. \
                 RFC 9293 knows no middle",
    },
    Difference {
        name: "simultaneous_open",
        holds: |case| {
            case.kind == States
                && case.simultaneous
                && case.stayed()
                && matches!(case.after.label, Label::SynSent2 | Label::SynRecv)
                && case.acknowledges_syn()
                && case.among(&[Reason::Tracked, Reason::SynAckRetransmit])
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack does not let an ACK take the place of the second SYN-ACK, unless it comes \
                 from the responder at once. RFC 9293 section 3.10.7.4, fifth, SYN-RECEIVED: an \
                 acknowledgement of the SYN opens the connection, whatever carries it",
    },
    Difference {
        name: "windows_of_a_simultaneous_open",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.simultaneous
                && case.stayed()
                && case.is_plain()
                && case.is(Reason::Tracked)
                && case.is_acceptable()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack ignores the second SYN-ACK with the window in it, takes the data for more \
                 than was allowed, and loses count of them. RFC 9293 section 3.10.7.4, first: the \
                 segment is acceptable",
    },
    Difference {
        name: "syn_ack_with_another_number",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.simultaneous
                && case.is(Reason::SynAckOnLive)
                && case
                    .ends()
                    .is_some_and(|(me, _)| case.ours.segment.seq.0 != me.isn.0)
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes the SYN-ACK of a simultaneous open with any number, and then holds \
                 what follows against it. RFC 9293 section 3.5, figure 7: <SEQ=ISS>, the number of \
                 the SYN before it",
    },
    Difference {
        name: "one_of_two_syns",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.renewed
                && matches!(
                    case.before.label,
                    Label::SynSent | Label::SynSent2 | Label::SynRecv
                )
                && case.among(&[
                    Reason::Tracked,
                    Reason::SynRenewed,
                    Reason::SynAckRenewed,
                    Reason::SynRetransmit,
                    Reason::FlowRestarted,
                    Reason::ResetClosed,
                ])
        },
        lasts: true,
        right: Right::Tracker,
        source: "of two SYNs conntrack goes on with the numbers of the higher one, of two SYN-ACKs with \
                 those of the first. RFC 9293 section 3.10.7.2, third: a SYN that comes to LISTEN \
                 may have any number; whichever came is the one that is acknowledged",
    },
    // SYNs on a connection.
    Difference {
        name: "syn_of_the_other_end",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.ours.segment.is_syn()
                && !case.original()
                && case.among(&[
                    Reason::SynOnLive,
                    Reason::SynInTimeWait,
                    Reason::SynRetransmit,
                    Reason::SynRenewed,
                ])
        },
        lasts: false,
        right: Right::Tracker,
        source: "conntrack calls a SYN of the responder INVALID. RFC 9293 section 3.10.7.4, fourth \
                 (RFC 5961 section 4.2): whoever sends it, it must draw a challenge ACK",
    },
    Difference {
        name: "reopened_by_the_other_end",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::FlowReopened)
                && !case.original()
                && case.was_over()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack calls it INVALID once an RST has closed the connection. RFC 9293 section \
                 3.10.1: a socket pair that is CLOSED may be opened by either end",
    },
    Difference {
        name: "reopened_when_answered",
        holds: |case| {
            case.kind == States
                && case.is(Reason::FlowReopened)
                && case.was_over()
                && case.original()
                && case.stayed()
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack waits for the SYN-ACK if the last thing it saw was not an RST of the same \
                 end. RFC 9293 section 3.10.1: the SYN opens a new connection",
    },
    Difference {
        name: "time_wait_by_a_repeated_fin",
        holds: |case| {
            case.kind == States
                && case.is(Reason::SynOnLive)
                && case.before.label == Label::TimeWait
                && !case.was_over()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack is in TIME_WAIT though a FIN is not acknowledged, and opens a new entry. \
                 RFC 9293 section 3.10.7.4, fourth: in any state but TIME-WAIT the SYN draws a \
                 challenge ACK",
    },
    Difference {
        name: "time_wait_reused_by_an_old_syn",
        holds: |case| {
            case.kind == States
                && case.is(Reason::SynInTimeWait)
                && case.before.label == Label::TimeWait
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack opens a new entry by any SYN. RFC 6191 section 2, RFC 1122 section \
                 4.2.2.13: only by a newer timestamp or a higher sequence number",
    },
    Difference {
        name: "syn_ack_of_the_initiator",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is_syn_ack()
                && case.original()
                && case.among(&[
                    Reason::SynAckOnLive,
                    Reason::SynAckRetransmit,
                    Reason::SynAckWrongAck,
                    Reason::AfterClose,
                ])
        },
        lasts: false,
        right: Right::Tracker,
        source: "conntrack calls it INVALID outside a simultaneous open. RFC 9293 section 3.10.7.4, \
                 fourth: it has a SYN, so it must draw a challenge ACK",
    },
    Difference {
        name: "restart",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses) && case.is(Reason::FlowRestarted)
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack remembers a SYN on a live connection only until the next segment, and \
                 none of the responder's. RFC 9293 section 3.5.1: the SYN-ACK that answers it \
                 proves that both ends began anew",
    },
    Difference {
        name: "restart_of_a_picked_up_connection",
        holds: |case| {
            case.kind == States
                && case.is(Reason::SynAckOnLive)
                && case.after.label == Label::SynRecv
                && case
                    .ours
                    .before
                    .is_some_and(|flow| flow.origin() == Origin::Pickup)
        },
        lasts: true,
        right: Right::Conntrack,
        source: "the SYN had the number of the segment by which the connection was picked up, so the \
                 tracker takes it for a duplicate. RFC 9293 section 3.5.1: its answer proves that \
                 both ends began anew",
    },
    // RST.
    Difference {
        name: "reset_outside_the_window",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::ResetOutsideWindow)
                && !case.is_exact()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack checks no RST once a FIN was seen, none above the highest \
                 acknowledgement for more than its window, and none after a SYN. RFC 9293 section \
                 3.10.7.4, second (RFC 5961 section 3.2): \"If the RST bit is set and the sequence \
                 number is outside the current receive window, silently drop the segment\"",
    },
    Difference {
        name: "reset_that_needs_a_challenge",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.among(&[Reason::ResetInexact, Reason::ResetLate])
                && !case.is_exact()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack lets it close, or calls it INVALID for its acknowledgement. RFC 9293 \
                 section 3.10.7.4, second (RFC 5961 section 3.2): inside the window but not exact, \
                 it closes nothing and \"TCP endpoints MUST send an acknowledgment (challenge \
                 ACK)\", so it must arrive",
    },
    Difference {
        name: "exact_reset",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.is(Reason::ResetClosed)
                && case.closes()
                && (case.is_exact() || case.acknowledges_syn())
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack holds an RST against its acknowledgement, too, and against the highest \
                 acknowledgement only. RFC 9293 section 3.10.7.4, second: the sequence number \
                 alone decides, and an endpoint that aborts sends SND.NXT (section 3.10.5), which \
                 may be ahead",
    },
    Difference {
        name: "reset_that_refuses_a_syn",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.is(Reason::ResetClosed)
                && case.flags().has(Flags::RST | Flags::ACK)
                && case.closes()
                && case
                    .ours
                    .before
                    .is_some_and(|flow| flow.has(flow_flags::SYN_ON_LIVE))
        },
        lasts: true,
        right: Right::Tracker,
        source: "an RST that acknowledges a SYN which had passed on the connection: conntrack believes it \
                 of the initiator's SYN, and if nothing came between. RFC 9293 section 3.5.1: its \
                 sender knows nothing of the connection",
    },
    Difference {
        name: "reset_in_time_wait",
        holds: |case| {
            case.kind == States
                && case.is(Reason::AfterClose)
                && case.flags().has(Flags::RST)
                && case.was_over()
                && case.moved_nothing()
                && case.before.label == Label::TimeWait
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack goes from TIME_WAIT to CLOSE. RFC 1337 section 3: an RST in TIME-WAIT is \
                 better ignored, or old duplicates end it early",
    },
    Difference {
        name: "closed_is_remembered",
        holds: |case| {
            case.kind != Memory
                && case.closed_before()
                && case.before.label == Label::Gone
                && (case.is(Reason::AfterClose)
                    || case.is(Reason::Tracked) && case.acknowledges_syn())
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack forgets an unanswered connection with its RST, the tracker keeps it as \
                 CLOSED for a while; so what comes later is new to conntrack. RFC 9293 section \
                 3.10.7.1: it is a segment to a closed connection",
    },
    Difference {
        name: "duplicate_of_the_opening_syn",
        holds: |case| {
            case.kind == States
                && case.among(&[Reason::AfterClose, Reason::SynInTimeWait])
                && case.ours.segment.is_syn()
                && case.after.label == Label::SynSent
                && case
                    .ends()
                    .is_some_and(|(me, _)| case.ours.segment.seq.0 == me.isn.0)
        },
        lasts: true,
        right: Right::Both,
        source: "after the end conntrack opens a new entry by a SYN with the number of the one that \
                 opened the connection. RFC 9293 section 3.4.1: new connections have new numbers, \
                 so it is a duplicate; if it is answered (section 3.5, figure 8), the answer tells",
    },
    Difference {
        name: "handshake_goes_on_after_a_reset",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.closed_before()
                && case.among(&[Reason::Tracked, Reason::SynAckRetransmit])
                && case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack stays closed. RFC 5961 section 3.2: an endpoint may have thrown away the \
                 RST that the tracker took; who goes on with the handshake has",
    },
    Difference {
        name: "after_a_reset",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.closed_before()
                && case.is(Reason::AfterClose)
                && case.before.label == Label::Close
        },
        lasts: false,
        right: Right::Both,
        source: "conntrack holds what comes late against the windows of the closed connection. RFC \
                 9293 section 3.10.7.1: it is a segment to a closed connection, which draws an RST",
    },
    // Pick-up.
    Difference {
        name: "picked_up_by_a_fin",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::FlowPickedUp)
                && case.flags().has(Flags::FIN)
                && case.before.label == Label::Gone
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack picks up no connection by its FIN. RFC 9293 section 3.10.7.4, eighth: a \
                 FIN carries both numbers like any other segment",
    },
    // Numbers.
    Difference {
        name: "window_of_the_syn",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.before.label == Label::SynRecv
                && !case.original()
                && case.is_plain()
                && case.among(&[Reason::Tracked, Reason::AckTooOld])
                && case
                    .ends()
                    .is_some_and(|(me, _)| !case.ours.segment.seq.after(me.max_end))
        },
        lasts: true,
        right: Right::Tracker,
        source: "before the third ACK conntrack lets a responder send beyond its SYN-ACK only with a \
                 fresh acknowledgement. RFC 9293 section 3.10.7.2, third, and 3.10.7.4, first: the \
                 window of the SYN counts",
    },
    Difference {
        name: "old_segment_moves_nothing",
        holds: |case| {
            case.kind == States
                && case.is_plain()
                && case.moved_nothing()
                && !case.stayed()
                && (case.among(&[Reason::AlreadyReceived, Reason::SegmentTooOld]) && case.is_old()
                    || case.is(Reason::AckTooOld))
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack moves by flags, as far as the segment is no more than a window old. RFC \
                 9293 section 3.10.7.4, first: \"If an incoming segment is not acceptable, an \
                 acknowledgment should be sent in reply ... drop the unacceptable segment\"; RFC \
                 5961 section 5.2 for its acknowledgement",
    },
    Difference {
        name: "old_timestamp",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::TimestampOld)
                && case.ends().is_some_and(|(me, _)| {
                    let age = me.ts.wrapping_sub(case.ours.segment.options.ts_value);
                    (30_000..0x8000_0000).contains(&age)
                })
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack reads no timestamps. RFC 7323 section 5.3, R1: a segment whose timestamp \
                 is older than the newest is to be treated \"as not acceptable\"",
    },
    Difference {
        name: "beyond_the_window",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::BeyondWindow)
                && case
                    .ends()
                    .is_some_and(|(me, _)| case.ours.segment.seq.after(me.max_end))
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack lets pass what overshoots by no more than a window. RFC 9293 section \
                 3.10.7.4, first: \"RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND\"",
    },
    Difference {
        name: "acknowledges_what_was_not_sent",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::AckUnsent)
                && case.ends().is_some_and(|(_, peer)| {
                    let ack = case.ours.segment.ack;
                    ack.after(peer.end) || ack.after(peer.end.max(peer.max_end))
                })
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack counts as sent what it let pass beyond the window, and asks nothing of a \
                 connection that it has picked up. RFC 9293 section 3.10.7.4, fifth: \"If the ACK \
                 acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the \
                 segment\"",
    },
    Difference {
        name: "old_acknowledgement_in_the_window",
        holds: |case| {
            case.kind == States
                && case.is(Reason::Tracked)
                && case.is_plain()
                && case.stayed()
                && case.ends().is_some_and(|(me, peer)| {
                    let ack = case.ours.segment.ack;
                    // The window of a SYN is not scaled.
                    let window = if me.has(end_flags::SPOKE) {
                        me.window()
                    } else {
                        me.max_window.into()
                    };
                    ack.before(peer.end.minus(66_000)) && !ack.before(me.ack.minus(window))
                })
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack counts 66,000 back from all that was sent, and lets pass what is older \
                 without effect. RFC 5961 section 5.2: the bound is the largest window below what \
                 is acknowledged, \"((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)\"",
    },
    Difference {
        name: "acknowledges_what_lies_at_the_edge",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::WindowEdge)
                && case
                    .ends()
                    .is_some_and(|(_, peer)| case.ours.segment.ack.0 == peer.end.plus(1).0)
        },
        lasts: false,
        right: Right::Both,
        source: "an acknowledgement of one octet more than was sent, where the window is full: of a \
                 FIN that some stacks send there. RFC 9293 section 3.10.7.4, fifth: it is dropped \
                 and draws an ACK; neither moves",
    },
    Difference {
        name: "acknowledges_half_a_circle_away",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::AckTooOld)
                && case
                    .ends()
                    .is_some_and(|(_, peer)| peer.end.since(case.ours.segment.ack) > 0x7000_0000)
        },
        lasts: false,
        right: Right::Both,
        source: "half a circle away a number is as far behind as ahead: conntrack takes it for what \
                 was not sent, the tracker for what was sent long ago. RFC 5961 section 5.2: the \
                 segment is discarded either way",
    },
    Difference {
        name: "beyond_the_fin",
        holds: |case| {
            case.kind == OnlyTrackerRefuses
                && case.is(Reason::BeyondFin)
                && case.ends().is_some_and(|(me, _)| {
                    me.has(end_flags::FIN) && case.ours.segment.end().after(me.end)
                })
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack does not remember where the FIN was. RFC 9293 section 3.10.7.4, seventh: \
                 \"This should not occur since a FIN has been received from the remote side. Ignore \
                 the segment text\"",
    },
    Difference {
        name: "fin_at_the_edge",
        holds: |case| {
            case.kind == States
                && case.is(Reason::WindowEdge)
                && case.moved_nothing()
                && case
                    .ends()
                    .is_some_and(|(me, _)| case.ours.segment.seq.0 == me.max_end.0)
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack's window has one octet more. RFC 9293 section 3.10.7.4, first: what \
                 begins at RCV.NXT+RCV.WND is not acceptable",
    },
    Difference {
        name: "fin_before_data",
        holds: |case| {
            case.kind == States
                && case.is(Reason::FinInside)
                && case.moved_nothing()
                && case
                    .ends()
                    .is_some_and(|(me, _)| !case.ours.segment.end().after(me.end))
        },
        lasts: true,
        right: Right::Both,
        source: "a FIN that lies before data already sent moves conntrack. RFC 9293 section 3.6: \
                 nothing is sent behind a FIN, so one of the two is not the sender's",
    },
    Difference {
        name: "final_ack_behind_a_syn",
        holds: |case| {
            case.kind == States
                && case.before.label == Label::LastAck
                && case.stayed()
                && case.is_plain()
                && case.acknowledges_fin()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack takes the ACK that follows a SYN in LAST_ACK for a challenge ACK without \
                 reading its number. RFC 9293 section 3.10.7.4, fifth, LAST-ACK: if it \
                 acknowledges the FIN, the connection is closed",
    },
];
