//! What is counted of half-open flows: in all, by listener, and by source prefix.
//!
//! After every step the counts are those of the flows that are there.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{AtLimit, Cause, Family, Flow, Gauge, Key, Live, Mode, Place, flow_flags, held},
    reason::{Class, Reason},
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::{Frame, Socket, Wrapping},
    talk::{A, B, Seg, Talk},
};

/// Bits of source prefixes, of either family.
const BITS: [u8; 2] = [24, 48];

/// Enforcing, with limits that nothing reaches.
fn counting() -> Live {
    Live {
        mode: Mode::Enforce as u8,
        listener_limit: 1 << 16,
        source_limit: 1 << 16,
        source_bits: BITS,
        at_limit: AtLimit::Drop as u8,
        ..live()
    }
}

fn bench(live: &Live) -> Bench {
    let bench = Bench::new().unwrap();
    bench.loaded.set_live(live).unwrap();
    bench
}

/// The talk of a client in one of some prefixes with one of some listeners.
fn talk(wrapping: Wrapping, prefix: u16, client: u16, listener: u16) -> Talk {
    let ends = [
        Socket {
            host: prefix << 8 | client,
            port: 20_000 + client,
        },
        Socket {
            host: 0x4000 + listener,
            port: 80 + listener,
        },
    ];
    Talk {
        ends,
        isns: [7 + u32::from(client), 0x8000_0000],
        ..Talk::new(wrapping, 0)
    }
}

fn send(bench: &mut Bench, talk: &Talk, segment: Seg) -> Result<Reason> {
    let origin = if segment.from == A {
        Origin::Wire
    } else {
        Origin::Host
    };
    let reason = bench.send(origin, &talk.frame(segment).bytes())?;
    ensure!(
        reason.class() == Class::Accept,
        "{segment:?} leaves with {}",
        reason.as_str()
    );
    Ok(reason)
}

fn flows(bench: &Bench) -> Vec<(Family, Key, Flow)> {
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| {
            let flows = bench.flows(family).unwrap();
            flows
                .into_iter()
                .map(move |(key, flow)| (family, key, flow))
        })
        .collect()
}

/// Holds the counts against the flows that are there; how many are half-open.
fn audit(bench: &Bench) -> Result<u64> {
    let mut expected: HashMap<Place, u64> = HashMap::new();
    let (mut half_open, mut calling) = (0, 0);
    for (family, key, flow) in flows(bench) {
        half_open += u64::from(flow.has(held::COUNTED));
        calling += u64::from(flow.has(held::HALF_OPEN) && !flow.has(held::COUNTED));
        if flow.has(held::SHARED) {
            ensure!(flow.has(held::COUNTED), "a share of what is not counted");
            let high = flow.has(flow_flags::INITIATOR_HIGH);
            let (listener, source) = Place::of_flow(&key, family, high, BITS);
            *expected.entry(listener).or_default() += 1;
            *expected.entry(source).or_default() += 1;
        }
    }
    let shares: HashMap<Place, u64> = bench.loaded.shares()?.into_iter().collect();
    ensure!(shares == expected, "{shares:#?} are not {expected:#?}");
    for (gauge, expected) in [(Gauge::HalfOpen, half_open), (Gauge::Calling, calling)] {
        let counted = bench.gauge(gauge)?;
        ensure!(
            counted == expected,
            "{gauge:?} is {counted}, not {expected}"
        );
    }
    Ok(half_open)
}

const PREFIXES: u16 = 5;
const CLIENTS: u16 = 6;
const LISTENERS: u16 = 3;

/// Wrappings in each of which the flows are other ones.
const WRAPPINGS: [Wrapping; 3] = [Wrapping::ALL[0], Wrapping::ALL[4], Wrapping::ALL[7]];

/// Half-open flows from several prefixes to several listeners, counted.
fn open_many(bench: &mut Bench) -> Vec<Talk> {
    let mut talks = vec![];
    for wrapping in WRAPPINGS {
        for prefix in 0..PREFIXES {
            for client in 0..CLIENTS {
                // Not the same number to each.
                let listener = client % LISTENERS * (prefix % 2);
                let talk = talk(wrapping, prefix, client, listener);
                assert_eq!(send(bench, &talk, A.syn()).unwrap(), Reason::FlowOpened);
                talks.push(talk);
            }
        }
    }
    let half_open = audit(bench).unwrap();
    assert_eq!(half_open, talks.len() as u64);
    // Said once more without the flows: every client of a prefix.
    let shares: HashMap<Place, u64> = bench.loaded.shares().unwrap().into_iter().collect();
    for wrapping in WRAPPINGS {
        let bits = BITS[usize::from(wrapping.family == Family::V6)];
        let of = |host| {
            let place = Socket { host, port: 1 }.source(wrapping, bits);
            shares.get(&place).copied().unwrap_or(0)
        };
        let expected = match wrapping.family {
            Family::V4 => CLIENTS,
            // The made-up hosts are all of one /48.
            Family::V6 => CLIENTS * PREFIXES,
        };
        assert_eq!(of(0x0107), u64::from(expected), "{wrapping:?}");
        let listener = talk(wrapping, 0, 0, 0).ends[1].listener(wrapping);
        // Two of five prefixes send a third of their clients there, the others all.
        assert_eq!(shares[&listener], u64::from(3 * CLIENTS + 2 * CLIENTS / 3));
    }
    talks
}

fn nothing_is_left(bench: &Bench) {
    assert_eq!(audit(bench).unwrap(), 0);
    assert_eq!(bench.loaded.shares().unwrap(), []);
    assert_eq!(bench.gauge(Gauge::HalfOpen).unwrap(), 0);
}

#[test]
fn shares_go_back_when_handshakes_are_complete() {
    let mut bench = bench(&counting());
    let talks = open_many(&mut bench);
    for talk in &talks {
        send(&mut bench, talk, B.syn_ack()).unwrap();
    }
    // An answer alone proves nothing.
    assert_eq!(audit(&bench).unwrap(), talks.len() as u64);
    for (done, talk) in (1..).zip(&talks) {
        send(&mut bench, talk, A.ack()).unwrap();
        assert_eq!(audit(&bench).unwrap(), talks.len() as u64 - done);
    }
    nothing_is_left(&bench);
}

/// Removes every flow by way of the reaper, one after the other.
fn reap(bench: &Bench, cause: Cause) {
    for (family, key, flow) in flows(bench) {
        let totals = bench
            .loaded
            .remove(cause, &[(family, key, flow.generation)])
            .unwrap();
        assert_eq!(totals.removed, 1, "{cause:?}");
        audit(bench).unwrap();
    }
}

#[test]
fn shares_go_back_when_flows_expire_or_make_room() {
    for cause in [Cause::Expired, Cause::Evicted, Cause::Flushed] {
        let mut bench = bench(&counting());
        open_many(&mut bench);
        bench.wait_ms(200_000).unwrap();
        reap(&bench, cause);
        nothing_is_left(&bench);
    }
}

#[test]
fn shares_go_over_to_the_flow_that_replaces_another() {
    let mut bench = bench(&counting());
    let talks = open_many(&mut bench);
    bench.wait_ms(200_000).unwrap();
    for talk in &talks {
        let reason = send(&mut bench, talk, A.syn().seq(77)).unwrap();
        assert_eq!(reason, Reason::FlowReopened);
        assert_eq!(audit(&bench).unwrap(), talks.len() as u64);
    }
    reap(&bench, Cause::Flushed);
    nothing_is_left(&bench);
}

/// The oldest half-open flow makes room, and its shares go with it.
#[test]
fn the_oldest_half_open_flow_makes_room() {
    const LIMIT: u32 = 8;
    let live = Live {
        at_limit: AtLimit::EvictOldest as u8,
        half_open_limit: LIMIT,
        ring_slots: 4096,
        ..counting()
    };
    for family in [Family::V4, Family::V6] {
        let mut bench = bench(&live);
        let wrapping = Wrapping::plain(family);
        let talks: Vec<Talk> = (0..100)
            .map(|number| talk(wrapping, number % 7, number, number % 3))
            .collect();
        for (number, talk) in talks.iter().enumerate() {
            assert_eq!(
                send(&mut bench, talk, A.syn()).unwrap(),
                Reason::FlowOpened,
                "SYN {number}"
            );
            let expected = (number as u64 + 1).min(u64::from(LIMIT));
            assert_eq!(audit(&bench).unwrap(), expected);
            let oldest = (number + 1).saturating_sub(LIMIT as usize);
            for (other, talk) in talks[..=number].iter().enumerate() {
                let there = bench.flow(family, &talk.key()).unwrap().is_some();
                assert_eq!(there, other >= oldest, "{other} after {number}");
            }
        }
    }
}

/// Those whose handshake is over are not among the oldest.
#[test]
fn only_half_open_flows_make_room() {
    const LIMIT: u32 = 8;
    let live = Live {
        at_limit: AtLimit::EvictOldest as u8,
        half_open_limit: LIMIT,
        ring_slots: 4096,
        ..counting()
    };
    let mut bench = bench(&live);
    let wrapping = Wrapping::plain(Family::V4);
    let mut honest = vec![];
    for number in 0..100 {
        let client = talk(wrapping, 1, number, 0);
        send(&mut bench, &client, A.syn()).unwrap();
        if number % 2 == 0 {
            send(&mut bench, &client, B.syn_ack()).unwrap();
            send(&mut bench, &client, A.ack()).unwrap();
            honest.push(client);
        }
    }
    assert_eq!(audit(&bench).unwrap(), u64::from(LIMIT));
    for client in &honest {
        assert!(bench.flow(Family::V4, &client.key()).unwrap().is_some());
    }
}

/// Sends what must leave with that reason, whatever its class.
fn expect(bench: &mut Bench, origin: Origin, frame: &Frame, reason: Reason) {
    bench
        .expect(origin, &frame.bytes(), reason)
        .with_context(|| format!("{frame:?}"))
        .unwrap();
}

/// An RST from elsewhere frees nothing, not even one with the right numbers:
/// whoever sent the SYN knows them.
#[test]
fn a_reset_from_elsewhere_frees_nothing() {
    let mut bench = bench(&counting());
    let talks = open_many(&mut bench);
    let count = talks.len() as u64;
    for talk in &talks {
        let wrong = talk.frame(A.bare_rst().seq(0x4000_0000)).bytes();
        let reason = bench.send(Origin::Wire, &wrong).unwrap();
        assert_ne!(reason, Reason::ResetClosed);
        assert_eq!(audit(&bench).unwrap(), count);
    }
    for talk in &talks {
        let right = talk.frame(A.bare_rst()).bytes();
        bench.send(Origin::Wire, &right).unwrap();
        assert_eq!(audit(&bench).unwrap(), count);
    }
    bench.wait_ms(200_000).unwrap();
    reap(&bench, Cause::Expired);
    nothing_is_left(&bench);
}

/// The limits are exact, and what is refused counts nowhere.
#[test]
fn a_share_is_never_exceeded() {
    let live = Live {
        listener_limit: 10,
        source_limit: 4,
        ..counting()
    };
    let mut bench = bench(&live);
    for wrapping in WRAPPINGS {
        let syn = |prefix, client| talk(wrapping, prefix, client, 0).frame(A.syn());
        let prefixes = match wrapping.family {
            Family::V4 => 0..4,
            Family::V6 => 0..1,
        };
        for prefix in prefixes {
            for client in 0..6 {
                // Of the third prefix the listener takes two, of the next none.
                let reason = if client >= 4 && prefix < 2 {
                    Reason::SourceRefused
                } else if prefix * 4 + client < 10 {
                    Reason::FlowOpened
                } else {
                    Reason::ListenerRefused
                };
                expect(&mut bench, Origin::Wire, &syn(prefix, client), reason);
                audit(&bench).unwrap();
            }
        }
    }
    reap(&bench, Cause::Flushed);
    nothing_is_left(&bench);
}

/// Connections that local clients open have no share of anything.
#[test]
fn local_clients_have_no_shares() {
    let mut bench = bench(&counting());
    for wrapping in WRAPPINGS {
        for client in 0..10 {
            let call = talk(wrapping, 1, client, 0).frame(A.syn());
            expect(&mut bench, Origin::Host, &call, Reason::FlowOpened);
        }
    }
    assert_eq!(audit(&bench).unwrap(), 0);
    assert_eq!(bench.gauge(Gauge::Calling).unwrap(), 30);
    assert_eq!(bench.loaded.shares().unwrap(), []);
    reap(&bench, Cause::Flushed);
    assert_eq!(bench.gauge(Gauge::Calling).unwrap(), 0);
}
