//! Reads hash maps in batches.

use std::{io, os::fd::BorrowedFd};

use aya::Pod;
use tracker_common::abi::{Family, Flow, Key, KeyV4, KeyV6};

use super::{
    error::{Error, Result},
    sys::{self, Batch, Cursor},
};

/// Elements asked for at once: large enough that the call's cost vanishes,
/// small enough for the caches.
const CHUNK: usize = 4096;

/// A single bucket never holds as many elements: the buffers stop growing here.
const LARGEST_CHUNK: usize = 1 << 20;

/// Reads every flow of one family once, chunk by chunk.
///
/// The table changes meanwhile: a flow that lives during the whole reading is
/// seen exactly once, one that comes or goes may or may not be.
pub struct FlowReader<'a> {
    map: BorrowedFd<'a>,
    name: &'static str,
    cursor: Cursor,
    keys: Keys,
    values: Vec<Flow>,
    chunk: Vec<(Key, Flow)>,
    done: bool,
}

/// Keys of either family as the kernel writes them.
enum Keys {
    V4(Vec<KeyV4>),
    V6(Vec<KeyV6>),
}

impl<'a> FlowReader<'a> {
    /// Reads the table of `family`, which `map` must be.
    pub(super) fn new(map: BorrowedFd<'a>, name: &'static str, family: Family) -> Self {
        let mut reader = Self {
            map,
            name,
            cursor: Cursor::default(),
            keys: match family {
                Family::V4 => Keys::V4(Vec::new()),
                Family::V6 => Keys::V6(Vec::new()),
            },
            values: Vec::new(),
            chunk: Vec::new(),
            done: false,
        };
        reader.grow_to(CHUNK);
        reader
    }

    /// The next flows, `None` after the last. Blank and dying elements are
    /// left out; a chunk is never empty.
    ///
    /// # Errors
    ///
    /// The kernel refuses the look-up.
    pub fn next_chunk(&mut self) -> Result<Option<&[(Key, Flow)]>> {
        self.chunk.clear();
        while self.chunk.is_empty() {
            if self.done {
                return Ok(None);
            }
            let batch = self.read_batch()?;
            self.done = batch.last;
            let values = &self.values[..batch.count.min(self.values.len())];
            match &self.keys {
                Keys::V4(keys) => collect(&mut self.chunk, keys, values),
                Keys::V6(keys) => collect(&mut self.chunk, keys, values),
            }
        }
        Ok(Some(&self.chunk))
    }

    fn read_batch(&mut self) -> Result<Batch> {
        loop {
            let values = &mut self.values;
            let result = match &mut self.keys {
                Keys::V4(keys) => {
                    sys::lookup_batch(self.map, &mut self.cursor, keys, values, sys::BPF_F_LOCK)
                }
                Keys::V6(keys) => {
                    sys::lookup_batch(self.map, &mut self.cursor, keys, values, sys::BPF_F_LOCK)
                }
            };
            match result {
                Err(error) if is_too_small(&error) && self.values.len() < LARGEST_CHUNK => {
                    self.grow_to(self.values.len() * 2);
                }
                other => {
                    return other.map_err(|source| Error::Batch {
                        action: "read",
                        map: self.name,
                        source,
                    });
                }
            }
        }
    }

    fn grow_to(&mut self, len: usize) {
        match &mut self.keys {
            Keys::V4(keys) => keys.resize(len, KeyV4::default()),
            Keys::V6(keys) => keys.resize(len, KeyV6::default()),
        }
        self.values.resize(len, Flow::default());
        self.chunk.reserve(len);
    }
}

/// Reads a hash map whose values have no lock, and hands every element to `each`.
/// The map changes meanwhile, as above.
pub(super) fn read_all<K: Pod + Default, V: Pod + Default>(
    map: BorrowedFd<'_>,
    name: &'static str,
    mut each: impl FnMut(&K, &V),
) -> Result<()> {
    let mut cursor = Cursor::default();
    let mut keys = vec![K::default(); CHUNK];
    let mut values = vec![V::default(); CHUNK];
    loop {
        match sys::lookup_batch(map, &mut cursor, &mut keys, &mut values, 0) {
            Ok(batch) => {
                keys.iter()
                    .zip(&values)
                    .take(batch.count)
                    .for_each(|(key, value)| each(key, value));
                if batch.last {
                    return Ok(());
                }
            }
            Err(error) if is_too_small(&error) && keys.len() < LARGEST_CHUNK => {
                keys.resize(keys.len() * 2, K::default());
                values.resize(values.len() * 2, V::default());
            }
            Err(source) => {
                return Err(Error::Batch {
                    action: "read",
                    map: name,
                    source,
                });
            }
        }
    }
}

/// Whether not even one bucket fits the buffers.
fn is_too_small(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// Keeps what is somebody's flow: tag 0 marks an element that is being filled
/// or removed.
fn collect<K: Copy + Into<Key>>(chunk: &mut Vec<(Key, Flow)>, keys: &[K], values: &[Flow]) {
    let pairs = keys.iter().zip(values).filter(|(_, flow)| flow.tag != 0);
    chunk.extend(pairs.map(|(&key, &flow)| (key.into(), flow)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_left_out_and_keys_stay_with_their_flows() {
        let key = |low| KeyV4 {
            low,
            ..KeyV4::default()
        };
        let flow = |tag| Flow {
            tag,
            ..Flow::default()
        };
        let mut chunk = Vec::new();
        collect(
            &mut chunk,
            &[key(1), key(2), key(3)],
            &[flow(7), flow(0), flow(9)],
        );
        let seen: Vec<_> = chunk
            .iter()
            .map(|(key, flow)| (key.words[0], flow.tag))
            .collect();
        assert_eq!(seen, [(1, 7), (3, 9)]);
    }

    #[test]
    fn what_the_kernel_did_not_fill_is_not_read() {
        let mut chunk = Vec::new();
        let keys = [KeyV6::default(); 4];
        let values = [Flow {
            tag: 5,
            ..Flow::default()
        }; 4];
        collect(&mut chunk, &keys, &values[..2]);
        assert_eq!(chunk.len(), 2);
    }
}
