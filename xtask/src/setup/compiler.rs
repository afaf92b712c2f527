//! Compilers that can build for BPF: what rustup has, and how to get more.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    apt::Apt,
    choose::{Attempt, NIGHTLY, Nightly, Version},
};
use crate::{
    paths,
    process::{capture, run_logged, say},
};

/// Name under which rustup knows Debian's compiler.
pub const DEBIAN_TOOLCHAIN: &str = "tracker-debian";

/// The compiler, cargo and the source of the standard library, from one source
/// package and so of one version.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What a toolchain says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Name for `rustup run NAME`.
    pub toolchain: String,
    /// Version of the compiler.
    pub version: Version,
    /// Major version of its LLVM.
    pub llvm: u32,
    /// It takes unstable options as it is; a stable one needs `RUSTC_BOOTSTRAP=1`.
    pub nightly: bool,
    /// It has the source of `core`, which has to be built for BPF.
    pub rust_src: bool,
}

/// Asks a toolchain what it is.
///
/// # Errors
/// rustup does not know it, or its compiler does not run.
pub fn inspect(toolchain: &str) -> Result<Compiler> {
    let text = capture(&mut rustc(toolchain, &["-vV"]))?;
    let sysroot = capture(&mut rustc(toolchain, &["--print", "sysroot"]))?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    let (version, llvm, nightly) = parse_version(&text)
        .with_context(|| format!("toolchain `{toolchain}` describes itself as:\n{text}"))?;
    Ok(Compiler {
        toolchain: toolchain.into(),
        version,
        llvm,
        nightly,
        rust_src: core.is_file(),
    })
}

/// The nightly toolchains that rustup has. One whose compiler does not run is
/// left out: it is as good as absent.
///
/// # Errors
/// rustup itself does not run.
pub fn nightlies() -> Result<Vec<Nightly>> {
    let list = capture(Command::new("rustup").args(["toolchain", "list", "--quiet"]))?;
    Ok(list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .filter_map(|name| inspect(name).ok())
        .map(|c| Nightly {
            name: c.toolchain,
            version: c.version,
            llvm: c.llvm,
            rust_src: c.rust_src,
        })
        .collect())
}

/// Carries out one attempt and describes the compiler it gave.
///
/// # Errors
/// What the attempt does fails; nothing it did stays in use.
pub fn obtain(attempt: &Attempt, apt: &mut Apt) -> Result<Compiler> {
    let toolchain = match attempt {
        Attempt::Use(name) => name,
        Attempt::AddSource(name, _) => {
            say(&format!(
                "adding rust-src to rustup's toolchain `{name}`: there is no ready-made `core` for \
                 BPF, so it is built from source"
            ));
            let mut command = Command::new("rustup");
            command.args(["component", "add", "rust-src", "--toolchain", name]);
            run_logged("rustup-component", &mut command)?;
            name
        }
        Attempt::InstallNightly => {
            say(&format!(
                "installing rustup's toolchain `{NIGHTLY}` with rust-src: BPF programs need `core` \
                 built from source, which takes a nightly compiler (your default toolchain stays \
                 as it is)"
            ));
            let mut command = Command::new("rustup");
            command.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
            command.args(["--component", "rust-src", "--no-self-update"]);
            run_logged("rustup-install", &mut command)?;
            NIGHTLY
        }
        Attempt::Debian => {
            link_debian(apt)?;
            DEBIAN_TOOLCHAIN
        }
    };
    let compiler = inspect(toolchain)?;
    if !compiler.rust_src {
        bail!("toolchain `{toolchain}` still has no rust-src");
    }
    Ok(compiler)
}

/// Installs Debian's compiler and makes rustup know it.
fn link_debian(apt: &mut Apt) -> Result<()> {
    apt.install(
        &DEBIAN_PACKAGES.map(String::from),
        "a compiler with the source of `core`, from which `core` is built for BPF",
    )?;
    let folder = paths::cache()?.join("debian-toolchain");
    say(&format!(
        "linking Debian's compiler as rustup toolchain `{DEBIAN_TOOLCHAIN}`: the build asks rustup \
         for its compiler"
    ));
    link_folder(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = Command::new("rustup");
    command
        .args(["toolchain", "link", DEBIAN_TOOLCHAIN])
        .arg(&folder);
    run_logged("rustup-link", &mut command)
}

/// A folder shaped like a toolchain whose parts are the system's.
fn link_folder(folder: &Path) -> io::Result<()> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    let programs = ["rustc", "cargo", "rustdoc"]
        .map(|name| (Path::new("/usr/bin").join(name), bin.join(name)));
    for (target, link) in programs
        .into_iter()
        .chain([("/usr/lib".into(), folder.join("lib"))])
    {
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => symlink::<PathBuf, _>(target, link)?,
        }
    }
    Ok(())
}

fn rustc(toolchain: &str, args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "rustc"]).args(args);
    command
}

/// Version, LLVM's major version and whether it is a nightly, from `rustc -vV`.
fn parse_version(text: &str) -> Option<(Version, u32, bool)> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::trim)
    };
    let release = field("release")?;
    let llvm = field("LLVM version")?.split('.').next()?.parse().ok()?;
    let nightly = release.ends_with("-nightly") || release.ends_with("-dev");
    Some((version(release)?, llvm, nightly))
}

/// Major and minor of a dotted version.
pub fn version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_describes_itself() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(parse_version(text), Some(((1, 97), 22, true)));
        let text =
            "rustc 1.96.0 (built from a source tarball)\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(parse_version(text), Some(((1, 96), 22, false)));
        // A compiler with another back end has no LLVM to match a linker with.
        assert_eq!(parse_version("release: 1.97.0-nightly"), None);
    }

    #[test]
    fn version_is_major_and_minor() {
        assert_eq!(version("1.95"), Some((1, 95)));
        assert_eq!(version("1.95.0-beta.2"), Some((1, 95)));
        assert_eq!(version("1"), None);
        assert_eq!(version("nightly"), None);
    }

    #[test]
    fn toolchain_folder_can_be_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = folder.path().join("toolchain");
        for _ in 0..2 {
            link_folder(&toolchain).unwrap();
        }
        assert_eq!(
            fs::read_link(toolchain.join("lib")).unwrap(),
            Path::new("/usr/lib")
        );
        assert_eq!(
            fs::read_link(toolchain.join("bin/rustc")).unwrap(),
            Path::new("/usr/bin/rustc")
        );
    }
}
