//! `long-flood`: so many frames of every kind that whatever is counted wrongly or
//! never given back adds up.
//!
//! ```text
//! client: generator (core 0), two honest connections --eth0---eth0-- server: listener, the tracker
//!         Absorb: drops answers to made-up sources
//! ```
//!
//! | module | concern |
//! |---|---|
//! | [`home`] | what the tracker holds, and whether it is as at the start |

mod home;

use std::{
    fs,
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use socket2::Socket;
use tempfile::NamedTempFile;
use tracker::datapath::Pinned;
use tracker_common::abi::Gauge;
use tracker_tests::{
    agent::{Options, Tracker},
    flood::{
        ends::{Attached, Program},
        frame::{Kind, Target},
        generator::{Generator, stay_on},
        ring::Ring,
    },
    sockets::{accept, connect, listen},
    topology::{FIRST_MAC, Family, INTERFACE, Placement, SECOND_MAC, Topology, mac_of},
};

use self::home::Home;
use crate::machine::Machine;

/// What to measure.
#[derive(Args)]
pub struct Arguments {
    /// Three million frames in all.
    #[arg(long)]
    quick: bool,
    /// Frames in all, of every kind and family the same number [default:
    /// 100,000,000, or 3,000,000 with --quick].
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
}

/// The core that sends the flood, and on which it is received.
const FLOOD_CORE: usize = 0;
/// Port that is flooded, and where the honest connections are.
const PORT: u16 = 80;
/// Frames of one call of the generator.
const CALL: u64 = 1_000_000;
/// Time between two looks at what the tracker holds.
const LOOK: Duration = Duration::from_millis(10);
/// Half-open flows that the tracker may hold.
const HALF_OPEN_LIMIT: u64 = 32_768;

/// Enforcing by default settings, but that what ends by itself ends soon, and that
/// every share of a listener and a source is counted.
const CONFIGURATION: &str = "\
mode = \"enforce\"

[tracking]
pickup_grace = \"1s\"

[timeouts]
syn_sent = \"5s\"
syn_received = \"5s\"

[agent]
sweep_interval = \"1s\"

[defence]
cookie_age = \"2s\"
listener_limit = 1000000
source_limit = 1000000
";

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    quick: bool,
    frames: u64,
    floods: Vec<Flood>,
    start: Home,
    end: Home,
    /// Seconds after the last frame until everything was given back.
    home_seconds: f64,
    laws: Vec<Law>,
    /// Of the whole run.
    seconds: f64,
}

/// What became of the frames of one kind and family.
#[derive(Serialize)]
struct Flood {
    kind: &'static str,
    family: &'static str,
    sent: u64,
    /// The queue of the veth pair was full.
    lost: u64,
    /// The tracker's interface took.
    received: u64,
    /// The tracker counted coming in, by class and under the reasons that count most.
    accepted: u64,
    noted: u64,
    refused: u64,
    reasons: Vec<(String, u64)>,
    /// Received but under no reason (negative: more reasons than packets).
    unaccounted: i64,
    seconds: f64,
    /// Most that was held at any look.
    half_open: u64,
    unproved: u64,
    flows: u64,
}

/// Something that must hold.
#[derive(Serialize)]
struct Law {
    what: &'static str,
    holds: bool,
    measured: String,
}

/// Runs the bench.
///
/// # Errors
///
/// The network cannot be built, the tracker does not start, or an honest
/// connection breaks.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let start = Instant::now();
    let machine = Machine::this()?;
    let frames = arguments.frames.unwrap_or(if arguments.quick {
        3_000_000
    } else {
        100_000_000
    });
    let topology = Topology::new(Placement::Server)?;
    let server = &topology.server.netns;
    // What is sent to made-up sources has to leave by the flooded interface.
    server.ip("route add default via 192.0.2.1\nroute add ::/0 via 2001:db8:1::1\n")?;
    let _absorber = Attached::new(Program::Absorb, &topology.client.netns, INTERFACE)?;
    let file = NamedTempFile::new().context("a file for the tracker's configuration")?;
    fs::write(file.path(), CONFIGURATION)
        .with_context(|| format!("writing {}", file.path().display()))?;
    let options = Options::on(&topology).with(["-c".as_ref(), file.path().as_os_str()]);
    let tracker = options.start()?;
    let stage = Stage {
        topology: &topology,
        tracker: &tracker,
        pinned: Pinned::open(tracker.pin_dir())?,
    };
    let connections = [stage.connect(Family::V4)?, stage.connect(Family::V6)?];
    stage.until_strict()?;
    let before = Home::now(&stage.pinned, &tracker)?;
    let floods = stage.floods(frames, &connections)?;
    let over = Instant::now();
    let after = before.wait_for(&stage.pinned, &tracker)?;
    let home_seconds = over.elapsed().as_secs_f64();
    for connection in &connections {
        talk(connection).context("an honest connection after the floods")?;
    }
    tracker.stop()?;
    Ok(Report {
        machine,
        quick: arguments.quick,
        frames,
        laws: laws(&floods, &before, &after),
        floods,
        start: before,
        end: after,
        home_seconds,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The tracker and those around it.
struct Stage<'a> {
    topology: &'a Topology,
    tracker: &'a Tracker<'a>,
    pinned: Pinned,
}

/// Sockets of an honest connection: client, server, listener.
type Connection = [Socket; 3];

/// A word each way.
fn talk([client, server, _]: &Connection) -> Result<()> {
    let (mut client, mut server) = (client, server);
    let mut word = [0; 5];
    client.write_all(b"knock").context("sending")?;
    server.read_exact(&mut word).context("receiving")?;
    server.write_all(&word).context("answering")?;
    client.read_exact(&mut word).context("being answered")?;
    Ok(())
}

impl Stage<'_> {
    fn connect(&self, family: Family) -> Result<Connection> {
        let at = self.topology.server.at(family, PORT);
        let listener = listen(&self.topology.server.netns, at)?;
        let from = self.topology.client.at(family, 50_000);
        let client = connect(&self.topology.client.netns, from, at)?;
        let server = accept(&listener)?;
        let connection = [client, server, listener];
        talk(&connection)?;
        Ok(connection)
    }

    /// Waits until packets of no flow are strays.
    fn until_strict(&self) -> Result<()> {
        for _ in 0..200 {
            if self.pinned.live()?.pickup == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        Err(anyhow!("pick-ups never ended:\n{}", self.tracker.log()))
    }

    fn floods(&self, frames: u64, connections: &[Connection; 2]) -> Result<Vec<Flood>> {
        const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
        const KINDS: [Kind; 3] = [Kind::Syn, Kind::Ack, Kind::Mixed];
        let each = frames.div_ceil((FAMILIES.len() * KINDS.len()) as u64);
        let mut floods = Vec::new();
        for kind in KINDS {
            for family in FAMILIES {
                let flood = self.flood(kind, family, each)?;
                eprintln!(
                    "{kind:?} {}: {} frames in {:.1} s, {} lost in the queue, {} unaccounted for",
                    flood.family, flood.sent, flood.seconds, flood.lost, flood.unaccounted
                );
                floods.push(flood);
                for connection in connections {
                    talk(connection).context("an honest connection between two floods")?;
                }
            }
        }
        Ok(floods)
    }

    /// One flood.
    fn flood(&self, kind: Kind, family: Family, frames: u64) -> Result<Flood> {
        let client = &self.topology.client.netns;
        let counted = self.counted()?;
        let ring = Ring::so_far(client, INTERFACE)?;
        let end = &AtomicBool::new(false);
        let (sent, seconds, most) = thread::scope(|scope| -> Result<_> {
            let watching = scope.spawn(|| self.watch(end));
            let sending = client.run_in(|| self.send(kind, family, frames));
            end.store(true, Relaxed);
            let most = watching
                .join()
                .map_err(|_| anyhow!("the watcher panicked"))??;
            let (sent, seconds) = sending??;
            Ok((sent, seconds, most))
        })?;
        // What is in the queue still has its turn.
        sleep(Duration::from_millis(200));
        let ring = Ring::so_far(client, INTERFACE)?.since(ring);
        let moved = moved(&counted, &self.counted()?);
        let of = |class: &str| -> u64 {
            let reasons = moved.iter().filter(|reason| reason.class == class);
            reasons.map(|reason| reason.packets).sum()
        };
        let all: u64 = moved.iter().map(|reason| reason.packets).sum();
        let mut reasons: Vec<(String, u64)> = moved
            .iter()
            .map(|reason| (reason.name.clone(), reason.packets))
            .collect();
        reasons.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
        Ok(Flood {
            kind: kind.as_str(),
            family: family.as_str(),
            sent,
            lost: ring.lost,
            received: ring.taken,
            accepted: of("accept"),
            noted: of("note"),
            refused: of("refuse"),
            reasons,
            unaccounted: ring.taken.cast_signed().saturating_sub_unsigned(all),
            seconds,
            half_open: most[0],
            unproved: most[1],
            flows: most[2],
        })
    }

    /// Sends the frames, from the namespace and the core that the thread is in.
    fn send(&self, kind: Kind, family: Family, frames: u64) -> Result<(u64, f64)> {
        stay_on(FLOOD_CORE)?;
        let target = Target {
            at: self.topology.server.at(family, PORT),
            from_mac: mac_of(FIRST_MAC),
            to_mac: mac_of(SECOND_MAC),
        };
        let seed = 0x9e37_79b9_7f4a_7c15 ^ (kind as u64) << 8 ^ family as u64;
        let mut generator = Generator::new(INTERFACE, kind, &target, seed)?;
        let start = Instant::now();
        let mut left = frames;
        while left > 0 {
            let call = left.min(CALL);
            let (sent, _) = generator.send(u32::try_from(call).context("frames of a call")?)?;
            ensure!(sent.frames == call, "{} of {call} frames left", sent.frames);
            left -= call;
        }
        Ok((frames, start.elapsed().as_secs_f64()))
    }

    /// The most half-open flows, unproved flows and flows until `end`.
    fn watch(&self, end: &AtomicBool) -> Result<[u64; 3]> {
        let mut most = [0; 3];
        loop {
            let gauges = self.pinned.gauges()?;
            let of = |gauge: Gauge| gauges[gauge as usize];
            let flows = of(Gauge::FlowsV4) + of(Gauge::FlowsV6);
            let held = [of(Gauge::HalfOpen), of(Gauge::Pickup), flows];
            for (most, held) in most.iter_mut().zip(held) {
                *most = held.max(*most);
            }
            if end.load(Relaxed) {
                return Ok(most);
            }
            sleep(LOOK);
        }
    }

    /// TCP packets that came in so far, by reason: not what IPv6 says to its
    /// neighbours, for instance.
    fn counted(&self) -> Result<Vec<Reason>> {
        let stats = self.tracker.stats()?;
        let reasons = stats.reasons.into_iter().map(|counted| Reason {
            name: counted.reason,
            class: counted.class,
            packets: counted.ingress.packets,
        });
        Ok(reasons.filter(|reason| reason.name != "not_tcp").collect())
    }
}

/// Packets under a reason.
struct Reason {
    name: String,
    class: String,
    packets: u64,
}

/// What came on top of `before`, without reasons that did not move.
fn moved(before: &[Reason], after: &[Reason]) -> Vec<Reason> {
    let of = |name: &str| {
        let found = before.iter().find(|reason| reason.name == name);
        found.map_or(0, |reason| reason.packets)
    };
    after
        .iter()
        .map(|reason| Reason {
            name: reason.name.clone(),
            class: reason.class.clone(),
            packets: reason.packets.saturating_sub(of(&reason.name)),
        })
        .filter(|reason| reason.packets > 0)
        .collect()
}

fn laws(floods: &[Flood], start: &Home, end: &Home) -> Vec<Law> {
    let sum = |of: fn(&Flood) -> u64| floods.iter().map(of).sum::<u64>();
    let (sent, lost, received) = (
        sum(|flood| flood.sent),
        sum(|flood| flood.lost),
        sum(|flood| flood.received),
    );
    let stray: u64 = floods
        .iter()
        .map(|flood| flood.unaccounted.unsigned_abs())
        .sum();
    let half_open = floods
        .iter()
        .map(|flood| flood.half_open)
        .max()
        .unwrap_or(0);
    let mut laws = vec![
        Law {
            what: "every frame sent was received, or lost in the queue of the veth pair",
            holds: sent == received + lost,
            measured: format!("{sent} = {received} + {lost}"),
        },
        Law {
            what: "every frame received is counted under one reason",
            holds: stray == 0,
            measured: format!("{stray} too many or too few"),
        },
        Law {
            what: "half-open flows never above their limit",
            holds: half_open <= HALF_OPEN_LIMIT,
            measured: format!("{half_open} of {HALF_OPEN_LIMIT}"),
        },
    ];
    laws.extend(end.compared_with(start));
    laws
}
