//! What an agent leaves behind for the next one.

use tracker_tests::{
    agent::{Tracker, ask},
    topology::{Placement, Topology},
};

use crate::{CLOSED, FAMILIES, Files, OPEN, Pair, WEB, connects, rules, shown, until_rules};

/// Kills the agent, and starts another one at its pins.
fn again<'a>(files: &Files, topology: &'a Topology, tracker: Tracker<'_>) -> Tracker<'a> {
    let pins = tracker.kill().unwrap();
    files.options(topology).pinned_at(pins).start().unwrap()
}

#[test]
fn a_killed_agents_policy_goes_on() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let web = files.write("web.toml", WEB);
    tracker
        .ask(&["policy", "apply", &web.to_string_lossy()])
        .unwrap();
    let pair = Pair::open(&topology, FAMILIES[0], (40_000, 80));
    let numbers = |tracker: &Tracker<'_>| {
        let shown = shown(tracker);
        let rules = shown["rules"].as_array().unwrap().clone();
        let numbers = rules.iter().map(|rule| rule["number"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    let before = numbers(&tracker);
    let tracker = again(&files, &topology, tracker);
    assert_eq!(rules(&tracker), ["web", "default"]);
    assert_eq!(numbers(&tracker), before);
    assert_eq!(shown(&tracker)["policy"]["by"], "apply");
    pair.talk().unwrap();
    assert!(!connects(&topology, FAMILIES[0], (40_001, 8080)));
    // The configured one was edited: it wins.
    files.write("configured.toml", &WEB.replace("web", "www"));
    let tracker = again(&files, &topology, tracker);
    assert_eq!(rules(&tracker), ["www", "default"]);
    pair.talk().unwrap();
    tracker.stop().unwrap();
}

#[test]
fn what_nobody_can_confirm_any_more_returns_with_the_next_agent() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    let closed = files.write("closed.toml", CLOSED);
    let (netns, _) = topology.tracked();
    let mut applying = netns
        .command(tracker_tests::agent::binary().unwrap())
        .unwrap()
        .args(["policy", "apply"])
        .arg(&closed)
        .args(["--confirm", "600", "--pin-dir"])
        .arg(tracker.pin_dir())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_rules(&tracker, &[]);
    let tracker = again(&files, &topology, tracker);
    assert!(!applying.wait().unwrap().success());
    assert_eq!(rules(&tracker), ["web", "default"]);
    assert!(connects(&topology, FAMILIES[0], (40_000, 80)));
    tracker.stop().unwrap();
}

#[test]
fn an_orderly_end_leaves_nothing() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    let records = std::fs::read_link(tracker.pin_dir().join("run")).unwrap();
    assert!(records.join("control.sock").exists() && records.join("policy.json").exists());
    tracker.stop().unwrap();
    assert!(!records.exists());
    // And neither does `unload` after a killed one.
    let tracker = files.start(&topology);
    let pins = tracker.kill().unwrap();
    let records = std::fs::read_link(pins.join("run")).unwrap();
    let (netns, _) = topology.tracked();
    ask(netns, &pins, &["unload"]).unwrap();
    assert!(!records.exists() && !pins.exists());
}
