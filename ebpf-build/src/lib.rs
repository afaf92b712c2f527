//! How build scripts of this workspace compile eBPF programs: one file per
//! binary of a package, left in `OUT_DIR` to be embedded.
//!
//! Which compiler and which linker do it is not decided here: `cargo xtask
//! setup` finds or installs them and records the result in a small TOML file
//! that this crate reads (`xtask/src/setup/record.rs` writes it).

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};
use serde::Deserialize;

/// Names a toolchain file elsewhere; the default is in the user's cache folder.
const FILE_ENV: &str = "TRACKER_TOOLCHAIN_FILE";

/// What `cargo xtask setup` recorded, as far as a build needs it.
#[derive(Deserialize)]
struct Recorded {
    /// Name for `rustup run NAME`.
    toolchain: String,
    /// The compiler is a stable one and takes `-Z` with `RUSTC_BOOTSTRAP=1` only.
    bootstrap: bool,
    /// Folder that holds `bpf-linker`.
    linker_dir: PathBuf,
}

/// Builds the programs of a package, for a build script to call before any
/// other thread exists.
///
/// `sources` are files and folders besides `root_dir` on which they depend: the
/// build-dependency on the package's library covers them only as long as that
/// library itself depends on them.
///
/// # Errors
///
/// The tools are not set up, or the programs do not build.
pub fn build(name: &str, root_dir: &Path, sources: &[&Path], features: &[&str]) -> Result<()> {
    let file = toolchain_file()?;
    println!("cargo::rerun-if-changed={}", file.display());
    let recorded = read(&file)?;

    let linker = recorded.linker_dir.join("bpf-linker");
    println!("cargo::rerun-if-changed={}", linker.display());
    if !linker.is_file() {
        bail!(
            "{} names {}, which does not exist; run `cargo xtask setup` to find or install \
             bpf-linker again",
            file.display(),
            linker.display()
        );
    }
    set_child_environment(&recorded)?;
    for source in sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let root_dir = root_dir
        .to_str()
        .with_context(|| format!("the path {} is not UTF-8", root_dir.display()))?;
    aya_build::build_ebpf(
        [Package {
            name,
            root_dir,
            features,
            ..Package::default()
        }],
        Toolchain::Custom(&recorded.toolchain),
    )
    .with_context(|| {
        format!(
            "cannot build the eBPF programs with toolchain `{}` and {} (as {} says); if the \
             toolchain is at fault, `cargo xtask setup --again` chooses anew",
            recorded.toolchain,
            linker.display(),
            file.display()
        )
    })
}

/// Exit status of a build script, with its error where cargo shows it.
#[must_use]
pub fn finish(built: Result<()>) -> ExitCode {
    match built {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Where the record is: `TRACKER_TOOLCHAIN_FILE`, else
/// `$XDG_CACHE_HOME/tracker/ebpf-toolchain.toml`, else the same in `~/.cache`.
fn toolchain_file() -> Result<PathBuf> {
    let set = |name: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(file) = set(FILE_ENV) {
        return Ok(file);
    }
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .with_context(|| format!("neither HOME, XDG_CACHE_HOME nor {FILE_ENV} is set"))?;
    Ok(cache.join("tracker").join("ebpf-toolchain.toml"))
}

fn read(file: &Path) -> Result<Recorded> {
    let text = fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read {}; run `cargo xtask setup` first: it finds or installs a compiler with \
             the source of `core` and bpf-linker, which the eBPF programs need, and writes that \
             file",
            file.display()
        )
    })?;
    toml::from_str(&text).with_context(|| {
        format!(
            "{} is not understood; `cargo xtask setup --again` writes it anew",
            file.display()
        )
    })
}

/// aya-build starts cargo with this process's environment and offers no other
/// way in, so what the child needs is set here.
fn set_child_environment(recorded: &Recorded) -> Result<()> {
    let mut path = vec![recorded.linker_dir.clone()];
    if let Some(inherited) = env::var_os("PATH") {
        path.extend(env::split_paths(&inherited));
    }
    let path: OsString = env::join_paths(path)
        .with_context(|| format!("{} cannot be in PATH", recorded.linker_dir.display()))?;
    let mut variables = vec![
        ("PATH", path),
        // aya-build turns each line of progress into a warning of this package.
        ("CARGO_TERM_QUIET", "true".into()),
        // Version 3 of the BPF instruction set (kernel 5.12 with its atomics):
        // 32-bit jumps, and atomics that return the old value. LLVM's default
        // is version 1, which fails on both. The processor has to be the
        // compiler's and that of every crate: bpf-linker takes `--cpu` once,
        // from rustc, and LLVM does not inline between functions whose
        // processors differ. aya-build fixes the rustflags, a profile's own
        // are beside them; proc macros run on the host and keep theirs.
        ("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true".into()),
        // bpf-linker tells LLVM to leave `memset` and `memmove` to functions
        // unless told otherwise: loops over bytes, and calls, which kernels
        // before 6.9 refuse under a spin lock.
        (
            "CARGO_PROFILE_RELEASE_RUSTFLAGS",
            "-Ctarget-cpu=v3 -Clink-arg=--disable-expand-memcpy-in-order".into(),
        ),
        ("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "".into()),
    ];
    if recorded.bootstrap {
        variables.push(("RUSTC_BOOTSTRAP", "1".into()));
    }
    for (name, value) in variables {
        // SAFETY: a build script's main thread is its only thread, so nothing
        // reads the environment meanwhile.
        unsafe { env::set_var(name, value) };
    }
    Ok(())
}
