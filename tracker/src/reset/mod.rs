//! RSTs that end a connection at both of its ends: each gets one that looks like its
//! peer's, with the number that it expects.
//!
//! They are whole IP datagrams from a raw socket, and the kernel routes them by their
//! destination: to the other machine over its interface, to a socket of this machine
//! over the loopback. They pass the tracker's own hooks, which judge them as they
//! judge any RST, so they are sent while the flow is still there.

mod segment;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracker_common::abi::Flow;

pub use self::segment::{Rst, resets};

/// Sends RSTs in the name of others.
pub struct Resetter {
    v4: Socket,
    v6: Socket,
}

impl Resetter {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// This process may not (`CAP_NET_RAW`).
    pub fn open() -> Result<Self> {
        let open = |domain| {
            Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
                .context("cannot open a raw socket to send RSTs from, which needs CAP_NET_RAW")
        };
        Ok(Self {
            v4: open(Domain::IPV4)?,
            v6: open(Domain::IPV6)?,
        })
    }

    /// Sends what ends `flow` between `ends`, initiator and responder. Gives how many
    /// RSTs were sent: none where the numbers of the connection were never seen.
    ///
    /// # Errors
    ///
    /// There is no way to an end; the other one has got its RST all the same.
    pub fn reset(&self, ends: [SocketAddr; 2], flow: &Flow) -> Result<usize> {
        let mut sent = 0;
        let mut failed = None;
        for rst in resets(ends, flow) {
            match self.send(&rst) {
                Ok(()) => sent += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(sent), Err)
    }

    fn send(&self, rst: &Rst) -> Result<()> {
        let datagram = rst
            .datagram()
            .context("the ends of a connection are of two families")?;
        // A raw socket takes the destination's port for a protocol.
        let to = SockAddr::from(SocketAddr::new(rst.to.ip(), 0));
        let socket = if rst.to.is_ipv4() { &self.v4 } else { &self.v6 };
        socket
            .send_to(&datagram, &to)
            .with_context(|| format!("cannot send an RST to {}", rst.to))?;
        Ok(())
    }
}
