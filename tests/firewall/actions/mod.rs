//! What rules do with connections, seen by real clients and servers.

mod limits;
mod observing;
mod reject;
mod sources;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracker_tests::{
    agent::Tracker,
    configuration::Configuration,
    netns::Namespace,
    sockets,
    topology::{Family, Topology},
};

use crate::policy::Policy;

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Longer than a SYN waits before it is sent again (RFC 6298 section 2.1), and too
/// short for its second time.
const UNANSWERED: Duration = Duration::from_millis(1500);

/// An agent that enforces a policy, and its files.
pub struct Enforcer<'a> {
    pub tracker: Tracker<'a>,
    _files: (Configuration, Policy),
}

impl<'a> Enforcer<'a> {
    pub fn new(topology: &'a Topology, policy: &str) -> Self {
        Self::in_mode(topology, policy, "enforce")
    }

    pub fn in_mode(topology: &'a Topology, policy: &str, mode: &str) -> Self {
        Self::with(topology, policy, mode, "")
    }

    /// With more lines of configuration.
    pub fn with(topology: &'a Topology, policy: &str, mode: &str, more: &str) -> Self {
        let policy = Policy::new(policy);
        let file = Configuration::new(&(policy.configured(mode) + more));
        // What turns frames back needs more of a native veth than its peer has.
        let tracker = file.start(topology, &["--xdp", "generic"]);
        if mode == "enforce" {
            let pinned = tracker::datapath::Pinned::open(tracker.pin_dir()).unwrap();
            crate::walls::enforces(&pinned).unwrap();
        }
        Self {
            tracker,
            _files: (file, policy),
        }
    }

    /// Packets that left with a reason.
    pub fn packets(&self, reason: &str) -> u64 {
        self.tracker.stats().unwrap().packets(reason)
    }
}

/// What comes of opening a connection, and how long that takes.
pub fn open(netns: &Namespace, from: SocketAddr, to: SocketAddr) -> (io::Result<Socket>, Duration) {
    let socket = sockets::bind(netns, from).unwrap();
    let begun = Instant::now();
    let result = socket.connect_timeout(&SockAddr::from(to), UNANSWERED);
    (result.map(|()| socket), begun.elapsed())
}

/// Whether a connection comes about.
pub fn opens(netns: &Namespace, from: SocketAddr, to: SocketAddr) -> Option<Socket> {
    open(netns, from, to).0.ok()
}

/// A raw socket that is handed the TCP segments which reach a host's transport layer.
pub struct Ear {
    socket: Socket,
    family: Family,
}

impl Ear {
    pub fn new(netns: &Namespace, family: Family) -> Self {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let make = || -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_recv_buffer_size(8 << 20)?;
            Ok(socket)
        };
        Self {
            socket: netns.run_in(make).unwrap().unwrap(),
            family,
        }
    }

    /// Segments to a port since the last call.
    pub fn heard(&self, port: u16) -> usize {
        let mut buffer = [0; 2048];
        let mut count = 0;
        loop {
            match io::Read::read(&mut &self.socket, &mut buffer) {
                Ok(_) => {
                    let header = match self.family {
                        Family::V4 => usize::from(buffer[0] & 0x0f) * 4,
                        Family::V6 => 0,
                    };
                    let to = [buffer[header + 2], buffer[header + 3]];
                    count += usize::from(u16::from_be_bytes(to) == port);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
                Err(error) => panic!("hearing segments: {error}"),
            }
        }
    }
}

/// A raw socket that is handed the ICMP errors which a host gets.
pub struct Errors {
    socket: Socket,
    family: Family,
}

impl Errors {
    pub fn new(netns: &Namespace, family: Family) -> Self {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let make = || -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Self {
            socket: netns.run_in(make).unwrap().unwrap(),
            family,
        }
    }

    /// Those that say "administratively prohibited" (RFC 1812 section 5.2.7.1, RFC 4443
    /// section 3.1) since the last call.
    pub fn heard(&self) -> u64 {
        let mut buffer = [0; 2048];
        let mut count = 0;
        loop {
            match io::Read::read(&mut &self.socket, &mut buffer) {
                Ok(_) => {
                    let (header, kind) = match self.family {
                        Family::V4 => (usize::from(buffer[0] & 0x0f) * 4, [3, 13]),
                        Family::V6 => (0, [1, 1]),
                    };
                    count += u64::from(buffer[header..header + 2] == kind);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
                Err(error) => panic!("hearing ICMP errors: {error}"),
            }
        }
    }
}
