//! The kernel's own TCP judges on bad wires: thousands of connections of real
//! sockets, over wires that lose, repeat, delay and reorder, with the options
//! of TCP on and off, that end in every way there is.
//!
//! Judged is that
//! - no packet leaves under a reason of class *refuse*: both stacks are honest;
//! - when all is at rest, the two states of every flow are those that `ss`
//!   shows at the two ends;
//! - every connection does what was planned: the data arrive, and it ends as it
//!   should.
//!
//! `TRACKER_JUDGE=full` runs all waves with at least 10,000 connections; without
//! it a few waves of fewer are run. The numbers are printed on a line that
//! begins with `judge: `, as JSON.

mod drive;
mod plan;
mod rest;
mod talk;
mod waves;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tracker_tests::{
    agent::{Options, Tracker},
    nft::Firewall,
    program::random::Random,
    stats::Stats,
    topology::{Placement, Topology},
    wire::{Account, Side, Way, Wire},
};

use drive::drive;
use plan::Plan;
use rest::{Difference, Judgement, Look};
use waves::{SHORT, WAVES, Wave};

/// Connections of a wave: of a short run, and of a full one.
const CONNECTIONS: (u16, u16) = (125, 215);

/// How long it may take until all is at rest, once every script is over. Shorter
/// than a TIME-WAIT of the kernel, after which nobody knows whether there was
/// one.
const TO_REST: Duration = Duration::from_secs(40);

/// What differs for longer is told.
const LATE: Duration = Duration::from_secs(15);

/// The tracker remembers what is closed for as long as a run takes.
const CONFIGURATION: &str = "[timeouts]\nclosed = \"2h\"\ntime_wait = \"2h\"\n";

#[test]
fn host_role_at_the_server() {
    run(Placement::Server, 1);
}

#[test]
fn host_role_at_the_client() {
    run(Placement::Client, 2);
}

#[test]
fn gateway_role() {
    run(Placement::Gateway, 3);
}

/// Whether all waves are to be run.
fn is_full() -> bool {
    std::env::var_os("TRACKER_JUDGE").is_some_and(|size| size == "full")
}

/// What a run came to.
#[derive(Default)]
struct Sum {
    connections: usize,
    missed: usize,
    equal: usize,
    alive: usize,
    lost_resets: usize,
    unseen: usize,
    failed: usize,
    different: usize,
    /// Packets under a reason of class refuse, by reason.
    refused: BTreeMap<String, u64>,
    /// What was wrong, by wave.
    wrong: Vec<String>,
}

fn run(placement: Placement, seed: u64) {
    // Two sockets for each connection of a wave, and those that stay open.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(1 << 16), most).unwrap();

    // In this order: wires must go before the interfaces that they hang on.
    let (topology, wires) = connect(placement, seed);
    let firewall = match placement {
        Placement::Server => Some(Firewall::new(&topology.server.netns).unwrap()),
        Placement::Client => Some(Firewall::new(&topology.client.netns).unwrap()),
        Placement::Gateway => None,
    };
    let mut configuration = tempfile::NamedTempFile::new().unwrap();
    configuration.write_all(CONFIGURATION.as_bytes()).unwrap();
    let tracker = Options::on(&topology)
        .with(["-c".as_ref(), configuration.path().as_os_str()])
        .start()
        .unwrap();

    let full = is_full();
    let (waves, connections) = if full {
        (WAVES, CONNECTIONS.1)
    } else {
        (&WAVES[..SHORT], CONNECTIONS.0)
    };
    let start = Instant::now();
    let mut judge = Judge {
        placement,
        topology: &topology,
        wires: &wires,
        tracker: &tracker,
        random: Random::new(seed),
        number: 0,
        sum: Sum::default(),
    };
    for wave in waves {
        if let Some(firewall) = &firewall {
            firewall.thin(wave.lost_behind).unwrap();
        }
        judge.wave(wave, connections);
    }
    judge.report(full, start.elapsed());
    let Sum {
        equal,
        lost_resets,
        unseen,
        wrong,
        ..
    } = judge.sum;
    assert!(
        lost_resets + unseen <= equal / 50,
        "{equal} equal, and too many to be excused: {lost_resets} for a lost reset, \
         {unseen} for a simultaneous close"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    tracker.stop().unwrap();
}

/// A topology with bad wires.
fn connect(placement: Placement, seed: u64) -> (Topology, Vec<Wire>) {
    let mut wires = Vec::new();
    let topology = Topology::connected_by(placement, |a, b| {
        // Where the tracker sits.
        let captured = match (placement, wires.len()) {
            (Placement::Client, _) | (Placement::Gateway, 1) => Side::First,
            _ => Side::Second,
        };
        let seed = seed * 100 + wires.len() as u64;
        wires.push(Wire::lay(a, b, captured, seed)?);
        Ok(())
    });
    (topology.unwrap(), wires)
}

/// A run in progress.
struct Judge<'a> {
    placement: Placement,
    topology: &'a Topology,
    wires: &'a [Wire],
    tracker: &'a Tracker<'a>,
    random: Random,
    /// Of the next connection.
    number: u16,
    sum: Sum,
}

impl Judge<'_> {
    fn wave(&mut self, wave: &Wave, connections: u16) {
        let start = Instant::now();
        wave.prepare(self.topology).unwrap();
        for wire in self.wires {
            wire.set(wave.faults);
            wire.forget();
        }
        let plans: Vec<Plan> = (0..connections)
            .map(|_| {
                self.number += 1;
                Plan::draw(self.number, self.topology, wave.allowed(), &mut self.random)
            })
            .collect();
        let outcome = drive(self.topology, &plans).unwrap();
        let over = start.elapsed();
        let broken = self.wires.iter().any(|wire| !wire.works());
        assert!(!broken, "a wire carries nothing any more");

        let judgement = self.until_rest(&plans.iter().map(|plan| plan.client).collect());
        let refused = refused(&self.tracker.stats().unwrap());
        if refused != self.sum.refused
            || !outcome.failures.is_empty()
            || !judgement.different.is_empty()
        {
            self.sum.wrong.push(format!(
                "{:?}, {}: {}captured at the tracker: {:?}\n",
                self.placement,
                wave.name,
                complaint(&self.sum.refused, &refused, &outcome.failures, &judgement),
                self.save(),
            ));
            println!("{}", self.sum.wrong.last().unwrap());
        }
        self.sum.refused = refused;
        println!(
            "{:?}, {}: {} connections in {:.1} s, at rest after {:.1} s, {} alive",
            self.placement,
            wave.name,
            plans.len(),
            over.as_secs_f32(),
            start.elapsed().as_secs_f32(),
            judgement.alive,
        );
        let again: usize = plans.iter().filter(|plan| plan.again).count();
        self.sum.connections += plans.len() + again;
        self.sum.missed += outcome.missed;
        self.sum.equal += judgement.equal;
        self.sum.alive += judgement.alive;
        self.sum.lost_resets += judgement.lost_resets.len();
        self.sum.unseen += judgement.unseen.len();
        self.sum.different += judgement.different.len();
        self.sum.failed += outcome.failures.len();
    }

    /// Looks until there are no differences, at most for [`TO_REST`].
    fn until_rest(&self, new: &HashSet<SocketAddr>) -> Judgement {
        let start = Instant::now();
        let mut late: Vec<Difference> = Vec::new();
        loop {
            let look = Look::take(self.topology, || self.tracker.list()).unwrap();
            let lost: HashSet<Way> = self.wires.iter().flat_map(Wire::lost_resets).collect();
            let judgement = look.judge(&lost, new);
            if judgement.different.is_empty() || start.elapsed() > TO_REST {
                for difference in late {
                    print!("late: {difference}");
                }
                return judgement;
            }
            if start.elapsed() > LATE {
                late = judgement.different;
            }
            sleep(Duration::from_millis(500));
        }
    }

    /// Writes what was captured for a failure.
    fn save(&self) -> Vec<PathBuf> {
        (0..)
            .zip(self.wires)
            .map(|(number, wire)| {
                let wave = self.sum.connections;
                let name = format!("netem-{:?}-{wave}-{number}.pcap", self.placement);
                let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
                wire.save(&path).unwrap();
                path
            })
            .collect()
    }

    /// Prints the numbers.
    fn report(&self, full: bool, time: Duration) {
        let stats = self.tracker.stats().unwrap();
        let mut account = Account::default();
        for wire in self.wires {
            account += wire.account();
        }
        let Sum {
            connections,
            missed,
            equal,
            alive,
            lost_resets,
            unseen,
            failed,
            different,
            refused: _,
            wrong: _,
        } = self.sum;
        let (classes, reasons) = packets(&stats);
        let line = json!({
            "judge": "kernel_tcp_bad_wires",
            "size": if full { "full" } else { "short" },
            "placement": format!("{:?}", self.placement).to_lowercase(),
            "connections": connections,
            "seconds": time.as_secs(),
            "packets": classes.values().sum::<u64>(),
            "by_class": classes,
            "by_reason": reasons,
            "compared": equal + lost_resets + unseen + different,
            "compared_alive": alive,
            "differences": different,
            "explained_by_a_lost_reset": lost_resets,
            "simultaneous_close_unseen": unseen,
            "failed": failed,
            "simultaneous_opens_missed": missed,
            "wires": {
                "carried": account.came,
                "lost": account.lost,
                "repeated": account.repeated,
                "reordered": account.reordered,
            },
        });
        println!("judge: {line}");
    }
}

/// Packets by class and by reason.
fn packets(stats: &Stats) -> (BTreeMap<&str, u64>, BTreeMap<&str, u64>) {
    let mut classes = BTreeMap::from([("accept", 0), ("note", 0), ("refuse", 0)]);
    let mut reasons = BTreeMap::new();
    for counted in &stats.reasons {
        let packets = counted.ingress.packets + counted.egress.packets;
        *classes.entry(counted.class.as_str()).or_default() += packets;
        if packets > 0 {
            reasons.insert(counted.reason.as_str(), packets);
        }
    }
    (classes, reasons)
}

/// Packets under a reason of class refuse, by reason.
fn refused(stats: &Stats) -> BTreeMap<String, u64> {
    stats
        .reasons
        .iter()
        .filter(|counted| counted.class == "refuse")
        .map(|counted| {
            let packets = counted.ingress.packets + counted.egress.packets;
            (counted.reason.clone(), packets)
        })
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

fn complaint(
    before: &BTreeMap<String, u64>,
    refused: &BTreeMap<String, u64>,
    failures: &[String],
    judgement: &Judgement,
) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "refused: {refused:?}, before this wave {before:?}");
    let _ = writeln!(text, "{} connections failed", failures.len());
    for failure in failures.iter().take(10) {
        let _ = writeln!(text, "  {failure}");
    }
    let _ = writeln!(text, "{} differ", judgement.different.len());
    for difference in judgement.different.iter().take(20) {
        let _ = write!(text, "{difference}");
    }
    text
}
