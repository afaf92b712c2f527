//! Sets of numbers as ranges of them, and products of such sets: what a rule
//! matches.

use std::sync::Arc;

/// A set of numbers: inclusive ranges in order, at least one number apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges(Arc<[(u128, u128)]>);

impl Ranges {
    /// The numbers in any of some ranges.
    pub(super) fn of(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined.into())
    }

    /// The numbers from 0 to `last`.
    pub(super) fn up_to(last: u128) -> Self {
        Self([(0, last)].into())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges they are: what operations cost.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least and the greatest number; 0 and 0 if there is none.
    pub(super) fn ends(&self) -> (u128, u128) {
        let first = self.0.first().map_or(0, |(first, _)| *first);
        (first, self.0.last().map_or(0, |(_, last)| *last))
    }

    /// Whether a number is in it.
    pub(super) fn contain(&self, number: u128) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// Whether all of `other` is in it.
    pub(super) fn cover(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        other.0.iter().all(|(first, last)| {
            let at = self.0.partition_point(|(_, end)| end < first);
            let found = self.0.get(at);
            found.is_some_and(|(start, end)| start <= first && last <= end)
        })
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                both.push((a.max(c), b.min(d)));
            }
            if b < d {
                left.next();
            } else {
                right.next();
            }
        }
        Self(both.into())
    }

    /// What is in it and not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for &(first, last) in self.0.iter() {
            let mut from = Some(first);
            while let (Some(start), Some(&&(cut, end))) = (from, cuts.peek()) {
                if cut > last {
                    break;
                }
                if cut > start {
                    left.push((start, cut - 1));
                }
                from = end.checked_add(1).map(|next| next.max(start));
                if end > last {
                    // It may cut the next range, too.
                    break;
                }
                cuts.next();
            }
            if let Some(start) = from.filter(|start| *start <= last) {
                left.push((start, last));
            }
        }
        Self(left.into())
    }
}

/// Fields of a connection that rules look at, those of one address family.
pub(super) const FIELDS: usize = 6;

/// What a rule matches of one family: everything whose fields are in these sets.
pub(super) type Region = [Ranges; FIELDS];

/// Whether a point is in a region.
pub(super) fn contains(region: &Region, point: &[u128; FIELDS]) -> bool {
    let mut fields = region.iter().zip(point);
    fields.all(|(field, number)| field.contain(*number))
}

/// Whether all of `inner`, which is not empty, is in `outer`.
pub(super) fn covers(outer: &Region, inner: &Region) -> bool {
    let mut fields = outer.iter().zip(inner);
    fields.all(|(outer, inner)| outer.cover(inner))
}

/// What is in `region` and not in `other`, as regions that have nothing in common.
pub(super) fn without(region: &Region, other: &Region) -> Vec<Region> {
    let mut rest = region.clone();
    let mut pieces = Vec::new();
    for field in 0..FIELDS {
        let outside = rest[field].minus(&other[field]);
        if !outside.is_empty() {
            let mut piece = rest.clone();
            piece[field] = outside;
            pieces.push(piece);
        }
        rest[field] = rest[field].and(&other[field]);
        if rest[field].is_empty() {
            break;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::vec((0_u128..40, 0_u128..6), 0..6).prop_map(|ranges| {
            Ranges::of(ranges.iter().map(|(at, more)| (*at, at + more)).collect())
        })
    }

    proptest! {
        #[test]
        fn sets_of_ranges_are_sets(a in ranges(), b in ranges()) {
            let numbers = 0..50;
            let (and, minus) = (a.and(&b), a.minus(&b));
            for number in numbers.clone() {
                let (in_a, in_b) = (a.contain(number), b.contain(number));
                prop_assert_eq!(and.contain(number), in_a && in_b);
                prop_assert_eq!(minus.contain(number), in_a && !in_b);
            }
            let covered = numbers.clone().all(|number| a.contain(number) || !b.contain(number));
            prop_assert_eq!(a.cover(&b), covered);
            prop_assert_eq!(a.is_empty(), numbers.into_iter().all(|number| !a.contain(number)));
            prop_assert!(minus.0.is_sorted());
            if !a.is_empty() {
                let (first, last) = a.ends();
                prop_assert!(a.contain(first) && a.contain(last));
            }
        }

        #[test]
        fn a_difference_of_regions_is_one(
            a in prop::array::uniform6(ranges()),
            b in prop::array::uniform6(ranges()),
            points in prop::collection::vec(prop::array::uniform6(0_u128..45), 60),
        ) {
            let pieces = without(&a, &b);
            for point in points {
                let within = pieces.iter().filter(|piece| contains(piece, &point)).count();
                let expected = contains(&a, &point) && !contains(&b, &point);
                prop_assert_eq!(within, usize::from(expected));
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_numbers() {
        let all = Ranges::up_to(u128::MAX);
        let top = Ranges::of(vec![(u128::MAX, u128::MAX)]);
        assert_eq!(all.minus(&top), Ranges::up_to(u128::MAX - 1));
        assert!(top.minus(&all).is_empty());
        assert_eq!(Ranges::of(vec![(0, u128::MAX), (5, 6)]), all);
    }
}
