//! The TCP sockets of this network namespace that accept connections, as the
//! kernel tells them (sock_diag(7)).

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// Octets of one reply, at most: the kernel fills 32 KiB (`netlink_dump` in
/// net/netlink/af_netlink.c).
const REPLY: usize = 1 << 16;

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

/// All of them, in no particular order. A socket that opens or closes meanwhile
/// may be there or not.
///
/// # Errors
///
/// The kernel does not tell.
pub fn listening() -> Result<Vec<Listening>> {
    let mut found = Vec::new();
    for (family, name) in [(AF_INET, "IPv4"), (AF_INET6, "IPv6")] {
        dump(family, &mut found).with_context(|| {
            format!("cannot ask the kernel for the {name} sockets that listen (sock_diag)")
        })?;
    }
    Ok(found)
}

fn dump(family: u8, found: &mut Vec<Listening>) -> Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family), 0)?;
    let mut reply = Vec::with_capacity(REPLY);
    loop {
        reply.clear();
        socket.recv(&mut reply, 0)?;
        if read(&reply, found)? {
            return Ok(());
        }
    }
}

fn request(family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    octets
}

/// Takes the sockets out of one reply; true after the last.
fn read(reply: &[u8], found: &mut Vec<Listening>) -> Result<bool> {
    let mut rest = reply;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .context("the reply is not what it should be")?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                found.push(socket(&response));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::Overrun(_) => {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
            }
            NetlinkPayload::Noop => {}
            NetlinkPayload::InnerMessage(_) | _ => {
                bail!("the kernel sent something else than a socket")
            }
        }
        // Messages begin at multiples of four (`NLMSG_ALIGN`).
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or_default();
    }
    Ok(false)
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
    fn a_reply_that_is_cut_off_is_an_error() {
        let mut found = Vec::new();
        let request = request(AF_INET);
        assert!(read(&request[..request.len() - 1], &mut found).is_err());
        assert!(found.is_empty());
    }
}
