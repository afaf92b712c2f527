//! A raw socket on an interface that passes what the kernel knows of a frame.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{frames::link_address, netns::Namespace};

/// Octets of `struct virtio_net_hdr`, which comes before every frame.
pub const VNET: usize = 10;

/// Room for frames before the thread gets its turn, in octets.
const BUFFER: usize = 16 << 20;

/// An end of a wire.
pub struct End(Socket);

impl End {
    /// Opens a raw socket on an interface of a namespace.
    ///
    /// # Errors
    ///
    /// There is no such interface; not root.
    pub fn open(netns: &Namespace, interface: &str) -> Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).context("EtherType")?.to_be();
        let make = || -> io::Result<Socket> {
            let index = nix::net::if_::if_nametoindex(interface)?;
            // No protocol until it is bound, so that nothing comes in from
            // other interfaces.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            socket.set_nonblocking(true)?;
            option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
            option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
            let size = libc::c_int::try_from(BUFFER).unwrap_or(libc::c_int::MAX);
            option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size)?;
            option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)?;
            socket.bind(&link_address(all, index))?;
            Ok(socket)
        };
        let socket = netns
            .run_in(make)?
            .with_context(|| format!("opening a raw socket on {interface} of {}", netns.name()))?;
        Ok(Self(socket))
    }

    /// The next frame behind its [`VNET`] octets; how long both are together.
    ///
    /// # Errors
    ///
    /// Other than that there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match io::Read::read(&mut &self.0, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("receiving a frame"),
        }
    }

    /// Sends a frame behind its [`VNET`] octets; whether there was room.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<bool> {
        match self.0.send(frame) {
            Ok(_) => Ok(true),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    || error.raw_os_error() == Some(libc::ENOBUFS) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("sending {} octets", frame.len())),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn option(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the value an int that lives for the
    // call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
