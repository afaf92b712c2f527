//! Counters that all CPUs share, and reservations against their limits.

use tracker_common::abi::{Family, Gauge, Key, held};

use crate::{atomic::fetch_add, maps::GAUGES, rules, shares};

/// Adds `amount` modulo 2^64; the value before.
#[inline(never)]
fn add(gauge: Gauge, amount: u64) -> u64 {
    let Some(cell) = GAUGES.get_ptr_mut(gauge as u32) else {
        return 0;
    };
    // SAFETY: array elements live as long as the program, are aligned to eight
    // bytes, and every access on the packet path is atomic.
    unsafe { fetch_add(&raw mut (*cell).value, amount) }
}

/// Adds one; the value before.
#[inline(always)]
pub fn take(gauge: Gauge) -> u64 {
    add(gauge, 1)
}

/// Takes one off.
#[inline(always)]
pub fn give_back(gauge: Gauge) {
    add(gauge, 1_u64.wrapping_neg());
}

/// What of `gauge` is taken.
#[inline(always)]
pub fn taken(gauge: Gauge) -> u64 {
    let Some(cell) = GAUGES.get_ptr_mut(gauge as u32) else {
        return 0;
    };
    // SAFETY: as above; an aligned word is read whole.
    unsafe { (&raw const (*cell).value).read_volatile() }
}

/// Sets `gauge`, whose value nobody adds to.
#[inline(always)]
pub fn set(gauge: Gauge, value: u64) {
    if let Some(cell) = GAUGES.get_ptr_mut(gauge as u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*cell).value).write_volatile(value) };
    }
}

/// The gauge behind what [`tracker_common::tcp::Opening::reservation`] says.
#[inline(always)]
const fn of(reservation: u16) -> Gauge {
    if reservation & held::PICKUP != 0 {
        Gauge::Pickup
    } else if reservation & held::COUNTED != 0 {
        Gauge::HalfOpen
    } else {
        Gauge::Calling
    }
}

/// Takes a place in the gauge of `reservation`, unless `limit` of them are taken.
/// Gives how many were, `None` if it found no place.
#[inline(always)]
pub fn reserve(reservation: u16, limit: u32) -> Option<u64> {
    let gauge = of(reservation);
    let before = take(gauge);
    if before < u64::from(limit) {
        return Some(before);
    }
    give_back(gauge);
    None
}

/// Gives back what [`reserve`] took, and the shares of the flow with that key
/// if it has any ([`held::SHARED`], and [`held::RULED`] of the rule of that number).
#[inline(never)]
pub fn release(released: u16, key: &Key, family: Family, initiator_high: bool, rule: u16) {
    if released & held::RULED != 0 {
        rules::give_back(released, key, family, initiator_high, rule);
    }
    if released & (held::HALF_OPEN | held::PICKUP) != 0 {
        give_back(of(released));
    }
    if released & held::SHARED != 0 {
        shares::give_back(key, family, initiator_high);
    }
}
