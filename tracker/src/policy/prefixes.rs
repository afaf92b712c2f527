//! Prefixes as people and as the brain have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tracker_common::{abi::Family, policy::Prefix};

/// Prefixes that [`written`] names.
const NAMED: usize = 3;

/// As the brain has it.
#[must_use]
pub fn to_brain(net: &IpNet) -> Prefix {
    let (family, address) = match net.network() {
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
    };
    Prefix {
        family,
        address,
        bits: net.prefix_len(),
    }
}

/// As people have it. More bits than an address has are all of them.
#[must_use]
pub fn from_brain(prefix: &Prefix) -> IpNet {
    let [first, second, third, fourth] = prefix.address.map(u32::from_be);
    match prefix.family {
        Family::V4 => {
            let address = Ipv4Addr::from(first);
            IpNet::V4(Ipv4Net::new(address, prefix.bits).unwrap_or_else(|_| address.into()))
        }
        Family::V6 => {
            let (high, low) = (
                u64::from(first) << 32 | u64::from(second),
                u64::from(third) << 32 | u64::from(fourth),
            );
            let address = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
            IpNet::V6(Ipv6Net::new(address, prefix.bits).unwrap_or_else(|_| address.into()))
        }
    }
}

/// Its first and last address as numbers.
#[must_use]
pub(super) fn range(prefix: &Prefix) -> (u128, u128) {
    match from_brain(prefix) {
        IpNet::V4(net) => (
            u32::from(net.network()).into(),
            u32::from(net.broadcast()).into(),
        ),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

/// The same addresses with as few prefixes as can be, in order, IPv4 first.
pub(super) fn canonical(prefixes: Vec<IpNet>) -> Vec<IpNet> {
    if prefixes.len() < 2 {
        return prefixes;
    }
    IpNet::aggregate(&prefixes)
}

/// The prefixes of a list for people: the first few of them.
pub(super) fn written(prefixes: &[IpNet]) -> String {
    let named: Vec<String> = prefixes.iter().take(NAMED).map(IpNet::to_string).collect();
    let named = named.join(", ");
    match prefixes.len().saturating_sub(NAMED) {
        0 => named,
        left => format!("{named} and {left} more"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_lies_in_another_or_makes_up_one_is_joined() {
        for (from, to) in [
            (vec!["10.1.0.0/16", "10.0.0.0/8"], vec!["10.0.0.0/8"]),
            (vec!["0.0.0.0/1", "128.0.0.0/1"], vec!["0.0.0.0/0"]),
            (
                vec!["::/1", "8000::/1", "10.0.0.1/32"],
                vec!["10.0.0.1/32", "::/0"],
            ),
            (
                vec!["10.0.0.1/32", "10.0.0.2/32"],
                vec!["10.0.0.1/32", "10.0.0.2/32"],
            ),
            (
                vec!["255.255.255.255/32", "255.255.255.254/32"],
                vec!["255.255.255.254/31"],
            ),
            (vec!["::/0", "::1/128"], vec!["::/0"]),
        ] {
            assert_eq!(canonical(nets(&from)), nets(&to));
        }
    }

    #[test]
    fn a_list_is_told_by_its_first_prefixes() {
        let four = nets(&["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "::/0"]);
        assert_eq!(written(&four[..1]), "10.0.0.0/8");
        assert_eq!(
            written(&four),
            "10.0.0.0/8, 11.0.0.0/8, 12.0.0.0/8 and 1 more"
        );
    }

    proptest! {
        #[test]
        fn a_prefix_comes_back_from_the_brain(v6: bool, bits in 0_u8..=128, address: u128) {
            let net: IpNet = if v6 {
                Ipv6Net::new(address.into(), bits).unwrap().into()
            } else {
                Ipv4Net::new((address as u32).into(), bits.min(32)).unwrap().into()
            };
            let net = net.trunc();
            let prefix = to_brain(&net);
            prop_assert_eq!(from_brain(&prefix), net);
            let family = if v6 { Family::V6 } else { Family::V4 };
            prop_assert!(prefix.contains(family, &prefix.address));
        }
    }
}
