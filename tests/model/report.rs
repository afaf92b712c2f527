//! What is printed: one line of JSON for each search, and the run to each
//! counter-example.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    beside::Brain,
    scenario::Scenario,
    search::Found,
    world::{Setting, Told},
};

/// The line that scripts read.
pub fn line(setting: &Setting<'_>, found: &Found) -> String {
    let scenario = setting.scenario;
    let examples: Vec<_> = found
        .counterexamples
        .iter()
        .map(
            |example| json!({"kind": example.kind, "count": example.count, "depth": example.depth}),
        )
        .collect();
    let budget = &scenario.budget;
    let value = json!({
        "judge": "model",
        "scenario": scenario.name,
        "place": format!("{:?}", scenario.place),
        "enforces": setting.enforces,
        "pickup": scenario.pickup,
        "buffers": scenario.manners.map(|manner| manner.buffer),
        "brain": format!("{:?}", setting.brain),
        "states": found.states,
        "transitions": found.transitions,
        "depth": found.depth,
        "exhausted": found.exhausted,
        "seconds": (found.seconds * 10.0).round() / 10.0,
        "losses": budget.losses,
        "duplicates": budget.duplicates,
        "forgeries": budget.forgeries,
        "retransmissions": budget.retransmissions,
        "sends": budget.sends,
        "opens_active": budget.opens_active,
        "opens_passive": budget.opens_passive,
        "aborts": budget.aborts,
        "apart": found.apart,
        "counterexamples": examples,
    });
    format!("judge: {value}")
}

/// The same of a broken tracker that was caught.
pub fn caught(brain: Brain, scenario: &str, found: &Found) -> String {
    let kinds: Vec<_> = found.counterexamples.iter().map(|one| &one.kind).collect();
    let value = json!({
        "judge": "model",
        "broken": format!("{brain:?}"),
        "caught_in": scenario,
        "by": kinds,
    });
    format!("judge: {value}")
}

/// The run to each counter-example, for people.
pub fn runs(scenario: &Scenario, found: &Found) -> String {
    let mut text = String::new();
    for example in &found.counterexamples {
        let (kind, count) = (&example.kind, example.count);
        _ = writeln!(
            text,
            "\n{}: counter-example ({count} like it): {kind}",
            scenario.name
        );
        for step in &example.trace {
            for told in step {
                _ = writeln!(text, "  {}", tell(told));
            }
        }
    }
    text
}

/// The ends are called A and B.
const NAMES: [char; 2] = ['A', 'B'];

fn tell(told: &Told) -> String {
    match told {
        Told::Happens(event) => event.clone(),
        Told::Sends { end, segment } => format!("    {} sends {segment}", NAMES[*end]),
        Told::Sees {
            end,
            segment,
            verdict,
            pair,
        } => {
            let reason = verdict.reason.as_str();
            let from = NAMES[*end];
            format!(
                "    tracker sees {segment} from {from}: {reason}, {}",
                shown(pair)
            )
        }
        Told::Arrives { end, segment } => {
            format!("    {} receives {segment}", NAMES[end ^ 1])
        }
        Told::Stands { states, pair } => {
            format!(
                "    A {:?}, B {:?}; tracker {}",
                states[0],
                states[1],
                shown(pair)
            )
        }
    }
}

fn shown(pair: &Option<[tracker_common::tcp::State; 2]>) -> String {
    pair.map_or_else(
        || "no flow".to_owned(),
        |[a, b]| format!("A {} B {}", a.rfc_name(), b.rfc_name()),
    )
}
