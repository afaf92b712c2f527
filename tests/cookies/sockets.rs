//! Real clients and servers, whose kernel says what of a connection survived.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    mem::{size_of, zeroed},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use tempfile::NamedTempFile;
use tracker_tests::{
    agent::{Options, Tracker},
    flow,
    sockets::{PATIENCE, accept, begin_connect, bind, connect, listen},
    ss::Snapshot,
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

/// Port of the server.
const PORT: u16 = 80;

/// What both ends of a connection have agreed on, as one of them has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    /// Timestamps, SACK, window scale and ECN (include/uapi/linux/tcp.h,
    /// `TCPI_OPT_*`).
    options: u8,
    /// Scales of the windows that it sends and receives, four bits each.
    scales: u8,
    /// Largest segment that it sends, octets.
    segment: u32,
    /// The one that it announced.
    announced: u32,
}

/// What the kernel knows of a socket.
fn info(socket: &Socket) -> Result<libc::tcp_info> {
    // SAFETY: a struct of integers; all zeros is a value of it.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into `info`.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(code).context("asking for TCP_INFO")?;
    Ok(info)
}

fn terms(socket: &Socket) -> Result<Terms> {
    const AGREED: u8 = 0x0f;
    let info = info(socket)?;
    Ok(Terms {
        options: info.tcpi_options & AGREED,
        scales: info.tcpi_snd_rcv_wscale,
        segment: info.tcpi_snd_mss,
        announced: info.tcpi_advmss,
    })
}

/// A connection: the client's socket and the server's.
struct Pair {
    client: Socket,
    server: Socket,
}

impl Pair {
    /// Has something said each way, and gives what both have agreed on. No
    /// segment was sent again.
    fn talk(&self) -> Result<[Terms; 2]> {
        let (mut client, mut server) = (&self.client, &self.server);
        let mut buffer = [0; 5];
        client.write_all(b"knock").context("the client's data")?;
        server.read_exact(&mut buffer).context("the server reads")?;
        server.write_all(&buffer).context("the echo")?;
        client.read_exact(&mut buffer).context("the client reads")?;
        ensure!(&buffer == b"knock", "{buffer:?}");
        for socket in [client, server] {
            let again = info(socket)?.tcpi_total_retrans;
            ensure!(again == 0, "{again} segments were sent again");
        }
        Ok([terms(client)?, terms(server)?])
    }

    /// Closes it, from the client's side or the server's.
    fn close(self, client_first: bool) -> Result<()> {
        let (first, last) = if client_first {
            (&self.client, &self.server)
        } else {
            (&self.server, &self.client)
        };
        first.shutdown(Shutdown::Write)?;
        let mut last = last;
        ensure!(last.read(&mut [0])? == 0, "data behind the end");
        last.shutdown(Shutdown::Write)?;
        let mut first = first;
        ensure!(first.read(&mut [0])? == 0, "data behind the end");
        Ok(())
    }
}

/// A server with clients that offer ECN.
struct Stage<'a> {
    topology: &'a Topology,
    family: Family,
    listener: Socket,
    next_port: u16,
}

impl<'a> Stage<'a> {
    fn new(topology: &'a Topology, family: Family) -> Self {
        topology.client.netns.sysctl("ipv4.tcp_ecn", "1").unwrap();
        let at = topology.server.at(family, PORT);
        let listener = listen(&topology.server.netns, at).unwrap();
        Self {
            topology,
            family,
            listener,
            next_port: 20_000,
        }
    }

    fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        self.next_port += 1;
        (
            self.topology.client.at(self.family, self.next_port),
            self.topology.server.at(self.family, PORT),
        )
    }

    fn open(&mut self) -> Result<Pair> {
        let (from, to) = self.addresses();
        let client = connect(&self.topology.client.netns, from, to)?;
        let server = accept(&self.listener)?;
        Ok(Pair { client, server })
    }

    /// Opens so many at once.
    fn open_at_once(&mut self, count: usize) -> Result<Vec<Pair>> {
        let mut clients = HashMap::new();
        for _ in 0..count {
            let (from, to) = self.addresses();
            clients.insert(from, begin_connect(&self.topology.client.netns, from, to)?);
        }
        (0..count)
            .map(|_| {
                let server = accept(&self.listener)?;
                let from = server.peer_addr()?.as_socket().context("an address")?;
                let client = clients.remove(&from).context("a client")?;
                client.set_nonblocking(false)?;
                client.set_read_timeout(Some(PATIENCE))?;
                Ok(Pair { client, server })
            })
            .collect()
    }
}

/// The agent's configuration: cookies always, and an end without delay.
struct Always(NamedTempFile);

impl Always {
    fn new() -> Self {
        let mut file = NamedTempFile::new().unwrap();
        let text = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\n\
                    cookie_age = \"1s\"\ndrain = \"100ms\"\n";
        file.write_all(text.as_bytes()).unwrap();
        Self(file)
    }

    /// Generic XDP: a veth's peer gets native answers only if it has a program.
    fn options<'a>(&self, topology: &'a Topology) -> Options<'a> {
        Options::on(topology)
            .with(["-c".as_ref(), self.0.path().as_os_str()])
            .with(["--xdp", "generic"])
    }
}

fn count(tracker: &Tracker<'_>, reason: &str) -> u64 {
    tracker.stats().unwrap().packets(reason)
}

/// Every SYN was answered with a cookie that came back, but for those that passed
/// to the stack to learn of its listener, at most one a second.
fn account(tracker: &Tracker<'_>, connections: u64, elapsed: Duration) {
    let [sent, returned, opened] =
        ["cookie_sent", "cookie_returned", "flow_opened"].map(|reason| count(tracker, reason));
    assert_eq!(sent, returned, "cookies that came back");
    assert_eq!(sent + opened, connections, "SYNs: {sent} and {opened}");
    assert!(
        opened <= 2 + elapsed.as_secs(),
        "{opened} SYNs passed in {elapsed:?}"
    );
    let refused = tracker.stats().unwrap().met("refuse");
    assert!(refused.is_empty(), "refused: {refused:?}");
}

fn connections_agree_on_what_they_would_without(family: Family) {
    const IN_TURN: u16 = 200;
    const AT_ONCE: usize = 50;
    let topology = Topology::new(Placement::Server).unwrap();
    let mut stage = Stage::new(&topology, family);
    let without = stage.open().unwrap();
    let expected = without.talk().unwrap();
    without.close(true).unwrap();
    // Timestamps, SACK, window scale and ECN.
    assert_eq!(expected.map(|terms| terms.options), [15; 2], "{expected:?}");

    let always = Always::new();
    let tracker = always.options(&topology).start().unwrap();
    let start = Instant::now();
    for number in 0..IN_TURN {
        let pair = stage.open().unwrap();
        let agreed = pair.talk().unwrap();
        assert_eq!(agreed, expected, "connection {number}");
        pair.close(number % 2 == 0).unwrap();
    }
    let pairs = stage.open_at_once(AT_ONCE).unwrap();
    for pair in &pairs {
        assert_eq!(pair.talk().unwrap(), expected);
    }
    account(
        &tracker,
        u64::from(IN_TURN) + AT_ONCE as u64,
        start.elapsed(),
    );
    for (number, pair) in pairs.into_iter().enumerate() {
        pair.close(number % 2 == 0).unwrap();
    }
    tracker.stop().unwrap();
}

#[test]
fn connections_agree_on_what_they_would_without_cookies() {
    connections_agree_on_what_they_would_without(Family::V4);
}

#[test]
fn connections_agree_on_what_they_would_without_cookies_over_ipv6() {
    connections_agree_on_what_they_would_without(Family::V6);
}

/// A client whose every packet has an extension header, as it asks its kernel for:
/// the answer has none.
#[test]
fn a_client_that_sends_extension_headers_connects_by_cookie() {
    const CONNECTIONS: u64 = 5;
    /// Pads eight octets (RFC 8200 section 4.2).
    const DESTINATION_OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let topology = Topology::new(Placement::Server).unwrap();
    let mut stage = Stage::new(&topology, Family::V6);
    let always = Always::new();
    let tracker = always.options(&topology).start().unwrap();
    let start = Instant::now();
    let mut terms = vec![];
    for _ in 0..CONNECTIONS {
        let (from, to) = stage.addresses();
        let client = bind(&topology.client.netns, from).unwrap();
        // SAFETY: the kernel reads eight octets.
        let code = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_DSTOPTS,
                DESTINATION_OPTIONS.as_ptr().cast(),
                DESTINATION_OPTIONS.len() as libc::socklen_t,
            )
        };
        nix::errno::Errno::result(code).unwrap();
        client.connect_timeout(&to.into(), PATIENCE).unwrap();
        let server = accept(&stage.listener).unwrap();
        let pair = Pair { client, server };
        terms.push(pair.talk().unwrap());
        pair.close(true).unwrap();
    }
    // Timestamps, SACK, window scale and ECN, of the first as of those by a cookie.
    assert!(terms.iter().all(|one| *one == terms[0]), "{terms:?}");
    assert_eq!(terms[0].map(|one| one.options), [15; 2]);
    account(&tracker, CONNECTIONS, start.elapsed());
    tracker.stop().unwrap();
}

/// The tracker's states are those of the sockets.
fn listed_as_the_kernel_has_them(family: Family) {
    let topology = Topology::new(Placement::Server).unwrap();
    let mut stage = Stage::new(&topology, family);
    let always = Always::new();
    let tracker = always.options(&topology).start().unwrap();
    let first = stage.open().unwrap();
    first.talk().unwrap();
    let pairs: Vec<Pair> = (0..9).map(|_| stage.open().unwrap()).collect();
    for pair in &pairs {
        pair.talk().unwrap();
    }
    // Three stay, three are closed halfway by either side.
    for pair in &pairs[3..6] {
        pair.client.shutdown(Shutdown::Write).unwrap();
    }
    for pair in &pairs[6..] {
        pair.server.shutdown(Shutdown::Write).unwrap();
    }
    let ends: Vec<(SocketAddr, SocketAddr)> = pairs
        .iter()
        .map(|pair| {
            let address = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
            (address(&pair.client), address(&pair.server))
        })
        .collect();
    eventually(PATIENCE, || {
        let told = |error: anyhow::Error| format!("{error:#}");
        let flows = tracker.list().map_err(told)?;
        let clients = Snapshot::take(&topology.client.netns).map_err(told)?;
        let servers = Snapshot::take(&topology.server.netns).map_err(told)?;
        for &(client, server) in &ends {
            let flow = flows
                .iter()
                .find(|flow| flow.connects(client, server))
                .ok_or_else(|| format!("no {client} in\n{}", flow::table(&flows)))?;
            let state = |snapshot: &Snapshot, local, peer| {
                let socket = snapshot.connection(local, peer);
                socket.map_or(State::Closed, |socket| socket.state)
            };
            let states = (
                state(&clients, client, server),
                state(&servers, server, client),
            );
            if flow.states() != states || flow.origin != "cookie" {
                return Err(format!("{flow}\nbut {states:?}\n{clients}{servers}"));
            }
        }
        Ok(())
    });
    drop(pairs);
    tracker.stop().unwrap();
}

#[test]
fn flows_of_cookies_are_listed_as_the_kernel_has_them() {
    listed_as_the_kernel_has_them(Family::V4);
    listed_as_the_kernel_has_them(Family::V6);
}

/// Whoever kills the agent ends neither connections nor the defence.
#[test]
fn a_kill_of_the_agent_fails_no_connection() {
    let topology = Topology::new(Placement::Server).unwrap();
    let mut stage = Stage::new(&topology, Family::V4);
    let expected = {
        let pair = stage.open().unwrap();
        pair.talk().unwrap()
    };
    let always = Always::new();
    let tracker = always.options(&topology).start().unwrap();
    let mut pairs = vec![];
    let open = |stage: &mut Stage<'_>, pairs: &mut Vec<Pair>| {
        let pair = stage.open().unwrap();
        assert_eq!(pair.talk().unwrap(), expected);
        pairs.push(pair);
    };
    for _ in 0..10 {
        open(&mut stage, &mut pairs);
    }
    let pins = tracker.kill().unwrap();
    for _ in 0..10 {
        open(&mut stage, &mut pairs);
    }
    let again = always.options(&topology).pinned_at(&pins).start().unwrap();
    for pair in &pairs {
        assert_eq!(pair.talk().unwrap(), expected);
    }
    let [sent, returned] = ["cookie_sent", "cookie_returned"].map(|reason| count(&again, reason));
    assert_eq!(sent, returned);
    assert!(sent >= 15, "{sent} cookies for twenty connections");
    for pair in pairs {
        pair.close(true).unwrap();
    }
    again.stop().unwrap();
}
