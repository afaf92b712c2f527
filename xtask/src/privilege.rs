//! Running single programs as root while the build stays the user's.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt as _,
    process::Command,
};

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

/// Fails now rather than after a long build if there is no way to root.
///
/// # Errors
/// As [`as_root`].
pub fn check(purpose: &str) -> Result<()> {
    as_root("true", &[], purpose).map(|_| ())
}

/// Those of the caller's variables that a program run as root is meant to see,
/// for sudo clears them.
pub fn caller_variables() -> Vec<(String, OsString)> {
    meant_for_root(env::vars_os())
}

/// Beginnings of the names of such variables.
const PASSED_ON: [&str; 5] = [
    "TRACKER_",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "NO_COLOR",
    "PROPTEST_",
];

fn meant_for_root(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(String, OsString)> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| PASSED_ON.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// A command that runs `program` as root with `variables` added to its
/// environment: itself for root, else through sudo.
///
/// # Errors
/// Neither root nor sudo; the message says what `purpose` needs it for.
pub fn as_root(
    program: impl AsRef<OsStr>,
    variables: &[(String, OsString)],
    purpose: &str,
) -> Result<Command> {
    if is_root()? {
        let mut command = Command::new(program);
        let path = env::join_paths(paths::search_path()).context("PATH cannot be extended")?;
        command.env("PATH", path).envs(variables.iter().cloned());
        return Ok(command);
    }
    let Some(sudo) = paths::program("sudo") else {
        bail!("{purpose} needs root and sudo is not installed; run the same command as root");
    };
    // Keeping variables is a matter of sudo's policy, so `env` sets them inside.
    let mut command = Command::new(sudo);
    command.args(["--", "env"]);
    for (name, value) in variables {
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_meant_for_it_reach_root() {
        let variables = ["PROPTEST_CASES", "HOME", "TRACKER_LOG", "MY_TRACKER_"]
            .map(|name| (OsString::from(name), OsString::from("1")));
        let names: Vec<_> = meant_for_root(variables.into_iter())
            .into_iter()
            .map(|v| v.0)
            .collect();
        assert_eq!(names, ["PROPTEST_CASES", "TRACKER_LOG"]);
    }
}
