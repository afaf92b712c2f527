//! The record of the set-up: which compiler and which linker build the eBPF
//! programs. `tracker/build.rs` reads it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    choose::Mode,
    compiler::{self, DEBIAN_TOOLCHAIN},
};
use crate::paths;

const HEADER: &str = "\
# Written by `cargo xtask setup`, read by tracker/build.rs.
# `cargo xtask setup --again` writes it anew.
";

/// What was found or installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name for `rustup run NAME`.
    pub toolchain: String,
    /// The compiler is a stable one and takes `-Z` with `RUSTC_BOOTSTRAP=1` only.
    pub bootstrap: bool,
    /// Folder that holds `bpf-linker`.
    pub linker_dir: PathBuf,
    /// Major version of the linker's LLVM.
    pub linker_llvm: u32,
}

impl Record {
    /// Reads the record; `None` when there is none yet.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let record = toml::from_str(&text)
            .with_context(|| format!("{} is not understood", file.display()))?;
        Ok(Some(record))
    }

    /// Writes the record in one step, so that no reader sees half of it.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = toml::to_string(self).context("cannot express the record as TOML")?;
        let folder = file
            .parent()
            .with_context(|| format!("{} is no file name", file.display()))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let partial = file.with_extension("partial");
        fs::write(&partial, format!("{HEADER}{text}"))
            .and_then(|()| fs::rename(&partial, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Checks that what the record names is still there and still fits, and
    /// nothing else: this runs before every command.
    ///
    /// # Errors
    /// The first thing that is amiss.
    pub fn verify(&self, mode: Mode) -> Result<()> {
        let debian = self.toolchain == DEBIAN_TOOLCHAIN;
        match mode {
            Mode::Rustup if debian => bail!("it names Debian's toolchain, rustup's is asked for"),
            Mode::Debian if !debian => bail!("it names rustup's toolchain, Debian's is asked for"),
            Mode::Auto | Mode::Rustup | Mode::Debian => {}
        }
        let linker = self.linker_dir.join("bpf-linker");
        if !paths::is_executable(&linker) {
            bail!("{} is not there", linker.display());
        }
        let compiler = compiler::inspect(&self.toolchain)?;
        if !compiler.rust_src {
            bail!("toolchain `{}` has no rust-src", self.toolchain);
        }
        if compiler.llvm > self.linker_llvm {
            bail!(
                "toolchain `{}` has moved to LLVM {}, which bpf-linker with LLVM {} cannot read",
                self.toolchain,
                compiler.llvm,
                self.linker_llvm
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            toolchain: "nightly".into(),
            bootstrap: false,
            linker_dir: "/nonexistent/bin".into(),
            linker_llvm: 22,
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("record.toml");
        assert_eq!(Record::read(&file).unwrap(), None);
        record().write(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap(), Some(record()));
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "a partial file is left: {left:?}");
    }

    #[test]
    fn damaged_record_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("record.toml");
        fs::write(&file, "toolchain = 3").unwrap();
        let error = format!("{:#}", Record::read(&file).unwrap_err());
        assert!(error.contains("record.toml"), "{error}");
    }

    #[test]
    fn verification_names_the_first_thing_amiss() {
        let amiss = |mode| record().verify(mode).unwrap_err().to_string();
        assert!(amiss(Mode::Debian).contains("Debian's is asked for"));
        assert!(amiss(Mode::Auto).contains("/nonexistent/bin/bpf-linker is not there"));
    }
}
