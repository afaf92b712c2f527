//! The handshake.

use tracker_common::{
    abi::INITIATOR,
    reason::Reason,
    tcp::State::{FinWait1, Listen, SynSent},
};

use super::{
    Difference,
    Kind::{Memory, OnlyConntrackRefuses, OnlyTrackerRefuses, States},
    Right,
};
use crate::kernel::Label;

/// See the module.
pub const ALL: &[Difference] = &[
    Difference {
        name: "syn_ack_of_another_connection",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.is(Reason::SynAckWrongAck)
                && !case.acknowledges_syn()
        },
        lasts: true,
        right: Right::Tracker,
        source: "conntrack calls it INVALID. RFC 9293 section 3.10.7.3, first: the endpoint \
                 answers it with a reset, which is how a half-open connection is discovered \
                 (section 3.5.1), so it must arrive",
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
                 first: an endpoint in SYN-SENT resets what acknowledges something else, and stays \
                 in SYN-SENT",
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
        source: "conntrack takes any acknowledgement up to 66,000 below the SYN's, and none at \
                 all. RFC 9293 section 3.10.7.3, second: \"If the ACK was acceptable, then signal \
                 to the user\"; RFC 5961 section 3.2: \"acceptable if the ACK field acknowledges \
                 the SYN\"",
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
        source: "conntrack takes an endpoint's numbers from the first segment that it sees of it, \
                 or from the SYN-ACK with the highest, before it has judged it; what comes from \
                 the endpoint itself is then outside. RFC 9293 section 3.10.7.3, first and second: \
                 such a segment is discarded",
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
        source: "what an initiator sends behind its SYN while no answer has passed: the answer \
                 goes another way. Conntrack calls it INVALID, the tracker notes it; neither \
                 moves. RFC 9293 knows no middle",
    },
    Difference {
        name: "early_segment_of_a_simultaneous_open",
        holds: |case| {
            case.kind == OnlyConntrackRefuses
                && case.before.label == Label::SynSent2
                && case.is_plain()
                && case.moved_nothing()
        },
        lasts: false,
        right: Right::Both,
        source: "between the SYNs and the SYN-ACKs conntrack calls all else INVALID. RFC 9293 \
                 section 3.10.7.4, first and fifth: its receiver drops it, or answers it",
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
        source: "conntrack does not let an ACK take the place of the second SYN-ACK, unless it \
                 comes from the responder at once. RFC 9293 section 3.10.7.4, fifth, SYN-RECEIVED: \
                 an acknowledgement of the SYN opens the connection, whatever carries it",
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
        source: "conntrack ignores the second SYN-ACK with the window in it, takes the data for \
                 more than was allowed, and loses count of them. RFC 9293 section 3.10.7.4, first: \
                 the segment is acceptable",
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
        source: "conntrack takes the SYN-ACK of a simultaneous open with any number, and then \
                 holds what follows against it. RFC 9293 section 3.5, figure 7: <SEQ=ISS>, the \
                 number of the SYN before it",
    },
    Difference {
        name: "one_of_two_syns",
        holds: |case| {
            let shows_later =
                case.kind == Memory && case.among(&[Reason::SynRenewed, Reason::SynAckRenewed]);
            (matches!(case.kind, States | OnlyConntrackRefuses) || shows_later)
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
        source: "of two SYNs conntrack goes on with the numbers of the higher one, of two SYN-ACKs \
                 with those of the first. RFC 9293 section 3.10.7.2, third: a SYN that comes to \
                 LISTEN may have any number; whichever came is the one that is acknowledged",
    },
];
