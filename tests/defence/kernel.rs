//! The kernel's own cookies beside the tracker's limits: whoever makes one, a client
//! that returns it is let in, with pick-ups off, so that nothing else lets it in.

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use tracker_tests::{
    agent::Tracker,
    connection::Connection,
    flood::trickle::{lead_back, trickle},
    sockets::{PATIENCE, accept, bind, connect, listen},
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON, listener, stats, sysctls, until_sysctls};

const PORT: u16 = 443;

fn counted(tracker: &Tracker<'_>, reason: &str) -> u64 {
    stats(tracker).unwrap().packets(reason)
}

/// Clients one after another: each says a word and gets it back.
fn visit(topology: &Topology, listener: &Socket, ports: std::ops::Range<u16>) -> Result<()> {
    for port in ports {
        let from = topology.client.at(Family::V4, port);
        let to = topology.server.at(Family::V4, PORT);
        let mut client = connect(&topology.client.netns, from, to)?;
        client.write_all(b"knock").context("the client's word")?;
        // Others that the flood left are none: they never complete a handshake.
        let mut server = accept(listener)?;
        let mut word = [0; 5];
        server.read_exact(&mut word).context("the server reads")?;
        server.write_all(&word).context("the echo")?;
        client.read_exact(&mut word).context("the client reads")?;
        ensure!(&word == b"knock", "{word:?}");
    }
    Ok(())
}

/// Honest clients beside a flood that has filled the tracker's half-open flows, with
/// this setting of the kernel's and this of the tracker's.
fn get_through(syncookies: &str, defence: &str) {
    const CLIENTS: u16 = 30;
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    lead_back(server).unwrap();
    for (key, value) in [
        ("ipv4.tcp_syncookies", syncookies),
        ("ipv4.tcp_max_syn_backlog", "64"),
        ("core.somaxconn", "64"),
        // No client is known from before, which would have room of its own.
        ("ipv4.tcp_no_metrics_save", "1"),
    ] {
        server.sysctl(key, value).unwrap();
    }
    let listener = listen(server, topology.server.at(Family::V4, PORT)).unwrap();
    let file = Configuration::new(&format!(
        "mode = \"enforce\"\n[table]\nhalf_open_limit = 100\n[tracking]\npickup = \"off\"\n\
         [defence]\nmanage_sysctls = false\n{defence}"
    ));
    let tracker = file.start(&topology, &["--xdp", "generic"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| trickle(&topology, PORT, &stop).unwrap());
        let flooded = || -> Result<()> {
            // The kernel's queue is full, or its cookies are always on.
            for _ in 0..200 {
                if counted(&tracker, "half_open_limit") + counted(&tracker, "cookie_sent") > 500 {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(50));
            }
            anyhow::bail!(
                "no limit was reached: {:?}",
                stats(&tracker).unwrap().reasons
            )
        };
        let result = flooded().and_then(|()| visit(&topology, &listener, 30_000..30_000 + CLIENTS));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    let returned = counted(&tracker, "cookie_returned");
    println!(
        "tcp_syncookies = {syncookies}, {defence:?}: {returned} of {CLIENTS} by a cookie, {} sent \
         by the tracker, {} SYNs passed at the limit",
        counted(&tracker, "cookie_sent"),
        counted(&tracker, "half_open_limit"),
    );
    assert!(returned >= u64::from(CLIENTS) / 2, "{returned} came back");
    let held = stats(&tracker).unwrap().half_open.held;
    assert!(held <= 100, "{held} half-open flows");
    assert_eq!(sysctls(server)[1].to_string(), syncookies);
    tracker.stop().unwrap();
}

#[test]
fn cookies_of_the_kernel_alone_let_clients_in_when_its_queue_is_full() {
    get_through("1", "cookies = \"never\"\n");
}

#[test]
fn cookies_of_the_kernel_alone_let_clients_in_when_they_are_always_on() {
    get_through("2", "cookies = \"never\"\n");
}

/// The tracker does not turn them on by itself, and asks the kernel at its limit.
#[test]
fn cookies_of_both_let_clients_in_where_the_tracker_may_set_nothing() {
    get_through("1", "");
}

#[test]
fn cookies_of_the_tracker_let_clients_in_where_the_kernels_are_always_on() {
    get_through("2", "cookies = \"adaptive\"\n");
}

/// Where the kernel sends cookies for every SYN, connections are tracked as any.
#[test]
fn handshakes_with_the_kernels_cookies_are_handshakes() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    server.sysctl("ipv4.tcp_syncookies", "2").unwrap();
    let file = Configuration::new(
        "mode = \"enforce\"\n[tracking]\npickup = \"off\"\n[defence]\nmanage_sysctls = false\n",
    );
    let tracker = file.start(&topology, &[]);
    for port in 40_000..40_010 {
        let open = Connection::open(&topology, port);
        assert_eq!(open.seen_by(&tracker).origin, "handshake");
        open.talk();
    }
    assert_eq!(counted(&tracker, "cookie_sent"), 0);
    assert!(stats(&tracker).unwrap().met("refuse").is_empty());
    tracker.stop().unwrap();
}

/// A limit of one source brings cookies though half-open flows are few in all: the
/// agent sees to it that the kernel gives them, and takes that back.
#[test]
fn the_limit_of_a_source_brings_cookies_in_a_moment() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let file = Configuration::new(
        "mode = \"enforce\"\n[timeouts]\nsyn_sent = \"3s\"\nsyn_received = \"3s\"\n\
         [defence]\nsource_limit = 5\ncookie_age = \"1s\"\n",
    );
    let tracker = file.start(&topology, &[]);
    let _listener = listener(&topology, PORT);
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1005, PORT);
    eventually(SOON, || match stats(&tracker)?.half_open.held {
        5 => Ok(()),
        held => Err(format!("{held} half-open flows")),
    });
    assert_eq!(sysctls(server), [2, 1]);
    nobody.open(2000..2001, PORT);
    until_sysctls(server, [2, 2]);
    assert_eq!(counted(&tracker, "source_limit"), 1);
    nobody.open(3000..3005, PORT);
    // One SYN in a second may be let through to have the listener confirmed.
    eventually(SOON, || match counted(&tracker, "cookie_sent") {
        4 | 5 => Ok(()),
        sent => Err(format!("{sent} cookies sent")),
    });
    // Nobody else gets any.
    assert!(!tracker.log().contains("SYN cookies are on"));
    let open = Connection::open(&topology, 40_000);
    assert_eq!(open.seen_by(&tracker).origin, "handshake");
    until_sysctls(server, [2, 1]);
    tracker.stop().unwrap();
}

/// A listener whose accept queue is full takes no cookie either; its clients get in
/// when there is room again.
#[test]
fn a_full_accept_queue_is_waited_for() {
    let topology = Topology::new(Placement::Server).unwrap();
    let at = topology.server.at(Family::V4, PORT);
    let listener = bind(&topology.server.netns, at).unwrap();
    // One more than it says.
    listener.listen(1).unwrap();
    let file = Configuration::new(
        "mode = \"enforce\"\n[tracking]\npickup = \"off\"\n\
         [defence]\ncookies = \"always\"\ncookie_age = \"1s\"\ndrain = \"100ms\"\n",
    );
    let tracker = file.start(&topology, &["--xdp", "generic"]);
    let mut clients = vec![];
    thread::scope(|scope| {
        let knocking: Vec<_> = (0..5)
            .map(|number| {
                let from = topology.client.at(Family::V4, 30_000 + number);
                let client = &topology.client.netns;
                scope.spawn(move || -> Result<Socket> {
                    let mut socket = connect(client, from, at)?;
                    socket.write_all(b"knock").context("the word")?;
                    Ok(socket)
                })
            })
            .collect();
        // The queue fills, and the socket is asked for cookies again.
        thread::sleep(Duration::from_millis(700));
        for _ in 0..5 {
            let mut server = accept(&listener).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut word = [0; 5];
            server.read_exact(&mut word).unwrap();
            clients.push(server);
        }
        for client in knocking {
            client.join().unwrap().unwrap();
        }
    });
    assert_eq!(counted(&tracker, "cookie_invalid"), 0);
    tracker.stop().unwrap();
}
