//! What is documented is what is read.

use std::path::Path;

use super::super::{Context, parse, syntax};

const EXAMPLE: &str = include_str!("../../../dist/policy.toml");
const MANUAL: &str = include_str!("../../../../docs/policy.md");

/// What is told of a document on a machine that has every interface.
fn told(text: &str) -> Vec<String> {
    let reading = parse(text, Path::new("policy.toml"), &Context::default());
    let problems = reading.report.problems().iter();
    problems.map(|problem| problem.message.clone()).collect()
}

/// The example with every key switched on.
fn switched_on() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_sound() {
    assert_eq!(told(EXAMPLE), [""; 0]);
}

#[test]
fn the_example_has_every_key() {
    let on = switched_on();
    for key in syntax::all_keys() {
        let mut lines = on.lines();
        let there = lines.any(|line| {
            let left = line.split('=').next().unwrap_or("").trim();
            let left = left.trim_matches(['[', ']']);
            left.rsplit('.').next() == Some(key) || left.split('.').next() == Some(key)
        });
        assert!(there, "{key} is not documented");
    }
}

/// No key of the example is misspelt, and no value is of another type. Keys that
/// contradict each other there are told, and nothing else.
#[test]
fn what_is_switched_off_in_the_example_is_read() {
    insta::assert_snapshot!(told(&switched_on()).join("\n"), @r#"
    `default_reject_with` has no effect without default = "reject"
    cannot read the file blocked.txt of the set `blocked`: No such file or directory (os error 2)
    cannot read the file ports.txt of the set of ports `services`: No such file or directory (os error 2)
    cannot read the file passive.txt of the set of ports `passive`: No such file or directory (os error 2)
    `liberal` is about the connections that a rule admits, and this one admits none
    `pickup` is about the connections that a rule admits, and this one admits none
    `timeouts` is about the connections that a rule admits, and this one admits none
    "#);
}

#[test]
fn the_policies_in_the_manual_are_sound() {
    let mut parts = MANUAL.split("```");
    parts.next();
    let blocks: Vec<&str> = parts
        .step_by(2)
        .filter_map(|block| block.strip_prefix("toml\n"))
        .collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        // Its file is not there.
        let block = block.replace(
            "blocked.file = \"blocked.txt\"",
            "blocked = [\"10.0.0.0/8\"]",
        );
        assert_eq!(told(&block), [""; 0]);
    }
}
