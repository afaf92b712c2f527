//! Starting other programs: shown before they run, logged, and explained when
//! they fail.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Lines of a failed program's output that go into the error.
const TAIL_LINES: usize = 15;

/// Says what is about to be done and why.
pub fn say(what: &str) {
    eprintln!("setup: {what}");
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    variables
        .chain([quoted(command.get_program())])
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Shows the command, runs it with its output in `<cache>/log/NAME.log`.
///
/// # Errors
/// It cannot be started, or fails; the error carries the command, the last
/// lines of its output and where the rest is.
pub fn run_logged(name: &str, command: &mut Command) -> Result<()> {
    let text = shown(command);
    eprintln!("       $ {text}");
    let log = log_file(name)?;
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let copy = file
        .try_clone()
        .with_context(|| format!("cannot write {}", log.display()))?;
    let status = quiet_about_itself(command)
        .stdout(file)
        .stderr(copy)
        .status()
        .with_context(|| format!("cannot start `{text}`"))?;
    if status.success() {
        return Ok(());
    }
    let output = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    bail!(
        "`{text}` failed ({status}); the end of its output (whole in {}):\n{}",
        log.display(),
        tail(&String::from_utf8_lossy(&output), TAIL_LINES)
    )
}

/// Runs the command and returns what it wrote to its output.
///
/// # Errors
/// It cannot be started, or fails; the error carries the command and what it
/// wrote to its error output.
pub fn capture(command: &mut Command) -> Result<String> {
    let text = shown(command);
    let output = quiet_about_itself(command)
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !output.status.success() {
        bail!(
            "`{text}` failed ({}): {}",
            output.status,
            tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{text}` is not UTF-8"))
}

/// Without a terminal to read from, and without the backtrace that would push
/// rustup's and cargo's own words out of the end of their output.
fn quiet_about_itself(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).env("RUST_BACKTRACE", "0")
}

fn log_file(name: &str) -> Result<PathBuf> {
    let folder = paths::cache()?.join("log");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.join(format!("{name}.log")))
}

/// The last `count` lines that are not blank, indented.
fn tail(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("cargo");
        command
            .args(["install", "a b", "it's", ""])
            .env("LLVM_PREFIX", "/usr/lib/llvm-22");
        assert_eq!(
            shown(&command),
            r"LLVM_PREFIX=/usr/lib/llvm-22 cargo install 'a b' 'it'\''s' ''"
        );
    }

    #[test]
    fn tail_keeps_the_last_lines_that_say_something() {
        assert_eq!(tail("a\n\nb\n  \nc\n", 2), "    b\n    c");
        assert_eq!(tail("", 2), "");
    }
}
