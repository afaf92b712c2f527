//! What is fixed at load: the verifier sees these as constants and prunes what
//! they rule out.

use aya_ebpf::Global;

/// [`tracker_common::abi::Role`] as a number.
#[unsafe(no_mangle)]
static ROLE: Global<u32> = Global::new(0);

/// 1 when the map `ZONES` has entries.
#[unsafe(no_mangle)]
static ZONES_CONFIGURED: Global<u32> = Global::new(0);

/// 1 when the time is read from the map `TEST_CLOCK`.
#[unsafe(no_mangle)]
static TEST_CLOCK_ON: Global<u32> = Global::new(0);

/// Possible CPUs, for generations that no two CPUs share.
#[unsafe(no_mangle)]
static CPUS: Global<u32> = Global::new(1);

/// 1 when checksums are verified on some interface.
#[unsafe(no_mangle)]
static CHECKSUMS: Global<u32> = Global::new(0);

/// Whether checksums are verified at all.
#[inline(always)]
pub fn checksums() -> bool {
    CHECKSUMS.load() != 0
}

/// Whether this is a gateway.
#[inline(always)]
pub fn gateway() -> bool {
    ROLE.load() != 0
}

/// Whether configured zones replace default ones.
#[inline(always)]
pub fn zones_configured() -> bool {
    ZONES_CONFIGURED.load() != 0
}

/// Whether tests set the time.
#[inline(always)]
pub fn test_clock() -> bool {
    TEST_CLOCK_ON.load() != 0
}

/// See [`CPUS`].
#[inline(always)]
pub fn cpus() -> u32 {
    CPUS.load()
}
