//! Sockets that do what a script tells them.
//!
//! They are made inside a namespace and stay there; every wait is bounded.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Namespace;

/// Longest wait for a connection, an acceptance or data between namespaces of
/// one machine. Covers a SYN that is lost twice, and a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A socket bound to `local`, even if an earlier connection from there is in
/// TIME-WAIT.
///
/// # Errors
///
/// The address is not the namespace's or the port is taken.
pub fn bind(netns: &Namespace, local: SocketAddr) -> Result<Socket> {
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(local),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    netns
        .run_in(make)?
        .with_context(|| format!("binding to {local} in {}", netns.name()))
}

/// A listening socket.
///
/// # Errors
///
/// As [`bind`].
pub fn listen(netns: &Namespace, local: SocketAddr) -> Result<Socket> {
    let socket = bind(netns, local)?;
    socket
        .listen(128)
        .with_context(|| format!("listening on {local}"))?;
    Ok(socket)
}

/// Connects from `local` to `peer` and waits until the connection stands.
///
/// # Errors
///
/// As [`bind`]; refused or unanswered.
pub fn connect(netns: &Namespace, local: SocketAddr, peer: SocketAddr) -> Result<Socket> {
    let socket = bind(netns, local)?;
    socket
        .connect_timeout(&SockAddr::from(peer), PATIENCE)
        .with_context(|| format!("connecting {local} to {peer}"))?;
    Ok(socket)
}

/// Sends the SYN from `local` to `peer` and does not wait for an answer.
///
/// # Errors
///
/// As [`bind`].
pub fn begin_connect(netns: &Namespace, local: SocketAddr, peer: SocketAddr) -> Result<Socket> {
    let socket = bind(netns, local)?;
    socket
        .set_nonblocking(true)
        .context("making a socket non-blocking")?;
    match socket.connect(&SockAddr::from(peer)) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error).with_context(|| format!("connecting {local} to {peer}")),
    }
}

/// Takes the next connection from a listening socket.
///
/// # Errors
///
/// None came in [`PATIENCE`].
pub fn accept(listener: &Socket) -> Result<Socket> {
    let (socket, _) = listener.accept().context("accepting a connection")?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .context("setting a time-out")?;
    socket
        .set_write_timeout(Some(PATIENCE))
        .context("setting a time-out")?;
    Ok(socket)
}

/// Ends a connection with an RST instead of a FIN.
///
/// # Errors
///
/// The socket refuses the option.
pub fn reset(socket: Socket) -> Result<()> {
    // A linger time of zero makes close(2) discard what is queued and send RST.
    socket
        .set_linger(Some(Duration::ZERO))
        .context("setting SO_LINGER to 0")?;
    drop(socket);
    Ok(())
}
