//! Captures of nDPI's and tcpdump's tests.

use tracker_common::tcp::State::{Closed, Established, Listen, SynReceived, SynSent};

use crate::row::Row;

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        flows: &[
            (5, Closed, Closed),
            (1986, SynSent, Listen),
            (3, SynSent, SynReceived),
        ],
        baseline: Some("synscan.pcap.out"),
        ..Row::new(
            "ndpi__synscan.pcap",
            "a SYN scan: 1,994 flows of 2,011 packets, almost all unanswered",
        )
    },
    Row {
        flows: &[(4, Closed, Closed)],
        refused: &[("bad_flags", 3), ("stray_reset", 3)],
        noted: &[("not_ip", 12)],
        baseline: Some("tcp_scan.pcapng.out"),
        differs: 3,
        why: "nDPI counts the three segments with such flags as flows; no endpoint sends them (RFC \
              9293 section 3.10.7.4, fifth: without ACK they are dropped), so they open none, and \
              the RSTs that answer them belong to none",
        ..Row::new(
            "ndpi__tcp_scan.pcapng",
            "a connect scan, and segments with no flags, with FIN alone, and with FIN, PSH and URG",
        )
    },
    Row {
        flows: &[(1, Established, Established)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 1)]),
        ..Row::new(
            "td__bigtcp-ipv4.pcap",
            "an IPv4 packet of total length 0, larger than 64 kB: nothing underflows",
        )
    },
    Row {
        flows: &[(1, Established, Established)],
        ..Row::new(
            "td__tcp-handshake-nano.pcap",
            "a handshake, in a file with nanoseconds",
        )
    },
];
