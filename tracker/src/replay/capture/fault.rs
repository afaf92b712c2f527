//! What can be wrong with a capture.

use std::io;

use super::Link;

/// Why a capture cannot be read, or not any further. The name of the file is
/// for whoever opened it to add.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system does not give the octets.
    #[error("cannot read on at octet {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("the file is empty: a capture has at least a header of 24 octets")]
    Empty,
    /// It is compressed.
    #[error(
        "at octet 0: this is compressed by {tool}, not a capture; unpack it first: \
         `{tool} -dc FILE | tracker replay -`"
    )]
    Compressed {
        /// The tool that unpacks it.
        tool: &'static str,
    },
    /// It is of no format that is read here.
    #[error(
        "at octet 0: this is no capture: it begins with {magic:02x?}, and pcap begins with \
         a1b2c3d4 or a1b23c4d in either order, pcapng with 0a0d0d0a"
    )]
    Foreign {
        /// How it begins.
        magic: Vec<u8>,
    },
    /// It ends too early.
    #[error(
        "at octet {offset}: the file is cut off: {what} of {wanted} octets begins here, of which \
         it holds {found}"
    )]
    Truncated {
        /// Where what is cut off begins.
        offset: u64,
        /// What is cut off.
        what: &'static str,
        /// Its length.
        wanted: u64,
        /// What is there of it.
        found: u64,
    },
    /// Something that cannot be.
    #[error("at octet {offset}: {what}: the file is damaged or no capture")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// All packets are of a link type that is not known.
    #[error(
        "at octet {offset}: the packets are of link type {}, which is not read here; these are: {}",
        link.0,
        Link::KNOWN
    )]
    LinkType {
        /// Where the link type stands.
        offset: u64,
        /// The link type.
        link: Link,
    },
}
