//! Whom SYNs are answered to with cookies, and in whose name.

use std::{io::ErrorKind, net::SocketAddr, thread, time::Duration};

use tracker_tests::{
    agent::Tracker,
    sockets::{accept, bind, connect, listen},
    spoof::{Segment, Spoofer},
    topology::{Family, INTERFACE, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, SOON, stats};

const PORT: u16 = 80;

const ALWAYS: &str = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\ncookie_age = \"1s\"\n\
                      drain = \"100ms\"\n";

fn counted(tracker: &Tracker<'_>, reason: &str) -> u64 {
    stats(tracker).unwrap().packets(reason)
}

/// A SYN that claims to come from the host's own addresses or from a broadcast of its
/// network was made up, and gets no answer.
#[test]
fn nothing_is_answered_to_own_addresses_and_broadcasts() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let at = topology.server.at(Family::V4, PORT);
    let listener = listen(server, at).unwrap();
    let tracker = Configuration::new(ALWAYS).start(&topology, &["--xdp", "generic"]);
    // Its first SYN-ACK is learnt from.
    let first = topology.client.at(Family::V4, 20_000);
    let _first = (
        connect(&topology.client.netns, first, at).unwrap(),
        accept(&listener).unwrap(),
    );
    let spoofer = Spoofer::new(&topology).unwrap();
    let mut port = 4000;
    // The reason under which the SYN is counted that comes from there.
    let mut knock = |from: [u8; 4]| {
        port += 1;
        let before = ["bad_source", "cookie_sent", "flow_opened"].map(|reason| {
            let packets = counted(&tracker, reason);
            (reason, packets)
        });
        let syn = Segment {
            from: SocketAddr::from((from, port)),
            to: at,
            seq: 1000,
            ack: None,
            syn: true,
            rst: false,
            payload: b"",
            damaged: false,
        };
        spoofer.send(&syn).unwrap();
        eventually(SOON, || {
            let moved = before.iter().find(|(reason, packets)| {
                stats(&tracker).is_ok_and(|stats| stats.packets(reason) > *packets)
            });
            moved
                .map(|(reason, _)| *reason)
                .ok_or_else(|| format!("a SYN from {from:?} is not counted"))
        })
    };
    assert_eq!(knock([192, 0, 2, 255]), "bad_source");
    assert_eq!(knock([192, 0, 2, 0]), "bad_source");
    assert_eq!(knock([192, 0, 2, 2]), "bad_source");
    assert_ne!(knock([192, 0, 2, 3]), "bad_source");
    // An address that the host is given while the tracker runs.
    server
        .ip(&format!("addr add 192.0.2.3/24 dev {INTERFACE}\n"))
        .unwrap();
    eventually(SOON, || match knock([192, 0, 2, 3]) {
        "bad_source" => Ok(()),
        other => Err(other.to_owned()),
    });
    tracker.stop().unwrap();
}

/// Only the listener that a rule names is answered for.
#[test]
fn a_listener_may_have_a_mode_of_its_own() {
    const CLIENTS: u16 = 5;
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let ports = [PORT, PORT + 1];
    let listeners = ports.map(|port| listen(server, topology.server.at(Family::V4, port)).unwrap());
    let file = Configuration::new(&format!(
        "mode = \"enforce\"\n[defence]\ncookies = \"never\"\ncookie_age = \"1s\"\n\
         drain = \"100ms\"\n[[defence.listeners]]\naddress = \"0.0.0.0\"\nport = {PORT}\n\
         cookies = \"always\"\n"
    ));
    let tracker = file.start(&topology, &["--xdp", "generic"]);
    let mut open = vec![];
    // The first of each goes to the socket, from which the agent learns of it.
    for (port, listener) in ports.iter().zip(&listeners) {
        let to = topology.server.at(Family::V4, *port);
        let from = topology.client.at(Family::V4, 19_000 + port);
        let client = connect(&topology.client.netns, from, to).unwrap();
        open.push((client, accept(listener).unwrap()));
    }
    let modes = || -> Vec<serde_json::Value> {
        let text = tracker.ask(&["listeners", "-o", "json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    eventually(SOON, || {
        let rows = modes();
        let of =
            |port: u16| rows.iter().find(|row| row["port"] == port).unwrap()["cookies"].clone();
        match (of(PORT), of(PORT + 1)) {
            (always, never) if always == "always" && never == "never" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for client in 0..CLIENTS {
        for (port, listener) in ports.iter().zip(&listeners) {
            let to = topology.server.at(Family::V4, *port);
            let from = topology.client.at(Family::V4, 20_000 + client);
            let client = connect(&topology.client.netns, from, to).unwrap();
            open.push((client, accept(listener).unwrap()));
        }
    }
    let flows = tracker.list().unwrap();
    let by_cookie = |port: u16| {
        let flows = flows.iter().filter(|flow| flow.origin == "cookie");
        flows.filter(|flow| flow.responder.port == port).count()
    };
    // One a second is let through to have it confirmed.
    assert!(by_cookie(PORT) >= usize::from(CLIENTS) - 2, "{flows:?}");
    assert_eq!(by_cookie(PORT + 1), 0);
    tracker.stop().unwrap();
}

/// A port whose socket has closed looks as closed as it is.
#[test]
fn a_port_that_was_closed_refuses_clients() {
    let topology = Topology::new(Placement::Server).unwrap();
    let at = topology.server.at(Family::V4, PORT);
    let listener = listen(&topology.server.netns, at).unwrap();
    let tracker = Configuration::new(ALWAYS).start(&topology, &["--xdp", "generic"]);
    let mut port = 20_000;
    let mut knock = || {
        port += 1;
        let from = topology.client.at(Family::V4, port);
        let socket = bind(&topology.client.netns, from).unwrap();
        socket.connect_timeout(&at.into(), SOON).map(|()| socket)
    };
    let open: Vec<_> = (0..3)
        .map(|_| (knock().unwrap(), accept(&listener).unwrap()))
        .collect();
    assert!(counted(&tracker, "cookie_sent") > 0);
    drop(listener);
    // The socket is asked for twice a second.
    thread::sleep(Duration::from_millis(600));
    let before = counted(&tracker, "cookie_sent");
    for _ in 0..5 {
        assert_eq!(knock().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(counted(&tracker, "cookie_sent"), before);
    drop(open);
    tracker.stop().unwrap();
}
