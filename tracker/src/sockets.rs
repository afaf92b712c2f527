//! The TCP sockets of this network namespace, as the kernel tells them
//! (sock_diag(7)).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use tracker_common::tcp::State;

use crate::netlink::Netlink;

/// A socket that accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address that it is bound to; `0.0.0.0` or `::` for all. An IPv4
    /// address in an IPv6 socket is an IPv4 address here.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Bound to `::`, it takes IPv4 connections, too.
    pub dual_stack: bool,
    /// Index of the interface that it is bound to, 0 for any.
    pub ifindex: u32,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// Connections that may wait: the backlog of listen(2), cut to
    /// `net.core.somaxconn`. One more fits before the queue is full.
    pub backlog: u32,
}

/// A socket of a connection whose handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// This machine's address and port. IPv4 addresses in IPv6 sockets are IPv4
    /// addresses here.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Its state.
    pub state: State,
    /// Index of the device that it is bound to, as every one between link-local
    /// addresses is; 0 for any.
    pub ifindex: u32,
}

/// The sockets that accept connections, in no particular order. A socket that
/// opens or closes meanwhile may be there or not.
///
/// # Errors
///
/// The kernel does not tell.
pub fn listening() -> Result<Vec<Listening>> {
    let mut found = Vec::new();
    dump(StateFlags::LISTEN, |response| found.push(socket(response)))
        .context("cannot ask the kernel for the sockets that listen (sock_diag)")?;
    Ok(found)
}

/// The sockets of connections whose handshake is over and which have not come to
/// TIME_WAIT, likewise.
///
/// # Errors
///
/// The kernel does not tell.
pub fn connected() -> Result<Vec<Connected>> {
    let states = StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    let mut found = Vec::new();
    dump(states, |response| found.extend(connection(response)))
        .context("cannot ask the kernel for the sockets of connections (sock_diag)")?;
    Ok(found)
}

fn dump(states: StateFlags, mut each: impl FnMut(&InetResponse)) -> Result<()> {
    let mut netlink = Netlink::open(NETLINK_SOCK_DIAG)?;
    for family in [AF_INET, AF_INET6] {
        netlink.dump(request(family, states.clone()), |message| {
            let SockDiagMessage::InetResponse(response) = message else {
                bail!("the kernel sent something else than a socket");
            };
            each(&response);
            Ok(())
        })?;
    }
    Ok(())
}

fn request(family: u8, states: StateFlags) -> SockDiagMessage {
    SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    })
}

/// `None` in a state that was not asked for.
fn connection(response: &InetResponse) -> Option<Connected> {
    let id = &response.header.socket_id;
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    Some(Connected {
        local: end(id.source_address, id.source_port),
        remote: end(id.destination_address, id.destination_port),
        state: state(response.header.state)?,
        ifindex: id.interface_id,
    })
}

/// The state of that number (include/net/tcp_states.h).
const fn state(number: u8) -> Option<State> {
    Some(match number {
        1 => State::Established,
        4 => State::FinWait1,
        5 => State::FinWait2,
        8 => State::CloseWait,
        9 => State::LastAck,
        11 => State::Closing,
        _ => return None,
    })
}

fn socket(response: &InetResponse) -> Listening {
    let header = &response.header;
    let bound = header.socket_id.source_address;
    let v6_only = response
        .nlas
        .iter()
        .any(|nla| matches!(nla, Nla::SkV6Only(true)));
    Listening {
        address: bound.to_canonical(),
        port: header.socket_id.source_port,
        dual_stack: bound == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6_only,
        ifindex: header.socket_id.interface_id,
        queue: header.recv_queue,
        backlog: header.send_queue,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn an_own_listener_is_found_with_its_queue() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let _waiting = std::net::TcpStream::connect(at).unwrap();
        let found = listening().unwrap();
        let own = found
            .iter()
            .find(|socket| socket.address == at.ip() && socket.port == at.port())
            .unwrap();
        assert_eq!((own.queue, own.dual_stack, own.ifindex), (1, false, 0));
        assert!(own.backlog >= 1, "{own:?}");
    }

    #[test]
    fn whether_ipv4_is_taken_too_is_told() {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listening().unwrap();
        let own = found.iter().find(|socket| {
            socket.port == port && socket.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        });
        assert!(own.unwrap().dual_stack, "{own:?}");
    }

    #[test]
    fn both_ends_of_a_connection_are_found_with_their_states() {
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let server = listener.local_addr().unwrap();
            let stream = std::net::TcpStream::connect(server).unwrap();
            let client = stream.local_addr().unwrap();
            let (peer, _) = listener.accept().unwrap();
            let found = connected().unwrap();
            for (local, remote) in [(client, server), (server, client)] {
                let expected = Connected {
                    local,
                    remote,
                    state: State::Established,
                    ifindex: 0,
                };
                assert!(found.contains(&expected), "{expected:?} in {found:?}");
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let closing = Connected {
                local: server,
                remote: client,
                state: State::CloseWait,
                ifindex: 0,
            };
            let start = std::time::Instant::now();
            while !connected().unwrap().contains(&closing) {
                assert!(start.elapsed().as_secs() < 5, "never in CLOSE_WAIT");
            }
            drop(peer);
        }
    }

    #[test]
    fn an_ipv4_connection_of_an_ipv6_socket_is_one_of_ipv4() {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (_accepted, _) = listener.accept().unwrap();
        let found = connected().unwrap();
        let own = found
            .iter()
            .find(|socket| socket.local.port() == port && socket.remote.is_ipv4());
        assert_eq!(own.unwrap().remote, stream.local_addr().unwrap());
    }
}
