//! What the defence against floods keeps beside the flows.

use super::{Family, Key};
use crate::{tcp::Options, time::Tick};

/// What a [`Place`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PlaceKind {
    /// An address and port where connections are accepted.
    Listener = 1,
    /// A prefix that connections come from; its port is 0.
    Source = 2,
    /// The same under a rule of the policy; its port is the rule's number.
    RuleSource = 3,
}

/// An address, with a port or without, in a zone: key of the maps `LISTENERS`,
/// `SHARES` and `PROVED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Place {
    /// As it lies in the packet; IPv4 in the first word, the others 0.
    pub address: [u32; 4],
    /// See [`super::Zone`].
    pub zone: u32,
    /// Port, 0 for a source.
    pub port: u16,
    /// [`Family`] as a number.
    pub family: u8,
    /// [`PlaceKind`] as a number.
    pub kind: u8,
}

const _: () = assert!(size_of::<Place>() == 24);

impl Place {
    /// Where connections to `address` and `port` are accepted.
    #[inline(always)]
    #[must_use]
    pub const fn listener(family: Family, address: [u32; 4], port: u16, zone: u32) -> Self {
        Self {
            address,
            zone,
            port,
            family: family as u8,
            kind: PlaceKind::Listener as u8,
        }
    }

    /// The prefix of `bits` that `address` lies in.
    #[inline(always)]
    #[must_use]
    pub const fn source(family: Family, address: [u32; 4], bits: u8, zone: u32) -> Self {
        Self {
            address: [
                address[0] & mask(bits, 0),
                address[1] & mask(bits, 1),
                address[2] & mask(bits, 2),
                address[3] & mask(bits, 3),
            ],
            zone,
            port: 0,
            family: family as u8,
            kind: PlaceKind::Source as u8,
        }
    }

    /// The prefix of a flow's initiator under the rule of that number, by
    /// [`super::RuleState::source_masks`].
    #[inline(always)]
    #[must_use]
    pub const fn under_rule(
        key: &Key,
        family: Family,
        initiator_high: bool,
        masks: &[u32; 5],
        rule: u16,
    ) -> Self {
        let w = &key.words;
        let high = initiator_high as usize;
        let (address, zone) = match family {
            Family::V4 => ([w[high] & masks[0], 0, 0, 0], w[3]),
            Family::V6 => {
                let at = high * 4;
                let address = [
                    w[at] & masks[1],
                    w[at + 1] & masks[2],
                    w[at + 2] & masks[3],
                    w[at + 3] & masks[4],
                ];
                (address, w[9])
            }
        };
        Self {
            address,
            zone,
            port: rule,
            family: family as u8,
            kind: PlaceKind::RuleSource as u8,
        }
    }

    /// Both that a flow with this key takes a share of: its listener, and the
    /// prefix of its initiator.
    #[inline(always)]
    #[must_use]
    pub const fn of_flow(
        key: &Key,
        family: Family,
        initiator_high: bool,
        bits: [u8; 2],
    ) -> (Self, Self) {
        let w = &key.words;
        let (low, high, ports, zone) = match family {
            Family::V4 => ([w[0], 0, 0, 0], [w[1], 0, 0, 0], w[2], w[3]),
            Family::V6 => (
                [w[0], w[1], w[2], w[3]],
                [w[4], w[5], w[6], w[7]],
                w[8],
                w[9],
            ),
        };
        let [bits_v4, bits_v6] = bits;
        let bits = match family {
            Family::V4 => bits_v4,
            Family::V6 => bits_v6,
        };
        let (from, to, port) = if initiator_high {
            (high, low, (ports >> 16) as u16)
        } else {
            (low, high, ports as u16)
        };
        (
            Self::listener(family, to, port, zone),
            Self::source(family, from, bits, zone),
        )
    }
}

/// The part of a prefix of `bits` that lies in the word `index`, as the word lies
/// in the packet.
#[inline(always)]
pub(super) const fn mask(bits: u8, index: u32) -> u32 {
    let bits = (bits as u32).saturating_sub(32 * index);
    let host = if bits >= 32 {
        u32::MAX
    } else {
        // Shifted in 64 bits, since a shift by 32 is none in 32.
        !((u32::MAX as u64 >> bits) as u32)
    };
    host.to_be()
}

/// What is known of a socket of this host that accepts connections, in the map
/// `LISTENERS` by [`PlaceKind::Listener`]. Learnt from its own SYN-ACKs, so that
/// a cookie promises what the socket will keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Listener {
    /// SYNs answered with a cookie.
    pub sent: u64,
    /// Acknowledgements of a cookie that were right.
    pub valid: u64,
    /// Acknowledgements without a flow that were of no cookie.
    pub invalid: u64,
    /// Acknowledgements of a cookie that came when the kernel took it no more, as
    /// far as that could be told (`defence::is_expired`); not among the invalid.
    pub expired: u64,
    /// Of the SYNs answered, those that were sent again, as far as that could be
    /// told (`defence::count_answer`).
    pub retransmitted: u64,
    /// When a SYN-ACK of its own was last seen to leave this host.
    pub seen: Tick,
    /// When a SYN was last let through to have that confirmed.
    pub asked: Tick,
    /// When the socket was last told that cookies are out.
    pub stamped: Tick,
    /// Window of its SYN-ACKs.
    pub window: u16,
    /// Maximum segment size that they announce; 0 if none does.
    pub mss: u16,
    /// Window scale that they announce.
    pub scale: u8,
    /// [`Options::present`] of all of them together.
    pub options: u8,
    /// [`CookieMode`] as a number, 0 for that of all listeners.
    pub mode: u8,
    /// Zero.
    pub reserved: u8,
    /// Zero.
    pub reserved_too: u32,
}

const _: () = assert!(size_of::<Listener>() == 64);

impl Listener {
    /// Answers for it no more, until another SYN-ACK of its own is seen.
    #[inline(always)]
    pub const fn forget(&mut self) {
        self.window = 0;
    }

    /// Takes what a SYN-ACK says that left at `now`.
    #[inline(always)]
    pub const fn learn(&mut self, window: u16, options: &Options, now: Tick) {
        self.seen = now;
        self.window = window;
        if options.has(Options::MSS) {
            self.mss = options.mss;
        }
        if options.has(Options::SCALE) {
            self.scale = options.scale;
        }
        self.options |= options.present;
    }
}

/// When SYNs are answered with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CookieMode {
    /// Never.
    Never = 1,
    /// While half-open flows are many.
    Adaptive = 2,
    /// Always.
    Always = 3,
}

impl CookieMode {
    /// The word that users see and write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Adaptive => "adaptive",
            Self::Always => "always",
        }
    }

    /// The mode whose number is `raw`.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Never),
            2 => Some(Self::Adaptive),
            3 => Some(Self::Always),
            _ => None,
        }
    }
}

/// What becomes of a SYN that finds a half-open limit reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AtLimit {
    /// It is answered with a cookie where that can be; else it passes untracked.
    Cookie = 0,
    /// It is refused.
    Drop = 1,
    /// The oldest half-open flow makes room for it. At the other limits, as
    /// `Cookie`.
    EvictOldest = 2,
}

impl AtLimit {
    /// The word that users see and write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Drop => "drop",
            Self::EvictOldest => "evict-oldest",
        }
    }
}

/// Bits of [`super::Live::defence`].
pub mod defence_flags {
    /// SYNs to learnt listeners are answered with a cookie.
    pub const ANSWER: u8 = 1 << 0;
    /// Cookies may be out: an ACK of no flow may be of one.
    pub const CHECK: u8 = 1 << 1;
    /// Timestamps may be sent, and with them every other option: the kernel adds
    /// no offset to them (`net.ipv4.tcp_timestamps = 2`).
    pub const OPTIONS: u8 = 1 << 2;
    /// Listeners are learnt from their SYN-ACKs.
    pub const LEARN: u8 = 1 << 3;
    /// A SYN at a limit may be answered with a cookie: the kernel takes those
    /// (`net.ipv4.tcp_syncookies` is not 0).
    pub const AT_LIMIT: u8 = 1 << 4;
    /// The table of bans has entries.
    pub const BANS: u8 = 1 << 5;
    /// A new flow that finds its table full is refused.
    pub const FULL_DROPS: u8 = 1 << 6;
    /// ECN may be agreed to (`net.ipv4.tcp_ecn` is not 0).
    pub const ECN: u8 = 1 << 7;
}

/// Key of the map `BANS`, a trie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BanKey {
    /// 32, for `family`, plus the bits of `address` that count; host order
    /// (`BPF_MAP_TYPE_LPM_TRIE`).
    pub prefix_len: u32,
    /// [`Family`] as a number, then zeros: the first 32 bits.
    pub family: [u8; 4],
    /// As it lies in the packet; IPv4 in the first word.
    pub address: [u32; 4],
    /// Zero: the value behind the key is aligned to eight bytes.
    pub reserved: u32,
}

const _: () = assert!(size_of::<BanKey>() == 28);

/// A ban.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ban {
    /// When it ends, coarse `CLOCK_MONOTONIC` ns; 0 for never.
    pub until_ns: u64,
    /// Packets that it refused.
    pub refused: u64,
    /// [`BanKey::prefix_len`] of its key: whoever finds it asks for a shorter one
    /// where it has ended.
    pub prefix_len: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Ban>() == 24);

/// Octets of [`BanKey::family`], in bits: what no prefix is shorter than.
const FAMILY_BITS: u32 = 32;

impl Ban {
    /// Whether it has ended, at `now_ns` of the coarse clock.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(&self, now_ns: u64) -> bool {
        self.until_ns != 0 && self.until_ns <= now_ns
    }

    /// [`BanKey::prefix_len`] to look for further bans around it with; `None` if it
    /// was of all addresses.
    #[inline(always)]
    #[must_use]
    pub const fn around(&self) -> Option<u32> {
        if self.prefix_len > FAMILY_BITS {
            Some(self.prefix_len - 1)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Zone;

    #[test]
    fn prefixes_are_cut_at_any_bit() {
        let address = [u32::from_ne_bytes([10, 1, 255, 7]), 0, 0, 0];
        let cut = |bits| Place::source(Family::V4, address, bits, 0).address[0].to_ne_bytes();
        assert_eq!(cut(32), [10, 1, 255, 7]);
        assert_eq!(cut(24), [10, 1, 255, 0]);
        assert_eq!(cut(17), [10, 1, 128, 0]);
        assert_eq!(cut(0), [0; 4]);
        let six = [u32::MAX; 4];
        let place = Place::source(Family::V6, six, 56, 9);
        assert_eq!(place.address[0], u32::MAX);
        assert_eq!(place.address[1].to_ne_bytes(), [255, 255, 255, 0]);
        assert_eq!((place.address[2], place.address[3], place.zone), (0, 0, 9));
        assert_eq!(Place::source(Family::V6, six, 128, 0).address, six);
    }

    #[test]
    fn a_rule_counts_its_sources_apart() {
        let client = (u32::from_ne_bytes([10, 0, 0, 9]), 40_000);
        for server in [[10, 0, 0, 1], [10, 0, 0, 200]] {
            let server = (u32::from_ne_bytes(server), 443);
            let (key, from) = Key::v4(client, server, Zone(3));
            let high = from as u8 != 0;
            let (_, mut source) = Place::of_flow(&key, Family::V4, high, [24, 64]);
            source.port = 7;
            source.kind = PlaceKind::RuleSource as u8;
            let masks = crate::abi::RuleState::masks([24, 64]);
            let place = Place::under_rule(&key, Family::V4, high, &masks, 7);
            assert_eq!(place, source);
        }
        let six = (([1, 2, 3, 4], 5), ([6, 7, 8, 9], 10));
        for (a, b) in [six, (six.1, six.0)] {
            let (key, from) = Key::v6(a, b, Zone(1));
            let masks = crate::abi::RuleState::masks([0, 128]);
            let place = Place::under_rule(&key, Family::V6, from as u8 != 0, &masks, 1);
            assert_eq!((place.address, place.zone), (a.0, 1));
        }
    }

    #[test]
    fn a_flow_has_the_same_places_from_either_side() {
        let client = (u32::from_ne_bytes([10, 0, 0, 9]), 40_000);
        for server in [[10, 0, 0, 1], [10, 0, 0, 200]] {
            let server = (u32::from_ne_bytes(server), 443);
            let (key, from) = Key::v4(client, server, Zone(3));
            let high = from as u8 != 0;
            let (listener, source) = Place::of_flow(&key, Family::V4, high, [24, 64]);
            assert_eq!(
                listener,
                Place::listener(Family::V4, [server.0, 0, 0, 0], 443, 3)
            );
            assert_eq!(source.address[0].to_ne_bytes(), [10, 0, 0, 0]);
        }
    }
}
