//! What to use, decided from facts alone.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// LLVM versions that bpf-linker 0.13 can be built with.
pub const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

/// The nightly that is installed where there is none to use. One date rather
/// than the newest, because a linker has to be had for it: its LLVM, 22, is the
/// newest that Debian packages, while newer nightlies have moved on to 23.
pub const NIGHTLY: &str = "nightly-2026-05-20";

/// Major LLVM version of [`NIGHTLY`].
const NIGHTLY_LLVM: u32 = 22;

/// Where the compiler may come from (`TRACKER_EBPF_TOOLCHAIN`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// rustup first, Debian's packages where that cannot be had.
    Auto,
    /// rustup only.
    Rustup,
    /// Debian's packages only.
    Debian,
}

impl Mode {
    /// Parses the value of the environment variable; `None` is unset.
    ///
    /// # Errors
    /// Any other word than `auto`, `rustup` and `debian`.
    pub fn parse(value: Option<&str>) -> Result<Self> {
        match value {
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("rustup") => Ok(Self::Rustup),
            Some("debian") => Ok(Self::Debian),
            Some(other) => {
                bail!("TRACKER_EBPF_TOOLCHAIN is `{other}`; it is one of auto, rustup and debian")
            }
        }
    }
}

/// A compiler version, major and minor.
pub type Version = (u32, u32);

/// A nightly toolchain that rustup has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nightly {
    /// Name for `rustup run`.
    pub name: String,
    /// Version of its compiler.
    pub version: Version,
    /// Major version of its LLVM.
    pub llvm: u32,
    /// Whether it has the source of `core`.
    pub rust_src: bool,
}

/// One way to a compiler, tried in order until one works to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A nightly that is complete as it is.
    Use(String),
    /// A nightly with this LLVM that lacks the source of `core`.
    AddSource(String, u32),
    /// Install [`NIGHTLY`].
    InstallNightly,
    /// Debian's compiler, linked as a rustup toolchain.
    Debian,
}

impl Attempt {
    /// Major LLVM version of the compiler that this gives, where it is known
    /// before anything is installed.
    pub fn llvm(&self) -> Option<u32> {
        match self {
            Self::AddSource(_, llvm) => Some(*llvm),
            Self::InstallNightly => Some(NIGHTLY_LLVM),
            Self::Use(_) | Self::Debian => None,
        }
    }
}

/// The ways worth trying, best first.
///
/// `oldest` is the workspace's `rust-version`, below which cargo refuses to
/// build. `apt` says whether Debian's packages can be asked for at all.
pub fn attempts(mode: Mode, nightlies: &[Nightly], oldest: Version, apt: bool) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    if mode != Mode::Debian {
        let mut fit: Vec<&Nightly> = nightlies.iter().filter(|n| n.version >= oldest).collect();
        // The plain channel before dated ones, and newer before older.
        fit.sort_by_key(|n| {
            (
                n.name.contains("nightly-2"),
                std::cmp::Reverse(n.name.clone()),
            )
        });
        let complete = fit.iter().filter(|n| n.rust_src);
        attempts.extend(complete.map(|n| Attempt::Use(n.name.clone())));
        if attempts.is_empty() {
            attempts.extend(
                fit.first()
                    .map(|n| Attempt::AddSource(n.name.clone(), n.llvm)),
            );
        }
        if !fit
            .iter()
            .any(|n| n.rust_src && n.name.starts_with(NIGHTLY))
        {
            attempts.push(Attempt::InstallNightly);
        }
    }
    if mode == Mode::Debian || (mode == Mode::Auto && apt) {
        attempts.push(Attempt::Debian);
    }
    attempts
}

/// A bpf-linker on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// Folder that holds it.
    pub folder: PathBuf,
    /// Major version of its LLVM.
    pub llvm: u32,
}

/// LLVM's development files, to build bpf-linker with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlvmDev {
    /// Major version.
    pub llvm: u32,
    /// Prefix they are installed under; `None`: a Debian package that can be.
    pub prefix: Option<PathBuf>,
}

/// Where the linker comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkerChoice {
    /// Use this one.
    Use(Linker),
    /// Build one with this LLVM.
    Build(LlvmDev),
}

/// The linker for a compiler with major LLVM version `compiler`; `None` when
/// nothing here reads its output.
///
/// Bitcode is read by the same or a newer LLVM only, so an older linker never
/// does. `found` is in order of preference. To build one, what is installed
/// goes before what would have to be, and the nearest version first.
pub fn linker(compiler: u32, found: &[Linker], dev: &[LlvmDev]) -> Option<LinkerChoice> {
    if let Some(linker) = found.iter().find(|linker| linker.llvm >= compiler) {
        return Some(LinkerChoice::Use(linker.clone()));
    }
    dev.iter()
        .filter(|dev| dev.llvm >= compiler && LINKER_LLVMS.contains(&dev.llvm))
        .min_by_key(|dev| (dev.prefix.is_none(), dev.llvm))
        .map(|dev| LinkerChoice::Build(dev.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDEST: Version = (1, 95);

    fn nightly(name: &str, minor: u32, rust_src: bool) -> Nightly {
        Nightly {
            name: name.into(),
            version: (1, minor),
            llvm: 22,
            rust_src,
        }
    }

    fn dev(llvm: u32, installed: bool) -> LlvmDev {
        LlvmDev {
            llvm,
            prefix: installed.then(|| format!("/usr/lib/llvm-{llvm}").into()),
        }
    }

    fn found(llvm: u32) -> Linker {
        Linker {
            folder: format!("/linker-{llvm}").into(),
            llvm,
        }
    }

    #[test]
    fn mode_is_one_of_three_words() {
        assert_eq!(Mode::parse(None).unwrap(), Mode::Auto);
        assert_eq!(Mode::parse(Some("")).unwrap(), Mode::Auto);
        assert_eq!(Mode::parse(Some("debian")).unwrap(), Mode::Debian);
        assert_eq!(Mode::parse(Some("rustup")).unwrap(), Mode::Rustup);
        let error = Mode::parse(Some("fedora")).unwrap_err().to_string();
        assert!(
            error.contains("`fedora`") && error.contains("debian"),
            "{error}"
        );
    }

    #[test]
    fn complete_nightlies_come_first_and_the_plain_one_before_dated_ones() {
        let nightlies = [
            nightly("nightly-2026-01-02-x86_64-unknown-linux-gnu", 95, true),
            nightly("nightly-2026-04-02-x86_64-unknown-linux-gnu", 97, true),
            nightly("nightly-x86_64-unknown-linux-gnu", 97, true),
        ];
        let [old, new, plain] = nightlies.clone().map(|n| Attempt::Use(n.name));
        assert_eq!(
            attempts(Mode::Auto, &nightlies, OLDEST, true),
            [plain, new, old, Attempt::InstallNightly, Attempt::Debian]
        );
    }

    #[test]
    fn source_is_added_before_a_nightly_is_installed() {
        let nightlies = [nightly("nightly", 97, false)];
        assert_eq!(
            attempts(Mode::Auto, &nightlies, OLDEST, true),
            [
                Attempt::AddSource("nightly".into(), 22),
                Attempt::InstallNightly,
                Attempt::Debian
            ]
        );
    }

    #[test]
    fn nightly_that_is_too_old_is_left_alone() {
        let nightlies = [nightly("nightly", 94, true)];
        assert_eq!(
            attempts(Mode::Rustup, &nightlies, OLDEST, true),
            [Attempt::InstallNightly]
        );
    }

    #[test]
    fn nightly_of_the_project_is_installed_once() {
        let name = format!("{NIGHTLY}-x86_64-unknown-linux-gnu");
        let nightlies = [nightly(&name, 97, true)];
        assert_eq!(
            attempts(Mode::Rustup, &nightlies, OLDEST, true),
            [Attempt::Use(name)]
        );
    }

    #[test]
    fn debian_is_no_fall_back_without_apt() {
        assert_eq!(
            attempts(Mode::Auto, &[], OLDEST, false),
            [Attempt::InstallNightly]
        );
        assert_eq!(
            attempts(Mode::Debian, &[], OLDEST, false),
            [Attempt::Debian]
        );
        let nightlies = [nightly("nightly", 97, true)];
        assert_eq!(
            attempts(Mode::Debian, &nightlies, OLDEST, true),
            [Attempt::Debian]
        );
    }

    #[test]
    fn linker_is_not_older_than_the_compiler() {
        let linkers = [found(21), found(23), found(22)];
        let choice = linker(22, &linkers, &[dev(22, true)]);
        assert_eq!(choice, Some(LinkerChoice::Use(found(23))));
        assert_eq!(linker(22, &linkers[..1], &[]), None);
        assert_eq!(linker(22, &[], &[dev(21, true)]), None);
    }

    #[test]
    fn linker_is_built_with_what_is_installed_first() {
        let built_with = |devs: &[LlvmDev]| linker(22, &[], devs);
        let build = |llvm, installed| Some(LinkerChoice::Build(dev(llvm, installed)));
        assert_eq!(
            built_with(&[dev(22, false), dev(23, true)]),
            build(23, true)
        );
        assert_eq!(
            built_with(&[dev(23, false), dev(22, false)]),
            build(22, false)
        );
        // A version that bpf-linker has no feature for.
        assert_eq!(built_with(&[dev(24, true)]), None);
    }
}
