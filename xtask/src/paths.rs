//! Where things are kept: the user's cache folder and the workspace.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// Names the record of the set-up when it is not in the cache folder.
const RECORD_ENV: &str = "TRACKER_TOOLCHAIN_FILE";

/// `$XDG_CACHE_HOME/tracker`, else `~/.cache/tracker`.
pub fn cache() -> Result<PathBuf> {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("tracker"))
        .context("neither HOME nor XDG_CACHE_HOME is set, so there is no cache folder; set one")
}

/// The record of the set-up, which the agent's build script reads too
/// (`tracker/build.rs` finds it by the same rules).
pub fn record() -> Result<PathBuf> {
    match variable(RECORD_ENV) {
        Some(file) => Ok(file),
        None => Ok(cache()?.join("ebpf-toolchain.toml")),
    }
}

/// The workspace this program was built from.
pub fn workspace() -> Result<PathBuf> {
    // Cargo sets the variable when it runs the program, so that a moved
    // checkout is found where it is and not where it was built.
    let package =
        variable("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    package
        .parent()
        .map(PathBuf::from)
        .with_context(|| format!("{} is not inside a workspace", package.display()))
}

/// PATH and the folders for system programs, which a user's PATH, or that of
/// `su`, often leaves out.
pub fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// A program in one of the folders of [`search_path`].
pub fn program(name: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

/// Whether `file` is a file that someone may execute.
pub fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
