//! Which flow a connection is: its zone, and where its packets pass.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::Result;
use tracker_common::{
    abi::{Family, Key, Origin, Path, Role, Seed, Side, Zone, ZoneKey, interface_flags},
    tcp::State,
};

use crate::{
    datapath::Pinned,
    prefix,
    routes::{Routes, Spot},
    sockets::Connected,
};

/// Index of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;

/// What the programs know of interfaces, and the kernel of routes.
pub struct Places {
    routes: Routes,
    role: Role,
    /// Interfaces that carry the hooks.
    tracked: Vec<u32>,
    /// Those that hide VLAN tags.
    stripping: Vec<u32>,
    zones: HashMap<(u32, u16, u16), u32>,
}

impl Places {
    /// Looks at both.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn look(pinned: &Pinned, role: Role) -> Result<Self> {
        let interfaces = pinned.interfaces()?;
        let stripping = interfaces
            .iter()
            .filter(|(_, interface)| interface.flags & interface_flags::STRIPS_TAGS != 0);
        let zones = pinned.zones()?.into_iter().map(|(key, zone)| {
            let ZoneKey {
                ifindex,
                outer,
                inner,
            } = key;
            ((ifindex, outer, inner), zone)
        });
        Ok(Self {
            routes: Routes::look()?,
            role,
            tracked: interfaces.iter().map(|&(index, _)| index).collect(),
            stripping: stripping.map(|&(index, _)| index).collect(),
            zones: zones.collect(),
        })
    }

    /// Where a socket's packets are seen; `None` where no tracked interface sees them.
    pub fn of_socket(&mut self, socket: &Connected) -> Option<Spot> {
        match socket.ifindex {
            0 => self.spot(socket.remote),
            // Link-local addresses have no route of their own.
            bound => self.routes.seen(bound, &self.tracked),
        }
    }

    /// The seed of a connection of this host from initiator to responder, of which
    /// the one with index `own` is here, and whose packets are seen at `spot`; `None`
    /// where its ends are of two families.
    pub fn local(
        &self,
        ends: [SocketAddr; 2],
        states: [State; 2],
        own: usize,
        spot: Spot,
        guessed: bool,
    ) -> Option<Seed> {
        let mut paths = [self.path(spot); 2];
        if spot.ifindex != LOOPBACK {
            paths[own] = paths[own].leaving();
        }
        let seed = seed(ends, self.zone(spot), states, paths, Origin::Socket)?;
        Some(Seed {
            guessed: guessed.into(),
            ..seed
        })
    }

    /// The seed of a connection through this gateway; `None` where no tracked
    /// interface sees it.
    pub fn forwarded(
        &mut self,
        ends: [SocketAddr; 2],
        states: [State; 2],
        origin: Origin,
    ) -> Option<Seed> {
        let spots = ends.map(|end| self.spot(end));
        let zone = self.zone(spots.iter().copied().flatten().next()?);
        let paths = spots.map(|spot| spot.map_or(Path::default(), |spot| self.path(spot)));
        seed(ends, zone, states, paths, origin)
    }

    /// Where packets from and to an address are seen.
    fn spot(&mut self, end: SocketAddr) -> Option<Spot> {
        let device = self.routes.towards(end.ip())?;
        self.routes.seen(device, &self.tracked)
    }

    fn path(&self, spot: Spot) -> Path {
        let Spot {
            ifindex,
            outer,
            inner,
        } = self.visible(spot);
        Path::new(ifindex, outer, inner)
    }

    /// As the programs see it.
    fn visible(&self, spot: Spot) -> Spot {
        if self.stripping.contains(&spot.ifindex) {
            Spot {
                outer: 0,
                inner: 0,
                ..spot
            }
        } else {
            spot
        }
    }

    /// As `zone_of` of the programs has it.
    fn zone(&self, spot: Spot) -> Zone {
        let Spot {
            ifindex,
            outer,
            inner,
        } = self.visible(spot);
        if let Some(&zone) = self.zones.get(&(ifindex, outer, inner)) {
            return Zone(zone);
        }
        match self.role {
            Role::Gateway => Zone::default(),
            Role::Host => Zone::of_vids(outer, inner),
        }
    }
}

/// `None` where the ends are of two families.
fn seed(
    ends: [SocketAddr; 2],
    zone: Zone,
    states: [State; 2],
    paths: [Path; 2],
    origin: Origin,
) -> Option<Seed> {
    let [(from_family, from), (to_family, to)] = ends.map(|end| prefix::words(end.ip()));
    if from_family != to_family {
        return None;
    }
    let [from_port, to_port] = ends.map(|end| end.port());
    let (key, side) = match from_family {
        Family::V4 => Key::v4((from[0], from_port), (to[0], to_port), zone),
        Family::V6 => Key::v6((from, from_port), (to, to_port), zone),
    };
    Some(Seed {
        key,
        family: from_family as u8,
        origin: origin as u8,
        initiator_high: (side == Side::High).into(),
        states: states.map(|state| state as u8),
        paths,
        ..Seed::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(role: Role, zones: &[((u32, u16, u16), u32)]) -> Places {
        Places {
            routes: Routes::look().unwrap(),
            role,
            tracked: vec![LOOPBACK],
            stripping: vec![7],
            zones: zones.iter().copied().collect(),
        }
    }

    #[test]
    fn a_seed_is_the_flow_that_the_programs_would_find() {
        let ends = ["192.0.2.9:4000", "192.0.2.1:80"].map(|end| end.parse().unwrap());
        let made = seed(
            ends,
            Zone(0),
            [State::Established; 2],
            [Path::default(); 2],
            Origin::Socket,
        )
        .unwrap();
        let source = (u32::from_ne_bytes([192, 0, 2, 9]), 4000);
        let destination = (u32::from_ne_bytes([192, 0, 2, 1]), 80);
        let (key, side) = Key::v4(source, destination, Zone(0));
        assert_eq!(made.key, key);
        assert_eq!(made.initiator_high == 1, side == Side::High);
        let mixed = ["192.0.2.9:4000", "[::1]:80"].map(|end| end.parse().unwrap());
        let states = [State::Established; 2];
        assert!(seed(mixed, Zone(0), states, [Path::default(); 2], Origin::Socket).is_none());
    }

    #[test]
    fn a_connection_to_oneself_passes_the_loopback_both_ways() {
        let ends = ["127.0.0.1:4000", "127.0.0.1:80"].map(|end| end.parse().unwrap());
        let mut places = places(Role::Host, &[]);
        let socket = Connected {
            local: ends[0],
            remote: ends[1],
            state: State::Established,
            ifindex: 0,
        };
        let spot = places.of_socket(&socket).unwrap();
        let states = [State::Established; 2];
        let seed = places.local(ends, states, 0, spot, true).unwrap();
        assert_eq!(seed.paths, [Path::LOOPBACK; 2]);
        assert_eq!(seed.guessed, 1);
    }

    #[test]
    fn zones_are_those_of_the_programs() {
        let spot = |ifindex, outer| Spot {
            ifindex,
            outer,
            inner: 0,
        };
        let host = places(Role::Host, &[((3, 10, 0), 77)]);
        assert_eq!(host.zone(spot(3, 10)), Zone(77));
        assert_eq!(host.zone(spot(3, 11)), Zone::of_vids(11, 0));
        assert_eq!(host.zone(spot(7, 11)), Zone::default());
        assert_eq!(
            places(Role::Gateway, &[]).zone(spot(3, 11)),
            Zone::default()
        );
    }
}
