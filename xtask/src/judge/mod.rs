//! `cargo xtask judge`: everything that judges the tracker, in its full form,
//! and the page that tells what came of it.

mod account;
mod fuzz;
mod judges;
mod mutants;
mod page;

use std::{ffi::OsString, process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use self::{
    account::{Account, Accounts, Place},
    judges::{JUDGES, Judge, Kind, named},
};
use crate::{
    cargo::{self, Executable},
    paths, privilege,
    setup::{self, Purpose},
    test::{self, Outcome},
};

/// Tells the test programs how much to do.
const EFFORT: &str = "TRACKER_JUDGE";

/// Everything is built in this profile: optimised, with all checks.
const PROFILE: &str = "judge";

/// Longest time a judge may take in its short form, in seconds.
const QUICK_SECONDS: u32 = 600;

/// What is asked for on the command line.
#[derive(Debug)]
pub struct Wanted {
    /// Judges by name; none for the usual ones.
    pub names: Vec<String>,
    /// The short forms, whose numbers are not kept.
    pub quick: bool,
    /// cargo-mutants, too.
    pub mutants: bool,
}

/// Writes the page from the numbers that are kept.
///
/// # Errors
/// They cannot be read, or the page cannot be written.
pub fn page() -> Result<ExitCode> {
    let numbers = paths::workspace()?.join(page::NUMBERS);
    page::write(&account::load(&numbers)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the judges and writes the page.
///
/// # Errors
/// Set-up fails, a name is nobody's, or the page cannot be written. Judges that
/// find something are no errors.
pub fn command(wanted: &Wanted) -> Result<ExitCode> {
    let judges = wanted.judges()?;
    privilege::check("loading eBPF programs, which the judges do,")?;
    setup::ensure(Purpose::Test)?;
    let numbers = paths::workspace()?.join(page::NUMBERS);
    // Before hours are spent: it must be readable.
    account::load(&numbers)?;
    let place = Place::here()?;
    let programs = if judges.iter().any(|judge| judge.kind == Kind::Suite) {
        Some(Programs::build()?)
    } else {
        None
    };
    let mut accounts = Accounts::new();
    for judge in &judges {
        eprintln!("\n=== {}", judge.title);
        let account = one(judge, wanted.quick, programs.as_ref(), &place)?;
        // After each: a run that is stopped has not been in vain.
        if !wanted.quick {
            // Another run may have kept something meanwhile.
            let mut kept = account::load(&numbers)?;
            kept.insert(judge.name.into(), account.clone());
            account::store(&numbers, &kept)?;
            page::write(&kept)?;
        }
        accounts.insert(judge.name.into(), account);
    }
    println!();
    print!("{}", page::results(&accounts));
    let failed = accounts.values().filter(|account| !account.passed).count();
    println!("\n{} passed, {failed} failed", accounts.len() - failed);
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Wanted {
    fn judges(&self) -> Result<Vec<&'static Judge>> {
        if let Some(nobody) = self.names.iter().find(|name| named(name).is_none()) {
            let known: Vec<&str> = JUDGES.iter().map(|judge| judge.name).collect();
            bail!(
                "no judge is called `{nobody}`; there are {}",
                known.join(", ")
            );
        }
        let is_wanted = |judge: &&Judge| {
            if self.names.is_empty() {
                judge.is_usual() || self.mutants
            } else {
                self.names.iter().any(|name| name == judge.name)
                    || self.mutants && judge.kind == Kind::Mutants
            }
        };
        Ok(JUDGES.iter().filter(is_wanted).collect())
    }
}

/// What the test programs are and need.
struct Programs {
    suites: Vec<Executable>,
    variables: Vec<(String, OsString)>,
}

impl Programs {
    fn build() -> Result<Self> {
        let profile = format!("--profile={PROFILE}");
        let built = cargo::build(&["build", &profile, "--package=tracker"])?;
        let agent = cargo::called("tracker", built)?;
        let suites = test::suites(&["test", "--no-run", &profile, "--package=tracker-tests"])?;
        let mut variables = privilege::caller_variables();
        variables.retain(|(name, _)| name != EFFORT);
        variables.push(("TRACKER_BIN".into(), agent.file.into()));
        Ok(Self { suites, variables })
    }
}

/// Runs one judge.
fn one(judge: &Judge, quick: bool, programs: Option<&Programs>, place: &Place) -> Result<Account> {
    let begun = Instant::now();
    let mut said = Vec::new();
    let passed = match (judge.kind, programs) {
        (Kind::Suite, Some(programs)) => {
            let outcome = programs.run(judge, quick, |line| said.extend(account::said(line)))?;
            let silent = said.is_empty() && !judge.numbers.is_empty();
            if silent {
                eprintln!(
                    "error: `{}` has told no numbers: it had nothing to judge by",
                    judge.name
                );
            }
            outcome.clean && outcome.failed == 0 && outcome.passed > 0 && !silent
        }
        (Kind::Suite, None) => bail!("the test program of `{}` was not built", judge.name),
        (Kind::Fuzz { full, quick: short }, _) => {
            fuzz::run(if quick { short } else { full }, &mut said)?
        }
        (Kind::Mutants, _) => mutants::run(judge.seconds, &mut said)?,
    };
    Ok(Account {
        passed,
        seconds: begun.elapsed().as_secs(),
        command: format!("cargo xtask judge {}", judge.name),
        place: place.clone(),
        said,
    })
}

impl Programs {
    fn run(&self, judge: &Judge, quick: bool, line: impl FnMut(&str)) -> Result<Outcome> {
        let is_its = |suite: &&Executable| suite.name == judge.name;
        let Some(suite) = self.suites.iter().find(is_its) else {
            bail!(
                "the package tracker-tests has no test program `{}`",
                judge.name
            );
        };
        let mut variables = self.variables.clone();
        variables.push((test::PACKAGE.into(), suite.package.clone().into()));
        if !quick {
            variables.push((EFFORT.into(), "full".into()));
        }
        let seconds = if quick { QUICK_SECONDS } else { judge.seconds };
        let command = privilege::as_root("timeout", &variables, "loading eBPF programs")?;
        let show = ["--nocapture".into()];
        let mut command = test::bounded(command, suite, seconds, None, &show);
        test::run_suite(&mut command, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str], mutants: bool) -> Result<Vec<&'static str>> {
        let wanted = Wanted {
            names: names.iter().map(|&name| name.into()).collect(),
            quick: false,
            mutants,
        };
        Ok(wanted.judges()?.iter().map(|judge| judge.name).collect())
    }

    #[test]
    fn mutants_are_asked_for() {
        let usual = wanted(&[], false).unwrap();
        assert!(usual.contains(&"model") && !usual.contains(&"mutants"));
        assert!(wanted(&[], true).unwrap().contains(&"mutants"));
        assert_eq!(wanted(&["mutants"], false).unwrap(), ["mutants"]);
        assert_eq!(wanted(&["model"], true).unwrap(), ["model", "mutants"]);
    }

    #[test]
    fn nobody_is_an_error_that_names_the_others() {
        let error = wanted(&["jury"], false).unwrap_err().to_string();
        assert!(error.contains("`jury`") && error.contains("conntrack_judge"));
    }
}
