//! One end of one connection.

use std::{
    io::{self, ErrorKind},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{SockRef, TcpKeepalive};
use tokio::{io::Interest, net::TcpStream, sync::Barrier, time::sleep};

use crate::plan::{Ending, Plan, Who};

/// How often a silent connection is probed, in seconds.
const PROBES: Duration = Duration::from_secs(1);

/// How long a connection that idles does: two probes from each end.
const IDLE: Duration = Duration::from_millis(2500);

/// Sends, reads and ends as planned. What stays open is returned.
///
/// # Errors
///
/// Anything that does not happen between two honest stacks: data that is
/// missing or different, a reset that nobody planned, or none that was.
pub async fn talk(
    stream: TcpStream,
    who: Who,
    plan: &Plan,
    meeting: &Barrier,
) -> Result<Option<TcpStream>> {
    prepare(&stream, plan)?;
    match plan.ending {
        Ending::First(first) => {
            exchange(&stream, who, plan).await?;
            if first != who {
                end_of_data(&stream).await?;
            }
            Ok(None)
        }
        Ending::Both => {
            exchange(&stream, who, plan).await?;
            meeting.wait().await;
            Ok(None)
        }
        Ending::Half(first) if first == who => {
            send(&stream, who, plan, all(plan, who)).await?;
            shut_down(&stream)?;
            receive(&stream, who, plan, all(plan, who.other())).await?;
            end_of_data(&stream).await?;
            Ok(None)
        }
        Ending::Half(_) => {
            receive(&stream, who, plan, all(plan, who.other())).await?;
            end_of_data(&stream).await?;
            send(&stream, who, plan, all(plan, who)).await?;
            Ok(None)
        }
        Ending::Abort(first) if first == who => {
            // The other one may be waiting for its window to open.
            tokio::try_join!(
                send(&stream, who, plan, all(plan, who) / 2),
                receive(&stream, who, plan, all(plan, who.other()) / 2),
            )?;
            stream.set_zero_linger().context("setting SO_LINGER to 0")?;
            Ok(None)
        }
        Ending::Unread(first) if first == who => {
            let mut one = [0];
            stream.peek(&mut one).await.context("peeking")?;
            Ok(None)
        }
        Ending::Abort(_) | Ending::Unread(_) => {
            let ended = async {
                exchange(&stream, who, plan).await?;
                end_of_data(&stream).await
            }
            .await;
            match ended {
                Ok(()) => bail!("it ended in an orderly way, and should have been reset"),
                Err(error) if is_reset(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }
        Ending::Open => {
            exchange(&stream, who, plan).await?;
            Ok(Some(stream))
        }
        Ending::HalfOpen(first) => {
            exchange(&stream, who, plan).await?;
            if first == who {
                shut_down(&stream)?;
            } else {
                end_of_data(&stream).await?;
            }
            Ok(Some(stream))
        }
    }
}

fn prepare(stream: &TcpStream, plan: &Plan) -> Result<()> {
    let socket = SockRef::from(stream);
    socket
        .set_out_of_band_inline(true)
        .context("taking urgent data into the stream")?;
    // Who waits for a reset that was lost finds out by probing.
    if plan.idles || matches!(plan.ending, Ending::Abort(_) | Ending::Unread(_)) {
        let probing = TcpKeepalive::new().with_time(PROBES).with_interval(PROBES);
        socket
            .set_tcp_keepalive(&probing)
            .context("setting keep-alive")?;
    }
    Ok(())
}

const fn all(plan: &Plan, who: Who) -> u32 {
    plan.of(who).sends
}

/// Both ways at once, all of it.
async fn exchange(stream: &TcpStream, who: Who, plan: &Plan) -> Result<()> {
    tokio::try_join!(
        send(stream, who, plan, all(plan, who)),
        receive(stream, who, plan, all(plan, who.other())),
    )?;
    if plan.idles {
        sleep(IDLE).await;
    }
    Ok(())
}

/// The octet at an offset of what an end sends.
fn octet(offset: u32, who: Who, plan: &Plan) -> u8 {
    let salt = u32::from(plan.client.port()) + u32::from(who == Who::Server) * 101;
    // Any function that tells neighbours, ends and connections apart.
    (offset.wrapping_mul(31) ^ (offset >> 8) ^ salt).to_le_bytes()[0]
}

async fn send(stream: &TcpStream, who: Who, plan: &Plan, total: u32) -> Result<()> {
    let habits = plan.of(who);
    let mut piece = Vec::new();
    let mut sent = 0;
    let mut urgent = habits.urgent.then_some(total / 2);
    while sent < total {
        let next = urgent.filter(|&at| at > sent).unwrap_or(total);
        let (end, flags) = match urgent {
            Some(at) if at == sent => (sent + 1, libc::MSG_OOB),
            _ => (next.min(sent + habits.piece), 0),
        };
        piece.clear();
        piece.extend((sent..end).map(|offset| octet(offset, who, plan)));
        match stream
            .async_io(Interest::WRITABLE, || write(stream, &piece, flags))
            .await
        {
            Ok(count) => sent += u32::try_from(count).context("octets")?,
            // The SYN that carries data is on its way.
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("sending at {sent} of {total}"));
            }
        }
        if flags != 0 {
            urgent = None;
        }
    }
    Ok(())
}

fn write(stream: &TcpStream, octets: &[u8], flags: libc::c_int) -> io::Result<usize> {
    let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the descriptor is open and the slice lives for the call.
    let count = unsafe {
        libc::send(
            stream.as_raw_fd(),
            octets.as_ptr().cast(),
            octets.len(),
            flags,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

async fn receive(stream: &TcpStream, who: Who, plan: &Plan, total: u32) -> Result<()> {
    sleep(plan.of(who).pause).await;
    let mut buffer = vec![0; 1 << 14];
    let mut received = 0;
    while received < total {
        let room = usize::try_from(total - received)?.min(buffer.len());
        stream.readable().await.context("waiting for data")?;
        match stream.try_read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => bail!("the data end at {received} of {total}"),
            Ok(count) => {
                for found in buffer.iter().take(count) {
                    ensure!(
                        *found == octet(received, who.other(), plan),
                        "wrong octet at {received} of {total}"
                    );
                    received += 1;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                return Err(error).with_context(|| format!("receiving at {received} of {total}"));
            }
        }
    }
    Ok(())
}

/// Waits for the other's FIN.
async fn end_of_data(stream: &TcpStream) -> Result<()> {
    let mut one = [0];
    loop {
        stream.readable().await.context("waiting for the end")?;
        match stream.try_read(&mut one) {
            Ok(0) => return Ok(()),
            Ok(_) => bail!("more data than were sent"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for the end"),
        }
    }
}

fn shut_down(stream: &TcpStream) -> Result<()> {
    SockRef::from(stream)
        .shutdown(std::net::Shutdown::Write)
        .context("shutting down")
}

fn is_reset(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            // Refused: a reset overtook the answer to a SYN with data.
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionRefused
        )
    })
}
