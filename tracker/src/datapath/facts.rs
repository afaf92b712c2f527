//! What the kernel knows about the loaded programs.

use aya::programs::ProgramInfo;

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
