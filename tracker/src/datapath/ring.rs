//! A ring buffer of events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use tracker_common::abi::Event;

/// One of the rings through which the programs report.
///
/// Its descriptor becomes readable when the programs wake it: those of
/// `EVENTS` do, those of `EMBRYO_EVENTS` never, so that a flood wakes nobody.
pub struct EventRing {
    ring: RingBuf<MapData>,
    malformed: u64,
}

impl EventRing {
    pub(super) const fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, malformed: 0 }
    }

    /// Takes up to `limit` events into `events`, in the order in which they
    /// were reserved; returns how many.
    pub fn take(&mut self, limit: usize, events: &mut Vec<Event>) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(record) = self.ring.next() else {
                break;
            };
            match decode(&record) {
                Some(event) => {
                    events.push(event);
                    taken += 1;
                }
                None => self.malformed += 1,
            }
        }
        taken
    }

    /// Records of a wrong length met so far: written by other programs.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// The event in `record`; `None` where the length is not an event's.
fn decode(record: &[u8]) -> Option<Event> {
    if record.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: `Event` is `Pod`, so any bytes are a value, and there are as many
    // as it has; the read does not ask for alignment.
    Some(unsafe { record.as_ptr().cast::<Event>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_length_is_no_event() {
        let mut bytes = [0_u8; size_of::<Event>()];
        bytes[..8].copy_from_slice(&7_u64.to_ne_bytes());
        assert_eq!(decode(&bytes).map(|event| event.time_ns), Some(7));
        assert!(decode(&bytes[1..]).is_none());
        assert!(decode(&[]).is_none());
    }
}
