//! What is not answered: the stack gets it as it came, or nobody does.

use anyhow::{Context as _, Result};
use tracker_common::{
    abi::{CookieMode, Family, Listener, Live, defence_flags},
    defence::{MARKS, mark},
    reason::Reason,
    time::Tick,
};
use tracker_tests::program::{
    bench::Origin,
    frame::{Frame, Tags, Wrapping},
    talk::{A, B, Talk},
};

use crate::{
    door::{Door, MSS, Offer, WINDOW, ack, answering, syn, talk},
    reply,
};

/// Wrappings in each of which a listener is another one: a priority tag names no
/// VLAN.
fn distinct() -> impl Iterator<Item = Wrapping> {
    Wrapping::ALL
        .into_iter()
        .filter(|wrapping| wrapping.tags != Tags::Vlan(0))
}

/// Sends a SYN that must pass to the stack as it is.
fn passes(door: &mut Door, frame: &[u8]) -> Result<()> {
    let out = door
        .bench
        .expect_and_see(Origin::Wire, frame, Reason::FlowOpened)?;
    anyhow::ensure!(out == frame, "{out:02x?} is not {frame:02x?}");
    Ok(())
}

#[test]
fn what_passes_is_not_touched() {
    type Change = fn(&mut Listener);
    let unseen: Change = |listener| listener.seen = Tick(listener.seen.0 - 3000);
    let changes: [(&str, Change); 6] = [
        ("unseen for longer than ten seconds", unseen),
        ("to be confirmed", |listener| {
            listener.seen = Tick(listener.seen.0 - 300);
            listener.asked = listener.seen;
        }),
        ("never answered for", |listener| {
            listener.mode = CookieMode::Never as u8;
        }),
        ("without a window", |listener| listener.window = 0),
        ("named by the agent alone", |listener| {
            *listener = Listener {
                mode: CookieMode::Always as u8,
                ..Listener::default()
            };
        }),
        ("without a socket that could be told", |listener| {
            listener.stamped = Tick(listener.stamped.0 - 300);
        }),
    ];
    let mut door = Door::new();
    let mut number = 0;
    for wrapping in Wrapping::ALL {
        for data in [0, 300] {
            for (name, change) in changes {
                number += 1;
                let talk = talk(wrapping, number);
                let mut listener = door.listener();
                change(&mut listener);
                let place = Door::place(&talk);
                door.bench.loaded.set_listener(&place, &listener).unwrap();
                let request = Frame {
                    data,
                    ..syn(&talk, Offer::ALL)
                };
                passes(&mut door, &request.summed())
                    .with_context(|| format!("{wrapping:?}, {data} octets, {name}"))
                    .unwrap();
                assert_eq!(door.known(&talk).sent, 0);
            }
            // To and from a group of stations.
            for octet in [0, 6] {
                number += 1;
                let talk = talk(wrapping, number);
                door.learn(&talk);
                let request = Frame {
                    data,
                    ..syn(&talk, Offer::ALL)
                };
                let mut octets = request.summed();
                octets[octet] |= 1;
                passes(&mut door, &octets)
                    .with_context(|| format!("{wrapping:?}, {data} octets, group in {octet}"))
                    .unwrap();
            }
            // The stack is to say what becomes of these: authentication, mobility.
            for extension in [(51, 12), (51, 24), (135, 8), (139, 16), (140, 8)] {
                if wrapping.family == Family::V4 {
                    continue;
                }
                number += 1;
                let talk = talk(wrapping, number);
                door.learn(&talk);
                let request = Frame {
                    data,
                    extensions: vec![(60, 8), extension],
                    ..syn(&talk, Offer::ALL)
                };
                passes(&mut door, &request.summed())
                    .with_context(|| format!("{wrapping:?}, {data} octets, {extension:?}"))
                    .unwrap();
            }
            // A way that is not at its end: a routing header with segments left.
            if wrapping.family == Family::V6 {
                number += 1;
                let talk = talk(wrapping, number);
                door.learn(&talk);
                let request = Frame {
                    data,
                    extensions: vec![(43, 24)],
                    ..syn(&talk, Offer::ALL)
                };
                let mut octets = request.summed();
                octets[wrapping.link_length() + 40 + 3] = 1;
                passes(&mut door, &octets)
                    .with_context(|| format!("{wrapping:?}, {data} octets, segments left"))
                    .unwrap();
            }
            number += 1;
            let unlearnt = Frame {
                data,
                ..syn(&talk(wrapping, number), Offer::ALL)
            };
            let mut elsewhere = unlearnt.clone();
            elsewhere.to.port = 4433;
            passes(&mut door, &elsewhere.summed()).unwrap();
        }
    }
    door.bench.settle().unwrap();
}

/// Makes it appear that the listener's socket was told just now: there is none.
fn told(door: &Door, talk: &Talk) {
    let mut listener = door.known(talk);
    listener.stamped = Tick::from_ns(door.bench.now_ns());
    let place = Door::place(talk);
    door.bench.loaded.set_listener(&place, &listener).unwrap();
}

/// While the stack gives no sign of the listener, one SYN a second asks it, and
/// after ten seconds all do.
#[test]
fn one_syn_a_second_asks_the_stack_and_all_do_in_the_end() {
    let mut door = Door::new();
    for (case, wrapping) in (0..).zip(distinct()) {
        // The even talks have one listener.
        let start = case * 1000;
        let first = talk(wrapping, start);
        door.learn(&first);
        let mut asked = vec![];
        for number in 1..=120_u32 {
            door.bench.wait_ms(100).unwrap();
            told(&door, &first);
            let request = syn(&talk(wrapping, start + number * 2), Offer::ALL).summed();
            let reason = door.bench.send(Origin::Wire, &request).unwrap();
            if reason == Reason::FlowOpened {
                asked.push(number);
            } else {
                assert_eq!(reason, Reason::CookieSent);
            }
        }
        let (before, after) = asked.split_at(asked.partition_point(|&number| number < 99));
        assert!((8..=9).contains(&before.len()), "{before:?}");
        for pair in before.windows(2) {
            assert!((10..=12).contains(&(pair[1] - pair[0])), "{before:?}");
        }
        assert!(after.len() >= 20, "{after:?}");
    }
}

/// The stack's own SYN-ACK has the listener answered for, with what it says.
#[test]
fn a_listener_is_learnt_from_its_own_syn_acks() {
    let mut door = Door::new();
    let live = Live {
        defence: answering().defence | defence_flags::LEARN,
        ..answering()
    };
    door.bench.loaded.set_live(&live).unwrap();
    for (case, wrapping) in (0..).zip(distinct()) {
        let number = case * 100;
        let client = talk(wrapping, number);
        let request = syn(&client, Offer::ALL);
        passes(&mut door, &request.summed()).unwrap();
        let answer = Frame {
            ack: request.seq.wrapping_add(1),
            window: 31_000,
            options: vec![2, 4, 5, 0x66, 1, 3, 3, 11],
            ..client.frame(B.syn_ack())
        };
        door.bench
            .expect(Origin::Host, &answer.summed(), Reason::Tracked)
            .unwrap();
        // There is no socket that could be told.
        told(&door, &client);
        let (_, reply) = door
            .knock(&syn(&talk(wrapping, number + 2), Offer::ALL))
            .unwrap();
        assert_eq!(reply.window, 31_000, "{wrapping:?}");
        let options = [
            etherparse::TcpOptionElement::MaximumSegmentSize(0x566),
            etherparse::TcpOptionElement::WindowScale(11),
        ];
        for option in &options {
            assert!(reply.options.contains(option), "{reply:?}");
        }
        // One that another host sent says nothing of this host's sockets.
        let far = talk(wrapping, number + 1);
        let forwarded = Frame {
            ack: 1,
            ..far.frame(B.syn_ack())
        };
        door.bench
            .expect(Origin::Forwarded, &forwarded.summed(), Reason::StraySynAck)
            .unwrap();
        let place = Door::place(&far);
        assert_eq!(door.bench.loaded.listener(&place).unwrap(), None);
    }
}

/// A port whose socket has gone never looks open: not the SYN that finds it so,
/// and not those behind.
#[test]
fn a_listener_that_has_gone_is_not_answered_for() {
    let mut door = Door::new();
    for (case, wrapping) in (0..).zip(Wrapping::ALL) {
        let number = case * 100;
        let client = talk(wrapping, number);
        door.learn(&client);
        door.knock(&syn(&client, Offer::ALL)).unwrap();
        door.bench.wait_ms(600).unwrap();
        for next in 1..20 {
            let request = syn(&talk(wrapping, number + next * 2), Offer::ALL);
            passes(&mut door, &request.summed())
                .with_context(|| format!("{wrapping:?}, SYN {next} after it has gone"))
                .unwrap();
            door.bench.wait_ms(60).unwrap();
        }
    }
}

/// The frame from another address.
fn moved(frame: &Frame, address: &[u8]) -> Vec<u8> {
    let mut octets = frame.bytes();
    let at = frame.ip_at() + if address.len() == 4 { 12 } else { 8 };
    octets[at..at + address.len()].copy_from_slice(address);
    octets
}

#[test]
fn nobody_is_sent_an_answer() {
    let v6 = |first: u16, last: u8| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&first.to_be_bytes());
        address[15] = last;
        address
    };
    let own = talk(Wrapping::plain(Family::V4), 0).ends[1];
    let nobody_v4 = [
        [0, 0, 0, 0],
        [0, 255, 255, 255],
        [127, 0, 0, 1],
        [127, 255, 255, 255],
        [224, 0, 0, 1],
        [239, 255, 255, 255],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        own.v4(),
    ];
    let somebody_v4 = [
        [1, 0, 0, 0],
        [126, 255, 255, 255],
        [128, 0, 0, 0],
        [223, 255, 255, 255],
        [169, 254, 1, 1],
        [192, 168, 0, 255],
    ];
    let nobody_v6 = [v6(0, 0), v6(0, 1), v6(0xff02, 1), v6(0xffff, 9), own.v6()];
    let somebody_v6 = [v6(0, 2), v6(0xfe80, 1), v6(0xfdff, 0), v6(0x2001, 1)];
    let mut door = Door::new();
    for wrapping in Wrapping::ALL {
        let client = talk(wrapping, 0);
        door.learn(&client);
        let request = syn(&client, Offer::ALL);
        let mut send = |address: &[u8], reason| {
            let octets = moved(&request, address);
            door.bench
                .expect(Origin::Wire, &octets, reason)
                .with_context(|| format!("{wrapping:?} from {address:?}"))
                .unwrap();
        };
        match wrapping.family {
            Family::V4 => {
                nobody_v4
                    .iter()
                    .for_each(|address| send(address, Reason::BadSource));
                somebody_v4
                    .iter()
                    .for_each(|address| send(address, Reason::CookieSent));
            }
            Family::V6 => {
                nobody_v6
                    .iter()
                    .for_each(|address| send(address, Reason::BadSource));
                somebody_v6
                    .iter()
                    .for_each(|address| send(address, Reason::CookieSent));
            }
        }
    }
    door.bench.settle().unwrap();
}

/// The host's own addresses and its networks' broadcasts, as the agent has found
/// them: nobody else's.
#[test]
fn nothing_is_answered_to_the_host_itself_or_to_a_broadcast() {
    let mut door = Door::new();
    for wrapping in [Wrapping::plain(Family::V4), Wrapping::plain(Family::V6)] {
        let hosts: Vec<Talk> = (0..40)
            .map(|number| {
                let mut talk = talk(wrapping, number * 2);
                talk.ends[0].host = 0x5000 + number as u16;
                talk
            })
            .collect();
        door.learn(&hosts[0]);
        for here in [0, 1, 5, MARKS, 40] {
            let marks: Vec<u64> = hosts[..here]
                .iter()
                .map(|talk| mark(talk.ends[0].address(wrapping.family)))
                .collect();
            door.bench.loaded.set_unanswered(&marks).unwrap();
            for (number, talk) in hosts.iter().enumerate() {
                let reason = match number < here.min(MARKS) {
                    true => Reason::BadSource,
                    false => Reason::CookieSent,
                };
                let request = syn(talk, Offer::ALL).summed();
                door.bench
                    .expect(Origin::Wire, &request, reason)
                    .with_context(|| format!("{wrapping:?}, host {number} with {here} here"))
                    .unwrap();
            }
        }
    }
    door.bench.settle().unwrap();
}

/// However many SYNs name an address, it is sent so many SYN-ACKs a second, if it
/// has not returned one.
#[test]
fn an_address_is_not_flooded_in_its_turn() {
    let mut door = Door::new();
    let live = Live {
        answer_rate: 50,
        ..answering()
    };
    for wrapping in [Wrapping::plain(Family::V4), Wrapping::plain(Family::V6)] {
        for second in 0..3 {
            door.bench.loaded.set_live(&live).unwrap();
            door.bench.wait_ms(1000).unwrap();
            let mut sent = 0;
            for number in 0..300 {
                let client = talk(wrapping, number * 2);
                if number == 0 {
                    door.learn(&client);
                }
                let request = syn(&client, Offer::ALL).summed();
                let (reason, out) = door.bench.send_and_see(Origin::Wire, &request).unwrap();
                if reason == Reason::CookieSent {
                    sent += 1;
                } else {
                    assert_eq!((reason, out), (Reason::AnswerLimit, request));
                }
            }
            assert_eq!(sent, 50, "{wrapping:?} in second {second}");
        }
        // It is there after all.
        let client = talk(wrapping, 1000);
        let quiet = Live {
            answer_rate: 0,
            ..live
        };
        door.bench.loaded.set_live(&quiet).unwrap();
        let (octets, reply) = door.knock(&syn(&client, Offer::ALL)).unwrap();
        assert_eq!(reply, reply::read(&octets).unwrap());
        assert_eq!(reply.window, WINDOW);
        let returned = ack(&client, &reply, Offer::ALL).summed();
        door.bench
            .expect(Origin::Wire, &returned, Reason::CookieReturned)
            .unwrap();
        door.bench.loaded.set_live(&live).unwrap();
        for number in 0..300 {
            let (_, reply) = door
                .knock(&syn(&talk(wrapping, number * 2), Offer::ALL))
                .unwrap();
            assert!(
                reply
                    .options
                    .contains(&etherparse::TcpOptionElement::MaximumSegmentSize(MSS))
            );
        }
    }
}

/// Who completed an ordinary handshake before the flood is known, too; who only claims
/// to have seen the SYN-ACK is not.
#[test]
fn who_has_completed_a_handshake_is_answered_however_often_it_asks() {
    let limited = Live {
        answer_rate: 5,
        // The made-up hosts are all of one IPv6 network.
        source_bits: [32, 128],
        ..answering()
    };
    let learning = Live {
        defence: defence_flags::LEARN,
        ..limited
    };
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(distinct()) {
        for (case, seen) in [(0, true), (1, false)] {
            let mut client = talk(wrapping, 2 * (number * 2 + case));
            client.ends[0].host = 0x3000 + (number * 2 + case) as u16 * 0x100;
            door.bench.loaded.set_live(&learning).unwrap();
            door.learn(&client);
            let send = |door: &mut Door, origin, frame: Frame| {
                door.bench.send(origin, &frame.summed()).unwrap()
            };
            let opened = send(&mut door, Origin::Wire, client.frame(A.syn()));
            assert_eq!(opened, Reason::FlowOpened);
            let answered = send(&mut door, Origin::Host, client.frame(B.syn_ack()));
            assert_eq!(answered, Reason::Tracked);
            let mut ack = client.frame(A.ack());
            if !seen {
                ack.ack = ack.ack.wrapping_add(1);
            }
            let reason = send(&mut door, Origin::Wire, ack);
            assert_eq!(reason == Reason::Tracked, seen, "{reason:?}");

            door.bench.loaded.set_live(&limited).unwrap();
            // In a second of its own.
            door.bench.wait_ms(1000).unwrap();
            door.learn(&client);
            let mut sent = 0;
            for port in 0..20 {
                let mut again = client;
                again.ends[0].port = 1000 + port;
                let reason = send(&mut door, Origin::Wire, syn(&again, Offer::ALL));
                sent += u32::from(reason == Reason::CookieSent);
            }
            assert_eq!(sent, if seen { 20 } else { 5 }, "{wrapping:?}");
        }
    }
}
