//! Linux's own packetdrill cases for conntrack, captured while they ran and passed. The
//! last one or two packets are packetdrill's clean-up.

use tracker_common::tcp::State::{Closed, Established, Listen, SynReceived, SynSent};

use crate::row::Row;

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("segment_too_old", 1)],
        through: &[(Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_ack_loss_stall.ipv4.pcap",
            "data that is acknowledged already comes again: it is not INVALID",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("segment_too_old", 1)],
        through: &[(Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_ack_loss_stall.ipv6.pcap",
            "data that is acknowledged already comes again: it is not INVALID",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("after_close", 2)],
        through: &[(Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_inexact_rst.ipv4.pcap",
            "FIN, then a reset: closed; a reset after that is not INVALID",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        refused: &[("reset_outside_window", 1)],
        noted: &[("reset_late", 3)],
        through: &[(Established, Established)],
        why: "all four lie outside the window, so their receiver drops them in silence (RFC 9293 \
              section 3.10.7.4, second); the three before it may be of a socket that is gone, \
              which resets old segments with the number that they acknowledged (3.10.7.1), so \
              they pass and move nothing",
        ..Row::new(
            "linux-ct__conntrack_rst_invalid.ipv4.pcap",
            "four RSTs that are not exact leave the connection established, the exact one closes \
             it",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        refused: &[("reset_outside_window", 1)],
        noted: &[("reset_late", 3)],
        through: &[(Established, Established)],
        why: "all four lie outside the window, so their receiver drops them in silence (RFC 9293 \
              section 3.10.7.4, second); the three before it may be of a socket that is gone, \
              which resets old segments with the number that they acknowledged (3.10.7.1), so \
              they pass and move nothing",
        ..Row::new(
            "linux-ct__conntrack_rst_invalid.ipv6.pcap",
            "four RSTs that are not exact leave the connection established, the exact one closes \
             it",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("handshake_unseen", 1), ("reset_foreign", 1)],
        through: &[(SynSent, Listen), (Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_syn_challenge_ack.ipv4.pcap",
            "a challenge ACK and the RST that answers it leave a half-open connection as it is; \
             then it opens",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("handshake_unseen", 1), ("reset_foreign", 1)],
        through: &[(SynSent, Listen), (Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_syn_challenge_ack.ipv6.pcap",
            "a challenge ACK and the RST that answers it leave a half-open connection as it is; \
             then it opens",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("syn_ack_wrong_ack", 1)],
        through: &[(Established, Established)],
        why: "conntrack calls the old SYN-ACK INVALID; it must reach the initiator, who answers it \
              with a reset (RFC 9293 section 3.10.7.3, first)",
        ..Row::new(
            "linux-ct__conntrack_synack_old.ipv4.pcap",
            "a SYN-ACK of a former connection moves nothing; the right one opens the connection",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("syn_ack_wrong_ack", 1)],
        through: &[(Established, Established)],
        why: "conntrack calls the old SYN-ACK INVALID; it must reach the initiator, who answers it \
              with a reset (RFC 9293 section 3.10.7.3, first)",
        ..Row::new(
            "linux-ct__conntrack_synack_old.ipv6.pcap",
            "a SYN-ACK of a former connection moves nothing; the right one opens the connection",
        )
    },
    Row {
        flows: &[(1, Closed, Closed), (1, SynSent, SynReceived)],
        noted: &[("syn_on_live", 1), ("reset_late", 1)],
        through: &[(Established, Established)],
        ..Row::new(
            "linux-ct__conntrack_synack_reuse.ipv4.pcap",
            "a SYN on a live connection passes, its challenge ACK too, the RST clears the \
             connection, and a new SYN is answered",
        )
    },
];
