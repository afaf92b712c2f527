//! The kernel's clocks.

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use tracker_common::time::Micros;

use crate::{globals, maps::TEST_CLOCK};

/// `CLOCK_MONOTONIC` to the last jiffy, ns. Costs about 1 ns where the exact
/// clock costs 20.
#[inline(always)]
pub fn coarse_ns() -> u64 {
    if globals::test_clock() {
        return test_ns();
    }
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The exact time, for handshake segments.
#[inline(always)]
pub fn exact() -> Micros {
    if globals::test_clock() {
        return Micros::from_ns(test_ns());
    }
    // SAFETY: the helper takes no arguments.
    Micros::from_ns(unsafe { bpf_ktime_get_ns() })
}

#[inline(always)]
fn test_ns() -> u64 {
    TEST_CLOCK.get(0).copied().unwrap_or(0)
}
