//! The two clocks of the packet path, both counted from `CLOCK_MONOTONIC`.
//!
//! [`Tick`] is what a flow keeps: coarse, four bytes. [`Micros`] is read only
//! on handshake segments, where a round trip is measured.

/// `ns >> TICK_SHIFT` is one tick: 4.194 ms.
///
/// The kernel's coarse clock moves once per jiffy, 4 ms at HZ=250, so a finer
/// tick would hold no more truth; 32 bits of it last 208 days.
pub const TICK_SHIFT: u32 = 22;

/// Nanoseconds in one tick.
pub const TICK_NS: u64 = 1 << TICK_SHIFT;

/// The longest time-out that can be told from a time that lies in the future:
/// half of the circle, in ticks (104 days).
pub const MAX_TIMEOUT_TICKS: u32 = (1 << 31) - 1;

/// A moment on the coarse clock, modulo 2^32 ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick in which `ns` of `CLOCK_MONOTONIC` lies.
    #[inline(always)]
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> TICK_SHIFT) as u32)
    }

    /// Ticks from `earlier` to here; zero where `earlier` lies in the future,
    /// as it can by one tick between two CPUs.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let ticks = self.0.wrapping_sub(earlier.0);
        if ticks > MAX_TIMEOUT_TICKS { 0 } else { ticks }
    }
}

/// Ticks that cover `ms` milliseconds, rounded up and kept inside the range
/// that can be compared.
#[must_use]
pub const fn ticks_from_ms(ms: u64) -> u32 {
    let ticks = (ms.saturating_mul(1_000_000)).div_ceil(TICK_NS);
    if ticks > MAX_TIMEOUT_TICKS as u64 {
        MAX_TIMEOUT_TICKS
    } else {
        ticks as u32
    }
}

/// Milliseconds in `ticks`, rounded down.
#[must_use]
pub const fn ms_from_ticks(ticks: u32) -> u64 {
    ticks as u64 * TICK_NS / 1_000_000
}

/// A moment in microseconds, modulo 2^32 (71 minutes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Micros(pub u32);

impl Micros {
    /// The microsecond in which `ns` of `CLOCK_MONOTONIC` lies.
    #[inline(always)]
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns / 1000) as u32)
    }

    /// Microseconds from `earlier` to here, modulo 2^32.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// A duration in microseconds in 16 bits: an 11-bit mantissa and a 5-bit
/// exponent, so at most 0.1 % below the truth, up to 71 minutes. Zero is "not
/// known".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct ShortMicros(pub u16);

/// Bits of a [`ShortMicros`] mantissa.
const MANTISSA_BITS: u32 = 11;

impl ShortMicros {
    /// Packs `micros`, rounding down; a measured zero becomes one, since zero
    /// means "not known".
    #[inline(always)]
    #[must_use]
    pub const fn pack(micros: u32) -> Self {
        let micros = if micros == 0 { 1 } else { micros };
        let bits = 32 - micros.leading_zeros();
        if bits <= MANTISSA_BITS {
            return Self(micros as u16);
        }
        let exponent = bits - MANTISSA_BITS;
        Self(((exponent << MANTISSA_BITS) | (micros >> exponent)) as u16)
    }

    /// The duration in microseconds, or `None` when it was never measured.
    #[must_use]
    pub const fn unpack(self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let mantissa = (self.0 as u32) & ((1 << MANTISSA_BITS) - 1);
        Some(mantissa << (self.0 as u32 >> MANTISSA_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_in_the_future_is_no_time_ago() {
        assert_eq!(Tick(5).since(Tick(6)), 0);
        assert_eq!(Tick(2).since(Tick(u32::MAX)), 3);
    }

    #[test]
    fn milliseconds_round_up_to_ticks_and_saturate() {
        assert_eq!(ticks_from_ms(0), 0);
        assert_eq!(ticks_from_ms(1), 1);
        assert_eq!(ticks_from_ms(5), 2);
        assert_eq!(ticks_from_ms(u64::MAX), MAX_TIMEOUT_TICKS);
        assert!(ms_from_ticks(ticks_from_ms(60_000)) >= 60_000);
    }

    #[test]
    fn short_micros_stay_within_a_tenth_of_a_percent() {
        assert_eq!(ShortMicros::default().unpack(), None);
        assert_eq!(ShortMicros::pack(0).unpack(), Some(1));
        let mut micros = 1u32;
        while micros < 3_600_000_000 / 2 {
            let got = ShortMicros::pack(micros).unpack().unwrap();
            assert!(
                got <= micros && micros - got <= micros / 1024,
                "{micros} → {got}"
            );
            micros += micros / 16 + 1;
        }
        assert!(ShortMicros::pack(u32::MAX).unpack().is_some());
    }
}
