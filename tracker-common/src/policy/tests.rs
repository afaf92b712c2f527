//! Rates, prefixes, and the packing of blocks.

use etherparse::{
    Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4, icmpv6,
};
use std::vec::Vec;

use super::*;
use crate::{
    abi::{Block, Family, PolicyHeader, Rate, Rule},
    parse::{Packet, ethernet},
};

fn v4(octets: [u8; 4]) -> [u32; 4] {
    [u32::from_ne_bytes(octets), 0, 0, 0]
}

#[test]
fn a_rate_grants_its_burst_and_then_one_by_one() {
    let rate = Rate {
        interval_ns: 100,
        tolerance_ns: 200,
    };
    let mut due = 0;
    for _ in 0..3 {
        due = conforms(due, 1000, &rate).unwrap();
    }
    assert_eq!(conforms(due, 1000, &rate), None);
    assert_eq!(conforms(due, 1099, &rate), None);
    due = conforms(due, 1100, &rate).unwrap();
    assert_eq!(conforms(due, 1100, &rate), None);
    // Long silence saves up no more than the burst.
    for _ in 0..3 {
        due = conforms(due, 1_000_000, &rate).unwrap();
    }
    assert_eq!(conforms(due, 1_000_000, &rate), None);
}

#[test]
fn a_prefix_holds_its_addresses_and_no_others() {
    let ten = Prefix {
        family: Family::V4,
        address: v4([10, 0, 0, 0]),
        bits: 8,
    };
    assert!(ten.contains(Family::V4, &v4([10, 255, 0, 1])));
    assert!(!ten.contains(Family::V4, &v4([11, 0, 0, 0])));
    assert!(!ten.contains(Family::V6, &v4([10, 255, 0, 1])));
    let all = Prefix { bits: 0, ..ten };
    assert!(all.contains(Family::V4, &v4([255; 4])));
    let six = Prefix {
        family: Family::V6,
        address: [1, 2, 3, 4],
        bits: 128,
    };
    assert!(six.contains(Family::V6, &[1, 2, 3, 4]));
    assert!(!six.contains(Family::V6, &[1, 2, 3, 5]));
}

#[test]
fn exceptions_win_over_what_they_are_exceptions_to() {
    let prefix = |octets, bits| Prefix {
        family: Family::V4,
        address: v4(octets),
        bits,
    };
    let (ten, one) = ([prefix([10, 0, 0, 0], 8)], [prefix([10, 1, 0, 0], 16)]);
    let set = Prefixes {
        among: &[&ten],
        except: &[&one],
    };
    assert!(set.contain(Family::V4, &v4([10, 2, 0, 1])));
    assert!(!set.contain(Family::V4, &v4([10, 1, 0, 1])));
    let all_but = Prefixes {
        among: &[],
        except: &[&one],
    };
    assert!(all_but.contain(Family::V6, &[0; 4]));
    assert!(!all_but.contain(Family::V4, &v4([10, 1, 0, 1])));
}

#[test]
fn blocks_tell_what_was_put_into_them() {
    let rule = Rule {
        number: 65_535,
        action: Action::Prohibit as u8,
        flags: 0x1f,
        profile: 7,
        flows: u32::MAX,
        source_flows: 3,
        rate: Rate {
            interval_ns: u64::MAX,
            tolerance_ns: 1,
        },
        source_rate: Rate {
            interval_ns: 2,
            tolerance_ns: u64::MAX,
        },
    };
    assert_eq!(Rule::from_block(&rule.to_block()), rule);
    let header = PolicyHeader {
        rules: 1,
        rules_at: 2,
        places_at: 3,
        place_buckets: 4,
        elsewhere: [5, 6, 7],
        to_ports_at: 8,
        from_ports_at: 9,
        in_force: 10,
        flags: u32::MAX,
    };
    assert_eq!(PolicyHeader::from_block(&header.to_block()), header);
    let mut block = Block::default();
    block.set_half(15, 1);
    block.set_half(15, u32::MAX);
    assert_eq!(block.words[7], 0xffff_ffff_0000_0000);
}

/// A frame with a SYN or an ACK of 3 octets, of either family.
fn frames() -> Vec<Vec<u8>> {
    let v4 = || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let v6 = || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([0xfd; 16], [0xfe; 16], 64);
    let mut frames = Vec::new();
    for (builder, payload) in [
        (v4().tcp(40_000, 80, 77, 500).syn(), &[][..]),
        (v4().tcp(40_000, 80, 77, 500).ack(99), &[1, 2, 3][..]),
        (v6().tcp(40_000, 80, 77, 500).syn(), &[][..]),
        (v6().tcp(40_000, 80, 77, 500).ack(99), &[1, 2, 3][..]),
    ] {
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frames.push(frame);
    }
    frames
}

fn read(frame: &[u8]) -> Packet {
    let mut packet = Packet::default();
    ethernet(frame, 0, &mut packet).unwrap();
    packet
}

const NOTHING: Reply = Reply {
    words: [u32::MAX; 32],
    length: 0,
    reserved: 0,
    quote: [0; QUOTE],
};

fn octets(reply: &Reply) -> Vec<u8> {
    let words = reply.words.iter().flat_map(|word| word.to_ne_bytes());
    words.take(reply.length as usize).collect()
}

#[test]
fn a_closed_port_answers_like_that() {
    for (frame, (seq, ack)) in frames().iter().zip([(0, 78), (99, 0), (0, 78), (99, 0)]) {
        let packet = read(frame);
        let mut reply = NOTHING;
        reset(&packet, &mut reply);
        let octets = octets(&reply);
        let read = SlicedPacket::from_ip(&octets).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = read.transport else {
            panic!("{read:?}");
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40_000));
        assert_eq!(
            (tcp.sequence_number(), tcp.acknowledgment_number()),
            (seq, ack)
        );
        assert_eq!((tcp.rst(), tcp.ack(), tcp.syn()), (true, ack != 0, false));
        let header = tcp.to_header();
        match read.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let ip = ip.header().to_header();
                assert_eq!((ip.source, ip.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                let sum = header.calc_checksum_ipv4(&ip, &[]).unwrap();
                assert_eq!(tcp.checksum(), sum);
            }
            NetSlice::Ipv6(ip) => {
                let ip = ip.header().to_header();
                assert_eq!((ip.source, ip.destination), ([0xfe; 16], [0xfd; 16]));
                let sum = header.calc_checksum_ipv6(&ip, &[]).unwrap();
                assert_eq!(tcp.checksum(), sum);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_icmp_error_says_that_it_is_prohibited_and_quotes_what() {
    for frame in frames() {
        let packet = read(&frame);
        let mut reply = NOTHING;
        let length = quoted(&packet) as usize;
        reply.quote[..length].copy_from_slice(&frame[14..14 + length]);
        prohibited(&packet, &mut reply);
        let octets = octets(&reply);
        let read = SlicedPacket::from_ip(&octets).unwrap();
        match (read.net.unwrap(), read.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                let unreachable = icmpv4::DestUnreachableHeader::FilterProhibited;
                assert_eq!(
                    icmp.icmp_type(),
                    Icmpv4Type::DestinationUnreachable(unreachable)
                );
                let sum = icmp.icmp_type().calc_checksum(icmp.payload());
                assert_eq!(icmp.checksum(), sum);
                assert_eq!(ip.header().destination(), [10, 0, 0, 1]);
                assert_eq!(icmp.payload(), &frame[14..14 + 40]);
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let code = icmpv6::DestUnreachableCode::Prohibited;
                assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(code));
                let (from, to) = (ip.header().source(), ip.header().destination());
                let sum = icmp.icmp_type().calc_checksum(from, to, icmp.payload());
                assert_eq!(icmp.checksum(), sum.unwrap());
                assert_eq!(icmp.payload(), &frame[14..14 + 60]);
            }
            other => panic!("{other:?}"),
        }
    }
}
