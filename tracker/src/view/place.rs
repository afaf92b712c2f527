//! What a [`Place`] stands for, as addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use tracker_common::abi::{Family, Place, PlaceKind};

use crate::prefix;

/// An address of a packet.
#[must_use]
pub fn address(family: Family, words: [u32; 4]) -> IpAddr {
    match family {
        Family::V4 => {
            let [first, ..] = words;
            Ipv4Addr::from(first.to_ne_bytes()).into()
        }
        Family::V6 => {
            let mut octets = [0; 16];
            for (octets, word) in octets.as_chunks_mut().0.iter_mut().zip(words) {
                *octets = word.to_ne_bytes();
            }
            Ipv6Addr::from(octets).into()
        }
    }
}

/// The address and port of a listener; `None` for what is none.
#[must_use]
pub fn listener(place: &Place) -> Option<(IpAddr, u16)> {
    if place.kind != PlaceKind::Listener as u8 {
        return None;
    }
    let family = Family::from_raw(place.family)?;
    Some((address(family, place.address), place.port))
}

/// The prefix of a source, of `bits` ([`tracker_common::abi::Live::source_bits`]);
/// `None` for what is none.
#[must_use]
pub fn source(place: &Place, bits: [u8; 2]) -> Option<IpNet> {
    if place.kind != PlaceKind::Source as u8 {
        return None;
    }
    let family = Family::from_raw(place.family)?;
    let [v4, v6] = bits;
    let bits = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    Some(prefix::containing(address(family, place.address), bits))
}

/// The VLAN identifiers of a default zone: nothing for none, ` (VLAN 10)`, ` (VLAN
/// 10.20)`.
#[derive(Clone, Copy, Debug)]
pub struct Tags(pub u32);

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 & 0xffff, self.0 >> 16) {
            (0, 0) => Ok(()),
            (outer, 0) => write!(f, " (VLAN {outer})"),
            (outer, inner) => write!(f, " (VLAN {outer}.{inner})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back() {
        let words = [u32::from_ne_bytes([192, 0, 2, 7]), 0, 0, 0];
        let place = Place::listener(Family::V4, words, 80, 0);
        assert_eq!(listener(&place), Some(("192.0.2.7".parse().unwrap(), 80)));
        assert_eq!(source(&place, [24, 64]), None);
        let from = Place::source(Family::V4, words, 24, 0);
        assert_eq!(source(&from, [24, 64]).unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(listener(&from), None);
        let six = [0x2001_0db8_u32.to_be(), 0, 0, 1_u32.to_be()];
        assert_eq!(
            address(Family::V6, six),
            "2001:db8::1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn tags_are_told_where_there_are_any() {
        for (zone, text) in [
            (0, ""),
            (10, " (VLAN 10)"),
            (10 | 20 << 16, " (VLAN 10.20)"),
        ] {
            assert_eq!(Tags(zone).to_string(), text);
        }
    }
}
