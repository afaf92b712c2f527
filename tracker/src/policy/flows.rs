//! Flows that are there, as the policy would be asked about them.

use std::{collections::HashSet, net::IpAddr};

use tracker_common::{
    abi::{INITIATOR, RESPONDER},
    policy::{Direction, Subject},
};

use crate::{prefix, view::Row};

/// Where this machine stands.
#[derive(Clone, Debug, Default)]
pub struct Standpoint {
    /// It is a gateway: what it neither sends nor takes goes through it.
    pub gateway: bool,
    /// Its addresses.
    pub local: HashSet<IpAddr>,
}

impl Standpoint {
    /// What the policy is asked about the flow of `row`.
    #[must_use]
    pub fn subject(&self, row: &Row<'_>) -> Subject {
        let [from, to] = [INITIATOR, RESPONDER].map(|end| row.at(end));
        let paths = [INITIATOR, RESPONDER].map(|end| row.path(end));
        let direction = if paths[0].leaves() {
            Direction::Out
        } else if paths[1].leaves() {
            Direction::In
        } else {
            self.direction(from.0, to.0)
        };
        // Before the initiator's packets were seen, its answers' way is the best
        // guess.
        let ifindex = match paths[0].ifindex() {
            0 => paths[1].ifindex(),
            ifindex => ifindex,
        };
        subject(from, to, direction, ifindex)
    }

    /// Which way a connection goes that nobody has seen yet.
    #[must_use]
    pub fn direction(&self, from: IpAddr, to: IpAddr) -> Direction {
        if self.local.contains(&to) {
            Direction::In
        } else if self.local.contains(&from) {
            Direction::Out
        } else if self.gateway {
            Direction::Forward
        } else {
            // An end host takes all that comes in.
            Direction::In
        }
    }
}

/// A connection from an address and port to another.
#[must_use]
pub fn subject(
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    direction: Direction,
    ifindex: u32,
) -> Subject {
    let (family, source) = prefix::words(from.0);
    let (_, destination) = prefix::words(to.0);
    Subject {
        from: source,
        to: destination,
        from_port: from.1,
        to_port: to.1,
        ifindex,
        family: family as u8,
        direction: direction as u8,
        ..Subject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_follows_from_who_is_here() {
        let addresses = ["192.0.2.1", "198.51.100.7", "203.0.113.9"];
        let [own, one, other] = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let mut here = Standpoint {
            gateway: true,
            local: HashSet::from([own]),
        };
        assert_eq!(here.direction(one, own), Direction::In);
        assert_eq!(here.direction(own, one), Direction::Out);
        assert_eq!(here.direction(one, other), Direction::Forward);
        here.gateway = false;
        assert_eq!(here.direction(one, other), Direction::In);
    }
}
