//! Policies that are replaced all the time, under load.
//!
//! Honest clients talk over connections that last and over new ones to an allowed
//! port, SYNs from nowhere go to a forbidden one, and the agent puts one policy of a
//! hundred rules after the other in force. No packet of the first is refused, and none
//! of the second gets through.
//!
//! `TRACKER_JUDGE=full` does it for five minutes.

use std::{
    io::{Read, Write},
    mem::{size_of, zeroed},
    net::Shutdown,
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use socket2::Socket;
use tokio::runtime::Builder;
use tracker::{
    cli::FlowsChoice,
    control::{
        client::Agent,
        message::{Apply, Reply, Request},
        place::Place,
        stored::StoredPolicy,
    },
    policy::{self, Context},
};
use tracker_tests::{
    sockets,
    spoof::{Segment, Spoofer},
    topology::{Family, Placement, Topology},
};

use crate::{
    actions::{Ear, Enforcer},
    policy::Policy,
    walls::port,
};

/// Set to `full` for a long run.
const EFFORT: &str = "TRACKER_JUDGE";

/// Rules of a policy.
const RULES: usize = 100;
/// Time between two policies: a thousand a minute.
const PACE: Duration = Duration::from_millis(60);
/// How long it goes on, by default and in full.
const TIMES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(300)];

/// Connections that last.
const LASTING: u16 = 4;
/// Where they, new ones and SYNs from nowhere go.
const FORBIDDEN: u16 = port::OTHER;

/// A policy of [`RULES`] rules; that for the allowed port is at `place`, and the others
/// are about ports that nobody uses, other ones each time.
fn text(place: usize) -> String {
    let mut text = "default = \"drop\"\n".to_owned();
    for index in 0..RULES {
        text += &if index == place {
            format!(
                "[[rules]]\nname = \"web\"\nports = [{}]\naction = \"allow\"\n",
                port::WEB
            )
        } else {
            format!(
                "[[rules]]\nname = \"rule {index} of {place}\"\nports = [{}]\n\
                 from = [\"198.18.{index}.0/24\", \"2001:db8:{index}::/48\"]\naction = \"allow\"\n",
                10_000 + 200 * place + index
            )
        };
    }
    text
}

/// What the clients have done.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    exchanges: AtomicU64,
    connections: AtomicU64,
}

impl Done {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Asks and is answered.
fn exchange(mut client: &Socket, done: &Done) -> Result<()> {
    let mut answer = [0; 64];
    client.write_all(&[1; 64]).context("asking")?;
    client.read_exact(&mut answer).context("being answered")?;
    done.exchanges.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Answers until the other side has closed.
fn answer(mut server: Socket) {
    let mut question = [0; 64];
    while server.read_exact(&mut question).is_ok() && server.write_all(&question).is_ok() {}
}

/// Segments that a connection has sent again.
fn sent_again(socket: &Socket) -> Result<u64> {
    // SAFETY: all zeros is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` octets.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(done == 0, "{}", std::io::Error::last_os_error());
    Ok(info.tcpi_total_retrans.into())
}

/// Puts policies in force one after the other. Gives how many, and the longest time that
/// one has taken.
fn replace(pin_dir: &Path, time: Duration) -> Result<(u32, Duration)> {
    let place = Place::at(
        pin_dir
            .join("run")
            .read_link()
            .context("the run directory")?,
    );
    let policies: Vec<_> = (0..4)
        .map(|number| {
            let file = Policy::new(&text(number * 25));
            let read = policy::read(file.path(), &Context::default());
            let policy = read.policy.with_context(|| format!("{}", read.report));
            policy.map(|policy| StoredPolicy::of(&policy))
        })
        .collect::<Result<_>>()?;
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let begun = Instant::now();
            let (mut count, mut longest) = (0_u32, Duration::ZERO);
            while begun.elapsed() < time {
                let due = begun + PACE * count;
                tokio::time::sleep_until(due.into()).await;
                let asked = Instant::now();
                let request = Request::Apply(Box::new(Apply {
                    policy: policies[count as usize % policies.len()].clone(),
                    flows: if count.is_multiple_of(2) {
                        FlowsChoice::Keep
                    } else {
                        FlowsChoice::Recheck
                    },
                    confirm_s: None,
                    force: false,
                }));
                let reply = Agent::connect(&place).await?.ask(&request).await?;
                ensure!(
                    matches!(reply, Reply::Applied(_)),
                    "the agent answers {reply:?}"
                );
                longest = longest.max(asked.elapsed());
                count += 1;
            }
            Ok((count, longest))
        })
}

#[test]
fn policies_are_replaced_without_a_packet_lost_or_let_in() {
    let full = std::env::var(EFFORT).is_ok_and(|effort| effort == "full");
    let time = TIMES[usize::from(full)];
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(&topology, &text(0));
    let (client, server) = (&topology.client.netns, &topology.server.netns);
    let at = topology.server.at(Family::V4, port::WEB);
    let listener = sockets::listen(server, at).unwrap();
    listener.set_nonblocking(true).unwrap();
    let ear = Ear::new(server, Family::V4);
    let spoofer = Spoofer::new(&topology).unwrap();
    let done = Done::default();
    let spoofed = AtomicU64::new(0);
    // All clients.
    let gone = AtomicBool::new(false);

    let ((count, longest), lasting) = thread::scope(|scope| {
        // Whoever is accepted is answered.
        scope.spawn(|| {
            while !gone.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((socket, _)) => {
                        socket.set_nonblocking(false).unwrap();
                        socket.set_read_timeout(Some(sockets::PATIENCE)).unwrap();
                        scope.spawn(move || answer(socket));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let lasting: Vec<_> = (0..LASTING)
            .map(|number| {
                let from = topology.client.at(Family::V4, 30_000 + number);
                let socket = sockets::connect(client, from, at).unwrap();
                scope.spawn(|| {
                    let socket = socket;
                    while done.goes_on() {
                        exchange(&socket, &done).unwrap();
                        thread::sleep(Duration::from_millis(2));
                    }
                    socket
                })
            })
            .collect();
        let fresh = scope.spawn(|| {
            for port in (31_000..60_000).cycle() {
                if !done.goes_on() {
                    break;
                }
                let from = topology.client.at(Family::V4, port);
                let socket = sockets::connect(client, from, at).unwrap();
                exchange(&socket, &done).unwrap();
                sockets::reset(socket).unwrap();
                done.connections.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let flood = scope.spawn(|| {
            let mut port = 1000;
            while done.goes_on() {
                let syn = Segment {
                    from: ([192, 0, 2, 77], port).into(),
                    to: topology.server.at(Family::V4, FORBIDDEN),
                    seq: 1000,
                    ack: None,
                    syn: true,
                    rst: false,
                    payload: b"",
                    damaged: false,
                };
                spoofer.send(&syn).unwrap();
                spoofed.fetch_add(1, Ordering::Relaxed);
                port = if port == u16::MAX { 1000 } else { port + 1 };
                thread::sleep(Duration::from_millis(1));
            }
        });
        let replaced = replace(enforcer.tracker.pin_dir(), time);
        done.stop.store(true, Ordering::Relaxed);
        let lasting: Vec<_> = lasting.into_iter().map(|thread| thread.join()).collect();
        let others = [fresh.join(), flood.join()];
        gone.store(true, Ordering::Relaxed);
        for other in others {
            other.unwrap();
        }
        let lasting: Vec<Socket> = lasting.into_iter().map(Result::unwrap).collect();
        for socket in &lasting {
            socket.shutdown(Shutdown::Write).unwrap();
        }
        (replaced.unwrap(), lasting)
    });

    let again: u64 = lasting
        .iter()
        .map(|socket| sent_again(socket).unwrap())
        .sum();
    let [exchanges, connections] =
        [&done.exchanges, &done.connections].map(|count| count.load(Ordering::Relaxed));
    let numbers = json!({
        "policies": count,
        "slowest_ms": longest.as_millis(),
        "exchanges": exchanges,
        "connections": connections,
        "refused": spoofed.load(Ordering::Relaxed),
        "sent_again": again,
    });
    println!("judge: {numbers}");
    println!(
        "{count} policies in {time:?}, at most {longest:?} each; {exchanges} exchanges, \
         {connections} connections, {} SYNs refused; {again} segments sent again",
        spoofed.load(Ordering::Relaxed)
    );
    let stats = enforcer.tracker.stats().unwrap();
    let refused: Vec<(String, u64)> = stats
        .reasons
        .iter()
        .filter(|counted| counted.class == "refuse")
        .map(|counted| {
            (
                counted.reason.clone(),
                counted.ingress.packets + counted.egress.packets,
            )
        })
        .filter(|&(_, packets)| packets != 0)
        .collect();
    let expected = spoofed.load(Ordering::Relaxed);
    assert_eq!(refused, [("policy_dropped".to_owned(), expected)]);
    assert_eq!(ear.heard(FORBIDDEN), 0);
    assert!(
        exchanges > 100 && connections > 10,
        "{exchanges}, {connections}"
    );
    // Nothing is lost, but a machine that is busy for longer than the shortest
    // time-out sends again.
    assert!(again * 100 <= exchanges, "{again} segments sent again");
    if full {
        assert!(count >= 5 * 1000, "{count} policies in {time:?}");
    }
    enforcer.tracker.stop().unwrap();
}
