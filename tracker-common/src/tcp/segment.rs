//! One TCP segment in host order, and which flags may stand together.

use crate::seq::Seq;

/// The control bits of a TCP header (RFC 9293 section 3.1, RFC 3168), as they
/// lie in its fourteenth octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;

    /// Bits that decide what a segment is; PSH and the ECN bits go with any
    /// (AccECN sets them freely).
    const KIND: u8 = Self::FIN | Self::SYN | Self::RST | Self::ACK | Self::URG;

    /// Whether all of `bits` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether an endpoint may send this combination. Ten may: each of SYN and
    /// FIN,ACK and ACK and RST,ACK with or without URG; SYN,ACK; RST. That is
    /// the set that nf_conntrack accepts (`tcp_valid_flags`), and RST,ACK,URG,
    /// which Linux sends when it aborts with urgent data unacknowledged.
    ///
    /// Data, FIN and URG need an ACK once a connection is synchronized
    /// (RFC 9293 section 3.10.7.4, fifth: "if the ACK bit is off, drop"), and
    /// no endpoint combines SYN with FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn legal(self) -> bool {
        const SYN_URG: u8 = Flags::SYN | Flags::URG;
        const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
        const RST_ACK: u8 = Flags::RST | Flags::ACK;
        const RST_ACK_URG: u8 = Flags::RST | Flags::ACK | Flags::URG;
        const FIN_ACK: u8 = Flags::FIN | Flags::ACK;
        const FIN_ACK_URG: u8 = Flags::FIN | Flags::ACK | Flags::URG;
        const ACK_URG: u8 = Flags::ACK | Flags::URG;
        matches!(
            self.0 & Self::KIND,
            Self::SYN
                | SYN_URG
                | SYN_ACK
                | Self::RST
                | RST_ACK
                | RST_ACK_URG
                | FIN_ACK
                | FIN_ACK_URG
                | Self::ACK
                | ACK_URG
        )
    }
}

/// TCP options that the tracker uses (RFC 9293 section 3.2, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which of the following were present: [`Options::MSS`] and so on.
    pub present: u8,
    /// Shift count as sent, not yet clamped to 14; 0 where there was none.
    pub scale: u8,
    /// Maximum segment size.
    pub mss: u16,
    /// TSval; 0 where there was none.
    pub ts_value: u32,
    /// TSecr.
    pub ts_echo: u32,
    /// Highest right edge of the SACK blocks.
    pub sack_high: Seq,
}

impl Options {
    /// A maximum segment size.
    pub const MSS: u8 = 1 << 0;
    /// A window scale.
    pub const SCALE: u8 = 1 << 1;
    /// SACK-permitted.
    pub const SACK_PERMITTED: u8 = 1 << 2;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 1 << 3;
    /// SACK blocks.
    pub const SACK: u8 = 1 << 4;
    /// An option of impossible length ended the parsing.
    pub const BROKEN: u8 = 1 << 5;

    /// Whether all of `options` were present.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, options: u8) -> bool {
        self.present & options == options
    }
}

/// A TCP segment as far as the tracker reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of its first octet (or of its SYN).
    pub seq: Seq,
    /// Acknowledgement number; means something only with the ACK flag.
    pub ack: Seq,
    /// Octets of data; of a first fragment, those in this fragment.
    pub payload: u32,
    /// Window as sent, unscaled.
    pub window: u16,
    /// Control bits.
    pub flags: Flags,
    /// 1 when more of the segment follows in other fragments, so that
    /// `payload` is only a lower bound; else 0.
    pub fragmented: u8,
    /// Options.
    pub options: Options,
}

impl Segment {
    /// SEG.LEN: octets of sequence space that it covers, SYN and FIN included
    /// (RFC 9293 section 3.4).
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.payload
            .wrapping_add(self.flags.has(Flags::SYN) as u32)
            .wrapping_add(self.flags.has(Flags::FIN) as u32)
    }

    /// One past the last octet that it covers.
    #[inline(always)]
    #[must_use]
    pub const fn end(&self) -> Seq {
        self.seq.plus(self.length())
    }

    /// The same, of which the verifier has forgotten what it was compared with;
    /// `veil` is [`super::Context::veil`].
    #[inline(always)]
    #[must_use]
    pub(super) const fn veiled(&self, veil: u8) -> Self {
        let mut segment = *self;
        segment.flags.0 = segment.flags.0.wrapping_add(veil);
        segment.payload = segment.payload.wrapping_add(veil as u32);
        segment.window = segment.window.wrapping_add(veil as u16);
        segment.fragmented = segment.fragmented.wrapping_add(veil);
        segment.options.present = segment.options.present.wrapping_add(veil);
        segment
    }

    /// Whether it is a SYN that acknowledges nothing.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn(&self) -> bool {
        self.flags.0 & (Flags::SYN | Flags::ACK) == Flags::SYN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_combinations_are_legal() {
        let legal = (0..=Flags::KIND).filter(|b| b & !Flags::KIND == 0 && Flags(*b).legal());
        assert_eq!(legal.count(), 10);
        for named in [
            0,
            Flags::SYN | Flags::FIN,
            Flags::SYN | Flags::RST,
            Flags::FIN,
            Flags::URG,
        ] {
            assert!(!Flags(named).legal(), "{named:#04x}");
        }
        // Xmas: FIN, PSH and URG.
        assert!(!Flags(0x29).legal());
    }

    #[test]
    fn push_and_ecn_bits_go_with_anything() {
        for bits in 0..=u8::MAX {
            let plain = bits & !(Flags::PSH | Flags::ECE | Flags::CWR);
            assert_eq!(Flags(bits).legal(), Flags(plain).legal());
        }
    }

    #[test]
    fn syn_and_fin_take_a_sequence_number_each() {
        let mut segment = Segment {
            seq: Seq(u32::MAX),
            payload: 3,
            ..Segment::default()
        };
        assert_eq!(segment.end(), Seq(2));
        segment.flags = Flags(Flags::FIN | Flags::ACK);
        assert_eq!((segment.length(), segment.end()), (4, Seq(3)));
    }
}
