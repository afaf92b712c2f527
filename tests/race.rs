//! Packets race each other and the reaper on all CPUs, for the same few flows:
//! afterwards every shared counter tells the truth.
//!
//! The flows expire as soon as the clock moves, the tables and limits are
//! smaller than the number of flows, so that flows are made, moved, replaced,
//! removed and refused all the time.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use tracker::datapath::{LoadOptions, ReapTotals};
use tracker_common::{
    abi::{AtLimit, Cause, Family, Gauge, Hook, Live, Place, flow_flags, held},
    reason::Reason,
    time::TICK_NS,
};
use tracker_tests::program::{
    bench::{Bench, Origin, live, options},
    frame::Wrapping,
    random::Random,
    talk::{A, B, Seg, Talk},
};

/// How long each race takes.
const LAPS: Duration = Duration::from_secs(3);

/// Flows of each family that the packets are of.
const TALKS: u32 = 8;

/// Entries of each table.
const CAPACITY: u32 = 6;

const SEGMENTS: [Seg; 16] = [
    A.syn(),
    A.syn(),
    A.syn().seq(1_000_000),
    // Answers that where it passed on a live flow.
    B.syn_ack().seq(2_000_000).acks(1_000_001),
    A.ack().seq(1_000_001).acks(2_000_001),
    B.syn(),
    B.syn_ack(),
    B.syn_ack(),
    A.ack(),
    A.ack(),
    A.ack().data(100),
    B.ack().data(100),
    A.fin(),
    B.fin().acks(2),
    A.ack().seq(2).acks(2),
    A.rst(),
];

fn talk(number: u32) -> Talk {
    let family = if number < TALKS {
        Family::V4
    } else {
        Family::V6
    };
    Talk::new(Wrapping::plain(family), number % TALKS)
}

/// Keeps this thread on the CPU number `number` modulo those it may use.
fn pin(number: usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu).unwrap())
        .collect();
    let mut one = CpuSet::new();
    one.set(cpus[number % cpus.len()]).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Sends packets until told to stop; how many.
fn packets(bench: &Bench, number: usize, stop: &AtomicBool) -> u64 {
    pin(number);
    let mut random = Random::new(number as u64 + 1);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let segment = random.pick(&SEGMENTS);
        let frame = talk(random.below(2 * TALKS)).frame(segment).bytes();
        let origin = if segment.from == A {
            Origin::Wire
        } else {
            Origin::Host
        };
        // For more runs than one of an XDP program the kernel patches its code
        // first, which takes milliseconds.
        let times = match origin.hook() {
            Hook::Ingress => 1,
            Hook::Egress => random.pick(&[1, 1, 3, 20]),
        };
        bench.repeat(origin, &frame, times).unwrap();
        sent += u64::from(times);
    }
    sent
}

/// Proposes flows for removal, and lets time pass, until told to stop.
fn reap(bench: &Bench, clock: &AtomicU64, stop: &AtomicBool) -> [ReapTotals; 2] {
    let mut random = Random::new(99);
    let mut totals = [ReapTotals::default(); 2];
    while !stop.load(Ordering::Relaxed) {
        pin(random.below(64) as usize);
        let mut flows = Vec::new();
        for talk in (0..2 * TALKS).map(talk) {
            let (family, key) = (talk.wrapping.family, talk.key());
            if let Some(flow) = bench.flow(family, &key).unwrap() {
                flows.push((family, key, flow.generation));
            }
        }
        // Flows that the packets renew meanwhile are named more than once.
        let flows = flows.repeat(4);
        let flushes = random.once_in(3);
        let cause = if flushes {
            Cause::Flushed
        } else {
            Cause::Expired
        };
        totals[usize::from(flushes)].add(bench.loaded.remove(cause, &flows).unwrap());
        if random.once_in(4) {
            let now = clock.fetch_add(TICK_NS, Ordering::Relaxed) + TICK_NS;
            bench.loaded.set_test_clock(now).unwrap();
        }
    }
    totals
}

/// Checks that the counters tell what is there.
fn check(bench: &Bench) {
    let gauge = |gauge| bench.gauge(gauge).unwrap();
    let (mut half_open, mut calling, mut pickups) = (0, 0, 0);
    for (family, elements) in [(Family::V4, Gauge::FlowsV4), (Family::V6, Gauge::FlowsV6)] {
        let flows = bench.flows(family).unwrap();
        for (key, flow) in &flows {
            assert_eq!(flow.tag, key.tag(family), "{flow:?} is under another's key");
            half_open += u64::from(flow.has(held::COUNTED));
            calling += u64::from(flow.has(held::HALF_OPEN) && !flow.has(held::COUNTED));
            pickups += u64::from(flow.has(held::PICKUP));
        }
        // An element that is nobody's is in the gauge, and not among the flows.
        assert_eq!(
            gauge(elements),
            flows.len() as u64,
            "elements of {family:?}"
        );
    }
    assert_eq!(gauge(Gauge::HalfOpen), half_open, "half-open reservations");
    assert_eq!(
        gauge(Gauge::Calling),
        calling,
        "half-open flows of local clients"
    );
    assert_eq!(
        gauge(Gauge::Pickup),
        pickups,
        "reservations of picked-up flows"
    );
}

/// Checks the shares of listeners and sources. Where an entry's last count goes
/// and another CPU adds one before the entry is removed, that one is lost until
/// the agent recounts: fewer may be counted than there are, never more.
fn check_shares(bench: &Bench, live: &Live) {
    let mut there: HashMap<Place, u64> = HashMap::new();
    for family in [Family::V4, Family::V6] {
        for (key, flow) in bench.flows(family).unwrap() {
            if flow.has(held::SHARED) {
                let high = flow.has(flow_flags::INITIATOR_HIGH);
                let (listener, source) = Place::of_flow(&key, family, high, live.source_bits);
                *there.entry(listener).or_default() += 1;
                *there.entry(source).or_default() += 1;
            }
        }
    }
    let shares = bench.loaded.shares().unwrap();
    println!("shares {shares:?} of {there:?}");
    for (place, count) in shares {
        let flows = there.get(&place).copied().unwrap_or(0);
        assert!(
            count <= flows,
            "{count} of {flows} are counted for {place:?}"
        );
    }
}

/// What a race is about beside the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Tables,
    Preallocated,
    /// Limits by listener and source.
    Shares,
    /// And the oldest half-open flow makes room.
    Evictions,
}

fn race(about: About) {
    let bench = Bench::with(&LoadOptions {
        capacity: CAPACITY,
        preallocate: about == About::Preallocated,
        ..options()
    })
    .unwrap();
    let mut live = live();
    live.timeouts = [[1; 16]; _];
    live.half_open_limit = 4;
    live.pickup_limit = 3;
    if matches!(about, About::Shares | About::Evictions) {
        live.source_limit = 2;
        live.listener_limit = 3;
    }
    if about == About::Evictions {
        live.at_limit = AtLimit::EvictOldest as u8;
    }
    bench.loaded.set_live(&live).unwrap();

    let clock = AtomicU64::new(bench.now_ns());
    let stop = AtomicBool::new(false);
    let cpus = thread::available_parallelism().unwrap().get();
    let (sent, [expired, flushed]) = thread::scope(|scope| {
        let (bench, clock, stop) = (&bench, &clock, &stop);
        // Threads of this one are in its network namespace.
        let senders: Vec<_> = (0..cpus.max(2))
            .map(|number| scope.spawn(move || packets(bench, number, stop)))
            .collect();
        let reaper = scope.spawn(|| reap(bench, clock, stop));
        let start = Instant::now();
        while start.elapsed() < LAPS {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum();
        (sent, reaper.join().unwrap())
    });

    check(&bench);
    check_shares(&bench, &live);
    let reasons = bench.loaded.reasons().unwrap();
    let of = |wanted: Reason| -> u64 {
        let counts = reasons.iter().filter(|(reason, ..)| *reason == wanted);
        counts.map(|(.., count)| count.packets).sum()
    };
    let counted: u64 = reasons.iter().map(|(.., count)| count.packets).sum();
    assert_eq!(counted, sent, "each packet leaves with one reason");
    let contended = of(Reason::Contended);
    println!(
        "{sent} packets, {contended} contended; the reaper's expiry {expired:?}, flush {flushed:?}"
    );
    for (reason, hook, count) in &reasons {
        if count.packets > 0 {
            println!("{:>10} {} at {hook:?}", count.packets, reason.as_str());
        }
    }
    assert!(
        contended <= sent / 100,
        "{contended} of {sent} packets gave up on their flow"
    );
    assert_eq!(of(Reason::InsertFailed), 0);
    // Or there was no race.
    let refused = match about {
        About::Tables | About::Preallocated => Reason::HalfOpenLimit,
        About::Shares | About::Evictions => Reason::SourceLimit,
    };
    for reason in [
        Reason::FlowOpened,
        Reason::FlowReopened,
        Reason::FlowPickedUp,
        Reason::FlowRestarted,
        Reason::SynOnLive,
        Reason::Tracked,
        Reason::ResetClosed,
        refused,
        Reason::PickupLimit,
        Reason::TableFull,
    ] {
        assert!(
            of(reason) > 100,
            "{} came up {} times",
            reason.as_str(),
            of(reason)
        );
    }
    for (totals, at_least) in [(expired, 100), (flushed, 100)] {
        assert!(totals.removed > at_least, "removed {totals:?}");
        assert!(totals.gone > at_least, "gone {totals:?}");
    }
    assert!(expired.kept > 0, "{expired:?}");
    assert_eq!(flushed.kept, 0);

    bench.flush().unwrap();
    check(&bench);
    check_shares(&bench, &live);
    assert_eq!(bench.loaded.gauges().unwrap()[..4], [0; 4]);
    live.source_limit = 0;
    live.listener_limit = 0;
    // Nothing is left in the tables that the counters do not know.
    live.half_open_limit = 2 * CAPACITY;
    bench.loaded.set_live(&live).unwrap();
    for number in (0..CAPACITY).flat_map(|number| [number, TALKS + number]) {
        let frame = talk(number).frame(A.syn()).bytes();
        let before = bench
            .loaded
            .reason(Reason::FlowOpened, Origin::Wire.hook())
            .unwrap();
        bench.run(Origin::Wire, &frame).unwrap();
        let after = bench
            .loaded
            .reason(Reason::FlowOpened, Origin::Wire.hook())
            .unwrap();
        assert_eq!(
            after.packets,
            before.packets + 1,
            "flow {number} finds no place"
        );
    }
}

#[test]
fn packets_race_the_reaper() {
    race(About::Tables);
}

#[test]
fn packets_race_the_reaper_in_preallocated_tables() {
    race(About::Preallocated);
}

#[test]
fn packets_race_for_their_shares() {
    race(About::Shares);
}

#[test]
fn packets_race_to_make_room() {
    race(About::Evictions);
}
