//! Captures of Zeek's tests.

use tracker_common::tcp::State::{
    Closed, Established, FinWait1, Listen, SynReceived, SynSent, TimeWait,
};

use crate::row::Row;

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        baseline: Some("core.checksums_ignore_nets__conn-worked.log"),
        ..Row::new(
            "zeek__chksums__localhost-bad-chksum.pcap",
            "checksums left to the network card: the connection is tracked",
        )
    },
    Row {
        flows: &[(16, SynSent, Listen)],
        noted: &[("not_ip", 66)],
        baseline: Some("core.cisco-fabric-path__conn.log"),
        differs: 16,
        why: "Zeek reads FabricPath and counts each SYN twice; what it wraps is not read here and \
              passes as not_ip",
        ..Row::new(
            "zeek__cisco-fabric-path.pcap",
            "16 SYNs, and the same within FabricPath, which is no EtherType to track",
        )
    },
    Row {
        flows: &[(3, Closed, TimeWait), (2, TimeWait, Closed)],
        through: &[(Established, Established)],
        baseline: Some("scripts.base.protocols.ftp.ftp-ipv4__conn.log"),
        ..Row::new(
            "zeek__ftp__ipv4.pcap",
            "FTP, active and passive: five connections",
        )
    },
    Row {
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        ..Row::new(
            "zeek__http-qinq-0.pcap",
            "two VLAN tags of identifier 0, which name no VLAN: one connection",
        )
    },
    Row {
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        baseline: Some("core.tcp.reassembly-known-ports__conn.log"),
        ..Row::new("zeek__http__get.pcap", "a whole connection")
    },
    Row {
        flows: &[(1, Closed, Closed)],
        through: &[(Established, Established)],
        baseline: Some("scripts.base.protocols.ldap.basic__conn.log"),
        ..Row::new(
            "zeek__ldap__simpleauth.pcap",
            "a VLAN; reset by the originator",
        )
    },
    Row {
        flows: &[(1, Closed, TimeWait), (1, TimeWait, Closed)],
        noted: &[("not_ip", 11)],
        through: &[(Established, Established)],
        baseline: Some("core.vlan-mpls__conn.log"),
        differs: 1,
        why: "the third connection is inside MPLS, which is not read: it passes as not_ip",
        ..Row::new("zeek__mixed-vlan-mpls.pcap", "VLAN and MPLS mixed")
    },
    Row {
        flows: &[(2, Closed, Closed), (6, TimeWait, Closed)],
        strict_flows: Some(&[(1, Closed, Closed), (6, TimeWait, Closed)]),
        strict_refused: Some(&[("stray_ack", 1), ("stray_reset", 1)]),
        through: &[(Established, Established)],
        baseline: Some("scripts.base.protocols.modbus.modbus_and_non_modbus_on_port_502__conn.log"),
        ..Row::new(
            "zeek__modbus__modbus-and-non-modbus-p502.pcap",
            "a reset in the handshake, and data between the same ports 15 s later: another \
             connection",
        )
    },
    Row {
        noted: &[("not_ip", 86)],
        baseline: Some("core.pppoe-over-qinq__conn.log"),
        differs: 1,
        why: "PPPoE is not read: what it wraps passes as not_ip",
        ..Row::new("zeek__pppoe-over-qinq.pcap", "PPPoE inside two VLAN tags")
    },
    Row {
        flows: &[(20, SynSent, Listen)],
        noted: &[("handshake_unseen", 816)],
        never: Some(Established),
        baseline: Some("scripts.base.protocols.ssh.half-duplex-client__conn.log"),
        ..Row::new(
            "zeek__ssh__ssh.client-side-half-duplex.pcap",
            "the clients' side of 20 connections",
        )
    },
    Row {
        flows: &[
            (1, Closed, Closed),
            (17, TimeWait, Closed),
            (5, TimeWait, TimeWait),
        ],
        strict_flows: Some(&[
            (1, Closed, Closed),
            (16, TimeWait, Closed),
            (5, TimeWait, TimeWait),
        ]),
        strict_refused: Some(&[("stray_ack", 7), ("stray_fin", 4)]),
        through: &[(Established, Established)],
        baseline: Some("scripts.base.protocols.ssh.basic__conn.log"),
        ..Row::new("zeek__ssh__ssh.pcap", "23 connections of SSH")
    },
    Row {
        flows: &[(1, Closed, Closed)],
        refused: &[("bad_flags", 1)],
        why: "Zeek counts the FIN without ACK as the originator's third packet; no endpoint sends \
              one (RFC 9293 section 3.10.4: <CTL=FIN,ACK>), so it is refused",
        ..Row::new(
            "zeek__tcp__fin_retransmission.pcap",
            "a FIN without ACK in SYN_SENT, a SYN-ACK, a FIN, an RST: closed",
        )
    },
    Row {
        flows: &[(1, SynSent, Listen)],
        refused: &[("stray_syn_ack", 1)],
        noted: &[("handshake_unseen", 12)],
        why: "Zeek turns the connection round and follows it to its end; conntrack stays in \
              SYN_SENT as the tracker does. A SYN-ACK that answers nothing opens nothing (RFC 9293 \
              section 3.10.7.2, second: to a LISTEN it is a reason for a reset), and later \
              segments are noted, not refused",
        ..Row::new(
            "zeek__tcp__handshake-reorder.pcap",
            "the SYN-ACK was captured before the SYN",
        )
    },
    Row {
        flows: &[(1, TimeWait, Closed)],
        refused: &[("stray_syn_ack", 1)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 18), ("stray_fin", 2), ("stray_syn_ack", 1)]),
        baseline: Some("core.tcp.missing-syn__conn.log"),
        differs: 1,
        why: "Zeek counts the SYN-ACK; it answers nothing that was seen, and the connection is \
              picked up by the ACK behind it",
        ..Row::new(
            "zeek__tcp__missing-syn.pcap",
            "from the SYN-ACK on, then a normal close",
        )
    },
    Row {
        flows: &[(1, Established, Established)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 1)]),
        ..Row::new(
            "zeek__tcp__no-handshake.pcap",
            "one packet in mid-life: picked up, or refused",
        )
    },
    Row {
        flows: &[(1, Established, Established), (2, Established, FinWait1)],
        refused: &[("stray_syn_ack", 2)],
        strict_flows: Some(&[]),
        strict_refused: Some(&[("stray_ack", 2), ("stray_fin", 2), ("stray_syn_ack", 2)]),
        baseline: Some("core.conn-size-flip__conn.log.one-sided"),
        differs: 2,
        why: "the SYN-ACKs answer nothing that was seen; and of the second connection more than a \
              pick-up's time without proof goes by before its FIN, which is picked up anew",
        ..Row::new(
            "zeek__tcp__one-sided-2745.pcap",
            "a responder's SYN-ACK, ACK and FIN, the other side unseen",
        )
    },
    Row {
        flows: &[(1, TimeWait, Closed)],
        through: &[(Established, Established)],
        ..Row::new(
            "zeek__tcp__payload-syn.pcap",
            "a SYN with 100 octets of data, and a whole connection",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        through: &[(Established, Established)],
        baseline: Some("core.tcp.rxmit-history__conn-1.log"),
        ..Row::new(
            "zeek__tcp__retransmit-fast009.pcap",
            "retransmissions and a gap, reset by the originator",
        )
    },
    Row {
        refused: &[("stray_reset", 1)],
        ..Row::new(
            "zeek__tcp__single-rst.pcap",
            "an RST of no connection opens none",
        )
    },
    Row {
        verified: true,
        refused: &[("bad_checksum", 1)],
        ..Row::new(
            "zeek__tcp__syn-bad.pcap",
            "a SYN with a wrong checksum, where checksums are verified: it opens nothing",
        )
    },
    Row {
        flows: &[(1, SynSent, SynReceived)],
        ..Row::new("zeek__tcp__syn-synack.pcap", "half-open: SYN and SYN-ACK")
    },
    Row {
        flows: &[(1, Closed, Closed)],
        noted: &[("handshake_unseen", 1)],
        never: Some(Established),
        ..Row::new(
            "zeek__tcp__syn-then-ack-then-rst.pcap",
            "a SYN, an ACK that is no SYN-ACK, an RST of the originator: never established",
        )
    },
    Row {
        flows: &[(1, Closed, Closed)],
        never: Some(Established),
        ..Row::new(
            "zeek__tcp__syn-then-rst.pcap",
            "a SYN and an RST of its sender: closed",
        )
    },
    Row {
        flows: &[(2, Closed, TimeWait)],
        ..Row::new(
            "zeek__tcp__tcp-fast-open.pcap",
            "TCP Fast Open: two connections, closed",
        )
    },
    Row {
        flows: &[(1, Closed, TimeWait)],
        ..Row::new(
            "zeek__tcp__truncated-header.pcap",
            "headers of which the capture holds only a part: nothing is read beyond it",
        )
    },
    Row {
        flows: &[(3, TimeWait, Closed)],
        through: &[(Established, Established)],
        baseline: Some("scripts.policy.frameworks.conn_key.vlan_fivetuple-2__conn.log.cut"),
        ..Row::new(
            "zeek__vlan-collisions.pcap",
            "the same ports in three VLANs: three connections",
        )
    },
];
