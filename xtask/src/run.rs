//! `cargo xtask run`: the agent, or the lab, as root.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    cargo, privilege,
    process::shown,
    setup::{self, Purpose},
};

/// Builds the agent and becomes `tracker run ARGS`.
///
/// # Errors
/// Set-up or build fails, or there is no way to root.
pub fn agent(args: &[OsString]) -> Result<ExitCode> {
    privilege::check("loading eBPF programs")?;
    setup::ensure(Purpose::Build)?;
    let built = cargo::build(&["build", "--release", "--package=tracker"])?;
    let tracker = cargo::called("tracker", built)?;
    let mut command = privilege::as_root(
        tracker.file,
        &privilege::caller_variables(),
        "loading eBPF programs",
    )?;
    command.arg("run").args(args);
    become_command(command)
}

/// Builds the agent and the lab and becomes the lab.
///
/// # Errors
/// As [`agent`].
pub fn lab(args: &[OsString]) -> Result<ExitCode> {
    privilege::check("making network namespaces")?;
    setup::ensure(Purpose::Lab)?;
    let built = cargo::build(&["build", "--release", "--package=tracker"])?;
    let tracker = cargo::called("tracker", built)?;
    let package = "--package=tracker-tests";
    let built = cargo::build(&["build", "--release", package, "--bin=tracker-lab"])?;
    let lab = cargo::called("tracker-lab", built)?;
    let mut variables = privilege::caller_variables();
    variables.push(("TRACKER_BIN".into(), tracker.file.into()));
    let mut command = privilege::as_root(lab.file, &variables, "making network namespaces")?;
    command.args(args);
    become_command(command)
}

/// Replaces this process, so that signals and the exit code are the program's.
fn become_command(mut command: Command) -> Result<ExitCode> {
    let text = shown(&command);
    Err(command.exec()).with_context(|| format!("cannot start `{text}`"))
}
