//! What passed at one end of a wire, as a pcap file.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Octets of a frame that are kept: all headers.
const SNAP: usize = 128;

/// Magic number of a file with microseconds.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Link type of Ethernet.
const ETHERNET: u32 = 1;

/// Records as they go to the file.
#[derive(Default)]
pub struct Capture(Vec<u8>);

impl Capture {
    /// Keeps the beginning of a frame.
    pub fn keep(&mut self, frame: &[u8]) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let kept = frame.get(..SNAP).unwrap_or(frame);
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let length = |octets: &[u8]| u32::try_from(octets.len()).unwrap_or(u32::MAX);
        for word in [seconds, time.subsec_micros(), length(kept), length(frame)] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(kept);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes a pcap file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        // Version 2.4, no time zone, no accuracy.
        let header = [MAGIC, 0x0004_0002, 0, 0, 1 << 16, ETHERNET];
        for word in header {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&self.0)
    }
}
