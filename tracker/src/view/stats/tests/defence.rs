//! What they say of the defence against floods.

use tracker_common::abi::{CookieMode, Family, Mode, Place, defence_flags};

use super::*;

/// The same while it enforces, in a flood.
fn defending() -> Snapshot {
    let snapshot = snapshot();
    let word = |octets| [u32::from_ne_bytes(octets), 0, 0, 0];
    let mut half_open = vec![(
        Place::source(Family::V6, [0x2001_0db8_u32.to_be(), 0, 0, 0], 64, 0),
        7,
    )];
    for number in 1..=7 {
        let (address, flows) = (word([192, 0, 2, number]), u64::from(number));
        half_open.push((Place::listener(Family::V4, address, 443, 0), 100 * flows));
        let zone = if number == 7 { 10 } else { 0 };
        half_open.push((
            Place::source(Family::V4, word([198, 18, number, 0]), 24, zone),
            flows,
        ));
    }
    let count = |packets| ReasonCount {
        packets,
        bytes: 60 * packets,
    };
    let mut reasons = snapshot.reasons.clone();
    for (reason, packets) in [
        (Reason::CookieSent, 1_000_000),
        (Reason::CookieReturned, 1000),
        (Reason::CookieInvalid, 3),
        (Reason::HalfOpenRefused, 5),
    ] {
        reasons.push((reason, Hook::Ingress, count(packets)));
    }
    Snapshot {
        live: Live {
            mode: Mode::Enforce as u8,
            defence: defence_flags::ANSWER,
            listener_limit: 1000,
            source_bits: [24, 64],
            ..snapshot.live
        },
        reasons,
        defence: Defence {
            cookies_expired: 2,
            cookies_retransmitted: 40,
            cookies: Some(CookiesDone {
                mode: CookieMode::Adaptive,
                on_since_ns: Some(snapshot.now_ns - 12_000_000_000),
                times_on: 3,
            }),
            half_open,
            bans: 2,
            bans_made: 9,
            corrected_gauges: 4,
            corrected_shares: 1,
            flood_since_ns: Some(snapshot.now_ns - 14_000_000_000),
            floods: 3,
            floods_suppressed: 1,
        },
        ..snapshot
    }
}

#[test]
fn the_defence_is_told_while_there_is_one() {
    let text = table(&defending(), false);
    let (summary, rest) = text.split_once("\n\n").unwrap();
    insta::assert_snapshot!(summary, @r"
    Mode        enforce
    Agent       process 4711, last sign of life 0.4s ago
    Interfaces  eth0 (XDP: native, TCP checksums verified)
                eth1 (XDP: generic, its NIC strips VLAN tags)
    IPv4 flows  12 of 262144 (0.0%)
    IPv6 flows  3 of 262144 (0.0%)
    Expired     1 of these, not swept yet
    Half-open   3 of 32768 (0.0%)
    Calling     2 more that local clients opened
    Cookies     adaptive, on for 12s (turned on 3 times): 1000000 sent, 40 of them again, 1000 came back, 2 too late, 3 invalid, 0 with no room for their flow
    At a limit  cookie; a listener may have 1000 half-open flows, a source any number
    Flood       going on for 14s; `tracker listeners` shows where
    Floods      3 so far, 1 of them not logged
    Bans        2 in force, 9 ever made by the agent
    Recounts    corrected the gauges by 4, the counts of listeners and sources by 1
    Unproved    1 of 32768 (0.0%)
    TIME_WAIT   2 of 65536 (0.0%)
    Time-outs   full length; shorter from 60% of a table on, none at 120%
    Pick-ups    loose
    Lost events 0 of open flows, 7 of handshakes
    ");
    let start = rest.find("Half-open at").unwrap();
    let end = rest.find("Reason ").unwrap();
    insta::assert_snapshot!(&rest[start..end], @r"
    Half-open at                   Flows
    192.0.2.7:443             700 of 1000
    192.0.2.6:443             600 of 1000
    192.0.2.5:443             500 of 1000
    192.0.2.4:443             400 of 1000
    192.0.2.3:443             300 of 1000

    Half-open from                 Flows
    2001:db8::/64                      7
    198.18.7.0/24 (VLAN 10)            7
    198.18.6.0/24                      6
    198.18.5.0/24                      5
    198.18.4.0/24                      4
    ");
}

#[test]
fn without_an_agent_no_flood_goes_on() {
    let mut snapshot = defending();
    assert!(table(&snapshot, false).contains("\nFlood       going on for 14s"));
    snapshot.live.agent_pid = 0;
    assert!(!table(&snapshot, false).contains("\nFlood  "));
}

#[test]
fn what_the_cookies_do_is_told_in_each_mode() {
    let line = |mode: Option<CookieMode>, on: bool| {
        let mut snapshot = defending();
        if !on {
            snapshot.live.defence = 0;
        }
        snapshot.defence.cookies = mode.map(|mode| CookiesDone {
            mode,
            on_since_ns: on.then_some(snapshot.now_ns),
            times_on: 1,
        });
        let text = table(&snapshot, false);
        let line = text
            .lines()
            .find(|line| line.starts_with("Cookies"))
            .unwrap();
        line.split(':').next().unwrap().to_owned()
    };
    assert_eq!(line(None, false), "Cookies     off");
    assert_eq!(line(Some(CookieMode::Never), false), "Cookies     never");
    assert_eq!(line(Some(CookieMode::Always), true), "Cookies     always");
    let adaptive = Some(CookieMode::Adaptive);
    assert_eq!(
        line(adaptive, false),
        "Cookies     adaptive, off (turned on once)"
    );
    assert_eq!(
        line(adaptive, true),
        "Cookies     adaptive, on for 0.0s (turned on once)"
    );
}

#[test]
fn the_document_has_the_defence() {
    let mut out = Vec::new();
    defending().json(&mut out).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    insta::assert_snapshot!(format!("{:#}", document["defence"]), @r#"
    {
      "at_limit": "cookie",
      "bans": {
        "held": 2,
        "made": 9
      },
      "calling": 2,
      "cookies": {
        "expired": 2,
        "invalid": 3,
        "mode": "adaptive",
        "on": true,
        "on_ms": 12000,
        "retransmitted": 40,
        "returned": 1000,
        "sent": 1000000,
        "times_on": 3,
        "untracked": 0
      },
      "corrections": {
        "gauges": 4,
        "shares": 1
      },
      "floods": {
        "begun": 3,
        "lasting_ms": 14000,
        "suppressed": 1
      },
      "listener_limit": 1000,
      "listeners": [
        {
          "address": "192.0.2.7",
          "half_open": 700,
          "port": 443,
          "zone": 0
        },
        {
          "address": "192.0.2.6",
          "half_open": 600,
          "port": 443,
          "zone": 0
        },
        {
          "address": "192.0.2.5",
          "half_open": 500,
          "port": 443,
          "zone": 0
        },
        {
          "address": "192.0.2.4",
          "half_open": 400,
          "port": 443,
          "zone": 0
        },
        {
          "address": "192.0.2.3",
          "half_open": 300,
          "port": 443,
          "zone": 0
        }
      ],
      "source_limit": null,
      "sources": [
        {
          "half_open": 7,
          "prefix": "2001:db8::/64",
          "zone": 0
        },
        {
          "half_open": 7,
          "prefix": "198.18.7.0/24",
          "zone": 10
        },
        {
          "half_open": 6,
          "prefix": "198.18.6.0/24",
          "zone": 0
        },
        {
          "half_open": 5,
          "prefix": "198.18.5.0/24",
          "zone": 0
        },
        {
          "half_open": 4,
          "prefix": "198.18.4.0/24",
          "zone": 0
        }
      ]
    }
    "#);
}
