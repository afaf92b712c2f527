//! Atomic operations that give the old value.
//!
//! The BPF targets have the instruction (version 3 of the instruction set,
//! kernel 5.12) but no compare-and-swap of every width, so rustc offers no
//! `AtomicU64::fetch_add` for them.

/// Adds `amount` (modulo 2^64) to `*place`; the value before.
///
/// # Safety
///
/// `place` must be valid for reads and writes, aligned to eight bytes, and
/// written only atomically while others may write it.
#[inline(always)]
pub unsafe fn fetch_add(place: *mut u64, amount: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = amount;
        // SAFETY: the caller's promise; the operand is both addend and result.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_add((u64 *)({place} + 0), {value})",
                value = inout(reg) value,
                place = in(reg) place,
                options(nostack),
            );
        }
        value
    }
    // Only for lints, which see this crate on the host.
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: the caller's promise.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(place) }
            .fetch_add(amount, core::sync::atomic::Ordering::Relaxed)
    }
}

/// Writes `new` to `*place` if it holds `old`; the value before.
///
/// # Safety
///
/// As of [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_and_swap(place: *mut u64, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = old;
        // SAFETY: the caller's promise; the instruction compares with r0 and leaves
        // what it found there.
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({place} + 0, r0, {new})",
                inout("r0") value,
                place = in(reg) place,
                new = in(reg) new,
                options(nostack),
            );
        }
        value
    }
    // Only for lints, which see this crate on the host.
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::Ordering::Relaxed;
        // SAFETY: the caller's promise.
        let place = unsafe { core::sync::atomic::AtomicU64::from_ptr(place) };
        place
            .compare_exchange(old, new, Relaxed, Relaxed)
            .unwrap_or_else(|found| found)
    }
}
