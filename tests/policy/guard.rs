//! Nobody cuts himself off by a policy, unless he says so.

use tracker_tests::topology::{Placement, Topology};

use crate::{CLOSED, FAMILIES, Files, OPEN, Pair, WEB, connects, refused, rules, tell};

#[test]
fn a_policy_that_cuts_ssh_is_refused_with_peer_and_rule() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let closed = files.write("closed.toml", CLOSED);
    let closed = closed.to_string_lossy();
    for (number, family) in (0..).zip(FAMILIES) {
        let ssh = Pair::open(&topology, family, (40_000 + number, 22));
        let client = topology.client.at(family, 40_000 + number).to_string();
        let message = refused(&topology, &tracker, &["policy", "apply", &closed]);
        assert!(
            message.contains(&client)
                && message.contains("`default`")
                && message.contains("--force"),
            "{message}"
        );
        assert_eq!(rules(&tracker), ["default"]);
        ssh.talk().unwrap();
    }
    // Nobody is connected any more.
    tracker.ask(&["policy", "apply", &closed]).unwrap();
    tracker.stop().unwrap();
}

#[test]
fn force_and_a_rule_for_the_peer_both_help() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let ssh = Pair::open(&topology, FAMILIES[0], (40_000, 22));
    let allowing = format!(
        "{WEB}[[rules]]\nname = \"ssh\"\nfrom = \"192.0.2.0/24\"\ninterface = \"eth0\"\nports = [22]\n\
         action = \"allow\"\n"
    );
    let allowing = files.write("allowing.toml", &allowing);
    tracker
        .ask(&["policy", "apply", &allowing.to_string_lossy()])
        .unwrap();
    ssh.talk().unwrap();
    let closed = files.write("closed.toml", CLOSED);
    let forced = tell(
        &topology,
        &tracker,
        &["policy", "apply", &closed.to_string_lossy(), "--force"],
    );
    let message = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(forced.status.success(), "{message}");
    assert!(
        message.contains("warning: the policy would cut off"),
        "{message}"
    );
    // It was not judged anew, so it goes on; another one does not come about.
    ssh.talk().unwrap();
    assert!(!connects(&topology, FAMILIES[0], (40_001, 22)));
    tracker.stop().unwrap();
}

#[test]
fn an_agent_that_would_cut_ssh_does_not_start() {
    let topology = Topology::new(Placement::Server).unwrap();
    let ssh = Pair::open(&topology, FAMILIES[1], (40_000, 22));
    let files = Files::new(CLOSED);
    let output = files.options(&topology).run_to_end().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let client = topology.client.at(FAMILIES[1], 40_000).to_string();
    assert!(
        message.contains(&client) && message.contains("`default`"),
        "{message}"
    );
    ssh.talk().unwrap();
    // One that observes does, and says what would be.
    let files = Files::with(CLOSED, "mode = \"observe\"\n", "");
    let tracker = files.start(&topology);
    assert!(tracker.log().contains("would cut off"), "{}", tracker.log());
    ssh.talk().unwrap();
    tracker.stop().unwrap();
}

#[test]
fn named_peers_must_reach_a_management_port() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let server = topology.server.at(FAMILIES[0], 2222);
    let _listener = tracker_tests::sockets::listen(&topology.server.netns, server).unwrap();
    let management = "[management]\nports = [2222]\npeers = [\"192.0.2.0/24\"]\n";
    let half = format!(
        "default = \"drop\"\n[[rules]]\nname = \"half\"\nfrom = \"192.0.2.0/25\"\nports = [2222]\n\
         action = \"allow\"\n{management}"
    );
    let half = files.write("half.toml", &half);
    let message = refused(
        &topology,
        &tracker,
        &["policy", "apply", &half.to_string_lossy()],
    );
    assert!(
        message.contains("192.0.2.128:") && message.contains("`default`"),
        "{message}"
    );
    let whole = format!(
        "default = \"drop\"\n[[rules]]\nname = \"whole\"\nfrom = \"192.0.2.0/24\"\nports = [2222]\n\
         action = \"allow\"\n{management}"
    );
    let whole = files.write("whole.toml", &whole);
    tracker
        .ask(&["policy", "apply", &whole.to_string_lossy()])
        .unwrap();
    tracker.stop().unwrap();
}
