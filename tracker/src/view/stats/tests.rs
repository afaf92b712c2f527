//! What the statistics look like.

mod defence;

use super::*;
use crate::view::samples::{clock, gauges, live, now_ns, samples};

fn snapshot() -> Snapshot {
    let clock = clock();
    let mut flows = Flows::default();
    for sample in samples() {
        flows.count(&Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap());
    }
    flows.count_expired();
    let count = |packets, bytes| ReasonCount { packets, bytes };
    Snapshot {
        now_ns: now_ns(),
        live: live(),
        upkeep: Some(Upkeep {
            pickup_until_ns: None,
            time_wait_limit: 65_536,
            adaptive: Some([60, 120]),
        }),
        gauges: gauges(),
        reasons: vec![
            (
                Reason::Tracked,
                Hook::Ingress,
                count(1_000_000, 1_500_000_000),
            ),
            (Reason::Tracked, Hook::Egress, count(500_000, 30_000_000)),
            (Reason::FlowOpened, Hook::Ingress, count(15, 900)),
            (Reason::StrayReset, Hook::Egress, count(2, 80)),
        ],
        lost: [0, 7],
        interfaces: vec![
            Interface {
                name: "eth0".to_owned(),
                index: 2,
                xdp: Some("native".to_owned()),
                ingress: true,
                strips_tags: false,
                checksums: true,
            },
            Interface {
                name: "eth1".to_owned(),
                index: 3,
                xdp: Some("generic".to_owned()),
                ingress: true,
                strips_tags: true,
                checksums: false,
            },
        ],
        programs: vec![Program {
            name: "tracker_ingress".to_owned(),
            id: 41,
            verified_instructions: 34_567,
            translated_bytes: 12_345,
            jited_bytes: 9_876,
        }],
        maps: vec![
            Map {
                name: "FLOWS_V4".to_owned(),
                max_entries: 262_144,
                memory_bytes: 4_200_000,
            },
            Map {
                name: "LIVE".to_owned(),
                max_entries: 1,
                memory_bytes: 408,
            },
        ],
        flows,
        defence: Defence::default(),
        policy: None,
    }
}

fn table(snapshot: &Snapshot, verbose: bool) -> String {
    let mut out = Vec::new();
    snapshot.table(&mut out, verbose).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_shows_what_was_counted() {
    insta::assert_snapshot!(table(&snapshot(), false), @r"
    Mode        observe
    Agent       process 4711, last sign of life 0.4s ago
    Interfaces  eth0 (XDP: native, TCP checksums verified)
                eth1 (XDP: generic, its NIC strips VLAN tags)
    IPv4 flows  12 of 262144 (0.0%)
    IPv6 flows  3 of 262144 (0.0%)
    Expired     1 of these, not swept yet
    Half-open   3 of 32768 (0.0%)
    Calling     2 more that local clients opened
    Unproved    1 of 32768 (0.0%)
    TIME_WAIT   2 of 65536 (0.0%)
    Time-outs   full length; shorter from 60% of a table on, none at 120%
    Pick-ups    loose
    Lost events 0 of open flows, 7 of handshakes

    Initiator    Responder         Flows
    ESTABLISHED  ESTABLISHED           5
    SYN_SENT     SYN_RECV              2
    CLOSE        CLOSE                 1
    SYN_SENT     LISTEN                1
    FIN_WAIT1    ESTABLISHED           1
    FIN_WAIT2    CLOSE_WAIT            1
    CLOSING      CLOSING               1
    TIME_WAIT    CLOSE                 1
    TIME_WAIT    LAST_ACK              1

    Reason               Class   Packets in  Bytes in Packets out Bytes out
    tracked              accept     1000000   1.3 GiB      500000    28 MiB
    flow_opened          accept          15     900 B           0       0 B
    stray_reset          refuse           0       0 B           2      80 B

    Program                Id  Verified instructions     BPF code Machine code
    tracker_ingress        41                  34567       12 KiB      9.6 KiB

    Map                  Room for       Memory
    FLOWS_V4               262144      4.0 MiB
    LIVE                        1        408 B
    together                           4.0 MiB
    ");
}

#[test]
fn the_verbose_table_explains_every_reason() {
    let text = table(&snapshot(), true);
    for reason in Reason::ALL {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{} ", reason.as_str())));
        assert!(line.unwrap().ends_with(reason.describe()), "{reason:?}");
    }
}

#[test]
fn the_health_of_the_agent_is_told() {
    let agent = |snapshot: &Snapshot| table(snapshot, false).lines().nth(1).unwrap().to_owned();
    let mut snapshot = snapshot();
    insta::assert_snapshot!(agent(&snapshot), @"Agent       process 4711, last sign of life 0.4s ago");
    snapshot.live.heartbeat_ns = snapshot.now_ns - 37_000_000_000;
    insta::assert_snapshot!(agent(&snapshot), @"Agent       process 4711 has given no sign of life for 37s: expired flows are not swept; end it and start `tracker run` again");
    snapshot.live.agent_pid = 0;
    insta::assert_snapshot!(agent(&snapshot), @"Agent       none: flows are tracked and expire, but are not swept; `tracker run` starts one");
}

#[test]
fn what_the_agent_does_by_itself_is_told() {
    let lines = |snapshot: &Snapshot| -> String {
        let wanted = ["TIME_WAIT ", "Time-outs", "Pick-ups", "Liberal"];
        let text = table(snapshot, false);
        let found = text.lines().filter(|line| {
            let summary = !line.contains("LAST_ACK") && !line.contains("CLOSE");
            summary && wanted.iter().any(|title| line.starts_with(title))
        });
        found.collect::<Vec<_>>().join("\n")
    };
    let mut snapshot = snapshot();
    snapshot.live.timeout_scale = 512;
    snapshot.live.switches = switches::LIBERAL;
    snapshot.upkeep = Some(Upkeep {
        pickup_until_ns: Some(snapshot.now_ns + 42_000_000_000),
        time_wait_limit: 4,
        adaptive: Some([60, 120]),
    });
    insta::assert_snapshot!(lines(&snapshot), @r"
    TIME_WAIT   2 of 4 (50.0%)
    Time-outs   50.0% of their length; shorter from 60% of a table on, none at 120%
    Pick-ups    on for another 42s
    Liberal     all flows: what checks would refuse is counted as `liberal`
    ");
    snapshot.live.pickup = 0;
    snapshot.live.switches = 0;
    snapshot.live.timeout_scale = FULL_SCALE;
    snapshot.upkeep.as_mut().unwrap().adaptive = None;
    insta::assert_snapshot!(lines(&snapshot), @r"
    TIME_WAIT   2 of 4 (50.0%)
    Time-outs   full length, however full the tables are
    Pick-ups    off: the grace is over
    ");
    snapshot.live.pickup = 1;
    snapshot.upkeep.as_mut().unwrap().pickup_until_ns = Some(0);
    assert!(lines(&snapshot).contains("on: no agent has ended the grace"));
    snapshot.upkeep = None;
    snapshot.live.pickup = 0;
    insta::assert_snapshot!(lines(&snapshot), @r"
    TIME_WAIT   2
    Time-outs   full length
    Pick-ups    off
    ");
}

#[test]
fn the_document_says_the_same() {
    let mut out = Vec::new();
    snapshot().json(&mut out).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let reasons = document["reasons"].as_array_mut().unwrap();
    assert_eq!(reasons.len(), Reason::ALL.len());
    reasons.retain(|reason| reason["reason"] == "tracked");
    insta::assert_snapshot!(format!("{document:#}"), @r#"
    {
      "adaptive": {
        "end": 120,
        "start": 60
      },
      "agent": {
        "alive": true,
        "heartbeat_age_ms": 400,
        "pid": 4711
      },
      "defence": {
        "at_limit": "cookie",
        "bans": {
          "held": 0,
          "made": 0
        },
        "calling": 2,
        "cookies": {
          "expired": 0,
          "invalid": 0,
          "mode": null,
          "on": false,
          "on_ms": null,
          "retransmitted": 0,
          "returned": 0,
          "sent": 0,
          "times_on": null,
          "untracked": 0
        },
        "corrections": {
          "gauges": 0,
          "shares": 0
        },
        "floods": {
          "begun": 0,
          "lasting_ms": null,
          "suppressed": 0
        },
        "listener_limit": null,
        "listeners": [],
        "source_limit": null,
        "sources": []
      },
      "expired": 1,
      "flows_ipv4": {
        "held": 12,
        "limit": 262144
      },
      "flows_ipv6": {
        "held": 3,
        "limit": 262144
      },
      "half_open": {
        "held": 3,
        "limit": 32768
      },
      "interfaces": [
        {
          "checksums": true,
          "index": 2,
          "ingress": true,
          "name": "eth0",
          "strips_tags": false,
          "xdp": "native"
        },
        {
          "checksums": false,
          "index": 3,
          "ingress": true,
          "name": "eth1",
          "strips_tags": true,
          "xdp": "generic"
        }
      ],
      "liberal": false,
      "lost_events": {
        "handshake": 7,
        "open": 0
      },
      "maps": [
        {
          "max_entries": 262144,
          "memory_bytes": 4200000,
          "name": "FLOWS_V4"
        },
        {
          "max_entries": 1,
          "memory_bytes": 408,
          "name": "LIVE"
        }
      ],
      "memory_bytes": 4200408,
      "mode": "observe",
      "pickup": {
        "grace_left_ms": null,
        "mode": "loose"
      },
      "policy": null,
      "programs": [
        {
          "id": 41,
          "jited_bytes": 9876,
          "name": "tracker_ingress",
          "translated_bytes": 12345,
          "verified_instructions": 34567
        }
      ],
      "reasons": [
        {
          "class": "accept",
          "egress": {
            "bytes": 30000000,
            "packets": 500000
          },
          "ingress": {
            "bytes": 1500000000,
            "packets": 1000000
          },
          "meaning": "A segment of a tracked flow.",
          "reason": "tracked"
        }
      ],
      "states": [
        {
          "flows": 5,
          "initiator": "ESTABLISHED",
          "responder": "ESTABLISHED"
        },
        {
          "flows": 2,
          "initiator": "SYN_SENT",
          "responder": "SYN_RECEIVED"
        },
        {
          "flows": 1,
          "initiator": "CLOSED",
          "responder": "CLOSED"
        },
        {
          "flows": 1,
          "initiator": "SYN_SENT",
          "responder": "LISTEN"
        },
        {
          "flows": 1,
          "initiator": "FIN_WAIT_1",
          "responder": "ESTABLISHED"
        },
        {
          "flows": 1,
          "initiator": "FIN_WAIT_2",
          "responder": "CLOSE_WAIT"
        },
        {
          "flows": 1,
          "initiator": "CLOSING",
          "responder": "CLOSING"
        },
        {
          "flows": 1,
          "initiator": "TIME_WAIT",
          "responder": "CLOSED"
        },
        {
          "flows": 1,
          "initiator": "TIME_WAIT",
          "responder": "LAST_ACK"
        }
      ],
      "time_wait": {
        "held": 2,
        "limit": 65536
      },
      "timeout_scale": 1.0,
      "unproved": {
        "held": 1,
        "limit": 32768
      }
    }
    "#);
}
