//! The exhaustive judge: the tracker against the RFC.
//!
//! Two endpoints that do what RFC 9293 says ([`endpoint`], written apart from the
//! tracker, with its sentences beside the rules), a [`channel`] that loses,
//! duplicates and reorders, an [`attacker`] off the path who forges segments, and
//! the brain of the tracker between the two halves of the channel
//! ([`beside`]). [`search`] goes through every order of events that a
//! [`scenario`] allows, breadth first; [`properties`] says what must hold and
//! what is listed apart, and why; [`fair`] looks whether a connection still comes
//! to its end when the tracker drops what it refuses. Numbers are 32 bits wide
//! and cross the wrap of the circle, and its middle.
//!
//! Each search prints a line `judge: {json}`: its settings, how many worlds it
//! saw to which depth, whether these were all that the settings allow
//! (`exhausted`), the classes listed apart, and the counter-examples, each of
//! which is also printed as the shortest run that leads to it.
//!
//! `TRACKER_JUDGE=full` explores more, for several minutes and in up to 8 GiB;
//! `TRACKER_JUDGE_ONLY=…` picks the scenarios whose name contains that.
//!
//! Not covered: text in SYN segments, options (window scale, SACK, timestamps),
//! urgent data, fragments, ICMP, more than two losses, two duplicates and two
//! forged segments a run; these are the other tests' concern.

mod attacker;
mod beside;
mod channel;
mod endpoint;
mod fair;
mod properties;
mod report;
mod scenario;
mod search;
mod segment;
mod world;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tracker_common::{abi::Live, tcp::timeout::Profile};

use beside::Brain;
use scenario::{Scenario, Size};
use search::{Found, Limits, explore};
use world::Setting;

/// `full` for [`Size::Full`].
const SIZE: &str = "TRACKER_JUDGE";
/// Part of the names of the scenarios to explore.
const ONLY: &str = "TRACKER_JUDGE_ONLY";

/// Searches at the same time. Each needs memory of its own.
const AT_ONCE: usize = 2;

fn judge(scenario: &Scenario, brain: Brain, limits: Limits) -> (Found, String) {
    let live = Live {
        pickup: scenario.pickup.into(),
        ..Live::observing(Profile::Linux)
    };
    let setting = Setting {
        scenario,
        live: &live,
        brain,
        enforces: scenario.enforces,
    };
    let found = explore(setting, limits);
    let line = report::line(&setting, &found);
    (found, line)
}

#[test]
fn the_tracker_follows_the_rfc() {
    let size = match std::env::var(SIZE).as_deref() {
        Ok("full") => Size::Full,
        Ok(other) => panic!("{SIZE} is {other:?}; set it to \"full\", or not at all"),
        Err(_) => Size::Short,
    };
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut scenarios = size.scenarios();
    scenarios.retain(|scenario| scenario.name.contains(&only));
    assert!(!scenarios.is_empty(), "no scenario is called {only:?}");

    let next = AtomicUsize::new(0);
    let runs = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (found, line) = judge(scenario, Brain::Real, size.limits());
                    println!("{line}");
                    assert!(
                        found.apart.contains_key("equal"),
                        "{}: no point of rest was reached",
                        scenario.name
                    );
                    let text = report::runs(scenario, &found);
                    runs.lock().expect("a search panicked").push_str(&text);
                }
            });
        }
    });
    let runs = runs.into_inner().expect("a search panicked");
    assert!(runs.is_empty(), "the tracker and the RFC differ:\n{runs}");
}

/// The judge is worth something only if it can be failed.
#[test]
fn broken_trackers_are_caught() {
    let limits = Limits {
        states: 30_000,
        ..Size::Short.limits()
    };
    let scenarios = Size::Short.scenarios();
    for (brain, name) in Brain::BROKEN {
        let scenario = scenarios.iter().find(|scenario| scenario.name == name);
        let (found, _) = judge(scenario.expect("a scenario's name"), brain, limits);
        assert!(
            !found.counterexamples.is_empty(),
            "{brain:?} passes for a tracker"
        );
        println!("{}", report::caught(brain, name, &found));
    }
}
