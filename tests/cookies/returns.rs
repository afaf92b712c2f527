//! What becomes of the ACK that returns a cookie, and of those that return none.

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{Endpoint, Flow, Gauge, Live, Mode, Origin as Known, end_flags, held},
    reason::Reason,
    tcp::{
        Flags,
        State::{CloseWait, Closed, Established, FinWait1},
    },
};
use tracker_tests::program::{
    bench::Origin,
    frame::{Frame, Wrapping},
    talk::{A, B, Talk},
};

use crate::{
    door::{Door, Offer, SCALE, WINDOW, ack, answering, stamp_of, syn, talk},
    reply::Reply,
};

/// A connection whose cookie has come back.
struct Returned {
    talk: Talk,
    offer: Offer,
    reply: Reply,
}

impl Returned {
    /// The client's segment, this far behind its SYN.
    fn of_client(&self, seq: u32, flags: u8, data: usize) -> Frame {
        Frame {
            seq: self.talk.isns[0].wrapping_add(seq),
            flags,
            data,
            ..ack(&self.talk, &self.reply, self.offer)
        }
    }

    /// The server's segment, this far behind its SYN-ACK.
    fn of_server(&self, seq: u32, ack: u32, flags: u8, data: usize) -> Frame {
        let options = match stamp_of(&self.reply) {
            Some(stamp) => {
                let value = (stamp + 64).to_be_bytes();
                let echo = (Offer::STAMP + 3).to_be_bytes();
                [&[1, 1, 8, 10][..], &value, &echo].concat()
            }
            None => vec![],
        };
        Frame {
            seq: self.reply.seq.wrapping_add(seq),
            ack: self.talk.isns[0].wrapping_add(ack),
            flags,
            data,
            window: 700,
            options,
            ..self.talk.frame(B.ack())
        }
    }
}

fn flow(door: &Door, talk: &Talk) -> Result<Flow> {
    let flow = door.bench.flow(talk.wrapping.family, &talk.key())?;
    flow.context("there is no flow")
}

/// Opens a connection by cookie, and checks what is known of it.
fn open(door: &mut Door, talk: Talk, offer: Offer) -> Result<Returned> {
    door.learn(&talk);
    let (_, reply) = door.knock(&syn(&talk, offer))?;
    ensure!(
        door.bench
            .flow(talk.wrapping.family, &talk.key())?
            .is_none(),
        "a SYN that is answered leaves something behind"
    );
    door.bench.wait_ms(7)?;
    let returned = Returned { talk, offer, reply };
    let ack = ack(&talk, &returned.reply, offer);
    let gauges = door.bench.loaded.gauges()?;
    send(door, Origin::Wire, &ack, Reason::CookieReturned)?;
    for gauge in [Gauge::HalfOpen, Gauge::Calling, Gauge::Pickup] {
        ensure!(
            door.bench.gauge(gauge)? == gauges[gauge as usize],
            "{gauge:?} moved"
        );
    }
    let flow = flow(door, &talk)?;
    ensure!(
        flow.states() == [Established; 2],
        "the states are {:?}",
        flow.states()
    );
    ensure!(flow.origin() == Known::Cookie, "{:?}", flow.origin());
    ensure!(flow.flags & held::MASK == 0, "it holds {:#x}", flow.flags);
    ensure!(!flow.is_liberal() && !flow.is_unanchored(), "it is liberal");
    let kept = offer.kept();
    let [client, server] = &flow.ends;
    ensure!(
        client.isn.0 == talk.isns[0] && server.isn.0 == returned.reply.seq,
        "the ISNs are {} and {}",
        client.isn.0,
        server.isn.0
    );
    ensure!(
        client.end.0 == talk.isns[0].wrapping_add(1)
            && server.end.0 == returned.reply.seq.wrapping_add(1),
        "the ends are {} and {}",
        client.end.0,
        server.end.0
    );
    let scales = if kept.scale {
        [Offer::SCALE, SCALE]
    } else {
        [0, 0]
    };
    ensure!(
        [client.scale(), server.scale()] == scales,
        "the scales are {} and {} instead of {scales:?}",
        client.scale(),
        server.scale()
    );
    let offers = |end: &Endpoint| {
        [end_flags::SACK, end_flags::TIMESTAMPS, end_flags::SCALE].map(|flag| end.has(flag))
    };
    let both = [kept.sack, kept.stamps, kept.scale];
    ensure!(
        offers(client) == both && offers(server) == both,
        "the offers are {:?} and {:?} instead of {both:?}",
        offers(client),
        offers(server)
    );
    if kept.stamps {
        ensure!(
            [client.ts, server.ts] == [Offer::STAMP + 3, stamp_of(&returned.reply).unwrap_or(0)],
            "the timestamps are {:#x} and {:#x}",
            client.ts,
            server.ts
        );
    }
    // Where the client may send to is what the SYN-ACK said, never scaled.
    let edge = client.end.0.wrapping_add(u32::from(WINDOW));
    ensure!(
        client.max_end.0 == edge,
        "the client may send up to {} instead of {edge}",
        client.max_end.0
    );
    Ok(returned)
}

#[test]
fn a_cookie_that_returns_opens_a_flow_as_a_handshake_does() {
    let mut door = Door::new();
    let mut number = 0;
    for wrapping in Wrapping::ALL {
        for offer in Offer::every() {
            number += 1;
            open(&mut door, talk(wrapping, number), offer)
                .unwrap_or_else(|error| panic!("{wrapping:?} {offer:?}: {error:?}"));
        }
    }
    door.bench.settle().unwrap();
    // Nothing is half-open for a moment.
    assert!(door.bench.loaded.shares().unwrap().is_empty());
    assert_eq!(door.bench.gauge(Gauge::RingHead).unwrap(), 0);
}

/// A listener's counters say what came of its cookies.
#[test]
fn a_listener_counts_the_cookies_that_come_back() {
    let mut door = Door::new();
    let live = Live {
        pickup: 1,
        ..answering()
    };
    for (case, wrapping) in (0..).zip(Wrapping::ALL) {
        door.bench.loaded.set_live(&answering()).unwrap();
        // The even talks have one listener. A priority tag names no VLAN, so that
        // talks of all wrappings must differ.
        let numbers = case * 100..case * 100 + 60;
        let talks: Vec<Talk> = numbers
            .step_by(2)
            .map(|number| talk(wrapping, number))
            .collect();
        door.learn(&talks[0]);
        for (index, talk) in talks.iter().enumerate() {
            let (_, reply) = door.knock(&syn(talk, Offer::ALL)).unwrap();
            let good = ack(talk, &reply, Offer::ALL);
            let bad = Frame {
                ack: good.ack ^ FAR,
                ..good.clone()
            };
            if index % 3 == 0 {
                send(&mut door, Origin::Wire, &bad, Reason::CookieInvalid).unwrap();
            }
            if index % 2 == 0 {
                door.bench
                    .expect(Origin::Wire, &good.summed(), Reason::CookieReturned)
                    .unwrap();
            }
        }
        // While connections may be older than the tracker, one is taken for such.
        door.bench.loaded.set_live(&live).unwrap();
        let stranger = talks[1].frame(A.ack()).summed();
        door.bench
            .expect(Origin::Wire, &stranger, Reason::FlowPickedUp)
            .unwrap();
        let known = door.known(&talks[0]);
        assert_eq!(
            [known.sent, known.valid, known.invalid],
            [30, 15, 11],
            "{wrapping:?}"
        );
    }
    door.bench.settle().unwrap();
}

/// Away from a cookie. Its neighbours are cookies, too: the lowest bits are the
/// index of a segment size (net/ipv4/syncookies.c, `check_tcp_syn_cookie`).
const FAR: u32 = 0x0010_0000;

#[test]
fn a_cookie_of_another_is_worth_nothing() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let mine = talk(wrapping, number * 2);
        door.learn(&mine);
        let (_, reply) = door.knock(&syn(&mine, Offer::ALL)).unwrap();
        let right = ack(&mine, &reply, Offer::ALL);
        let mut other_port = right.clone();
        other_port.from.port ^= 0x4000;
        let mut other_host = right.clone();
        other_host.from.host ^= 0x4000;
        let wrong = [
            other_port,
            other_host,
            Frame {
                seq: right.seq ^ FAR,
                ..right.clone()
            },
            Frame {
                ack: right.ack ^ FAR,
                ..right.clone()
            },
            // Of another minute.
            Frame {
                ack: right.ack ^ 0x0100_0000,
                ..right.clone()
            },
            // Nothing acknowledged at all.
            Frame {
                ack: 0,
                ..right.clone()
            },
        ];
        for wrong in wrong {
            let reason = door.bench.send(Origin::Wire, &wrong.summed()).unwrap();
            assert_eq!(reason, Reason::CookieInvalid, "{wrong:?}");
        }
        assert!(
            door.bench
                .flows(wrapping.family)
                .unwrap()
                .iter()
                .all(|(key, _)| *key != mine.key())
        );
        assert_eq!(door.known(&mine).invalid, 6);
        // The right one is good as before.
        let reason = door.bench.send(Origin::Wire, &right.summed()).unwrap();
        assert_eq!(reason, Reason::CookieReturned, "{wrapping:?}");
    }
    door.bench.settle().unwrap();
}

/// Sends what must leave with this reason.
fn send(door: &mut Door, origin: Origin, frame: &Frame, expected: Reason) -> Result<()> {
    door.bench
        .expect(origin, &frame.summed(), expected)
        .with_context(|| format!("{frame:?}"))
}

/// The window that the SYN-ACK announced is the client's until the server says
/// more.
fn strict(door: &mut Door, talk: Talk, offer: Offer) -> Result<()> {
    let connection = open(door, talk, offer)?;
    let (wire, host) = (Origin::Wire, Origin::Host);
    let (window, push) = (u32::from(WINDOW), Flags::ACK | Flags::PSH);
    let client = |seq, flags, data| connection.of_client(seq, flags, data);
    let server = |seq, ack, flags, data| connection.of_server(seq, ack, flags, data);
    let refused = [
        (client(window + 2, push, 10), Reason::BeyondWindow),
        (
            client(window + 2, Flags::RST, 0),
            Reason::ResetOutsideWindow,
        ),
        (
            client(0x4000_0000, Flags::RST, 0),
            Reason::ResetOutsideWindow,
        ),
    ];
    let before = flow(door, &talk)?;
    for (frame, reason) in &refused {
        send(door, wire, frame, *reason)?;
    }
    let never_sent = Frame {
        ack: connection.reply.seq.wrapping_add(2),
        ..client(1, push, 10)
    };
    send(door, wire, &never_sent, Reason::AckUnsent)?;
    if offer.kept().stamps {
        let mut old = client(1, push, 10);
        let at = 4;
        old.options[at..at + 4].copy_from_slice(&(Offer::STAMP - 40_000).to_be_bytes());
        send(door, wire, &old, Reason::TimestampOld)?;
    }
    send(door, wire, &client(9, Flags::RST, 0), Reason::ResetInexact)?;
    let after = flow(door, &talk)?;
    ensure!(
        after.states() == before.states() && after.ends[0].end == before.ends[0].end,
        "refused segments moved the flow"
    );
    // Both talk.
    send(door, wire, &client(1, push, 1000), Reason::Tracked)?;
    send(door, host, &server(1, 1001, push, 1000), Reason::Tracked)?;
    // The server's window is scaled from here on, if it is at all.
    let scale = if offer.kept().scale { SCALE } else { 0 };
    let edge = 1001 + (700 << scale);
    let acked = |frame: Frame| Frame {
        ack: connection.reply.seq.wrapping_add(1001),
        ..frame
    };
    send(
        door,
        wire,
        &acked(client(edge.max(window + 1) + 1, push, 10)),
        Reason::BeyondWindow,
    )?;
    send(door, wire, &acked(client(1001, push, 600)), Reason::Tracked)
}

#[test]
fn a_flow_of_a_cookie_is_checked_as_strictly_as_any() {
    let mut door = Door::new();
    let mut number = 0;
    for wrapping in Wrapping::ALL {
        for offer in Offer::every() {
            number += 1;
            strict(&mut door, talk(wrapping, number), offer)
                .unwrap_or_else(|error| panic!("{wrapping:?} {offer:?}: {error:?}"));
        }
    }
    door.bench.settle().unwrap();
}

#[test]
fn an_exact_reset_of_either_end_closes_it() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let one = open(&mut door, talk(wrapping, number * 4), Offer::ALL).unwrap();
        let reset = one.of_client(1, Flags::RST, 0);
        send(&mut door, Origin::Wire, &reset, Reason::ResetClosed).unwrap();
        assert_eq!(flow(&door, &one.talk).unwrap().states(), [Closed; 2]);
        let other = open(&mut door, talk(wrapping, number * 4 + 2), Offer::ALL).unwrap();
        let reset = other.of_server(1, 1, Flags::RST, 0);
        send(&mut door, Origin::Host, &reset, Reason::ResetClosed).unwrap();
        assert_eq!(flow(&door, &other.talk).unwrap().states(), [Closed; 2]);
    }
}

#[test]
fn it_closes_as_any_does() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let one = open(&mut door, talk(wrapping, number), Offer::ALL).unwrap();
        let fin = Flags::FIN | Flags::ACK;
        let tracked = Reason::Tracked;
        send(&mut door, Origin::Wire, &one.of_client(1, fin, 0), tracked).unwrap();
        assert_eq!(
            flow(&door, &one.talk).unwrap().states(),
            [FinWait1, Established]
        );
        let last = one.of_server(1, 2, Flags::ACK, 0);
        send(&mut door, Origin::Host, &last, tracked).unwrap();
        assert_eq!(flow(&door, &one.talk).unwrap().states()[1], CloseWait);
    }
}

/// A copy of the ACK, or an attacker who has seen it, moves nothing.
#[test]
fn the_ack_again_moves_nothing() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let one = open(&mut door, talk(wrapping, number), Offer::ALL).unwrap();
        let hello = one.of_server(1, 1, Flags::ACK | Flags::PSH, 100);
        send(&mut door, Origin::Host, &hello, Reason::Tracked).unwrap();
        let before = flow(&door, &one.talk).unwrap();
        let known = door.known(&one.talk);
        let again = ack(&one.talk, &one.reply, Offer::ALL);
        for _ in 0..3 {
            send(&mut door, Origin::Wire, &again, Reason::Tracked).unwrap();
        }
        let after = flow(&door, &one.talk).unwrap();
        assert_eq!(after.generation, before.generation);
        assert_eq!(after.event_seq(), before.event_seq());
        let numbers = |flow: &Flow| {
            flow.ends
                .map(|end| [end.isn.0, end.end.0, end.ack.0, end.max_end.0, end.ts])
        };
        assert_eq!(numbers(&after), numbers(&before), "{wrapping:?}");
        assert_eq!(door.known(&one.talk), known);
    }
}

/// Data that come with the cookie count.
#[test]
fn what_comes_with_the_cookie_is_part_of_the_flow() {
    let mut door = Door::new();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        let talk = talk(wrapping, number);
        door.learn(&talk);
        let (_, reply) = door.knock(&syn(&talk, Offer::ALL)).unwrap();
        let first = Frame {
            data: 333,
            flags: Flags::ACK | Flags::PSH,
            ..ack(&talk, &reply, Offer::ALL)
        };
        send(&mut door, Origin::Wire, &first, Reason::CookieReturned).unwrap();
        let flow = flow(&door, &talk).unwrap();
        assert_eq!(flow.ends[0].end.0, talk.isns[0].wrapping_add(334));
        assert_eq!(flow.ends[0].packets(), 1, "only the ACK was kept");
        assert_eq!(flow.ends[1].packets(), 0);
    }
}

/// What is remembered of a packet on its way through the stages is of that packet:
/// observing, the stage that takes cookies back is not there to forget it.
#[test]
fn the_next_packet_returns_nothing_where_cookies_are_off() {
    let mut door = Door::new();
    let talk = talk(Wrapping::ALL[0], 0);
    let offer = Offer::every().last().unwrap();
    let returned = open(&mut door, talk, offer).unwrap();
    let observing = Live {
        mode: Mode::Observe as u8,
        ..answering()
    };
    door.bench.loaded.set_live(&observing).unwrap();
    let fin = returned.of_client(1, Flags::FIN | Flags::ACK, 0);
    send(&mut door, Origin::Wire, &fin, Reason::Tracked).unwrap();
    assert_eq!(flow(&door, &talk).unwrap().states()[0], FinWait1);
}
