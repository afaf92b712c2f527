//! `cargo xtask run`: the agent, or the lab, as root.

use std::{
    ffi::{OsStr, OsString},
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
    setup::ensure(Purpose::Build)?;
    let built = cargo::build(&["build", "--release", "--package", "tracker"])?;
    let tracker = cargo::called("tracker", built)?.file;
    let mut command = privilege::as_root(tracker, &[], "loading eBPF programs")?;
    command.arg("run").args(args);
    become_command(command)
}

/// Builds the agent and the lab and becomes the lab.
///
/// # Errors
/// As [`agent`].
pub fn lab(args: &[OsString]) -> Result<ExitCode> {
    setup::ensure(Purpose::Lab)?;
    let built = cargo::build(&["build", "--release", "--package", "tracker"])?;
    let tracker = cargo::called("tracker", built)?.file;
    let package = "--package=tracker-tests";
    let lab = cargo::build(&["build", "--release", package, "--bin=tracker-lab"])?;
    let mut variables: Vec<(&str, &OsStr)> = vec![("TRACKER_BIN", tracker.as_os_str())];
    // sudo drops it, and the table's layout follows the terminal's abilities.
    let term = std::env::var_os("TERM");
    variables.extend(term.as_deref().map(|term| ("TERM", term)));
    let lab = cargo::called("tracker-lab", lab)?.file;
    let mut command = privilege::as_root(lab, &variables, "making network namespaces")?;
    command.args(args);
    become_command(command)
}

/// Replaces this process, so that signals and the exit code are the program's.
fn become_command(mut command: Command) -> Result<ExitCode> {
    let text = shown(&command);
    Err(command.exec()).with_context(|| format!("cannot start `{text}`"))
}
