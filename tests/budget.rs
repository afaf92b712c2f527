//! What the datapath costs the kernel, and the most that it may cost:
//! instructions that the verifier walks, stack, memory of the maps and of each
//! flow.
//!
//! `cargo xtask test budget -- --nocapture` prints the numbers that
//! ARCHITECTURE.md quotes.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{maps::MapInfo, programs::loaded_programs};
use tracker::datapath::{LoadOptions, load_for_bench, objects};
use tracker_common::abi::{Family, Gauge};
use tracker_tests::program::{
    bench::{Bench, Origin},
    elf::{Functions, functions},
    frame::Wrapping,
    talk::{A, Talk},
};

/// The verifier gives up on a program after a million (`BPF_COMPLEXITY_LIMIT_INSNS`
/// in include/linux/bpf_verifier.h). Older kernels walk more of the same
/// program than newer ones, so there must be room.
const VERIFIED: [(&str, u32); 4] = [
    ("tracker_ingress", 320_000),
    ("tracker_egress", 320_000),
    ("tracker_reap", 5_000),
    ("tracker_seed", 2_000),
];

/// Octets of stack that the verifier grants, `MAX_BPF_STACK` in
/// include/linux/filter.h, less the spill of four registers. The deepest chain is
/// that of a SYN that makes the oldest half-open flow give way and its shares back.
const STACK: u32 = 512 - 8 * 4;

/// Octets of an object.
const OBJECT: usize = 2_800_000;

/// Octets of all maps at the default configuration, without flows.
const MAPS: u64 = 20_500_000;

/// Octets that a flow may take, by family: the class of the allocator from which
/// its element comes. A bucket of 16 octets for each place in the table is
/// there from the start.
const FLOW: [(Family, u64); 2] = [(Family::V4, 192), (Family::V6, 256)];

/// Octets of a place in a preallocated table, its bucket included.
const PLACE: [(&str, u64); 2] = [("FLOWS_V4", 200), ("FLOWS_V6", 224)];

/// Flows by which the cost of one is measured.
const FLOWS: u32 = 200_000;

/// Octets of stack that a function and those that it calls take, each rounded
/// as the verifier does for compiled programs (`check_max_stack_depth`).
fn stack_depth(functions: &Functions, name: &str) -> u32 {
    let function = &functions[name];
    let deepest = function
        .callees()
        .map(|callee| stack_depth(functions, callee))
        .max();
    function.stack().max(1).next_multiple_of(16) + deepest.unwrap_or(0)
}

#[test]
fn budget_of_the_programs() {
    let loaded = load_for_bench(&LoadOptions::default()).unwrap();
    let facts = loaded.programs().unwrap();
    let [(_, elf), (_, preallocated)] = objects();
    let functions = functions(elf).unwrap();
    println!("program          verified  stack  machine code");
    for (name, most) in VERIFIED {
        let facts = facts.iter().find(|facts| facts.name == name).unwrap();
        let stack = stack_depth(&functions, name);
        let verified = facts.verified_instructions;
        println!(
            "{name:<16} {verified:>8}  {stack:>5}  {:>12}",
            facts.jited_bytes
        );
        assert!(
            verified > 0 && verified <= most,
            "{name}: {verified} instructions walked"
        );
        assert!(
            stack > 0 && stack <= STACK,
            "{name}: {stack} octets of stack"
        );
    }
    println!("objects: {} and {} octets", elf.len(), preallocated.len());
    assert!(elf.len() <= OBJECT && preallocated.len() <= OBJECT);
}

/// Octets of each map that the programs use, by name, as the kernel reckons
/// them.
fn maps(programs: &[u32]) -> Result<BTreeMap<String, u64>> {
    let mut maps = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        if !programs.contains(&program.id()) {
            continue;
        }
        for id in program.map_ids()?.context("the kernel names no maps")? {
            let map = MapInfo::from_id(id)?;
            let fd = map.fd()?;
            let path = format!("/proc/thread-self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let text = fs::read_to_string(path)?;
            let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            let memory = memory.context("no memlock")?.trim().parse()?;
            maps.insert(map.name_as_str().unwrap_or_default().to_owned(), memory);
        }
    }
    Ok(maps)
}

#[test]
fn budget_of_the_maps() {
    for preallocate in [false, true] {
        let options = LoadOptions {
            preallocate,
            ..LoadOptions::default()
        };
        let loaded = load_for_bench(&options).unwrap();
        let ids: Vec<u32> = loaded
            .programs()
            .unwrap()
            .iter()
            .map(|facts| facts.id)
            .collect();
        let maps = maps(&ids).unwrap();
        let total: u64 = maps.values().sum();
        println!("maps of the default configuration, preallocated: {preallocate}");
        for (name, octets) in &maps {
            println!("{name:<16} {octets:>12}");
        }
        println!("{:<16} {total:>12}", "together");
        assert!(maps.len() > 10, "{maps:?}");
        assert!(preallocate || total <= MAPS, "{total} octets without flows");
    }
}

/// Objects in the allocator's general caches and the octets of one, by name.
fn slabs() -> Result<BTreeMap<String, (u64, u64)>> {
    let text = fs::read_to_string("/proc/slabinfo").context("reading /proc/slabinfo")?;
    let mut slabs = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("kmalloc-")) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let numbers: Vec<u64> = words.take(3).map(str::parse).collect::<Result<_, _>>()?;
        let [_in_use, objects, size] = numbers[..] else {
            bail!("a line of /proc/slabinfo is {line:?}");
        };
        slabs.insert(name, (objects, size));
    }
    Ok(slabs)
}

/// Octets of an object in the cache that has grown most, which must be the one
/// that `count` elements came from.
fn class_of(count: u32, before: &BTreeMap<String, (u64, u64)>) -> Result<u64> {
    let grown =
        |name: &str, objects: u64| objects.saturating_sub(before.get(name).map_or(0, |b| b.0));
    let after = slabs()?;
    let (objects, size) = after
        .iter()
        .map(|(name, &(objects, size))| (grown(name, objects), size))
        .max()
        .context("/proc/slabinfo names no cache")?;
    // Some objects were there before, unused.
    ensure!(
        objects >= u64::from(count) / 2,
        "only {objects} objects were added for {count}"
    );
    Ok(size)
}

#[test]
fn budget_of_a_flow() {
    for (family, most) in FLOW {
        let options = LoadOptions::default();
        let bench = Bench::with(&options).unwrap();
        let ids: Vec<u32> = bench
            .loaded
            .programs()
            .unwrap()
            .iter()
            .map(|f| f.id)
            .collect();
        let (name, gauge) = match family {
            Family::V4 => ("FLOWS_V4", Gauge::FlowsV4),
            Family::V6 => ("FLOWS_V6", Gauge::FlowsV6),
        };
        let (before, reckoned) = (slabs().unwrap(), maps(&ids).unwrap()[name]);
        for number in 0..FLOWS {
            let talk = Talk::new(Wrapping::plain(family), number);
            bench
                .run(Origin::Wire, &talk.frame(A.syn()).bytes())
                .unwrap();
        }
        assert_eq!(bench.gauge(gauge).unwrap(), u64::from(FLOWS));
        let class = class_of(FLOWS, &before).unwrap();
        let reckoned = (maps(&ids).unwrap()[name] - reckoned) / u64::from(FLOWS);
        println!("{family:?}: a flow takes {class} octets, {reckoned} as the kernel reckons");
        assert!(
            (reckoned..=most).contains(&class),
            "{class} and {reckoned} octets"
        );
    }
}

#[test]
fn budget_of_a_preallocated_place() {
    let options = LoadOptions {
        preallocate: true,
        ..LoadOptions::default()
    };
    let loaded = load_for_bench(&options).unwrap();
    let ids: Vec<u32> = loaded
        .programs()
        .unwrap()
        .iter()
        .map(|facts| facts.id)
        .collect();
    let maps = maps(&ids).unwrap();
    for (name, most) in PLACE {
        let place = maps[name] / u64::from(options.capacity);
        println!(
            "{name} preallocated: {place} octets for each of {} flows",
            options.capacity
        );
        assert!(place <= most, "{place} octets");
    }
}
