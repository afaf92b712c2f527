//! SYNs and SYN-ACKs on a connection that exists.

use tracker_common::{
    abi::{Flow, flow_flags},
    reason::Reason,
};

use super::{
    Difference,
    Kind::{Memory, OnlyConntrackRefuses, States},
    Right,
};
use crate::kernel::Label;

/// See the module.
pub const ALL: &[Difference] = &[
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
        name: "segment_behind_a_later_syn",
        holds: |case| {
            let passed = |flow: &Flow| flow.has(flow_flags::SYN_ON_LIVE);
            case.among(&[Reason::HandshakeUnseen, Reason::ResetForeign])
                && case.moved_nothing()
                && case.ours.before.as_ref().is_some_and(passed)
        },
        lasts: true,
        right: Right::Both,
        source: "a SYN with a higher number has passed on the connection, and what comes then does \
                 not fit that, but may be of the next one. Conntrack calls it INVALID, or takes its \
                 numbers; the tracker notes it. RFC 9293 section 3.4.1: who aborts may call again at \
                 once, and segments of both are then under way",
    },
    Difference {
        name: "reopened_by_the_other_end",
        holds: |case| {
            // Of one that a reset has ended before it was open the tracker goes on
            // with the same flow.
            let within = case.is(Reason::Tracked) && case.closed_before();
            case.kind == OnlyConntrackRefuses
                && (case.is(Reason::FlowReopened) || within)
                && case.ours.segment.is_syn()
                && !case.original()
                && case.was_over()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack calls it INVALID once an RST has closed the connection. RFC 9293 \
                 section 3.10.1: a socket pair that is CLOSED may be opened by either end",
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
        source: "conntrack waits for the SYN-ACK if the last thing it saw was not an RST of the \
                 same end. RFC 9293 section 3.10.1: the SYN opens a new connection",
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
        source: "conntrack is in TIME_WAIT though a FIN is not acknowledged, and opens a new \
                 entry. RFC 9293 section 3.10.7.4, fourth: in any state but TIME-WAIT the SYN \
                 draws a challenge ACK",
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
        source: "conntrack calls it INVALID outside a simultaneous open. RFC 9293 section \
                 3.10.7.4, fourth: it has a SYN, so it must draw a challenge ACK",
    },
    Difference {
        name: "restart",
        // If the SYN was the responder's, conntrack has not begun anew even where
        // its label fits.
        holds: |case| {
            case.is(Reason::FlowRestarted)
                && (matches!(case.kind, States | OnlyConntrackRefuses)
                    || case.kind == Memory && case.original())
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack remembers a SYN on a live connection only until the next segment, and \
                 none of the responder's. RFC 9293 section 3.5.1: the SYN-ACK that answers it \
                 proves that both ends began anew",
    },
];
