//! The lab shows what it promises, and leaves nothing behind.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracker_tests::{
    agent::{self, fresh_pin_dir},
    netns::{Namespace, namespaces_of},
    state::State,
    terminal::Terminal,
    wait::{eventually, wait_for},
};

/// A lab without a terminal.
struct Lab {
    child: Child,
    pin_dir: PathBuf,
}

impl Lab {
    fn start(arguments: &[&str]) -> Self {
        let pin_dir = fresh_pin_dir();
        let child = Command::new(env!("CARGO_BIN_EXE_tracker-lab"))
            .args(arguments)
            .arg("--pin-dir")
            .arg(&pin_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, pin_dir }
    }

    /// Waits until it has ended, and for all that it made to be gone.
    fn ends_clean(mut self) -> String {
        let pid = self.child.id();
        let status = eventually(Duration::from_secs(90), || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("the lab has not ended: {other:?}")),
        });
        assert!(status.success(), "the lab ended with {status}");
        assert_eq!(namespaces_of(pid).unwrap(), Vec::<String>::new());
        assert!(!self.pin_dir.exists(), "{} stays", self.pin_dir.display());
        let children = fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pin_dir = self.pin_dir.as_os_str().as_encoded_bytes();
            line.windows(pin_dir.len()).any(|window| window == pin_dir)
        });
        assert!(!children, "a process of the lab still runs");
        let mut text = String::new();
        let output = self.child.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut { output }, &mut text).unwrap();
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Ended already, unless the test failed: then it may clean up.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGTERM,
            );
            let _ = wait_for(Duration::from_secs(15), || match self.child.try_wait() {
                Ok(Some(_)) => Ok(()),
                _ => Err(String::new()),
            });
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn every_state_is_seen_within_a_minute_and_nothing_stays() {
    let lab = Lab::start(&["--seconds", "60"]);
    let states = watch(&lab.pin_dir, Duration::from_secs(60), &State::ALL);
    let missing: Vec<_> = State::ALL
        .iter()
        .filter(|state| !states.contains(state))
        .collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");

    let text = lab.ends_clean();
    for state in State::ALL {
        assert!(
            text.contains(state.as_str()),
            "the welcome does not speak of {state}:\n{text}"
        );
    }
    // netstat's spelling, from the table that is printed when nobody watches.
    assert!(text.contains("SYN_RECV"), "{text}");
}

#[test]
fn a_lab_on_the_host_removes_everything_on_sigterm() {
    ends_on(Signal::SIGTERM, &["--role", "host"]);
}

#[test]
fn a_lab_removes_everything_on_ctrl_c() {
    ends_on(Signal::SIGINT, &[]);
}

fn ends_on(signal: Signal, arguments: &[&str]) {
    let lab = Lab::start(arguments);
    let states = watch(&lab.pin_dir, Duration::from_secs(60), &[State::Established]);
    assert!(states.contains(&State::Established), "{states:?}");
    kill(Pid::from_raw(lab.child.id().cast_signed()), signal).unwrap();
    lab.ends_clean();
}

/// On a terminal the tracker has it: it shows the live table, all of which fits
/// a small one, and Ctrl-C is meant for both.
#[test]
fn a_lab_on_a_terminal_shows_the_live_table_until_ctrl_c() {
    let pin_dir = fresh_pin_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracker-lab"));
    command
        .arg("--pin-dir")
        .arg(&pin_dir)
        .env("TERM", "xterm-256color");
    let mut terminal = Terminal::start(command, 80, 24).unwrap();
    for state in [
        "LISTEN",
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "CLOSE_WAIT",
        "CLOSING",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE\x1b",
    ] {
        terminal.wait_for(state, Duration::from_secs(60)).unwrap();
    }
    assert!(
        !terminal.written().contains(" more"),
        "it does not fit:\n{}",
        terminal.written()
    );
    terminal.press("\x03").unwrap();
    let status = terminal.wait(Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{status}:\n{}", terminal.written());
    assert_eq!(
        namespaces_of(terminal.child.id()).unwrap(),
        Vec::<String>::new()
    );
    assert!(!pin_dir.exists());
}

/// Collects the states of both ends of all flows until all that are `wanted`
/// have been seen, at most for `time`.
fn watch(pin_dir: &Path, time: Duration, wanted: &[State]) -> HashSet<State> {
    // The maps are pinned in a file system that all network namespaces share.
    let elsewhere = Namespace::new("watch").unwrap();
    let mut states = HashSet::new();
    let end = Instant::now() + time;
    while Instant::now() < end && !wanted.iter().all(|state| states.contains(state)) {
        // There is nothing to list before the tracker is ready.
        for flow in agent::list(&elsewhere, pin_dir).unwrap_or_default() {
            states.extend([flow.initiator.state, flow.responder.state]);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    states
}
