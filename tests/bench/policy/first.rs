//! The ingress program alone: SYNs that open flows, one at a time.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;
use tracker::datapath::{LoadOptions, Loaded, Place, Run, load_for_bench};
use tracker_common::{
    abi::{Cause, Family, Live, Mode},
    tcp::timeout::Profile,
};
use tracker_tests::{
    netns::run as command,
    policies::numbered,
    program::{
        frame::{Frame, Socket, Wrapping},
        random::Random,
    },
};

use super::{
    RULES,
    rules::{Connections, Order, model},
};
use crate::spread::Spread;

/// Verdict of XDP (include/uapi/linux/bpf.h).
const PASS: u32 = 2;
/// The interface on which packets seem to come in.
const INTERFACE: &str = "wire0";
/// The server that is called.
const SERVER: Socket = Socket { host: 1, port: 80 };
/// All made-up hosts.
const CONNECTIONS: Connections = Connections {
    from: 0x0a4d_0000,
    bits: 16,
    port: SERVER.port,
};

/// What was measured.
#[derive(Default)]
pub struct First {
    /// Without a policy, ns, by round.
    pub without: Vec<f64>,
    /// Ns by round.
    ns: BTreeMap<(Order, u32), Vec<f64>>,
    /// What the policies take.
    pub sizes: Vec<Size>,
}

/// A line of the table.
#[derive(Serialize)]
pub struct Row {
    rules: u32,
    order: Order,
    ns: Option<Spread>,
}

/// What a policy takes.
#[derive(Clone, Serialize)]
pub struct Size {
    rules: u32,
    order: Order,
    compile_ms: f64,
    /// From the first map made to the last one in its place.
    install_ms: f64,
    blocks_bytes: u64,
    prefixes: usize,
    /// The trie's entries, as the kernel reckons them.
    prefixes_bytes: u64,
}

impl First {
    /// Of every round, ns.
    pub fn ns(&self, rules: u32, order: Order) -> Vec<f64> {
        self.ns.get(&(order, rules)).cloned().unwrap_or_default()
    }

    /// For the table.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.ns.iter().map(|(&(order, rules), ns)| Row {
            rules,
            order,
            ns: Spread::of(ns.clone()),
        });
        rows.collect()
    }
}

/// Measures, every number of rules once a round.
///
/// # Errors
///
/// Not root; the programs cannot be loaded, or refuse what they should let pass.
pub fn run(rounds: u32, quick: bool) -> Result<First> {
    let shots = if quick { 500 } else { 4000 };
    // A thread of its own: it leaves the namespace that the others are in.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure(rounds, shots)).join());
    measured.map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

fn measure(rounds: u32, shots: u32) -> Result<First> {
    let stand = Stand::new()?;
    let mut first = First::default();
    for round in 1..=rounds {
        stand.put_in_force(0)?;
        let without = stand.shoot(shots, u64::from(round))?;
        first.without.push(without);
        eprintln!("round {round} of {rounds}: no policy {without:.0} ns");
        for order in Order::ALL {
            for rules in RULES {
                let size = stand.install(rules, order)?;
                let ns = stand.shoot(shots, u64::from(round))?;
                eprintln!(
                    "round {round} of {rounds}: {rules:>6} rules, {}: {ns:.0} ns",
                    order.title()
                );
                first.ns.entry((order, rules)).or_default().push(ns);
                if round == 1 {
                    first.sizes.push(size);
                }
            }
        }
    }
    Ok(first)
}

/// The loaded programs.
struct Stand {
    loaded: Loaded,
    place: Place,
}

impl Stand {
    fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)
            .context("making a network namespace, which needs root")?;
        command(std::process::Command::new("ip").args([
            "link", "add", INTERFACE, "type", "veth", "peer", "name", "wire1",
        ]))?;
        let ingress_ifindex = nix::net::if_::if_nametoindex(INTERFACE)
            .with_context(|| format!("the index of {INTERFACE}"))?;
        Ok(Self {
            loaded: load_for_bench(&LoadOptions::default())?,
            place: Place {
                ingress_ifindex,
                ..Place::UNKNOWN
            },
        })
    }

    /// Compiles and installs so many rules, and puts them in force.
    fn install(&self, rules: u32, order: Order) -> Result<Size> {
        let model = model(rules, order, &CONNECTIONS);
        let start = Instant::now();
        let compiled = numbered(&model, 1);
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let installed = self.loaded.install_policy(&compiled, &[])?;
        let install_ms = start.elapsed().as_secs_f64() * 1e3;
        self.put_in_force(installed.slot)?;
        Ok(Size {
            rules,
            order,
            compile_ms,
            install_ms,
            blocks_bytes: installed.blocks_bytes,
            prefixes: compiled.prefixes.len(),
            prefixes_bytes: installed.prefixes_bytes,
        })
    }

    fn put_in_force(&self, policy_slot: u32) -> Result<()> {
        Ok(self.loaded.set_live(&Live {
            mode: Mode::Enforce as u8,
            policy: 1,
            policy_slot,
            half_open_limit: 32_768,
            capacity: 262_144,
            ring_slots: 32_768,
            ..Live::observing(Profile::Linux)
        })?)
    }

    /// The median time of a SYN that opens a flow. Each is of another host and port:
    /// what the program reads of the policy, the processor has not just read for
    /// the one before.
    fn shoot(&self, shots: u32, seed: u64) -> Result<f64> {
        let mut random = Random::new(seed);
        let mut times = Vec::with_capacity(shots as usize);
        let first = random.bits();
        for shot in 0..shots {
            let client = Socket {
                host: random.bits() as u16 | 2,
                // Another one each time.
                port: 1024 + (first.wrapping_add(shot) % 60_000) as u16,
            };
            let frame = Frame::syn(Wrapping::plain(Family::V4), client, SERVER).bytes();
            let ran = self.loaded.ingress(Run {
                place: self.place,
                ..Run::once(&frame)
            })?;
            ensure!(ran.verdict == PASS, "a SYN got the verdict {}", ran.verdict);
            times.push(ran.duration.as_nanos() as f64);
        }
        ensure!(
            self.flush()? == shots as usize,
            "not every SYN has opened a flow"
        );
        Ok(Spread::of(times).context("no shots")?.median)
    }

    /// Removes every flow, and gives how many there were.
    fn flush(&self) -> Result<usize> {
        let mut flows = Vec::new();
        let mut reader = self.loaded.flows(Family::V4)?;
        while let Some(chunk) = reader.next_chunk()? {
            flows.extend(
                chunk
                    .iter()
                    .map(|(key, flow)| (Family::V4, *key, flow.generation)),
            );
        }
        self.loaded.remove(Cause::Flushed, &flows)?;
        Ok(flows.len())
    }
}
