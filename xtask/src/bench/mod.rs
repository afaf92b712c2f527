//! `cargo xtask bench`: figures, each beside a floor or a peer of the same run,
//! and the page that holds them.

mod flood;
mod long;
mod page;
mod policy;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cargo, privilege,
    process::shown,
    setup::{self, Purpose},
};

/// A bench.
struct Bench {
    /// What one types, and its key in docs/bench.json.
    name: &'static str,
    /// What it measures.
    about: &'static str,
    /// Its section of the page, from its result.
    section: fn(&Value) -> String,
}

/// All of them, in the order of the page.
const BENCHES: &[Bench] = &[
    Bench {
        name: "flood",
        about: "what a SYN flood costs, and what honest clients notice of it: no defence, the \
                kernel's cookies, nftables synproxy, the tracker",
        section: flood::section,
    },
    Bench {
        name: "long-flood",
        about: "whether a hundred million packets of every kind are all counted, and what they took \
                is given back",
        section: long::section,
    },
    Bench {
        name: "policy",
        about: "what the first packet of a connection costs under 1 to 10,000 rules, and a flood of \
                them beside nftables",
        section: policy::section,
    },
];

/// What is asked for on the command line.
#[derive(Debug)]
pub struct Wanted {
    /// A bench by name; none for the list.
    pub name: Option<String>,
    /// Where the result goes, too.
    pub json: Option<PathBuf>,
    /// A short run, whose figures are shown and not kept.
    pub quick: bool,
    /// Write the page anew and run nothing.
    pub page: bool,
    /// For the bench.
    pub args: Vec<OsString>,
}

/// Runs a bench, shows its figures, and keeps those of a full run.
///
/// # Errors
/// No bench has this name; set-up, build or the bench fails; a file cannot be
/// written.
pub fn command(wanted: &Wanted) -> Result<ExitCode> {
    if wanted.page {
        page::write(&page::load()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = &wanted.name else {
        print!("{}", list());
        return Ok(ExitCode::SUCCESS);
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("no bench is called `{name}`; there are:\n{}", list());
    };
    let result = run(bench, wanted)?;
    if let Some(file) = &wanted.json {
        page::store(file, &result)?;
    }
    println!("{}", (bench.section)(&result));
    // What was asked for besides may make it another measurement.
    if wanted.quick || !wanted.args.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut kept = page::load()?;
    kept.insert(bench.name.into(), without_rounds(result));
    page::keep(&kept)?;
    page::write(&kept)?;
    Ok(ExitCode::SUCCESS)
}

/// What the page needs of a result: thousands of lines for single rounds are
/// for those who ask for them.
fn without_rounds(mut result: Value) -> Value {
    if let Some(result) = result.as_object_mut() {
        result.remove("contestants");
    }
    result
}

/// The benches, one a line.
fn list() -> String {
    BENCHES
        .iter()
        .map(|bench| format!("{:<10} {}\n", bench.name, bench.about))
        .collect()
}

/// Builds everything as users have it, and runs it as root.
fn run(bench: &Bench, wanted: &Wanted) -> Result<Value> {
    const PURPOSE: &str = "making network namespaces and loading eBPF programs";
    privilege::check(PURPOSE)?;
    setup::ensure(Purpose::Test)?;
    let built = cargo::build(&["build", "--release", "--package=tracker"])?;
    let tracker = cargo::called("tracker", built)?;
    let package = "--package=tracker-tests";
    let built = cargo::build(&["build", "--release", package, "--bin=tracker-bench"])?;
    let program = cargo::called("tracker-bench", built)?;
    let mut variables = privilege::caller_variables();
    variables.push(("TRACKER_BIN".into(), tracker.file.into()));
    let mut command = privilege::as_root(program.file, &variables, PURPOSE)?;
    command.arg(bench.name);
    if wanted.quick {
        command.arg("--quick");
    }
    command.args(&wanted.args);
    let text = shown(&command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !output.status.success() {
        bail!("`{text}` failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{text}` printed something else than its result"))
}

/// Numbers with a bench's key, as docs/bench.json holds them.
type Results = serde_json::Map<String, Value>;

/// Numbers in tables: 1,234,567 or 12.3 or 0.012.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 1.0 => 1,
        size if size >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole
        .strip_prefix('-')
        .map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// `median (smallest to largest)` of a spread multiplied by `factor`; empty if
/// nothing was measured.
fn spread(value: &Value, factor: f64) -> String {
    let part = |name: &str| Some(value.get(name)?.as_f64()? * factor);
    match (part("min"), part("median"), part("max")) {
        (Some(min), Some(median), Some(max)) if min == max => number(median),
        (Some(min), Some(median), Some(max)) => {
            format!("{} ({} to {})", number(median), number(min), number(max))
        }
        _ => String::new(),
    }
}

/// Ratios, each beside what it is to be.
fn targets(targets: &Value) -> String {
    let mut table = row(["ratio", "at most", "measured", "met"]);
    table += "|---|---|---|---|\n";
    for target in targets.as_array().into_iter().flatten() {
        let measured = spread(&target["ratio"], 1.0);
        table += &row([
            target["what"].as_str().unwrap_or_default().to_owned(),
            number(target["at_most"].as_f64().unwrap_or_default()),
            if measured.is_empty() {
                "not measured".to_owned()
            } else {
                measured
            },
            match target["met"].as_bool() {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            }
            .to_owned(),
        ]);
    }
    table
}

/// A line of a table.
fn row<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) -> String {
    let cells: Vec<String> = cells
        .into_iter()
        .map(|cell| cell.as_ref().replace('|', r"\|").replace('\n', " "))
        .collect();
    format!("| {} |\n", cells.join(" | "))
}

fn in_workspace(file: &str) -> Result<PathBuf> {
    Ok(Path::new(&crate::paths::workspace()?).join(file))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(-1234.0), "-1,234");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(0.001_234), "0.00123");
        assert_eq!(number(0.0), "0");
    }

    #[test]
    fn spreads_show_what_was_measured() {
        let value = json!({"min": 1.0, "median": 2.0, "max": 3.0});
        assert_eq!(spread(&value, 100.0), "200 (100 to 300)");
        let value = json!({"min": 1.0, "median": 1.0, "max": 1.0});
        assert_eq!(spread(&value, 1.0), "1");
        assert_eq!(spread(&Value::Null, 1.0), "");
    }

    #[test]
    fn a_bench_of_another_name_is_refused_with_the_list() {
        let wanted = Wanted {
            name: Some("bench".into()),
            json: None,
            quick: true,
            page: false,
            args: Vec::new(),
        };
        let error = command(&wanted).unwrap_err().to_string();
        assert!(
            error.contains("`bench`") && error.contains("flood"),
            "{error}"
        );
    }
}
