//! `tracker listeners`: the kernel's sockets, and what the tracker knows of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tracker_tests::{
    agent::{Tracker, ask, binary, fresh_pin_dir},
    connection::Connection,
    netns::Namespace,
    sockets,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON};

/// A socket that listens on all addresses.
fn on_all(netns: &Namespace, address: IpAddr, port: u16, v6_only: bool, backlog: i32) -> Socket {
    let listen = || {
        let domain = Domain::for_address(SocketAddr::new(address, port));
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        if domain == Domain::IPV6 {
            socket.set_only_v6(v6_only).unwrap();
        }
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::new(address, port).into()).unwrap();
        socket.listen(backlog).unwrap();
        socket
    };
    netns.run_in(listen).unwrap()
}

fn listed(tracker: &Tracker<'_>) -> Vec<Value> {
    let text = tracker.ask(&["listeners", "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The row of an address and port.
fn row(rows: &[Value], address: &str, port: u16) -> Value {
    let found = rows
        .iter()
        .find(|row| row["address"] == address && row["port"] == port);
    found
        .unwrap_or_else(|| panic!("no {address}:{port} in {rows:#?}"))
        .clone()
}

#[test]
fn without_a_tracker_the_sockets_are_shown_with_their_queues() {
    let netns = Namespace::new("listeners").unwrap();
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let _first = on_all(&netns, any, 8080, false, 3);
    let _second = on_all(&netns, any, 8080, false, 3);
    let full = on_all(&netns, Ipv4Addr::LOCALHOST.into(), 9090, false, 0);
    let at = full.local_addr().unwrap().as_socket().unwrap();
    let waiting = netns.run_in(|| std::net::TcpStream::connect(at)).unwrap();
    let _waiting = waiting.unwrap();

    let pins = fresh_pin_dir();
    let mut command = netns.command(binary().unwrap()).unwrap();
    command.args(["listeners", "--pin-dir"]).arg(&pins);
    let output = command.output().unwrap();
    let (text, note) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{note}");
    assert!(note.starts_with("note: no tracker is pinned at"), "{note}");
    assert_eq!(
        text,
        "Proto Local Address  Accept queue\n\
         tcp   0.0.0.0:8080       0/6 in 2\n\
         tcp   127.0.0.1:9090     1/0 FULL\n"
    );
    let text = ask(&netns, &pins, &["listeners", "-o", "json"]).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let full = row(&rows, "127.0.0.1", 9090);
    assert_eq!(
        (&full["accept_queue"], &full["backlog"], &full["full"]),
        (&1.into(), &0.into(), &1.into())
    );
    assert!(full.get("half_open").is_none(), "{full:#}");
}

/// A socket on all addresses has what came in on each of them, of both families.
#[test]
fn half_open_connections_add_up_in_the_socket_that_gets_them() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let _all = on_all(server, any, 443, false, 128);
    let _own = sockets::listen(server, topology.server.at(Family::V4, 80)).unwrap();
    let file = Configuration::new("[defence]\ncookies = \"never\"\nlistener_limit = 100\n");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1007, 443);
    nobody.open(1000..1003, 80);

    let address = topology.server.at(Family::V4, 0).ip().to_string();
    let rows = eventually(SOON, || {
        let rows = listed(&tracker);
        let all = row(&rows, "::", 443);
        let own = row(&rows, &address, 80);
        match (&all["half_open"], &own["half_open"]) {
            (all, own) if *all == 7 && *own == 3 => Ok(rows),
            found => Err(format!("half-open are {found:?}")),
        }
    });
    let all = row(&rows, "::", 443);
    assert_eq!(all["dual_stack"], true);
    assert_eq!(all["limit"], 100);
    assert_eq!(all["cookies"], "never");
    assert_eq!(all["addresses"][0]["address"], address.as_str());
    assert_eq!(all["addresses"][0]["half_open"], 7);

    let table = tracker.ask(&["listeners", "--addresses"]).unwrap();
    let of = |start: &str| {
        let line = table.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start:?} in\n{table}"))
    };
    assert!(of("tcp46 [::]:443 ").contains(" 7/100 never "), "{table}");
    assert!(
        of(&format!("        {address}:443 ")).contains(" 7/100 "),
        "{table}"
    );
    assert!(
        of(&format!("tcp   {address}:80 ")).contains(" 3/100 "),
        "{table}"
    );
    tracker.stop().unwrap();
}

/// Where the tracker keeps no counts, since there is no limit, flows are counted.
#[test]
fn they_are_counted_without_a_limit_too() {
    let topology = Topology::new(Placement::Server).unwrap();
    let _own = sockets::listen(&topology.server.netns, topology.server.at(Family::V4, 80)).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1009, 80);
    let address = topology.server.at(Family::V4, 0).ip().to_string();
    eventually(
        SOON,
        || match &row(&listed(&tracker), &address, 80)["half_open"] {
            half_open if *half_open == 9 => Ok(()),
            half_open => Err(format!("{half_open} are half-open")),
        },
    );
    // In the statistics, too.
    let stats: Value =
        serde_json::from_str(&tracker.ask(&["stats", "-o", "json"]).unwrap()).unwrap();
    let top = &stats["defence"]["listeners"][0];
    assert_eq!((&top["port"], &top["half_open"]), (&80.into(), &9.into()));
    let source = &stats["defence"]["sources"][0];
    assert_eq!(source["half_open"], 9);
    assert!(
        source["prefix"]
            .as_str()
            .unwrap()
            .starts_with("192.0.2.77/"),
        "{source}"
    );
    tracker.stop().unwrap();
}

/// What the table says of a listener is what its own SYN-ACKs announced.
#[test]
fn a_listener_is_learnt_from_its_own_answers() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("[defence]\ncookies = \"adaptive\"\n");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let connection = Connection::open(&topology, 40_000);
    let (address, port) = (connection.server.ip().to_string(), connection.server.port());
    let learnt = eventually(SOON, || {
        let row = row(&listed(&tracker), &address, port);
        match row["learnt_ms"].as_u64() {
            Some(_) => Ok(row),
            None => Err(format!("not learnt: {row:#}")),
        }
    });
    assert!(learnt["learnt_ms"].as_u64().unwrap() < 20_000, "{learnt:#}");
    assert_eq!(learnt["mss"], 1460);
    assert!(
        (1..=14).contains(&learnt["scale"].as_u64().unwrap()),
        "{learnt:#}"
    );
    assert_eq!(learnt["cookies"], "adaptive");
    assert_eq!(learnt["answering"], false);
    tracker.stop().unwrap();
}
