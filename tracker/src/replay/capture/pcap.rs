//! The older format: one header, then packets, each with a time and two
//! lengths (draft-ietf-opsawg-pcap).

use std::io::Read;

use pcap_parser::{
    PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{Direction, Fault, Found, Link, MAX_PACKET, Source, read, truncated};

/// Octets of the file's header.
const HEADER: usize = 24;
/// Of the 32 bits that hold the link type, those that do; above are the length
/// of a frame check sequence and whether it is known.
const LINK_MASK: u32 = 0xffff;

/// How one file is written.
pub struct Pcap {
    big_endian: bool,
    /// Alexey Kuznetsov's variant, whose packets have longer headers.
    modified: bool,
    /// Nanoseconds in one unit of the fraction of a second.
    unit_ns: u64,
    link: Link,
}

/// Whether a file that begins like this is one.
pub const fn begins(magic: [u8; 4]) -> bool {
    matches!(
        u32::from_le_bytes(magic),
        0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0xa1b2_cd34
    )
}

impl Pcap {
    /// Reads the header.
    pub fn open<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        if !read(source, HEADER)? {
            return Err(truncated(source, "a header", HEADER));
        }
        let header: PcapHeader = match parse_pcap_header(source.data()) {
            Ok((_, header)) => header,
            Err(_) => return Err(damaged(source.offset(), "the header cannot be read")),
        };
        if header.version_major != 2 {
            return Err(damaged(
                4,
                &format!(
                    "version {}.{} of the format is not known, only 2",
                    header.version_major, header.version_minor
                ),
            ));
        }
        let link = Link(header.network.0.cast_unsigned() & LINK_MASK);
        if !link.is_known() {
            return Err(Fault::LinkType { offset: 20, link });
        }
        source.consume(HEADER);
        Ok(Self {
            big_endian: header.is_bigendian(),
            modified: header.is_modified_format(),
            unit_ns: if header.is_nanosecond_precision() {
                1
            } else {
                1000
            },
            link,
        })
    }

    /// The next packet, which lies at the front of `source`.
    pub fn next<R: Read>(&self, source: &mut Source<R>) -> Result<Option<Found>, Fault> {
        let header = if self.modified { 24 } else { 16 };
        if !read(source, header)? {
            return if source.data().is_empty() {
                Ok(None)
            } else {
                Err(truncated(source, "the header of a packet", header))
            };
        }
        let captured = match source.array(8) {
            Some(raw) if self.big_endian => u32::from_be_bytes(raw),
            Some(raw) => u32::from_le_bytes(raw),
            None => 0,
        };
        if captured > MAX_PACKET {
            return Err(damaged(
                source.offset(),
                &format!("a packet of {captured} octets cannot be"),
            ));
        }
        let size = header + captured as usize;
        if !read(source, size)? {
            return Err(truncated(source, "a packet with its header", size));
        }
        let parsed = match (self.modified, self.big_endian) {
            (true, _) => parse_pcap_frame_modified(source.data()),
            (false, true) => parse_pcap_frame_be(source.data()),
            (false, false) => parse_pcap_frame(source.data()),
        };
        let Ok((_, block)) = parsed else {
            return Err(damaged(source.offset(), "a packet cannot be read"));
        };
        let seconds = u64::from(block.ts_sec) * 1_000_000_000;
        Ok(Some(Found {
            size,
            data: header..size,
            time_ns: Some(seconds + u64::from(block.ts_usec) * self.unit_ns),
            original: block.origlen.max(captured),
            link: self.link,
            interface: None,
            direction: Direction::Unknown,
        }))
    }
}

fn damaged(offset: u64, what: &str) -> Fault {
    Fault::Damaged {
        offset,
        what: what.to_owned(),
    }
}
