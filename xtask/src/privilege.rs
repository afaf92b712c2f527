//! Running single programs as root while the build stays the user's.

use std::{ffi::OsStr, fs, os::unix::fs::MetadataExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Whether this process runs as root.
pub fn is_root() -> Result<bool> {
    // The owner of the entry is the effective user.
    let owner = fs::metadata("/proc/self")
        .context("cannot read /proc/self; is /proc mounted?")?
        .uid();
    Ok(owner == 0)
}

/// A command that runs `program` as root with `variables` added to its
/// environment: itself for root, else through sudo.
///
/// # Errors
/// Neither root nor sudo; the message says what `purpose` needs it for.
pub fn as_root(
    program: impl AsRef<OsStr>,
    variables: &[(&str, &OsStr)],
    purpose: &str,
) -> Result<Command> {
    if is_root()? {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        return Ok(command);
    }
    let Some(sudo) = paths::program("sudo") else {
        bail!("{purpose} needs root and sudo is not installed; run the same command as root");
    };
    // sudo clears the environment, and keeping it is a matter of its policy;
    // `env` sets the variables on the inside.
    let mut command = Command::new(sudo);
    command.args(["--", "env"]);
    for (name, value) in variables {
        let mut assignment = OsStr::new(name).to_os_string();
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}
