//! The modes of listeners that do not follow all the others.

use std::{collections::HashMap, net::IpAddr};

use anyhow::Result;
use tracker_common::abi::{CookieMode, Family, Listener, Place, PlaceKind};

use crate::{
    config::{Defence, ListenerRule},
    datapath::Pinned,
};

/// Writes the modes into the map of listeners: of those that are known, and of
/// those that a rule names. `pressed` says whether adaptive cookies are on; with
/// `Defence` absent no listener has a mode of its own.
///
/// # Errors
///
/// The map cannot be read or written.
pub fn apply(pinned: &Pinned, defence: Option<&Defence>, pressed: bool) -> Result<()> {
    let known: HashMap<Place, Listener> = pinned.listeners()?.into_iter().collect();
    let rules = defence.map_or(&[][..], |defence| &defence.listeners);
    let mut named = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.address.is_unspecified()) {
        let place = place(rule);
        named.push(place);
        if !known.contains_key(&place)
            && let Some(defence) = defence
        {
            let listener = Listener {
                mode: mode(defence, &place, pressed),
                ..Listener::default()
            };
            pinned.set_listener(&place, &listener)?;
        }
    }
    for (place, listener) in known {
        let mode = defence.map_or(0, |defence| mode(defence, &place, pressed));
        if mode == 0 && listener.seen.0 == 0 && listener.mode != 0 && !named.contains(&place) {
            // Only a rule that is gone has put it there.
            pinned.clear_listener(&place)?;
        } else if listener.mode != mode {
            pinned.set_listener(&place, &Listener { mode, ..listener })?;
        }
    }
    Ok(())
}

/// The mode of a listener as the programs are to take it: [`CookieMode`] as a
/// number, 0 to follow [`tracker_common::abi::defence_flags::ANSWER`].
fn mode(defence: &Defence, place: &Place, pressed: bool) -> u8 {
    let rules = &defence.listeners;
    let matching = |exact: bool| {
        rules
            .iter()
            .find(|rule| rule.address.is_unspecified() != exact && matches(rule, place))
    };
    let Some(rule) = matching(true).or_else(|| matching(false)) else {
        // The programs answer for all while one listener needs it.
        let never = defence.cookies == CookieMode::Never && !rules.is_empty();
        return if never { CookieMode::Never as u8 } else { 0 };
    };
    match (rule.cookies, defence.cookies) {
        // The programs answer for all all the time.
        (CookieMode::Adaptive, CookieMode::Always) if !pressed => CookieMode::Never as u8,
        (mode, _) => mode as u8,
    }
}

/// Whether `rule` is about `place`, in whatever zone.
fn matches(rule: &ListenerRule, place: &Place) -> bool {
    let own = self::place(rule);
    let address = rule.address.is_unspecified() || own.address == place.address;
    own.family == place.family
        && place.kind == PlaceKind::Listener as u8
        && own.port == place.port
        && address
}

/// The place of a rule, without a zone.
fn place(rule: &ListenerRule) -> Place {
    let family = match rule.address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    Place::listener(family, words(rule.address), rule.port, 0)
}

/// An address as it lies in a packet.
pub fn words(address: IpAddr) -> [u32; 4] {
    let mut words = [0; 4];
    match address {
        IpAddr::V4(address) => words[0] = u32::from_ne_bytes(address.octets()),
        IpAddr::V6(address) => {
            let octets = address.octets();
            for (word, octets) in words.iter_mut().zip(octets.as_chunks().0) {
                *word = u32::from_ne_bytes(*octets);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{super::posture::tests::enforcing, *};

    fn rule(address: &str, port: u16, cookies: CookieMode) -> ListenerRule {
        ListenerRule {
            address: address.parse().unwrap(),
            port,
            cookies,
        }
    }

    fn at(address: &str, port: u16, zone: u32) -> Place {
        Place {
            zone,
            ..place(&rule(address, port, CookieMode::Never))
        }
    }

    fn defence(cookies: CookieMode, listeners: &[ListenerRule]) -> Defence {
        Defence {
            cookies,
            listeners: listeners.to_vec(),
            ..enforcing().defence
        }
    }

    #[test]
    fn the_closest_rule_holds_in_every_zone() {
        let defence = defence(
            CookieMode::Adaptive,
            &[
                rule("0.0.0.0", 80, CookieMode::Never),
                rule("192.0.2.1", 80, CookieMode::Always),
                rule("2001:db8::1", 443, CookieMode::Always),
            ],
        );
        let mode = |place| mode(&defence, &place, false);
        for zone in [0, 7] {
            assert_eq!(mode(at("192.0.2.1", 80, zone)), CookieMode::Always as u8);
            assert_eq!(mode(at("192.0.2.2", 80, zone)), CookieMode::Never as u8);
            assert_eq!(mode(at("192.0.2.1", 81, zone)), 0);
            assert_eq!(mode(at("2001:db8::1", 443, zone)), CookieMode::Always as u8);
            assert_eq!(mode(at("2001:db8::2", 443, zone)), 0);
            assert_eq!(mode(at("2001:db8::1", 80, zone)), 0);
        }
    }

    #[test]
    fn what_all_others_do_is_not_what_a_rule_does() {
        let adaptive = [rule("192.0.2.1", 80, CookieMode::Adaptive)];
        let never = defence(CookieMode::Never, &adaptive);
        assert_eq!(
            mode(&never, &at("192.0.2.1", 80, 0), true),
            CookieMode::Adaptive as u8
        );
        assert_eq!(
            mode(&never, &at("192.0.2.1", 81, 0), true),
            CookieMode::Never as u8
        );
        let always = defence(CookieMode::Always, &adaptive);
        for (pressed, expected) in [(false, CookieMode::Never), (true, CookieMode::Adaptive)] {
            assert_eq!(
                mode(&always, &at("192.0.2.1", 80, 0), pressed),
                expected as u8
            );
        }
        assert_eq!(mode(&always, &at("192.0.2.1", 81, 0), false), 0);
    }
}
