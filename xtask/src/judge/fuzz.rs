//! The fuzzer, for a bounded time.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    paths,
    process::{run_logged, say},
    test,
};

/// Targets in `fuzz/`.
const TARGETS: [&str; 3] = ["parse", "segments", "capture"];

/// Most memory, in MiB, that the fuzzer and one allocation of what is fuzzed may
/// take. A pcapng block of 16 MiB is the largest thing that is held.
const MEMORY: [u32; 2] = [2048, 64];

/// Longest input that is made up, in octets.
const LONGEST: u32 = 4096;

/// Runs every target for `seconds`; whether no law was broken. What is found
/// worth keeping goes to `target/fuzz-corpus`, not to the corpus that is
/// committed: `cargo fuzz cmin` makes that one.
///
/// # Errors
/// cargo-fuzz is missing and cannot be installed, or a target does not build.
pub fn run(seconds: u32, said: &mut Vec<Value>) -> Result<bool> {
    ensure()?;
    let workspace = paths::workspace()?;
    let mut whole = true;
    for target in TARGETS {
        let found = workspace.join("target/fuzz-corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        // libFuzzer writes to the error output, which is passed on with the rest.
        let mut command = Command::new("sh");
        command
            .current_dir(workspace.join("fuzz"))
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            // The code is safe Rust but for plain old data: what a sanitizer
            // would see, a bounds check sees, and this needs no nightly compiler.
            .args(["cargo", "fuzz", "run", "--sanitizer=none", "--target-dir"])
            .arg(workspace.join("target/fuzz"))
            .arg(target)
            .arg(&found)
            .arg(format!("corpus/{target}"))
            .args(["--", "-print_final_stats=1"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-rss_limit_mb={}", MEMORY[0]))
            .arg(format!("-malloc_limit_mb={}", MEMORY[1]));
        let mut stats = Stats::default();
        let outcome = test::run_suite(&mut command, |line| stats.read(line))?;
        let broken = !outcome.clean;
        whole &= !broken;
        said.push(json!({
            "judge": "fuzz",
            "target": target,
            "seconds": seconds,
            "tried": stats.tried,
            "new": stats.new,
            "broken": u32::from(broken),
        }));
    }
    Ok(whole)
}

/// What libFuzzer tells at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stats {
    tried: u64,
    new: u64,
}

impl Stats {
    /// Takes in a line such as `stat::number_of_executed_units: 1234`.
    fn read(&mut self, line: &str) {
        let Some((name, value)) = line
            .trim()
            .strip_prefix("stat::")
            .and_then(|stat| stat.split_once(':'))
        else {
            return;
        };
        let value = value.trim().parse().unwrap_or(0);
        match name {
            "number_of_executed_units" => self.tried = value,
            "new_units_added" => self.new = value,
            _ => {}
        }
    }
}

/// Installs cargo-fuzz if it is missing.
fn ensure() -> Result<()> {
    install("cargo-fuzz", "cargo-fuzz, which builds and runs the fuzzer")
}

/// Installs a package of crates.io if its program is missing.
pub fn install(package: &str, what: &str) -> Result<()> {
    let name = package.trim_start_matches("cargo-");
    let there = Command::new("cargo")
        .args([name, "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if there {
        return Ok(());
    }
    say(&format!("installing {what}"));
    let mut command = Command::new("cargo");
    run_logged(package, command.args(["install", "--locked", package]))
        .with_context(|| format!("{what}, is missing; install it with `cargo install {package}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_stats_are_read() {
        let mut stats = Stats::default();
        for line in [
            "#2097152\tpulse  cov: 12 ft: 34 corp: 5/6b",
            "stat::number_of_executed_units: 2097152",
            "stat::new_units_added:          17",
            "stat::peak_rss_mb:              40",
        ] {
            stats.read(line);
        }
        let expected = Stats {
            tried: 2_097_152,
            new: 17,
        };
        assert_eq!(stats, expected);
    }
}
