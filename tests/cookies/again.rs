//! SYNs that are sent again and cookies that come back too late, as far as the
//! sketch of answers remembers their SYNs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;
use tracker_common::{abi::Live, reason::Reason};
use tracker_tests::{
    agent::Tracker,
    configuration::{Configuration, SOON},
    nft::{Firewall, Packets},
    program::{
        bench::Origin,
        frame::{Frame, Tags, Wrapping},
        talk::Talk,
    },
    sockets::{PATIENCE, accept, begin_connect, connect, listen},
    topology::{FIRST_MAC, Family, INTERFACE, Placement, Topology},
    wait::eventually,
};

use crate::door::{Door, Offer, ack, answering, syn, talk};

/// Another cookie, of another minute.
const OTHER_MINUTE: u32 = 0x0100_0000;

/// Of a wrapping each; a priority tag names no VLAN.
fn distinct() -> impl Iterator<Item = (u32, Wrapping)> {
    let wrappings = Wrapping::ALL.into_iter();
    (0..).zip(wrappings.filter(|wrapping| wrapping.tags != Tags::Vlan(0)))
}

/// [sent, retransmitted] of the talk's listener.
fn sent(door: &Door, talk: &Talk) -> [u64; 2] {
    let known = door.known(talk);
    [known.sent, known.retransmitted]
}

#[test]
fn a_syn_that_comes_again_counts_as_such() {
    let mut door = Door::new();
    for (number, wrapping) in distinct() {
        let talk = talk(wrapping, number);
        door.learn(&talk);
        let request = syn(&talk, Offer::ALL);
        door.knock(&request).unwrap();
        assert_eq!(sent(&door, &talk), [1, 0]);
        for again in 1..=3 {
            // Its timestamp is another one, as a client's is.
            let mut request = request.clone();
            request.options[8..12].copy_from_slice(&(Offer::STAMP + again).to_be_bytes());
            door.knock(&request).unwrap();
            assert_eq!(sent(&door, &talk), [1 + u64::from(again), again.into()]);
        }
        // A new attempt from the same port is another connection.
        let other = Frame {
            seq: request.seq.wrapping_add(77),
            ..request.clone()
        };
        door.knock(&other).unwrap();
        assert_eq!(sent(&door, &talk), [5, 3]);
        // And it made the sketch forget the first one.
        door.knock(&request).unwrap();
        assert_eq!(sent(&door, &talk), [6, 3], "{wrapping:?}");
    }
    door.bench.settle().unwrap();
}

/// What an address is not answered is no retransmission of anything, either.
#[test]
fn what_is_not_answered_does_not_count_as_sent_again() {
    let mut door = Door::new();
    let live = Live {
        answer_rate: 1,
        ..answering()
    };
    door.bench.loaded.set_live(&live).unwrap();
    let talk = talk(Wrapping::ALL[0], 1);
    // The next second is near, and the listener not yet to be confirmed.
    door.bench.wait_ms(700).unwrap();
    door.learn(&talk);
    let request = syn(&talk, Offer::ALL);
    door.knock(&request).unwrap();
    for _ in 0..3 {
        let reason = door.bench.send(Origin::Wire, &request.summed()).unwrap();
        assert_eq!(reason, Reason::AnswerLimit);
    }
    assert_eq!(sent(&door, &talk), [1, 0]);
    door.bench.wait_ms(400).unwrap();
    door.knock(&request).unwrap();
    assert_eq!(sent(&door, &talk), [2, 1]);
}

/// The kernel takes a cookie back in the minute of its clock that follows its own;
/// the bench's clock is not the kernel's, so that the cookie here is of another
/// minute in its own right.
#[test]
fn a_cookie_that_comes_back_too_late_is_told_from_none() {
    let mut door = Door::new();
    for (number, wrapping) in distinct() {
        let talk = talk(wrapping, number);
        door.learn(&talk);
        let (_, reply) = door.knock(&syn(&talk, Offer::ALL)).unwrap();
        let mut late = ack(&talk, &reply, Offer::ALL);
        late.ack ^= OTHER_MINUTE;
        let counted = |door: &mut Door, frame: &Frame| {
            let reason = door.bench.send(Origin::Wire, &frame.summed()).unwrap();
            assert_eq!(reason, Reason::CookieInvalid);
            let known = door.known(&talk);
            [known.expired, known.invalid]
        };
        assert_eq!(counted(&mut door, &late), [0, 1]);
        door.bench.wait_ms(59_000).unwrap();
        assert_eq!(counted(&mut door, &late), [0, 2]);
        door.bench.wait_ms(3_000).unwrap();
        assert_eq!(counted(&mut door, &late), [1, 2], "{wrapping:?}");
        // Another connection of the same client was never answered.
        let mut stranger = late.clone();
        stranger.from.port ^= 0x4000;
        assert_eq!(counted(&mut door, &stranger), [1, 3]);
        let mut stranger = late.clone();
        stranger.seq = stranger.seq.wrapping_add(9);
        assert_eq!(counted(&mut door, &stranger), [1, 4]);
        // And one that the kernel takes nevertheless is no late one.
        let right = ack(&talk, &reply, Offer::ALL);
        let reason = door.bench.send(Origin::Wire, &right.summed()).unwrap();
        assert_eq!(reason, Reason::CookieReturned);
        assert_eq!(door.known(&talk).expired, 1);
    }
}

const PORT: u16 = 80;

/// The row of the one listener.
fn listed(tracker: &Tracker<'_>) -> Value {
    let text = tracker.ask(&["listeners", "-o", "json"]).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let row = rows.iter().find(|row| row["port"] == PORT);
    row.unwrap_or_else(|| panic!("no port {PORT} in {text}"))
        .clone()
}

/// Clients whose SYN-ACKs are lost send their SYNs again, and connect in the end.
#[test]
fn clients_that_hear_nothing_are_counted_where_they_knock() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (client, server) = (&topology.client.netns, &topology.server.netns);
    let listener = listen(server, topology.server.at(Family::V4, PORT)).unwrap();
    // One address each, since the sketch remembers one SYN of each.
    let hosts = [21, 22, 23, 24].map(|host| Ipv4Addr::new(192, 0, 2, host));
    for host in hosts {
        client
            .ip(&format!("addr add {host}/24 dev {INTERFACE}\n"))
            .unwrap();
        let known =
            format!("neigh replace {host} lladdr {FIRST_MAC} dev {INTERFACE} nud permanent\n");
        server.ip(&known).unwrap();
    }
    let file = Configuration::new(
        "mode = \"enforce\"\n[defence]\ncookies = \"always\"\ncookie_age = \"1s\"\ndrain = \"100ms\"\n",
    );
    // Generic, so that its answers cross a veth pair whose other end has no program.
    let tracker = file.start(&topology, &["--xdp", "generic"]);
    let at = topology.server.at(Family::V4, PORT);
    let first = connect(client, topology.client.at(Family::V4, 20_000), at).unwrap();
    let first = (first, accept(&listener).unwrap());
    assert_eq!(listed(&tracker)["cookies_retransmitted"], 0);

    let firewall = Firewall::new(client).unwrap();
    let mut knocking = vec![];
    let mut rules = vec![];
    for host in hosts {
        let from = SocketAddr::new(IpAddr::V4(host), 20_001);
        rules.push(firewall.drop(Packets::SynAck, at, from).unwrap());
        knocking.push(begin_connect(client, from, at).unwrap());
    }
    // One of them, a second later, goes to the stack to have the listener confirmed.
    let least = hosts.len() as u64 - 1;
    let row = eventually(SOON, || {
        let row = listed(&tracker);
        match row["cookies_retransmitted"].as_u64() {
            Some(again) if again >= least => Ok(row),
            _ => Err(format!("{row:#}")),
        }
    });
    assert!(row["cookies_sent"].as_u64() > row["cookies_retransmitted"].as_u64());
    assert_eq!(row["cookies_expired"], 0);
    let stats: Value =
        serde_json::from_str(&tracker.ask(&["stats", "-o", "json"]).unwrap()).unwrap();
    assert!(
        stats["defence"]["cookies"]["retransmitted"]
            .as_u64()
            .unwrap()
            >= least
    );
    drop(rules);
    for socket in &knocking {
        let accepted = accept(&listener).unwrap();
        assert!(accepted.peer_addr().is_ok());
        socket.set_nonblocking(false).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    drop(first);
    tracker.stop().unwrap();
}
