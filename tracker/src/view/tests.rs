//! What the formats look like, on flows in every state.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::Value;
use tracker_common::{
    abi::{INITIATOR, RESPONDER, Zone},
    tcp::State,
    time::ticks_from_ms,
};

use super::{
    Clock, Fit, Listing, LocalAddresses, Row, Table,
    samples::{Sample, clock, live, names, now_ns, samples},
};
use crate::cli::ListFormat;

fn local() -> LocalAddresses {
    LocalAddresses::new(["192.0.2.1", "2001:db8::1"].map(|addr| addr.parse::<IpAddr>().unwrap()))
}

fn listing(format: ListFormat, samples: &[Sample]) -> String {
    let (mut out, names, clock) = (Vec::new(), names(), clock());
    let mut listing = Listing::begin(format, &mut out, &names, local(), false).unwrap();
    for sample in samples {
        if let Some(row) = Row::new(sample.family, &sample.key, &sample.flow, &clock) {
            listing.row(&row).unwrap();
        }
    }
    listing.end().unwrap();
    String::from_utf8(out).unwrap()
}

fn table(samples: &[Sample], local: LocalAddresses, colours: bool, fit: Fit) -> String {
    let (mut out, clock) = (Vec::new(), clock());
    let mut table = Table::new(local, colours);
    for sample in samples {
        table.push(&Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap());
    }
    table.write(&mut out, fit).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn on_a_host_the_local_end_stands_first() {
    insta::assert_snapshot!(listing(ListFormat::Table, &samples()), @r"
    Proto Local/Initiator   Foreign/Responder            VLAN      State       Peer State  Packets Bytes Timer
    tcp   192.0.2.1:443     198.51.100.9:40001           -         LISTEN      SYN_SENT          1    60 syn_sent (118s/3)
    tcp   192.0.2.1:443     198.51.100.9:40002           -         SYN_RECV    SYN_SENT          1    60 syn_received (58s/2)
    tcp   192.0.2.1:443     198.51.100.9:40003           -         ESTABLISHED ESTABLISHED     321 32060 established (4d23h/0)
    tcp   192.0.2.1:443     198.51.100.9:40003           10        ESTABLISHED ESTABLISHED       1    60 established (4d23h/0)
    tcp   192.0.2.1:443     198.51.100.9:40003           100.7     ESTABLISHED ESTABLISHED       1    60 established (4d23h/0)
    tcp   192.0.2.1:443     198.51.100.9:40004           -         ESTABLISHED FIN_WAIT1         1    60 fin_wait (118s/0)
    tcp   192.0.2.1:443     198.51.100.9:40005           -         CLOSE_WAIT  FIN_WAIT2         1    60 half_closed (4m59s/0)
    tcp   192.0.2.1:443     198.51.100.9:40006           -         CLOSING     CLOSING           1    60 last_ack (28s/0)
    tcp   192.0.2.1:443     198.51.100.9:40007           -         LAST_ACK    TIME_WAIT         1    60 time_wait (118s/0)
    tcp   192.0.2.1:443     198.51.100.9:40008           -         CLOSE       TIME_WAIT         1    60 time_wait (118s/0)
    tcp   192.0.2.1:443     198.51.100.9:40009           -         CLOSE       CLOSE             1    60 closed (8.9s/0)
    tcp   192.0.2.1:55000   203.0.113.5:22               -         ESTABLISHED ESTABLISHED       1    60 established (4d23h/0)
    tcp6  [2001:db8::1]:443 [2001:db8::9]:50000          -         ESTABLISHED ESTABLISHED       5   460 established (4d23h/0)
    tcp6  [fe80::1]:50000   [2001:db8:1:2:3:4:5:6]:65535 -         SYN_SENT    SYN_RECV          1    60 syn_received (58s/0)
    ");
}

#[test]
fn where_no_end_is_local_the_initiator_stands_first() {
    insta::assert_snapshot!(table(&samples()[..4], LocalAddresses::default(), false, Fit::default()), @r"
    Proto Initiator          Responder      State       Peer State  Packets Bytes Timer
    tcp   192.0.2.1:55000    203.0.113.5:22 ESTABLISHED ESTABLISHED       1    60 established (4d23h/0)
    tcp   198.51.100.9:40001 192.0.2.1:443  SYN_SENT    LISTEN            1    60 syn_sent (118s/3)
    tcp   198.51.100.9:40002 192.0.2.1:443  SYN_SENT    SYN_RECV          1    60 syn_received (58s/2)
    tcp   198.51.100.9:40003 192.0.2.1:443  ESTABLISHED ESTABLISHED     321 32060 established (4d23h/0)
    ");
}

#[test]
fn no_flows_are_a_header() {
    insta::assert_snapshot!(listing(ListFormat::Table, &[]), @"Proto Local Address Foreign Address State       Peer State  Packets Bytes Timer");
    assert_eq!(listing(ListFormat::Json, &[]), "[]\n");
    assert_eq!(listing(ListFormat::Ndjson, &[]), "");
}

#[test]
fn a_terminal_of_80_columns_and_few_lines_gets_what_fits() {
    let fit = Fit {
        width: Some(80),
        height: Some(7),
    };
    insta::assert_snapshot!(table(&samples()[..10], local(), false, fit), @r"
    Proto Local Address Foreign Address    State       Peer State  Bytes Timer
    tcp   192.0.2.1:443 198.51.100.9:40001 LISTEN      SYN_SENT       60 (118s/3)
    tcp   192.0.2.1:443 198.51.100.9:40002 SYN_RECV    SYN_SENT       60 (58s/2)
    tcp   192.0.2.1:443 198.51.100.9:40003 ESTABLISHED ESTABLISHED 32060 (4d23h/0)
    tcp   192.0.2.1:443 198.51.100.9:40004 ESTABLISHED FIN_WAIT1      60 (118s/0)
    tcp   192.0.2.1:443 198.51.100.9:40005 CLOSE_WAIT  FIN_WAIT2      60 (4m59s/0)
    … and 5 more
    ");
}

#[test]
fn long_addresses_lose_their_middle_on_a_narrow_terminal() {
    let fit = Fit {
        width: Some(80),
        height: None,
    };
    let text = table(&samples()[12..], local(), false, fit);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    insta::assert_snapshot!(text, @r"
    Proto Local/Initiator   Foreign/Responder      State       Peer State  Timer
    tcp6  [2001:db8::1]:443 [2001:db8::9]:50000    ESTABLISHED ESTABLISHED (4d23h/0)
    tcp6  [fe80::1]:50000   [2001:db8:…:5:6]:65535 SYN_SENT    SYN_RECV    (58s/0)
    ");
}

#[test]
fn a_very_narrow_terminal_gets_both_ends_and_their_states() {
    let fit = Fit {
        width: Some(60),
        height: None,
    };
    let text = table(&samples()[..3], local(), false, fit);
    let text: String = text
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    assert!(
        text.lines().all(|line| line.chars().count() <= 60),
        "{text}"
    );
    insta::assert_snapshot!(text, @r"
    Proto Local Address Foreign Address State       Peer State
    tcp   192.0.2.1:443 198.51.…9:40001 LISTEN      SYN_SENT
    tcp   192.0.2.1:443 198.51.…9:40002 SYN_RECV    SYN_SENT
    tcp   192.0.2.1:443 198.51.…9:40003 ESTABLISHED ESTABLISHED
    ");
}

#[test]
fn on_a_screen_what_is_over_comes_last_and_in_a_list_it_does_not() {
    let over = |line: &str| line.contains("time_wait") || line.contains(" closed (");
    let screen = Fit {
        width: None,
        height: Some(100),
    };
    let is_over = |text: &str| text.lines().skip(1).map(over).collect::<Vec<bool>>();
    let listed = is_over(&table(&samples(), local(), false, Fit::default()));
    let mut shown = listed.clone();
    shown.sort_unstable();
    assert_ne!(listed, shown);
    assert_eq!(is_over(&table(&samples(), local(), false, screen)), shown);
}

#[test]
fn without_room_for_a_flow_there_is_still_the_count() {
    let fit = Fit {
        width: None,
        height: Some(2),
    };
    assert!(table(&samples(), local(), false, fit).ends_with("\n… and 14 more\n"));
}

#[test]
fn colours_are_around_the_states_alone() {
    let coloured = table(&samples(), local(), true, Fit::default());
    assert!(coloured.contains("\x1b[33mSYN_RECV\x1b[0m"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').unwrap().1;
    }
    plain += rest;
    assert_eq!(plain, table(&samples(), local(), false, Fit::default()));
}

#[test]
fn grep_finds_a_half_open_flow_whichever_end_waits() {
    for states in [
        [State::SynSent, State::SynReceived],
        [State::SynReceived, State::SynSent],
    ] {
        for local in [local(), LocalAddresses::default()] {
            let sample = Sample::new("198.51.100.9:1", "192.0.2.1:2", states);
            let text = table(&[sample], local, false, Fit::default());
            assert!(text.lines().nth(1).unwrap().contains("SYN_RECV"), "{text}");
        }
    }
}

#[test]
fn an_object_has_the_promised_fields() {
    let samples = samples();
    let picked = [0, 2, 3, 11, 13].map(|index| &samples[index]);
    let text: String = picked
        .iter()
        .map(|sample| {
            let value: Value = serde_json::from_str(&object(sample)).unwrap();
            format!("{value:#}\n")
        })
        .collect();
    insta::assert_snapshot!(text, @r#"
    {
      "age_ms": 2000,
      "disproved": 0,
      "expires_ms": 118996,
      "family": "ipv4",
      "guessed": false,
      "handshake_rtt_us": null,
      "id": "a58bfecf00000007",
      "idle_ms": 1002,
      "initiator": {
        "addr": "198.51.100.9",
        "bytes": 60,
        "interface": "eth0",
        "packets": 1,
        "port": 40001,
        "state": "SYN_SENT",
        "vlan": null,
        "vlan_inner": null
      },
      "interface": "eth0",
      "liberal": false,
      "origin": "handshake",
      "reset_pending": false,
      "responder": {
        "addr": "192.0.2.1",
        "bytes": 0,
        "interface": "eth0",
        "packets": 0,
        "port": 443,
        "state": "LISTEN",
        "vlan": null,
        "vlan_inner": null
      },
      "rule": null,
      "syn_retransmits": 3,
      "synack_retransmits": 0,
      "timer": "syn_sent",
      "vlan": null,
      "vlan_inner": null,
      "zone": 0
    }
    {
      "age_ms": 2000,
      "disproved": 0,
      "expires_ms": 431998996,
      "family": "ipv4",
      "guessed": false,
      "handshake_rtt_us": 1500,
      "id": "df55ca3b00000007",
      "idle_ms": 1002,
      "initiator": {
        "addr": "198.51.100.9",
        "bytes": 2060,
        "interface": "eth0",
        "packets": 21,
        "port": 40003,
        "state": "ESTABLISHED",
        "vlan": null,
        "vlan_inner": null
      },
      "interface": "eth0",
      "liberal": false,
      "origin": "handshake",
      "reset_pending": false,
      "responder": {
        "addr": "192.0.2.1",
        "bytes": 30000,
        "interface": "eth0",
        "packets": 300,
        "port": 443,
        "state": "ESTABLISHED",
        "vlan": null,
        "vlan_inner": null
      },
      "rule": null,
      "syn_retransmits": 0,
      "synack_retransmits": 0,
      "timer": "established",
      "vlan": null,
      "vlan_inner": null,
      "zone": 0
    }
    {
      "age_ms": 2000,
      "disproved": 0,
      "expires_ms": 431998996,
      "family": "ipv4",
      "guessed": true,
      "handshake_rtt_us": null,
      "id": "cef7c33d00000007",
      "idle_ms": 1002,
      "initiator": {
        "addr": "192.0.2.1",
        "bytes": 60,
        "interface": "eth0",
        "packets": 1,
        "port": 55000,
        "state": "ESTABLISHED",
        "vlan": null,
        "vlan_inner": null
      },
      "interface": "eth0",
      "liberal": false,
      "origin": "pickup",
      "reset_pending": false,
      "responder": {
        "addr": "203.0.113.5",
        "bytes": 0,
        "interface": "eth0",
        "packets": 0,
        "port": 22,
        "state": "ESTABLISHED",
        "vlan": null,
        "vlan_inner": null
      },
      "rule": null,
      "syn_retransmits": 0,
      "synack_retransmits": 0,
      "timer": "established",
      "vlan": null,
      "vlan_inner": null,
      "zone": 0
    }
    {
      "age_ms": 2000,
      "disproved": 0,
      "expires_ms": 431998996,
      "family": "ipv4",
      "guessed": false,
      "handshake_rtt_us": null,
      "id": "02f3415500000007",
      "idle_ms": 1002,
      "initiator": {
        "addr": "198.51.100.9",
        "bytes": 60,
        "interface": "eth0",
        "packets": 1,
        "port": 40003,
        "state": "ESTABLISHED",
        "vlan": 100,
        "vlan_inner": 7
      },
      "interface": "eth0",
      "liberal": false,
      "origin": "handshake",
      "reset_pending": false,
      "responder": {
        "addr": "192.0.2.1",
        "bytes": 0,
        "interface": "eth1",
        "packets": 0,
        "port": 443,
        "state": "ESTABLISHED",
        "vlan": 100,
        "vlan_inner": 7
      },
      "rule": null,
      "syn_retransmits": 0,
      "synack_retransmits": 0,
      "timer": "established",
      "vlan": 100,
      "vlan_inner": 7,
      "zone": 458852
    }
    {
      "age_ms": 2000,
      "disproved": 0,
      "expires_ms": 58997,
      "family": "ipv6",
      "guessed": false,
      "handshake_rtt_us": null,
      "id": "d2bb24a100000007",
      "idle_ms": 1002,
      "initiator": {
        "addr": "fe80::1",
        "bytes": 60,
        "interface": "eth0",
        "packets": 1,
        "port": 50000,
        "state": "SYN_SENT",
        "vlan": null,
        "vlan_inner": null
      },
      "interface": "eth0",
      "liberal": false,
      "origin": "handshake",
      "reset_pending": false,
      "responder": {
        "addr": "2001:db8:1:2:3:4:5:6",
        "bytes": 0,
        "interface": "eth0",
        "packets": 0,
        "port": 65535,
        "state": "SYN_RECEIVED",
        "vlan": null,
        "vlan_inner": null
      },
      "rule": null,
      "syn_retransmits": 0,
      "synack_retransmits": 0,
      "timer": "syn_received",
      "vlan": null,
      "vlan_inner": null,
      "zone": 0
    }
    "#);
}

#[test]
fn csv_has_a_header_and_as_many_fields_in_each_line() {
    let text = listing(ListFormat::Csv, &samples());
    let columns = text.lines().next().unwrap().split(',').count();
    assert!(
        text.lines().all(|line| line.split(',').count() == columns),
        "{text}"
    );
    insta::assert_snapshot!(text, @r"
    family,vlan,vlan_inner,interface,initiator_addr,initiator_port,initiator_state,initiator_packets,initiator_bytes,responder_addr,responder_port,responder_state,responder_packets,responder_bytes,age_ms,idle_ms,expires_ms,syn_retransmits,synack_retransmits,origin,zone,timer,guessed,disproved,handshake_rtt_us,id,liberal,reset_pending,rule
    ipv4,,,eth0,198.51.100.9,40001,SYN_SENT,1,60,192.0.2.1,443,LISTEN,0,0,2000,1002,118996,3,0,handshake,0,syn_sent,false,0,,a58bfecf00000007,false,false,
    ipv4,,,eth0,198.51.100.9,40002,SYN_SENT,1,60,192.0.2.1,443,SYN_RECEIVED,0,0,2000,1002,58997,0,2,handshake,0,syn_received,false,0,,c270e48300000007,false,false,
    ipv4,,,eth0,198.51.100.9,40003,ESTABLISHED,21,2060,192.0.2.1,443,ESTABLISHED,300,30000,2000,1002,431998996,0,0,handshake,0,established,false,0,1500,df55ca3b00000007,false,false,
    ipv4,,,eth0,192.0.2.1,55000,ESTABLISHED,1,60,203.0.113.5,22,ESTABLISHED,0,0,2000,1002,431998996,0,0,pickup,0,established,true,0,,cef7c33d00000007,false,false,
    ipv4,,,eth0,198.51.100.9,40004,FIN_WAIT_1,1,60,192.0.2.1,443,ESTABLISHED,0,0,2000,1002,118996,0,0,handshake,0,fin_wait,false,0,,1513822f00000007,false,false,
    ipv4,,,eth0,198.51.100.9,40005,FIN_WAIT_2,1,60,192.0.2.1,443,CLOSE_WAIT,0,0,2000,600003,299993,0,0,handshake,0,half_closed,false,0,,31f867e700000007,false,false,
    ipv4,,,eth0,198.51.100.9,40006,CLOSING,1,60,192.0.2.1,443,CLOSING,0,0,2000,1002,28995,0,0,handshake,0,last_ack,false,0,,4edd4da300000007,false,false,
    ipv4,,,eth0,198.51.100.9,40007,TIME_WAIT,1,60,192.0.2.1,443,LAST_ACK,0,0,2000,1002,118996,0,0,handshake,0,time_wait,false,0,,6bc2335b00000007,false,false,
    ipv4,,,eth0,198.51.100.9,40008,TIME_WAIT,1,60,192.0.2.1,443,CLOSED,0,0,2000,1002,118996,0,0,handshake,0,time_wait,false,0,,a17feb4f00000007,false,false,
    ipv4,,,eth0,198.51.100.9,40009,CLOSED,1,60,192.0.2.1,443,CLOSED,0,0,2000,1002,8996,0,0,handshake,0,closed,false,0,,be64d10700000007,false,false,
    ipv4,10,,eth0,198.51.100.9,40003,ESTABLISHED,1,60,192.0.2.1,443,ESTABLISHED,0,0,2000,1002,431998996,0,0,handshake,10,established,false,0,,5b6776cf00000007,false,false,
    ipv4,100,7,eth0,198.51.100.9,40003,ESTABLISHED,1,60,192.0.2.1,443,ESTABLISHED,0,0,2000,1002,431998996,0,0,handshake,458852,established,false,0,,02f3415500000007,false,false,
    ipv6,,,eth0,2001:db8::9,50000,ESTABLISHED,1,60,2001:db8::1,443,ESTABLISHED,4,400,2000,1002,431998996,0,0,handshake,0,established,false,0,,2351c2ad00000007,false,false,
    ipv6,,,eth0,fe80::1,50000,SYN_SENT,1,60,2001:db8:1:2:3:4:5:6,65535,SYN_RECEIVED,0,0,2000,1002,58997,0,0,handshake,0,syn_received,false,0,,d2bb24a100000007,false,false,
    ");
}

/// Time-outs are rounded up to ticks; nobody shall see the rounding.
#[test]
fn no_flow_expires_later_than_its_time_out() {
    let states = [State::Established, State::Established];
    for (ms, timer) in [(3000, "3s"), (1_000_000, "1000s")] {
        let mut live = live();
        live.timeouts = [[ticks_from_ms(ms); 16]; _];
        let clock = Clock::new(now_ns(), live);
        let sample = Sample::new("10.0.0.1:1", "10.0.0.2:2", states).idle(0);
        let row = Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap();
        assert!(
            (ms - 8..=ms).contains(&row.expires_ms()),
            "{timer}: {}",
            row.expires_ms()
        );
    }
}

#[test]
fn blank_dying_and_expired_elements_are_no_flows() {
    let clock = clock();
    let mut sample = Sample::new("10.0.0.1:1", "10.0.0.2:2", [State::TimeWait, State::Closed]);
    assert!(Row::new(sample.family, &sample.key, &sample.flow, &clock).is_some());
    let old = Sample {
        flow: sample.flow,
        ..sample
    }
    .idle(121_000);
    assert!(Row::new(old.family, &old.key, &old.flow, &clock).is_none());
    sample = Sample::new(
        "10.0.0.1:1",
        "10.0.0.2:2",
        [State::Established, State::Established],
    );
    sample.flow.tag = 0;
    assert!(Row::new(sample.family, &sample.key, &sample.flow, &clock).is_none());
}

fn object(sample: &Sample) -> String {
    listing(ListFormat::Ndjson, std::slice::from_ref(sample))
}

fn state() -> impl Strategy<Value = State> {
    (0..State::COUNT).prop_map(|index| State::ALL[index])
}

prop_compose! {
    fn flow()(
        v6: bool, from: u128, to: u128, ports: [u16; 2], zone: u32,
        states in [state(), state()], packets in 0..50_u32, retransmits: [u8; 2],
        rtt: Option<u32>, pickup: bool,
    ) -> Sample {
        let ip = |n: u128| if v6 {
            format!("[{}]", std::net::Ipv6Addr::from_bits(n))
        } else {
            std::net::Ipv4Addr::from_bits(n as u32).to_string()
        };
        let [a, b] = [format!("{}:{}", ip(from), ports[0]), format!("{}:{}", ip(to), ports[1])];
        let [outer, inner] = [zone as u16 & 0xfff, (zone >> 16) as u16 & 0xfff];
        let mut sample = Sample::tagged(&a, &b, states, outer, inner)
            .packets(INITIATOR, packets)
            .packets(RESPONDER, packets / 2)
            // More SYN-ACKs than SYNs end a flow.
            .retransmits(retransmits[0], retransmits[1].min(retransmits[0]));
        assert_eq!(Zone::of_vids(outer, inner).0, u32::from(outer) | u32::from(inner) << 16);
        sample.flow.first = sample.flow.last;
        if let Some(micros) = rtt { sample = sample.rtt(micros); }
        if pickup { sample = sample.picked_up(); }
        sample
    }
}

proptest! {
    /// The three machine formats are one: objects of the array, lines of the
    /// stream, and what a general JSON library reads out of them.
    #[test]
    fn ndjson_lines_are_the_objects_of_the_array(samples in prop::collection::vec(flow(), 0..20)) {
        let array: Vec<Value> = serde_json::from_str(&listing(ListFormat::Json, &samples)).unwrap();
        let lines: Vec<Value> = listing(ListFormat::Ndjson, &samples)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        prop_assert_eq!(&array, &lines);
        prop_assert_eq!(lines.len(), samples.len());
    }

    /// Addresses and ports come back out of the key, whichever side is low.
    #[test]
    fn ends_come_back_out_of_the_key(from: [u8; 4], to: [u8; 4], a: u16, b: u16) {
        let at = |octets, port| format!("{}:{port}", std::net::Ipv4Addr::from(octets));
        let states = [State::SynSent, State::Listen];
        let sample = Sample::new(&at(from, a), &at(to, b), states);
        let value: Value = serde_json::from_str(&object(&sample)).unwrap();
        for (end, octets, port) in [("initiator", from, a), ("responder", to, b)] {
            prop_assert_eq!(&value[end]["addr"], &Value::from(std::net::Ipv4Addr::from(octets).to_string()));
            prop_assert_eq!(&value[end]["port"], &Value::from(port));
        }
        prop_assert_eq!(&value["initiator"]["state"], "SYN_SENT");
    }
}
