//! What a judge said, and what is kept of it.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::judges::{Fold, Judge, Number};
use crate::{paths, process::capture};

/// What lines of numbers begin with.
const MARK: &str = "judge: ";

/// One run of one judge. Kept in docs/correctness.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whether it found nothing wrong.
    pub passed: bool,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// What one types to have it again.
    pub command: String,
    /// When and where.
    pub place: Place,
    /// What it printed behind [`MARK`].
    pub said: Vec<Value>,
}

/// When and where a judge ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Day, by UTC.
    pub date: String,
    /// Commit, with `+` behind it where the checkout had changes.
    pub commit: String,
    /// Release of the running kernel.
    pub kernel: String,
    /// Compiler.
    pub compiler: String,
    /// Processors and memory.
    pub machine: String,
}

/// Accounts by the name of the judge.
pub type Accounts = BTreeMap<String, Account>;

/// The JSON of a line, if it is one of numbers.
pub fn said(line: &str) -> Option<Value> {
    serde_json::from_str(line.trim().strip_prefix(MARK)?).ok()
}

impl Account {
    /// The numbers of `judge`, in its order. What nobody printed is left out.
    pub fn numbers(&self, judge: &Judge) -> Vec<(&'static str, u64)> {
        let fold = |number: &Number| Some((number.label, number.of(&self.said)?));
        judge.numbers.iter().filter_map(fold).collect()
    }
}

impl Number {
    fn of(&self, said: &[Value]) -> Option<u64> {
        let values: Vec<&Value> = said.iter().filter_map(|line| self.in_line(line)).collect();
        let numbers = values.iter().map(|value| size(value));
        match self.fold {
            _ if values.is_empty() => None,
            Fold::Sum => Some(numbers.sum()),
            Fold::Max => numbers.max(),
            Fold::Lines => Some(values.len() as u64),
        }
    }

    fn in_line<'a>(&self, line: &'a Value) -> Option<&'a Value> {
        self.path
            .iter()
            .try_fold(line, |value, name| value.get(name))
    }
}

/// The number, or how many there are.
fn size(value: &Value) -> u64 {
    let list = value.as_array().map(Vec::len);
    let count = list.or_else(|| Some(value.as_object()?.len()));
    match count {
        Some(count) => count as u64,
        None => value.as_u64().unwrap_or(0),
    }
}

impl Place {
    /// Here and today.
    ///
    /// # Errors
    /// A program that tells it cannot be run.
    pub fn here() -> Result<Self> {
        let read =
            |file: &str| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
        let kernel = read("/proc/sys/kernel/osrelease")?;
        let compiler = capture(Command::new("rustc").arg("--version"))?;
        let words: Vec<&str> = compiler.split_whitespace().take(2).collect();
        Ok(Self {
            date: capture(Command::new("date").args(["-u", "+%Y-%m-%d"]))?
                .trim()
                .into(),
            commit: commit().unwrap_or_else(|| "unknown".into()),
            kernel: kernel.trim().into(),
            compiler: words.join(" "),
            machine: machine(&read("/proc/cpuinfo")?, &read("/proc/meminfo")?),
        })
    }
}

/// The commit, where this is a checkout and there is git.
fn commit() -> Option<String> {
    let workspace = paths::workspace().ok()?;
    let git = |args: &[&str]| capture(Command::new("git").current_dir(&workspace).args(args)).ok();
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let own = ["status", "--porcelain", "--untracked-files=no"];
    let changes = git(&own)?;
    let changed = changes
        .lines()
        .any(|line| !line.contains(super::page::FOLDER));
    Some(format!(
        "{}{}",
        commit.trim(),
        if changed { "+" } else { "" }
    ))
}

/// A line about the machine.
fn machine(cpus: &str, memory: &str) -> String {
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kibibytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let gibibytes = kibibytes >> 20;
    format!("{count} × {model}, {gibibytes} GiB, {}", env::consts::ARCH)
}

/// What is kept of earlier runs.
///
/// # Errors
/// The file is there and cannot be read or understood.
pub fn load(file: &Path) -> Result<Accounts> {
    if !file.exists() {
        return Ok(Accounts::new());
    }
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is damaged; remove it, and every judge has to run again",
            file.display()
        )
    })
}

/// Keeps them.
///
/// # Errors
/// The file cannot be written.
pub fn store(file: &Path, accounts: &Accounts) -> Result<()> {
    let mut text = serde_json::to_string_pretty(accounts)
        .with_context(|| format!("cannot write {}", file.display()))?;
    text.push('\n');
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::judges::named;

    #[test]
    fn only_marked_lines_are_numbers() {
        assert_eq!(said("judge: {\"a\":1}\n"), Some(json!({"a": 1})));
        assert_eq!(said("{\"a\":1}"), None);
        assert_eq!(said("judge: a broken line"), None);
    }

    #[test]
    fn numbers_of_several_lines_are_one() {
        let judge = named("model").expect("there is one");
        let account = Account {
            passed: true,
            seconds: 1,
            command: String::new(),
            place: Place {
                date: String::new(),
                commit: String::new(),
                kernel: String::new(),
                compiler: String::new(),
                machine: String::new(),
            },
            said: vec![
                json!({"scenario": "a", "states": 10, "depth": 7, "counterexamples": []}),
                json!({"scenario": "b", "states": 5, "depth": 9, "counterexamples": [{}, {}]}),
            ],
        };
        assert_eq!(
            account.numbers(judge),
            [
                ("scenarios", 2),
                ("states", 15),
                ("depth", 9),
                ("kinds of counter-example", 2)
            ]
        );
    }

    #[test]
    fn machines_are_told_in_a_line() {
        let cpus = "processor\t: 0\nmodel name\t: Fast 1\nprocessor\t: 1\nmodel name\t: Fast 1\n";
        let told = machine(cpus, "MemTotal:       16777216 kB\n");
        assert!(told.starts_with("2 × Fast 1, 16 GiB, "), "{told}");
    }
}
