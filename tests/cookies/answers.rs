//! What a SYN is answered with.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use etherparse::TcpOptionElement as Element;
use tracker_common::{
    abi::{Family, Live, defence_flags},
    reason::Reason,
    tcp::Flags,
};
use tracker_tests::program::{
    bench::Origin,
    frame::{Frame, Socket, Wrapping},
    talk::Talk,
};

use crate::{
    door::{Door, ECN_SETUP, MSS, Offer, SCALE, WINDOW, answering, stamp_of, syn, talk},
    reply::Reply,
};

/// Whether ECN may be agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ecn {
    Off,
    On,
}

fn address(socket: Socket, family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from(socket.v4()),
        Family::V6 => IpAddr::from(socket.v6()),
    };
    SocketAddr::new(address, socket.port)
}

/// Holds an answer against its SYN.
fn compare(
    request: &Frame,
    octets: &[u8],
    reply: &Reply,
    offer: Offer,
    ecn: bool,
    now_ms: u32,
) -> Result<()> {
    let sent = request.summed();
    let extensions: usize = request.extensions.iter().map(|&(_, length)| length).sum();
    ensure!(
        octets.len() == sent.len() - request.data - extensions,
        "{} octets answer {}",
        octets.len(),
        sent.len()
    );
    ensure!(
        octets[..6] == sent[6..12] && octets[6..12] == sent[..6],
        "MAC addresses"
    );
    let link = 12..request.ip_at();
    ensure!(octets[link.clone()] == sent[link], "tags");
    let family = request.wrapping.family;
    let header = match family {
        Family::V4 => 20 + request.ip_options,
        Family::V6 => 40,
    };
    let expected = Reply {
        from: address(request.to, family),
        to: address(request.from, family),
        ip_length: header + 20 + offer.room(),
        hops: 64,
        whole: true,
        ip_options: vec![1; request.ip_options],
        // The kernel's secret.
        seq: reply.seq,
        ack: request.seq.wrapping_add(1),
        flags: Flags::SYN | Flags::ACK | if ecn { Flags::ECE } else { 0 },
        window: WINDOW,
        room: offer.room(),
        options: promises(offer, stamp_of(reply)),
        payload: 0,
    };
    ensure!(*reply == expected, "{reply:#?} is not {expected:#?}");
    if let Some(stamp) = stamp_of(reply) {
        let scale = if offer.kept().scale {
            u32::from(Offer::SCALE)
        } else {
            15
        };
        let sack = u32::from(offer.kept().sack);
        ensure!(
            stamp & 63 == scale | sack << 4 | u32::from(ecn) << 5,
            "the timestamp {stamp:#x} says something else than {offer:?}"
        );
        let behind = now_ms.wrapping_sub(stamp);
        ensure!(behind < 128, "{stamp} at {now_ms}");
    }
    Ok(())
}

/// The options of the answer in the order in which Linux has them.
fn promises(offer: Offer, stamp: Option<u32>) -> Vec<Element> {
    let kept = offer.kept();
    let mut options = vec![];
    if kept.mss {
        options.push(Element::MaximumSegmentSize(MSS));
    }
    if kept.sack {
        options.push(Element::SelectiveAcknowledgementPermitted);
    }
    if kept.stamps {
        options.push(Element::Timestamp(stamp.unwrap_or(0), Offer::STAMP));
    }
    if kept.scale {
        options.push(Element::WindowScale(SCALE));
    }
    options
}

#[test]
fn every_syn_gets_the_answer_that_its_listener_keeps() {
    let mut door = Door::new();
    let mut number = 0;
    for wrapping in Wrapping::ALL {
        let ip_options: &[usize] = match wrapping.family {
            Family::V4 => &[0, 4, 40],
            Family::V6 => &[0],
        };
        for &ip_options in ip_options {
            for ecn in [Ecn::Off, Ecn::On] {
                let defence = match ecn {
                    Ecn::On => answering().defence,
                    Ecn::Off => answering().defence & !defence_flags::ECN,
                };
                let live = Live {
                    defence,
                    ..answering()
                };
                door.bench.loaded.set_live(&live).unwrap();
                for offer in Offer::every() {
                    for flags in [Flags::SYN, ECN_SETUP] {
                        for data in [0, 1, 1460] {
                            number += 1;
                            // A clock of any phase.
                            door.bench.wait_ms(u64::from(number) % 64 + 1).unwrap();
                            let talk = talk(wrapping, number);
                            door.learn(&talk);
                            let request = Frame {
                                flags,
                                data,
                                ip_options,
                                ..syn(&talk, offer)
                            };
                            let agreed =
                                ecn == Ecn::On && flags == ECN_SETUP && offer.kept().stamps;
                            one(&mut door, &request, offer, agreed).unwrap_or_else(|error| {
                                panic!(
                                    "{wrapping:?}, {ip_options} octets of IP options, {ecn:?}, \
                                     {offer:?}, flags {flags:#x}, {data} octets: {error:?}"
                                )
                            });
                        }
                    }
                }
            }
        }
    }
    door.bench.settle().unwrap();
    for family in [Family::V4, Family::V6] {
        assert!(door.bench.flows(family).unwrap().is_empty());
    }
    println!("{number} SYNs");
}

fn one(door: &mut Door, request: &Frame, offer: Offer, ecn: bool) -> Result<()> {
    let now_ms = (door.bench.now_ns() / 1_000_000) as u32;
    let (octets, reply) = door.knock(request)?;
    compare(request, &octets, &reply, offer, ecn, now_ms)
}

/// Headers that an answer needs not: it goes without.
#[test]
fn extension_headers_are_left_out() {
    let mut door = Door::new();
    let mut number = 0;
    let chains: [&[(u8, usize)]; 6] = [
        &[(60, 8)],
        &[(0, 8)],
        &[(0, 16), (60, 2048)],
        &[(43, 24)],
        &[(44, 8)],
        &[
            (60, 8),
            (0, 24),
            (43, 8),
            (44, 8),
            (60, 8),
            (60, 16),
            (60, 8),
            (60, 8),
        ],
    ];
    let wrappings = Wrapping::ALL.into_iter();
    for wrapping in wrappings.filter(|wrapping| wrapping.family == Family::V6) {
        for chain in chains {
            for offer in [
                Offer::ALL,
                Offer {
                    scale: false,
                    ..Offer::ALL
                },
            ] {
                for data in [0, 1, 100] {
                    number += 1;
                    let talk = talk(wrapping, number);
                    door.learn(&talk);
                    let request = Frame {
                        data,
                        extensions: chain.to_vec(),
                        ..syn(&talk, offer)
                    };
                    one(&mut door, &request, offer, false)
                        .with_context(|| format!("{wrapping:?}, {chain:?}, {offer:?}, {data}"))
                        .unwrap();
                }
            }
        }
    }
    door.bench.settle().unwrap();
    assert!(door.bench.flows(Family::V6).unwrap().is_empty());
}

/// Neither timestamps nor what needs them, where the kernel would take them for
/// something else.
#[test]
fn without_leave_to_stamp_only_the_segment_size_is_promised() {
    let mut door = Door::new();
    let live = Live {
        defence: defence_flags::ANSWER | defence_flags::CHECK | defence_flags::ECN,
        ..answering()
    };
    door.bench.loaded.set_live(&live).unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let talk = talk(wrapping, number);
        door.learn(&talk);
        let request = Frame {
            flags: ECN_SETUP,
            ..syn(&talk, Offer::ALL)
        };
        let (_, reply) = door.knock(&request).unwrap();
        assert_eq!(reply.options, [Element::MaximumSegmentSize(MSS)]);
        assert_eq!(reply.flags, Flags::SYN | Flags::ACK);
        assert_eq!(reply.room, Offer::ALL.room());
    }
}

/// What the host's own TCP does not do is not promised in its name.
#[test]
fn what_the_host_has_switched_off_is_not_promised() {
    use tracker_common::tcp::Options;
    let mut door = Door::new();
    let stamp = Element::Timestamp(0, Offer::STAMP);
    let mss = Element::MaximumSegmentSize(MSS);
    let sack = Element::SelectiveAcknowledgementPermitted;
    let scale = Element::WindowScale(SCALE);
    for (off, expected) in [
        (
            Options::SCALE,
            vec![mss.clone(), sack.clone(), stamp.clone()],
        ),
        (Options::SACK_PERMITTED, vec![mss.clone(), stamp, scale]),
        (Options::TIMESTAMPS, vec![mss]),
    ] {
        let live = Live {
            offers: answering().offers & !off,
            ..answering()
        };
        door.bench.loaded.set_live(&live).unwrap();
        for (number, wrapping) in (0..).zip(Wrapping::ALL) {
            let talk = talk(wrapping, number);
            door.learn(&talk);
            let (_, mut reply) = door.knock(&syn(&talk, Offer::ALL)).unwrap();
            for option in &mut reply.options {
                if let Element::Timestamp(value, _) = option {
                    *value = 0;
                }
            }
            assert_eq!(reply.options, expected, "{wrapping:?} without {off:#x}");
        }
    }
}

/// Broken options of a SYN are no more than octets.
#[test]
fn broken_options_are_overwritten() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        for (case, options) in [
            // A segment size and then an option of no length.
            vec![2, 4, 5, 0xb4, 8, 0, 0, 0],
            // One that is longer than the header.
            vec![3, 40, 7, 7],
            // Nothing but the end, forty octets long.
            vec![0; 40],
            // Unknown ones.
            [vec![253, 40], vec![7; 38]].concat(),
        ]
        .into_iter()
        .enumerate()
        {
            let talk = talk(wrapping, number * 4 + case as u32);
            door.learn(&talk);
            let room = options.len();
            let request = Frame {
                options,
                ..syn(&talk, Offer::ALL)
            };
            let (_, reply) = door.knock(&request).unwrap();
            assert_eq!(reply.options, [Element::MaximumSegmentSize(MSS)], "{case}");
            assert_eq!(reply.room, room);
        }
    }
}

/// Octets that pad a frame to the least length of Ethernet stay behind the packet.
#[test]
fn padding_is_no_part_of_the_answer() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        for data in [0, 3] {
            let talk = talk(wrapping, number * 2 + data as u32 % 2);
            door.learn(&talk);
            let request = Frame {
                data,
                ..syn(&talk, Offer::ALL)
            };
            let padded = [request.summed(), vec![0xee; 9]].concat();
            let (reason, octets) = door.bench.send_and_see(Origin::Wire, &padded).unwrap();
            assert_eq!(reason, Reason::CookieSent);
            let reply = crate::reply::read(&octets)
                .with_context(|| format!("{wrapping:?} {octets:02x?}"))
                .unwrap();
            assert_eq!(octets.len(), padded.len() - data);
            assert_eq!(reply.payload, 0);
            assert_eq!(reply.ack, request.seq.wrapping_add(1));
        }
    }
}

/// The listener counts what it is answered for, and each client gets a cookie of
/// its own.
#[test]
fn cookies_differ_and_are_counted() {
    let mut door = Door::new();
    for wrapping in Wrapping::ALL {
        // One listener: the even talks have it in common.
        let talks: Vec<Talk> = (0..100).map(|number| talk(wrapping, number * 2)).collect();
        door.learn(&talks[0]);
        let mut cookies = vec![];
        for talk in &talks {
            let (_, reply) = door.knock(&syn(talk, Offer::ALL)).unwrap();
            cookies.push(reply.seq);
        }
        cookies.sort_unstable();
        cookies.dedup();
        assert_eq!(cookies.len(), talks.len(), "{wrapping:?}");
        let known = door.known(&talks[0]);
        assert_eq!(
            [known.sent, known.valid, known.invalid],
            [100, 0, 0],
            "{wrapping:?}"
        );
    }
}
