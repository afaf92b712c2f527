//! docs/correctness.md: the template with the numbers put in.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    account::{Account, Accounts},
    judges::JUDGES,
};
use crate::paths;

/// Where everything about it is, from the workspace.
pub const FOLDER: &str = "docs/correctness";

/// What numbers are kept in, beside the page.
pub const NUMBERS: &str = "docs/correctness.json";

const PAGE: &str = "docs/correctness.md";
const TEMPLATE: &str = "docs/correctness.template.md";

/// What stands where nothing is known yet.
const NOT_RUN: &str = "(This judge has not run yet.)\n";

/// Writes the page.
///
/// # Errors
/// The template cannot be read or has a place that is not known, or the page
/// cannot be written.
pub fn write(accounts: &Accounts) -> Result<()> {
    let workspace = paths::workspace()?;
    let template = workspace.join(TEMPLATE);
    let text = fs::read_to_string(&template)
        .with_context(|| format!("cannot read {}", template.display()))?;
    let page = workspace.join(PAGE);
    let text = fill(&text, accounts).with_context(|| format!("in {}", template.display()))?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// Fills the lines of a template that consist of a `{{place}}`.
fn fill(template: &str, accounts: &Accounts) -> Result<String> {
    let mut text = String::new();
    for line in template.lines() {
        let place = line
            .strip_prefix("{{")
            .and_then(|line| line.strip_suffix("}}"));
        match place {
            None => {
                text.push_str(line);
                text.push('\n');
            }
            Some("results") => text.push_str(&results(accounts)),
            Some("places") => text.push_str(&places(accounts)),
            Some("differences") => text.push_str(&differences(accounts)),
            Some("scenarios") => text.push_str(&scenarios(accounts)),
            Some("apart") => text.push_str(&apart(accounts)),
            Some(other) => bail!("nothing is called {{{{{other}}}}}"),
        }
    }
    Ok(text)
}

/// The table of results: one row a judge.
pub fn results(accounts: &Accounts) -> String {
    let mut text =
        String::from("| judge | result | numbers | time | command |\n|---|---|---|---|---|\n");
    for judge in JUDGES {
        let _ = match accounts.get(judge.name) {
            None => writeln!(text, "| {} | not run | | | |", judge.title),
            Some(account) => writeln!(
                text,
                "| {} | {} | {} | {} | `{}` |",
                judge.title,
                if account.passed {
                    "passed"
                } else {
                    "**failed**"
                },
                told(&account.numbers(judge)),
                duration(account.seconds),
                account.command
            ),
        };
    }
    text
}

fn told(numbers: &[(&str, u64)]) -> String {
    let told = numbers
        .iter()
        .map(|(label, number)| format!("{label}: {}", grouped(*number)));
    told.collect::<Vec<_>>().join("; ")
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: u64) -> String {
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// When and where they ran: once for each place.
fn places(accounts: &Accounts) -> String {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for judge in JUDGES {
        if let Some(Account { place, .. }) = accounts.get(judge.name) {
            let place = format!(
                "{}, commit {}, Linux {}, {}, {}",
                place.date, place.commit, place.kernel, place.compiler, place.machine
            );
            places.entry(place).or_default().push(judge.name);
        }
    }
    if places.is_empty() {
        return NOT_RUN.into();
    }
    let mut text = String::new();
    for (place, judges) in places {
        let _ = writeln!(text, "- {place}: {}", judges.join(", "));
    }
    text
}

/// Every line of a judge.
fn lines<'a>(accounts: &'a Accounts, judge: &str) -> &'a [Value] {
    accounts.get(judge).map_or(&[], |account| &account.said)
}

fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number_of(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The differences from nf_conntrack that were met.
fn differences(accounts: &Accounts) -> String {
    let mut text = String::from(
        "| difference | packets | right | what conntrack does, and what decides |\n|---|---|---|---|\n",
    );
    let met: Vec<(&String, &Value)> = lines(accounts, "conntrack_judge")
        .iter()
        .filter_map(|line| line.get("differences")?.as_object())
        .flatten()
        .collect();
    if met.is_empty() {
        return NOT_RUN.into();
    }
    for (name, difference) in met {
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} |",
            grouped(number_of(difference, "packets") + number_of(difference, "silent")),
            text_of(difference, "right"),
            cell(text_of(difference, "source"))
        );
    }
    text
}

/// The scenarios of the model.
fn scenarios(accounts: &Accounts) -> String {
    // Others are about trackers that were broken on purpose.
    let lines: Vec<&Value> = lines(accounts, "model")
        .iter()
        .filter(|line| line.get("scenario").is_some())
        .collect();
    if lines.is_empty() {
        return NOT_RUN.into();
    }
    let mut text = String::from(
        "| scenario | states | transitions | depth | all of them | kinds of counter-example |\n\
         |---|---|---|---|---|---|\n",
    );
    for line in lines {
        let all = line.get("exhausted").and_then(Value::as_bool) == Some(true);
        let found = line.get("counterexamples").and_then(Value::as_array);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            cell(text_of(line, "scenario")),
            grouped(number_of(line, "states")),
            grouped(number_of(line, "transitions")),
            number_of(line, "depth"),
            if all { "yes" } else { "to this depth" },
            found.map_or(0, Vec::len)
        );
    }
    text
}

/// What the model lists apart, over all scenarios.
fn apart(accounts: &Accounts) -> String {
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines(accounts, "model") {
        for (class, count) in line
            .get("apart")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            *classes.entry(class).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    if classes.is_empty() {
        return NOT_RUN.into();
    }
    let mut text = String::from("| class | worlds |\n|---|---|\n");
    for (class, count) in classes {
        let _ = writeln!(text, "| `{class}` | {} |", grouped(count));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::account::Place;

    fn accounts() -> Accounts {
        let place = Place {
            date: "2026-01-02".into(),
            commit: "abc".into(),
            kernel: "6.18".into(),
            compiler: "rustc 1".into(),
            machine: "1 × Slow".into(),
        };
        let said = json!({
            "connections": 5, "packets": 1_234_567, "unexplained": 0,
            "differences": {"late_syn": {"packets": 3, "silent": 1, "right": "tracker", "source": "a|b"}},
        });
        let account = Account {
            passed: false,
            seconds: 61,
            command: "cargo xtask judge conntrack_judge".into(),
            place,
            said: vec![said],
        };
        Accounts::from([("conntrack_judge".into(), account)])
    }

    #[test]
    fn places_of_the_template_are_filled() {
        let text = fill(
            "# Head\n{{results}}\ntext\n{{places}}\n{{differences}}\n",
            &accounts(),
        );
        let text = text.unwrap();
        assert!(text.starts_with("# Head\n| judge |"), "{text}");
        assert!(text.contains(
            "| nf_conntrack | **failed** | connections: 5; packets: 1,234,567; kinds of \
             difference, each explained: 1; unexplained: 0 | 1 min 1 s |"
        ));
        assert!(text.contains("| Fuzzing | not run |"));
        assert!(text.contains("Linux 6.18, rustc 1, 1 × Slow: conntrack_judge\n"));
        assert!(
            text.contains("| `late_syn` | 4 | tracker | a\\|b |"),
            "{text}"
        );
    }

    #[test]
    fn unknown_places_are_errors() {
        assert!(fill("{{nothing}}\n", &accounts()).is_err());
    }

    #[test]
    fn the_template_is_whole() {
        let template = paths::workspace().unwrap().join(TEMPLATE);
        let template = fs::read_to_string(template).unwrap();
        let text = fill(&template, &accounts()).unwrap();
        assert!(!text.contains("{{"));
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
