//! Limits of rules: how many connections they admit, and when there is room again.

use std::io::Write;

use socket2::Socket;
use tracker_tests::{
    configuration::SOON,
    sockets,
    spoof::{Segment, Spoofer},
    topology::{Family, Placement, Topology},
    wait::{eventually, wait_for},
};

use super::{Enforcer, FAMILIES, opens};

fn limited(limit: &str) -> String {
    format!(
        "default = \"drop\"\n[[rules]]\nname = \"limited\"\nports = [80]\naction = \"allow\"\n\
         limit = {{ {limit} }}\n[[rules]]\nname = \"other\"\nports = [81]\naction = \"allow\"\n"
    )
}

/// A listener, and clients of it.
struct Door<'a> {
    topology: &'a Topology,
    listener: Socket,
    family: Family,
    port: u16,
}

impl<'a> Door<'a> {
    fn new(topology: &'a Topology, family: Family, port: u16) -> Self {
        let at = topology.server.at(family, port);
        Self {
            topology,
            listener: sockets::listen(&topology.server.netns, at).unwrap(),
            family,
            port,
        }
    }

    /// A connection from a port of the client, both ends of it.
    fn open(&self, from: u16) -> Option<[Socket; 2]> {
        let from = self.topology.client.at(self.family, from);
        let to = self.topology.server.at(self.family, self.port);
        let client = opens(&self.topology.client.netns, from, to)?;
        Some([client, sockets::accept(&self.listener).unwrap()])
    }
}

/// The burst at once, then none until the time of one has passed.
#[test]
fn a_rate_admits_its_burst_and_then_one_at_a_time() {
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(&topology, &limited("rate = \"10/m\", burst = 3"));
    let door = Door::new(&topology, Family::V4, 80);
    for port in 40_000..40_003 {
        assert!(door.open(port).is_some(), "{port}");
    }
    assert!(door.open(40_003).is_none());
    let refused = enforcer.packets("rule_rate");
    assert!(refused >= 1, "{refused} refused");
    // Another rule's are not concerned.
    assert!(Door::new(&topology, Family::V4, 81).open(40_004).is_some());
    // One every six seconds, whatever was refused meanwhile.
    eventually(SOON, || {
        door.open(40_005)
            .map(drop)
            .ok_or_else(|| "none is admitted".to_owned())
    });
    assert!(door.open(40_006).is_none());
    enforcer.tracker.stop().unwrap();
}

#[test]
fn connections_at_once_are_given_back_when_they_end() {
    const MOST: u16 = 3;
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(&topology, &limited("connections = 3"));
    for family in FAMILIES {
        let door = Door::new(&topology, family, 80);
        let mut open: Vec<[Socket; 2]> = (40_000..40_000 + MOST)
            .map(|port| door.open(port).unwrap())
            .collect();
        let before = enforcer.packets("rule_flows");
        assert!(door.open(40_100).is_none(), "{family}");
        assert!(enforcer.packets("rule_flows") > before, "{family}");

        // By RST, then by FINs: one is free each time, and no more.
        for (number, port) in [(0, 40_200), (1, 40_300)] {
            let [client, server] = open.pop().unwrap();
            if number == 0 {
                sockets::reset(client).unwrap();
            } else {
                drop(client);
            }
            drop(server);
            let [client, server] = wait_for(SOON, || {
                door.open(port).ok_or_else(|| "none is admitted".to_owned())
            })
            .unwrap_or_else(|error| panic!("{family} {number}: {error}"));
            assert!(door.open(port + 1).is_none(), "{family} {number}");
            open.insert(0, [client, server]);
        }
        for [client, _] in open {
            sockets::reset(client).unwrap();
        }
        eventually(SOON, || match enforcer.tracker.stats().unwrap() {
            stats if stats.packets("reset_closed") >= 1 => Ok(()),
            _ => Err("no RST was seen".to_owned()),
        });
    }
    enforcer.tracker.stop().unwrap();
}

/// Segments that their receiver does not take for an end are none to the limit.
#[test]
fn spoofed_resets_free_no_place() {
    let topology = Topology::new(Placement::Server).unwrap();
    let enforcer = Enforcer::new(&topology, &limited("connections = 1"));
    let door = Door::new(&topology, Family::V4, 80);
    let [mut client, server] = door.open(40_000).unwrap();
    client.write_all(b"hello").unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let ends = [client.local_addr().unwrap(), server.local_addr().unwrap()];
    let [from, to] = ends.map(|end| end.as_socket().unwrap());
    // One in 65,536 of all numbers, which windows of less than that never meet
    // exactly but for one of them.
    for high in 0..256_u32 {
        let reset = Segment {
            from,
            to,
            seq: high << 24 | 0x0055_aa01,
            ack: None,
            syn: false,
            rst: true,
            payload: b"",
            damaged: false,
        };
        spoofer.send(&reset).unwrap();
    }
    eventually(SOON, || {
        let stats = enforcer
            .tracker
            .stats()
            .map_err(|error| format!("{error:#}"))?;
        let resets = [
            "reset_outside_window",
            "reset_inexact",
            "reset_late",
            "already_received",
        ];
        match resets
            .map(|reason| stats.packets(reason))
            .iter()
            .sum::<u64>()
        {
            256.. => Ok(()),
            count => Err(format!("{count} RSTs of 256")),
        }
    });
    assert!(door.open(40_001).is_none());
    client.write_all(b"still here").unwrap();
    drop([client, server]);
    eventually(SOON, || {
        door.open(40_002)
            .map(drop)
            .ok_or_else(|| "none is admitted".to_owned())
    });
    enforcer.tracker.stop().unwrap();
}

/// Half-open connections count, too, and end with their time-out: a SYN alone holds
/// no place for long.
#[test]
fn connections_that_are_never_answered_give_their_place_back() {
    let topology = Topology::new(Placement::Server).unwrap();
    let soon = "[timeouts]\nsyn_sent = \"3s\"\nsyn_received = \"3s\"\n";
    let enforcer = Enforcer::with(&topology, &limited("connections = 2"), "enforce", soon);
    let spoofer = Spoofer::new(&topology).unwrap();
    let door = Door::new(&topology, Family::V4, 80);
    for port in 50_000..50_010 {
        let syn = Segment {
            from: ([192, 0, 2, 77], port).into(),
            to: topology.server.at(Family::V4, 80),
            seq: 1000,
            ack: None,
            syn: true,
            rst: false,
            payload: b"",
            damaged: false,
        };
        spoofer.send(&syn).unwrap();
    }
    eventually(SOON, || match enforcer.packets("rule_flows") {
        8 => Ok(()),
        count => Err(format!("{count} refused")),
    });
    assert!(door.open(40_000).is_none());
    eventually(SOON, || {
        door.open(40_001)
            .map(drop)
            .ok_or_else(|| "none is admitted".to_owned())
    });
    enforcer.tracker.stop().unwrap();
}
