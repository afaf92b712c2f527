//! Building with cargo and finding what it built.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{paths, process::shown};

/// A program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Name of the target.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Folder of its package.
    pub package: PathBuf,
    /// It runs tests, rather than being a program that tests use.
    pub test: bool,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The cargo that runs this program, in the workspace.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new("cargo");
    command.current_dir(paths::workspace()?);
    Ok(command)
}

/// Runs `cargo ARGS` with its progress and diagnostics on the error output, and
/// returns the programs it built.
///
/// # Errors
/// The build fails.
pub fn build(args: &[&str]) -> Result<Vec<Executable>> {
    let mut command = cargo()?;
    command
        .args(args)
        .arg("--message-format=json-render-diagnostics");
    let text = shown(&command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let mut executables = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("cannot read the output of `{text}`"))?;
            executables.extend(executable(&line));
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(executables)
}

/// The one program called `name`.
///
/// # Errors
/// It is not among them.
pub fn called(name: &str, executables: Vec<Executable>) -> Result<Executable> {
    executables
        .into_iter()
        .find(|executable| executable.name == name)
        .with_context(|| format!("cargo built no program called `{name}`"))
}

/// The program that a line of cargo's output announces, if it does.
fn executable(line: &str) -> Option<Executable> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" {
        return None;
    }
    Some(Executable {
        name: message.target?.name,
        file: message.executable?,
        package: message.manifest_path?.parent()?.into(),
        test: message.profile.is_some_and(|profile| profile.test),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_with_a_program_count() {
        let program = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml",
            "target":{"name":"table","kind":["test"]},"executable":"/w/target/debug/deps/table-1",
            "profile":{"opt_level":"0","test":true},"fresh":true}"#;
        assert_eq!(
            executable(program),
            Some(Executable {
                name: "table".into(),
                file: "/w/target/debug/deps/table-1".into(),
                package: "/w/tests".into(),
                test: true,
            })
        );
        let library = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml",
            "target":{"name":"a"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(executable("plain text of a build script"), None);
    }
}
