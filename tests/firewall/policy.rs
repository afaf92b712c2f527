//! Policies in files, and what an agent says about the one in force.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tempfile::NamedTempFile;
use tracker_tests::agent::Tracker;

/// A file with a policy, gone when dropped.
pub struct Policy(NamedTempFile);

impl Policy {
    /// A file that says `text`.
    pub fn new(text: &str) -> Self {
        let file = NamedTempFile::with_suffix(".toml").unwrap();
        fs::write(file.path(), text).unwrap();
        Self(file)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a configuration says to have it enforced from the start.
    pub fn enforced(&self) -> String {
        self.configured("enforce")
    }

    /// What a configuration says to have it in force in this mode.
    pub fn configured(&self, mode: &str) -> String {
        format!(
            "mode = \"{mode}\"\n[tracking]\npickup = \"off\"\n\
             [policy]\nfile = \"{}\"\ngrace = \"1s\"\n",
            self.path().display()
        )
    }

    /// `tracker policy apply`, with more arguments.
    pub fn apply(&self, tracker: &Tracker<'_>, more: &[&str]) -> Result<String> {
        let path = self.path().to_str().context("a path in UTF-8")?;
        tracker.ask(&[&["policy", "apply", path], more].concat())
    }
}

/// What `tracker policy show -o json` prints, as far as the tests ask for it.
#[derive(Clone, Debug, Deserialize)]
pub struct Shown {
    pub rules: Vec<RuleShown>,
}

/// A rule of it.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleShown {
    pub name: String,
    pub hits: u64,
}

/// The policy in force.
pub fn shown(tracker: &Tracker<'_>) -> Result<Shown> {
    let text = tracker.ask(&["policy", "show", "-o", "json"])?;
    serde_json::from_str(&text).with_context(|| format!("tracker policy show -o json: {text}"))
}

/// How often a rule has decided.
pub fn hits(tracker: &Tracker<'_>, rule: &str) -> Result<u64, String> {
    let shown = shown(tracker).map_err(|error| format!("{error:#}"))?;
    let found = shown.rules.iter().find(|shown| shown.name == rule);
    found
        .map(|rule| rule.hits)
        .ok_or_else(|| format!("there is no rule {rule} in {shown:?}"))
}
