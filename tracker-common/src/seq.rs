//! TCP sequence numbers: arithmetic modulo 2^32 (RFC 9293 section 3.4).

/// A sequence or acknowledgement number.
///
/// Deliberately not `Ord`: "before" on a circle is not transitive, so sorting
/// by it would be meaningless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `count` octets further on.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// The number `count` octets back.
    #[inline(always)]
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// Octets from `earlier` to here, modulo 2^32.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Strictly before `other` on the half circle that ends there.
    #[inline(always)]
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Strictly after `other`.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The later of the two.
    #[inline(always)]
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let last = Seq(u32::MAX);
        assert!(last.before(last.plus(1)));
        assert!(last.plus(1).after(last));
        assert_eq!(last.plus(1), Seq(0));
        assert_eq!(Seq(0).minus(1), last);
        assert_eq!(Seq(4).since(Seq(u32::MAX - 3)), 8);
        assert_eq!(last.max(Seq(3)), Seq(3));
    }

    #[test]
    fn a_number_is_neither_before_nor_after_itself() {
        assert!(!Seq(7).before(Seq(7)) && !Seq(7).after(Seq(7)));
    }
}
