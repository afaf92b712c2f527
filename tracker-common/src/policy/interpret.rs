//! The policy read rule by rule: what [`super::decide`] must agree with, and what
//! tells people why a rule did not match.

use super::{Decision, Direction, Directions, Subject};
use crate::abi::Family;

/// A prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Family of its addresses; the other family's are never in it.
    pub family: Family,
    /// As it lies in a packet; IPv4 in the first word. Bits behind the prefix are 0.
    pub address: [u32; 4],
    /// Its length, 0 to 32 or 128.
    pub bits: u8,
}

impl Prefix {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, family: Family, address: &[u32; 4]) -> bool {
        let mut differing = 0;
        for word in 0..4 {
            let bits = u32::from(self.bits).saturating_sub(32 * word);
            let mask = u32::MAX.checked_shr(bits).map_or(u32::MAX, |host| !host);
            let at = word as usize;
            differing |= u32::from_be(self.address[at] ^ address[at]) & mask;
        }
        family as u8 == self.family as u8 && differing == 0
    }
}

/// A set of addresses: those of any of the first lists (all, if there is none), but
/// none of the second.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes<'a> {
    /// Where an address must lie; no list at all: anywhere.
    pub among: &'a [&'a [Prefix]],
    /// Where it must not.
    pub except: &'a [&'a [Prefix]],
}

impl Prefixes<'_> {
    /// Every address.
    pub const ANY: Self = Self {
        among: &[],
        except: &[],
    };

    /// Whether an address is in it.
    #[must_use]
    pub fn contain(&self, family: Family, address: &[u32; 4]) -> bool {
        let within = |lists: &[&[Prefix]]| {
            let mut prefixes = lists.iter().copied().flatten();
            prefixes.any(|prefix| prefix.contains(family, address))
        };
        (self.among.is_empty() || within(self.among)) && !within(self.except)
    }
}

/// A set of ports: inclusive ranges, none for every port.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'a>(pub &'a [(u16, u16)]);

impl Ports<'_> {
    /// Whether `port` is in it.
    #[must_use]
    pub fn contain(&self, port: u16) -> bool {
        let mut ranges = self.0.iter();
        self.0.is_empty() || ranges.any(|&(first, last)| first <= port && port <= last)
    }
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Which way the connection goes.
    pub directions: Directions,
    /// Indices of the interfaces where its initiator's packets may be seen; `None`:
    /// any. Those that do not exist are not listed.
    pub interfaces: Option<&'a [u32]>,
    /// Its initiator's address.
    pub from: Prefixes<'a>,
    /// Its responder's.
    pub to: Prefixes<'a>,
    /// Its initiator's port.
    pub from_ports: Ports<'a>,
    /// Its responder's.
    pub to_ports: Ports<'a>,
    /// It counts, and the next one decides.
    pub shadow: bool,
}

/// The first term that a connection does not meet, in the order in which people
/// read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It goes another way.
    Direction,
    /// It is seen on another interface.
    Interface,
    /// Its initiator has another address.
    From,
    /// Its responder has another address.
    To,
    /// Its initiator has another port.
    FromPort,
    /// Its responder has another port.
    ToPort,
}

/// Why a rule does not match; `None` if it does.
#[must_use]
pub fn mismatch(terms: &Terms<'_>, subject: &Subject) -> Option<Mismatch> {
    let family = subject.family();
    if !terms.directions.has(Direction::from_raw(subject.direction)) {
        return Some(Mismatch::Direction);
    }
    let here = |interfaces: &[u32]| interfaces.contains(&subject.ifindex);
    if !terms.interfaces.is_none_or(here) {
        return Some(Mismatch::Interface);
    }
    if !terms.from.contain(family, &subject.from) {
        return Some(Mismatch::From);
    }
    if !terms.to.contain(family, &subject.to) {
        return Some(Mismatch::To);
    }
    if !terms.from_ports.contain(subject.from_port) {
        return Some(Mismatch::FromPort);
    }
    if !terms.to_ports.contain(subject.to_port) {
        return Some(Mismatch::ToPort);
    }
    None
}

/// The rule that decides, by looking at one after the other; `None` if none does.
///
/// A rule in shadow counts if it is the first of all that match.
pub fn interpret<'a>(
    rules: impl IntoIterator<Item = Terms<'a>>,
    subject: &Subject,
) -> Option<Decision> {
    let mut shadow = None;
    for (index, terms) in (0_u32..).zip(rules) {
        if mismatch(&terms, subject).is_some() {
            continue;
        }
        if !terms.shadow {
            return Some(Decision {
                rule: index,
                shadow,
            });
        }
        shadow = shadow.or(Some(index));
    }
    None
}
