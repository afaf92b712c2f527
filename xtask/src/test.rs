//! `cargo xtask test`: all rings of tests, and one line that sums them up.
//!
//! Everything is built in the dev profile, which the other project commands and
//! an editor use too, so that nothing is built twice: it checks overflows and
//! debug assertions, and the eBPF programs are optimised in any profile.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{self, Executable},
    privilege,
    process::shown,
    setup::{self, Purpose},
};

/// Longest time one test program may take, in seconds. One that hangs
/// is stopped and counts as failed.
const SUITE_SECONDS: u32 = 480;

/// Cargo sets it for the tests it runs: the folder of their package.
pub const PACKAGE: &str = "CARGO_MANIFEST_DIR";

/// Runs every ring of tests; `filter` and `args` go to the test programs.
///
/// # Errors
/// Set-up fails. Failing tests and builds are counted, not errors.
pub fn command(filter: Option<&str>, args: &[OsString]) -> Result<ExitCode> {
    privilege::check("loading eBPF programs, which the tests do,")?;
    setup::ensure(Purpose::Test)?;
    let mut report = Report::default();

    heading("tests without root");
    if let Some(suites) = report.built(suites(&["test", "--no-run"])) {
        for suite in &suites {
            report.run(
                suite,
                bounded(Command::new("timeout"), suite, SUITE_SECONDS, filter, args),
            )?;
        }
        let mut examples = cargo::cargo()?;
        examples.args(["test", "--doc"]).args(filter);
        report.add(
            "examples in the documentation",
            run_suite(&mut examples, |_| {})?,
        );
    }

    heading("tests with the loaded programs");
    let built = agent().and_then(|agent| {
        let suites = suites(&["test", "--no-run", "--package=tracker-tests"])?;
        Ok((agent, suites))
    });
    if let Some((agent, suites)) = report.built(built) {
        let mut variables = privilege::caller_variables();
        variables.push(("TRACKER_BIN".into(), agent.file.into()));
        for suite in &suites {
            let mut variables = variables.clone();
            variables.push((PACKAGE.into(), suite.package.clone().into()));
            let command = privilege::as_root("timeout", &variables, "loading eBPF programs")?;
            report.run(suite, bounded(command, suite, SUITE_SECONDS, filter, args))?;
        }
    }
    Ok(report.finish(filter))
}

fn agent() -> Result<Executable> {
    cargo::called("tracker", cargo::build(&["build", "--package=tracker"])?)
}

/// Builds test programs and returns them in a fixed order.
///
/// # Errors
/// The build fails.
pub fn suites(args: &[&str]) -> Result<Vec<Executable>> {
    let mut suites = cargo::build(args)?;
    suites.retain(|executable| executable.test);
    suites.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(suites)
}

/// Completes a command that begins with `timeout`: the suite's program in its
/// package's folder, as cargo would run it, but at most so many `seconds`.
pub fn bounded(
    mut timeout: Command,
    suite: &Executable,
    seconds: u32,
    filter: Option<&str>,
    args: &[OsString],
) -> Command {
    timeout
        // In the foreground Ctrl-C reaches the tests.
        .args(["--foreground", "--kill-after=10", &seconds.to_string()])
        .arg(&suite.file)
        .args(filter)
        .args(args)
        .env(PACKAGE, &suite.package)
        .current_dir(&suite.package);
    timeout
}

/// What one test program, or one run of cargo over several, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// It ended with success.
    pub clean: bool,
}

impl Outcome {
    /// Takes in a line such as `test result: ok. 3 passed; 0 failed; …`.
    fn read(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<usize>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                (Some(_) | None, _) => {}
            }
        }
    }
}

/// Runs a test command, passing its output on and counting as it goes by. Each
/// line goes to `each`, too.
///
/// # Errors
/// It cannot be started, or its output not be passed on.
pub fn run_suite(command: &mut Command, mut each: impl FnMut(&str)) -> Result<Outcome> {
    let text = shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let mut outcome = Outcome::default();
    if let Some(output) = child.stdout.take() {
        let mut screen = std::io::stdout();
        // By bytes: a test may print what is not UTF-8.
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("cannot read the output of `{text}`"))?;
            screen
                .write_all(&line)
                .and_then(|()| screen.write_all(b"\n"))
                .context("cannot write the output of the tests")?;
            let line = String::from_utf8_lossy(&line);
            outcome.read(&line);
            each(&line);
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{text}`"))?;
    if !status.success() && outcome.failed == 0 {
        eprintln!("error: `{text}` ended without a failed test, but not well ({status})");
    }
    outcome.clean = status.success();
    Ok(outcome)
}

/// The sum over all suites.
#[derive(Debug, Default)]
struct Report {
    passed: usize,
    failed: usize,
    bad_suites: Vec<String>,
}

impl Report {
    /// What was built; what was not is said and counts as a failure.
    fn built<T>(&mut self, built: Result<T>) -> Option<T> {
        built
            .inspect_err(|error| {
                eprintln!("error: {error:#}");
                self.add("build", Outcome::default());
            })
            .ok()
    }

    fn run(&mut self, suite: &Executable, mut command: Command) -> Result<()> {
        eprintln!("     Running {} ({})", suite.name, suite.file.display());
        self.add(&suite.name, run_suite(&mut command, |_| {})?);
        Ok(())
    }

    fn add(&mut self, suite: &str, outcome: Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed;
        if !outcome.clean || outcome.failed > 0 {
            self.bad_suites.push(suite.into());
            // One that did not build, crashed or hung has no failed test to show.
            self.failed += usize::from(outcome.failed == 0);
        }
    }

    fn finish(&self, filter: Option<&str>) -> ExitCode {
        println!();
        if !self.bad_suites.is_empty() {
            println!("failed: {}", self.bad_suites.join(", "));
        }
        let nothing = self.passed + self.failed == 0;
        if nothing {
            println!("no test is called `{}`", filter.unwrap_or_default());
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if nothing || self.failed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn heading(text: &str) {
    eprintln!("\n=== {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str], clean: bool) -> Outcome {
        let mut outcome = Outcome {
            clean,
            ..Outcome::default()
        };
        lines.iter().for_each(|line| outcome.read(line));
        outcome
    }

    #[test]
    fn results_of_several_programs_add_up() {
        let lines = [
            "test parse::tests::short ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "9 passed; said by a test itself",
        ];
        assert_eq!(
            outcome(&lines, false),
            Outcome {
                passed: 16,
                failed: 2,
                clean: false
            }
        );
    }

    #[test]
    fn suite_that_crashed_counts_as_one_failure() {
        let mut report = Report::default();
        report.add("crashed", outcome(&[], false));
        report.add(
            "good",
            outcome(&["test result: ok. 5 passed; 0 failed;"], true),
        );
        report.add(
            "bad",
            outcome(&["test result: FAILED. 1 passed; 3 failed;"], false),
        );
        assert_eq!((report.passed, report.failed), (6, 4));
        assert_eq!(report.bad_suites, ["crashed", "bad"]);
    }
}
