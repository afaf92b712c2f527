//! The mode, the sysctls and the cookies that come and go.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tracker_tests::{
    agent::{Tracker, ask},
    connection::Connection,
    stats::Stats,
    topology::{Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, Nobody, SOON, listener, record, stats, sysctls, until_sysctls};

/// Linux's defaults.
const DEFAULT: [u32; 2] = [1, 1];

/// An ACK of nobody is met in mid-life while the grace lasts, and dropped then.
#[test]
fn a_stray_is_dropped_when_the_grace_is_over() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("[tracking]\npickup_grace = \"1s\"\n");
    let tracker = file.start(&topology, &["--mode", "enforce"]);
    assert!(tracker.log().contains("tracker ready: enforcing eth0"));
    let open = Connection::open(&topology, 40_000);
    eventually(SOON, || match stats(&tracker)?.pickup.mode.as_str() {
        "grace_over" => Ok(()),
        mode => Err(mode.to_owned()),
    });
    let nobody = Nobody::new(&topology);
    let ack = tracker_tests::spoof::Segment {
        ack: Some(77),
        ..nobody.segment(50_000, 80)
    };
    // What the stack gets, it answers with an RST to nobody.
    let answered = || stats(&tracker).map(|stats| stats.packets("stray_reset"));
    let before = answered().unwrap();
    for _ in 0..5 {
        nobody.spoofer.send(&ack).unwrap();
    }
    eventually(SOON, || match stats(&tracker)?.packets("stray_ack") {
        5 => Ok(()),
        other => Err(format!("{other} stray ACKs")),
    });
    assert_eq!(answered().unwrap(), before);
    assert_eq!(tracker.list().unwrap().len(), 1);
    open.talk();
    tracker.stop().unwrap();
}

#[test]
fn who_observes_touches_no_sysctl() {
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new("[defence]\ncookies = \"always\"\n");
    let tracker = file.start(&topology, &[]);
    assert!(tracker.log().contains("tracker ready: observing eth0"));
    assert_eq!(sysctls(&topology.server.netns), DEFAULT);
    tracker.stop().unwrap();
}

#[test]
fn sysctls_are_told_written_down_and_set_back_at_the_end() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    server.sysctl("ipv4.tcp_timestamps", "0").unwrap();
    let file = Configuration::new("mode = \"enforce\"\n");
    let tracker = file.start(&topology, &[]);
    let log = tracker.log();
    for line in [
        "net.ipv4.tcp_timestamps will be 2 instead of 0 until the end",
        "net.ipv4.tcp_syncookies will be 2 instead of 1 while cookies are on",
        "net.ipv4.tcp_timestamps: 0 → 2",
    ] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    assert_eq!(sysctls(server), [2, 1]);
    let pins = tracker.pin_dir().to_owned();
    assert_eq!(
        record(&pins, "sysctl_tcp_timestamps").as_deref(),
        Some("from-0")
    );
    assert_eq!(record(&pins, "sysctl_tcp_syncookies"), None);
    let log = tracker.stop().unwrap();
    assert!(log.contains("net.ipv4.tcp_timestamps: 2 → 0, as it was before"));
    assert_eq!(sysctls(server), [0, 1]);
}

/// A killed agent leaves the defence standing, and the next one knows what the
/// sysctls were before the first.
#[test]
fn after_a_kill_the_next_agent_sets_back_what_the_first_one_found() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    server.sysctl("ipv4.tcp_syncookies", "0").unwrap();
    let file = Configuration::new("mode = \"enforce\"\n[defence]\ncookies = \"always\"\n");
    let pins = file.start(&topology, &[]).kill().unwrap();
    assert_eq!(sysctls(server), [2, 2]);

    let again = file.options(&topology).pinned_at(&pins).start().unwrap();
    assert!(again.log().contains("with the flows of an earlier run"));
    assert_eq!(sysctls(server), [2, 2]);
    again.stop().unwrap();
    assert_eq!(sysctls(server), [1, 0]);

    // One that wants no cookies does so without delay: none were sent.
    let pins = file.start(&topology, &[]).kill().unwrap();
    let never = Configuration::new("[defence]\ncookie_age = \"1s\"\n");
    let observing = never.options(&topology).pinned_at(&pins).start().unwrap();
    until_sysctls(server, [1, 0]);
    observing.stop().unwrap();
}

#[test]
fn what_is_kept_goes_on_and_unload_sets_it_back() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let file = Configuration::new("mode = \"enforce\"\n[defence]\ncookies = \"always\"\n");
    let tracker = file.start(&topology, &["--on-exit", "keep"]);
    let pins = tracker.pin_dir().to_owned();
    tracker.end(Signal::SIGTERM).unwrap();
    assert_eq!(sysctls(server), [2, 2]);
    assert_eq!(
        record(&pins, "sysctl_tcp_syncookies").as_deref(),
        Some("from-1")
    );
    let said = ask(server, &pins, &["unload"]).unwrap();
    assert!(
        said.contains("set back net.ipv4.tcp_syncookies: 2 → 1"),
        "{said}"
    );
    assert_eq!(sysctls(server), DEFAULT);
    assert!(!pins.exists());
}

#[test]
fn without_leave_nothing_is_touched_and_what_is_missing_is_told() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let text = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\nmanage_sysctls = false\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    let log = tracker.log();
    assert!(log.contains("net.ipv4.tcp_timestamps is 1, not 2"), "{log}");
    assert!(log.contains("carry no window scale"), "{log}");
    assert!(log.contains("net.ipv4.tcp_syncookies is 1, not 2"), "{log}");
    assert!(log.contains("no SYN cookies are sent"), "{log}");
    assert!(!log.contains("SYN cookies are on"), "{log}");
    assert_eq!(sysctls(server), DEFAULT);

    // Mended by hand they go on without a restart.
    server.sysctl("ipv4.tcp_syncookies", "2").unwrap();
    tracker
        .wait_for_log(&log, "SYN cookies are on", SOON)
        .unwrap();
    assert_eq!(sysctls(server), [1, 2]);
    tracker.stop().unwrap();
    assert_eq!(sysctls(server), [1, 2]);
}

#[test]
fn a_reload_switches_the_defence_on_and_off() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let file = Configuration::new("");
    let tracker = file.start(&topology, &[]);
    assert_eq!(sysctls(server), DEFAULT);
    let on = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\ncookie_age = \"1s\"\n";
    file.reload(&tracker, on);
    until_sysctls(server, [2, 2]);
    file.reload(
        &tracker,
        "mode = \"enforce\"\n[defence]\ncookie_age = \"1s\"\n",
    );
    until_sysctls(server, [2, 1]);
    file.reload(
        &tracker,
        "mode = \"observe\"\n[defence]\ncookie_age = \"1s\"\n",
    );
    until_sysctls(server, DEFAULT);
    tracker.stop().unwrap();
}

/// Many half-open flows turn cookies on, few of them and of the cookies turn them
/// off, and the kernel's own setting follows.
#[test]
fn adaptive_cookies_come_and_go_with_the_flood() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let text = "mode = \"enforce\"\n\
                [table]\nhalf_open_limit = 100\n\
                [timeouts]\nsyn_sent = \"2s\"\nsyn_received = \"2s\"\n\
                [defence]\ncookie_age = \"1s\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    let _listener = listener(&topology, 80);
    let nobody = Nobody::new(&topology);
    let quiet = tracker.log();
    nobody.open(1000..1024, 80);
    eventually(SOON, || match stats(&tracker)?.half_open.held {
        24 => Ok(()),
        held => Err(format!("{held} half-open flows")),
    });
    assert_eq!(sysctls(server), [2, 1]);
    assert!(!tracker.log().contains("SYN cookies are on"));

    let crossed = Instant::now();
    nobody.open(1024..1030, 80);
    tracker
        .wait_for_log(&quiet, "SYN cookies are on", SOON)
        .unwrap();
    // As the harness sees it, through a pipe; the log has the agent's own number.
    assert!(
        crossed.elapsed() < Duration::from_secs(1),
        "{:?}",
        crossed.elapsed()
    );
    assert_eq!(sysctls(server), [2, 2]);
    nobody.open(2000..2010, 80);
    eventually(SOON, || match stats(&tracker)?.packets("cookie_sent") {
        sent @ 10..=16 => Ok(sent),
        sent => Err(format!("{sent} cookies sent")),
    });

    tracker
        .wait_for_log(&quiet, "SYN cookies are off", SOON)
        .unwrap();
    until_sysctls(server, [2, 1]);
    let log = tracker.stop().unwrap();
    let on = log
        .lines()
        .find(|line| line.contains("SYN cookies are on"))
        .unwrap();
    let latency: u64 = on
        .split(' ')
        .rev()
        .skip_while(|&word| word != "ms")
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no time is told: {on}"));
    assert!(latency <= 100, "{on}");
    assert_eq!(sysctls(server), DEFAULT);
}

/// A killed agent leaves the cookies on; the next one goes on with them, and turns
/// them off when it is time.
#[test]
fn an_agent_that_is_killed_in_a_flood_leaves_the_defence_standing() {
    let topology = Topology::new(Placement::Server).unwrap();
    let server = &topology.server.netns;
    let text = "mode = \"enforce\"\n\
                [table]\nhalf_open_limit = 100\n\
                [timeouts]\nsyn_sent = \"5s\"\nsyn_received = \"5s\"\n\
                [defence]\ncookie_age = \"1s\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    let quiet = tracker.log();
    let open = Connection::open(&topology, 40_000);
    let _listener = listener(&topology, 81);
    let nobody = Nobody::new(&topology);
    nobody.open(1000..1030, 81);
    tracker
        .wait_for_log(&quiet, "SYN cookies are on", SOON)
        .unwrap();
    let pins = tracker.kill().unwrap();
    let sent = || {
        let text = ask(server, &pins, &["stats", "-o", "json"]).unwrap();
        let stats: Stats = serde_json::from_str(&text).unwrap();
        stats.packets("cookie_sent")
    };
    let before = sent();
    nobody.open(2000..2005, 81);
    eventually(SOON, || match sent() - before {
        5 => Ok(()),
        sent => Err(format!("{sent} cookies sent without an agent")),
    });
    assert_eq!(sysctls(server), [2, 2]);

    let again = file.options(&topology).pinned_at(&pins).start().unwrap();
    let adopted = again.log();
    assert!(!adopted.contains("SYN cookies are on"), "{adopted}");
    assert_eq!(open.seen_by(&again).origin, "handshake");
    open.talk();
    again.wait_for_log("", "SYN cookies are off", SOON).unwrap();
    until_sysctls(server, [2, 1]);
    again.stop().unwrap();
    assert_eq!(sysctls(server), DEFAULT);
}

/// Has five cookies sent that never come back.
fn send_cookies(topology: &Topology, tracker: &Tracker<'_>) {
    let _listener = listener(topology, 80);
    let nobody = Nobody::new(topology);
    // The first goes to the socket, from which the tracker learns.
    nobody.open(1000..1001, 80);
    eventually(SOON, || {
        let flows = tracker.list().map_err(|error| format!("{error:#}"))?;
        match flows.iter().any(|flow| flow.responder.packets > 0) {
            true => Ok(()),
            false => Err("no SYN-ACK was seen".to_owned()),
        }
    });
    nobody.open(2000..2005, 80);
    eventually(SOON, || match stats(tracker)?.packets("cookie_sent") {
        5 => Ok(()),
        sent => Err(format!("{sent} cookies sent")),
    });
}

/// The end gives cookies in flight their time, and tells about it.
#[test]
fn the_end_waits_for_cookies_in_flight() {
    let topology = Topology::new(Placement::Server).unwrap();
    let text = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\ndrain = \"2s\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    send_cookies(&topology, &tracker);
    let begun = Instant::now();
    let log = tracker.stop().unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(log.contains("waiting 2s for 5 cookies"), "{log}");
    assert!(
        log.contains("0 cookies came back meanwhile; 5 more"),
        "{log}"
    );
    assert_eq!(sysctls(&topology.server.netns), DEFAULT);
}

#[test]
fn a_second_signal_ends_the_wait() {
    let topology = Topology::new(Placement::Server).unwrap();
    let text = "mode = \"enforce\"\n[defence]\ncookies = \"always\"\ndrain = \"2m\"\n";
    let file = Configuration::new(text);
    let tracker = file.start(&topology, &[]);
    send_cookies(&topology, &tracker);
    let before = tracker.log();
    tracker.signal(Signal::SIGTERM).unwrap();
    tracker.wait_for_log(&before, "waiting 120s", SOON).unwrap();
    assert_eq!(sysctls(&topology.server.netns), [2, 2]);
    let log = tracker.stop().unwrap();
    assert!(log.contains("not waiting any longer"), "{log}");
    assert_eq!(sysctls(&topology.server.netns), DEFAULT);
}
