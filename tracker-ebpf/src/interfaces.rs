//! What the agent told about interfaces.

use crate::maps::INTERFACES;

/// [`tracker_common::abi::interface_flags`] of an interface, 0 when it is not
/// ours.
#[inline(always)]
pub fn flags(ifindex: u32) -> u32 {
    // SAFETY: the entry is one integer, written whole by the agent.
    unsafe { INTERFACES.get(ifindex) }.map_or(0, |entry| entry.flags)
}
