//! Connections that are older than the tracker, read from those who know them: the
//! host's sockets, and nf_conntrack where the tracker is a gateway.
//!
//! They become flows before anything is enforced: nobody is cut off by the start of
//! a tracker.

mod conntrack;
mod place;

use std::net::SocketAddr;

use anyhow::Result;
use tracker_common::{
    abi::{Origin, Role, Seed},
    tcp::State,
};

use self::place::Places;
use crate::{
    datapath::{Pinned, Planted},
    sockets::{self, Connected, Listening},
};

/// What became of the connections that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Of the host's sockets.
    pub sockets: Planted,
    /// Of nf_conntrack; `None` where it was not asked, since it follows nothing.
    pub conntrack: Option<Planted>,
}

/// Makes flows of all connections that are known and pass a tracked interface.
/// Those that are flows already stay what they are.
///
/// # Errors
///
/// The kernel does not tell, or the flows cannot be made.
pub fn plant(pinned: &Pinned, role: Role) -> Result<Read> {
    let mut places = Places::look(pinned, role)?;
    let listening = sockets::listening()?;
    let mut seeds = Vec::new();
    for socket in sockets::connected()? {
        seeds.extend(of_socket(&socket, &listening, &mut places));
    }
    let mut read = Read {
        sockets: pinned.plant(&seeds)?,
        conntrack: None,
    };
    if role == Role::Gateway && conntrack::is_in_use() {
        seeds.clear();
        for entry in conntrack::entries()? {
            for ends in entry.views() {
                seeds.extend(places.forwarded(ends, entry.states, Origin::Conntrack));
            }
        }
        read.conntrack = Some(pinned.plant(&seeds)?);
    }
    Ok(read)
}

/// Logs what was read.
pub fn tell(read: &Read) {
    let Read { sockets, conntrack } = read;
    let of = |planted: &Planted, whom: &str| {
        let Planted {
            made,
            there,
            no_room,
        } = planted;
        if *no_room > 0 {
            tracing::error!(
                "{no_room} connections of {whom} found no room in the tables and may be cut off: \
                 raise table.capacity"
            );
        }
        tracing::info!("{made} connections of {whom} became flows, {there} were flows already");
    };
    of(sockets, "this host's sockets");
    if let Some(conntrack) = conntrack {
        of(conntrack, "nf_conntrack");
    }
}

/// The seed of a socket's connection; `None` where no tracked interface sees it.
fn of_socket(socket: &Connected, listening: &[Listening], places: &mut Places) -> Option<Seed> {
    let accepted = listening
        .iter()
        .any(|listener| accepts(listener, socket.local));
    let (local, remote) = (socket.state, peer(socket.state));
    // Another socket of this machine may be the other end.
    let called = listening
        .iter()
        .any(|listener| accepts(listener, socket.remote));
    let ends = [socket.local, socket.remote];
    let spot = places.of_socket(socket)?;
    let guessed = !accepted && !called;
    if accepted {
        places.local([ends[1], ends[0]], [remote, local], 1, spot, guessed)
    } else {
        places.local(ends, [local, remote], 0, spot, guessed)
    }
}

/// Whether connections to `end` are accepted there.
fn accepts(listener: &Listening, end: SocketAddr) -> bool {
    let everywhere = listener.address.is_unspecified()
        && (listener.address.is_ipv4() == end.is_ipv4() || listener.dual_stack);
    listener.port == end.port() && (everywhere || listener.address == end.ip())
}

/// Where the other end of a connection most likely is (RFC 9293 section 3.3.2).
const fn peer(state: State) -> State {
    match state {
        State::CloseWait => State::FinWait2,
        State::LastAck => State::FinWait2,
        State::FinWait2 => State::CloseWait,
        State::Closing => State::Closing,
        State::FinWait1
        | State::Established
        | State::Closed
        | State::Listen
        | State::SynSent
        | State::SynReceived
        | State::TimeWait => State::Established,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, port: u16, dual_stack: bool) -> Listening {
        Listening {
            address: address.parse().unwrap(),
            port,
            dual_stack,
            ifindex: 0,
            queue: 0,
            backlog: 1,
        }
    }

    #[test]
    fn a_listener_tells_who_was_called() {
        let at = |end: &str, listener: &Listening| accepts(listener, end.parse().unwrap());
        let v4 = listener("0.0.0.0", 22, false);
        assert!(at("192.0.2.1:22", &v4));
        assert!(!at("192.0.2.1:23", &v4) && !at("[2001:db8::1]:22", &v4));
        let v6 = listener("::", 22, false);
        assert!(at("[2001:db8::1]:22", &v6) && !at("192.0.2.1:22", &v6));
        assert!(at("192.0.2.1:22", &listener("::", 22, true)));
        let one = listener("192.0.2.1", 22, false);
        assert!(at("192.0.2.1:22", &one) && !at("192.0.2.2:22", &one));
    }

    #[test]
    fn the_other_end_fits_the_state_of_this_one() {
        assert_eq!(peer(State::Established), State::Established);
        assert_eq!(peer(State::CloseWait), State::FinWait2);
        assert_eq!(peer(State::FinWait2), State::CloseWait);
    }
}
