//! The language as a whole: what is read, what is told, and how fast.

mod documents;
mod files;
mod large;
mod meaning;
mod messages;
mod random;
mod together;
mod values;

use std::path::Path;

use super::{Context, Reading, model::Policy, parse};

/// Reads `text` as the file `p.toml` of a machine with the interfaces `eth0` and
/// `eth1`.
fn reading(text: &str) -> Reading {
    let interfaces = ["lo", "eth0", "eth1"].map(str::to_owned);
    let context = Context {
        interfaces: Some(&interfaces),
        former: None,
    };
    parse(text, Path::new("p.toml"), &context)
}

/// What is wrong with `text`.
fn told(text: &str) -> String {
    reading(text).report.to_string()
}

/// The policy that `text` is; nothing is wrong with it.
fn sound(text: &str) -> Policy {
    let reading = reading(text);
    assert_eq!(reading.report.to_string(), "");
    reading.policy.unwrap()
}

/// A policy of these rules, of which each has a name, an action and the keys given.
fn rules(keys: &[&str]) -> String {
    let mut text = "default = \"drop\"\n".to_owned();
    for (index, keys) in keys.iter().enumerate() {
        let action = if keys.contains("action") {
            ""
        } else {
            "action = \"allow\"\n"
        };
        text += &format!("[[rules]]\nname = \"r{index}\"\n{action}{keys}\n");
    }
    text
}
