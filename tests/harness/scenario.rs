//! Scripted connections, each with a resting point.
//!
//! A [`Scenario`] brings one connection into a pair of states in which it
//! stays for longer than it takes to look: the last packet that matters has
//! passed the tracker, and packets that would move it on are dropped in the
//! receiver's namespace. The table of all of them is [`TABLE`].

mod stage;
mod table;

pub use stage::{Held, Stage};
pub use table::TABLE;

use anyhow::Result;

use crate::{ss::Snapshot, state::State};

/// A script for one connection.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// In words.
    pub name: &'static str,
    /// The resting point: client's and server's state.
    pub rest: (State, State),
    /// The SYNs that must have been sent again, at least, when it is judged.
    pub syn_retransmits: u32,
    /// The SYN-ACKs that must have been sent again, at least.
    pub synack_retransmits: u32,
    /// Leads to the resting point, or so far that the stacks get there by
    /// themselves.
    pub script: for<'a> fn(&Stage<'a>) -> Result<Held<'a>>,
}

/// Both ends of a connection as the kernel shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The client's state.
    pub client: State,
    /// The server's.
    pub server: State,
    /// SYNs that the client has sent again.
    pub syn_retransmits: u32,
    /// SYN-ACKs that the server has sent again.
    pub synack_retransmits: u32,
}

impl Truth {
    /// What the sockets of the two namespaces say about the connection on
    /// `stage`.
    ///
    /// A socket that `ss` does not show is CLOSED, except that the server of a
    /// client in SYN-SENT still listens.
    #[must_use]
    pub fn of(stage: &Stage<'_>, clients: &Snapshot, servers: &Snapshot) -> Self {
        let client = clients.connection(stage.client, stage.server);
        let server = servers.connection(stage.server, stage.client);
        let client_state = client.map_or(State::Closed, |socket| socket.state);
        let server_state = match server {
            Some(socket) => socket.state,
            None if client_state == State::SynSent => State::Listen,
            None => State::Closed,
        };
        let count = |socket: Option<&crate::ss::Socket>, state| match socket {
            Some(socket) if socket.state == state => socket.retransmits,
            _ => 0,
        };
        Self {
            client: client_state,
            server: server_state,
            syn_retransmits: count(client, State::SynSent),
            synack_retransmits: count(server, State::SynReceived),
        }
    }
}
