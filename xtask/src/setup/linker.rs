//! bpf-linker: finding one whose LLVM fits, or building one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    apt::Apt,
    choose::{self, LINKER_LLVMS, Linker, LinkerChoice, LlvmDev},
};
use crate::{
    paths,
    process::{capture, run_logged, say},
};

/// The release that is built when none is found.
const VERSION: &str = "0.13.0";

/// Ends the name of a folder that is being filled; only a rename takes it off.
const PARTIAL: &str = ".partial";

/// Where a linker for a compiler with LLVM `compiler` (major) would come from.
///
/// # Errors
/// None can be had; the error says how one gets it.
pub fn choose(compiler: u32, apt: &mut Apt) -> Result<LinkerChoice> {
    let found = found(&paths::cache()?);
    let choice = choose::linker(compiler, &found, &dev_files(apt)?);
    if let Some(choice) = choice {
        return Ok(choice);
    }
    let reason = format!("they do not know an LLVM {compiler} to build bpf-linker with");
    match apt.update(&reason) {
        Ok(_) => {}
        // One source out of reach does not make the others useless.
        Err(error) => say(&format!("going on with the lists there are: {error:#}")),
    }
    choose::linker(compiler, &found, &dev_files(apt)?).with_context(|| {
        format!(
            "bpf-linker with LLVM {compiler} or newer is needed (the compiler has LLVM {compiler}), \
             none is on PATH, and there are no LLVM {compiler} development files here to build it \
             with; install it by `cargo binstall bpf-linker`, or install those files and run \
             `LLVM_PREFIX=<their prefix> cargo install bpf-linker --version {VERSION} \
             --no-default-features --features llvm-{compiler}`"
        )
    })
}

/// Builds the chosen linker unless it is there.
///
/// # Errors
/// LLVM's development files cannot be installed, or the build fails.
pub fn obtain(choice: LinkerChoice, apt: &mut Apt) -> Result<Linker> {
    match choice {
        LinkerChoice::Use(linker) => Ok(linker),
        LinkerChoice::Build(dev) => build(&dev, &paths::cache()?, apt),
    }
}

/// The linkers on PATH, then those built earlier.
fn found(cache: &Path) -> Vec<Linker> {
    let on_path = paths::program("bpf-linker").and_then(|file| file.parent().map(PathBuf::from));
    let built = LINKER_LLVMS.map(|llvm| home(cache, llvm).join("bin"));
    on_path
        .into_iter()
        .chain(built)
        .filter_map(|folder| {
            let llvm = llvm_of(&fs::read(folder.join("bpf-linker")).ok()?)?;
            Some(Linker { folder, llvm })
        })
        .collect()
}

fn home(cache: &Path, llvm: u32) -> PathBuf {
    cache.join(format!("bpf-linker-{VERSION}-llvm{llvm}"))
}

/// LLVM's development files here: Debian's folders, the one that `llvm-config`
/// belongs to, and packages that could be installed.
fn dev_files(apt: &Apt) -> Result<Vec<LlvmDev>> {
    let mut files = Vec::new();
    for llvm in LINKER_LLVMS {
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
        if prefix.join("lib/libLLVM.so").exists() {
            files.push(LlvmDev {
                llvm,
                prefix: Some(prefix),
            });
        } else if apt.knows(&package(llvm))? {
            files.push(LlvmDev { llvm, prefix: None });
        }
    }
    if let Some(config) = paths::program("llvm-config") {
        let ask = |what| capture(Command::new(&config).arg(what));
        let prefix = PathBuf::from(ask("--prefix")?.trim());
        let shared = ["lib64", "lib"]
            .iter()
            .any(|lib| prefix.join(lib).join("libLLVM.so").exists());
        let llvm = ask("--version")?
            .split('.')
            .next()
            .and_then(|major| major.trim().parse().ok());
        if let (Some(llvm), true) = (llvm, shared) {
            files.push(LlvmDev {
                llvm,
                prefix: Some(prefix),
            });
        }
    }
    Ok(files)
}

fn package(llvm: u32) -> String {
    format!("llvm-{llvm}-dev")
}

/// Builds the linker beside its final place and moves it there when it is whole.
fn build(dev: &LlvmDev, cache: &Path, apt: &mut Apt) -> Result<Linker> {
    let llvm = dev.llvm;
    let prefix = match &dev.prefix {
        Some(prefix) => prefix.clone(),
        None => {
            apt.install(
                &[package(llvm)],
                &format!("bpf-linker is built with LLVM {llvm}, which reads the compiler's output"),
            )?;
            PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
        }
    };
    let home = home(cache, llvm);
    let partial = cache.join(format!("bpf-linker-{VERSION}-llvm{llvm}{PARTIAL}"));
    say(&format!(
        "building bpf-linker {VERSION} with LLVM {llvm} into {} (about a minute): it links the \
         eBPF programs, and its LLVM must not be older than the compiler's",
        home.display()
    ));
    let built = build_in(&partial, &prefix, llvm).and_then(|()| {
        // A linker that is there but was not chosen is damaged or unreadable.
        remove(&home)?;
        fs::rename(&partial, &home)
            .with_context(|| format!("cannot move {} to {}", partial.display(), home.display()))
    });
    if built.is_err() {
        remove(&partial)?;
    }
    built.context(
        "cannot build bpf-linker; mend what the end of the output names, or put a ready-made one \
         on PATH (`cargo binstall bpf-linker`), and run this again",
    )?;
    Ok(Linker {
        folder: home.join("bin"),
        llvm,
    })
}

fn build_in(partial: &Path, prefix: &Path, llvm: u32) -> Result<()> {
    remove(partial)?;
    fs::create_dir_all(partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let target = partial.join("target");
    let mut command = Command::new("cargo");
    command
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm}"),
        ])
        .arg("--root")
        .arg(partial)
        .arg("--target-dir")
        .arg(&target)
        // Outside the workspace, whose cargo settings are not for it.
        .current_dir(partial)
        .env("LLVM_PREFIX", prefix)
        // The linker's own debug information only costs time and space.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    run_logged("bpf-linker", &mut command)?;
    remove(&target)?;
    let linker = partial.join("bin/bpf-linker");
    capture(Command::new(&linker).arg("--version"))
        .context("the linker just built does not run")?;
    let bytes = fs::read(&linker).with_context(|| format!("cannot read {}", linker.display()))?;
    match llvm_of(&bytes) {
        Some(found) if found == llvm => Ok(()),
        found => bail!("the linker was built with LLVM {llvm} but carries {found:?}"),
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Major version of the LLVM inside a bpf-linker, which has no option that says.
///
/// One that loads LLVM names the library, one that contains it carries LLVM's
/// own version text.
fn llvm_of(program: &[u8]) -> Option<u32> {
    ["libLLVM.so.", "libLLVM-", "LLVM version "]
        .iter()
        .find_map(|mark| {
            let mark = mark.as_bytes();
            program
                .windows(mark.len())
                .enumerate()
                .filter(|(_, window)| *window == mark)
                .find_map(|(at, _)| leading_number(&program[at + mark.len()..]))
        })
}

fn leading_number(bytes: &[u8]) -> Option<u32> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_program_itself() {
        assert_eq!(llvm_of(b"\x7fELF\0libLLVM.so.22.1\0libc.so.6\0"), Some(22));
        assert_eq!(llvm_of(b"\x7fELF\0libLLVM-21.so\0"), Some(21));
        assert_eq!(
            llvm_of(b"LLVM version of\0  LLVM version 23.0.0git\0"),
            Some(23)
        );
        assert_eq!(llvm_of(b"#!/bin/sh\nexec /opt/bpf-linker \"$@\"\n"), None);
        assert_eq!(llvm_of(b"libLLVM.so."), None);
    }
}
