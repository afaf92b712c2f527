//! Lives of flows: how they are met, what ends them, and what is remembered.

mod checks;
mod limits;
mod pickup;

use std::{io::Write, net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use socket2::Socket;
use tempfile::NamedTempFile;
use tracker_tests::{
    agent::{Options, Tracker},
    flow::Flow,
    sockets,
    spoof::Segment,
    stats::Stats,
    topology::{Family, Topology},
};

/// How long anything may take that happens by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A configuration file of an agent.
struct Configuration(NamedTempFile);

impl Configuration {
    fn new(text: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(file)
    }

    fn options<'a>(&self, topology: &'a Topology) -> Options<'a> {
        Options::on(topology).with(["-c".as_ref(), self.0.path().as_os_str()])
    }

    fn start<'a>(&self, topology: &'a Topology, more: &[&str]) -> Tracker<'a> {
        self.options(topology).with(more).start().unwrap()
    }

    /// Writes `text` instead and has the agent read it.
    fn reload(&self, tracker: &Tracker<'_>, text: &str) {
        std::fs::write(self.0.path(), text).unwrap();
        let before = tracker.log();
        tracker.signal(Signal::SIGHUP).unwrap();
        tracker
            .wait_for_log(&before, "configuration read again", SOON)
            .unwrap();
    }
}

/// A segment from a host that is nobody's to port 80 of the server.
fn nobody(topology: &Topology, port: u16) -> Segment<'static> {
    Segment {
        from: SocketAddr::from(([192, 0, 2, 77], port)),
        to: topology.server.at(Family::V4, 80),
        seq: 1000,
        ack: None,
        syn: false,
        rst: false,
        payload: b"",
        damaged: false,
    }
}

fn listener(topology: &Topology, port: u16) -> Socket {
    let server = topology.server.at(Family::V4, port);
    sockets::listen(&topology.server.netns, server).unwrap()
}

fn connect(topology: &Topology, listener: &Socket, port: u16) -> (Socket, Socket) {
    let server = listener.local_addr().unwrap().as_socket().unwrap();
    let client = topology.client.at(Family::V4, port);
    let client = sockets::connect(&topology.client.netns, client, server).unwrap();
    (client, sockets::accept(listener).unwrap())
}

fn ask(tracker: &Tracker<'_>) -> Result<Vec<Flow>, String> {
    tracker.list().map_err(|error| format!("{error:#}"))
}

fn stats(tracker: &Tracker<'_>) -> Result<Stats, String> {
    tracker.stats().map_err(|error| format!("{error:#}"))
}
