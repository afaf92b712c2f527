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
    setup::Record,
};

/// Runs all checks with the recorded toolchain and names those that failed.
///
/// # Errors
/// A check cannot be run at all.
pub fn command(record: &Record) -> Result<ExitCode> {
    let mut failed = Vec::new();
    if let Err(error) = members_inherit_lints() {
        eprintln!("error: {error:#}");
        failed.push("lints of the workspace");
    }
    for (name, mut check) in checks(record)? {
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

fn checks(record: &Record) -> Result<Vec<(&'static str, Command)>> {
    // Over the whole workspace at once cargo would unite the features, and the
    // eBPF crate would get what is meant for the agent, with std.
    let userspace = [
        "--workspace",
        "--exclude=tracker-ebpf",
        "--exclude=flood-ebpf",
    ];
    // In a folder of its own, for the eBPF program's page would overwrite that
    // of the agent, its namesake, and the two differ in how they panic.
    let target = paths::workspace()?.join("target/lint-ebpf");
    let kernel = |command: &mut Command| {
        command
            .args([
                "--package=tracker-ebpf",
                "--package=flood-ebpf",
                "--package=tracker-common",
            ])
            .arg("--target-dir")
            .arg(&target)
            // There is no unwinding without std.
            .env("CARGO_PROFILE_DEV_PANIC", "abort");
    };

    let mut format = cargo()?;
    format.args(["fmt", "--all", "--check"]);
    let mut clippy = cargo()?;
    clippy.arg("clippy").args(userspace);
    clippy.args(["--all-targets", "--", "-Dwarnings"]);
    // The host stands in for BPF, because clippy comes with neither the small
    // nightly nor Debian's compiler; what is only there for BPF is seen by the
    // compiler in the check after it.
    let mut clippy_kernel = cargo()?;
    kernel(clippy_kernel.arg("clippy"));
    clippy_kernel.args(["--", "-Dwarnings"]);
    let mut doc = cargo()?;
    doc.args(["doc", "--no-deps"])
        .args(userspace)
        .env("RUSTDOCFLAGS", "-Dwarnings");
    let mut doc_kernel = cargo()?;
    kernel(doc_kernel.args(["doc", "--no-deps"]));
    doc_kernel.env("RUSTDOCFLAGS", "-Dwarnings");
    Ok(vec![
        ("formatting", format),
        ("clippy", clippy),
        ("clippy for the eBPF side", clippy_kernel),
        (
            "compiler warnings of the eBPF side",
            check_for_bpf(record, &target)?,
        ),
        ("documentation", doc),
        ("documentation of the eBPF side", doc_kernel),
    ])
}

/// What aya-build runs, without linking and with warnings refused.
fn check_for_bpf(record: &Record, target: &Path) -> Result<Command> {
    let triple = if cfg!(target_endian = "big") {
        "bpfeb"
    } else {
        "bpfel"
    };
    let arch = std::env::consts::ARCH;
    let mut command = Command::new("rustup");
    command
        .current_dir(paths::workspace()?)
        .args([
            "run",
            &record.toolchain,
            "cargo",
            "check",
            "--package=tracker-ebpf",
            "--package=flood-ebpf",
            "--bins",
        ])
        .args([
            "--release",
            &format!("--target={triple}-unknown-none"),
            "-Zbuild-std=core",
        ])
        .arg("--target-dir")
        .arg(target)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Dwarnings"),
        );
    if record.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(command)
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
