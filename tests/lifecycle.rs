//! Beginning and end of an agent: what it attaches, what it leaves behind, and
//! what the next one finds.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    process::{Output, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tracker_tests::{
    agent::{self, Options, Tracker, fresh_pin_dir},
    attached::Attached,
    connection::Connection,
    flow::{self, Flow},
    sockets,
    state::State,
    topology::{Family, INTERFACE, LAN, Placement, Topology, WAN, cable},
    wait::eventually,
};

const SOON: Duration = Duration::from_secs(30);

/// What hangs on each interface while an agent runs.
const TRACKED: Attached = Attached {
    xdp: true,
    tcx: 1,
    clsact: false,
};

#[test]
fn a_host_agent_leaves_nothing_behind() {
    leaves_nothing(Placement::Server, Signal::SIGINT);
}

#[test]
fn a_gateway_agent_leaves_nothing_behind() {
    leaves_nothing(Placement::Gateway, Signal::SIGTERM);
}

fn leaves_nothing(placement: Placement, signal: Signal) {
    let topology = Topology::new(placement).unwrap();
    assert_attached(&topology, &Attached::default());

    let tracker = Tracker::start(&topology).unwrap();
    assert_attached(&topology, &TRACKED);
    let mode = fs::metadata(tracker.pin_dir())
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o700, "the pin directory is for root alone");
    let pins = tracker.pin_dir().to_owned();
    let connection = Connection::open(&topology, 40_000);
    let _ = connection.seen_by(&tracker);

    tracker.end(signal).unwrap();
    assert!(!pins.exists(), "{} stays", pins.display());
    assert_attached(&topology, &Attached::default());
    connection.talk();
}

/// Programs and tables outlive the agent, are read without one, go on
/// counting, and are taken over by the next agent.
#[test]
fn what_is_kept_goes_on_and_is_adopted() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let pins = fresh_pin_dir();
    let keep = || {
        Options::on(&topology)
            .pinned_at(&pins)
            .with(["--on-exit", "keep"])
    };
    let (netns, _) = topology.tracked();

    let tracker = keep().start().unwrap();
    let connection = Connection::open(&topology, 40_000);
    let before = connection.seen_by(&tracker);
    tracker.end(Signal::SIGINT).unwrap();
    assert_attached(&topology, &TRACKED);

    connection.talk();
    let meanwhile = connection
        .find(&agent::list(netns, &pins).unwrap())
        .unwrap();
    assert!(
        meanwhile.initiator.bytes > before.initiator.bytes,
        "{before}\n{meanwhile}"
    );

    let tracker = keep().start().unwrap();
    assert_attached(&topology, &TRACKED);
    connection.talk();
    let after = connection.seen_by(&tracker);
    older(&meanwhile, &after);
    assert_eq!(after.origin, "handshake");
    tracker.end(Signal::SIGTERM).unwrap();

    agent::ask(netns, &pins, &["unload"]).unwrap();
    assert!(!pins.exists(), "{} stays", pins.display());
    assert_attached(&topology, &Attached::default());
    connection.talk();
}

/// An agent that detaches at its end cleans up after one that kept.
#[test]
fn an_adopting_agent_may_detach() {
    let topology = Topology::new(Placement::Server).unwrap();
    let tracker = Options::on(&topology)
        .with(["--on-exit", "keep"])
        .start()
        .unwrap();
    let pins = tracker.pin_dir().to_owned();
    tracker.end(Signal::SIGINT).unwrap();
    assert!(pins.exists());
    let tracker = Options::on(&topology).pinned_at(&pins).start().unwrap();
    tracker.stop().unwrap();
    assert_attached(&topology, &Attached::default());
}

#[test]
fn an_agent_starts_again_after_it_was_killed() {
    let topology = Topology::new(Placement::Server).unwrap();
    let pins = Tracker::start(&topology).unwrap().kill().unwrap();
    let tracker = Options::on(&topology).pinned_at(&pins).start().unwrap();
    assert_attached(&topology, &TRACKED);
    let _ = Connection::open(&topology, 40_000).seen_by(&tracker);
    tracker.stop().unwrap();
    assert_attached(&topology, &Attached::default());
}

#[test]
fn a_killed_agent_that_keeps_loses_no_flow() {
    let topology = Topology::new(Placement::Server).unwrap();
    let tracker = Options::on(&topology)
        .with(["--on-exit", "keep"])
        .start()
        .unwrap();
    let connection = Connection::open(&topology, 40_000);
    let before = connection.seen_by(&tracker);
    let pins = tracker.kill().unwrap();
    assert_attached(&topology, &TRACKED);
    connection.talk();

    let tracker = Options::on(&topology).pinned_at(&pins).start().unwrap();
    assert_attached(&topology, &TRACKED);
    let after = connection.seen_by(&tracker);
    older(&before, &after);
    assert!(
        after.initiator.packets > before.initiator.packets,
        "{before}\n{after}"
    );
    tracker.stop().unwrap();
}

#[test]
fn a_second_agent_is_refused_with_the_id_of_the_first() {
    let topology = Topology::new(Placement::Server).unwrap();
    let first = Tracker::start(&topology).unwrap();
    let second = Options::on(&topology)
        .pinned_at(first.pin_dir())
        .run_to_end()
        .unwrap();
    let message = refusal(&second);
    assert!(message.contains(&first.pid().to_string()), "{message}");
    assert_attached(&topology, &TRACKED);
    let _ = Connection::open(&topology, 40_000).seen_by(&first);
    first.stop().unwrap();
}

/// The layout is written down as the target of a symbolic link, since a BPF
/// file system holds no files.
#[test]
fn a_foreign_layout_is_refused_and_can_be_unloaded() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (netns, _) = topology.tracked();
    let tracker = Options::on(&topology)
        .with(["--on-exit", "keep"])
        .start()
        .unwrap();
    let pins = tracker.pin_dir().to_owned();
    tracker.end(Signal::SIGINT).unwrap();
    fs::remove_file(pins.join("layout")).unwrap();
    symlink("tracker-layout-999", pins.join("layout")).unwrap();

    let message = refusal(
        &Options::on(&topology)
            .pinned_at(&pins)
            .run_to_end()
            .unwrap(),
    );
    assert!(
        message.contains("999") && message.contains("tracker unload"),
        "{message}"
    );
    let message = format!("{:#}", agent::list(netns, &pins).unwrap_err());
    assert!(
        message.contains("999") && message.contains("tracker unload"),
        "{message}"
    );
    assert_attached(&topology, &TRACKED);

    agent::ask(netns, &pins, &["unload"]).unwrap();
    assert!(!pins.exists(), "{} stays", pins.display());
    assert_attached(&topology, &Attached::default());
}

#[test]
fn without_a_tracker_there_is_nothing_to_list() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (netns, _) = topology.tracked();
    let pins = fresh_pin_dir();
    for command in ["list", "stats", "flush"] {
        let message = format!("{:#}", agent::ask(netns, &pins, &[command]).unwrap_err());
        assert!(
            message.contains("error: ") && message.contains("tracker run"),
            "{message}"
        );
    }
}

#[test]
fn an_interface_that_disappears_is_reported_and_the_rest_goes_on_until_it_is_back() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let (router, _) = topology.tracked();
    let tracker = Tracker::start(&topology).unwrap();
    let before = tracker.log();
    router.ip(&format!("link del {WAN}")).unwrap();
    tracker.wait_for_log(&before, WAN, SOON).unwrap();

    // The router itself can still be reached, and is tracked.
    let (client, gate) = (
        topology.client.at(Family::V4, 40_000),
        "192.0.2.254:22".parse().unwrap(),
    );
    let listener = sockets::listen(router, gate).unwrap();
    let _connected = sockets::connect(&topology.client.netns, client, gate).unwrap();
    let _accepted = sockets::accept(&listener).unwrap();
    eventually(SOON, || {
        let flows = tracker.list().map_err(|error| format!("{error:#}"))?;
        match flows.iter().find(|flow| flow.connects(client, gate)) {
            Some(flow) if flow.states() == (State::Established, State::Established) => Ok(()),
            _ => Err(format!("not established:\n{}", flow::table(&flows))),
        }
    });
    assert_eq!(Attached::to(router, LAN).unwrap(), TRACKED);

    cable((router, WAN), (&topology.server.netns, INTERFACE)).unwrap();
    eventually(SOON, || match Attached::to(router, WAN).unwrap() {
        TRACKED => Ok(()),
        other => Err(format!(
            "it is back, and {other:?} hangs on it:\n{}",
            tracker.log()
        )),
    });
    tracker.stop().unwrap();
    assert_attached(&topology, &Attached::default());
}

/// In a mount namespace of its own, where the file system is taken away.
#[test]
fn a_missing_bpf_file_system_is_mounted() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (netns, _) = topology.tracked();
    let script = "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec \"$@\"";
    let mut command = netns.command("unshare").unwrap();
    command.args(["--mount", "sh", "-c", script, "sh"]);
    let run = Options::on(&topology).command().unwrap();
    command.arg(run.get_program()).args(run.get_args());
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let ready = lines.any(|line| {
        log.push(line.unwrap());
        log.last()
            .is_some_and(|line| line.contains("tracker ready"))
    });
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    // Ended already, if it was never ready.
    let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    assert!(
        child.wait().unwrap().success() && ready,
        "{}",
        log.join("\n")
    );
}

/// The text of an error that a command ended with: status 1 and `error: …` on
/// stderr.
fn refusal(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: "), "{message}");
    message
}

fn assert_attached(topology: &Topology, expected: &Attached) {
    let (netns, interfaces) = topology.tracked();
    for interface in interfaces {
        assert_eq!(
            &Attached::to(netns, interface).unwrap(),
            expected,
            "on {interface}"
        );
    }
}

/// The same flow, later.
fn older(before: &Flow, after: &Flow) {
    assert!(
        after.age_ms >= before.age_ms
            && after.initiator.packets >= before.initiator.packets
            && after.responder.packets >= before.responder.packets
            && after.initiator.bytes >= before.initiator.bytes
            && after.responder.bytes >= before.responder.bytes,
        "not the same flow:\n{before}\n{after}"
    );
}
