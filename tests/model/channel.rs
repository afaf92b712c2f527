//! The way between the endpoints. Each direction has two halves, before and
//! behind the tracker, and each half may lose, duplicate and reorder.

use super::segment::Segment;

/// Segments that one half holds at most.
pub const CAPACITY: usize = 4;

/// One half of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    segments: [Segment; CAPACITY],
    used: u8,
}

impl Half {
    /// What is on the way.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.used.into()]
    }

    /// Puts one more on the way; false when there is no room. Since any of them
    /// may overtake any other, their order means nothing and is kept sorted.
    pub fn put(&mut self, segment: Segment) -> bool {
        let used = usize::from(self.used);
        if used == CAPACITY {
            return false;
        }
        let at = self.segments().partition_point(|other| *other < segment);
        self.segments.copy_within(at..used, at + 1);
        self.segments[at] = segment;
        self.used += 1;
        true
    }

    /// Takes one off the way.
    pub fn take(&mut self, index: usize) -> Segment {
        let used = usize::from(self.used);
        let segment = self.segments[index];
        self.segments.copy_within(index + 1..used, index);
        self.segments[used - 1] = Segment::default();
        self.used -= 1;
        segment
    }

    /// Indices of segments that differ: of equal ones only the first counts.
    pub fn distinct(&self) -> impl Iterator<Item = usize> {
        let segments = self.segments();
        (0..segments.len()).filter(|&index| index == 0 || segments[index] != segments[index - 1])
    }
}
