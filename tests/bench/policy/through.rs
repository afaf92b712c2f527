//! A flood of SYNs through the tracker and through nftables, to a port where nobody
//! listens: the stack answers each with an RST.
//!
//! ```text
//! client: generator (core 0) --eth0---eth0-- server: the tracker, or nftables; its stack
//!         AbsorbTc: drops the RSTs
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use flood_ebpf::{SOURCES_IPV4, Slot};
use serde::Serialize;
use tracker::{
    config::{Checksums, OnExit, XdpChoice},
    datapath::{Active, LoadOptions},
};
use tracker_common::{
    abi::{Live, Mode},
    tcp::timeout::Profile,
};
use tracker_tests::{
    agent::fresh_pin_dir,
    flood::{
        ends::{Attached, Program},
        frame::{Kind, Target},
        generator::{Generator, come_first, stay_on},
    },
    netns::{feed, run as command},
    policies::numbered,
    topology::{FIRST_MAC, Family, INTERFACE, Placement, SECOND_MAC, Topology, mac_of},
};

use super::{
    RULES,
    rules::{Connections, Order, model, nftables},
};
use crate::spread::Spread;

/// The core that sends the flood, and on which it is received.
const FLOOD_CORE: usize = 0;
/// Where nobody listens.
const PORT: u16 = 81;
/// All made-up sources of the flood.
const CONNECTIONS: Connections = Connections {
    from: (SOURCES_IPV4 as u32) << 24,
    bits: 4,
    port: PORT,
};
/// Frames of a turn, and in front of it. A chain of rules is walked for each of them.
const FRAMES: u32 = 60_000;
const FRAMES_LATE: u32 = 4_000;
const WARM_UP: u32 = 10;
/// Flows that the tracker has room for: more than come in a turn.
const CAPACITY: u32 = 1 << 18;

/// What was measured.
#[derive(Default)]
pub struct Through {
    /// The generator into a program that drops its frames, ns a frame, by round.
    sink: Vec<f64>,
    /// The stack without any firewall.
    bare: Vec<f64>,
    tracker: BTreeMap<(Order, u32), Vec<f64>>,
    nftables: BTreeMap<(Order, u32), Vec<f64>>,
}

/// A line of the table; times are without the generator's.
#[derive(Serialize)]
pub struct Row {
    rules: u32,
    order: Order,
    /// The stack alone.
    bare_ns: Option<Spread>,
    tracker_ns: Option<Spread>,
    nftables_ns: Option<Spread>,
    ratio: Option<Spread>,
}

impl Through {
    /// Time through the tracker by time through nftables, both without the
    /// generator's, of every round.
    pub fn ratios(&self, rules: u32, order: Order) -> Vec<f64> {
        let key = (order, rules);
        let (tracker, nftables) = (self.net(&self.tracker, key), self.net(&self.nftables, key));
        tracker
            .iter()
            .zip(nftables)
            .map(|(tracker, nftables)| tracker / nftables)
            .collect()
    }

    /// For the table.
    pub fn rows(&self) -> Vec<Row> {
        let bare: Vec<f64> = self
            .bare
            .iter()
            .zip(&self.sink)
            .map(|(bare, sink)| bare - sink)
            .collect();
        let rows = self.tracker.keys().map(|&(order, rules)| Row {
            rules,
            order,
            bare_ns: Spread::of(bare.clone()),
            tracker_ns: Spread::of(self.net(&self.tracker, (order, rules))),
            nftables_ns: Spread::of(self.net(&self.nftables, (order, rules))),
            ratio: Spread::of(self.ratios(rules, order)),
        });
        rows.collect()
    }

    fn net(&self, of: &BTreeMap<(Order, u32), Vec<f64>>, key: (Order, u32)) -> Vec<f64> {
        let times = of.get(&key).map(Vec::as_slice).unwrap_or_default();
        times
            .iter()
            .zip(&self.sink)
            .map(|(ns, sink)| ns - sink)
            .collect()
    }
}

/// Who lets the flood through.
#[derive(Clone, Copy)]
enum Contestant {
    Sink,
    Bare,
    Tracker(Order, u32),
    Nftables(Order, u32),
}

/// Measures, every contestant once a round, the two that are compared one after the
/// other.
///
/// # Errors
///
/// Not root; a network cannot be built; a SYN was not let through.
pub fn run(rounds: u32, quick: bool) -> Result<Through> {
    let mut through = Through::default();
    for round in 1..=rounds {
        let turn = |contestant, title: &str| -> Result<f64> {
            let ns = turn(contestant, quick).with_context(|| title.to_owned())?;
            eprintln!("round {round} of {rounds}: {title}: {ns:.0} ns a frame");
            Ok(ns)
        };
        through
            .sink
            .push(turn(Contestant::Sink, "generator alone")?);
        through.bare.push(turn(Contestant::Bare, "no firewall")?);
        for order in Order::ALL {
            for rules in RULES {
                let title = |who| format!("{who}, {rules} rules, {}", order.title());
                let ns = turn(Contestant::Tracker(order, rules), &title("tracker"))?;
                through.tracker.entry((order, rules)).or_default().push(ns);
                let ns = turn(Contestant::Nftables(order, rules), &title("nftables"))?;
                through.nftables.entry((order, rules)).or_default().push(ns);
            }
        }
    }
    Ok(through)
}

/// One turn on a network of its own: ns a frame, the generator's included.
fn turn(contestant: Contestant, quick: bool) -> Result<f64> {
    let topology = Topology::new(Placement::Server)?;
    let server = &topology.server.netns;
    // RSTs to made-up sources have to leave by the flooded interface.
    server.ip("route add default via 192.0.2.1\n")?;
    // Live frames reach a stack only behind a veth with a program or with GRO.
    command(
        server
            .command("ethtool")?
            .args(["-K", INTERFACE, "gro", "on"]),
    )?;
    let absorber = Attached::new(Program::AbsorbTc, &topology.client.netns, INTERFACE)?;
    let mut frames = FRAMES;
    let (mut _sink, mut _active) = (None, None);
    match contestant {
        Contestant::Sink => _sink = Some(Attached::new(Program::Sink, server, INTERFACE)?),
        Contestant::Bare => {}
        Contestant::Tracker(order, rules) => {
            _active = Some(Standing::new(&topology, order, rules)?);
        }
        Contestant::Nftables(order, rules) => {
            let text = nftables(rules, order, &CONNECTIONS);
            feed(server.command("nft")?.args(["-f", "-"]), &text)?;
            if rules >= 10_000 {
                frames = FRAMES_LATE;
            }
        }
    }
    if quick {
        frames /= 4;
    }
    let target = Target {
        at: topology.server.at(Family::V4, PORT),
        from_mac: mac_of(FIRST_MAC),
        to_mac: mac_of(SECOND_MAC),
    };
    let send = |frames: u32, seed: u64| -> Result<f64> {
        topology.client.netns.run_in(|| {
            stay_on(FLOOD_CORE)?;
            come_first()?;
            let mut generator = Generator::new(INTERFACE, Kind::Syn, &target, seed)?;
            Ok(generator.send(frames)?.1.as_secs_f64() * 1e9)
        })?
    };
    send(frames / WARM_UP, 1)?;
    let before = absorber.count(Slot::Reset)?;
    let ns = send(frames, 2)?;
    let answered = absorber.count(Slot::Reset)? - before;
    if !matches!(contestant, Contestant::Sink) {
        // The queue of the veth pair loses a few if the receiver is late.
        ensure!(
            answered > u64::from(frames) * 9 / 10,
            "{answered} of {frames} SYNs were let through and answered"
        );
    }
    Ok(ns)
}

/// A tracker on the server's interface, with a policy in force.
struct Standing {
    _active: Active,
}

impl Standing {
    fn new(topology: &Topology, order: Order, rules: u32) -> Result<Self> {
        let compiled = numbered(&model(rules, order, &CONNECTIONS), 1);
        let options = LoadOptions {
            capacity: CAPACITY,
            half_open_limit: CAPACITY,
            ..LoadOptions::default()
        };
        let pins: PathBuf = fresh_pin_dir();
        topology.server.netns.run_in(|| {
            let mut active = Active::load(&pins, options, OnExit::Detach)?;
            let installed = active.pinned().install_policy(&compiled, &[])?;
            active.pinned().set_live(&Live {
                mode: Mode::Enforce as u8,
                pickup: 0,
                policy: 1,
                policy_slot: installed.slot,
                half_open_limit: CAPACITY,
                capacity: CAPACITY,
                ring_slots: CAPACITY,
                ..Live::observing(Profile::Linux)
            })?;
            active.attach(INTERFACE, XdpChoice::Native, Checksums::Ignore)?;
            Ok(Self { _active: active })
        })?
    }
}
