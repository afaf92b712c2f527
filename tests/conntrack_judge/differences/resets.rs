//! RSTs, and what comes after one.

use tracker_common::{abi::flow_flags, reason::Reason, tcp::Flags};

use super::{
    Difference,
    Kind::{Memory, OnlyConntrackRefuses, OnlyTrackerRefuses, States},
    Right,
};
use crate::kernel::Label;

/// See the module.
pub const ALL: &[Difference] = &[
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
        source: "an RST that acknowledges a SYN which had passed on the connection: conntrack \
                 believes it of the initiator's SYN, and if nothing came between. RFC 9293 section \
                 3.5.1: its sender knows nothing of the connection",
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
        source: "conntrack goes from TIME_WAIT to CLOSE. RFC 1337 section 3: an RST in TIME-WAIT \
                 is better ignored, or old duplicates end it early",
    },
    Difference {
        name: "closed_is_remembered",
        holds: |case| {
            case.kind != Memory
                && case.closed_before()
                && case.before.label == Label::Gone
                && case.among(&[Reason::AfterClose, Reason::Tracked])
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
        source: "after the end conntrack opens a new entry by a SYN with the number of the one \
                 that opened the connection. RFC 9293 section 3.4.1: new connections have new \
                 numbers, so it is a duplicate; if it is answered (section 3.5, figure 8), the \
                 answer tells",
    },
    Difference {
        name: "handshake_goes_on_after_a_reset",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
                && case.closed_before()
                && case.among(&[
                    Reason::Tracked,
                    Reason::SynAckRetransmit,
                    Reason::SynAckRenewed,
                ])
                && case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Both,
        source: "conntrack stays closed. RFC 5961 section 3.2: an endpoint may have thrown away \
                 the RST that the tracker took; who goes on with the handshake has",
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
];
