//! `cargo xtask setup`: what the eBPF side needs, found or installed once.

mod apt;
mod choose;
mod compiler;
mod linker;
mod record;
mod tools;

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

pub use self::record::Record;
use self::{
    apt::Apt,
    choose::{Attempt, LinkerChoice, Mode, NIGHTLY},
    compiler::Compiler,
};
use crate::{paths, process::say};

/// Names the source of the compiler; see [`Mode`].
const MODE_ENV: &str = "TRACKER_EBPF_TOOLCHAIN";

/// What the set-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Building and running the agent.
    Build,
    /// Running the lab.
    Lab,
    /// Running the tests.
    Test,
}

/// `cargo xtask setup`.
///
/// # Errors
/// As [`ensure`].
pub fn command(again: bool) -> Result<ExitCode> {
    let record = compiler_and_linker(again, &mut Apt::detect())?;
    println!(
        "ready: toolchain `{}`, bpf-linker (LLVM {}) in {}; recorded in {}",
        record.toolchain,
        record.linker_llvm,
        record.linker_dir.display(),
        paths::record()?.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Sees to it that everything for `purpose` is there; silent when it is.
///
/// # Errors
/// Something is missing and cannot be installed; the message says what, what
/// was tried and what to do.
pub fn ensure(purpose: Purpose) -> Result<Record> {
    let mut apt = Apt::detect();
    let record = compiler_and_linker(false, &mut apt)?;
    tools::ensure(purpose, &mut apt)?;
    Ok(record)
}

fn compiler_and_linker(again: bool, apt: &mut Apt) -> Result<Record> {
    let mode = mode()?;
    let file = paths::record()?;
    let problem = match recorded(&file, mode) {
        Ok(record) if !again => return Ok(record),
        Ok(_) => "choosing again, as asked".to_string(),
        Err(problem) => format!("{problem:#}"),
    };
    let _lock = lock(&paths::cache()?)?;
    // Whoever held the lock may have done it.
    if !again && let Ok(record) = recorded(&file, mode) {
        return Ok(record);
    }
    say(&problem);
    let start = Instant::now();
    let record = choose_and_install(mode, apt)?;
    record.write(&file)?;
    say(&format!(
        "done in {} s; recorded in {} and not repeated",
        start.elapsed().as_secs(),
        file.display()
    ));
    Ok(record)
}

fn mode() -> Result<Mode> {
    let value = env::var_os(MODE_ENV);
    let value = value.map(|value| value.to_string_lossy().into_owned());
    Mode::parse(value.as_deref())
}

/// The record, if it is there and still holds.
fn recorded(file: &Path, mode: Mode) -> Result<Record> {
    let record = Record::read(file)?.context(
        "the eBPF programs need a compiler that can build `core` for BPF, and bpf-linker; looking \
         for them",
    )?;
    record
        .verify(mode)
        .with_context(|| format!("{} does not hold any more", file.display()))?;
    Ok(record)
}

/// Keeps two set-ups from working in the same folder. Released with the file.
fn lock(cache: &Path) -> Result<File> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let path = cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        say("waiting for another set-up to finish");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Tries the ways to a compiler and linker until one works to the end.
fn choose_and_install(mode: Mode, apt: &mut Apt) -> Result<Record> {
    if paths::program("rustup").is_none() {
        bail!(
            "rustup is not on PATH; the eBPF programs are built with a toolchain that it selects: \
             install it from https://rustup.rs (a stable toolchain is enough) and run this again"
        );
    }
    let oldest = compiler::version(env!("CARGO_PKG_RUST_VERSION"))
        .context("the workspace's rust-version is not a version")?;
    let attempts = choose::attempts(mode, &compiler::nightlies()?, oldest, apt.available());
    let mut failures = Vec::new();
    let count = attempts.len();
    for (index, attempt) in attempts.iter().enumerate() {
        match compiler_for(attempt, oldest, apt) {
            // A failure from here on is no matter of the compiler, so another
            // one would not help.
            Ok((compiler, choice)) => {
                let linker = linker::obtain(choice, apt)?;
                return Ok(Record {
                    toolchain: compiler.toolchain,
                    bootstrap: !compiler.nightly,
                    linker_dir: linker.folder,
                    linker_llvm: linker.llvm,
                });
            }
            Err(error) => {
                let failure = format!("{}: {error:#}", describe(attempt));
                if index + 1 < count {
                    say(&format!(
                        "trying the next way, as this one is closed: {failure}"
                    ));
                }
                failures.push(failure);
            }
        }
    }
    bail!(
        "cannot set up the eBPF build. Tried:\n- {}\nNothing was recorded. To choose the source of \
         the compiler, set {MODE_ENV} to rustup or debian",
        failures.join("\n- ")
    )
}

/// A compiler and where its linker would come from.
fn compiler_for(
    attempt: &Attempt,
    oldest: choose::Version,
    apt: &mut Apt,
) -> Result<(Compiler, LinkerChoice)> {
    // Nothing is installed for a compiler that no linker can be had for.
    if let Some(llvm) = attempt.llvm() {
        linker::choose(llvm, apt)?;
    }
    let compiler = compiler::obtain(attempt, apt)?;
    let (major, minor) = compiler.version;
    if compiler.version < oldest {
        bail!(
            "its compiler is {major}.{minor}, the workspace needs {}.{}",
            oldest.0,
            oldest.1
        );
    }
    let choice = linker::choose(compiler.llvm, apt)?;
    Ok((compiler, choice))
}

fn describe(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Use(name) => format!("rustup's toolchain `{name}` as it is"),
        Attempt::AddSource(name, _) => format!("rustup's toolchain `{name}` with rust-src added"),
        Attempt::InstallNightly => format!("rustup's toolchain `{NIGHTLY}`, newly installed"),
        Attempt::Debian => "Debian's rustc-web, cargo-web and rust-web-src".into(),
    }
}
