//! A configured policy that is edited while the agent runs.

use nix::sys::signal::Signal;
use tracker_tests::{
    topology::{Placement, Topology},
    wait::eventually,
};

use crate::{FAMILIES, Files, OPEN, SOON, WEB, connects, policy_stats, rules, until_rules};

#[test]
fn sighup_reads_it_again_and_a_broken_one_changes_nothing() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    files.write("configured.toml", WEB);
    tracker.signal(Signal::SIGHUP).unwrap();
    until_rules(&tracker, &["web"]);
    files.write(
        "configured.toml",
        "default = \"drop\"\n[[rules]]\nname = \n",
    );
    let before = tracker.log();
    tracker.signal(Signal::SIGHUP).unwrap();
    tracker
        .wait_for_log(&before, "the policy in force stays as it is", SOON)
        .unwrap();
    let stats = policy_stats(&tracker);
    assert_eq!(stats["errors"], 1);
    assert!(
        stats["last_error"]
            .as_str()
            .unwrap()
            .contains("configured.toml:3"),
        "{stats}"
    );
    assert_eq!(rules(&tracker), ["web", "default"]);
    assert!(connects(&topology, FAMILIES[0], (40_000, 80)));
    assert!(!connects(&topology, FAMILIES[0], (40_001, 81)));
    files.write("configured.toml", OPEN);
    tracker.signal(Signal::SIGHUP).unwrap();
    until_rules(&tracker, &[]);
    assert_eq!(
        policy_stats(&tracker)["last_error"],
        serde_json::Value::Null
    );
    tracker.stop().unwrap();
}

#[test]
fn a_watched_file_is_read_when_it_changes() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::with(
        "default = \"drop\"\n[sets.office]\nfile = \"office\"\n[[rules]]\nname = \"office\"\nfrom = \
         \"@office\"\nports = [80]\naction = \"allow\"\n",
        "mode = \"enforce\"\n",
        "watch = true\n",
    );
    files.write("office", "203.0.113.0/24\n");
    let tracker = files.start(&topology);
    assert!(!connects(&topology, FAMILIES[0], (40_000, 80)));
    files.write("office", "203.0.113.0/24\n192.0.2.0/24\n");
    eventually(SOON, || {
        match connects(&topology, FAMILIES[0], (40_001, 80)) {
            true => Ok(()),
            false => Err("the set is what it was".to_owned()),
        }
    });
    // A set whose file is gone stays.
    let before = tracker.log();
    std::fs::remove_file(files.write("office", "")).unwrap();
    tracker.wait_for_log(&before, "office", SOON).unwrap();
    assert!(connects(&topology, FAMILIES[0], (40_002, 80)));
    eventually(SOON, || match policy_stats(&tracker)["errors"].as_u64() {
        Some(errors) if errors > 0 => Ok(()),
        other => Err(format!("{other:?} errors")),
    });
    tracker.stop().unwrap();
}

#[test]
fn a_rule_follows_its_interface() {
    let topology = Topology::new(Placement::Server).unwrap();
    let policy = WEB.replace(
        "name = \"web\"",
        "name = \"web\"\ninterface = [\"eth0\", \"late0\"]",
    );
    let files = Files::new(&policy);
    let tracker = files.start(&topology);
    assert!(tracker.log().contains("late0"), "{}", tracker.log());
    assert!(connects(&topology, FAMILIES[0], (40_000, 80)));
    let before = tracker.log();
    let (netns, _) = topology.tracked();
    netns
        .ip("link add late0 type veth peer name late1\n")
        .unwrap();
    tracker
        .wait_for_log(&before, "rules about late0 follow", SOON)
        .unwrap();
    assert!(connects(&topology, FAMILIES[0], (40_001, 80)));
    tracker.stop().unwrap();
}
