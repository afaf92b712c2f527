//! Prefixes of addresses, as people write them and as the map of bans keeps them.

use std::net::IpAddr;

use ipnet::IpNet;
use tracker_common::abi::{BanKey, Family};

use crate::view::place;

/// Bits of a [`BanKey`] in front of the address.
const FAMILY_BITS: u32 = 32;

/// The prefix of `bits` that `address` lies in; more bits than it has are all of
/// them.
#[must_use]
pub fn containing(address: IpAddr, bits: u8) -> IpNet {
    IpNet::new(address, bits)
        .unwrap_or_else(|_| address.into())
        .trunc()
}

/// Reads a prefix, or an address as the prefix of all its bits.
///
/// # Errors
///
/// It is none, or has bits set behind its length: which of the two parts is wrong
/// nobody can know.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            "not a prefix: it is written 192.0.2.0/24 or 2001:db8::/64, or is a single address"
                .to_owned()
        })?,
    };
    let prefix = net.trunc();
    if prefix != net {
        return Err(format!(
            "bits are set behind the first {}: the prefix is {prefix}, the address alone {}",
            net.prefix_len(),
            net.addr()
        ));
    }
    Ok(prefix)
}

/// An address as it lies in a packet: IPv4 in the first word.
#[must_use]
pub fn words(address: IpAddr) -> (Family, [u32; 4]) {
    match address {
        IpAddr::V4(address) => {
            let word = u32::from_ne_bytes(address.octets());
            (Family::V4, [word, 0, 0, 0])
        }
        IpAddr::V6(address) => {
            let mut words = [0; 4];
            for (word, octets) in words.iter_mut().zip(address.octets().as_chunks().0) {
                *word = u32::from_ne_bytes(*octets);
            }
            (Family::V6, words)
        }
    }
}

/// The key of a prefix's ban.
#[must_use]
pub fn ban_key(prefix: &IpNet) -> BanKey {
    let (family, address) = words(prefix.addr());
    BanKey {
        prefix_len: FAMILY_BITS + u32::from(prefix.prefix_len()),
        family: [family as u8, 0, 0, 0],
        address,
        reserved: 0,
    }
}

/// The prefix of a ban; `None` for a key that is none of ours.
#[must_use]
pub fn of_ban(key: &BanKey) -> Option<IpNet> {
    let [family, ..] = key.family;
    let address = place::address(Family::from_raw(family)?, key.address);
    let bits = u8::try_from(key.prefix_len.checked_sub(FAMILY_BITS)?).ok()?;
    IpNet::new(address, bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        parse(text).map(|prefix| prefix.to_string())
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for (text, prefix) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/56", "2001:db8::/56"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(prefix));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        insta::assert_snapshot!(parsed("192.0.2.7/24").unwrap_err(), @"bits are set behind the first 24: the prefix is 192.0.2.0/24, the address alone 192.0.2.7");
        insta::assert_snapshot!(parsed("192.0.2/24").unwrap_err(), @"not a prefix: it is written 192.0.2.0/24 or 2001:db8::/64, or is a single address");
        for wrong in [
            "192.0.2.0/33",
            "::/+64",
            "::/129",
            "2001:db8::1/64",
            "192.0.2.0/",
            "",
            "/8",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_what_an_address_lies_in() {
        let of = |address: &str, bits| containing(address.parse().unwrap(), bits).to_string();
        assert_eq!(of("198.18.7.9", 24), "198.18.7.0/24");
        assert_eq!(of("198.18.7.9", 64), "198.18.7.9/32");
        assert_eq!(of("2001:db8::7:1", 64), "2001:db8::/64");
    }

    #[test]
    fn a_ban_is_kept_as_the_programs_look_it_up() {
        let key = ban_key(&parse("198.18.7.0/24").unwrap());
        assert_eq!(
            (key.prefix_len, key.family),
            (56, [Family::V4 as u8, 0, 0, 0])
        );
        assert_eq!(key.address.map(u32::to_ne_bytes)[0], [198, 18, 7, 0]);
        for text in ["198.18.7.0/24", "0.0.0.0/0", "2001:db8:0:7::/64", "::1/128"] {
            let prefix = parse(text).unwrap();
            assert_eq!(of_ban(&ban_key(&prefix)), Some(prefix), "{text}");
        }
        assert_eq!(of_ban(&BanKey::default()), None);
    }
}
