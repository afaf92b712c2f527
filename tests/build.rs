//! Builds the flood generator's eBPF programs, for the harness to embed.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

fn main() -> ExitCode {
    ebpf_build::finish(build())
}

fn build() -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package
        .parent()
        .context("the tests' package folder has no parent, so there is no workspace")?;
    ebpf_build::build(
        "flood-ebpf",
        &package.join("flood-ebpf"),
        &[&workspace.join("Cargo.lock"), &workspace.join("Cargo.toml")],
        &[],
    )
}
