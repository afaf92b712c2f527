//! The three entry points.
//!
//! A hook works in stages, functions of external linkage that are given the
//! context and find everything else in this CPU's [`crate::scratch`]. The verifier
//! walks each of them once by itself (kernel/bpf/verifier.c, `do_check_subprogs`),
//! so that what is true of the headers is not followed through the brain; and only
//! one stage at a time has its registers on the stack.

use tracker_common::{abi::Mode, reason::Reason};

use crate::{frame::opaque, maps::LIVE};

mod egress;
mod ingress;
mod reap;

/// What a stage gives for a packet that is to meet its flow; anything less is the
/// number of a [`Reason`].
const MEETS_FLOW: u32 = 0x100;

/// What a stage gives for a packet that has no flow.
const OPENS_FLOW: u32 = 0x101;

/// What a stage gives for a SYN that is to be answered with a cookie.
const ANSWERS_SYN: u32 = 0x102;

/// The reason that a stage gave.
#[inline(always)]
fn reason_of(slot: u32) -> Reason {
    // Opaque: the compiler knows what a stage returns, the verifier does not.
    Reason::known(opaque(slot as usize) as u8)
}

/// Whether a packet that leaves under `reason` is dropped.
#[inline(always)]
fn is_dropped(reason: Reason) -> bool {
    reason.refuses()
        && LIVE
            .get(0)
            .is_some_and(|live| live.mode == Mode::Enforce as u8)
}
