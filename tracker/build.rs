//! Builds the eBPF programs of `tracker-ebpf` and leaves the objects in
//! `OUT_DIR`, one file per binary of that package, for the agent to embed.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

/// Features of tracker-ebpf to build with, separated by commas.
const FEATURES_ENV: &str = "TRACKER_EBPF_FEATURES";

fn main() -> ExitCode {
    ebpf_build::finish(build())
}

fn build() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the agent's package folder has no parent, so there is no workspace")?;
    let sources = ["tracker-common", "Cargo.lock", "Cargo.toml"].map(|name| workspace.join(name));
    let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    println!("cargo::rerun-if-env-changed={FEATURES_ENV}");
    let features = env::var(FEATURES_ENV).unwrap_or_default();
    let features: Vec<&str> = features
        .split(',')
        .filter(|name| !name.is_empty())
        .collect();
    ebpf_build::build(
        "tracker-ebpf",
        &workspace.join("tracker-ebpf"),
        &sources,
        &features,
    )
}
