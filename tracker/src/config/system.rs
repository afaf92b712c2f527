//! What the configuration must know of the machine: its interfaces, and where
//! its default routes lead.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nameindex;

/// The machine as the check sees it.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Names of all interfaces of this network namespace.
    pub interfaces: Vec<String>,
    /// Names of the default routes' interfaces: IPv4's, then IPv6's if that is
    /// another one.
    pub default_routes: Vec<String>,
}

impl System {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// When the interfaces cannot be listed or a routing table not be read.
    pub fn read() -> Result<Self> {
        let interfaces = if_nameindex()
            .context("cannot list this machine's network interfaces")?
            .iter()
            .map(|interface| interface.name().to_string_lossy().into_owned())
            .collect();
        let mut default_routes = Vec::new();
        default_routes.extend(default_v4(&routes("/proc/net/route")?));
        default_routes.extend(default_v6(&routes("/proc/net/ipv6_route")?));
        default_routes.dedup();
        Ok(Self {
            interfaces,
            default_routes,
        })
    }
}

/// A routing table of the kernel. It is absent where the address family is
/// switched off.
fn routes(path: &str) -> Result<String> {
    match fs::read_to_string(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.with_context(|| format!("cannot read the routing table {path}")),
    }
}

/// `RTF_UP` and `RTF_REJECT` (include/uapi/linux/route.h).
const UP: u32 = 0x0001;
const REJECT: u32 = 0x0200;

/// Whether packets can take a route with these flags.
const fn usable(flags: u32) -> bool {
    flags & UP != 0 && flags & REJECT == 0
}

/// Interface of the default route of lowest metric in `/proc/net/route`
/// (net/ipv4/fib_trie.c, `fib_route_seq_show`): Iface Destination Gateway Flags
/// RefCnt Use Metric Mask …, addresses and flags in hexadecimal, metric not.
fn default_v4(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?;
            let destination = fields.next()?;
            let flags = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
            let metric: u32 = fields.nth(2)?.parse().ok()?;
            let mask = fields.next()?;
            let default = destination == "00000000" && mask == "00000000";
            (default && usable(flags)).then_some((metric, name))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, name)| name.to_owned())
}

/// The same of `/proc/net/ipv6_route` (net/ipv6/route.c, `rt6_info_route`):
/// destination, its prefix length, source, its length, next hop, metric, use
/// counts, flags, interface, all numbers in hexadecimal.
fn default_v6(table: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [destination, length, .., metric, _, _, flags, name] = fields[..] else {
                return None;
            };
            let metric = u32::from_str_radix(metric, 16).ok()?;
            let flags = u32::from_str_radix(flags, 16).ok()?;
            let default = length == "00" && destination.bytes().all(|digit| digit == b'0');
            // The unreachable default route of every namespace leads to `lo`.
            (default && usable(flags) && name != "lo").then_some((metric, name))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
dead0\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
";

    const V6: &str = "\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000064 00000001 00000000 00000003     eth2
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    #[test]
    fn the_default_route_of_lowest_metric_wins() {
        assert_eq!(default_v4(V4).as_deref(), Some("eth0"));
        assert_eq!(default_v6(V6).as_deref(), Some("eth2"));
    }

    #[test]
    fn no_table_and_no_default_route_are_none() {
        assert_eq!(default_v4(""), None);
        assert_eq!(default_v4(V4.lines().next().unwrap()), None);
        assert_eq!(default_v6(""), None);
        assert_eq!(default_v6(V6.lines().last().unwrap()), None);
    }
}
