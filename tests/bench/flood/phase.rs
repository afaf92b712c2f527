//! One contestant's turn: the flood alone, then beside honest clients.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use flood_ebpf::Slot;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::Serialize;
use socket2::Socket;
use tracker_tests::{
    flood::{
        cable::two_queues,
        frame::{Kind, Target, template},
        generator::{Generator, Sent, come_first, stay_on},
        ring::Ring,
    },
    losses::dropped,
    topology::{FIRST_MAC, Family, INTERFACE, Placement, SECOND_MAC, Topology, mac_of},
};

use super::{
    contestant::{Contestant, Standing, stand},
    counters::{self, Counters},
    honest::{self, Bulk, BulkSender, Exchanges},
};
use crate::machine::{Busy, memory};

/// The core that sends the flood, and on which it is received.
const FLOOD_CORE: usize = 0;

/// Frames before anything is measured: queues are full after them, and what
/// adapts has adapted.
const WARM_UP: u32 = 100_000;
/// Time for that.
const ADAPTING: Duration = Duration::from_millis(250);
/// Honest clients come so much later than the flood and leave so much earlier:
/// none of them is served without one.
const AHEAD: Duration = Duration::from_millis(100);
/// Time that the bulk transfer has to get going.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// How much of what.
pub struct Load {
    /// What the flood consists of.
    pub kind: Kind,
    /// Its version of IP.
    pub family: Family,
    /// Frames of the flood that is measured alone.
    pub alone: u32,
    /// Time of the flood at full speed beside honest clients.
    pub beside: Duration,
    /// Time of the paced one.
    pub beside_paced: Duration,
    /// Frames a second of the paced flood, if there is to be one.
    pub rate: Option<u32>,
    /// Flood and honest packets share the queue of the interface.
    pub one_queue: bool,
    /// Cores of the machine.
    pub cores: usize,
}

impl Load {
    /// Octets of a frame.
    ///
    /// # Errors
    ///
    /// Never: the target is a real one.
    pub fn frame_octets(&self) -> Result<usize> {
        let at = match self.family {
            Family::V4 => "192.0.2.2:80",
            Family::V6 => "[2001:db8:1::2]:80",
        };
        let target = Target {
            at: at.parse()?,
            from_mac: [0; 6],
            to_mac: [0; 6],
        };
        Ok(template(self.kind, &target)?.len())
    }
}

/// What one turn came to.
#[derive(Debug, Serialize)]
pub struct Turn {
    /// The flood alone, at full speed.
    pub alone: Alone,
    /// At full speed, beside honest clients.
    pub beside: Beside,
    /// Paced, beside honest clients.
    pub paced: Option<Beside>,
    /// Octets by which less memory was available after the flood alone or
    /// after the turn, whichever is more. Other programs of the machine have a
    /// part in it.
    pub memory: u64,
    /// The same of memory that the kernel itself holds and cannot reclaim.
    pub kernel_memory: u64,
}

/// What became of a flood's frames.
#[derive(Debug, Serialize)]
pub struct Frames {
    /// The generator sent.
    pub sent: u64,
    /// The queue of the veth pair was full.
    pub lost: u64,
    /// The interface under test took.
    pub received: u64,
    /// SYN-ACKs that came back.
    pub answered: u64,
    /// RSTs that came back.
    pub reset: u64,
    /// Other frames that came back.
    pub other: u64,
}

/// The flood alone: what a frame costs.
#[derive(Debug, Serialize)]
pub struct Alone {
    /// What became of them.
    pub frames: Frames,
    /// Nanoseconds of the flood's core a frame that was received, the
    /// generator's own work included.
    pub ns_per_frame: f64,
    /// Frames a second that were received.
    pub per_second: f64,
    /// Half-open connections that the defence held at the end; none for floors.
    pub half_open: Option<u64>,
    /// The limit of those, where there is one.
    pub half_open_limit: Option<u64>,
    /// Received, but under no reason of the tracker's (negative: more reasons
    /// than packets).
    pub unaccounted: Option<i64>,
    /// Share of its time that each core was busy.
    pub cores: Vec<f64>,
    /// What the contestant counted.
    pub counters: Counters,
}

/// The flood beside honest clients.
#[derive(Debug, Serialize)]
pub struct Beside {
    /// Seconds of flood.
    pub seconds: f64,
    /// What became of its frames.
    pub frames: Frames,
    /// Frames sent a second.
    pub offered_per_second: f64,
    /// Frames received a second.
    pub received_per_second: f64,
    /// SYN-ACKs a second.
    pub answered_per_second: f64,
    /// Connections one after another.
    pub exchanges: Exchanges,
    /// One long connection.
    pub bulk: Bulk,
    /// Honest packets and answers to the flood that found a queue of the veth
    /// pair full, either way.
    pub others_lost: u64,
    /// Half-open connections at the end; none for floors.
    pub half_open: Option<u64>,
    /// Share of its time that each core was busy.
    pub cores: Vec<f64>,
    /// What the contestant counted.
    pub counters: Counters,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alone, beside, .. } = self;
        write!(
            f,
            "{:>7.1} ns a frame, {:>5.2} M/s; beside: {:>5.2} M/s, {:>3} % lost, honest {}/{} p99 {} us, \
             bulk {:.1} MB/s {} resent",
            alone.ns_per_frame,
            alone.per_second / 1e6,
            beside.received_per_second / 1e6,
            100 * beside.frames.lost / beside.frames.sent.max(1),
            beside.exchanges.good,
            beside.exchanges.tried,
            beside
                .exchanges
                .p99_us
                .map_or_else(|| "-".to_owned(), |us| format!("{us:.0}")),
            beside.bulk.octets as f64 / beside.bulk.seconds / 1e6,
            beside.bulk.retransmitted,
        )
    }
}

/// Gives a contestant its turn, on a network of its own.
///
/// # Errors
///
/// It cannot be set up, or does not serve an honest client even without a
/// flood.
pub fn turn(contestant: Contestant, load: &Load) -> Result<Turn> {
    let topology = if load.one_queue {
        Topology::new(Placement::Server)?
    } else {
        Topology::connected_by(Placement::Server, two_queues)?
    };
    let standing = stand(contestant, &topology, load.kind)?;
    let bout = Bout::new(&topology, &standing, load)?;
    let available = memory("MemAvailable")?;
    let held = kernel_memory()?;
    let used = || -> Result<(u64, u64)> {
        Ok((
            available.saturating_sub(memory("MemAvailable")?),
            kernel_memory()?.saturating_sub(held),
        ))
    };
    let alone = bout.alone()?;
    let middle = used()?;
    let beside = bout.beside(None)?;
    let paced = match load.rate {
        Some(rate) => Some(bout.beside(Some(rate))?),
        None => None,
    };
    let end = used()?;
    Ok(Turn {
        alone,
        beside,
        paced,
        memory: middle.0.max(end.0),
        kernel_memory: middle.1.max(end.1),
    })
}

/// Octets that the kernel holds and cannot reclaim.
fn kernel_memory() -> Result<u64> {
    Ok(memory("SUnreclaim")? + memory("VmallocUsed")? + memory("Percpu")?)
}

/// A contestant in its place, and everybody around it.
struct Bout<'a> {
    topology: &'a Topology,
    standing: &'a Standing<'a>,
    load: &'a Load,
    exchanges: Socket,
    bulk: Socket,
}

/// Counts at a moment.
struct Mark {
    ring: Ring,
    answers: [u64; 3],
    dropped: u64,
    counters: Counters,
    busy: Busy,
}

impl<'a> Bout<'a> {
    fn new(topology: &'a Topology, standing: &'a Standing<'a>, load: &'a Load) -> Result<Self> {
        let server = &topology.server;
        let at = |port| server.at(load.family, port);
        let (exchanges, bulk) = server.netns.run_in(|| -> Result<_> {
            Ok((
                honest::listen(at(honest::PORT))?,
                honest::listen(at(honest::BULK_PORT))?,
            ))
        })??;
        let bout = Self {
            topology,
            standing,
            load,
            exchanges,
            bulk,
        };
        bout.try_out()?;
        Ok(bout)
    }

    /// One honest connection without a flood.
    fn try_out(&self) -> Result<()> {
        let end = AtomicBool::new(false);
        let tried = thread::scope(|scope| {
            let server = scope.spawn(|| honest::serve(&self.exchanges, &end));
            let tried = self
                .topology
                .client
                .netns
                .run_in(|| honest::one_exchange(self.at(honest::PORT)));
            end.store(true, Relaxed);
            joined(server)?;
            tried?
        });
        tried.context("an honest client without any flood")?;
        Ok(())
    }

    fn at(&self, port: u16) -> std::net::SocketAddr {
        self.topology.server.at(self.load.family, port)
    }

    /// Runs `work` with a generator, in the client's namespace and on the
    /// flood's core.
    fn flood<T: Send>(&self, work: impl FnOnce(&mut Generator) -> Result<T> + Send) -> Result<T> {
        let target = Target {
            at: self.at(honest::PORT),
            from_mac: mac_of(FIRST_MAC),
            to_mac: mac_of(SECOND_MAC),
        };
        // Another one each time, or a turn's floods would be of one seed.
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .context("the clock is set before 1970")?
            .as_nanos() as u64;
        self.topology.client.netns.run_in(|| {
            stay_on(FLOOD_CORE)?;
            come_first()?;
            let mut generator = Generator::new(INTERFACE, self.load.kind, &target, seed)?;
            work(&mut generator)
        })?
    }

    fn mark(&self) -> Result<Mark> {
        let client = &self.topology.client.netns;
        let server = &self.topology.server.netns;
        let counters = counters::all(self.standing, server)?;
        Ok(Mark {
            ring: Ring::so_far(client, INTERFACE)?,
            answers: self.answers()?,
            dropped: dropped(client, INTERFACE)? + dropped(server, INTERFACE)?,
            counters,
            busy: Busy::now()?,
        })
    }

    fn answers(&self) -> Result<[u64; 3]> {
        let absorber = &self.standing.absorber;
        Ok([
            absorber.count(Slot::SynAck)?,
            absorber.count(Slot::Reset)?,
            absorber.count(Slot::Other)?,
        ])
    }

    /// What became of frames since a mark.
    fn frames(&self, sent: &Sent, since: &Mark) -> Result<Frames> {
        let ring = Ring::so_far(&self.topology.client.netns, INTERFACE)?.since(since.ring);
        ensure!(
            sent.frames == ring.taken + ring.lost,
            "{} frames were sent, but the queue of the veth pair took {} and dropped {}",
            sent.frames,
            ring.taken,
            ring.lost
        );
        let [answered, reset, other] = self.answers()?;
        Ok(Frames {
            sent: sent.frames,
            lost: ring.lost,
            received: ring.taken,
            answered: answered - since.answers[0],
            reset: reset - since.answers[1],
            other: other - since.answers[2],
        })
    }

    fn half_open(&self) -> Result<(Option<u64>, Option<u64>)> {
        if self.standing.mouth.is_some() {
            return Ok((None, None));
        }
        let (held, limit) = counters::half_open(self.standing, &self.topology.server.netns)?;
        Ok((Some(held), limit))
    }

    /// The flood alone.
    fn alone(&self) -> Result<Alone> {
        self.flood(|generator| generator.send(WARM_UP))?;
        sleep(ADAPTING);
        let before = self.mark()?;
        let (sent, each) = self.flood(|generator| generator.send(self.load.alone))?;
        let cores = Busy::now()?.since(&before.busy);
        let frames = self.frames(&sent, &before)?;
        let (half_open, half_open_limit) = self.half_open()?;
        let after = counters::all(self.standing, &self.topology.server.netns)?;
        let counters = counters::moved(&before.counters, &after);
        let unaccounted = self.standing.tracker.is_some().then(|| {
            i64::try_from(frames.received)
                .unwrap_or(i64::MAX)
                .saturating_sub_unsigned(counters::met(&counters))
        });
        let ns_per_frame =
            each.as_secs_f64() * 1e9 * frames.sent as f64 / frames.received.max(1) as f64;
        Ok(Alone {
            ns_per_frame,
            per_second: 1e9 / ns_per_frame,
            frames,
            half_open,
            half_open_limit,
            unaccounted,
            cores,
            counters,
        })
    }

    /// The flood beside honest clients, at full speed or paced.
    fn beside(&self, rate: Option<u32>) -> Result<Beside> {
        let end = &AtomicBool::new(false);
        // Later, for the last client is to be served.
        let closing = &AtomicBool::new(false);
        let flooding = &AtomicBool::new(false);
        let octets = &AtomicU64::new(0);
        let client = &self.topology.client.netns;
        let cores = self.load.cores;
        thread::scope(|scope| {
            // Whatever fails on the way, the others must not wait for ever.
            let _ending = (Ending(end), Ending(closing));
            let exchange_server = scope.spawn(move || {
                stay_off_flood(cores)?;
                honest::serve(&self.exchanges, closing)
            });
            let bulk_server = scope.spawn(move || {
                stay_off_flood(cores)?;
                honest::take_bulk(&self.bulk, octets, closing)
            });
            let sender =
                Arc::new(client.run_in(|| BulkSender::connect(self.at(honest::BULK_PORT)))??);
            let sending = Arc::clone(&sender);
            let bulk_client = scope.spawn(move || {
                stay_off_flood(cores)?;
                sending.send(end)
            });
            sleep(UNDER_WAY);

            let time = match rate {
                Some(_) => self.load.beside_paced,
                None => self.load.beside,
            };
            let exchange_client = scope.spawn(move || {
                client.run_in(|| -> Result<Exchanges> {
                    stay_off_flood(cores)?;
                    while !flooding.load(Relaxed) && !end.load(Relaxed) {
                        sleep(Duration::from_millis(1));
                    }
                    sleep(AHEAD);
                    Ok(honest::exchange(
                        self.at(honest::PORT),
                        Instant::now() + time.saturating_sub(2 * AHEAD),
                    ))
                })?
            });
            let (before, bulk, sent) = self.flood(|generator| {
                let before = self.mark()?;
                let (start, octets_before) = (Instant::now(), octets.load(Relaxed));
                let retransmitted = sender.retransmitted()?;
                flooding.store(true, Relaxed);
                let sent = generator.send_for(time, rate)?;
                let bulk = Bulk {
                    octets: octets.load(Relaxed) - octets_before,
                    seconds: start.elapsed().as_secs_f64(),
                    retransmitted: sender.retransmitted()? - retransmitted,
                };
                Ok((before, bulk, sent))
            })?;
            let cores = Busy::now()?.since(&before.busy);
            end.store(true, Relaxed);
            let exchanges = joined(exchange_client)?;
            joined(bulk_client)?;
            let frames = self.frames(&sent, &before)?;
            // Before the bulk transfer is torn down, which is not orderly.
            let after = self.mark()?;
            closing.store(true, Relaxed);
            joined(exchange_server)?;
            joined(bulk_server)?;
            let flood_seconds = sent.elapsed.as_secs_f64();
            let (half_open, _) = self.half_open()?;
            Ok(Beside {
                seconds: flood_seconds,
                offered_per_second: frames.sent as f64 / flood_seconds,
                received_per_second: frames.received as f64 / flood_seconds,
                answered_per_second: frames.answered as f64 / flood_seconds,
                others_lost: (after.dropped - before.dropped).saturating_sub(frames.lost),
                frames,
                exchanges,
                bulk,
                half_open,
                cores,
                counters: counters::moved(&before.counters, &after.counters),
            })
        })
    }
}

/// Says that it is over when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread of the bench panicked"))?
}

/// Keeps the calling thread off the flood's core.
fn stay_off_flood(cores: usize) -> Result<()> {
    let mut others = CpuSet::new();
    for core in (0..cores).filter(|core| *core != FLOOD_CORE) {
        others.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &others).context("staying off the flood's core")
}
