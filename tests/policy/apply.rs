//! `tracker policy apply`: at once, as a whole, and with a way back.

use std::time::{Duration, Instant};

use tracker_tests::topology::{Placement, Topology};

use crate::{
    CLOSED, FAMILIES, Files, OPEN, Pair, SOON, WEB, connects, refused, rules, shown, tell,
    until_rules,
};

fn path(files: &Files, name: &str, text: &str) -> String {
    files.write(name, text).to_string_lossy().into_owned()
}

#[test]
fn a_policy_decides_about_new_connections_from_the_moment_of_its_application() {
    for placement in [Placement::Server, Placement::Client, Placement::Gateway] {
        let topology = Topology::new(placement).unwrap();
        let files = Files::with(OPEN, "mode = \"enforce\"\n", "grace = \"0s\"\n");
        let tracker = files.start(&topology);
        let web = path(&files, "web.toml", WEB);
        for (number, family) in (0..).zip(FAMILIES) {
            assert!(
                connects(&topology, family, (40_000 + number, 8080)),
                "{placement:?}"
            );
        }
        let told = tracker.ask(&["policy", "apply", &web]).unwrap();
        assert!(told.contains("1 rule (generation 2)"), "{told}");
        for (number, family) in (0..).zip(FAMILIES) {
            assert!(
                !connects(&topology, family, (40_010 + number, 8080)),
                "{placement:?}"
            );
            assert!(
                connects(&topology, family, (40_020 + number, 80)),
                "{placement:?}"
            );
        }
        tracker.stop().unwrap();
    }
}

#[test]
fn the_former_policy_returns_by_itself_unless_somebody_confirms() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    let closed = path(&files, "closed.toml", CLOSED);
    // Who waits is told that nobody has confirmed.
    let start = Instant::now();
    let message = refused(
        &topology,
        &tracker,
        &["policy", "apply", &closed, "--confirm", "2"],
    );
    assert!(message.contains("nobody has confirmed"), "{message}");
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(rules(&tracker), ["web", "default"]);
    assert_eq!(shown(&tracker)["policy"]["by"], "return");
    assert!(connects(&topology, FAMILIES[0], (40_000, 80)));
    // Who is cut off in between need do nothing.
    let (netns, _) = topology.tracked();
    let mut applying = netns
        .command(tracker_tests::agent::binary().unwrap())
        .unwrap();
    let mut applying = applying
        .args(["policy", "apply", &closed, "--confirm", "3", "--pin-dir"])
        .arg(tracker.pin_dir())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_rules(&tracker, &[]);
    applying.kill().unwrap();
    applying.wait().unwrap();
    let message = refused(&topology, &tracker, &["policy", "apply", &closed]);
    assert!(message.contains("awaits its confirmation"), "{message}");
    until_rules(&tracker, &["web"]);
    // And who confirms keeps it.
    let mut applying = netns
        .command(tracker_tests::agent::binary().unwrap())
        .unwrap();
    let applying = applying
        .args(["policy", "apply", &closed, "--confirm", "60", "--pin-dir"])
        .arg(tracker.pin_dir())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until_rules(&tracker, &[]);
    tracker.ask(&["policy", "confirm"]).unwrap();
    let waited = applying.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(
        waited.status.success() && told.contains("confirmed"),
        "{told}"
    );
    let message = refused(&topology, &tracker, &["policy", "confirm"]);
    assert!(message.contains("no policy awaits"), "{message}");
    tracker.stop().unwrap();
}

#[test]
fn rules_that_stay_keep_their_counters() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    for number in 0..3 {
        assert!(connects(&topology, FAMILIES[0], (40_000 + number, 80)));
    }
    let hits = |name: &str| {
        let shown = shown(&tracker);
        let rules = shown["rules"].as_array().unwrap().clone();
        let rule = rules.iter().find(|rule| rule["name"] == name).unwrap();
        rule["hits"].as_u64().unwrap()
    };
    assert_eq!(hits("web"), 3);
    let other = "default = \"drop\"\n[[rules]]\nname = \"mail\"\nports = [25]\naction = \"allow\"\n\
        [[rules]]\nname = \"web\"\nports = [80, 443]\naction = \"allow\"\n";
    let other = path(&files, "other.toml", other);
    tracker.ask(&["policy", "apply", &other]).unwrap();
    assert_eq!((hits("mail"), hits("web")), (0, 3));
    assert!(connects(&topology, FAMILIES[0], (40_010, 80)));
    assert_eq!(hits("web"), 4);
    // As a list for scripts, too.
    let csv = tracker.ask(&["policy", "show", "-o", "csv"]).unwrap();
    assert!(csv.contains("\r\nmail,"), "{csv}");
    tracker.stop().unwrap();
}

#[test]
fn what_becomes_of_open_connections_is_chosen() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let (open, web) = (
        path(&files, "open.toml", OPEN),
        path(&files, "web.toml", WEB),
    );
    for (number, family) in (0..).zip(FAMILIES) {
        let allowed = Pair::open(&topology, family, (40_000 + number, 80));
        let forbidden = Pair::open(&topology, family, (40_010 + number, 8080));
        let diff = tracker.ask(&["policy", "diff", &web]).unwrap();
        assert!(diff.contains(":8080") && !diff.contains(":80 "), "{diff}");
        tracker
            .ask(&["policy", "apply", &web, "--flows", "keep"])
            .unwrap();
        allowed.talk().unwrap();
        forbidden.talk().unwrap();
        tracker
            .ask(&["policy", "apply", &web, "--flows", "recheck"])
            .unwrap();
        allowed.talk().unwrap();
        assert!(
            forbidden.talk().is_err(),
            "{family}: a revoked connection goes on"
        );
        allowed.talk().unwrap();
        tracker.ask(&["policy", "apply", &open]).unwrap();
    }
    tracker.stop().unwrap();
}

#[test]
fn a_wrong_policy_changes_nothing_and_is_told() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    let wrong = path(&files, "wrong.toml", "default = \"maybe\"\n");
    let message = refused(&topology, &tracker, &["policy", "apply", &wrong]);
    assert!(message.contains("wrong.toml:1"), "{message}");
    assert_eq!(rules(&tracker), ["web", "default"]);
    let pins = tracker.pin_dir().to_owned();
    tracker.kill().unwrap();
    // Without an agent nobody can put one in force, but what is can be told.
    let (netns, _) = topology.tracked();
    let web = path(&files, "web.toml", WEB);
    let error = tracker_tests::agent::ask(netns, &pins, &["policy", "apply", &web]).unwrap_err();
    assert!(
        format!("{error:#}").contains("no agent listens"),
        "{error:#}"
    );
    let told = tracker_tests::agent::ask(netns, &pins, &["policy", "show"]).unwrap();
    assert!(told.contains("web"), "{told}");
    tracker_tests::agent::ask(netns, &pins, &["unload"]).unwrap();
}

#[test]
fn a_connection_is_explained_by_its_rule_and_its_refusal() {
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    for (number, family) in (0..).zip(FAMILIES) {
        let pair = Pair::open(&topology, family, (40_000 + number, 80));
        let [client, server] = [
            topology.client.at(family, 40_000 + number),
            topology.server.at(family, 80),
        ];
        let ends = [client.to_string(), server.to_string()];
        let told = tracker.ask(&["explain", &ends[0], &ends[1]]).unwrap();
        assert!(
            told.contains("ESTABLISHED/ESTABLISHED") && told.contains("admitted by the rule `web`"),
            "{told}"
        );
        assert!(!connects(&topology, family, (40_010 + number, 23)));
        let ends = [
            topology.server.at(family, 23).to_string(),
            topology.client.at(family, 40_010 + number).to_string(),
        ];
        let told = tracker.ask(&["explain", &ends[0], &ends[1]]).unwrap();
        assert!(
            told.contains("by the rule `default`") && told.contains("(policy_dropped)"),
            "{told}"
        );
        let told = tracker
            .ask(&["policy", "test", &ends[1], &ends[0], "--in", "eth0"])
            .unwrap();
        assert!(
            told.contains("dropped by the rule `default`") && told.contains("port 23 is not in 80"),
            "{told}"
        );
        drop(pair);
    }
    let nothing = tell(
        &topology,
        &tracker,
        &["explain", "192.0.2.1:1", "192.0.2.2:2"],
    );
    let message = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(
        !nothing.status.success() && message.contains("nothing is known"),
        "{message}"
    );
    // Flows name their rule for scripts.
    let listed = tracker.ask(&["list", "-o", "csv"]).unwrap();
    assert!(
        listed.lines().any(|line| line.ends_with(",web")),
        "{listed}"
    );
    tracker.stop().unwrap();
}

#[test]
fn what_rules_log_is_in_the_log() {
    let topology = Topology::new(Placement::Server).unwrap();
    let policy = WEB.replace("name = \"web\"", "name = \"web\"\nlog = true");
    let files = Files::new(&policy);
    let tracker = files.start(&topology);
    let before = tracker.log();
    assert!(connects(&topology, FAMILIES[0], (40_000, 80)));
    let line = "rule `web` allowed 192.0.2.1:40000 → 192.0.2.2:80 [SYN] in at eth0: flow_opened";
    tracker.wait_for_log(&before, line, SOON).unwrap();
    tracker.stop().unwrap();
}

/// Of several that apply at the same moment one does; the others are told so, and the
/// policy in force is one of theirs, whole.
#[test]
fn a_policy_is_refused_while_another_is_being_applied() {
    const RULES: u32 = 3000;
    let topology = Topology::new(Placement::Server).unwrap();
    let files = Files::new(WEB);
    let tracker = files.start(&topology);
    // Large ones, which take their time.
    let paths = ["one", "other", "third"].map(|name| {
        let rules: String = (0..RULES)
            .map(|rule| {
                let [_, _, a, b] = rule.to_be_bytes();
                format!(
                    "[[rules]]\nname = \"{name} {rule}\"\nfrom = \"10.{a}.{b}.0/24\"\naction = \"allow\"\n"
                )
            })
            .collect();
        path(&files, name, &format!("default = \"drop\"\n{rules}"))
    });
    let mut told = false;
    for _ in 0..10 {
        let outputs = std::thread::scope(|scope| {
            let applying: Vec<_> = paths
                .iter()
                .map(|path| {
                    let (topology, tracker) = (&topology, &tracker);
                    let verb = ["policy", "apply", path];
                    scope.spawn(move || tell(topology, tracker, &verb))
                })
                .collect();
            let ended = applying.into_iter().map(|one| one.join().unwrap());
            ended.collect::<Vec<_>>()
        });
        assert!(outputs.iter().any(|output| output.status.success()));
        for output in outputs.iter().filter(|output| !output.status.success()) {
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(
                message.contains("another policy is being applied"),
                "{message}"
            );
            told = true;
        }
        let rules = rules(&tracker);
        assert_eq!(rules.len(), RULES as usize + 1);
        let (first, _) = rules[0].split_once(' ').unwrap();
        assert!(
            rules[..RULES as usize]
                .iter()
                .all(|rule| rule.starts_with(first))
        );
        if told {
            break;
        }
    }
    assert!(told, "nobody was refused in ten rounds");
    tracker.stop().unwrap();
}
