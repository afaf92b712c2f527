//! The newer format: blocks, in sections of either byte order, of several
//! interfaces (draft-ietf-opsawg-pcapng).

use std::{io::Read, ops::Range};

use pcap_parser::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, PcapNGOption,
    SimplePacketBlock, parse_block_be, parse_block_le,
};

use super::{Direction, Fault, Found, Link, MAX_PACKET, Source, read, truncated};

/// Type of the block that begins a section, the same in either order.
const SECTION: u32 = 0x0a0d_0d0a;
/// The number behind its length, which tells the order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Type of the packet block that the enhanced one replaced, and octets in front
/// of its packet.
const OLD_PACKET: u32 = 2;
const OLD_PACKET_HEADER: usize = 20;
/// Octets of type and length of a block, behind which its body begins.
const BLOCK_HEADER: usize = 8;
/// Octets of the shortest block: type, length, and length again.
const SHORTEST: u32 = 12;
/// Most octets of a block, Wireshark's limit.
const LONGEST: u32 = 1 << 24;
/// Units of a second where an interface does not say: microseconds.
const DEFAULT_RESOLUTION: u8 = 6;

/// One interface of the current section.
struct Interface {
    /// Its number in the file.
    number: u32,
    link: Link,
    /// Most octets that were captured of a packet, 0 for all.
    snap: u32,
    resolution: u8,
    /// Seconds to add to each time.
    offset: i64,
}

/// How the current section is written.
pub struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Names of the interfaces of all sections, by number.
    names: Vec<Option<String>>,
}

/// Whether a file that begins like this is one.
pub const fn begins(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) == SECTION
}

impl PcapNg {
    /// Begins before the first section.
    pub fn open<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        let mut this = Self {
            big_endian: false,
            interfaces: Vec::new(),
            names: Vec::new(),
        };
        // Without it no length can be read.
        if !read(source, 12)? {
            return Err(truncated(source, "the header of a section", 12));
        }
        this.order(source)?;
        Ok(this)
    }

    /// Name of the interface with that number in the file.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize)?.as_deref()
    }

    /// Takes the byte order of the section that begins here.
    fn order<R: Read>(&mut self, source: &Source<R>) -> Result<(), Fault> {
        let magic = source.array(8).map(u32::from_le_bytes);
        self.big_endian = match magic {
            Some(BYTE_ORDER) => false,
            Some(magic) if magic.swap_bytes() == BYTE_ORDER => true,
            Some(_) | None => {
                return Err(damaged(
                    source.offset(),
                    "a section begins here without the number that tells its byte order",
                ));
            }
        };
        Ok(())
    }

    fn number(&self, raw: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        }
    }

    /// The next packet, whose block lies at the front of `source`.
    pub fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Found>, Fault> {
        loop {
            let Some(size) = self.block(source)? else {
                return Ok(None);
            };
            let offset = source.offset();
            let raw = source.data().get(..size).unwrap_or_default();
            let parse = if self.big_endian {
                parse_block_be
            } else {
                parse_block_le
            };
            // The whole block is there: even "incomplete" says that it is wrong.
            let Ok((_, block)) = parse(raw) else {
                return Err(damaged(
                    offset,
                    "the parts of a block do not fit its length",
                ));
            };
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "all other blocks are about other things than packets"
            )]
            let found = match block {
                Block::SectionHeader(section) => {
                    if section.major_version != 1 {
                        return Err(damaged(
                            offset,
                            &format!(
                                "version {}.{} of the format is not known, only 1",
                                section.major_version, section.minor_version
                            ),
                        ));
                    }
                    self.interfaces.clear();
                    None
                }
                Block::InterfaceDescription(interface) => {
                    let interface = self.describe(&interface);
                    self.interfaces.push(interface);
                    None
                }
                Block::EnhancedPacket(packet) => Some(self.enhanced(&packet, size, offset)?),
                Block::SimplePacket(packet) => Some(self.simple(&packet, size, offset)?),
                Block::Unknown(other) if self.own(other.block_type) == OLD_PACKET => {
                    Some(self.old(other.data, size, offset)?)
                }
                _ => None,
            };
            match found {
                Some(found) => return Ok(Some(found)),
                None => source.consume(size),
            }
        }
    }

    /// A number of the parser, which reads block types as little-endian.
    const fn own(&self, block_type: u32) -> u32 {
        if self.big_endian {
            block_type.swap_bytes()
        } else {
            block_type
        }
    }

    /// Reads a whole block ahead: its length, `None` at the end of the file.
    fn block<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<usize>, Fault> {
        if !read(source, SHORTEST as usize)? {
            return if source.data().is_empty() {
                Ok(None)
            } else {
                Err(truncated(source, "a block", SHORTEST as usize))
            };
        }
        if source.array(0).map(u32::from_le_bytes) == Some(SECTION) {
            self.order(source)?;
        }
        let size = source.array(4).map_or(0, |raw| self.number(raw));
        if !(SHORTEST..=LONGEST).contains(&size) || !size.is_multiple_of(4) {
            return Err(damaged(
                source.offset(),
                &format!("a block of {size} octets cannot be"),
            ));
        }
        let size = size as usize;
        if !read(source, size)? {
            return Err(truncated(source, "a block", size));
        }
        let again = source.array(size - 4).map(|raw| self.number(raw));
        if again != u32::try_from(size).ok() {
            return Err(damaged(
                source.offset(),
                "a block's length at its end differs from that at its beginning",
            ));
        }
        Ok(Some(size))
    }

    fn describe(&mut self, block: &InterfaceDescriptionBlock<'_>) -> Interface {
        let mut interface = Interface {
            number: u32::try_from(self.names.len()).unwrap_or(u32::MAX),
            link: Link(block.linktype.0.cast_unsigned()),
            snap: block.snaplen,
            resolution: DEFAULT_RESOLUTION,
            offset: 0,
        };
        let mut name = None;
        for option in &block.options {
            let value = value(option);
            match option.code {
                OptionCode::IfName => name = Some(String::from_utf8_lossy(value).into_owned()),
                OptionCode::IfTsresol => {
                    interface.resolution = value.first().copied().unwrap_or(DEFAULT_RESOLUTION);
                }
                OptionCode::IfTsoffset => {
                    interface.offset = value.first_chunk().map_or(0, |&raw| {
                        if self.big_endian {
                            i64::from_be_bytes(raw)
                        } else {
                            i64::from_le_bytes(raw)
                        }
                    });
                }
                _ => {}
            }
        }
        self.names.push(name);
        interface
    }

    fn enhanced(
        &self,
        packet: &EnhancedPacketBlock<'_>,
        size: usize,
        offset: u64,
    ) -> Result<Found, Fault> {
        let interface = self.of(packet.if_id, offset)?;
        // Behind the interface, the time, and both lengths.
        let data = captured(BLOCK_HEADER + 20, packet.caplen, size, offset)?;
        let flags = packet
            .options
            .iter()
            .find(|option| option.code.0 == FLAGS)
            .and_then(|option| value(option).first_chunk().copied());
        Ok(Found {
            size,
            data,
            time_ns: Some(interface.time_ns(packet.ts_high, packet.ts_low)),
            original: packet.origlen.max(packet.caplen),
            link: interface.link,
            interface: Some(interface.number),
            direction: match flags.map(|raw| self.number(raw) & 3) {
                Some(1) => Direction::Inbound,
                Some(2) => Direction::Outbound,
                Some(_) | None => Direction::Unknown,
            },
        })
    }

    fn simple(
        &self,
        packet: &SimplePacketBlock<'_>,
        size: usize,
        offset: u64,
    ) -> Result<Found, Fault> {
        let interface = self.of(0, offset)?;
        let snap = match interface.snap {
            0 => u32::MAX,
            snap => snap,
        };
        let caplen = packet.origlen.min(snap);
        Ok(Found {
            size,
            data: captured(BLOCK_HEADER + 4, caplen, size, offset)?,
            time_ns: None,
            original: packet.origlen,
            link: interface.link,
            interface: Some(interface.number),
            direction: Direction::Unknown,
        })
    }

    /// Body of a packet block as they were before 2009: interface (16 bits),
    /// losses (16 bits), time, both lengths.
    fn old(&self, body: &[u8], size: usize, offset: u64) -> Result<Found, Fault> {
        let word = |at: usize| {
            let raw = body.get(at..).and_then(|rest| rest.first_chunk().copied());
            raw.map_or(0, |raw| self.number(raw))
        };
        let interface = if self.big_endian {
            word(0) >> 16
        } else {
            word(0) & 0xffff
        };
        let interface = self.of(interface, offset)?;
        Ok(Found {
            size,
            data: captured(BLOCK_HEADER + OLD_PACKET_HEADER, word(12), size, offset)?,
            time_ns: Some(interface.time_ns(word(4), word(8))),
            original: word(16).max(word(12)),
            link: interface.link,
            interface: Some(interface.number),
            direction: Direction::Unknown,
        })
    }

    /// The interface of a packet.
    fn of(&self, number: u32, offset: u64) -> Result<&Interface, Fault> {
        self.interfaces.get(number as usize).ok_or_else(|| {
            damaged(
                offset,
                &format!("a packet of interface {number}, which is not described before it"),
            )
        })
    }
}

/// Code of a packet's flags, which the parser has no name for.
const FLAGS: u16 = 2;

impl Interface {
    /// Nanoseconds since 1970. Beyond what can be counted (the year 2554) it
    /// stands still.
    fn time_ns(&self, high: u32, low: u32) -> u64 {
        let units = u128::from(high) << 32 | u128::from(low);
        let exponent = u32::from(self.resolution & 0x7f);
        let ns = if self.resolution & 0x80 != 0 {
            (units * 1_000_000_000).checked_shr(exponent).unwrap_or(0)
        } else if exponent <= 9 {
            units * 10_u128.pow(9 - exponent)
        } else {
            10_u128
                .checked_pow(exponent - 9)
                .map_or(0, |divisor| units / divisor)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let ns = i128::try_from(ns)
            .unwrap_or(i128::MAX)
            .saturating_add(offset);
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// Where in its block the captured part of a packet is.
fn captured(start: usize, length: u32, size: usize, offset: u64) -> Result<Range<usize>, Fault> {
    let end = start.saturating_add(length as usize);
    if length > MAX_PACKET || end > size - 4 {
        return Err(damaged(
            offset,
            &format!("a packet of {length} octets in a block of {size}"),
        ));
    }
    Ok(start..end)
}

/// An option's value without what pads it.
fn value<'a>(option: &'a PcapNGOption<'_>) -> &'a [u8] {
    option
        .value
        .get(..usize::from(option.len))
        .unwrap_or_default()
}

fn damaged(offset: u64, what: &str) -> Fault {
    Fault::Damaged {
        offset,
        what: what.to_owned(),
    }
}
