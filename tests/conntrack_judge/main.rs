//! nf_conntrack judges the tracker: the same packets go through a live one and
//! through the brain, and whatever they see differently must be on a list, with
//! the sentence of the RFC that decides it.
//!
//! The packets are made-up conversations, and the captures in the folder that
//! `TRACKER_CAPTURES` names, where it is there. Every packet has a right
//! checksum and no VLAN tag, and follows the one before at once: conntrack is
//! not asked about checksums, VLANs and time-outs. Both pick up connections
//! (`nf_conntrack_tcp_loose`), and then both do not.
//!
//! `TRACKER_JUDGE=full` makes more of it.

mod brain;
mod court;
mod differences;
mod kernel;
mod labels;
mod packet;
mod talks;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde_json::json;
use tracker_tests::{
    captures::{self, Capture},
    program::random::Random,
};

use court::Court;
use packet::{Hosts, Packet};

/// Set to `full` for a long run.
const EFFORT: &str = "TRACKER_JUDGE";

/// Conversations of each seed with and without pick-up, by default and in full.
const CONVERSATIONS: [u32; 2] = [1000, 20_000];

/// Conversations between which both forget everything, so that no port is used
/// by chance again.
const SESSION: u32 = 1000;

/// Names one seed instead of all, as a failure tells it.
const SEED: &str = "TRACKER_SEED";

/// Lets both judge made-up conversations.
fn conversations(court: &mut Court, loose: bool, seed: u64, count: u32) -> Result<Vec<String>> {
    let mut random = Random::new(seed);
    let mut refused = vec![];
    for number in 0..count {
        if number % SESSION == 0 {
            court.begin(loose)?;
        }
        let talk = talks::conversation(&mut random, number);
        let name = format!("conversation {number} of {SEED}={seed} ({})", talk.name);
        let mut hosts = Hosts::default();
        let mut honest = talk.honest;
        for step in talk.steps {
            let packet = Packet::of_ethernet(&step.frame.bytes(), &mut hosts)
                .map_err(|reason| anyhow::anyhow!("{name} has a packet that is {reason}"))?;
            if court.packet(&packet, &name)? && honest {
                refused.push(format!(
                    "{name}:\n    {}",
                    court.trace(&packet).join("\n    ")
                ));
                honest = false;
            }
        }
    }
    Ok(refused)
}

/// Lets both judge a capture; counts what neither can say something about.
fn capture(
    court: &mut Court,
    loose: bool,
    capture: &Capture,
    left_out: &mut BTreeMap<&'static str, u64>,
) -> Result<()> {
    court.begin(loose)?;
    let mut hosts = Hosts::default();
    capture.frames(|frame| {
        match Packet::of_ethernet(frame, &mut hosts) {
            Ok(packet) => {
                court.packet(&packet, &capture.name)?;
            }
            Err(reason) => *left_out.entry(reason).or_default() += 1,
        }
        Ok(())
    })
}

#[test]
fn every_difference_from_nf_conntrack_is_explained() {
    let full = std::env::var(EFFORT).is_ok_and(|effort| effort == "full");
    let chosen = std::env::var(SEED)
        .ok()
        .map(|seed| seed.parse().expect("a number as the seed"));
    // Only the long run looks for what is new: the short one is the same for all.
    let second = if full {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    } else {
        2
    };
    let seeds = chosen.map_or_else(|| vec![1, second], |seed| vec![seed]);
    let mut court = Court::new().unwrap();
    let mut honest_refused = vec![];
    let mut left_out = BTreeMap::new();
    let captures = captures::find();
    for loose in [true, false] {
        for &seed in &seeds {
            let count = CONVERSATIONS[usize::from(full)];
            honest_refused.extend(conversations(&mut court, loose, seed, count).unwrap());
        }
        for file in captures.iter().flatten() {
            capture(&mut court, loose, file, &mut left_out)
                .unwrap_or_else(|error| panic!("{}: {error:?}", file.name));
        }
    }
    print!("{}", court.report());
    for unexplained in court.unexplained.iter().filter(|text| !text.is_empty()) {
        println!("unexplained: {unexplained}");
    }
    for name in honest_refused.iter().take(10) {
        println!("refused in an honest conversation: {name}");
    }
    let mut numbers = court.numbers();
    numbers["judge"] = json!("nf_conntrack");
    numbers["kernel"] = json!(
        std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap()
            .trim()
    );
    numbers["captures"] = json!(captures.as_ref().map_or(0, Vec::len));
    numbers["left_out"] = json!(left_out);
    numbers["honest_refused"] = json!(honest_refused.len());
    println!("judge: {numbers}");
    assert!(
        court.counted_all().unwrap(),
        "the rules have counted another number of INVALID packets"
    );
    assert_eq!(court.dropped, 0, "packets that never came out");
    assert_eq!(
        court.unexplained.len(),
        0,
        "differences that nothing explains, of {} packets",
        court.packets
    );
    assert_eq!(
        honest_refused.len(),
        0,
        "honest conversations of which a packet was refused"
    );
}
