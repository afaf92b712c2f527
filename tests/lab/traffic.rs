//! What happens in the lab's network.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Scope, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use socket2::Socket;
use tracker_tests::{
    netns::Namespace,
    nft::Firewall,
    scenario::{Stage, TABLE},
    sockets,
    topology::{Family, Topology},
};

/// How long the connections that stand still do so before they are made anew
/// from the same ports: longer than a client's TIME-WAIT (60 s), which keeps a
/// port, and shorter than a SYN is repeated (127 s).
const ROUND: Duration = Duration::from_secs(70);

/// How long a request takes, and the pause between two.
const PACE: Duration = Duration::from_millis(700);

/// The web server's port.
const REQUESTS: u16 = 80;
/// The port from which all requests come: one line of the table that lives
/// again and again, since a server in TIME-WAIT accepts a new SYN.
const REQUESTER: u16 = 39_999;
/// The port of the server with the long download.
const DOWNLOAD: u16 = 8080;

/// Traffic that goes on until it is dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts it on threads of `scope`, which ends when this is dropped.
    pub fn start<'s, 'e>(scope: &'s Scope<'s, 'e>, topology: &'e Topology) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        type Part = fn(&Topology, &AtomicBool) -> Result<()>;
        let parts: [(&str, Part); 4] = [
            ("the web server", serve_requests),
            ("the web client", make_requests),
            ("the long download", download),
            ("the connections that stand still", stand_still),
        ];
        for (name, part) in parts {
            let stop = Arc::clone(&stop);
            scope.spawn(move || {
                if let Err(error) = part(topology, &stop) {
                    eprintln!("the lab goes on without {name}: {error:#}");
                }
            });
        }
        Self { stop }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}

/// Sleeps for `time`, less when it is over.
fn rest(time: Duration, stop: &AtomicBool) {
    let end = Instant::now() + time;
    while Instant::now() < end && !stopped(stop) {
        sleep(Duration::from_millis(50));
    }
}

/// Answers requests, one after the other, and closes first as web servers do.
fn serve_requests(topology: &Topology, stop: &AtomicBool) -> Result<()> {
    let listener = listen(
        &topology.server.netns,
        topology.server.at(Family::V4, REQUESTS),
    )?;
    while !stopped(stop) {
        let mut connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("accepting a request"),
        };
        let mut request = [0; 64];
        // A client that goes away in the middle is no reason to stop serving.
        let _ = connection.read(&mut request);
        rest(PACE, stop);
        let _ = connection.write_all(&[b'x'; 4000]);
    }
    Ok(())
}

fn make_requests(topology: &Topology, stop: &AtomicBool) -> Result<()> {
    let server = topology.server.at(Family::V4, REQUESTS);
    let client = topology.client.at(Family::V4, REQUESTER);
    while !stopped(stop) {
        // The server may not listen yet.
        if let Ok(mut connection) = sockets::connect(&topology.client.netns, client, server) {
            let _ = connection.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let _ = connection.read_to_end(&mut Vec::new());
        }
        rest(PACE, stop);
    }
    Ok(())
}

/// One connection over IPv6 that never ends.
fn download(topology: &Topology, stop: &AtomicBool) -> Result<()> {
    let server = topology.server.at(Family::V6, DOWNLOAD);
    let listener = sockets::listen(&topology.server.netns, server)?;
    let client = topology.client.at(Family::V6, 0);
    let mut reader = sockets::connect(&topology.client.netns, client, server)?;
    let mut writer = sockets::accept(&listener)?;
    let mut chunk = vec![b'x'; 16_000];
    while !stopped(stop) {
        writer.write_all(&chunk).context("sending")?;
        reader.read_exact(&mut chunk).context("receiving")?;
        rest(Duration::from_millis(100), stop);
    }
    Ok(())
}

/// One connection for every pair of states that the tests have a scenario for:
/// with the rest of the traffic they fit on a screen of 24 lines.
fn stand_still(topology: &Topology, stop: &AtomicBool) -> Result<()> {
    let at_client = Firewall::new(&topology.client.netns)?;
    let at_server = Firewall::new(&topology.server.netns)?;
    let mut pairs = Vec::new();
    let mut scenarios = TABLE.to_vec();
    scenarios.retain(|scenario| {
        let new = !pairs.contains(&scenario.rest);
        pairs.push(scenario.rest);
        new
    });
    while !stopped(stop) {
        let mut held = Vec::new();
        for (number, scenario) in (0..).zip(&scenarios) {
            if stopped(stop) {
                return Ok(());
            }
            let ports = (40_000 + number, 5_000 + number);
            let stage = Stage::new(topology, &at_client, &at_server, Family::V4, ports);
            held.push((scenario.script)(&stage).with_context(|| scenario.name)?);
        }
        rest(ROUND, stop);
        for held in held {
            // Abruptly, so that the ports are free for the next round. A
            // socket that cannot be reset is closed by being dropped.
            held.sockets
                .into_iter()
                .for_each(|socket| drop(sockets::reset(socket)));
        }
    }
    Ok(())
}

/// A listening socket whose `accept` gives up soon, to look whether it is
/// over.
fn listen(netns: &Namespace, at: SocketAddr) -> Result<Socket> {
    let listener = sockets::listen(netns, at)?;
    listener
        .set_read_timeout(Some(Duration::from_millis(200)))
        .context("setting a time-out")?;
    Ok(listener)
}
