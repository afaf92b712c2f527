//! The defence against floods, as the agent runs it.

mod adaptive;
mod agent;
mod ban;
mod configuration;
mod counters;
mod doors;
mod flood_events;
mod kernel;
mod listeners;

use std::{fs, net::SocketAddr, path::Path};

use socket2::Socket;
use tracker_tests::{
    agent::Tracker,
    configuration::{Configuration, SOON},
    netns::Namespace,
    sockets,
    spoof::{Segment, Spoofer},
    stats::Stats,
    topology::{Family, Topology},
    wait::eventually,
};

/// `net.ipv4.tcp_timestamps` and `net.ipv4.tcp_syncookies` of a namespace.
fn sysctls(netns: &Namespace) -> [u32; 2] {
    let read = || {
        ["tcp_timestamps", "tcp_syncookies"].map(|name| {
            let path = Path::new("/proc/sys/net/ipv4").join(name);
            fs::read_to_string(path).unwrap().trim().parse().unwrap()
        })
    };
    netns.run_in(read).unwrap()
}

/// Waits until they have these values.
fn until_sysctls(netns: &Namespace, expected: [u32; 2]) {
    eventually(SOON, || match sysctls(netns) {
        found if found == expected => Ok(()),
        found => Err(format!("sysctls are {found:?}, not {expected:?}")),
    });
}

/// What is written down in a pin directory under `name`.
fn record(pins: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(pins.join(name)).ok()?;
    Some(target.to_str().unwrap().to_owned())
}

fn stats(tracker: &Tracker<'_>) -> Result<Stats, String> {
    tracker.stats().map_err(|error| format!("{error:#}"))
}

fn listener(topology: &Topology, port: u16) -> Socket {
    let server = topology.server.at(Family::V4, port);
    sockets::listen(&topology.server.netns, server).unwrap()
}

/// A made-up host, which the server answers and which never answers itself.
struct Nobody<'a> {
    topology: &'a Topology,
    spoofer: Spoofer<'a>,
}

impl<'a> Nobody<'a> {
    const HOST: [u8; 4] = [192, 0, 2, 77];

    fn new(topology: &'a Topology) -> Self {
        let spoofer = Spoofer::new(topology).unwrap();
        spoofer.pretend(SocketAddr::from((Self::HOST, 0))).unwrap();
        Self { topology, spoofer }
    }

    fn segment(&self, port: u16, to: u16) -> Segment<'static> {
        Segment {
            from: SocketAddr::from((Self::HOST, port)),
            to: self.topology.server.at(Family::V4, to),
            seq: 1000,
            ack: None,
            syn: false,
            rst: false,
            payload: b"",
            damaged: false,
        }
    }

    /// Sends a SYN from each of `ports` to a port of the server.
    fn open(&self, ports: std::ops::Range<u16>, to: u16) {
        for port in ports {
            let syn = Segment {
                syn: true,
                ..self.segment(port, to)
            };
            self.spoofer.send(&syn).unwrap();
        }
    }
}
