//! Flow keys: two (address, port) pairs in a fixed order, and a zone.

/// Address family of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// The family whose number is `raw`, for bytes that come out of a map.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// Which of a key's two endpoints: the key orders them, not their roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The endpoint whose (address, port) pair is the smaller one.
    Low = 0,
    /// The other one.
    High = 1,
}

impl Side {
    /// The side whose number is `raw`; any but 0 is the high one.
    #[inline(always)]
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        if raw == 0 { Self::Low } else { Self::High }
    }

    /// The peer's.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// Keeps apart flows with equal addresses and ports in different VLANs.
///
/// It is part of the key, so both directions of a flow must arrive at the same
/// zone. By default it holds both VLAN identifiers whole, the outer one in the
/// low half, so no two tag stacks share a zone; a configured zone number
/// replaces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Zone(pub u32);

impl Zone {
    /// The zone of a tag stack. An identifier of 0 is a priority tag, which
    /// does not name a VLAN (IEEE 802.1Q section 9.6).
    #[inline(always)]
    #[must_use]
    pub const fn of_vids(outer: u16, inner: u16) -> Self {
        Self(outer as u32 | (inner as u32) << 16)
    }
}

/// Key of the IPv4 flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KeyV4 {
    /// Address of the low side, as it lies in the packet.
    pub low: u32,
    /// Address of the high side.
    pub high: u32,
    /// Port of the low side in the upper half, of the high side in the lower.
    pub ports: u32,
    /// See [`Zone`].
    pub zone: u32,
}

/// Key of the IPv6 flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KeyV6 {
    /// Address of the low side, as it lies in the packet.
    pub low: [u32; 4],
    /// Address of the high side.
    pub high: [u32; 4],
    /// Port of the low side in the upper half, of the high side in the lower.
    pub ports: u32,
    /// See [`Zone`].
    pub zone: u32,
}

/// A key of either family, where one place must hold both: words 0 to 3 are a
/// [`KeyV4`] or all ten are a [`KeyV6`]; unused words are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// See the type.
    pub words: [u32; 10],
}

const _: () = assert!(size_of::<KeyV4>() == 16);
const _: () = assert!(size_of::<KeyV6>() == 40);
const _: () = assert!(size_of::<Key>() == 40);

impl Key {
    /// The key of an IPv4 packet, and the side that sent it.
    ///
    /// The *pairs* are ordered. Sorting addresses and ports apart would merge
    /// A:1↔B:2 with A:2↔B:1.
    #[inline(always)]
    #[must_use]
    pub fn v4(source: (u32, u16), destination: (u32, u16), zone: Zone) -> (Self, Side) {
        let from = if (source.0, source.1) <= (destination.0, destination.1) {
            Side::Low
        } else {
            Side::High
        };
        let (low, high) = match from {
            Side::Low => (source, destination),
            Side::High => (destination, source),
        };
        let mut words = [0; 10];
        words[0] = low.0;
        words[1] = high.0;
        words[2] = u32::from(low.1) << 16 | u32::from(high.1);
        words[3] = zone.0;
        (Self { words }, from)
    }

    /// The key of an IPv6 packet, and the side that sent it.
    #[inline(always)]
    #[must_use]
    pub fn v6(source: ([u32; 4], u16), destination: ([u32; 4], u16), zone: Zone) -> (Self, Side) {
        let from = if (source.0, source.1) <= (destination.0, destination.1) {
            Side::Low
        } else {
            Side::High
        };
        let (low, high) = match from {
            Side::Low => (source, destination),
            Side::High => (destination, source),
        };
        let ports = u32::from(low.1) << 16 | u32::from(high.1);
        let words = [
            low.0[0], low.0[1], low.0[2], low.0[3], high.0[0], high.0[1], high.0[2], high.0[3],
            ports, zone.0,
        ];
        (Self { words }, from)
    }

    /// As a key of the IPv4 table.
    #[inline(always)]
    #[must_use]
    pub const fn as_v4(&self) -> KeyV4 {
        let w = &self.words;
        KeyV4 {
            low: w[0],
            high: w[1],
            ports: w[2],
            zone: w[3],
        }
    }

    /// As a key of the IPv6 table.
    #[inline(always)]
    #[must_use]
    pub const fn as_v6(&self) -> KeyV6 {
        let w = &self.words;
        KeyV6 {
            low: [w[0], w[1], w[2], w[3]],
            high: [w[4], w[5], w[6], w[7]],
            ports: w[8],
            zone: w[9],
        }
    }

    /// A tag of the key that a flow carries in its value, never zero.
    ///
    /// The memory of a deleted element is reused at once, so a program that
    /// looked one up may hold the flow of another key. Comparing this under the
    /// lock tells. It is not secret: a collision matters only to a packet that
    /// meets its own flow's deletion within the same microsecond.
    #[inline(always)]
    #[must_use]
    pub fn tag(&self, family: Family) -> u32 {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        match family {
            Family::V4 => {
                hash = mix(hash, pair(self.words[0], self.words[1]));
                hash = mix(hash, pair(self.words[2], self.words[3]));
            }
            Family::V6 => {
                hash = mix(hash, pair(self.words[0], self.words[1]));
                hash = mix(hash, pair(self.words[2], self.words[3]));
                hash = mix(hash, pair(self.words[4], self.words[5]));
                hash = mix(hash, pair(self.words[6], self.words[7]));
                hash = mix(hash, pair(self.words[8], self.words[9]));
            }
        }
        (hash >> 32) as u32 | 1
    }
}

impl From<KeyV4> for Key {
    fn from(key: KeyV4) -> Self {
        let mut words = [0; 10];
        words[..4].copy_from_slice(&[key.low, key.high, key.ports, key.zone]);
        Self { words }
    }
}

impl From<KeyV6> for Key {
    fn from(key: KeyV6) -> Self {
        let mut words = [0; 10];
        words[..4].copy_from_slice(&key.low);
        words[4..8].copy_from_slice(&key.high);
        words[8] = key.ports;
        words[9] = key.zone;
        Self { words }
    }
}

/// Two words in one.
#[inline(always)]
const fn pair(a: u32, b: u32) -> u64 {
    (a as u64) << 32 | b as u64
}

/// One round of a multiplicative hash (the multiplier of splitmix64).
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    product ^ (product >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_make_one_key() {
        let a = (u32::from_ne_bytes([10, 0, 0, 1]), 40000);
        let b = (u32::from_ne_bytes([10, 0, 0, 2]), 80);
        let (forth, from_a) = Key::v4(a, b, Zone(7));
        let (back, from_b) = Key::v4(b, a, Zone(7));
        assert_eq!(forth, back);
        assert_ne!(from_a, from_b);
        assert_eq!(Key::from(forth.as_v4()), forth);
    }

    #[test]
    fn crossed_ports_are_another_flow() {
        let (x, _) = Key::v4((1, 10), (2, 20), Zone(0));
        let (y, _) = Key::v4((1, 20), (2, 10), Zone(0));
        assert_ne!(x, y);
        assert_ne!(x.tag(Family::V4), y.tag(Family::V4));
    }

    #[test]
    fn one_address_twice_is_ordered_by_port() {
        let (x, from) = Key::v4((1, 20), (1, 10), Zone(0));
        assert_eq!((x.words[2], from), (10 << 16 | 20, Side::High));
        let (six, _) = Key::v6(([1; 4], 5), ([1; 4], 6), Zone(1));
        assert_eq!(Key::from(six.as_v6()), six);
    }

    #[test]
    fn a_tag_is_never_zero_and_sees_every_word() {
        let base = Key { words: [3; 10] };
        for word in 0..10 {
            let mut other = base;
            other.words[word] ^= 0x100;
            assert_ne!(base.tag(Family::V6), other.tag(Family::V6), "word {word}");
            assert_ne!(other.tag(Family::V6), 0);
        }
    }

    #[test]
    fn zones_of_tag_stacks_differ() {
        assert_ne!(Zone::of_vids(10, 20), Zone::of_vids(20, 10));
        assert_eq!(Zone::of_vids(0, 0), Zone::default());
    }
}
