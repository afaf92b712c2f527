//! One established connection, for tests that are about something else.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use socket2::Socket;

use crate::{
    agent::Tracker,
    flow::{self, Flow},
    sockets,
    state::State,
    topology::{Family, Topology},
    wait::eventually,
};

/// A connection from the client to port 80 of the server over IPv4.
///
/// Its functions panic: without the connection there is nothing to test.
pub struct Connection {
    /// The client's address.
    pub client: SocketAddr,
    /// The server's address.
    pub server: SocketAddr,
    /// The client's socket, the server's, and the one that listens.
    pub sockets: (Socket, Socket, Socket),
}

impl Connection {
    /// Opens it from a port of the client and talks.
    ///
    /// # Panics
    ///
    /// It does not come about.
    #[must_use]
    pub fn open(topology: &Topology, port: u16) -> Self {
        let client = topology.client.at(Family::V4, port);
        let server = topology.server.at(Family::V4, 80);
        let listener = sockets::listen(&topology.server.netns, server).unwrap();
        let connected = sockets::connect(&topology.client.netns, client, server).unwrap();
        let accepted = sockets::accept(&listener).unwrap();
        let connection = Self {
            client,
            server,
            sockets: (connected, accepted, listener),
        };
        connection.talk();
        connection
    }

    /// Sends something each way. Both ends have acknowledged something when
    /// this returns.
    ///
    /// # Panics
    ///
    /// It does not arrive.
    pub fn talk(&self) {
        let (mut client, mut server, _) = (&self.sockets.0, &self.sockets.1, &self.sockets.2);
        let mut buffer = [0; 5];
        client.write_all(b"knock").unwrap();
        server.read_exact(&mut buffer).unwrap();
        server.write_all(b"reply").unwrap();
        client.read_exact(&mut buffer).unwrap();
    }

    /// Its flow among some.
    #[must_use]
    pub fn find(&self, flows: &[Flow]) -> Option<Flow> {
        flows
            .iter()
            .find(|flow| flow.connects(self.client, self.server))
            .cloned()
    }

    /// Waits until a tracker lists it as established on both ends.
    ///
    /// # Panics
    ///
    /// It does not in [`sockets::PATIENCE`].
    #[must_use]
    pub fn seen_by(&self, tracker: &Tracker<'_>) -> Flow {
        eventually(sockets::PATIENCE, || {
            let flows = tracker.list().map_err(|error| format!("{error:#}"))?;
            match self.find(&flows) {
                Some(flow) if flow.states() == (State::Established, State::Established) => Ok(flow),
                _ => Err(format!(
                    "{} to {} is not established in\n{}",
                    self.client,
                    self.server,
                    flow::table(&flows)
                )),
            }
        })
    }
}
