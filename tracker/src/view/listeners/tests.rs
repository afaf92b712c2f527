//! What the list of listeners looks like.

use tracker_common::{
    abi::Family,
    time::{Tick, ticks_from_ms},
};

use super::*;
use crate::view::{Names, samples};

fn socket(address: &str, port: u16, queue: u32, backlog: u32) -> Listening {
    Listening {
        address: address.parse().unwrap(),
        port,
        dual_stack: false,
        ifindex: 0,
        queue,
        backlog,
    }
}

fn sockets() -> Vec<Listening> {
    vec![
        socket("0.0.0.0", 443, 3, 128),
        socket("0.0.0.0", 443, 129, 128),
        socket("192.0.2.1", 443, 0, 4096),
        Listening {
            dual_stack: true,
            ..socket("::", 80, 0, 511)
        },
        Listening {
            ifindex: 2,
            ..socket("::1", 22, 0, 128)
        },
    ]
}

fn place(address: &str, port: u16, zone: u32) -> Place {
    match address.parse().unwrap() {
        IpAddr::V4(address) => {
            let word = u32::from_ne_bytes(address.octets());
            Place::listener(Family::V4, [word, 0, 0, 0], port, zone)
        }
        IpAddr::V6(address) => {
            let words = address.segments();
            let word = |at: usize| (u32::from(words[at]) << 16 | u32::from(words[at + 1])).to_be();
            Place::listener(Family::V6, [0, 2, 4, 6].map(word), port, zone)
        }
    }
}

fn listener(ago_ms: u64, sent: u64) -> Listener {
    Listener {
        sent,
        valid: sent / 2,
        invalid: 7,
        expired: 2,
        retransmitted: sent / 5,
        seen: Tick(samples::now().0 - ticks_from_ms(ago_ms)),
        window: 65_160,
        mss: 1460,
        scale: 10,
        options: Options::MSS | Options::SCALE,
        ..Listener::default()
    }
}

fn known() -> Known {
    Known {
        now: samples::now(),
        listeners: vec![
            (place("192.0.2.1", 443, 0), listener(300, 1_000_000)),
            (place("192.0.2.2", 443, 0), listener(5_000, 10)),
            (
                place("192.0.2.3", 443, 10),
                Listener {
                    scale: 0,
                    options: Options::MSS,
                    mode: CookieMode::Always as u8,
                    ..listener(90_000, 20)
                },
            ),
            // Written by the agent alone.
            (
                place("192.0.2.2", 80, 0),
                Listener {
                    mode: CookieMode::Never as u8,
                    ..Listener::default()
                },
            ),
        ],
        half_open: [
            (place("192.0.2.2", 443, 0), 12),
            (place("192.0.2.3", 443, 10), 1),
            (place("2001:db8::1", 80, 0), 5),
            (place("198.51.100.1", 8080, 10 | 20 << 16), 9),
        ]
        .into(),
        limit: 1000,
        cookies: Some(CookieMode::Adaptive),
        answering: true,
    }
}

fn table(known: Option<&Known>, addresses: bool) -> String {
    let mut out = Vec::new();
    Listeners::new(&sockets(), known)
        .table(&mut out, &samples::names(), addresses)
        .unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_known_of_addresses_adds_up_in_the_sockets_that_take_them() {
    insta::assert_snapshot!(table(Some(&known()), false), @r"
    Proto Local Address                       Accept queue Half-open Cookies        Learnt   MSS Scale  Sent Resent Valid Expired Invalid
    tcp6  [::1]:22%eth0                              0/128    0/1000 adaptive, on        -     -     -     0      0     0       0       0
    tcp46 [::]:80                                    0/511    5/1000 mixed               -     -     -     0      0     0       0       0
    tcp   0.0.0.0:443                    132/256 in 2 FULL   13/1000 mixed        5.0s ago  1460    10    30      6    15       4      14
    tcp   192.0.2.1:443                             0/4096    0/1000 adaptive, on 0.3s ago  1460    10 1.00M   200K  500K       2       7
    tcp   198.51.100.1:8080 (VLAN 10.20)         no socket    9/1000 adaptive, on        -     -     -     0      0     0       0       0
    ");
}

#[test]
fn the_addresses_are_shown_beneath() {
    insta::assert_snapshot!(table(Some(&known()), true), @r"
    Proto Local Address                       Accept queue Half-open Cookies        Learnt   MSS Scale  Sent Resent Valid Expired Invalid
    tcp6  [::1]:22%eth0                              0/128    0/1000 adaptive, on        -     -     -     0      0     0       0       0
    tcp46 [::]:80                                    0/511    5/1000 mixed               -     -     -     0      0     0       0       0
            192.0.2.2:80                                      0/1000 never               -     -     -     0      0     0       0       0
            [2001:db8::1]:80                                  5/1000 adaptive, on        -     -     -     0      0     0       0       0
    tcp   0.0.0.0:443                    132/256 in 2 FULL   13/1000 mixed        5.0s ago  1460    10    30      6    15       4      14
            192.0.2.2:443                                    12/1000 adaptive, on 5.0s ago  1460    10    10      2     5       2       7
            192.0.2.3:443 (VLAN 10)                           1/1000 always        90s ago  1460     -    20      4    10       2       7
    tcp   192.0.2.1:443                             0/4096    0/1000 adaptive, on 0.3s ago  1460    10 1.00M   200K  500K       2       7
            192.0.2.1:443                                     0/1000 adaptive, on 0.3s ago  1460    10 1.00M   200K  500K       2       7
    tcp   198.51.100.1:8080 (VLAN 10.20)         no socket    9/1000 adaptive, on        -     -     -     0      0     0       0       0
    ");
}

#[test]
fn without_a_tracker_the_sockets_are_left() {
    insta::assert_snapshot!(table(None, true), @r"
    Proto Local Address      Accept queue
    tcp6  [::1]:22%eth0             0/128
    tcp46 [::]:80                   0/511
    tcp   0.0.0.0:443   132/256 in 2 FULL
    tcp   192.0.2.1:443            0/4096
    ");
    let mut out = Vec::new();
    Listeners::new(&sockets()[4..], None)
        .json(&mut out, &samples::names())
        .unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
    [
      {
        "family": "ipv6",
        "address": "::1",
        "port": 22,
        "interface": "eth0",
        "dual_stack": false,
        "sockets": 1,
        "full": 0,
        "accept_queue": 0,
        "backlog": 128,
        "addresses": []
      }
    ]
    "#);
}

#[test]
fn limits_and_modes_that_are_none_are_not_shown() {
    let known = Known {
        limit: 0,
        cookies: None,
        listeners: Vec::new(),
        half_open: HashMap::new(),
        ..known()
    };
    let text = table(Some(&known), false);
    assert!(
        !text.contains("/1000") && !text.contains("adaptive"),
        "{text}"
    );
}

#[test]
fn scripts_get_the_same() {
    let list = Listeners::new(&sockets()[2..4], Some(&known()));
    let (mut lines, mut document, mut csv) = (Vec::new(), Vec::new(), Vec::new());
    list.ndjson(&mut lines, &samples::names()).unwrap();
    list.json(&mut document, &samples::names()).unwrap();
    list.csv(&mut csv, &samples::names(), true).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let parsed: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let document: Vec<serde_json::Value> = serde_json::from_slice(&document).unwrap();
    assert_eq!(parsed, document);
    insta::assert_snapshot!(serde_json::to_string_pretty(&parsed[0]).unwrap(), @r#"
    {
      "accept_queue": 0,
      "address": "::",
      "addresses": [
        {
          "address": "192.0.2.2",
          "answering": null,
          "cookies": "never",
          "cookies_expired": 0,
          "cookies_invalid": 0,
          "cookies_retransmitted": 0,
          "cookies_sent": 0,
          "cookies_valid": 0,
          "half_open": 0,
          "learnt_ms": null,
          "limit": 1000,
          "mss": null,
          "scale": null,
          "zone": 0
        },
        {
          "address": "2001:db8::1",
          "answering": true,
          "cookies": "adaptive",
          "cookies_expired": 0,
          "cookies_invalid": 0,
          "cookies_retransmitted": 0,
          "cookies_sent": 0,
          "cookies_valid": 0,
          "half_open": 5,
          "learnt_ms": null,
          "limit": 1000,
          "mss": null,
          "scale": null,
          "zone": 0
        }
      ],
      "answering": null,
      "backlog": 511,
      "cookies": "mixed",
      "cookies_expired": 0,
      "cookies_invalid": 0,
      "cookies_retransmitted": 0,
      "cookies_sent": 0,
      "cookies_valid": 0,
      "dual_stack": true,
      "family": "ipv6",
      "full": 0,
      "half_open": 5,
      "interface": null,
      "learnt_ms": null,
      "limit": 1000,
      "mss": null,
      "port": 80,
      "scale": null,
      "sockets": 1
    }
    "#);
    let csv = String::from_utf8(csv).unwrap();
    let columns = formats::HEADER.split(',').count();
    for line in csv.lines() {
        assert_eq!(line.split(',').count(), columns, "{line}");
    }
    insta::assert_snapshot!(csv, @r"
    family,address,port,interface,dual_stack,sockets,full,accept_queue,backlog,half_open,limit,cookies,answering,learnt_ms,mss,scale,cookies_sent,cookies_valid,cookies_invalid,zone,bound,cookies_expired,cookies_retransmitted
    ipv6,::,80,,true,1,0,0,511,5,1000,mixed,,,,,0,0,0,,,0,0
    ipv4,192.0.2.2,80,,,,,,,0,1000,never,,,,,0,0,0,0,::,0,0
    ipv6,2001:db8::1,80,,,,,,,5,1000,adaptive,true,,,,0,0,0,0,::,0,0
    ipv4,192.0.2.1,443,,false,1,0,0,4096,0,1000,adaptive,true,301,1460,10,1000000,500000,7,,,2,200000
    ipv4,192.0.2.1,443,,,,,,,0,1000,adaptive,true,301,1460,10,1000000,500000,7,0,192.0.2.1,2,200000
    ipv4,192.0.2.2,443,,false,0,0,,,12,1000,adaptive,true,5003,1460,10,10,5,7,0,,2,2
    ipv4,192.0.2.3,443,,false,0,0,,,1,1000,always,,90001,1460,,20,10,7,10,,2,4
    ipv4,198.51.100.1,8080,,false,0,0,,,9,1000,adaptive,true,,,,0,0,0,1310730,,0,0
    ");
}

#[test]
fn a_scan_does_not_fill_the_screen() {
    let half_open = (1..=100).map(|port| (place("192.0.2.9", port, 0), 1));
    let known = Known {
        half_open: half_open.collect(),
        ..known()
    };
    let mut out = Vec::new();
    let list = Listeners::new(&[], Some(&known));
    list.table(&mut out, &Names::default(), true).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 22, "{text}");
    assert!(
        text.ends_with("… and 84 more that no socket here has\n"),
        "{text}"
    );
}
