//! What a script works with.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use socket2::Socket;

use super::Truth;
use crate::{
    nft::{Firewall, Packets, Rule},
    sockets,
    ss::Snapshot,
    state::State,
    topology::{End, Family, Topology},
    wait::wait_for,
};

/// The two ends of one connection.
pub struct Stage<'a> {
    /// The client's address; the port is this connection's alone.
    pub client: SocketAddr,
    /// The server's address; the port is this connection's alone.
    pub server: SocketAddr,
    /// Its family.
    pub family: Family,
    topology: &'a Topology,
    at_client: &'a Firewall<'a>,
    at_server: &'a Firewall<'a>,
}

/// What must stay for a connection to stay where it is: its sockets and the
/// rules that hold packets back. The rules go first when it is dropped, so
/// that the connection can still end in an orderly way.
#[derive(Default)]
pub struct Held<'a> {
    /// Rules in force.
    pub rules: Vec<Rule<'a>>,
    /// Open sockets, listening ones included.
    pub sockets: Vec<Socket>,
}

impl<'a> Held<'a> {
    /// Sockets only.
    #[must_use]
    pub fn sockets(sockets: impl IntoIterator<Item = Socket>) -> Self {
        Self {
            rules: Vec::new(),
            sockets: sockets.into_iter().collect(),
        }
    }

    /// These, with `rules`.
    #[must_use]
    pub fn behind(mut self, rules: impl IntoIterator<Item = Rule<'a>>) -> Self {
        self.rules.extend(rules);
        self
    }
}

/// Both sockets of a connection, and the listener it came from.
pub struct Connected {
    /// Kept so that the port is not refused later on.
    pub listener: Socket,
    /// The client's.
    pub client: Socket,
    /// The server's.
    pub server: Socket,
}

impl Connected {
    /// All three, held.
    #[must_use]
    pub fn hold<'a>(self) -> Held<'a> {
        let Self {
            listener,
            client,
            server,
        } = self;
        Held::sockets([listener, client, server])
    }
}

impl<'a> Stage<'a> {
    /// A stage for a connection between two ports.
    #[must_use]
    pub fn new(
        topology: &'a Topology,
        at_client: &'a Firewall<'a>,
        at_server: &'a Firewall<'a>,
        family: Family,
        (client_port, server_port): (u16, u16),
    ) -> Self {
        Self {
            client: topology.client.at(family, client_port),
            server: topology.server.at(family, server_port),
            family,
            topology,
            at_client,
            at_server,
        }
    }

    /// A socket that listens at the server's address.
    ///
    /// # Errors
    ///
    /// As [`sockets::listen`].
    pub fn listen(&self) -> Result<Socket> {
        sockets::listen(&self.topology.server.netns, self.server)
    }

    /// Connects the client, and waits until the connection stands.
    ///
    /// # Errors
    ///
    /// As [`sockets::connect`].
    pub fn connect(&self) -> Result<Socket> {
        sockets::connect(&self.topology.client.netns, self.client, self.server)
    }

    /// Sends the client's SYN and does not wait.
    ///
    /// # Errors
    ///
    /// As [`sockets::begin_connect`].
    pub fn begin_connect(&self) -> Result<Socket> {
        sockets::begin_connect(&self.topology.client.netns, self.client, self.server)
    }

    /// Sends a SYN from the *server* to the client's address.
    ///
    /// # Errors
    ///
    /// As [`sockets::begin_connect`].
    pub fn begin_connect_back(&self) -> Result<Socket> {
        sockets::begin_connect(&self.topology.server.netns, self.server, self.client)
    }

    /// An established connection.
    ///
    /// # Errors
    ///
    /// It does not come about.
    pub fn establish(&self) -> Result<Connected> {
        let listener = self.listen()?;
        let client = self.connect()?;
        let server = sockets::accept(&listener)?;
        Ok(Connected {
            listener,
            client,
            server,
        })
    }

    /// Drops packets from the server at the client.
    ///
    /// # Errors
    ///
    /// As [`Firewall::drop`].
    pub fn deafen_client(&self, to: Packets) -> Result<Rule<'a>> {
        self.at_client.drop(to, self.server, self.client)
    }

    /// Drops packets from the client at the server.
    ///
    /// # Errors
    ///
    /// As [`Firewall::drop`].
    pub fn deafen_server(&self, to: Packets) -> Result<Rule<'a>> {
        self.at_server.drop(to, self.client, self.server)
    }

    /// What the kernel shows for this connection.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::take`].
    pub fn truth(&self) -> Result<Truth> {
        let Topology {
            client: End { netns: client, .. },
            server: End { netns: server, .. },
            ..
        } = self.topology;
        Ok(Truth::of(
            self,
            &Snapshot::take(client)?,
            &Snapshot::take(server)?,
        ))
    }

    /// Waits until the kernel shows the connection in these states: a script
    /// whose next step only makes sense there goes on then.
    ///
    /// # Errors
    ///
    /// It does not get there in [`sockets::PATIENCE`].
    pub fn until(&self, client: State, server: State) -> Result<()> {
        wait_for(sockets::PATIENCE, || {
            let truth = self.truth().map_err(|error| format!("{error:#}"))?;
            if (truth.client, truth.server) == (client, server) {
                Ok(())
            } else {
                Err(format!(
                    "waiting for {client}/{server}, the sockets are in {truth:?}"
                ))
            }
        })
        .map_err(|mismatch| anyhow!("{mismatch}"))
        .with_context(|| format!("{} to {}", self.client, self.server))
    }
}
