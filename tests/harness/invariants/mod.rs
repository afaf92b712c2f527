//! What must hold for any input at all, whoever makes it: the fuzzer
//! (`fuzz/`), or the corpus that it left behind, which tests replay.
//!
//! Every function here takes raw octets, lets the tracker work on what they
//! stand for, and panics where something does not hold.
//!
//! | module | concern |
//! |---|---|
//! | [`parsing`] | octets as a frame |
//! | [`script`] | octets as a sequence of segments, pauses and sweeps |
//! | [`laws`] | what one packet may do to the flows |
//! | [`captured`] | octets as a capture file |

pub mod captured;
pub mod laws;
pub mod parsing;
pub mod script;

/// What octets stand for, and the laws that hold for it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its folder in the corpus.
    pub name: &'static str,
    /// Panics where a law is broken; tells how much it looked at: frames,
    /// steps or packets.
    pub check: fn(&[u8]) -> u64,
}

/// Every target of the fuzzer.
pub const TARGETS: [Target; 3] = [
    Target {
        name: "parse",
        check: parsing::check,
    },
    Target {
        name: "segments",
        check: script::check,
    },
    Target {
        name: "capture",
        check: captured::check,
    },
];
