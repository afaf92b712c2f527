//! The flood generator: every frame is whole, unlike the others, and accounted
//! for.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use flood_ebpf::Slot;
use tracker_tests::{
    flood::{
        ends::{Attached, Program},
        frame::{Kind, Target},
        generator::{Generator, Sent},
        ring::Ring,
    },
    netns::run,
    topology::{FIRST_MAC, Family, INTERFACE, Placement, SECOND_MAC, Topology, mac_of},
};

/// Frames of a flood here.
const FRAMES: u32 = 200_000;

/// A port on which nobody listens.
const PORT: u16 = 80;

/// A flood takes a core for itself: two at once fill each other's queue.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn generator(topology: &Topology, kind: Kind, family: Family) -> Generator {
    let target = Target {
        at: topology.server.at(family, PORT),
        from_mac: mac_of(FIRST_MAC),
        to_mac: mac_of(SECOND_MAC),
    };
    Generator::new(INTERFACE, kind, &target, 793).unwrap()
}

/// Sends [`FRAMES`] from the client, and says what the queue of the server's
/// interface did with them.
fn flood(topology: &Topology, kind: Kind, family: Family) -> (Sent, Ring) {
    let client = &topology.client.netns;
    let before = Ring::so_far(client, INTERFACE).unwrap();
    let sent = client
        .run_in(|| generator(topology, kind, family).send(FRAMES).unwrap())
        .unwrap()
        .0;
    (sent, Ring::so_far(client, INTERFACE).unwrap().since(before))
}

#[test]
fn every_frame_arrives_or_is_counted_as_lost() {
    let _alone = alone();
    let topology = Topology::new(Placement::Server).unwrap();
    let sink = Attached::new(Program::Sink, &topology.server.netns, INTERFACE).unwrap();
    let mut arrived = 0;
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Syn, Kind::Ack, Kind::Mixed] {
            let (sent, ring) = flood(&topology, kind, family);
            let sunk = sink.count(Slot::Arrived).unwrap() - arrived;
            println!("{family} {kind:?}: {sent:?}, {ring:?}, {sunk} arrived");
            assert_eq!(sent.frames, u64::from(FRAMES));
            assert_eq!(sent.frames, ring.taken + ring.lost, "{ring:?}");
            assert_eq!(sunk, ring.taken, "{family} {kind:?}");
            arrived += sunk;
        }
    }
}

#[test]
fn a_paced_flood_keeps_its_pace_and_its_time() {
    const RATE: u32 = 20_000;
    const TIME: Duration = Duration::from_millis(500);
    let _alone = alone();
    let topology = Topology::new(Placement::Server).unwrap();
    let sink = Attached::new(Program::Sink, &topology.server.netns, INTERFACE).unwrap();
    let client = &topology.client.netns;
    let sent = client
        .run_in(|| {
            let mut generator = generator(&topology, Kind::Syn, Family::V4);
            generator.send_for(TIME, Some(RATE)).unwrap()
        })
        .unwrap();
    let ring = Ring::so_far(client, INTERFACE).unwrap();
    println!("{sent:?}, {ring:?}");
    assert_eq!(sent.frames, ring.taken + ring.lost);
    assert_eq!(sink.count(Slot::Arrived).unwrap(), ring.taken);
    // Never faster; how much slower is up to what else the machine does.
    let most = f64::from(RATE) * sent.elapsed.as_secs_f64();
    assert!(
        sent.frames > 0 && sent.frames as f64 <= most * 1.05,
        "{sent:?}"
    );
    assert!(sent.elapsed >= TIME, "{sent:?}");
}

#[test]
fn what_the_mirror_sends_back_is_absorbed() {
    let _alone = alone();
    let topology = Topology::new(Placement::Server).unwrap();
    let mirror = Attached::new(Program::Mirror, &topology.server.netns, INTERFACE).unwrap();
    let absorber = Attached::new(Program::Absorb, &topology.client.netns, INTERFACE).unwrap();
    for family in [Family::V4, Family::V6] {
        flood(&topology, Kind::Syn, family);
    }
    // The queue on the way back belongs to the server.
    let back = Ring::so_far(&topology.server.netns, INTERFACE).unwrap();
    let arrived = mirror.count(Slot::Arrived).unwrap();
    let absorbed = absorber.count(Slot::Other).unwrap();
    assert!(
        absorbed > 0 && absorbed <= arrived,
        "{absorbed} of {arrived}"
    );
    assert_eq!(absorber.count(Slot::SynAck).unwrap(), 0);
    println!("{arrived} arrived, {absorbed} came back, {back:?}");
}

/// The kernel answers every SYN to a closed port, if its checksums are right.
#[test]
fn a_stack_takes_every_frame_for_a_segment() {
    let _alone = alone();
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    // Live frames reach a stack only behind a veth with a program or with GRO.
    run(server
        .command("ethtool")
        .unwrap()
        .args(["-K", INTERFACE, "gro", "on"]))
    .unwrap();
    server
        .ip("route add default via 192.0.2.1\nroute add ::/0 via 2001:db8:1::1\n")
        .unwrap();
    let absorber = Attached::new(Program::AbsorbTc, &topology.client.netns, INTERFACE).unwrap();
    let mut resets = 0;
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Syn, Kind::Ack] {
            let (_, ring) = flood(&topology, kind, family);
            let answered = absorber.count(Slot::Reset).unwrap() - resets;
            // A backlog drops some when a busy machine gives its core away.
            println!("{family} {kind:?}: {ring:?}, {answered} answered");
            assert!(answered <= ring.taken, "{family} {kind:?}: {ring:?}");
            assert!(
                answered >= ring.taken / 10 * 9,
                "{family} {kind:?}: {answered} answered, {ring:?}"
            );
            resets += answered;
        }
    }
}

#[test]
fn frames_are_whole_and_differ() {
    let topology = Topology::new(Placement::Server).unwrap();
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Syn, Kind::Ack, Kind::Mixed] {
            let frames: Vec<_> = topology
                .client
                .netns
                .run_in(|| {
                    let mut generator = generator(&topology, kind, family);
                    (0..2000).map(|_| generator.sample().unwrap()).collect()
                })
                .unwrap();
            let seen: Vec<_> = frames.iter().map(|frame| look(kind, frame)).collect();
            let (tuples, flags): (HashSet<_>, HashSet<_>) = seen.into_iter().unzip();
            assert_eq!(tuples.len(), frames.len(), "{family} {kind:?}");
            match kind {
                Kind::Syn | Kind::Ack => assert_eq!(flags.len(), 1),
                Kind::Mixed => assert!(flags.len() > 200, "{} sets of flags", flags.len()),
            }
        }
    }
}

/// Checks a frame's checksums; gives its source and its flags.
fn look(kind: Kind, frame: &[u8]) -> ((Vec<u8>, u16), u8) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        panic!("no TCP in {frame:02x?}");
    };
    let (source, sum) = match packet.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            assert_eq!(header.source()[0] >> 4, 1);
            (
                header.source().to_vec(),
                tcp.calc_checksum_ipv4(header.source(), header.destination()),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source().to_vec(),
                tcp.to_header().calc_checksum_ipv6_raw(
                    header.source(),
                    header.destination(),
                    tcp.payload(),
                ),
            )
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!(sum.unwrap(), tcp.checksum(), "{frame:02x?}");
    assert!(tcp.source_port() >= 1024);
    assert_eq!(tcp.destination_port(), PORT);
    if kind == Kind::Syn {
        assert!(tcp.syn() && !tcp.ack());
        assert_eq!(tcp.options().len(), 20);
    }
    ((source, tcp.source_port()), tcp.slice()[13])
}
