//! Where the packets of a connection pass: by the kernel's routes and the devices
//! that lie upon each other.

use std::{collections::HashMap, net::IpAddr};

use anyhow::{Context as _, Result};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::ifaddrs::getifaddrs;

use crate::netlink::Netlink;

/// Devices that lie one upon the other, at most: who builds more of them has made
/// a circle.
const DEEPEST: usize = 8;

/// The addresses of this network namespace.
///
/// # Errors
///
/// They cannot be listed.
pub fn own_addresses() -> Result<Vec<IpAddr>> {
    let list = getifaddrs().context("cannot list this machine's addresses")?;
    let addresses = list.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(addresses.collect())
}

/// The devices of this network namespace, and where addresses are reached.
pub struct Routes {
    netlink: Netlink,
    devices: Devices,
    /// Device towards each address that was asked for.
    known: HashMap<IpAddr, Option<u32>>,
}

/// Where packets are seen: a tracked interface and their VLAN identifiers there, 0
/// for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Index of the interface.
    pub ifindex: u32,
    /// Outer VLAN identifier.
    pub outer: u16,
    /// Inner VLAN identifier.
    pub inner: u16,
}

/// What lies on what, by index.
#[derive(Debug, Default)]
struct Devices(HashMap<u32, Device>);

#[derive(Clone, Copy, Debug, Default)]
struct Device {
    /// What it lies on, as a VLAN or MAC-VLAN device does.
    below: Option<u32>,
    /// Its VLAN identifier.
    vlan: Option<u16>,
    /// The bond, bridge or VRF that it belongs to.
    master: Option<u32>,
}

impl Routes {
    /// Looks at the devices.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn look() -> Result<Self> {
        let mut netlink = Netlink::open(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        let mut devices = HashMap::new();
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        netlink
            .dump(question, |message| {
                if let RouteNetlinkMessage::NewLink(link) = message {
                    devices.insert(link.header.index, device(&link.attributes));
                }
                Ok(())
            })
            .context("cannot ask the kernel for its network devices")?;
        Ok(Self {
            netlink,
            devices: Devices(devices),
            known: HashMap::new(),
        })
    }

    /// Index of the device through which an address is reached; the loopback's for
    /// one of this machine. `None` where there is no way.
    pub fn towards(&mut self, address: IpAddr) -> Option<u32> {
        if let Some(&known) = self.known.get(&address) {
            return known;
        }
        let found = self.ask(address);
        self.known.insert(address, found);
        found
    }

    fn ask(&mut self, address: IpAddr) -> Option<u32> {
        let mut question = RouteMessage::default();
        let (family, bits) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = bits;
        question
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(address)));
        // An error says that there is no way there.
        let answer = self.netlink.ask(RouteNetlinkMessage::GetRoute(question));
        let Ok(RouteNetlinkMessage::NewRoute(route)) = answer else {
            return None;
        };
        route.attributes.iter().find_map(|attribute| {
            let RouteAttribute::Oif(ifindex) = attribute else {
                return None;
            };
            Some(*ifindex)
        })
    }

    /// Where a tracked interface sees what passes the device with this index; `None`
    /// where none does.
    #[must_use]
    pub fn seen(&self, ifindex: u32, tracked: &[u32]) -> Option<Spot> {
        self.devices.seen(ifindex, tracked)
    }
}

impl Devices {
    fn seen(&self, ifindex: u32, tracked: &[u32]) -> Option<Spot> {
        let mut spot = Spot {
            ifindex,
            outer: 0,
            inner: 0,
        };
        for _ in 0..DEEPEST {
            if tracked.contains(&spot.ifindex) {
                return Some(spot);
            }
            if let Some(member) = self.member(spot.ifindex, tracked) {
                return Some(Spot {
                    ifindex: member,
                    ..spot
                });
            }
            let device = self.0.get(&spot.ifindex)?;
            if let Some(vlan) = device.vlan {
                spot.inner = spot.outer;
                spot.outer = vlan;
            }
            spot.ifindex = device.below?;
        }
        None
    }

    /// The tracked member of a bond or bridge; 0, which is none, if there are
    /// several and nobody can know which.
    fn member(&self, master: u32, tracked: &[u32]) -> Option<u32> {
        let mut members = tracked.iter().copied().filter(|index| {
            self.0
                .get(index)
                .is_some_and(|device| device.master == Some(master))
        });
        let first = members.next()?;
        Some(if members.next().is_some() { 0 } else { first })
    }
}

fn device(attributes: &[LinkAttribute]) -> Device {
    let mut device = Device::default();
    let mut link = None;
    // A veth's link is its other end, perhaps in another namespace.
    let mut lies_upon = false;
    for attribute in attributes {
        if let LinkAttribute::Link(index) = attribute {
            link = Some(*index);
        } else if let LinkAttribute::Controller(index) = attribute {
            device.master = Some(*index);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                if let LinkInfo::Kind(kind) = info {
                    lies_upon =
                        matches!(kind, InfoKind::Vlan | InfoKind::MacVlan | InfoKind::IpVlan);
                } else if let LinkInfo::Data(InfoData::Vlan(data)) = info {
                    device.vlan = data.iter().find_map(vlan_id);
                }
            }
        }
    }
    device.below = link.filter(|_| lies_upon);
    device
}

const fn vlan_id(data: &InfoVlan) -> Option<u16> {
    let InfoVlan::Id(id) = data else {
        return None;
    };
    Some(*id)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn devices(list: &[(u32, Device)]) -> Devices {
        Devices(list.iter().copied().collect())
    }

    fn spot(ifindex: u32, outer: u16, inner: u16) -> Option<Spot> {
        Some(Spot {
            ifindex,
            outer,
            inner,
        })
    }

    const PLAIN: Device = Device {
        below: None,
        vlan: None,
        master: None,
    };

    #[test]
    fn tags_are_those_of_the_devices_above() {
        let vlan = |below, id| Device {
            below: Some(below),
            vlan: Some(id),
            master: None,
        };
        let devices = devices(&[(2, PLAIN), (3, vlan(2, 10)), (4, vlan(3, 20))]);
        assert_eq!(devices.seen(2, &[2]), spot(2, 0, 0));
        assert_eq!(devices.seen(3, &[2]), spot(2, 10, 0));
        assert_eq!(devices.seen(4, &[2]), spot(2, 10, 20));
        assert_eq!(devices.seen(4, &[3]), spot(3, 20, 0));
        assert_eq!(devices.seen(4, &[7]), None);
    }

    #[test]
    fn of_a_bond_the_member_is_found_if_there_is_one() {
        let member = Device {
            master: Some(9),
            ..PLAIN
        };
        let devices = devices(&[(9, PLAIN), (2, member), (3, member)]);
        assert_eq!(devices.seen(9, &[2]), spot(2, 0, 0));
        assert_eq!(devices.seen(9, &[2, 3]), spot(0, 0, 0));
        assert_eq!(devices.seen(9, &[4]), None);
    }

    #[test]
    fn a_circle_is_left() {
        let upon = |below| Device {
            below: Some(below),
            ..PLAIN
        };
        let devices = devices(&[(2, upon(3)), (3, upon(2))]);
        assert_eq!(devices.seen(2, &[7]), None);
    }

    #[test]
    fn the_loopback_is_the_way_to_oneself() {
        let mut routes = Routes::look().unwrap();
        assert_eq!(routes.towards(Ipv4Addr::LOCALHOST.into()), Some(1));
        assert_eq!(routes.seen(1, &[1]), spot(1, 0, 0));
    }
}
