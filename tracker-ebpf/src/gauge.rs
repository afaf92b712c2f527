//! Counters that all CPUs share, and reservations against their limits.

use tracker_common::abi::{Gauge, held};

use crate::{atomic::fetch_add, maps::GAUGES};

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

/// The gauge behind a reservation ([`held`]).
#[inline(always)]
const fn of(reservation: u16) -> Gauge {
    if reservation == held::PICKUP {
        Gauge::Pickup
    } else {
        Gauge::HalfOpen
    }
}

/// Takes a reservation, unless `limit` of them are taken.
#[inline(always)]
pub fn reserve(reservation: u16, limit: u32) -> bool {
    let gauge = of(reservation);
    if take(gauge) < u64::from(limit) {
        return true;
    }
    give_back(gauge);
    false
}

/// Gives back all reservations in `released`.
#[inline(never)]
pub fn release(released: u16) {
    if released & held::HALF_OPEN != 0 {
        give_back(Gauge::HalfOpen);
    }
    if released & held::PICKUP != 0 {
        give_back(Gauge::Pickup);
    }
}
