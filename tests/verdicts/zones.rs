//! Which packets belong to one flow: zones, tags, interfaces and listeners.

use std::net::TcpListener;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tracker::datapath::LoadOptions;
use tracker_common::{
    abi::{Family, Flow, Interface, Role, ZoneKey, flow_flags, interface_flags},
    reason::Reason,
    tcp::State::{Established as ES, SynReceived as SR, SynSent as SS},
};
use tracker_tests::program::{
    bench::{Bench, Origin, options},
    frame::{Tags, Wrapping},
    talk::{A, B, End, Seg, Talk},
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn talk(family: Family, tags: Tags) -> Talk {
    Talk::new(Wrapping { family, tags }, 1)
}

fn expect(bench: &mut Bench, origin: Origin, talk: Talk, segment: Seg, reason: Reason) {
    let frame = talk.frame(segment).bytes();
    bench
        .expect(origin, &frame, reason)
        .unwrap_or_else(|error| panic!("{segment:?} of {talk:?}: {error:#}"));
}

/// The only flow.
fn only(bench: &Bench, family: Family) -> Flow {
    let flows = bench.flows(family).unwrap();
    assert_eq!(flows.len(), 1, "{flows:?}");
    flows[0].1
}

#[test]
fn tags_keep_a_hosts_flows_apart() {
    let mut bench = Bench::new().unwrap();
    for family in FAMILIES {
        let stacks = [
            Tags::Untagged,
            Tags::Vlan(5),
            Tags::Vlan(6),
            Tags::QinQ(5, 6),
            Tags::QinQ(6, 5),
        ];
        for (index, tags) in stacks.into_iter().enumerate() {
            let talk = talk(family, tags);
            expect(&mut bench, Origin::Wire, talk, A.syn(), Reason::FlowOpened);
            assert_eq!(bench.flows(family).unwrap().len(), index + 1);
            let flow = bench.flow(family, &talk.key()).unwrap().unwrap();
            let vids = match tags {
                Tags::Untagged => (0, 0),
                Tags::Vlan(vid) => (vid, 0),
                Tags::QinQ(outer, inner) => (outer, inner),
            };
            assert_eq!((flow.paths[0].outer(), flow.paths[0].inner()), vids);
            assert_eq!(flow.paths[0].ifindex(), bench.ifindex(Origin::Wire));
        }
        // A priority tag names no VLAN.
        let prioritized = talk(family, Tags::Vlan(0));
        expect(
            &mut bench,
            Origin::Wire,
            prioritized,
            A.syn(),
            Reason::SynRetransmit,
        );
    }
    bench.settle().unwrap();
}

#[test]
fn a_gateways_flow_changes_its_tag_on_the_way() {
    let mut bench = Bench::with(&LoadOptions {
        role: Role::Gateway,
        ..options()
    })
    .unwrap();
    for family in FAMILIES {
        let [forth, back] = [10, 20].map(|vid| talk(family, Tags::Vlan(vid)));
        expect(&mut bench, Origin::Wire, forth, A.syn(), Reason::FlowOpened);
        expect(
            &mut bench,
            Origin::Forwarded,
            back,
            B.syn_ack(),
            Reason::Tracked,
        );
        let flow = only(&bench, family);
        assert_eq!(flow.states(), [SS, SR]);
        assert_eq!(flow.paths.map(|path| path.outer()), [10, 20]);
    }
}

#[test]
fn a_configured_zone_replaces_the_tags() {
    let mut bench = Bench::with(&LoadOptions {
        zones: true,
        ..options()
    })
    .unwrap();
    for (origin, outer) in [(Origin::Wire, 10), (Origin::Host, 20)] {
        let key = ZoneKey {
            ifindex: bench.ifindex(origin),
            outer,
            inner: 0,
        };
        bench.loaded.set_zone(&key, 77).unwrap();
    }
    for family in FAMILIES {
        let [forth, back] = [10, 20].map(|vid| talk(family, Tags::Vlan(vid)));
        expect(&mut bench, Origin::Wire, forth, A.syn(), Reason::FlowOpened);
        expect(&mut bench, Origin::Host, back, B.syn_ack(), Reason::Tracked);
        let (key, _) = bench.flows(family).unwrap()[0];
        let zone = match family {
            Family::V4 => key.words[3],
            Family::V6 => key.words[9],
        };
        assert_eq!(zone, 77);
        // The other way round the tags have no configured zone.
        expect(&mut bench, Origin::Wire, back, A.syn(), Reason::FlowOpened);
        assert_eq!(bench.flows(family).unwrap().len(), 2);
    }
}

/// A NIC that takes a tag off hides it from XDP, so on its interface no tag can
/// be part of the key in either direction.
#[test]
fn a_stripped_tag_is_no_part_of_the_key() {
    let mut bench = Bench::new().unwrap();
    let strips = Interface {
        flags: interface_flags::STRIPS_TAGS,
    };
    for origin in [Origin::Wire, Origin::Host] {
        bench
            .loaded
            .set_interface(bench.ifindex(origin), strips)
            .unwrap();
    }
    for family in FAMILIES {
        for (number, sent, received) in [
            (0, Tags::Vlan(10), Tags::Untagged),
            (1, Tags::QinQ(10, 20), Tags::Vlan(20)),
        ] {
            let [out, back] =
                [sent, received].map(|tags| Talk::new(Wrapping { family, tags }, number));
            expect(&mut bench, Origin::Host, out, A.syn(), Reason::FlowOpened);
            expect(&mut bench, Origin::Wire, back, B.syn_ack(), Reason::Tracked);
        }
        assert_eq!(bench.flows(family).unwrap().len(), 2);
    }
}

/// Who opened a connection met in mid-life: not the side that listens, where
/// that is known; else the one with the higher port, as a guess.
#[test]
fn a_pick_ups_initiator_is_not_the_listener() {
    const LISTENING: u16 = 50_000;
    let mut bench = Bench::new().unwrap();
    let listeners = [Domain::IPV4, Domain::IPV6].map(listen_on::<LISTENING>);
    // The side that this host is: the packet of A comes in or goes out.
    for (origin, host) in [(Origin::Wire, B), (Origin::Host, A)] {
        for family in FAMILIES {
            let mut heard = talk(family, Tags::Untagged);
            // By port alone the listener would be the initiator.
            heard.ends[host as usize].port = LISTENING;
            heard.ends[host.peer() as usize].port = 1024;
            assert_eq!(picked_up(&mut bench, origin, heard), (host.peer(), false));

            let mut unheard = heard;
            unheard.ends[host as usize].port = LISTENING + 1;
            assert_eq!(picked_up(&mut bench, origin, unheard), (host, true));
            bench.flush().unwrap();
        }
    }
    drop(listeners);
}

/// Lets an ACK of A be picked up: the initiator and whether it is a guess.
fn picked_up(bench: &mut Bench, origin: Origin, talk: Talk) -> (End, bool) {
    expect(bench, origin, talk, A.ack(), Reason::FlowPickedUp);
    let family = talk.wrapping.family;
    let flow = bench.flow(family, &talk.key()).unwrap().unwrap();
    assert_eq!(flow.states(), [ES, ES]);
    // Only A has sent anything.
    let initiator = if flow.ends[0].packets() == 1 { A } else { B };
    (initiator, flow.has(flow_flags::GUESSED))
}

fn listen_on<const PORT: u16>(domain: Domain) -> TcpListener {
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
    let address = if domain == Domain::IPV6 {
        socket.set_only_v6(true).unwrap();
        std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT))
    } else {
        std::net::SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, PORT))
    };
    socket.bind(&address.into()).unwrap();
    socket.listen(1).unwrap();
    socket.into()
}
