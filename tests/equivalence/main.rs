//! The brain on the host and the loaded program agree: the same random streams
//! of segments go through both, and after every packet the reason and the whole
//! flow are equal.
//!
//! What the compiler and the verifier's wishes have made of the brain's code
//! must not show. The streams are honest conversations with losses, duplicates
//! and reordering, mixed with segments that nobody honest sends, in both
//! families, with and without tags, at both hooks, while time passes.

mod model;
mod stream;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tracker::datapath::LoadOptions;
use tracker_common::{
    abi::{Cause, Family, Flow, Gauge, Live},
    reason::Reason,
};
use tracker_tests::program::{
    bench::{Bench, live, options},
    random::Random,
};

use model::{Model, Seen};
use stream::Stream;

/// Names one stream instead of all, as a failure tells it.
const SEED: &str = "TRACKER_SEED";

/// Packets of each stream.
const PACKETS: u32 = 100_000;

/// Small enough for every limit to be met.
const CAPACITY: u32 = 16;

fn limits() -> Live {
    Live {
        half_open_limit: 8,
        pickup_limit: 5,
        ..live()
    }
}

/// A flow without what only the program knows: the lock, and the generation.
fn comparable(flow: &Flow) -> [u8; 120] {
    let flow = Flow {
        lock: Default::default(),
        generation: 0,
        ..*flow
    };
    // SAFETY: a flow is made of integers without padding (its size is that of
    // its fields), so all of its bytes are initialised.
    unsafe { std::mem::transmute(flow) }
}

/// Sends one stream through both.
fn compare(bench: &mut Bench, seed: u64, reasons: &mut [u64; 256]) -> Result<()> {
    let mut random = Random::new(seed);
    let mut stream = Stream::new(&mut random);
    let mut model = Model::new(limits(), CAPACITY);
    for number in 0..PACKETS {
        bench.wait_ms(stream.pause_ms(&mut random))?;
        let (origin, talk, frame) = stream.next(&mut random, &model);
        let frame = frame.bytes();
        let (family, key) = (talk.wrapping.family, talk.key());
        let before = model.flow(family, &key);
        let seen = Seen {
            ifindex: bench.ifindex(origin),
            local: origin.is_local(),
            now_ns: bench.now_ns(),
        };
        let reason = model.packet(&frame, &seen);
        reasons[reason as usize] += 1;
        let here = || {
            format!(
                "packet {number} of the stream {SEED}={seed}, {origin:?}: {talk:?}\n{frame:02x?}\n\
                 the flow before: {before:#?}"
            )
        };
        bench.expect(origin, &frame, reason).with_context(here)?;
        let theirs = bench.flow(family, &key)?;
        let ours = model.flow(family, &key);
        ensure!(
            theirs.as_ref().map(comparable) == ours.as_ref().map(comparable),
            "the flows differ: the brain has {ours:#?}, the program has {theirs:#?} after {}",
            here()
        );
        if random.once_in(200) {
            reap(bench, &mut model, &mut random).with_context(here)?;
        }
        if number % 1000 == 0 {
            counters(bench, &model).with_context(here)?;
        }
    }
    counters(bench, &model)?;
    bench.settle()?;
    bench.flush()?;
    ensure!(
        bench.loaded.gauges()?[..4] == [0; 4],
        "flushed, and counters are left"
    );
    Ok(())
}

/// Proposes a flow for expiry to both.
fn reap(bench: &Bench, model: &mut Model, random: &mut Random) -> Result<()> {
    let family = random.pick(&[Family::V4, Family::V6]);
    let flows = bench.flows(family)?;
    if flows.is_empty() {
        return Ok(());
    }
    let (key, flow) = random.pick(&flows);
    let totals = bench
        .loaded
        .remove(Cause::Expired, &[(family, key, flow.generation)])?;
    let removed = model.expire(family, &key, bench.now_ns());
    ensure!(
        (totals.removed == 1, totals.kept == 1) == (removed, !removed),
        "the reaper says {totals:?} of {flow:?}"
    );
    Ok(())
}

/// Checks the shared counters and every flow.
fn counters(bench: &Bench, model: &Model) -> Result<()> {
    for (gauge, expected) in [
        (Gauge::HalfOpen, model.half_open),
        (Gauge::Pickup, model.pickups),
        (Gauge::FlowsV4, model.count(Family::V4)),
        (Gauge::FlowsV6, model.count(Family::V6)),
    ] {
        let counted = bench.gauge(gauge)?;
        ensure!(
            counted == expected,
            "{gauge:?} is {counted} instead of {expected}"
        );
    }
    for family in [Family::V4, Family::V6] {
        for (key, flow) in bench.flows(family)? {
            let ours = model
                .flow(family, &key)
                .context("a flow that the brain has not")?;
            ensure!(
                comparable(&flow) == comparable(&ours),
                "{flow:#?} is not {ours:#?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_brain_and_the_program_agree() {
    let chosen = std::env::var(SEED)
        .ok()
        .map(|seed| seed.parse().expect("a number as the seed"));
    let fresh = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seeds = chosen.map_or_else(|| vec![1, 2, 3, 4, fresh], |seed| vec![seed]);
    let mut bench = Bench::with(&LoadOptions {
        capacity: CAPACITY,
        ..options()
    })
    .unwrap();
    bench.loaded.set_live(&limits()).unwrap();
    let mut reasons = [0_u64; 256];
    for &seed in &seeds {
        compare(&mut bench, seed, &mut reasons).unwrap_or_else(|error| panic!("{error:?}"));
    }
    // The streams are worth something only if they come to where it is rare.
    for &reason in Reason::ALL {
        let count = reasons[reason as usize];
        println!("{count:>8} {}", reason.as_str());
        let of_segments = (8..=41).contains(&(reason as u8)) || reason as u8 >= 97;
        assert!(
            !of_segments || count > 0,
            "{} never came up",
            reason.as_str()
        );
    }
}
