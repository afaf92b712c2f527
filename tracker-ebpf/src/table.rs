//! The flow tables: look-up, insertion, and the lock.
//!
//! How an element lives, and why a program that holds a pointer to one never
//! acts on a flow that is not its packet's:
//!
//! 1. It is inserted *blank*, all zero. A blank's tag is 0, which is no key's,
//!    so whoever else finds it leaves it alone. Only the program whose insertion
//!    succeeded fills it, under the lock, the tag included.
//! 2. While it lives, every write happens under the lock after the tag was
//!    compared with the key's.
//! 3. Whoever ends it sets the tag to 0 under the lock, then deletes it. Nobody
//!    else may delete, and until it is deleted nobody can insert the key again.
//!    The memory's next owner starts from a blank (1), so the tag is 0 until the
//!    new owner's is in place, and a pointer from before never matches.

use core::ptr;

use aya_ebpf::{
    bindings::{self, BPF_NOEXIST},
    helpers::{bpf_map_delete_elem, bpf_map_update_elem, bpf_spin_lock, bpf_spin_unlock},
};
use tracker_common::{
    abi::{Family, Flow, Gauge, Key, KeyV4, KeyV6},
    reason::Reason,
};

use crate::{
    gauge,
    maps::{FLOWS_V4, FLOWS_V6},
};

/// An element that is nobody's. Not a [`Flow`], because a lock may only lie in
/// a map value that is not read-only.
static BLANK: [u64; size_of::<Flow>() / 8] = [0; size_of::<Flow>() / 8];

/// The head of a key as a key of the IPv4 table.
#[inline(always)]
fn four(key: &Key) -> &KeyV4 {
    // SAFETY: both are repr(C) words, and the first four of a `Key` are a
    // `KeyV4` by definition.
    unsafe { &*ptr::from_ref(key).cast() }
}

/// A key as one of the IPv6 table.
#[inline(always)]
fn six(key: &Key) -> &KeyV6 {
    // SAFETY: both are ten repr(C) words in the same order.
    unsafe { &*ptr::from_ref(key).cast() }
}

/// The element of `key`, if there is one. May be a blank, or be about to die.
#[inline(always)]
pub fn find(family: Family, key: &Key) -> Option<*mut Flow> {
    match family {
        Family::V4 => FLOWS_V4.get_ptr_mut(four(key)),
        Family::V6 => FLOWS_V6.get_ptr_mut(six(key)),
    }
}

/// Inserts a blank.
///
/// # Errors
///
/// The reason with which the packet that wanted it leaves.
#[inline(always)]
pub fn insert_blank(family: Family, key: &Key) -> Result<(), Reason> {
    const ENOMEM: i64 = -12;
    const EEXIST: i64 = -17;
    const E2BIG: i64 = -7;
    let blank = BLANK.as_ptr().cast();
    // SAFETY: key and value are as large as the map's and live across the call.
    let code = unsafe {
        match family {
            Family::V4 => bpf_map_update_elem(
                (&raw const FLOWS_V4).cast_mut().cast(),
                ptr::from_ref(key).cast(),
                blank,
                BPF_NOEXIST.into(),
            ),
            Family::V6 => bpf_map_update_elem(
                (&raw const FLOWS_V6).cast_mut().cast(),
                ptr::from_ref(key).cast(),
                blank,
                BPF_NOEXIST.into(),
            ),
        }
    };
    match code {
        0 => {
            gauge::take(gauge_of(family));
            Ok(())
        }
        // Another CPU was faster with a packet of the same flow.
        EEXIST => Err(Reason::Contended),
        E2BIG => Err(Reason::TableFull),
        ENOMEM => Err(Reason::NoMemory),
        _ => Err(Reason::InsertFailed),
    }
}

/// Deletes the element that the caller has just retired.
#[inline(always)]
pub fn delete_retired(family: Family, key: &Key) {
    // SAFETY: the key is as large as the map's and lives across the call.
    let code = unsafe {
        match family {
            Family::V4 => bpf_map_delete_elem(
                (&raw const FLOWS_V4).cast_mut().cast(),
                ptr::from_ref(key).cast(),
            ),
            Family::V6 => bpf_map_delete_elem(
                (&raw const FLOWS_V6).cast_mut().cast(),
                ptr::from_ref(key).cast(),
            ),
        }
    };
    // A retired element is there until this very call: only a bucket lock held
    // by a program that this one interrupted can fail it, and then the element
    // stays, as nobody's. The gauge keeps telling how many there are.
    if code == 0 {
        gauge::give_back(gauge_of(family));
    }
}

/// The gauge that counts a family's elements.
#[inline(always)]
const fn gauge_of(family: Family) -> Gauge {
    match family {
        Family::V4 => Gauge::FlowsV4,
        Family::V6 => Gauge::FlowsV6,
    }
}

/// Takes the lock. Until [`unlock`] no helper and no function may be called
/// (kernel/bpf/verifier.c, `process_spin_lock`), so all in between is inlined.
///
/// # Safety
///
/// `flow` must come from [`find`], and be unlocked before the program ends.
#[inline(always)]
pub unsafe fn lock(flow: *mut Flow) {
    // SAFETY: a map value with a lock of this layout at this place.
    unsafe { bpf_spin_lock((&raw mut (*flow).lock).cast::<bindings::bpf_spin_lock>()) };
}

/// Gives the lock back.
///
/// # Safety
///
/// The program must hold `flow`'s lock.
#[inline(always)]
pub unsafe fn unlock(flow: *mut Flow) {
    // SAFETY: as for `lock`.
    unsafe { bpf_spin_unlock((&raw mut (*flow).lock).cast::<bindings::bpf_spin_lock>()) };
}
