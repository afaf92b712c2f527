//! The harness, judged without a tracker: every scenario gets where it says.

use std::{collections::HashSet, fs, path::Path, process::Command, time::Duration};

use tracker_tests::{
    attached::Attached,
    frames::Crowd,
    netns::{Namespace, namespaces_of, run},
    nft::Firewall,
    scenario::{Stage, TABLE},
    ss::Snapshot,
    state::State,
    terminal::Terminal,
    topology::{Family, Placement, Topology},
    wait::{eventually, wait_for},
};

#[test]
fn a_namespace_disappears_with_its_owner() {
    let namespace = Namespace::new("short").unwrap();
    let name = namespace.name().to_owned();
    assert!(namespaces_of(std::process::id()).unwrap().contains(&name));
    drop(namespace);
    assert!(!namespaces_of(std::process::id()).unwrap().contains(&name));
}

#[test]
fn a_namespace_of_a_dead_process_is_removed() {
    // Longer than any process id.
    let stale = "tracker-t99999999-0-dead";
    run(Command::new("ip").args(["netns", "add", stale])).unwrap();
    // The janitor runs once in a process, so it takes another one. This very
    // binary does, with a test that makes a namespace.
    let this = std::env::current_exe().unwrap();
    run(Command::new(this).args(["--exact", "a_namespace_disappears_with_its_owner"])).unwrap();
    let stays = Path::new("/run/netns").join(stale).exists();
    if stays {
        run(Command::new("ip").args(["netns", "del", stale])).unwrap();
    }
    assert!(!stays);
}

#[test]
fn what_runs_inside_sees_its_interfaces_and_the_file_system_of_everybody() {
    let namespace = Namespace::new("inside").unwrap();
    let interfaces = namespace
        .run_in(|| fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap();
    assert_eq!(interfaces.unwrap().lines().skip(2).count(), 1, "only lo");
    let inside = run(namespace
        .command("readlink")
        .unwrap()
        .arg("/proc/self/ns/mnt"))
    .unwrap();
    assert_eq!(
        Path::new(inside.trim()),
        fs::read_link("/proc/self/ns/mnt").unwrap()
    );
}

#[test]
fn nothing_is_attached_to_a_fresh_interface() {
    let topology = Topology::new(Placement::Server).unwrap();
    let (netns, interfaces) = topology.tracked();
    for interface in interfaces {
        assert_eq!(Attached::to(netns, interface).unwrap(), Attached::default());
    }
}

/// The kernel's own account only: each scenario rests where its table row
/// says, so that a mismatch in the judge is the tracker's.
fn rest(placement: Placement, family: Family) {
    let topology = Topology::new(placement).unwrap();
    let at_client = Firewall::new(&topology.client.netns).unwrap();
    let at_server = Firewall::new(&topology.server.netns).unwrap();
    let mut held = Vec::new();
    let mut stages = Vec::new();
    for (number, scenario) in (0..).zip(TABLE) {
        let stage = Stage::new(
            &topology,
            &at_client,
            &at_server,
            family,
            (40_000 + number, 5_000 + number),
        );
        held.push((scenario.script)(&stage).unwrap_or_else(|e| panic!("{}: {e:#}", scenario.name)));
        stages.push(stage);
    }
    eventually(Duration::from_secs(40), || {
        for (scenario, stage) in TABLE.iter().zip(&stages) {
            let truth = stage.truth().map_err(|error| format!("{error:#}"))?;
            if (truth.client, truth.server) != scenario.rest
                || truth.syn_retransmits < scenario.syn_retransmits
                || truth.synack_retransmits < scenario.synack_retransmits
            {
                return Err(format!(
                    "{}: {truth:?}, not {:?}",
                    scenario.name, scenario.rest
                ));
            }
        }
        Ok(())
    });
}

#[test]
fn every_scenario_rests_where_it_says_between_hosts_over_ipv4() {
    rest(Placement::Server, Family::V4);
}

#[test]
fn every_scenario_rests_where_it_says_through_a_router_over_ipv6() {
    rest(Placement::Gateway, Family::V6);
}

#[test]
fn every_state_is_the_resting_point_of_some_scenario() {
    let seen: HashSet<State> = TABLE
        .iter()
        .flat_map(|scenario| [scenario.rest.0, scenario.rest.1])
        .collect();
    for state in State::ALL {
        assert!(seen.contains(&state), "{state}");
    }
}

#[test]
fn a_crowd_crosses_the_router_and_nobody_answers() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    for family in [Family::V4, Family::V6] {
        let crowd = Crowd::new(&topology, family).unwrap();
        crowd.open(0..1000).unwrap();
        assert_ne!(crowd.addresses(0), crowd.addresses(65_536));
    }
    for end in [&topology.client, &topology.server] {
        assert_eq!(Snapshot::take(&end.netns).unwrap(), Snapshot(Vec::new()));
    }
}

#[test]
fn a_process_on_a_terminal_sees_one_and_gets_its_keys() {
    let mut command = Command::new("sh");
    command.args(["-c", "test -t 0 && test -t 1 && stty size && exec sleep 60"]);
    let mut terminal = Terminal::start(command, 160, 60).unwrap();
    terminal
        .wait_for("60 160", Duration::from_secs(30))
        .unwrap();
    terminal.press("\x03").unwrap();
    let status = terminal.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGINT)
    );
}

#[test]
fn waiting_ends_with_the_last_mismatch() {
    let mut looks = 0;
    let mismatch = wait_for(Duration::ZERO, || {
        looks += 1;
        Err::<(), _>(format!("look {looks}"))
    });
    assert!(mismatch.unwrap_err().ends_with("look 1"));
    assert_eq!(wait_for(Duration::ZERO, || Ok(7)), Ok(7));
}
