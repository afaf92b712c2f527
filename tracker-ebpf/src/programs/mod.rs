//! The three entry points.
//!
//! A hook works in stages, functions of external linkage that are given the
//! context and find everything else in this CPU's [`crate::scratch`]. The verifier
//! walks each of them once by itself (kernel/bpf/verifier.c, `do_check_subprogs`),
//! so that what is true of the headers is not followed through the brain; and only
//! one stage at a time has its registers on the stack.

use tracker_common::{
    abi::Mode,
    policy::{Rejection, rejection, tracks_refused},
    reason::Reason,
};

use crate::{
    frame::opaque,
    maps::LIVE,
    policy::{Question, judge, judge_again},
    scratch::Scratch,
    track::{Met, Seen, rejudge},
};

mod egress;
mod ingress;
mod reap;
mod seed;

/// What a stage gives for a packet that is to meet its flow; anything less is the
/// number of a [`Reason`].
const MEETS_FLOW: u32 = 0x100;

/// What a stage gives for a packet that has no flow.
const OPENS_FLOW: u32 = 0x101;

/// What a stage gives for a SYN that is to be answered with a cookie.
const ANSWERS_SYN: u32 = 0x102;

/// What a stage gives for a packet that has returned a cookie.
const RETURNS_COOKIE: u32 = 0x103;

/// What a stage gives for a packet whose flow an earlier policy has judged.
const STALE_FLOW: u32 = 0x104;

/// What a stage gives for what has become of a packet that was to meet its flow.
#[inline(always)]
fn slot_of(met: Met) -> u32 {
    match met {
        Met::Leaves(reason) => reason as u32,
        Met::Nobody => OPENS_FLOW,
        Met::Stale => STALE_FLOW,
    }
}

/// Asks the policy about a packet of which a stage gave `slot`. Gives that, or the
/// number of the [`Reason`] with which it leaves.
#[inline(always)]
fn ask(scratch: &mut Scratch, seen: &Seen, slot: u32) -> u32 {
    let question = match slot {
        ANSWERS_SYN => Question::Answer,
        RETURNS_COOKIE => Question::Return,
        _ => Question::Open,
    };
    let (Some(reason), Some(live)) = (judge(scratch, seen, question), LIVE.get(0)) else {
        return slot;
    };
    if tracks_refused(reason, live) {
        slot
    } else {
        reason as u32
    }
}

/// Asks it once more about a flow. Gives [`MEETS_FLOW`], or the number of the
/// [`Reason`] with which the packet leaves.
#[inline(always)]
fn ask_again(scratch: &mut Scratch, seen: &Seen) -> u32 {
    let Some(revoked) = judge_again(scratch, seen) else {
        return Reason::Contended as u32;
    };
    rejudge(scratch, revoked).map_or(MEETS_FLOW, |reason| reason as u32)
}

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

/// How a packet is answered that leaves under `reason`, if it is.
#[inline(always)]
fn rejection_of(reason: Reason) -> Option<Rejection> {
    rejection(reason, LIVE.get(0)?)
}
