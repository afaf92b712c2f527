//! Captures of Suricata's tests (suricata-verify).

use tracker_common::{
    abi::Role,
    tcp::State::{Closed, Established, FinWait1, Listen, SynReceived, SynSent, TimeWait},
};

use crate::row::Row;

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        flows: &[(1, Closed, Closed)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 2), ("stray_reset", 2)]),
        ..Row::new(
            "sv__alert-no-3whs-established__no-3whs.pcap",
            "data to a closed port, answered by RSTs: no handshake is seen, and strictly nothing \
             is tracked",
        )
    },
    Row {
        flows: &[(1, FinWait1, Established)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 10), ("stray_fin", 1)]),
        baseline: Some("test.yaml"),
        ..Row::new(
            "sv__bug-2491-02__simple_http_download.onesided.nosyn.pcap",
            "one side of a connection in mid-life, with its FIN",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        through: &[(Established, Established)],
        baseline: Some("test.yaml"),
        ..Row::new(
            "sv__bug-2646-02__input.pcap",
            "FIN and RST in one connection: closed",
        )
    },
    Row {
        flows: &[(1, Established, Established)],
        through: &[(Established, Established)],
        ..Row::new(
            "sv__bug-3286-02-linux-evasion__with_evasion_linux.pcap",
            "a forged RST and FIN before the SYN-ACK: the connection survives them",
        )
    },
    Row {
        flows: &[(1, Closed, Closed), (1, SynSent, Listen)],
        noted: &[("syn_renewed", 1), ("reset_foreign", 1)],
        through: &[(Established, Established)],
        ..Row::new(
            "sv__bug-3844__input.pcap",
            "SYN, RST, a SYN with a new number: the second connection is tracked, and reset",
        )
    },
    Row {
        role: Role::Gateway,
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        ..Row::new(
            "sv__bug-4376__syn_retransmit_with_ts.pcap",
            "both directions in different VLANs, seen by a gateway: closed",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        through: &[(Established, Established)],
        ..Row::new(
            "sv__bug-6244-tcp-rst-with-data__tcp-rst-with-data.pcap",
            "an RST with data closes",
        )
    },
    Row {
        flows: &[(1, SynSent, Listen)],
        baseline: Some("test.yaml"),
        ..Row::new("sv__bug-6733-syn-packet-flow-output__input.pcap", "one SYN")
    },
    Row {
        anything: true,
        why: "addresses, numbers, flags and lengths of its packets are damaged at random",
        ..Row::new(
            "sv__bug-76__input.pcap",
            "a capture with damaged packets: nothing is required but that it is read",
        )
    },
    Row {
        flows: &[(1, Established, Established), (1, TimeWait, TimeWait)],
        through: &[(Established, Established)],
        baseline: Some("test.yaml"),
        ..Row::new(
            "sv__community-id-ipv6__input.pcap",
            "two connections over IPv6, one left open, one closed",
        )
    },
    Row {
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        baseline: Some("test.yaml"),
        ..Row::new(
            "sv__firewall__tcp-session-equivalence__input.pcap",
            "a whole connection, 6 and 4 packets",
        )
    },
    Row {
        flows: &[(1, Established, Established)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 3)]),
        ..Row::new(
            "sv__firewall__tcp-session-midstream-policy__input.pcap",
            "mid-life: strictly, all three packets are refused",
        )
    },
    Row {
        flows: &[(1, SynSent, SynReceived)],
        refused: &[("beyond_window", 1)],
        never: Some(Established),
        ..Row::new(
            "sv__firewall__tcp-session-stream-out-of-window__input.pcap",
            "data 100 kB beyond the window right after the SYN-ACK: exactly one packet is refused",
        )
    },
    Row {
        flows: &[(200, SynSent, Listen)],
        why: "half of them are refused where a limit says so, which this test does not set",
        ..Row::new(
            "sv__firewall__tcp-session-syn-flood-drop-precedence__input.pcap",
            "200 SYNs from one source",
        )
    },
    Row {
        flows: &[(2, Closed, Closed)],
        refused: &[("bad_flags", 1)],
        noted: &[("not_ip", 2)],
        never: Some(Established),
        ..Row::new(
            "sv__issue-3341-tcphdr-01__urgent11_cve_2019_12260.pcap",
            "illegal flags and two SYN-ACKs that are reset: never established",
        )
    },
    Row {
        flows: &[(1, SynSent, Listen)],
        noted: &[("handshake_unseen", 4)],
        baseline: Some("test.yaml"),
        differs: 1,
        why: "Suricata's async-oneside option believes what it does not see; without it (its \
              cli-02) the state is syn_sent, which is what is proved: a SYN-ACK moves SYN-SENT \
              (RFC 9293 section 3.10.7.3, fourth)",
        ..Row::new(
            "sv__stream-async__http__stream-async-6063-cli-01__http-request-header-async-cli.pcap",
            "the client's side only",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        through: &[(SynSent, SynSent), (Established, Established)],
        ..Row::new(
            "sv__tcp-split-handshake-01-4whs__split-handshake-4whs.pcap",
            "a handshake of four segments opens the connection; then it is reset",
        )
    },
];
