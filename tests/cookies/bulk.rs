//! Bulk transfers over a long path, of clients that connected during a flood.
//!
//! The path takes 20 ms each way, so that a window of 65,535 octets, the largest
//! without a window scale, brings 1.6 MB/s at most.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use tracker_tests::{
    agent::Tracker,
    configuration::{Configuration, SOON},
    flood::trickle::{lead_back, trickle},
    netns::{Namespace, run},
    sockets::{PATIENCE, accept, connect, listen},
    topology::{Family, Placement, Topology},
    wait::wait_for,
    wire::{Faults, Side, Wire},
};

const PORT: u16 = 80;
/// Of the path, each way.
const DELAY: Duration = Duration::from_millis(20);
/// Octets a second that a window without scale brings over it.
const UNSCALED: f64 = 65_535.0 / 0.04;
/// Octets of a transfer.
const BULK: usize = 8 << 20;
/// Of one that is bound to be slow.
const LITTLE: usize = 1 << 20;

/// What `ss -tio` says of a connection that does not depend on what was sent.
type Told = BTreeMap<String, String>;

/// A connection, and what both ends' kernels say of it.
struct Pair {
    client: Socket,
    server: Socket,
    told: [Told; 2],
}

fn told(netns: &Namespace, local: SocketAddr, peer: SocketAddr) -> Result<Told> {
    let text = run(netns.command("ss")?.args([
        "-tinoH",
        "src",
        &local.to_string(),
        "dst",
        &peer.to_string(),
    ]))?;
    let known = text.split_whitespace().filter_map(|word| {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        ["ts", "sack", "ecn", "wscale", "mss", "advmss", "pmtu"]
            .contains(&name)
            .then(|| (name.to_owned(), value.to_owned()))
    });
    let told: Told = known.collect();
    ensure!(told.contains_key("mss"), "ss says nothing of it: {text:?}");
    Ok(told)
}

/// Both ends of a path, with the clients' next port.
struct Stage<'a> {
    topology: &'a Topology,
    listeners: [Socket; 2],
    port: u16,
}

impl Stage<'_> {
    /// A connection with a word each way.
    fn open(&mut self, family: Family) -> Result<Pair> {
        self.port += 1;
        let from = self.topology.client.at(family, self.port);
        let to = self.topology.server.at(family, PORT);
        let client = connect(&self.topology.client.netns, from, to)?;
        let server = accept(&self.listeners[usize::from(family == Family::V6)])?;
        let mut pair = Pair {
            client,
            server,
            told: [Told::new(), Told::new()],
        };
        pair.carry(5, true)?;
        pair.carry(5, false)?;
        pair.told = [
            told(&self.topology.client.netns, from, to)?,
            told(&self.topology.server.netns, to, from)?,
        ];
        Ok(pair)
    }

    /// One whose handshake was a cookie's; a SYN a second is let through.
    fn open_by_cookie(&mut self, family: Family, tracker: &Tracker<'_>) -> Result<Pair> {
        for _ in 0..20 {
            let pair = self.open(family)?;
            let address = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
            let ends = (address(&pair.client), address(&pair.server));
            let flows = tracker.list()?;
            let flow = flows.iter().find(|flow| flow.connects(ends.0, ends.1));
            if flow.context("its flow")?.origin == "cookie" {
                return Ok(pair);
            }
        }
        anyhow::bail!("none of twenty connections was made by a cookie")
    }
}

impl Pair {
    /// Sends so many octets one way; octets a second until all were there.
    fn carry(&self, octets: usize, up: bool) -> Result<f64> {
        let (mut from, mut to) = if up {
            (&self.client, &self.server)
        } else {
            (&self.server, &self.client)
        };
        let start = Instant::now();
        thread::scope(|scope| -> Result<()> {
            let sending = scope.spawn(move || from.write_all(&vec![0x5a; octets]));
            let mut room = vec![0; 1 << 18];
            let mut left = octets;
            while left > 0 {
                let read = to.read(&mut room).context("reading")?;
                ensure!(read > 0, "{left} octets are missing");
                left -= read;
            }
            Ok(sending.join().expect("the sender")?)
        })?;
        Ok(octets as f64 / start.elapsed().as_secs_f64())
    }

    /// Octets a second, up and down. Twice each, for others use the machine, too.
    fn speeds(&self, octets: usize) -> Result<[f64; 2]> {
        let mut best = [0.0_f64; 2];
        for _ in 0..2 {
            for (best, up) in best.iter_mut().zip([true, false]) {
                *best = best.max(self.carry(octets, up)?);
            }
        }
        Ok(best)
    }
}

#[test]
fn clients_of_a_flood_transfer_as_fast_as_any_over_a_long_path() {
    let mut wires = vec![];
    let topology = Topology::connected_by(Placement::Server, |a, b| {
        wires.push(Wire::lay(a, b, Side::First, 1)?);
        Ok(())
    })
    .unwrap();
    let (client, server) = (&topology.client.netns, &topology.server.netns);
    client.sysctl("ipv4.tcp_ecn", "1").unwrap();
    for netns in [client, server] {
        // Nothing is to be learnt from the connections before.
        netns.sysctl("ipv4.tcp_no_metrics_save", "1").unwrap();
    }
    lead_back(server).unwrap();
    let file = Configuration::new(
        "mode = \"enforce\"\n[table]\nhalf_open_limit = 500\n\
         [defence]\ncookie_age = \"1s\"\ndrain = \"100ms\"\n",
    );
    // Generic: a veth's peer gets native answers only if it has a program.
    let tracker = file.start(&topology, &["--xdp", "generic"]);
    for wire in &wires {
        wire.set(Faults {
            delay: DELAY,
            ..Faults::default()
        });
    }
    let mut stage = Stage {
        listeners: [Family::V4, Family::V6]
            .map(|family| listen(server, topology.server.at(family, PORT)).unwrap()),
        topology: &topology,
        port: 20_000,
    };
    let families = [Family::V4, Family::V6];
    let without = families.map(|family| {
        let pair = stage.open(family).unwrap();
        for told in &pair.told {
            let agreed = ["ts", "sack", "ecn", "wscale"].map(|name| told.contains_key(name));
            assert_eq!(agreed, [true; 4], "{told:?}");
        }
        let speeds = pair.speeds(BULK).unwrap();
        println!("{family} without: {speeds:.0?} octets/s, {:?}", pair.told);
        assert!(speeds.iter().all(|speed| *speed > 3.0 * UNSCALED));
        (pair.told, speeds)
    });
    assert_eq!(tracker.stats().unwrap().packets("cookie_sent"), 0);

    let stop = AtomicBool::new(false);
    let before = tracker.log();
    thread::scope(|scope| {
        scope.spawn(|| trickle(&topology, PORT, &stop).unwrap());
        let judged = during(&mut stage, &tracker, &before, &without);
        stop.store(true, Ordering::Relaxed);
        judged.unwrap();
    });
    assert!(wires.iter().all(Wire::works));
    tracker.stop().unwrap();
    // Before the interfaces go.
    drop(wires);
}

/// The same while SYNs are answered with cookies.
fn during(
    stage: &mut Stage<'_>,
    tracker: &Tracker<'_>,
    before: &str,
    without: &[([Told; 2], [f64; 2]); 2],
) -> Result<()> {
    tracker.wait_for_log(before, "SYN cookies are on", SOON)?;
    for (family, (told, speeds)) in [Family::V4, Family::V6].into_iter().zip(without) {
        // A busy machine slows any of them down.
        wait_for(PATIENCE, || {
            let compare = |stage: &mut Stage<'_>| -> Result<()> {
                let pair = stage.open_by_cookie(family, tracker)?;
                ensure!(
                    pair.told == *told,
                    "{family}: ss -ti tells {:?}, and {told:?} without a cookie",
                    pair.told
                );
                let during = pair.speeds(BULK)?;
                println!("{family} by cookie: {during:.0?} octets/s");
                for (during, without) in during.iter().zip(speeds) {
                    ensure!(
                        *during > 0.6 * without && *during > 3.0 * UNSCALED,
                        "{family}: {during} octets a second, and {without} without a cookie"
                    );
                }
                Ok(())
            };
            compare(stage).map_err(|error| format!("{error:#}"))
        })
        .map_err(|error| anyhow::anyhow!(error))?;
    }
    // What makes the difference is the scale: a client without timestamps gets none
    // by a cookie.
    let client = &stage.topology.client.netns;
    client.sysctl("ipv4.tcp_timestamps", "0")?;
    let pair = stage.open_by_cookie(Family::V4, tracker)?;
    let speeds = pair.speeds(LITTLE)?;
    println!("without a scale: {speeds:.0?} octets/s, {:?}", pair.told);
    ensure!(
        pair.told.iter().all(|told| !told.contains_key("wscale")),
        "{:?}",
        pair.told
    );
    ensure!(
        speeds.iter().all(|speed| *speed < 1.2 * UNSCALED),
        "{speeds:?} octets a second without a window scale"
    );
    Ok(())
}
