//! Segments as the endpoints of the model write and read them. Nothing here is
//! shared with the tracker, numbers on the circle included.

use std::fmt;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

/// Marks of the model, which no endpoint reads.
pub mod mark {
    /// Somebody who is neither end wrote it.
    pub const FORGED: u8 = 1 << 0;
    /// The tracker refused it.
    pub const REFUSED: u8 = 1 << 1;
    /// It answers a forged one: numbers in it may be the forger's choice.
    pub const DRAWN: u8 = 1 << 2;
}

/// One segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK; 0 without ACK.
    pub ack: u32,
    /// [`FIN`], [`SYN`], [`RST`], [`ACK`].
    pub flags: u8,
    /// Octets of text.
    pub text: u8,
    /// SEG.WND.
    pub window: u8,
    /// See [`mark`].
    pub mark: u8,
}

impl Segment {
    /// Whether all of `flags` are set.
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// SEG.LEN: "the number of octets occupied by the data in the segment
    /// (counting SYN and FIN)" (section 3.4).
    pub const fn length(&self) -> u32 {
        self.text as u32 + self.has(SYN) as u32 + self.has(FIN) as u32
    }

    /// Whether it carries all of `mark`.
    pub const fn is_marked(&self, mark: u8) -> bool {
        self.mark & mark == mark
    }

    /// A number for what would be seen of it on a wire; never 0. Numbers in use
    /// differ in few bits, which the factors keep apart.
    pub const fn print(&self) -> u32 {
        let numbers = self.seq.wrapping_mul(0x9e37_79b1) ^ self.ack.wrapping_mul(0x85eb_ca6b);
        let rest = u32::from_le_bytes([self.flags, self.text, self.window, 0]);
        let print = (numbers ^ rest.wrapping_mul(0xc2b2_ae35)).rotate_left(15);
        if print == 0 { 1 } else { print }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_marked(mark::FORGED) {
            write!(out, "forged ")?;
        }
        let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
        let names: Vec<&str> = names
            .iter()
            .filter(|(bit, _)| self.has(*bit))
            .map(|(_, name)| *name)
            .collect();
        write!(out, "<{} seq={:#x}", names.join(","), self.seq)?;
        if self.has(ACK) {
            write!(out, " ack={:#x}", self.ack)?;
        }
        write!(out, " len={} wnd={}>", self.text, self.window)
    }
}

/// `a` < `b` on the circle: "comparisons … modulo 2^32" (section 3.4).
pub const fn lt(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// `a` =< `b` on the circle.
pub const fn le(a: u32, b: u32) -> bool {
    !lt(b, a)
}
