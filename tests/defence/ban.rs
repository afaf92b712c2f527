//! Bans by hand and by the agent.

use std::{path::Path, process::Output};

use serde_json::Value;
use tracker_tests::{
    agent::{Tracker, ask, binary},
    connection::Connection,
    sockets,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON, listener, stats};

/// What `tracker ban …` prints and how it ends.
fn ban(topology: &Topology, tracker: &Tracker<'_>, arguments: &[&str]) -> Output {
    let mut command = topology.server.netns.command(binary().unwrap()).unwrap();
    command.arg("ban").args(arguments);
    command.arg("--pin-dir").arg(tracker.pin_dir());
    command.output().unwrap()
}

fn listed(tracker: &Tracker<'_>) -> Vec<Value> {
    let text = tracker.ask(&["ban", "list", "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits until the programs refuse packets as banned.
fn until_refused(tracker: &Tracker<'_>, mut send: impl FnMut()) {
    eventually(SOON, || {
        send();
        match stats(tracker)?.packets("banned") {
            0 => Err("nothing is refused as banned".to_owned()),
            _ => Ok(()),
        }
    });
}

#[test]
fn a_banned_prefix_is_kept_out_and_what_was_open_stays() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let open = Connection::open(&topology, 40_000);
    let _ = open.seen_by(&tracker);
    let _listener = listener(&topology, 443);

    let said = tracker
        .ask(&["ban", "add", "192.0.2.0/24", "--for", "1h"])
        .unwrap();
    assert_eq!(said, "192.0.2.0/24 banned for 60m\n");
    let nobody = Nobody::new(&topology);
    let mut port = 1000;
    until_refused(&tracker, || {
        nobody.open(port..port + 1, 443);
        port += 1;
    });
    open.talk();
    // The host itself cannot connect any more, but from the inside it can be
    // connected to.
    let before = stats(&tracker).unwrap().packets("banned");
    let client = topology.client.at(Family::V4, 40_001);
    let server = topology.server.at(Family::V4, 443);
    let _knocking = sockets::begin_connect(&topology.client.netns, client, server).unwrap();
    eventually(SOON, || match stats(&tracker)?.packets("banned") {
        after if after > before => Ok(()),
        _ => Err("the SYN is not refused".to_owned()),
    });
    let bans = listed(&tracker);
    assert_eq!(bans.len(), 1);
    assert_eq!(bans[0]["prefix"], "192.0.2.0/24");
    assert!(bans[0]["refused"].as_u64().unwrap() > 0, "{bans:?}");
    assert!((3_000_000..=3_600_000).contains(&bans[0]["left_ms"].as_u64().unwrap()));

    let said = tracker.ask(&["ban", "remove", "192.0.2.0/24"]).unwrap();
    assert_eq!(said, "192.0.2.0/24 is banned no more\n");
    assert_eq!(
        tracker.ask(&["ban", "list"]).unwrap(),
        "nothing is banned\n"
    );
    // The SYN that comes again is let in.
    let client = topology.client.at(Family::V4, 40_002);
    let _connected = sockets::connect(&topology.client.netns, client, server).unwrap();
    tracker.stop().unwrap();
}

/// Without an agent the maps are all there is: a ban holds if the programs look
/// bans up already, and the command says so if they do not.
#[test]
fn bans_need_no_agent_but_the_first() {
    let topology = Topology::new(Placement::Server).unwrap();
    let _listener = listener(&topology, 443);
    let file = Configuration::new("");
    let started = file.start(&topology, &["--mode", "enforce"]);
    let pins = started.kill().unwrap();
    let server = &topology.server.netns;
    let note_of = |pins: &Path, prefix: &str| {
        let mut command = server.command(binary().unwrap()).unwrap();
        command.args(["ban", "add", prefix, "--pin-dir"]).arg(pins);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(note_of(&pins, "192.0.2.77").starts_with("note: no agent"));

    // The next agent takes them over, and they hold when it is gone.
    let next = file
        .options(&topology)
        .with(["--mode", "enforce"])
        .pinned_at(&pins)
        .start()
        .unwrap();
    let nobody = Nobody::new(&topology);
    let mut port = 1000;
    until_refused(&next, || {
        nobody.open(port..port + 1, 443);
        port += 1;
    });
    let pins = next.kill().unwrap();
    assert_eq!(note_of(&pins, "192.0.2.78"), "");
    ask(server, &pins, &["unload"]).unwrap();
}

#[test]
fn what_is_wrong_with_a_prefix_is_told() {
    let topology = Topology::new(Placement::Server).unwrap();
    let tracker = Tracker::start(&topology).unwrap();
    let refused = |arguments: &[&str], status: i32, words: &[&str]| {
        let output = ban(&topology, &tracker, arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{message}");
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
    };
    refused(
        &["add", "192.0.2.1/24"],
        2,
        &["192.0.2.0/24", "bits are set"],
    );
    refused(&["add", "example.org"], 2, &["not a prefix"]);
    refused(&["add", "192.0.2.0/24", "--for", "soon"], 2, &["10m"]);
    refused(&["remove", "192.0.2.0/24"], 1, &["error: ", "not banned"]);

    let added = ban(&topology, &tracker, &["add", "2001:db8::/48"]);
    let note = String::from_utf8_lossy(&added.stderr).into_owned();
    assert!(
        added.status.success() && note.contains("observes"),
        "{note}"
    );
    refused(&["remove", "2001:db8:0:1::/64"], 1, &["2001:db8::/48"]);
    refused(&["remove", "2001:db8::/32"], 1, &["2001:db8::/48 in it is"]);
    // Banned again, for another time.
    let again = tracker
        .ask(&["ban", "add", "2001:db8::/48", "--for", "10m"])
        .unwrap();
    assert_eq!(
        again,
        "2001:db8::/48 banned for 10m; it was until it is removed\n"
    );
    tracker.stop().unwrap();
}

#[test]
fn a_ban_ends_by_itself() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let _listener = listener(&topology, 443);
    let before = tracker.log();
    tracker
        .ask(&["ban", "add", "192.0.2.1", "--for", "3s"])
        .unwrap();
    let client = topology.client.at(Family::V4, 40_000);
    let server = topology.server.at(Family::V4, 443);
    // The SYN is sent again until it gets through.
    let _connected = sockets::connect(&topology.client.netns, client, server).unwrap();
    assert_eq!(listed(&tracker), Vec::<Value>::new());
    tracker
        .wait_for_log(&before, "the ban of 192.0.2.1/32 is over", SOON)
        .unwrap();
    tracker.stop().unwrap();
}

#[test]
fn who_keeps_standing_at_its_limit_is_banned_if_that_is_configured() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new(
        "[defence]\ncookies = \"never\"\nat_limit = \"drop\"\nsource_limit = 8\n\
         [defence.ban]\nenabled = true\nafter = \"2s\"\nfor = \"1h\"\n",
    );
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    let _listener = listener(&topology, 443);
    let open = Connection::open(&topology, 40_000);
    let before = tracker.log();
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1020, 443);
    tracker
        .wait_for_log(&before, "192.0.2.77/32 is banned for 60m", SOON)
        .unwrap();
    assert_eq!(listed(&tracker)[0]["prefix"], "192.0.2.77/32");
    let mut port = 2000;
    until_refused(&tracker, || {
        nobody.open(port..port + 1, 443);
        port += 1;
    });
    open.talk();
    let stats: Value =
        serde_json::from_str(&tracker.ask(&["stats", "-o", "json"]).unwrap()).unwrap();
    assert_eq!(stats["defence"]["bans"]["made"], 1);
    assert_eq!(stats["defence"]["bans"]["held"], 1);
    tracker.stop().unwrap();
}
