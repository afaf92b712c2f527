//! cargo-mutants on the brain: would the tests notice if it were otherwise?

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fuzz::install;
use crate::{paths, test};

/// What cargo-mutants leaves behind, in `target/mutants.out`.
#[derive(Deserialize)]
struct Outcomes {
    total_mutants: u64,
    missed: u64,
    caught: u64,
    timeout: u64,
    unviable: u64,
}

/// Changes the brain in every way that cargo-mutants knows and runs its tests;
/// whether all of it could be tried. Mutants that are left are told in the page.
///
/// # Errors
/// cargo-mutants is missing and cannot be installed, or its result cannot be
/// read.
pub fn run(seconds: u32, said: &mut Vec<Value>) -> Result<bool> {
    install("cargo-mutants", "cargo-mutants, which changes the brain")?;
    let target = paths::workspace()?.join("target");
    let mut command = Command::new("timeout");
    command
        .current_dir(paths::workspace()?)
        .args(["--foreground", "--kill-after=10", &seconds.to_string()])
        .args(["cargo", "mutants", "--package=tracker-common", "--output"])
        .arg(&target);
    test::run_suite(&mut command, |_| {})?;
    let file = target.join("mutants.out/outcomes.json");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let told = told(&text).with_context(|| format!("cannot understand {}", file.display()))?;
    let whole = told["untried"] == 0;
    said.push(told);
    Ok(whole)
}

fn told(outcomes: &str) -> Result<Value> {
    let Outcomes {
        total_mutants,
        missed,
        caught,
        timeout,
        unviable,
    } = serde_json::from_str(outcomes)?;
    Ok(json!({
        "judge": "mutants",
        "viable": total_mutants.saturating_sub(unviable),
        // A test that hangs has noticed, too.
        "caught": caught + timeout,
        "missed": missed,
        "untried": total_mutants.saturating_sub(unviable + caught + timeout + missed),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_that_hang_are_caught() {
        let outcomes = r#"{"outcomes": [], "total_mutants": 10, "missed": 1, "caught": 5,
            "timeout": 2, "unviable": 2, "success": 0}"#;
        let told = told(outcomes).unwrap();
        assert_eq!(
            (told["viable"].as_u64(), told["caught"].as_u64()),
            (Some(8), Some(7))
        );
        assert_eq!(
            (told["missed"].as_u64(), told["untried"].as_u64()),
            (Some(1), Some(0))
        );
    }
}
