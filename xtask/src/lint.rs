//! `cargo xtask lint`: formatting, clippy, documentation, and that every member
//! takes part in the workspace's lints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    cargo::cargo,
    paths,
    process::{capture, shown},
};

/// Runs all checks and names those that failed.
///
/// # Errors
/// A check cannot be run at all.
pub fn command() -> Result<ExitCode> {
    let mut failed = Vec::new();
    if let Err(error) = members_inherit_lints() {
        eprintln!("error: {error:#}");
        failed.push("lints of the workspace");
    }
    for (name, mut check) in checks()? {
        eprintln!("lint: {name}\n      $ {}", shown(&check));
        let status = check
            .status()
            .with_context(|| format!("cannot start `{}`", shown(&check)))?;
        if !status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("lint: all checks passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn checks() -> Result<Vec<(&'static str, Command)>> {
    // Over the whole workspace at once cargo would unite the features, and the
    // eBPF crate would get what is meant for the agent, with std.
    let userspace = ["--workspace", "--exclude", "tracker-ebpf"];
    // The host stands in for BPF: a minimal nightly has no clippy, and the code
    // that differs between the two is small.
    let kernel = ["--package", "tracker-ebpf", "--package", "tracker-common"];
    // The eBPF program's page would overwrite that of the agent, its namesake.
    let apart = paths::workspace()?.join("target/lint-ebpf");

    let mut format = cargo()?;
    format.args(["fmt", "--all", "--check"]);
    let mut clippy = cargo()?;
    clippy
        .arg("clippy")
        .args(userspace)
        .args(["--all-targets", "--", "-Dwarnings"]);
    let mut clippy_kernel = cargo()?;
    clippy_kernel
        .arg("clippy")
        .args(kernel)
        .arg("--target-dir")
        .arg(&apart);
    clippy_kernel.args(["--", "-Dwarnings"]);
    let mut doc = cargo()?;
    doc.args(["doc", "--no-deps"])
        .args(userspace)
        .env("RUSTDOCFLAGS", "-Dwarnings");
    let mut doc_kernel = cargo()?;
    doc_kernel
        .args(["doc", "--no-deps"])
        .args(kernel)
        .arg("--target-dir")
        .arg(&apart);
    doc_kernel.env("RUSTDOCFLAGS", "-Dwarnings");
    Ok(vec![
        ("formatting", format),
        ("clippy", clippy),
        ("clippy for the eBPF side", clippy_kernel),
        ("documentation", doc),
        ("documentation of the eBPF side", doc_kernel),
    ])
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

/// Workspace lints bind only those members that ask for them.
fn members_inherit_lints() -> Result<()> {
    let mut command = cargo()?;
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Metadata = serde_json::from_str(&capture(&mut command)?)
        .context("cannot understand the output of `cargo metadata`")?;
    let mut without = Vec::new();
    for package in metadata.packages {
        if !inherits_lints(&package.manifest_path)? {
            without.push(package.manifest_path.display().to_string());
        }
    }
    if without.is_empty() {
        return Ok(());
    }
    bail!(
        "the workspace's lints do not bind every member; add `[lints]` with `workspace = true` to: {}",
        without.join(", ")
    )
}

fn inherits_lints(manifest: &Path) -> Result<bool> {
    let text = fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", manifest.display()))?;
    let inherits = table
        .get("lints")
        .and_then(|lints| lints.get("workspace")?.as_bool());
    Ok(inherits == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_without_the_line_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        let inherits = |text: &str| {
            fs::write(&manifest, text).unwrap();
            inherits_lints(&manifest)
        };
        assert!(inherits("[package]\nname = \"a\"\n[lints]\nworkspace = true\n").unwrap());
        assert!(!inherits("[package]\nname = \"a\"\n").unwrap());
        assert!(!inherits("[lints.rust]\nmissing_docs = \"warn\"\n").unwrap());
        assert!(inherits("[lints\n").is_err());
    }
}
