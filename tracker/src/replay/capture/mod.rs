//! Reading captures: packets with their times, one by one, in no more memory
//! than the largest of them.
//!
//! | module | what it holds |
//! |---|---|
//! | `source` | a buffer that knows its place in the file |
//! | `pcap`, `pcapng` | the two formats, on the parsers of the crate `pcap-parser` |
//! | `fault` | what can be wrong |
//!
//! Lengths are checked before what they measure is waited for, so that a
//! damaged file is an error with a place and not a gigabyte of memory.

mod fault;
mod pcap;
mod pcapng;
mod source;

#[cfg(test)]
mod tests;

use std::{io::Read, ops::Range};

pub use self::fault::Fault;
use self::{pcap::Pcap, pcapng::PcapNg, source::Source};
pub use super::link::Link;

/// Most octets of one packet: more than a kernel hands out (BIG TCP is at most
/// half of it), few enough to be held.
const MAX_PACKET: u32 = 1 << 20;

/// Which way a packet went, where the capture says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It is not said.
    Unknown,
    /// Into the machine that captured it.
    Inbound,
    /// Out of it.
    Outbound,
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the file of the record that holds it.
    pub offset: u64,
    /// When it was captured, ns since 1970; `None` where the format has no
    /// place for it.
    pub time_ns: Option<u64>,
    /// What it begins with.
    pub link: Link,
    /// Number of the interface in the file, from 0; `None` where there is but
    /// one and it has no name.
    pub interface: Option<u32>,
    /// Which way it went.
    pub direction: Direction,
    /// Octets that it had on the wire; at least those of `data`.
    pub original: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// A packet found at the front of a [`Source`].
struct Found {
    /// Octets of the whole record.
    size: usize,
    /// Where in them the packet is.
    data: Range<usize>,
    time_ns: Option<u64>,
    original: u32,
    link: Link,
    interface: Option<u32>,
    direction: Direction,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A capture that is being read.
pub struct Capture<R> {
    source: Source<R>,
    format: Format,
    /// Octets of the record that was handed out last.
    behind: usize,
}

impl<R: Read> Capture<R> {
    /// Begins to read a capture of either format.
    ///
    /// # Errors
    ///
    /// When it is none, its link type is not known, or it cannot be read.
    pub fn open(input: R) -> Result<Self, Fault> {
        let mut source = Source::new(input);
        if !read(&mut source, 4)? && source.data().is_empty() {
            return Err(Fault::Empty);
        }
        let format = match source.array(0) {
            Some(magic) if pcap::begins(magic) => Format::Pcap(Pcap::open(&mut source)?),
            Some(magic) if pcapng::begins(magic) => Format::PcapNg(PcapNg::open(&mut source)?),
            Some(_) | None => return Err(foreign(source.data())),
        };
        Ok(Self {
            source,
            format,
            behind: 0,
        })
    }

    /// The next packet, `None` at the end.
    ///
    /// # Errors
    ///
    /// When the file is cut off, is damaged, or cannot be read. There is nothing
    /// behind an error.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not hand out what lies in its own buffer"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Fault> {
        self.source.consume(std::mem::take(&mut self.behind));
        let found = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.source)?,
            Format::PcapNg(pcapng) => pcapng.next(&mut self.source)?,
        };
        let Some(found) = found else {
            return Ok(None);
        };
        self.behind = found.size;
        Ok(Some(Record {
            offset: self.source.offset(),
            time_ns: found.time_ns,
            link: found.link,
            interface: found.interface,
            direction: found.direction,
            original: found.original,
            data: self.source.data().get(found.data).unwrap_or_default(),
        }))
    }

    /// Octets of the file that have been dealt with.
    pub const fn position(&self) -> u64 {
        self.source.offset()
    }

    /// Name of the interface with that number, where the file has one.
    pub fn interface(&self, number: u32) -> Option<&str> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(pcapng) => pcapng.name(number),
        }
    }
}

/// Reads ahead as [`Source::reach`] does.
fn read<R: Read>(source: &mut Source<R>, wanted: usize) -> Result<bool, Fault> {
    let offset = source.offset() + source.data().len() as u64;
    source
        .reach(wanted)
        .map_err(|source| Fault::Read { offset, source })
}

/// The file ends inside `what`, which begins where `source` stands.
fn truncated<R: Read>(source: &Source<R>, what: &'static str, wanted: usize) -> Fault {
    Fault::Truncated {
        offset: source.offset(),
        what,
        wanted: wanted as u64,
        found: source.data().len() as u64,
    }
}

fn foreign(data: &[u8]) -> Fault {
    let tool = match data {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    };
    match tool {
        Some(tool) => Fault::Compressed { tool },
        None => Fault::Foreign {
            magic: data.iter().copied().take(4).collect(),
        },
    }
}
