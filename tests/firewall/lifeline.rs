//! A connection by which a machine is managed outlives a policy that drops everything,
//! a restart of the agent, and its sudden death.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use socket2::Socket;
use tracker_tests::{
    agent::{Tracker, ask, fresh_pin_dir},
    configuration::Configuration,
    sockets,
    topology::{Family, Placement, Topology},
};

use crate::{
    actions::{FAMILIES, opens},
    policy::Policy,
};

/// Where shells are asked for.
const SSH: u16 = 22;

/// A shell: both ends of its connection.
struct Shell {
    client: Socket,
    server: Socket,
}

impl Shell {
    fn open(topology: &Topology, listener: &Socket, family: Family, port: u16) -> Self {
        let from = topology.client.at(family, port);
        let to = topology.server.at(family, SSH);
        let client = sockets::connect(&topology.client.netns, from, to).unwrap();
        let server = sockets::accept(listener).unwrap();
        let shell = Self { client, server };
        shell.talk();
        shell
    }

    /// A key and its echo.
    fn talk(&self) {
        let mut key = [0];
        (&self.client).write_all(b"x").unwrap();
        (&self.server).read_exact(&mut key).unwrap();
        (&self.server).write_all(&key).unwrap();
        (&self.client).read_exact(&mut key).unwrap();
    }
}

#[test]
fn a_shell_outlives_a_closed_policy_a_restart_and_a_kill() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (client, server) = (&topology.client.netns, &topology.server.netns);
    let listeners = FAMILIES.map(|family| {
        let at = topology.server.at(family, SSH);
        (family, sockets::listen(server, at).unwrap())
    });
    // Of each family one talks, and the other says nothing until the end.
    let [active, idle] = [40_000, 40_001].map(|port| {
        listeners
            .each_ref()
            .map(|(family, listener)| Shell::open(&topology, listener, *family, port))
    });
    let talk = |shells: &[Shell; 2]| shells.iter().for_each(Shell::talk);
    // Whoever comes later is not let in.
    let is_shut = |family, port| {
        let (from, to) = (
            topology.client.at(family, port),
            topology.server.at(family, SSH),
        );
        assert!(opens(client, from, to).is_none(), "{family} {port}");
    };

    let open = Policy::new("default = \"allow\"\n");
    let closed = Policy::new("default = \"drop\"\n");
    let file = Configuration::new(&open.enforced());
    let pins = fresh_pin_dir();
    let start = || -> Tracker<'_> {
        let options = file.options(&topology).pinned_at(&pins);
        options.with(["--on-exit", "keep"]).start().unwrap()
    };
    let tracker = start();
    talk(&active);
    // Nobody cuts himself off by accident.
    let refusal = format!("{:#}", closed.apply(&tracker, &[]).unwrap_err());
    assert!(refusal.contains("--force"), "{refusal}");
    closed.apply(&tracker, &["--force"]).unwrap();
    talk(&active);
    for family in FAMILIES {
        is_shut(family, 41_000);
    }

    tracker.end(Signal::SIGTERM).unwrap();
    talk(&active);
    is_shut(Family::V4, 41_001);
    let tracker = start();
    talk(&active);
    is_shut(Family::V6, 41_002);

    tracker.kill().unwrap();
    talk(&active);
    is_shut(Family::V4, 41_003);
    let tracker = start();
    talk(&active);
    is_shut(Family::V6, 41_004);

    // Another policy that nobody confirms leaves, and the shell does not notice. What
    // `apply` says of that is not asked here.
    let _ = open.apply(&tracker, &["--confirm", "1"]);
    talk(&active);
    is_shut(Family::V4, 41_005);
    talk(&idle);
    tracker.end(Signal::SIGTERM).unwrap();
    ask(server, &pins, &["unload"]).unwrap();
}
