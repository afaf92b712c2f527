//! What the tracker asks of a network interface.
//!
//! Everything goes through sockets, which belong to the network namespace of
//! the thread; /sys/class/net shows the one that was current when /sys was
//! mounted.

use std::{
    fmt, fs, io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use nix::net::if_::{if_indextoname, if_nameindex, if_nametoindex};

/// Answers the features of an interface as bits (`ETHTOOL_GFLAGS` in
/// include/uapi/linux/ethtool.h).
const ETHTOOL_GFLAGS: u32 = 0x25;
/// The interface takes the VLAN tag out of a frame it receives and hands it
/// over beside the frame (`ETH_FLAG_RXVLAN`).
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
/// The VLAN devices of this thread's network namespace; absent where the kernel
/// has none.
const VLAN_DEVICES: &str = "/proc/thread-self/net/vlan/config";
/// Answers which driver an interface has (`ETHTOOL_GDRVINFO`).
const ETHTOOL_GDRVINFO: u32 = 0x03;

/// An interface, as far as the tracker cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// It is the loopback interface.
    pub loopback: bool,
    /// It takes VLAN tags out of frames before an XDP program sees them.
    ///
    /// In native mode a driver that offloads the tag leaves it in the receive
    /// descriptor; in generic mode it is in the socket buffer's metadata. A
    /// program sees the frame without it either way. veth hands over the
    /// sender's metadata in both modes, whatever its own features say (tried
    /// on 6.18).
    pub strips_tags: bool,
    /// What it is, where frames that come in may carry TCP checksums that were
    /// not computed yet: their sender is on this machine, or a guest's or
    /// hypervisor's driver vouches for them instead. `None` where frames come
    /// from a wire.
    pub partial_checksums: Option<&'static str>,
}

impl Nic {
    /// Looks `name` up.
    ///
    /// # Errors
    ///
    /// There is no such interface, or it does not carry Ethernet frames.
    pub fn find(name: &str) -> Result<Self> {
        let Some(index) = index_of(name) else {
            bail!(
                "there is no network interface `{name}`; there are: {}",
                names().join(", ")
            );
        };
        let socket = socket().context("cannot open a socket to ask about network interfaces")?;
        let hardware = hardware(&socket, name)
            .with_context(|| format!("cannot ask for the hardware type of interface `{name}`"))?;
        let loopback = hardware == libc::ARPHRD_LOOPBACK;
        if !loopback && hardware != libc::ARPHRD_ETHER {
            bail!(
                "interface `{name}` carries no Ethernet frames (its hardware type is {hardware}{}), \
                 and the tracker reads nothing else; name the interface underneath it",
                if hardware == libc::ARPHRD_NONE {
                    ", a tunnel"
                } else {
                    ""
                }
            );
        }
        let driver = driver(&socket, name).unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            index,
            loopback,
            strips_tags: !loopback && strips_tags(&socket, name, &driver),
            partial_checksums: partial_checksums(loopback, &driver),
        })
    }
}

/// An interface whose frames hide their VLAN tags from the programs, while VLAN
/// devices receive them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenTags {
    /// The interface.
    pub interface: String,
    /// The VLAN devices on it.
    pub devices: Vec<String>,
    /// It is a veth, which hands over what its other end has done.
    veth: bool,
}

impl fmt::Display for HiddenTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interface, devices) = (&self.interface, self.devices.join(", "));
        write!(
            f,
            "{interface} takes VLAN tags out of frames before the programs see them, and {devices} \
             receives those frames: a SYN would be answered without its tag"
        )?;
        if self.veth {
            f.write_str("; on a veth nothing can be done about it here")
        } else {
            write!(f, "; `ethtool -K {interface} rxvlan off` mends it")
        }
    }
}

/// What hides VLAN tags on the interface `name`; `None` where nothing does, where
/// no VLAN device would miss them, and where there is no such interface.
#[must_use]
pub fn hidden_tags(name: &str) -> Option<HiddenTags> {
    let list = fs::read_to_string(VLAN_DEVICES).ok()?;
    let devices = vlan_devices(&list, name);
    if devices.is_empty() {
        return None;
    }
    let socket = socket().ok()?;
    let driver = driver(&socket, name).unwrap_or_default();
    strips_tags(&socket, name, &driver).then(|| HiddenTags {
        interface: name.to_owned(),
        devices,
        veth: driver.name == "veth",
    })
}

/// The VLAN devices on the interface `name` by the kernel's list (net/8021q/
/// vlanproc.c, `vlan_seq_show`): `eth0.10  | 10  | eth0` behind two lines of
/// headers.
fn vlan_devices(list: &str, name: &str) -> Vec<String> {
    list.lines()
        .skip(2)
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            let device = fields.next()?;
            (fields.nth(1)? == name).then(|| device.to_owned())
        })
        .collect()
}

/// Index of the interface `name`, `None` when there is none.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Name of the interface with this index, `None` when there is none.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?;
    // nix 0.31 takes the null pointer of a failure for success and returns an
    // empty name.
    (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
}

/// Names of all interfaces of this network namespace.
#[must_use]
pub fn names() -> Vec<String> {
    if_nameindex().map_or_else(
        |_| Vec::new(),
        |list| {
            list.iter()
                .map(|interface| interface.name().to_string_lossy().into_owned())
                .collect()
        },
    )
}

/// A socket for interface requests; it sends nothing.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A request about the interface `name`.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is a C struct of integers and pointers; zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // One byte stays for the terminator.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// Hardware type of the interface (`ARPHRD_*` in include/uapi/linux/if_arp.h).
fn hardware(socket: &OwnedFd, name: &str) -> io::Result<u16> {
    let mut request = request(name)?;
    // SAFETY: SIOCGIFHWADDR fills the `ifreq` it is given.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFHWADDR as _,
            &raw mut request,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFHWADDR wrote this member.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// A structure of `SIOCETHTOOL`; it begins with its command.
trait EthtoolRequest {}

impl EthtoolRequest for EthtoolValue {}
impl EthtoolRequest for EthtoolDriver {}

/// `struct ethtool_drvinfo`, as far as it is read.
#[repr(C)]
struct EthtoolDriver {
    command: u32,
    driver: [u8; 32],
    versions: [u8; 64],
    bus: [u8; 32],
    rest: [u8; 64],
}

const _: () = assert!(size_of::<EthtoolDriver>() == 196);

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Whether the interface takes VLAN tags out of frames; one that does not answer
/// has no such feature to turn on.
fn strips_tags(socket: &OwnedFd, name: &str, driver: &Driver) -> bool {
    let mut flags = EthtoolValue {
        command: ETHTOOL_GFLAGS,
        data: 0,
    };
    let offloads = ethtool(socket, name, &mut flags).is_ok() && flags.data & ETH_FLAG_RXVLAN != 0;
    offloads || driver.name == "veth"
}

/// Drivers whose device is on a bus, but whose frames may come from a guest of
/// the same host without ever crossing a wire: virtio, Xen, Hyper-V, VMware,
/// and user-mode Linux.
const PARAVIRTUAL: [&str; 6] = [
    "virtio_net",
    "vif",
    "xen_netfront",
    "hv_netvsc",
    "vmxnet3",
    "uml-vector",
];

/// See [`Nic::partial_checksums`].
fn partial_checksums(loopback: bool, driver: &Driver) -> Option<&'static str> {
    if loopback {
        Some("the loopback")
    } else if PARAVIRTUAL.contains(&driver.name.as_str()) {
        Some("the interface of a guest")
    } else if !driver.has_device() {
        Some("a virtual interface")
    } else {
        None
    }
}

/// What an interface says of its driver; empty where it does not.
#[derive(Debug, Default)]
struct Driver {
    name: String,
    bus: String,
}

impl Driver {
    /// Whether a piece of hardware is behind it: that has an address on a bus
    /// (net/ethtool/ioctl.c fills it in for every device with a parent), where
    /// software says nothing, "N/A", or what it is.
    fn has_device(&self) -> bool {
        !matches!(self.bus.as_str(), "" | "N/A" | "tun" | "tap")
    }
}

/// Asks an interface for its driver.
fn driver(socket: &OwnedFd, name: &str) -> io::Result<Driver> {
    let mut info = EthtoolDriver {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        versions: [0; 64],
        bus: [0; 32],
        rest: [0; 64],
    };
    ethtool(socket, name, &mut info)?;
    let text = |bytes: &[u8]| {
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or(&[]);
        String::from_utf8_lossy(text).into_owned()
    };
    Ok(Driver {
        name: text(&info.driver),
        bus: text(&info.bus),
    })
}

/// Makes the ethtool request that `data` holds, and receives its answer there.
fn ethtool(socket: &OwnedFd, name: &str, data: &mut impl EthtoolRequest) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut *data).cast();
    // SAFETY: SIOCETHTOOL reads and writes the structure that `ifru_data`
    // points to, which outlives the call and is as large as its command wants.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_known_for_what_it_is() {
        let lo = Nic::find("lo").unwrap();
        assert!(lo.loopback && !lo.strips_tags);
        assert_eq!(name_of(lo.index).as_deref(), Some("lo"));
        assert_eq!(name_of(u32::MAX), None);
    }

    #[test]
    fn an_unknown_interface_is_answered_with_the_known_ones() {
        let error = Nic::find("nosuchif0").unwrap_err().to_string();
        assert!(
            error.contains("`nosuchif0`") && error.contains("lo"),
            "{error}"
        );
    }

    #[test]
    fn the_loopback_names_no_driver_or_its_own() {
        let socket = socket().unwrap();
        assert_ne!(driver(&socket, "lo").unwrap_or_default().name, "veth");
        assert!(!strips_tags(&socket, "nosuchif0", &Driver::default()));
    }

    #[test]
    fn checksums_are_whole_where_hardware_is_behind_the_interface() {
        let lo = Nic::find("lo").unwrap();
        assert_eq!(lo.partial_checksums, Some("the loopback"));
        let whole = |name: &str, bus: &str| {
            let driver = Driver {
                name: name.to_owned(),
                bus: bus.to_owned(),
            };
            partial_checksums(false, &driver).is_none()
        };
        assert!(whole("igb", "0000:01:00.0"));
        for (name, bus) in [
            ("veth", ""),
            ("tun", "tap"),
            ("bridge", "N/A"),
            ("virtio_net", "virtio0"),
            ("vmxnet3", "0000:0b:00.0"),
            ("", ""),
        ] {
            assert!(!whole(name, bus), "{name}");
        }
    }

    #[test]
    fn vlan_devices_are_found_by_what_they_sit_on() {
        let list = "VLAN Dev name\t | VLAN ID\n\
                    Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.10        | 10  | eth0\n\
                    guests         | 7  | eth1\n\
                    eth0.11        | 11  | eth0\n";
        assert_eq!(vlan_devices(list, "eth0"), ["eth0.10", "eth0.11"]);
        assert_eq!(vlan_devices(list, "eth1"), ["guests"]);
        assert!(vlan_devices(list, "eth").is_empty());
        assert!(vlan_devices("", "eth0").is_empty());
        assert_eq!(hidden_tags("lo"), None);
    }

    #[test]
    fn who_hides_tags_is_told_the_command_that_mends_it() {
        let hidden = |veth| HiddenTags {
            interface: "eth0".to_owned(),
            devices: vec!["eth0.10".to_owned()],
            veth,
        };
        assert!(
            hidden(false)
                .to_string()
                .contains("`ethtool -K eth0 rxvlan off`")
        );
        assert!(!hidden(true).to_string().contains("ethtool"));
    }

    #[test]
    fn a_name_that_the_kernel_cannot_hold_is_refused() {
        assert!(request("a-name-of-sixteen").is_err());
        assert!(request("fifteen-letters").is_ok());
    }
}
