//! Windows, acknowledgements, timestamps and FINs; and what picks up a connection.

use tracker_common::{
    abi::{Flow, end_flags},
    reason::Reason,
    tcp::{Flags, State},
};

use super::{
    Difference,
    Kind::{Memory, OnlyConntrackRefuses, OnlyTrackerRefuses, States},
    Right,
};
use crate::kernel::Label;

/// No window is larger, in octets (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// See the module.
pub const ALL: &[Difference] = &[
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
    Difference {
        name: "window_of_the_syn",
        holds: |case| {
            (case.kind == OnlyConntrackRefuses || case.kind == States && case.stayed())
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
        source: "before the third ACK conntrack lets a responder send beyond its SYN-ACK only with \
                 a fresh acknowledgement, else it refuses it or lets it pass without effect. RFC \
                 9293 section 3.10.7.2, third, and 3.10.7.4, first: the window of the SYN counts",
    },
    Difference {
        name: "old_segment_moves_nothing",
        holds: |case| {
            // Who waits for a SYN-ACK takes nothing that begins before it.
            let before_syn = case.ends().is_some_and(|(me, peer)| {
                peer.state() == State::SynSent && !case.ours.segment.seq.after(me.isn)
            });
            case.kind == States
                && case.is_plain()
                && case.moved_nothing()
                && !case.stayed()
                && (case.among(&[Reason::AlreadyReceived, Reason::SegmentTooOld])
                    && (case.is_old() || before_syn)
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
        name: "half_a_circle_away",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.among(&[Reason::AlreadyReceived, Reason::SegmentTooOld])
                && case.is_plain()
                && case.moved_nothing()
                && case.is_old()
                && case.ends().is_some_and(|(me, _)| {
                    let behind = me.end.since(case.ours.segment.seq);
                    behind > LARGEST_WINDOW
                })
        },
        lasts: false,
        right: Right::Both,
        source: "a number some 2^31 away is behind the newest for one, and beyond the window's \
                 end for the other. RFC 9293 section 3.10.7.4, first: it is not acceptable \
                 either way; neither moves",
    },
    Difference {
        name: "old_segment_with_a_new_acknowledgement",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.among(&[Reason::AlreadyReceived, Reason::SegmentTooOld])
                && case.is_plain()
                && case.moved_nothing()
                && case.is_old()
                && case
                    .ends()
                    .is_some_and(|(me, _)| case.ours.segment.ack.after(me.ack))
        },
        lasts: false,
        right: Right::Both,
        source: "conntrack calls a segment INVALID for what it acknowledges, however old it is, \
                 and forgets what was sent in segments with an old acknowledgement. RFC 9293 \
                 section 3.10.7.4, first: the sequence number is judged first, and what is old \
                 draws an ACK and is dropped; neither moves",
    },
    Difference {
        name: "acknowledges_half_a_circle_away",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses | Memory)
                && case.is(Reason::Liberal)
                && case.is_plain()
                && case.moved_nothing()
                && case.ours.before.as_ref().is_some_and(Flow::is_liberal)
                && case.ends().is_some_and(|(_, peer)| {
                    let lowest = peer.end.minus(LARGEST_WINDOW);
                    case.ours.segment.ack.since(lowest) > 2 * LARGEST_WINDOW
                })
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack asks nothing of a connection that it has picked up. RFC 9293 section \
                 3.10.7.4, fifth, and RFC 5961 section 5.2: an acknowledgement further from what \
                 was sent than the largest window is no acceptable one, wherever the window is",
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
        source: "conntrack reads no timestamps. RFC 7323 section 5.3, R1: a segment whose \
                 timestamp is older than the newest is to be treated \"as not acceptable\"",
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
        source: "conntrack counts as sent what it let pass beyond the window, and asks nothing of \
                 a connection that it has picked up. RFC 9293 section 3.10.7.4, fifth: \"If the \
                 ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the \
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
        source: "an acknowledgement of one octet more than was sent, where the window is full: of \
                 a FIN that some stacks send there. RFC 9293 section 3.10.7.4, fifth: it is \
                 dropped and draws an ACK; neither moves",
    },
    Difference {
        name: "old_acknowledgement",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::AckTooOld)
                && case.is_plain()
                && case.ends().is_some_and(|(me, peer)| {
                    let ack = case.ours.segment.ack;
                    !ack.after(me.ack) || ack.after(peer.end)
                })
        },
        lasts: false,
        right: Right::Both,
        source: "conntrack looks at the sequence number first, and takes an acknowledgement from \
                 half a circle ago for one of what was not sent. RFC 5961 section 5.2: with such \
                 an acknowledgement a segment is discarded and draws an ACK, whatever its other \
                 number",
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
        source: "conntrack does not remember where the FIN was. RFC 9293 section 3.10.7.4, \
                 seventh: \"This should not occur since a FIN has been received from the remote \
                 side. Ignore the segment text\"",
    },
    Difference {
        name: "fin_at_the_edge",
        holds: |case| {
            matches!(case.kind, States | OnlyConntrackRefuses)
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
        source: "conntrack takes the ACK that follows a SYN in LAST_ACK for a challenge ACK \
                 without reading its number. RFC 9293 section 3.10.7.4, fifth, LAST-ACK: if it \
                 acknowledges the FIN, the connection is closed",
    },
];
