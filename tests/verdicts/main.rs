//! What the loaded programs say about each kind of packet: a table with one row
//! at least for every reason.
//!
//! Each row runs in every wrapping (IPv4 and IPv6; untagged, priority-tagged,
//! VLAN, QinQ), at both hooks, with and without TCP options, where it makes
//! sense. Exactly one counter must move, by one, and every packet passes, but
//! for those that are refused or answered where the tracker enforces.

mod checked;
mod defence;
mod malformed;
mod memory;
mod opening;
mod policy;
mod row;
mod segments;
mod zones;

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};
use tracker_common::{
    abi::{Family, Gauge},
    reason::Reason,
};
use tracker_tests::program::{
    bench::{Bench, Origin, live, options},
    frame::Wrapping,
    talk::{A, Talk},
};

use row::{After, Row, Stage};

/// Reasons that no packet of a test can bring about, and why.
const OUT_OF_REACH: [(Reason, &str); 3] = [
    (
        Reason::NoMemory,
        "the kernel has to run out of memory in the middle of an insertion",
    ),
    (
        Reason::InsertFailed,
        "an insertion has to interrupt another one in the same bucket on the same CPU",
    ),
    (
        Reason::NotConfigured,
        "an array always has its first element: the verifier wants it asked",
    ),
];

fn rows() -> Vec<Row> {
    [
        malformed::rows(),
        opening::rows(),
        segments::rows(),
        checked::rows(),
        defence::rows(),
        policy::rows(),
    ]
    .concat()
}

#[test]
fn every_reason_has_a_row_or_an_excuse() {
    let rows: HashSet<Reason> = rows().iter().map(|row| row.reason).collect();
    for &reason in Reason::ALL {
        let excused = OUT_OF_REACH.iter().any(|&(excused, _)| excused == reason);
        let word = reason.as_str();
        assert!(
            rows.contains(&reason) || excused,
            "no row has the reason {word}"
        );
        assert!(
            !(rows.contains(&reason) && excused),
            "{word} is in reach after all"
        );
    }
}

#[test]
fn names_of_rows_are_unique() {
    let mut names = HashSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "two rows are called {:?}", row.name);
    }
}

#[test]
fn packets_leave_with_their_reason() {
    let mut failures = Vec::new();
    let mut run = 0_u32;
    let mut rows = rows();
    let loaded = |row: &Row| (row.capacity, row.checksum);
    rows.sort_by_key(loaded);
    for rows in rows.chunk_by(|a, b| loaded(a) == loaded(b)) {
        let (capacity, checksum) = loaded(&rows[0]);
        let mut load = options();
        load.checksum = checksum;
        load.capacity = capacity.unwrap_or(load.capacity);
        let mut bench = Bench::with(&load).unwrap();
        for row in rows {
            for wrapping in Wrapping::ALL
                .into_iter()
                .filter(|&wrapping| (row.fits)(wrapping))
            {
                for &origin in &row.origins {
                    for with_options in [false, true] {
                        let mut talk = Talk::new(wrapping, run);
                        talk.options = with_options;
                        run += 1;
                        let mut stage = Stage::new(&mut bench, talk, origin, checksum);
                        if let Err(error) = one(row, &mut stage) {
                            failures.push(format!(
                                "{:?} in {wrapping:?} from {origin:?}, options {with_options}: \
                                 {error:#}",
                                row.name
                            ));
                        }
                        if capacity.is_some() {
                            bench.flush().unwrap();
                        }
                    }
                }
            }
        }
        bench.settle().unwrap();
    }
    assert!(
        failures.is_empty(),
        "{} of {run} runs failed; the first:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

fn one(row: &Row, stage: &mut Stage<'_>) -> Result<()> {
    stage.bench.loaded.set_live(&live())?;
    for &(segment, class) in &row.played {
        stage.play(segment, class).context("before")?;
    }
    (row.prepare)(stage).context("before")?;
    let elements = |stage: &Stage<'_>| -> Result<u64> {
        let gauges = stage.bench.loaded.gauges()?;
        Ok(gauges[Gauge::FlowsV4 as usize] + gauges[Gauge::FlowsV6 as usize])
    };
    let elements_before = elements(stage)?;
    let (origin, packet) = stage.packet(row);
    let reason = stage.bench.send(origin, &packet)?;
    ensure!(
        reason == row.reason,
        "the reason is {} instead of {}",
        reason.as_str(),
        row.reason.as_str()
    );
    for origin in [Origin::Wire, Origin::Loopback] {
        let ifindex = stage.bench.ifindex(origin);
        stage.bench.loaded.clear_interface(ifindex)?;
    }

    let family = stage.talk.wrapping.family;
    let flow = stage.bench.flow(family, &stage.talk.key())?;
    match (row.after, flow) {
        (After::Nothing, None) => {
            ensure!(
                elements(stage)? == elements_before,
                "an element came or went"
            );
        }
        (After::Gone, None) => {
            ensure!(elements(stage)? == elements_before - 1, "no element went");
        }
        (After::Nothing | After::Gone, Some(flow)) => anyhow::bail!("there is a flow {flow:?}"),
        (After::States(_), None) => anyhow::bail!("there is no flow"),
        (After::States(expected), Some(flow)) => {
            let states = flow.states();
            ensure!(
                states == expected,
                "the states are {states:?} instead of {expected:?}"
            );
            memory::refusal(row, stage, &flow)?;
        }
    }
    Ok(())
}

/// The octets counted under a reason are those of the frame.
#[test]
fn octets_of_frames_are_counted() {
    let mut bench = Bench::new().unwrap();
    for (number, wrapping) in (0..).zip(Wrapping::ALL) {
        for origin in [Origin::Wire, Origin::Host] {
            let count = |bench: &Bench| {
                bench
                    .loaded
                    .reason(Reason::NotTcp, origin.hook())
                    .unwrap()
                    .bytes
            };
            let before = count(&bench);
            let mut frame = Talk::new(wrapping, number).frame(A.syn());
            frame.protocol = 17;
            frame.data = 77;
            let frame = frame.bytes();
            bench.expect(origin, &frame, Reason::NotTcp).unwrap();
            assert_eq!(
                count(&bench) - before,
                frame.len() as u64,
                "{wrapping:?} {origin:?}"
            );
        }
    }
    bench.settle().unwrap();
    assert!(bench.flows(Family::V4).unwrap().is_empty());
}
