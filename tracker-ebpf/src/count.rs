//! Packets by reason.

use tracker_common::{
    abi::{Hook, reason_slot},
    reason::Reason,
};

use crate::maps::REASONS;

/// Counts a packet that leaves. The slot is this CPU's and this hook's alone:
/// neither hook interrupts itself, so no atomics are needed.
///
/// A function of its own: inlined, the optimizer makes a copy for every reason.
#[inline(never)]
pub fn packet(reason: Reason, hook: Hook, bytes: u32) {
    if let Some(count) = REASONS.get_ptr_mut(reason_slot(reason, hook)) {
        // SAFETY: the element lives as long as the program, and only this CPU's
        // run of this hook writes it.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        }
    }
}
