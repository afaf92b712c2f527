//! The addresses that no SYN is answered to: this host's own, and the broadcasts of
//! its networks. A SYN that claims to come from there was made up.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    sys::socket::SockaddrStorage,
};
use tracker_common::defence;

use super::super::listeners::words;
use crate::datapath::Pinned;

/// Keeps the programs' marks of them.
#[derive(Debug, Default)]
pub struct Unanswered {
    /// As they were written last; `None` before that.
    marks: Option<Vec<u64>>,
}

impl Unanswered {
    /// Looks which addresses this host has, and tells the programs if they are not
    /// those of the last look.
    ///
    /// # Errors
    ///
    /// The addresses cannot be listed, or the map cannot be written.
    pub fn look(&mut self, pinned: &Pinned) -> Result<()> {
        let list = getifaddrs().context("cannot list this machine's addresses")?;
        let mut addresses: Vec<IpAddr> = list.flat_map(|interface| of(&interface)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let marks = marks(&addresses);
        if self.marks.as_ref() == Some(&marks) {
            return Ok(());
        }
        if marks.len() > defence::MARKS {
            tracing::info!(
                "this host has {} addresses and broadcasts; SYNs that claim to come from {} of them \
                 may be answered with a cookie",
                marks.len(),
                marks.len() - defence::MARKS
            );
        }
        pinned.set_unanswered(&marks)?;
        self.marks = Some(marks);
        Ok(())
    }
}

/// The addresses of an interface's entry; none of the loopback's, which no packet
/// from elsewhere has anyway.
fn of(interface: &InterfaceAddress) -> Vec<IpAddr> {
    let Some(own) = interface.address.as_ref().and_then(ip) else {
        return Vec::new();
    };
    if own.is_loopback() {
        return Vec::new();
    }
    let mut addresses = vec![own];
    if let (IpAddr::V4(own), Some(IpAddr::V4(mask))) =
        (own, interface.netmask.as_ref().and_then(ip))
    {
        addresses.extend(broadcasts(own, mask).map(IpAddr::V4));
    }
    addresses
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// The first and the last address of a network: the broadcast, and the old one (RFC
/// 1122 section 3.3.6). A network of one or two addresses has none (RFC 3021).
fn broadcasts(own: Ipv4Addr, mask: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    let (own, mask) = (own.to_bits(), mask.to_bits());
    let both = [own & mask, own | !mask].map(Ipv4Addr::from_bits);
    both.into_iter().filter(move |_| !mask > 1)
}

/// IPv4 first: there are broadcasts.
fn marks(addresses: &[IpAddr]) -> Vec<u64> {
    let marks = addresses
        .iter()
        .map(|&address| defence::mark(words(address)));
    marks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_two_addresses_that_are_nobodys() {
        let of = |own: [u8; 4], mask: [u8; 4]| {
            let found = broadcasts(own.into(), mask.into());
            found.map(|address| address.octets()).collect::<Vec<_>>()
        };
        assert_eq!(
            of([192, 0, 2, 77], [255, 255, 255, 0]),
            [[192, 0, 2, 0], [192, 0, 2, 255]]
        );
        assert_eq!(
            of([10, 1, 2, 5], [255, 255, 255, 252]),
            [[10, 1, 2, 4], [10, 1, 2, 7]]
        );
        assert!(of([10, 1, 2, 5], [255, 255, 255, 254]).is_empty());
        assert!(of([10, 1, 2, 5], [255; 4]).is_empty());
    }

    #[test]
    fn marks_are_those_of_packets() {
        let word = u32::from_ne_bytes([192, 0, 2, 77]);
        let six: IpAddr = "2001:db8::7".parse().unwrap();
        let words = [0x2001_0db8_u32, 0, 0, 7].map(u32::to_be);
        assert_eq!(
            marks(&[Ipv4Addr::new(192, 0, 2, 77).into(), six]),
            [defence::mark([word, 0, 0, 0]), defence::mark(words)]
        );
    }
}
