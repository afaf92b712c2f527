//! What the kernel knows about the programs and the maps.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd},
};

use aya::{maps::MapData, programs::ProgramInfo};

use super::error::{Error, Result};

/// Numbers of one program, from the kernel's `bpf_prog_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its name, at most 15 letters.
    pub name: String,
    /// Instructions that the verifier walked through, over all paths.
    pub verified_instructions: u32,
    /// Octets of machine code, 0 without a compiler in the kernel.
    pub jited_bytes: u32,
    /// Octets of eBPF code after the verifier's rewriting.
    pub translated_bytes: u32,
    /// The kernel's number for it.
    pub id: u32,
}

impl ProgramFacts {
    pub(super) fn of(name: &str, info: &ProgramInfo) -> Self {
        Self {
            name: name.to_owned(),
            verified_instructions: info.verified_instruction_count().unwrap_or(0),
            jited_bytes: info.size_jitted(),
            translated_bytes: info.size_translated().unwrap_or(0),
            id: info.id(),
        }
    }
}

/// Numbers of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Its name.
    pub name: &'static str,
    /// Elements it has room for; octets for a ring buffer.
    pub max_entries: u32,
    /// Octets of kernel memory, as the kernel reckons them (since 6.4 what is in
    /// use, before that what a full map takes). What the allocator adds by
    /// rounding up is not in it.
    pub memory_bytes: u64,
}

impl MapFacts {
    pub(super) fn of(name: &'static str, map: &MapData) -> Result<Self> {
        let info = map.info().map_err(|source| Error::Map {
            action: "examine",
            map: name,
            source,
        })?;
        let path = format!("/proc/thread-self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
        let error = |source| Error::Io {
            action: "read",
            path: path.clone().into(),
            source,
        };
        let text = fs::read_to_string(&path).map_err(error)?;
        let memory_bytes =
            memlock(&text).ok_or_else(|| error(io::ErrorKind::InvalidData.into()))?;
        Ok(Self {
            name,
            max_entries: info.max_entries(),
            memory_bytes,
        })
    }
}

/// The `memlock` line of a map's fdinfo.
fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nmap_type:\t1\nmemlock:\t4160\nmap_id:\t7\n";
        assert_eq!(memlock(text), Some(4160));
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
