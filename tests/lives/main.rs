//! Lives of flows: how they are met, what ends them, and what is remembered.

mod checks;
mod limits;
mod pickup;

use std::net::SocketAddr;

use socket2::Socket;
use tracker_tests::{
    agent::Tracker,
    configuration::{Configuration, SOON},
    flow::Flow,
    sockets,
    spoof::Segment,
    stats::Stats,
    topology::{Family, Topology},
};

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
