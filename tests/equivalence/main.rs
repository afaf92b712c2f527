//! The brain on the host and the loaded program agree: the same random streams
//! of segments go through both, and after every packet the reason and the whole
//! flow are equal.
//!
//! What the compiler and the verifier's wishes have made of the brain's code
//! must not show. The streams are honest conversations with losses, duplicates
//! and reordering, mixed with segments that nobody honest sends, in both
//! families, with and without tags, at both hooks, while time passes.
//!
//! `TRACKER_JUDGE=full` makes more of it.

mod stream;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tracker::{
    datapath::LoadOptions,
    replay::{Entry, Id, Seen, Settings, Table, comparable},
};
use tracker_common::{
    abi::{AtLimit, Cause, Family, Gauge, Hook, Live, Role, switches},
    reason::Reason,
};
use tracker_tests::program::{
    bench::{Bench, live, options},
    random::Random,
};

use stream::Stream;

/// Names one stream instead of all, as a failure tells it.
const SEED: &str = "TRACKER_SEED";

/// Set to `full` for a long run.
const EFFORT: &str = "TRACKER_JUDGE";

/// Streams beside a fresh one, by default and in full.
const STREAMS: [u64; 2] = [4, 40];

/// Packets of each stream.
const PACKETS: u32 = 100_000;

/// Reasons that no stream can bring about, and why.
const OUT_OF_REACH: [(Reason, &str); 20] = [
    (Reason::CookieSent, COOKIE),
    (Reason::CookieReturned, COOKIE),
    (Reason::CookieUntracked, COOKIE),
    (Reason::CookieInvalid, COOKIE),
    (Reason::ListenerLimit, SHARE),
    (Reason::SourceLimit, SHARE),
    (Reason::ListenerRefused, SHARE),
    (Reason::SourceRefused, SHARE),
    (
        Reason::AnswerLimit,
        "the sketch that it comes from is a map of the program's, behind cookies",
    ),
    (
        Reason::Banned,
        "the bans are a map of the program's, asked before the brain is",
    ),
    (
        Reason::TableRefused,
        "it takes the place of table_full by a flag that the program alone reads",
    ),
    (Reason::PolicyDropped, POLICY),
    (Reason::PolicyReset, POLICY),
    (Reason::PolicyProhibited, POLICY),
    (Reason::PolicyRevoked, POLICY),
    (Reason::RuleRate, POLICY),
    (Reason::RuleSourceRate, POLICY),
    (Reason::RuleFlows, POLICY),
    (Reason::RuleSourceFlows, POLICY),
    (Reason::IcmpStray, POLICY),
];

const COOKIE: &str = "the kernel makes and takes cookies, and the brain has no kernel";
const SHARE: &str = "the shares of listeners and sources are a map of the program's";
const POLICY: &str = "no policy is in force: tests/policy_maps.rs compares what one says";

/// Small enough for every limit to be met.
const CAPACITY: u32 = 16;

/// A configuration for each stream in turn.
fn limits(seed: u64) -> Live {
    let (pickup, switches) = match seed % 4 {
        2 => (0, switches::DROP_SYN_DATA | switches::STRICT_2MSL),
        3 => (1, switches::LIBERAL),
        _ => (1, 0),
    };
    // Nothing is enforced, so that refused packets pass, too.
    let at_limit = match seed % 4 {
        2 => AtLimit::Drop,
        _ => AtLimit::Cookie,
    };
    Live {
        pickup,
        switches,
        at_limit: at_limit as u8,
        half_open_limit: 8,
        pickup_limit: 5,
        capacity: CAPACITY,
        ..live()
    }
}

/// What the streams came to.
struct Seldom {
    /// Packets by reason.
    reasons: [u64; 256],
    /// Histories and refusals that were compared.
    remembered: [u64; 2],
}

/// Sends one stream through both.
fn compare(bench: &mut Bench, seed: u64, seldom: &mut Seldom) -> Result<()> {
    let mut random = Random::new(seed);
    let mut stream = Stream::new(&mut random);
    let live = limits(seed);
    bench.loaded.set_live(&live)?;
    let mut table = Table::new(Settings {
        live,
        role: Role::Host,
        checksum: false,
    });
    for number in 0..PACKETS {
        bench.wait_ms(stream.pause_ms(&mut random))?;
        let (origin, talk, frame) = stream.next(&mut random, &table);
        let id = Id::new(talk.wrapping.family, &talk.key());
        let before = table.get(&id).cloned();
        let seen = Seen {
            ifindex: bench.ifindex(origin),
            local: origin.is_local(),
            leaves: origin.hook() == Hook::Egress,
            now_ns: bench.now_ns(),
        };
        let reason = table.packet_of(&frame[..], &seen).reason;
        seldom.reasons[reason as usize] += 1;
        let here = || {
            format!(
                "packet {number} of the stream {SEED}={seed}, {origin:?}: {talk:?}\n{frame:02x?}\n\
                 the flow before: {before:#?}"
            )
        };
        bench.expect(origin, &frame, reason).with_context(here)?;
        let theirs = bench.flow(id.family(), &id.key())?;
        let ours = table.get(&id).map(|entry| entry.flow);
        ensure!(
            theirs.as_ref().map(comparable) == ours.as_ref().map(comparable),
            "the flows differ: the brain has {ours:#?}, the program has {theirs:#?} after {}",
            here()
        );
        if random.once_in(200) {
            reap(bench, &mut table, &mut random).with_context(here)?;
        }
        if number % 1000 == 0 {
            counters(bench, &table).with_context(here)?;
            memory(bench, &table, &mut seldom.remembered).with_context(here)?;
        }
    }
    counters(bench, &table)?;
    bench.settle()?;
    bench.flush()?;
    ensure!(
        [
            Gauge::HalfOpen,
            Gauge::Pickup,
            Gauge::Calling,
            Gauge::FlowsV4,
            Gauge::FlowsV6
        ]
        .iter()
        .all(|&gauge| bench.gauge(gauge).is_ok_and(|value| value == 0)),
        "flushed, and counters are left"
    );
    Ok(())
}

/// Proposes a flow for expiry to both.
fn reap(bench: &Bench, table: &mut Table, random: &mut Random) -> Result<()> {
    let family = random.pick(&[Family::V4, Family::V6]);
    let flows = bench.flows(family)?;
    if flows.is_empty() {
        return Ok(());
    }
    let (key, flow) = random.pick(&flows);
    let totals = bench
        .loaded
        .remove(Cause::Expired, &[(family, key, flow.generation)])?;
    let expired = table.expire(&Id::new(family, &key), bench.now_ns());
    let removed = expired.is_some();
    ensure!(
        (totals.removed == 1, totals.kept == 1) == (removed, !removed),
        "the reaper says {totals:?} of {flow:?}"
    );
    Ok(())
}

/// Checks the shared counters and every flow.
fn counters(bench: &Bench, table: &Table) -> Result<()> {
    for (gauge, expected) in [
        (Gauge::HalfOpen, table.half_open()),
        (Gauge::Pickup, table.pickups()),
        (Gauge::FlowsV4, table.count(Family::V4)),
        (Gauge::FlowsV6, table.count(Family::V6)),
    ] {
        let counted = bench.gauge(gauge)?;
        ensure!(
            counted == expected,
            "{gauge:?} is {counted} instead of {expected}"
        );
    }
    for family in [Family::V4, Family::V6] {
        for (key, flow) in bench.flows(family)? {
            let ours = table
                .get(&Id::new(family, &key))
                .context("a flow that the brain has not")?;
            ensure!(
                comparable(&flow) == comparable(&ours.flow),
                "{flow:#?} is not {ours:#?}"
            );
        }
    }
    Ok(())
}

/// Checks what is remembered beside every flow. The program's tables forget the
/// least recently used, so what they lack is not wrong.
fn memory(bench: &Bench, table: &Table, compared: &mut [u64; 2]) -> Result<()> {
    let (histories, refusals) = (bench.loaded.histories()?, bench.loaded.refusals()?);
    for (id, entry) in table.flows() {
        let theirs = bench.flow(id.family(), &id.key())?;
        let theirs = theirs.context("a flow that the program has not")?.id().0;
        let Entry {
            history, refusal, ..
        } = entry;
        if let Some(theirs) = histories.get(&theirs) {
            compared[0] += 1;
            ensure!(
                Some(theirs) == history.as_deref(),
                "the history {theirs:#?} is not {history:#?}"
            );
        }
        if let Some(theirs) = refusals.get(&theirs) {
            compared[1] += 1;
            ensure!(
                Some(theirs) == refusal.as_deref(),
                "the refusal {theirs:#?} is not {refusal:#?}"
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
    let full = std::env::var(EFFORT).is_ok_and(|effort| effort == "full");
    let usual = || (1..=STREAMS[usize::from(full)]).chain([fresh]).collect();
    let seeds: Vec<u64> = chosen.map_or_else(usual, |seed| vec![seed]);
    let mut bench = Bench::with(&LoadOptions {
        capacity: CAPACITY,
        ..options()
    })
    .unwrap();
    let mut seldom = Seldom {
        reasons: [0; 256],
        remembered: [0; 2],
    };
    for &seed in &seeds {
        compare(&mut bench, seed, &mut seldom).unwrap_or_else(|error| panic!("{error:?}"));
    }
    // The streams are worth something only if they come to where it is rare.
    for &reason in Reason::ALL {
        let count = seldom.reasons[reason as usize];
        println!("{count:>8} {}", reason.as_str());
        let of_segments = matches!(reason as u8, 8..=41 | 48..=57 | 75 | 78 | 96..);
        let word = reason.as_str();
        let out_of_reach = OUT_OF_REACH.iter().any(|&(other, _)| other == reason);
        assert!(
            !of_segments || out_of_reach || count > 0,
            "{word} never came up"
        );
        assert!(!out_of_reach || count == 0, "{word} is in reach after all");
    }
    let [histories, refusals] = seldom.remembered;
    let met = seldom.reasons.iter().filter(|&&count| count > 0).count();
    println!(
        "judge: {}",
        json!({
            "judge": "equivalence",
            "streams": seeds.len(),
            "packets": seldom.reasons.iter().sum::<u64>(),
            "reasons": met,
            "histories": histories,
            "refusals": refusals,
            // The first one ends the test.
            "differences": 0,
        })
    );
    assert!(histories > 100 && refusals > 100);
}
