//! All connections of a wave, on a thread in each end's namespace.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    net::TcpStream as Plain,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    sync::{Barrier, watch},
    time::sleep,
};
use tracker_tests::topology::{Family, Topology};

use crate::{
    plan::{Beginning, FAST_PORT, PORT, Plan, SMALL, SMALL_PORT, Who},
    talk::talk,
};

/// How long a wave may take, from the start of its first connection.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long a port rests before it is used again: longer than a late copy of
/// an old segment is on its way, and than the second that the kernel wants.
const REST: Duration = Duration::from_millis(2500);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// One connection with what its two ends share.
struct Play {
    plan: Plan,
    meeting: Barrier,
}

/// What came of a wave.
#[derive(Default)]
pub struct Outcome {
    /// Connections that did something else than planned, or did not end.
    pub failures: Vec<String>,
    /// Sockets that stay open.
    pub open: Vec<Plain>,
    /// Connections that both opened at once and that a busy machine did not
    /// open at once: one end refused the other.
    pub missed: usize,
}

/// The end of one conversation at one end.
struct Report {
    client: SocketAddr,
    who: Who,
    result: Result<Ended>,
}

enum Ended {
    Closed,
    Open(Plain),
    Missed,
}

type Cast = Arc<HashMap<SocketAddr, Arc<Play>>>;

/// Runs the connections to their ends.
///
/// # Errors
///
/// The namespaces cannot be entered or the server cannot listen.
pub fn drive(topology: &Topology, plans: &[Plan]) -> Result<Outcome> {
    let cast: Cast = Arc::new(
        plans
            .iter()
            .map(|&plan| {
                let meeting = Barrier::new(2);
                (plan.client, Arc::new(Play { plan, meeting }))
            })
            .collect(),
    );
    let (stop, stopped) = watch::channel(false);
    let (reports, inbox) = mpsc::channel();
    let (ready, listening) = mpsc::channel();
    thread::scope(|scope| {
        let servers = scope.spawn({
            let (cast, mut stopped) = (Arc::clone(&cast), stopped.clone());
            let reports = reports.clone();
            move || -> Result<()> {
                topology.server.netns.run_in(|| {
                    runtime()?.block_on(async {
                        serve(topology, &cast, &reports)?;
                        // Nobody waits for it any more if it comes too late.
                        let _ = ready.send(());
                        stopped
                            .wait_for(|&stop| stop)
                            .await
                            .context("being told to stop")?;
                        Ok(())
                    })
                })?
            }
        });
        // An error of the server's closes the channel.
        if listening.recv().is_err() {
            return match servers.join() {
                Ok(Err(error)) => Err(error),
                _ => bail!("the servers' thread ended"),
            };
        }
        let clients = scope.spawn({
            let (cast, mut stopped) = (Arc::clone(&cast), stopped);
            move || -> Result<()> {
                topology.client.netns.run_in(|| {
                    runtime()?.block_on(async {
                        for play in cast.values() {
                            tokio::spawn(client(Arc::clone(play), reports.clone()));
                        }
                        stopped
                            .wait_for(|&stop| stop)
                            .await
                            .context("being told to stop")?;
                        Ok(())
                    })
                })?
            }
        });
        let outcome = collect(&cast, &inbox);
        stop.send_replace(true);
        for (what, ended) in [("servers", servers.join()), ("clients", clients.join())] {
            ended
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .with_context(|| format!("the {what}' thread"))?;
        }
        Ok(outcome)
    })
}

fn runtime() -> Result<runtime::Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
}

/// Gathers the reports of both ends until there is one for every conversation.
fn collect(cast: &Cast, inbox: &Receiver<Report>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut missing: HashMap<(SocketAddr, bool), usize> = HashMap::new();
    for play in cast.values() {
        let plan = &play.plan;
        missing.insert((plan.client, true), plan.conversations().max(1));
        missing.insert((plan.client, false), plan.conversations());
    }
    missing.retain(|_, count| *count > 0);
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        let report = match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        };
        let key = (report.client, report.who == Who::Client);
        // A SYN with data that comes twice may make two connections of one (RFC
        // 7413 section 2.1): nobody waits for the second.
        let Some(count) = missing.get_mut(&key) else {
            continue;
        };
        *count -= 1;
        if *count == 0 {
            missing.remove(&key);
        }
        match report.result {
            Ok(Ended::Closed) => {}
            Ok(Ended::Open(socket)) => outcome.open.push(socket),
            Ok(Ended::Missed) => outcome.missed += 1,
            Err(error) => {
                // What follows from it is no failure of its own.
                missing.remove(&(report.client, true));
                missing.remove(&(report.client, false));
                outcome.failures.push(failure(
                    cast,
                    report.client,
                    report.who,
                    &format!("{error:#}"),
                ));
            }
        }
    }
    for (client, is_client) in missing.into_keys() {
        let who = if is_client { Who::Client } else { Who::Server };
        let text = format!("not over after {PATIENCE:?}");
        outcome.failures.push(failure(cast, client, who, &text));
    }
    outcome
}

fn failure(cast: &Cast, client: SocketAddr, who: Who, text: &str) -> String {
    match cast.get(&client) {
        Some(play) => format!("{who:?}: {text}: {:?}", play.plan),
        None => format!("{who:?}: {text}: from {client}, whom nobody planned"),
    }
}

/// Listens, and accepts in the background.
fn serve(topology: &Topology, cast: &Cast, reports: &Sender<Report>) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        for port in [PORT, SMALL_PORT, FAST_PORT] {
            let listener = listen(topology.server.at(family, port))?;
            let (cast, reports) = (Arc::clone(cast), reports.clone());
            tokio::spawn(async move {
                while let Ok((stream, client)) = listener.accept().await {
                    let Some(play) = cast.get(&client) else {
                        // Of an earlier wave: its plan is gone.
                        continue;
                    };
                    let (play, reports) = (Arc::clone(play), reports.clone());
                    tokio::spawn(async move {
                        report(
                            &play,
                            Who::Server,
                            &reports,
                            conversation(stream, Who::Server, &play),
                        )
                        .await;
                    });
                }
            });
        }
    }
    for play in cast.values() {
        if play.plan.beginning == Beginning::Crossing {
            let (play, reports) = (Arc::clone(play), reports.clone());
            tokio::spawn(async move {
                sleep(play.plan.start).await;
                report(&play, Who::Server, &reports, cross(&play, Who::Server)).await;
            });
        }
    }
    Ok(())
}

fn listen(at: SocketAddr) -> Result<TcpListener> {
    let make = || -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if at.port() == SMALL_PORT {
            socket.set_recv_buffer_size(usize::try_from(SMALL).unwrap_or(usize::MAX))?;
        }
        if at.port() == FAST_PORT {
            tcp_option(&socket, libc::TCP_FASTOPEN, 1000)?;
        }
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    make()
        .and_then(|socket| TcpListener::from_std(socket.into()))
        .with_context(|| format!("listening on {at}"))
}

async fn client(play: Arc<Play>, reports: Sender<Report>) {
    let plan = &play.plan;
    sleep(plan.start).await;
    match plan.beginning {
        Beginning::Crossing => {
            report(&play, Who::Client, &reports, cross(&play, Who::Client)).await;
        }
        Beginning::Refused => {
            report(&play, Who::Client, &reports, async {
                match connect(plan, Who::Client).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Ended::Closed),
                    Err(error) => Err(error).context("connecting to a closed port"),
                    Ok(_) => bail!("connected to a closed port"),
                }
            })
            .await;
        }
        Beginning::Plain | Beginning::Fast => {
            for turn in 0..plan.conversations() {
                if turn > 0 {
                    sleep(REST).await;
                }
                report(&play, Who::Client, &reports, async {
                    let stream = connect_again(plan).await.context("connecting")?;
                    conversation(stream, Who::Client, &play).await
                })
                .await;
            }
        }
    }
}

async fn report(
    play: &Play,
    who: Who,
    reports: &Sender<Report>,
    work: impl Future<Output = Result<Ended>>,
) {
    let report = Report {
        client: play.plan.client,
        who,
        result: work.await,
    };
    // Nobody listens when the wave has been given up.
    let _ = reports.send(report);
}

/// Both ends connect at once.
async fn cross(play: &Play, who: Who) -> Result<Ended> {
    play.meeting.wait().await;
    match connect(&play.plan, who).await {
        Ok(stream) => conversation(stream, who, play).await,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Ended::Missed),
        Err(error) => Err(error).context("connecting to one who connects"),
    }
}

async fn conversation(stream: TcpStream, who: Who, play: &Play) -> Result<Ended> {
    match talk(stream, who, &play.plan, &play.meeting).await? {
        None => Ok(Ended::Closed),
        Some(stream) => Ok(Ended::Open(stream.into_std().context("keeping a socket")?)),
    }
}

/// Connects, and tries again while the port is still held by what was before:
/// by a FIN that was lost, or by a TIME-WAIT that began late.
async fn connect_again(plan: &Plan) -> std::io::Result<TcpStream> {
    const TRIES: u32 = 30;
    for _ in 1..TRIES {
        match connect(plan, Who::Client).await {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
                ) =>
            {
                sleep(REST).await;
            }
            result => return result,
        }
    }
    connect(plan, Who::Client).await
}

async fn connect(plan: &Plan, who: Who) -> std::io::Result<TcpStream> {
    let (local, peer) = match who {
        Who::Client => (plan.client, plan.server),
        Who::Server => (plan.server, plan.client),
    };
    let socket = if local.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    if plan.of(who).small {
        socket.set_recv_buffer_size(SMALL)?;
    }
    if plan.beginning == Beginning::Fast {
        tcp_option(&socket, libc::TCP_FASTOPEN_CONNECT, 1)?;
    }
    socket.bind(local)?;
    socket.connect(peer).await
}

fn tcp_option(
    socket: &impl std::os::fd::AsRawFd,
    name: libc::c_int,
    value: libc::c_int,
) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, and the value an int that lives for the
    // call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
