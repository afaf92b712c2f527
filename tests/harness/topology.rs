//! The cables between namespaces, and where the tracker sits.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
};

use anyhow::Result;

use crate::netns::{Namespace, run};

/// Which Internet Protocol a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As `tracker list -o json` names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where the tracker sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Host role, on the server's interface: SYNs come in by XDP.
    Server,
    /// Host role, on the client's interface: SYNs go out by TCX.
    Client,
    /// Gateway role, on both interfaces of a router between the two.
    Gateway,
}

impl Placement {
    /// The value of `--role`.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Server | Self::Client => "host",
            Self::Gateway => "gateway",
        }
    }
}

/// An end of the connections.
pub struct End {
    /// Its namespace.
    pub netns: Namespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl End {
    fn new(label: &str, v4: &str, v6: &str) -> Result<Self> {
        Ok(Self {
            netns: Namespace::new(label)?,
            v4: v4.parse()?,
            v6: v6.parse()?,
        })
    }

    /// Its address in `family` with `port`.
    #[must_use]
    pub const fn at(&self, family: Family, port: u16) -> SocketAddr {
        let address = match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        };
        SocketAddr::new(address, port)
    }

    /// Gives [`INTERFACE`] the addresses, and `neighbour`, behind a cable whose
    /// far end has the address `mac`. The default routes go by way of it when
    /// it is a router.
    fn configure(&self, neighbour: Neighbour<'_>, mac: &str) -> Result<()> {
        let Self { netns, v4, v6 } = self;
        // nodad: no second of waiting for somebody to claim the address.
        let mut batch = format!(
            "addr add {v4}/24 dev {INTERFACE}\n\
             addr add {v6}/64 dev {INTERFACE} nodad\n\
             link set {INTERFACE} up\n"
        );
        let Neighbour {
            v4: via4,
            v6: via6,
            router,
        } = neighbour;
        batch += &know(&[via4, via6], INTERFACE, mac);
        if router {
            batch += &format!("route add default via {via4}\nroute add ::/0 via {via6}\n");
        }
        netns.ip(&batch)
    }
}

/// Who is at the other end of an [`End`]'s cable.
#[derive(Clone, Copy)]
struct Neighbour<'a> {
    v4: &'a str,
    v6: &'a str,
    router: bool,
}

/// Lines for `ip -batch` that make the neighbours `addresses` known for good.
///
/// No packet then waits for ARP or neighbour discovery. One that waits for
/// longer than its retransmission time-out makes the kernel count a
/// retransmission that it does not send: the first copy is still queued.
fn know(addresses: &[&str], interface: &str, mac: &str) -> String {
    addresses
        .iter()
        .map(|address| {
            format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent\n")
        })
        .collect()
}

/// MAC address of the first end of every [`cable`].
pub const FIRST_MAC: &str = "02:00:00:00:00:0a";
/// MAC address of the second end of every [`cable`].
pub const SECOND_MAC: &str = "02:00:00:00:00:0b";

/// The octets of a MAC address written as [`FIRST_MAC`] is.
///
/// # Panics
///
/// It is not written like that.
#[must_use]
pub fn mac_of(text: &str) -> [u8; 6] {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    octets
        .and_then(|octets| octets.try_into().ok())
        .unwrap_or_else(|| panic!("{text:?} is no MAC address"))
}

/// An end of a [`cable`]: a namespace, and the interface's name there.
pub type Plug<'a> = (&'a Namespace, &'a str);

/// The interface of an [`End`].
pub const INTERFACE: &str = "eth0";
/// The router's interface towards the client.
pub const LAN: &str = "lan";
/// The router's interface towards the server.
pub const WAN: &str = "wan";

/// A client, a server and maybe a router, connected by veth pairs with an MTU
/// of 1500, with addresses from the documentation ranges (RFC 5737, RFC 3849).
///
/// ```text
/// host     client eth0 192.0.2.1 ------------------------- 192.0.2.2 eth0 server
/// gateway  client eth0 192.0.2.1 -- lan router wan -- 198.51.100.1 eth0 server
/// ```
pub struct Topology {
    /// Where the tracker sits.
    pub placement: Placement,
    /// The side that opens connections.
    pub client: End,
    /// The side that listens.
    pub server: End,
    /// Between the two, in the gateway role.
    pub router: Option<Namespace>,
}

impl Topology {
    /// Makes the namespaces and connects them.
    ///
    /// # Errors
    ///
    /// As [`Namespace::new`]; the kernel has no veth.
    pub fn new(placement: Placement) -> Result<Self> {
        Self::connected_by(placement, cable)
    }

    /// The same, connected by something else than a [`cable`]: `connect` is
    /// called for each, the end nearer to the client first, and must give both
    /// ends the names and addresses that a cable gives them.
    ///
    /// # Errors
    ///
    /// As [`Namespace::new`]; `connect` fails.
    pub fn connected_by(
        placement: Placement,
        mut connect: impl FnMut(Plug<'_>, Plug<'_>) -> Result<()>,
    ) -> Result<Self> {
        match placement {
            Placement::Server | Placement::Client => Self::host(placement, &mut connect),
            Placement::Gateway => Self::gateway(&mut connect),
        }
    }

    fn host(
        placement: Placement,
        connect: &mut dyn FnMut(Plug<'_>, Plug<'_>) -> Result<()>,
    ) -> Result<Self> {
        let client = End::new("client", "192.0.2.1", "2001:db8:1::1")?;
        let server = End::new("server", "192.0.2.2", "2001:db8:1::2")?;
        connect((&client.netns, INTERFACE), (&server.netns, INTERFACE))?;
        let host = |v4, v6| Neighbour {
            v4,
            v6,
            router: false,
        };
        client.configure(host("192.0.2.2", "2001:db8:1::2"), SECOND_MAC)?;
        server.configure(host("192.0.2.1", "2001:db8:1::1"), FIRST_MAC)?;
        Ok(Self {
            placement,
            client,
            server,
            router: None,
        })
    }

    fn gateway(connect: &mut dyn FnMut(Plug<'_>, Plug<'_>) -> Result<()>) -> Result<Self> {
        let client = End::new("client", "192.0.2.1", "2001:db8:1::1")?;
        let router = Namespace::new("router")?;
        let server = End::new("server", "198.51.100.1", "2001:db8:2::1")?;
        connect((&client.netns, INTERFACE), (&router, LAN))?;
        connect((&router, WAN), (&server.netns, INTERFACE))?;
        let configuration = format!(
            "addr add 192.0.2.254/24 dev {LAN}\n\
             addr add 2001:db8:1::fe/64 dev {LAN} nodad\n\
             addr add 198.51.100.254/24 dev {WAN}\n\
             addr add 2001:db8:2::fe/64 dev {WAN} nodad\n\
             link set {LAN} up\n\
             link set {WAN} up\n"
        );
        let neighbours = know(&["192.0.2.1", "2001:db8:1::1"], LAN, FIRST_MAC)
            + &know(&["198.51.100.1", "2001:db8:2::1"], WAN, SECOND_MAC);
        router.ip(&(configuration + &neighbours))?;
        router.sysctl("ipv4.ip_forward", "1")?;
        router.sysctl("ipv6.conf.all.forwarding", "1")?;
        let gate = |v4, v6| Neighbour {
            v4,
            v6,
            router: true,
        };
        client.configure(gate("192.0.2.254", "2001:db8:1::fe"), SECOND_MAC)?;
        server.configure(gate("198.51.100.254", "2001:db8:2::fe"), FIRST_MAC)?;
        Ok(Self {
            placement: Placement::Gateway,
            client,
            server,
            router: Some(router),
        })
    }

    /// The namespace that the tracker runs in, and its interfaces there.
    ///
    /// # Panics
    ///
    /// Never: a gateway topology has a router.
    #[must_use]
    pub fn tracked(&self) -> (&Namespace, &'static [&'static str]) {
        match (self.placement, &self.router) {
            (Placement::Server, _) => (&self.server.netns, &[INTERFACE]),
            (Placement::Client, _) => (&self.client.netns, &[INTERFACE]),
            (Placement::Gateway, Some(router)) => (router, &[LAN, WAN]),
            (Placement::Gateway, None) => unreachable!("a gateway topology has a router"),
        }
    }
}

/// A veth pair from one namespace to another, each end with its name there, and
/// with the addresses [`FIRST_MAC`] and [`SECOND_MAC`].
///
/// # Errors
///
/// `ip` fails: a name is taken, or the kernel has no veth.
pub fn cable(a: Plug<'_>, b: Plug<'_>) -> Result<()> {
    run(Command::new("ip")
        .args([
            "link",
            "add",
            "name",
            a.1,
            "address",
            FIRST_MAC,
            "mtu",
            "1500",
            "netns",
            a.0.name(),
        ])
        .args([
            "type",
            "veth",
            "peer",
            "name",
            b.1,
            "address",
            SECOND_MAC,
            "mtu",
            "1500",
            "netns",
            b.0.name(),
        ]))?;
    Ok(())
}
