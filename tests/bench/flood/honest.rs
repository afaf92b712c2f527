//! Clients and servers that do what they should.

use std::{
    io::{ErrorKind, Read, Write},
    mem::{MaybeUninit, size_of},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

/// Where short exchanges are served, and what the flood is for.
pub const PORT: u16 = 80;
/// Where the bulk transfer goes.
pub const BULK_PORT: u16 = 81;
/// Backlog of both listeners.
pub const BACKLOG: i32 = 4096;

/// Octets a second at which the bulk transfer is paced, so that it does not
/// fill the queue of a veth pair by itself.
pub const BULK_PACE: u64 = 25_000_000;

/// Octets of a request and of its response.
const EXCHANGE: usize = 64;
/// A connection that takes longer has lost its SYN or SYN-ACK: the first
/// retransmission is after one second.
const LATE: Duration = Duration::from_millis(900);
/// A client gives up.
const PATIENCE: Duration = Duration::from_millis(1100);
/// How often a waiting server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What a client that opened one connection after another met.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exchanges {
    /// Connections that were tried to the end.
    pub tried: u64,
    /// Of these, connected at the first SYN and served.
    pub good: u64,
    /// Connected, but a SYN had to be sent again.
    pub resent: u64,
    /// Not connected or not served.
    pub failed: u64,
    /// Of the first failure.
    pub first_failure: Option<String>,
    /// Median time from the first SYN to the response, of those served; us.
    pub p50_us: Option<f64>,
    /// The time that 99 of 100 of those served took at most; us.
    pub p99_us: Option<f64>,
}

impl Exchanges {
    /// Share of connections that went well, 0 to 1.
    pub fn success(&self) -> f64 {
        self.good as f64 / self.tried.max(1) as f64
    }
}

/// What the bulk transfer came to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Bulk {
    /// Octets that arrived.
    pub octets: u64,
    /// Seconds that it had.
    pub seconds: f64,
    /// Segments that the sender sent again.
    pub retransmitted: u32,
}

/// A listener in the namespace of the calling thread.
///
/// # Errors
///
/// The address is taken.
pub fn listen(at: SocketAddr) -> Result<Socket> {
    let listen = || -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(socket)
    };
    listen().with_context(|| format!("listening at {at}"))
}

/// Serves exchanges until `end`.
///
/// # Errors
///
/// The listener fails. A client that fails is its own affair.
pub fn serve(listener: &Socket, end: &AtomicBool) -> Result<()> {
    while let Some(mut stream) = accept(listener, end)? {
        let mut request = [0; EXCHANGE];
        let served = stream
            .read_exact(&mut request)
            .and_then(|()| stream.write_all(&request))
            .and_then(|()| stream.read(&mut request));
        // Nothing to be done about a client that left early.
        drop(served);
    }
    Ok(())
}

/// Takes one bulk transfer, adding to `octets` as they come.
///
/// # Errors
///
/// The listener or the transfer fails.
pub fn take_bulk(listener: &Socket, octets: &AtomicU64, end: &AtomicBool) -> Result<()> {
    let Some(mut stream) = accept(listener, end)? else {
        return Ok(());
    };
    stream.set_read_timeout(Some(LOOK))?;
    let mut room = vec![0; 1 << 18];
    while !end.load(Relaxed) {
        match stream.read(&mut room) {
            Ok(0) => break,
            Ok(read) => {
                octets.fetch_add(read as u64, Relaxed);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("receiving the bulk transfer"),
        }
    }
    Ok(())
}

fn accept(listener: &Socket, end: &AtomicBool) -> Result<Option<TcpStream>> {
    while !end.load(Relaxed) {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_tcp_nodelay(true)?;
                return Ok(Some(socket.into()));
            }
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error).context("accepting"),
        }
    }
    Ok(None)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Opens one connection after another, the last before `end`.
pub fn exchange(to: SocketAddr, end: Instant) -> Exchanges {
    let mut exchanges = Exchanges::default();
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        let outcome = one_exchange(to);
        let took = start.elapsed();
        match outcome {
            Ok(resent) => {
                times.push(took);
                if resent || took > LATE {
                    exchanges.resent += 1;
                } else {
                    exchanges.good += 1;
                }
            }
            Err(error) => {
                exchanges.failed += 1;
                exchanges
                    .first_failure
                    .get_or_insert_with(|| format!("{error:#}"));
            }
        }
        exchanges.tried += 1;
    }
    times.sort_unstable();
    exchanges.p50_us = percentile(&times, 50);
    exchanges.p99_us = percentile(&times, 99);
    exchanges
}

/// The time that so many of a hundred took at most, of times in order; us.
fn percentile(times: &[Duration], hundredths: usize) -> Option<f64> {
    let last = times.len().checked_sub(1)?;
    let index = (hundredths * last).div_ceil(100);
    Some(times.get(index)?.as_secs_f64() * 1e6)
}

/// Connects, asks, is answered. Says whether a SYN had to be sent again.
///
/// # Errors
///
/// Not connected, or not answered.
pub fn one_exchange(to: SocketAddr) -> Result<bool> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .context("connecting")?;
    let resent = retransmitted(&socket)? > 0;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = TcpStream::from(socket);
    let mut text = [b'?'; EXCHANGE];
    stream.write_all(&text).context("asking")?;
    stream
        .read_exact(&mut text)
        .context("waiting for the answer")?;
    Ok(resent)
}

/// A connection that carries as much as its pace allows.
pub struct BulkSender(Socket);

impl BulkSender {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub fn connect(to: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        pace(&socket, BULK_PACE)?;
        socket
            .connect_timeout(&to.into(), PATIENCE)
            .context("connecting for the bulk transfer")?;
        socket.set_write_timeout(Some(LOOK))?;
        Ok(Self(socket))
    }

    /// Sends until `end`.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn send(&self, end: &AtomicBool) -> Result<()> {
        let block = vec![0; 1 << 16];
        while !end.load(Relaxed) {
            match self.0.send(&block) {
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error).context("sending the bulk transfer"),
            }
        }
        Ok(())
    }

    /// Segments sent again since it was connected.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn retransmitted(&self) -> Result<u32> {
        retransmitted(&self.0)
    }
}

/// `tcpi_total_retrans`: segments sent again, SYNs among them.
fn retransmitted(socket: &Socket) -> Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        bail!("asking for TCP_INFO: {}", std::io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, and any octets are valid integers.
    Ok(unsafe { info.assume_init() }.tcpi_total_retrans)
}

/// `SO_MAX_PACING_RATE`, octets a second.
fn pace(socket: &Socket, rate: u64) -> Result<()> {
    // SAFETY: the value is as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const rate).cast(),
            size_of::<u64>() as libc::socklen_t,
        )
    };
    if result != 0 {
        bail!("pacing: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let times: Vec<_> = (1..=101).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Some(51.0));
        assert_eq!(percentile(&times, 99), Some(100.0));
        assert_eq!(percentile(&times[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
