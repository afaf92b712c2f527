//! A flood of our own: frames written and sent by an eBPF program, millions a
//! second from one core.
//!
//! ```text
//! client eth0: Generator --frames--> eth0 server: Mouth::Sink, Mouth::Mirror, or whoever is judged
//!              Absorber  <-answers--
//! ```
//!
//! | module | concern |
//! |---|---|
//! | [`frame`] | what the frames are, and the sums that stay as they are |
//! | [`generator`] | sending them: at once, or paced |
//! | [`ends`] | the programs at both ends of the cable, and what they count |
//! | [`cable`] | a cable with a queue for the flood and one for everybody else |
//! | [`ring`] | what the queue of a veth pair took and what it dropped |
//! | [`trickle`] | a slow flood without any of this |

pub mod cable;
pub mod ends;
pub mod frame;
pub mod generator;
pub mod ring;
pub mod trickle;

use anyhow::{Context as _, Result};
use aya::Ebpf;

/// The object with all programs, each instance with maps of its own.
fn object() -> Result<Ebpf> {
    const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flood"));
    Ebpf::load(OBJECT).context("making the maps of the flood's programs")
}
