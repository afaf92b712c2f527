//! Rates, by the generic cell rate algorithm (ITU-T I.371 annex A): one number per
//! limit tells when the next one would be due.

use crate::abi::Rate;

/// Reports of one rule: ten a second, and ten at once. A person reads no more.
pub const REPORTS: Rate = Rate {
    interval_ns: 100_000_000,
    tolerance_ns: 900_000_000,
};

/// Whether one more at `now_ns` conforms to `rate`, where the next one is due at
/// `due_ns` (0: there was none yet). Gives when the one after it is due; `None` if
/// it is too early.
#[inline(always)]
#[must_use]
pub const fn conforms(due_ns: u64, now_ns: u64, rate: &Rate) -> Option<u64> {
    let due_ns = if due_ns > now_ns { due_ns } else { now_ns };
    if due_ns - now_ns > rate.tolerance_ns {
        return None;
    }
    Some(due_ns.saturating_add(rate.interval_ns))
}
