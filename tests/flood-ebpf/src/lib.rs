//! What the generator's programs and their user share: the layout of their
//! maps, and where the fields of a frame are.
#![no_std]

/// Octets that a frame may have.
pub const ROOM: usize = 96;

/// What the generator sends. The only element of the map `PLAN`.
///
/// Every frame is a copy of `template` with a random source address, source
/// port and sequence number. No checksum is computed: the fields that it covers
/// keep their sum, because one of them makes up for what the others came to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plan {
    /// A frame whose checksums are right, filled up with zeros.
    pub template: [u64; ROOM / 8],
    /// Sum of the two halves of the source address and the identification
    /// (IPv4 only), in one's complement and as a little-endian or big-endian
    /// machine reads them.
    pub ip_sum: u32,
    /// The same of all 16-bit words that the TCP checksum covers and that
    /// change: source address, source port, sequence number, flags.
    pub tcp_sum: u32,
    /// Flags are random, not those of the template.
    pub random_flags: u32,
    /// Nanoseconds from one frame to the next; 0 for full speed.
    pub gap_ns: u32,
}

/// What the generator keeps from frame to frame. The only element of the map
/// `STATE`, and written by nobody else while it runs.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct State {
    /// State of a xorshift generator; never zero.
    pub random: u64,
    /// Frames sent since the state was written.
    pub frames: u64,
    /// When a paced generator sends the next frame, by the kernel's monotonic
    /// clock, ns.
    pub next_ns: u64,
}

/// Frames that a program at an end of the cable counts, by their index in the
/// per-CPU map `COUNTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Slot {
    /// The sink dropped it, or the mirror sent it back.
    Arrived = 0,
    /// A SYN-ACK for a made-up source.
    SynAck = 1,
    /// An RST for a made-up source.
    Reset = 2,
    /// Anything else for a made-up source.
    Other = 3,
    /// Neither from nor for a made-up source: let through.
    Passed = 4,
}

/// Number of [`Slot`]s.
pub const SLOTS: u32 = 5;

/// Made-up IPv4 sources are 16.0.0.0/4: the upper half of their first octet.
pub const SOURCES_IPV4: u8 = 0x10;
/// Made-up IPv6 sources are in 2001:db8:f000::/48: their fifth octet, which no
/// address of the harness shares.
pub const SOURCES_IPV6: u8 = 0xf0;

/// Offsets in a frame without VLAN tags, IP options and extension headers.
pub mod offset {
    /// EtherType.
    pub const ETHERTYPE: usize = 12;
    /// First octet of the IP header.
    pub const IP: usize = 14;
    /// Identification of IPv4.
    pub const ID: usize = IP + 4;
    /// Source address of IPv4.
    pub const SOURCE_V4: usize = IP + 12;
    /// Destination address of IPv4.
    pub const DESTINATION_V4: usize = IP + 16;
    /// TCP header behind IPv4.
    pub const TCP_V4: usize = IP + 20;
    /// Source address of IPv6.
    pub const SOURCE_V6: usize = IP + 8;
    /// Destination address of IPv6.
    pub const DESTINATION_V6: usize = IP + 24;
    /// TCP header behind IPv6.
    pub const TCP_V6: usize = IP + 40;
    /// Sequence number, from the TCP header.
    pub const SEQ: usize = 4;
    /// Data offset and flags, from the TCP header.
    pub const FLAGS: usize = 12;
}

/// Folds a sum of 16-bit words in one's complement.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// The word that makes `others` and itself sum up to `total`, in one's
/// complement. Neither needs to be folded, and both are below 2^20.
#[must_use]
#[inline(always)]
pub const fn make_up(total: u32, others: u32) -> u16 {
    fold(total + (0xffff - fold(others))) as u16
}
