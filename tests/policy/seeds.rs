//! Connections that are older than the tracker survive a policy that would not admit
//! them.

use tracker_tests::{
    agent::Tracker,
    flow::{Flow, table},
    nft::Firewall,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{CLOSED, FAMILIES, Files, Pair, SOON, connects};

/// The flow of the connection from that port of the client to that port of the
/// server, whoever opened it.
fn flow(tracker: &Tracker<'_>, topology: &Topology, family: Family, ports: (u16, u16)) -> Flow {
    let flows = tracker.list().unwrap();
    let ends = [
        topology.client.at(family, ports.0),
        topology.server.at(family, ports.1),
    ];
    let found = flows
        .iter()
        .find(|flow| flow.connects(ends[0], ends[1]) || flow.connects(ends[1], ends[0]));
    found
        .unwrap_or_else(|| panic!("no flow {ends:?} in\n{}", table(&flows)))
        .clone()
}

#[test]
fn connections_of_sockets_go_on_and_new_ones_do_not_come_about() {
    for placement in [Placement::Server, Placement::Client] {
        let topology = Topology::new(placement).unwrap();
        let old: Vec<(Family, Pair)> = FAMILIES
            .into_iter()
            .map(|family| (family, Pair::open(&topology, family, (40_000, 80))))
            .collect();
        let tracker = Files::new(CLOSED).start(&topology);
        for (family, pair) in &old {
            pair.talk().unwrap();
            pair.talk().unwrap();
            let flow = flow(&tracker, &topology, *family, (40_000, 80));
            assert_eq!(flow.origin, "socket", "{placement:?} {flow}");
            assert!(!connects(&topology, *family, (40_001, 80)), "{placement:?}");
        }
        assert!(
            tracker
                .log()
                .contains("2 connections of this host's sockets became flows")
        );
        tracker.stop().unwrap();
    }
}

#[test]
fn a_listener_tells_who_has_opened_a_connection() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = topology.server.at(Family::V4, 80);
    let _listener = tracker_tests::sockets::listen(&topology.server.netns, server).unwrap();
    let client = topology.client.at(Family::V4, 40_000);
    let _client = tracker_tests::sockets::connect(&topology.client.netns, client, server).unwrap();
    let tracker = Files::new(CLOSED).start(&topology);
    let flow = flow(&tracker, &topology, Family::V4, (40_000, 80));
    assert!(flow.connects(client, server), "{flow}");
    tracker.stop().unwrap();
}

#[test]
fn a_gateway_knows_connections_from_conntrack() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let (router, _) = topology.tracked();
    // A rule that asks for states has the kernel follow connections.
    tracker_tests::netns::feed(
        router.command("nft").unwrap().args(["-f", "-"]),
        "table inet follow { chain forward { type filter hook forward priority 0; ct state \
         established counter accept; }; }\n",
    )
    .unwrap();
    let old: Vec<(Family, Pair)> = FAMILIES
        .into_iter()
        .map(|family| (family, Pair::open(&topology, family, (40_000, 80))))
        .collect();
    let tracker = Files::new(CLOSED).start(&topology);
    for (family, pair) in &old {
        pair.talk().unwrap();
        pair.talk().unwrap();
        let flow = flow(&tracker, &topology, *family, (40_000, 80));
        assert_eq!(flow.origin, "conntrack", "{flow}");
        let client = topology.client.at(*family, 40_000);
        assert!(
            flow.connects(client, topology.server.at(*family, 80)),
            "{flow}"
        );
        assert!(!connects(&topology, *family, (40_001, 80)));
    }
    tracker.stop().unwrap();
}

#[test]
fn a_gateway_that_nobody_tells_watches_first() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let old = Pair::open(&topology, Family::V4, (40_000, 80));
    let files = Files::with(CLOSED, "mode = \"enforce\"\n", "grace = \"4s\"\n");
    let tracker = files.start(&topology);
    assert!(
        tracker.log().contains("nothing is enforced for"),
        "{}",
        tracker.log()
    );
    // In this time connections are met, and nothing is refused.
    old.talk().unwrap();
    assert!(connects(&topology, Family::V4, (40_001, 80)));
    tracker
        .wait_for_log("", "watched long enough", SOON)
        .unwrap();
    eventually(SOON, || {
        match connects(&topology, Family::V4, (40_002, 80)) {
            false => Ok(()),
            true => Err("nothing is enforced".to_owned()),
        }
    });
    old.talk().unwrap();
    tracker.stop().unwrap();
}

#[test]
fn a_half_closed_connection_goes_on_in_its_direction() {
    use std::io::{Read as _, Write as _};
    let topology = Topology::new(Placement::Server).unwrap();
    let pair = Pair::open(&topology, Family::V6, (40_000, 80));
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&pair.server).read_to_end(&mut rest).unwrap();
    let _firewall = Firewall::new(&topology.server.netns).unwrap();
    let tracker = Files::new(CLOSED).start(&topology);
    (&pair.server).write_all(b"late answer").unwrap();
    let mut answer = [0; 11];
    (&pair.client).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"late answer");
    tracker.stop().unwrap();
}

/// Such addresses have no route of their own: the socket knows its device.
#[test]
fn a_connection_between_link_local_addresses_goes_on() {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream},
    };
    let topology = Topology::new(Placement::Server).unwrap();
    let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80));
    let listener = topology.server.netns.run_in(listen).unwrap().unwrap();
    // Of the address of its veth (RFC 4291 appendix A).
    let address: Ipv6Addr = "fe80::ff:fe00:b".parse().unwrap();
    let connect = || -> std::io::Result<TcpStream> {
        let index = nix::net::if_::if_nametoindex("eth0")?;
        TcpStream::connect(SocketAddrV6::new(address, 80, 0, index))
    };
    // Once nobody else has claimed the addresses.
    let mut client = eventually(SOON, || {
        let connected = topology.client.netns.run_in(connect).unwrap();
        connected.map_err(|error| error.to_string())
    });
    let (mut server, _) = listener.accept().unwrap();
    let tracker = Files::new(CLOSED).start(&topology);
    client.set_read_timeout(Some(SOON)).unwrap();
    for _ in 0..2 {
        server.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    let flows = tracker.list().unwrap();
    let flow = flows.iter().find(|flow| flow.responder.addr == address);
    assert_eq!(
        flow.map(|flow| flow.origin.as_str()),
        Some("socket"),
        "{}",
        table(&flows)
    );
    tracker.stop().unwrap();
}
