//! The ends of a key, and the flags of a segment, as people write them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use tracker_common::{
    abi::{Family, Key, Side},
    tcp::Flags,
};

use super::place;

/// Address and port of the key's `side`.
#[must_use]
pub fn at(key: &Key, family: Family, side: Side) -> (IpAddr, u16) {
    let high = side == Side::High;
    let (address, ports): (IpAddr, u32) = match family {
        Family::V4 => {
            let key = key.as_v4();
            let word = if high { key.high } else { key.low };
            (Ipv4Addr::from(word.to_ne_bytes()).into(), key.ports)
        }
        Family::V6 => {
            let key = key.as_v6();
            let words = if high { key.high } else { key.low };
            (place::address(family, words), key.ports)
        }
    };
    let port = if high { ports } else { ports >> 16 };
    (address, port as u16)
}

/// Reads as `SYN` or `SYN,ACK`, `none` without any.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub Flags);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let Flags(bits) = self.0;
        let mut names = (0_u8..)
            .zip(NAMES)
            .filter_map(|(bit, name)| (bits >> bit & 1 != 0).then_some(name));
        f.write_str(names.next().unwrap_or("none"))?;
        names.try_for_each(|name| write!(f, ",{name}"))
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::Zone;

    use super::*;

    #[test]
    fn both_sides_of_both_families_are_read() {
        let low = (u32::from_ne_bytes([192, 0, 2, 1]), 80);
        let high = (u32::from_ne_bytes([192, 0, 2, 1]), 40_000);
        let (key, from) = Key::v4(low, high, Zone(0));
        let of = |side| at(&key, Family::V4, side);
        assert_eq!(of(from), ("192.0.2.1".parse().unwrap(), 80));
        assert_eq!(of(from.other()), ("192.0.2.1".parse().unwrap(), 40_000));
        let words = crate::prefix::words("2001:db8::1".parse().unwrap()).1;
        let (key, from) = Key::v6((words, 1), (words, 2), Zone(0));
        assert_eq!(at(&key, Family::V6, from).1, 1);
        assert_eq!(at(&key, Family::V6, from).0.to_string(), "2001:db8::1");
    }

    #[test]
    fn flags_are_named_in_the_order_of_their_bits() {
        assert_eq!(
            Written(Flags(Flags::SYN | Flags::ACK)).to_string(),
            "SYN,ACK"
        );
        assert_eq!(Written(Flags(0)).to_string(), "none");
    }
}
