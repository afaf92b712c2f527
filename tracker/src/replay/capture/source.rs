//! A buffer over what may be larger than memory, or a pipe.

use std::io::{self, Read};

/// Octets asked for at once.
const CHUNK: usize = 1 << 18;

/// Reads ahead, and knows at which octet of the file it stands.
pub struct Source<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where in the buffer the data begin that were not consumed.
    start: usize,
    /// Where they end.
    end: usize,
    /// Offset in the file of `start`.
    offset: u64,
    exhausted: bool,
}

impl<R: Read> Source<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
            exhausted: false,
        }
    }

    /// Offset in the file of the next octet.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// What has been read ahead.
    pub fn data(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The `N` octets that lie `at` octets ahead, if they have been read.
    pub fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.data().get(at..)?.first_chunk().copied()
    }

    /// Reads until `wanted` octets are ahead, or the file ends; true when they
    /// are there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn reach(&mut self, wanted: usize) -> io::Result<bool> {
        while self.end - self.start < wanted && !self.exhausted {
            if self.start + wanted > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                if wanted > self.buffer.len() {
                    self.buffer.resize(wanted, 0);
                }
            }
            let Some(space) = self.buffer.get_mut(self.end..) else {
                break;
            };
            match self.input.read(space) {
                Ok(0) => self.exhausted = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end - self.start >= wanted)
    }

    /// Lets go of `count` octets, or of all that have been read.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one octet at a time, and an interruption before each.
    struct Trickle(Vec<u8>, bool);

    impl Read for Trickle {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.0.is_empty() {
                return Ok(0);
            }
            space[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn a_trickle_is_gathered_and_counted() {
        let mut source = Source::new(Trickle((0..10).collect(), false));
        assert!(source.reach(4).unwrap());
        assert_eq!(source.array(1), Some([1, 2]));
        source.consume(3);
        assert_eq!((source.offset(), source.data()), (3, &[3][..]));
        assert!(!source.reach(8).unwrap());
        assert_eq!(source.data().len(), 7);
        source.consume(100);
        assert_eq!(source.offset(), 10);
        assert!(!source.reach(1).unwrap());
    }

    #[test]
    fn what_is_larger_than_the_buffer_still_fits() {
        let bytes: Vec<u8> = (0..3 * CHUNK).map(|at| at as u8).collect();
        let mut source = Source::new(&bytes[..]);
        assert!(source.reach(10).unwrap());
        source.consume(7);
        assert!(source.reach(2 * CHUNK).unwrap());
        assert_eq!(source.data()[..2 * CHUNK], bytes[7..][..2 * CHUNK]);
    }
}
