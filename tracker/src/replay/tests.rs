//! Packets of every link type, and a capture on its way through the table.

use anyhow::Result;
use etherparse::PacketBuilder;
use tracker_common::{
    abi::{Cause, Family, Live, Role},
    parse::{self, Bytes as _, Packet},
    reason::Reason,
    tcp::{State, timeout::Profile},
};

use super::{
    capture::{Direction, Record},
    *,
};

const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([198, 51, 100, 1], 80);

/// A segment of an IPv4 connection as a datagram.
fn datagram(
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    seq: u32,
    ack: Option<u32>,
    flags: &str,
    data: &[u8],
) -> Vec<u8> {
    let mut builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, seq, 1000);
    if let Some(ack) = ack {
        builder = builder.ack(ack);
    }
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'F' => builder.fin(),
            'R' => builder.rst(),
            _ => builder.psh(),
        };
    }
    let mut out = Vec::new();
    builder.write(&mut out, data).unwrap();
    out
}

fn v6() -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ipv6([1; 16], [2; 16], 64)
        .tcp(5, 6, 7, 8)
        .syn()
        .write(&mut out, &[])
        .unwrap();
    out
}

fn syn() -> Vec<u8> {
    datagram(CLIENT, SERVER, 100, None, "S", &[])
}

fn record(link: u32, data: &[u8]) -> Record<'_> {
    Record {
        offset: 0,
        time_ns: Some(0),
        link: Link(link),
        interface: None,
        direction: Direction::Unknown,
        original: data.len() as u32,
        data,
    }
}

fn read(record: &Record<'_>) -> Result<Packet, Reason> {
    let mut packet = Packet::default();
    parse::ethernet(&frame(record).unwrap().frame, 0, &mut packet).map(|()| packet)
}

/// Linux cooked header of either version.
fn cooked(second: bool, kind: u8, hardware: u16, protocol: u16) -> Vec<u8> {
    let hardware = hardware.to_be_bytes();
    let protocol = protocol.to_be_bytes();
    if second {
        let ifindex = 7_u32.to_be_bytes();
        let rest = [kind, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        [&protocol[..], &[0, 0], &ifindex, &hardware, &rest].concat()
    } else {
        let rest = [0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        [&[0, kind][..], &hardware, &rest, &protocol].concat()
    }
}

#[test]
fn a_segment_is_the_same_behind_every_link_header() {
    let ethernet = |ethertype: u16| [&[0; 12][..], &ethertype.to_be_bytes()].concat();
    for (datagram, ethertype, families) in [
        (syn(), 0x0800, vec![2_u32]),
        (v6(), 0x86dd, vec![10, 24, 28, 30]),
    ] {
        let expected = read(&record(
            1,
            &[ethernet(ethertype), datagram.clone()].concat(),
        ))
        .unwrap();
        let mut variants: Vec<(u32, Vec<u8>)> = [12, 14, 101]
            .into_iter()
            .map(|link| (link, vec![]))
            .collect();
        variants.push((if ethertype == 0x0800 { 228 } else { 229 }, vec![]));
        for family in families {
            variants.push((0, family.to_le_bytes().to_vec()));
            variants.push((0, family.to_be_bytes().to_vec()));
            variants.push((108, family.to_be_bytes().to_vec()));
        }
        variants.push((113, cooked(false, 0, 1, ethertype)));
        variants.push((276, cooked(true, 0, 1, ethertype)));
        for (link, header) in variants {
            let data = [header, datagram.clone()].concat();
            let packet = read(&record(link, &data)).unwrap();
            assert_eq!(
                (packet.segment, packet.key(Default::default()), packet.bytes),
                (
                    expected.segment,
                    expected.key(Default::default()),
                    expected.bytes
                ),
                "link type {link}"
            );
        }
    }
}

#[test]
fn a_cooked_header_tells_direction_interface_and_tag() {
    let tag = [0x20, 9, 0x08, 0x00];
    for (link, second) in [(113, false), (276, true)] {
        for (kind, direction) in [
            (0, Direction::Inbound),
            (4, Direction::Outbound),
            (5, Direction::Unknown),
        ] {
            let data = [&cooked(second, kind, 1, 0x8100)[..], &tag, &syn()].concat();
            let record = record(link, &data);
            let heading = frame(&record).unwrap();
            assert_eq!(heading.direction, direction);
            assert_eq!(heading.ifindex, second.then_some(7));
            assert_eq!(read(&record).unwrap().outer, 9);
        }
        // On netlink the field is no protocol.
        let data = [cooked(second, 0, 824, 0x0800), syn()].concat();
        assert_eq!(read(&record(link, &data)), Err(Reason::NotIp));
    }
}

#[test]
fn what_is_no_ip_or_too_short_has_its_reason() {
    for (link, data, reason) in [
        (1, vec![0; 13], Reason::ShortEthernet),
        (101, vec![], Reason::ShortIp),
        (101, vec![0x50; 40], Reason::NotIp),
        (228, vec![0x60; 40], Reason::BadIpHeader),
        (0, vec![2, 0], Reason::ShortEthernet),
        (0, vec![7, 0, 0, 0, 0x45], Reason::NotIp),
        (113, vec![0; 15], Reason::ShortEthernet),
        (276, vec![0; 19], Reason::ShortEthernet),
        (113, vec![0; 16], Reason::NotIp),
    ] {
        assert_eq!(read(&record(link, &data)), Err(reason), "link type {link}");
    }
    assert_eq!(frame(&record(127, &[])), None);
}

/// A packet that was cut is judged by the length it had.
#[test]
fn a_cut_packet_keeps_its_length() {
    let whole = datagram(CLIENT, SERVER, 1, Some(1), "", &[0; 1000]);
    for link in [101, 113] {
        let header = if link == 113 {
            cooked(false, 0, 1, 0x0800)
        } else {
            vec![]
        };
        let data = [header.clone(), whole.clone()].concat();
        let kept = header.len() + 40;
        let cut = Record {
            data: &data[..kept],
            ..record(link, &data)
        };
        let frame = frame(&cut).unwrap().frame;
        assert!(frame.is_cut());
        assert_eq!(frame.length() as usize, 14 + whole.len());
        assert_eq!(read(&cut).unwrap().segment.payload, 1000);
        let mut written = Vec::new();
        frame.write(&mut written);
        assert_eq!(written[14..54], whole[..40]);
        assert_eq!(written.len(), 14 + whole.len());
        // Inside a header it cannot be judged, and inside the link's neither.
        for kept in [header.len() + 30, header.len() + 10, header.len() / 2] {
            let cut = Record {
                data: &data[..kept],
                ..cut
            };
            assert_eq!(read(&cut), Err(Reason::Unreachable), "{kept}");
        }
    }
}

fn live() -> Live {
    Live {
        capacity: 4,
        half_open_limit: 3,
        pickup_limit: 3,
        ..Live::observing(Profile::Linux)
    }
}

fn settings() -> Settings {
    Settings {
        live: live(),
        role: Role::Host,
        checksum: false,
    }
}

/// A replay that keeps what it says.
struct Run {
    replay: Replay,
    trace: Vec<u8>,
    ended: Vec<(Ended, u64)>,
}

impl Run {
    fn new(settings: Settings) -> Self {
        Self {
            replay: Replay::new(Table::new(settings), None),
            trace: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Lets a datagram pass at so many seconds.
    fn pass(&mut self, seconds: f64, datagram: &[u8]) -> Option<Reason> {
        let record = Record {
            time_ns: Some(1_000_000_000_000 + (seconds * 1e9) as u64),
            ..record(101, datagram)
        };
        let ended = &mut self.ended;
        let judged = self.replay.packet(&record, |over, at_ns| {
            ended.push((over, at_ns));
            Ok(())
        });
        let judged = judged.unwrap();
        trace::line(&mut self.trace, &judged).unwrap();
        judged.reason
    }

    fn text(&self) -> String {
        String::from_utf8(self.trace.clone()).unwrap()
    }
}

/// A connection from its SYN to its end.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        syn(),
        datagram(SERVER, CLIENT, 300, Some(101), "S", &[]),
        datagram(CLIENT, SERVER, 101, Some(301), "", &[]),
        datagram(CLIENT, SERVER, 101, Some(301), "P", &[0; 10]),
        datagram(SERVER, CLIENT, 301, Some(111), "F", &[]),
        datagram(CLIENT, SERVER, 111, Some(302), "F", &[]),
        datagram(SERVER, CLIENT, 302, Some(112), "", &[]),
    ]
}

#[test]
fn a_line_tells_what_a_packet_is_and_what_became_of_it() {
    let mut run = Run::new(settings());
    for (number, datagram) in conversation().iter().enumerate() {
        run.pass(number as f64 / 4.0, datagram);
    }
    run.pass(2.0, &datagram(CLIENT, SERVER, 9_999_999, None, "R", &[]));
    run.pass(2.0, &datagram(SERVER, CLIENT, 1, Some(1), "S", &[]));
    run.pass(2.0, &v6());
    run.pass(1_000.0, &[0x50; 30]);
    insta::assert_snapshot!(run.text(), @r"
    1 0.000000 192.0.2.1:40000 > 198.51.100.1:80 [S] seq 100 win 1000 len 0: accept flow_opened, SYN_SENT LISTEN
    2 0.250000 198.51.100.1:80 > 192.0.2.1:40000 [S.] seq 300 ack 101 win 1000 len 0: accept tracked, SYN_SENT SYN_RECV
    3 0.500000 192.0.2.1:40000 > 198.51.100.1:80 [.] seq 101 ack 301 win 1000 len 0: accept tracked, ESTABLISHED ESTABLISHED
    4 0.750000 192.0.2.1:40000 > 198.51.100.1:80 [P.] seq 101:111 ack 301 win 1000 len 10: accept tracked, ESTABLISHED ESTABLISHED
    5 1.000000 198.51.100.1:80 > 192.0.2.1:40000 [F.] seq 301 ack 111 win 1000 len 0: accept tracked, ESTABLISHED FIN_WAIT1
    6 1.250000 192.0.2.1:40000 > 198.51.100.1:80 [F.] seq 111 ack 302 win 1000 len 0: accept tracked, LAST_ACK FIN_WAIT2
    7 1.500000 198.51.100.1:80 > 192.0.2.1:40000 [.] seq 302 ack 112 win 1000 len 0: accept tracked, CLOSE TIME_WAIT
    8 2.000000 192.0.2.1:40000 > 198.51.100.1:80 [R] seq 9999999 win 1000 len 0: refuse reset_outside_window, CLOSE TIME_WAIT; an RST of the initiator has the sequence number 9999999, outside the responder's window, 112 to 1112 (RFC 5961 3)
    9 2.000000 198.51.100.1:80 > 192.0.2.1:40000 [S.] seq 1 ack 1 win 1000 len 0: note syn_ack_on_live, CLOSE TIME_WAIT
    10 2.000000 [101:101:101:101:101:101:101:101]:5 > [202:202:202:202:202:202:202:202]:6 [S] seq 7 win 8 len 0: accept flow_opened, SYN_SENT LISTEN
    11 1000.000000 30 octets: accept not_ip
    ");
}

#[test]
fn an_object_tells_the_same() {
    let mut replay = Replay::new(Table::new(settings()), None);
    let data = syn();
    let mut out = Vec::new();
    for (data, link) in [(&data, 101), (&data, 127), (&vec![0x50; 30], 101)] {
        let record = Record {
            offset: 24,
            time_ns: Some(1_700_000_000_123_456_789),
            ..record(link, data)
        };
        let judged = replay.packet(&record, |_, _| Ok(())).unwrap();
        trace::object(&mut out, &judged).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 21);
    }
    insta::assert_snapshot!(text, @r#"
    {"packet":1,"offset":24,"time":"2023-11-14T22:13:20.123456789Z","elapsed_ns":0,"length":40,"captured":40,"source":{"addr":"192.0.2.1","port":40000},"destination":{"addr":"198.51.100.1","port":80},"vlan":null,"vlan_inner":null,"flags":"S","seq":100,"ack":null,"window":1000,"payload":0,"class":"accept","reason":"flow_opened","initiator_state":"SYN_SENT","responder_state":"LISTEN","id":"d40fceeb00000001","why":null}
    {"packet":2,"offset":24,"time":"2023-11-14T22:13:20.123456789Z","elapsed_ns":0,"length":40,"captured":40,"source":null,"destination":null,"vlan":null,"vlan_inner":null,"flags":null,"seq":null,"ack":null,"window":null,"payload":null,"class":null,"reason":null,"initiator_state":null,"responder_state":null,"id":null,"why":null}
    {"packet":3,"offset":24,"time":"2023-11-14T22:13:20.123456789Z","elapsed_ns":0,"length":30,"captured":30,"source":null,"destination":null,"vlan":null,"vlan_inner":null,"flags":null,"seq":null,"ack":null,"window":null,"payload":null,"class":"accept","reason":"not_ip","initiator_state":null,"responder_state":null,"id":null,"why":null}
    "#);
}

#[test]
fn time_that_goes_by_ends_a_flow_and_a_new_syn_replaces_it() {
    let mut run = Run::new(settings());
    assert_eq!(run.pass(0.0, &syn()), Some(Reason::FlowOpened));
    // An RST ends it; its ports are free at once.
    let refusal = datagram(SERVER, CLIENT, 0, Some(101), "R", &[]);
    assert_eq!(run.pass(1.0, &refusal), Some(Reason::ResetClosed));
    let again = datagram(CLIENT, SERVER, 5000, None, "S", &[]);
    assert_eq!(run.pass(2.0, &again), Some(Reason::FlowReopened));
    // The next one waits for 120 s, and is found over when another comes.
    let later = datagram(CLIENT, SERVER, 9000, None, "S", &[]);
    assert_eq!(run.pass(500.0, &later), Some(Reason::FlowReopened));
    let ended: Vec<_> = run
        .ended
        .iter()
        .map(|(over, at_ns)| {
            let seconds = (at_ns - 1_000_000_000_000) / 1_000_000_000;
            (over.cause, over.entry.flow.states(), seconds)
        })
        .collect();
    assert_eq!(
        ended,
        [
            (Cause::Replaced, [State::Closed; 2], 2),
            (Cause::Expired, [State::SynSent, State::Listen], 122),
        ]
    );
    assert_eq!(run.replay.table().count(Family::V4), 1);
}

#[test]
fn in_the_end_all_flows_expire_in_the_order_of_their_times() {
    let mut run = Run::new(settings());
    for (number, datagram) in conversation().iter().enumerate() {
        run.pass(number as f64, datagram);
    }
    let other = ([203, 0, 113, 1], 1);
    run.pass(7.0, &datagram(other, SERVER, 1, None, "S", &[]));
    run.pass(7.0, &datagram(SERVER, other, 1, Some(2), "S", &[]));
    let mut ended = Vec::new();
    run.replay
        .run_out(|over, at_ns| {
            let seconds = (at_ns - 1_000_000_000_000) / 1_000_000_000;
            ended.push((over.cause, over.entry.flow.states(), seconds));
            Ok(())
        })
        .unwrap();
    assert_eq!(
        ended,
        [
            (Cause::Expired, [State::SynSent, State::SynReceived], 67),
            (Cause::Expired, [State::Closed, State::TimeWait], 126),
        ]
    );
    assert!(run.replay.table().is_empty());
}

/// A table that is nearly full is swept, so that flows which are long over do
/// not keep others out.
#[test]
fn flows_that_are_over_make_room() {
    let mut run = Run::new(settings());
    let syn = |host: u8| datagram(([192, 0, 2, host], 1), SERVER, 1, None, "S", &[]);
    for host in 0..3 {
        assert_eq!(run.pass(0.0, &syn(host)), Some(Reason::FlowOpened));
    }
    assert_eq!(run.pass(1.0, &syn(3)), Some(Reason::HalfOpenLimit));
    assert_eq!(run.pass(200.0, &syn(4)), Some(Reason::FlowOpened));
    assert_eq!(run.ended.len(), 3);
    assert_eq!(run.replay.table().half_open(), 1);
}

/// Ticks go round in 208 days.
#[test]
fn a_capture_may_pause_for_longer_than_the_clock_counts() {
    let mut run = Run::new(settings());
    let mut segments = conversation();
    segments.truncate(4);
    for segment in &segments {
        run.pass(0.0, segment);
    }
    const DAY: f64 = 86_400.0;
    let [.., data] = &segments[..] else {
        unreachable!("a conversation has segments")
    };
    assert_eq!(run.pass(208.5 * DAY, data), Some(Reason::FlowPickedUp));
    assert_eq!(run.ended.len(), 1);
    assert_eq!(run.ended[0].0.cause, Cause::Expired);
}

#[test]
fn another_capture_begins_with_nothing() {
    let mut run = Run::new(settings());
    run.pass(5.0, &syn());
    run.pass(4.0, &syn());
    run.replay.begin().unwrap();
    assert!(run.replay.table().is_empty());
    run.pass(1.0, &syn());
    run.pass(0.0, &syn());
    let stats = run.replay.stats();
    assert_eq!((stats.packets, stats.backwards), (4, 2));
    assert_eq!(stats.reasons[Reason::FlowOpened as usize], 2);
    assert_eq!(stats.reasons[Reason::SynRetransmit as usize], 2);
}

#[test]
fn checksums_are_verified_where_they_should_be() {
    let mut wrong = syn();
    *wrong.last_mut().unwrap() ^= 1;
    for (checksum, data, reason) in [
        (false, &wrong, Reason::FlowOpened),
        (true, &wrong, Reason::BadChecksum),
        (true, &syn(), Reason::FlowOpened),
    ] {
        let mut run = Run::new(Settings {
            checksum,
            ..settings()
        });
        assert_eq!(run.pass(0.0, data), Some(reason));
        // What was cut off cannot be verified.
        let cut = Record {
            original: data.len() as u32 + 6,
            ..record(1, &[])
        };
        assert_eq!(frame(&cut).unwrap().frame.sum(14, 20), None);
    }
}

#[test]
fn a_flow_remembers_its_steps_and_its_last_refusal() {
    let mut run = Run::new(settings());
    for segment in &conversation()[..4] {
        run.pass(0.0, segment);
    }
    let forged = datagram(SERVER, CLIENT, 301, Some(999_999), "", &[]);
    assert_eq!(run.pass(1.0, &forged), Some(Reason::AckUnsent));
    let flows = run.replay.table().flows();
    let [(_, entry)] = &flows[..] else {
        panic!("one flow, not {}", flows.len())
    };
    let refusal = entry.refusal.as_deref().unwrap();
    assert_eq!(refusal.reason, Reason::AckUnsent as u8);
    assert_eq!((refusal.bound.value, refusal.bound.high), (999_999, 111));
    assert!(entry.history.is_some());
}

/// A client that starts over is followed when its new SYN is answered, even
/// where nothing but addresses tells the two ends apart.
#[test]
fn the_answer_to_a_renewed_syn_is_followed() {
    let mut run = Run::new(settings());
    run.pass(0.0, &syn());
    let renewed = datagram(CLIENT, SERVER, 700_000, None, "S", &[]);
    assert_eq!(run.pass(1.0, &renewed), Some(Reason::SynRenewed));
    let answer = datagram(SERVER, CLIENT, 800_000, Some(700_001), "S", &[]);
    assert_eq!(run.pass(1.0, &answer), Some(Reason::FlowRestarted));
}

#[test]
fn stations_on_a_link_are_ways_that_packets_come() {
    let mut ways = Run::new(settings());
    let from = |station: u8| [&[0; 6][..], &[station; 6], &[8, 0], &syn()].concat();
    let mut seen = Vec::new();
    for station in [1, 2, 1, 3] {
        let data = from(station);
        let record = record(1, &data);
        ways.replay.packet(&record, |_, _| Ok(())).unwrap();
        let flows = ways.replay.table().flows();
        seen.push(flows[0].1.flow.paths[0].ifindex() - STATIONS);
    }
    assert_eq!(seen, [0, 1, 0, 2]);
}

/// Every SYN that passes on a live flow may be the beginning of another one.
#[test]
fn a_syn_on_a_live_flow_is_remembered_until_it_is_answered() {
    let mut run = Run::new(settings());
    for segment in &conversation()[..4] {
        run.pass(0.0, segment);
    }
    let syn = datagram(CLIENT, SERVER, 700_000, None, "S", &[]);
    assert_eq!(run.pass(1.0, &syn), Some(Reason::SynOnLive));
    let answer = datagram(SERVER, CLIENT, 800_000, Some(700_001), "S", &[]);
    assert_eq!(run.pass(1.0, &answer), Some(Reason::FlowRestarted));
    assert_eq!(run.ended.len(), 1);
}
