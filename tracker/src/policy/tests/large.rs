//! The stated limits, and the time that it takes to check a policy of that size.

use std::{fmt::Write as _, time::Instant};

use super::{reading, sound};
use crate::policy::model::{MAX_PREFIXES, MAX_RULES};

/// Prefixes that have nothing in common.
fn prefixes(number: usize) -> String {
    let mut text = String::new();
    for index in 0..number {
        let [_, a, b, c] = (index as u32 * 2).to_be_bytes();
        writeln!(text, "  \"10.{a}.{b}.{c}\",").unwrap();
    }
    text
}

fn rules(number: usize) -> String {
    let mut text = "default = \"drop\"\n".to_owned();
    for index in 0..number {
        let [_, a, b, c] = (index as u32 * 2).to_be_bytes();
        let port = index % 999 + 1;
        writeln!(
            text,
            "[[rules]]\nname = \"r{index}\"\nfrom = \"10.{a}.{b}.{c}\"\nports = {port}\naction = \"allow\""
        )
        .unwrap();
    }
    text
}

/// Unoptimised code, and a machine with other things to do.
const SLOWER: u128 = if cfg!(debug_assertions) { 40 } else { 4 };

#[test]
fn a_hundred_thousand_prefixes_are_read_in_time() {
    let text = format!(
        "default = \"drop\"\n[sets.all]\nprefixes = [\n{}]\n[[rules]]\nname = \"all\"\nfrom = \"@all\"\naction = \"allow\"\n",
        prefixes(MAX_PREFIXES)
    );
    let start = Instant::now();
    let policy = sound(&text);
    let took = start.elapsed().as_millis();
    println!("{MAX_PREFIXES} prefixes took {took} ms");
    assert_eq!(policy.sets[0].prefixes.len(), MAX_PREFIXES);
    assert!(took < 500 * SLOWER, "{took} ms");
}

#[test]
fn as_many_rules_as_there_may_be_are_checked_in_time() {
    let text = rules(MAX_RULES);
    let start = Instant::now();
    let policy = sound(&text);
    let took = start.elapsed().as_millis();
    println!("{MAX_RULES} rules took {took} ms");
    assert_eq!(policy.rules.len(), MAX_RULES);
    assert!(took < 500 * SLOWER, "{took} ms");
}

#[test]
fn beyond_the_limits_is_an_error() {
    let report = reading(&rules(MAX_RULES + 1)).report;
    assert_eq!(report.error_count(), 1);
    insta::assert_snapshot!(report, @r"
    p.toml:81917:1: error: there are 16384 rules, more than the 16383 that there may be: rules that differ in addresses or ports alone are one rule with a set
          |
    81917 | [[rules]]
          | ^^^^^^^^^
    ");
    let text = format!(
        "default = \"drop\"\n[sets]\nall = [\n{}]\n[[rules]]\nname = \"all\"\nfrom = [\"@all\", \"192.0.2.1\"]\naction = \"allow\"\n",
        prefixes(MAX_PREFIXES)
    );
    insta::assert_snapshot!(reading(&text).report, @"p.toml: error: its sets and lists have 100001 prefixes, more than the 100000 that they may have together");
}
