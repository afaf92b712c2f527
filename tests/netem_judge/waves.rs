//! What the wires and the stacks do in each wave.

use std::{path::Path, time::Duration};

use anyhow::Result;
use tracker_tests::{
    netns::Namespace,
    topology::{INTERFACE, Topology},
    wire::Faults,
};

use crate::plan::Allowed;

/// Settings of a wave: of the wires, and of the stacks at both ends.
#[derive(Clone, Copy, Debug)]
pub struct Wave {
    pub name: &'static str,
    pub faults: Faults,
    /// Packets per thousand that the receiver loses behind the tracker, where
    /// that is at an end.
    pub lost_behind: u32,
    /// The client's and the server's.
    pub stacks: [Stack; 2],
}

/// Settings of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    pub scaling: bool,
    pub sack: bool,
    pub timestamps: bool,
    /// Explicit congestion notification is asked for.
    pub ecn: bool,
    /// The window may shrink (RFC 7323 section 2.4).
    pub shrinks: bool,
    /// Packets of many segments go to the interface.
    pub large: bool,
}

const ALL: Stack = Stack {
    scaling: true,
    sack: true,
    timestamps: true,
    ecn: false,
    shrinks: false,
    large: false,
};

const NONE: Stack = Stack {
    scaling: false,
    sack: false,
    timestamps: false,
    ..ALL
};

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A little of everything.
const MIXED: Faults = Faults {
    delay: milliseconds(2),
    jitter: milliseconds(8),
    reordered: 60,
    lost: 15,
    burst: 150,
    repeated: 15,
    late: 2,
};

/// Much is lost, often several in a row.
const LOSSY: Faults = Faults {
    delay: milliseconds(3),
    jitter: milliseconds(5),
    reordered: 10,
    lost: 25,
    burst: 300,
    repeated: 5,
    late: 0,
};

/// Every third frame is overtaken.
const SHUFFLED: Faults = Faults {
    delay: milliseconds(1),
    jitter: milliseconds(20),
    reordered: 330,
    lost: 3,
    burst: 0,
    repeated: 20,
    late: 0,
};

/// Copies soon and late.
const REPEATED: Faults = Faults {
    delay: milliseconds(2),
    jitter: milliseconds(30),
    reordered: 20,
    lost: 10,
    burst: 0,
    repeated: 150,
    late: 15,
};

/// Far away.
const DISTANT: Faults = Faults {
    delay: milliseconds(40),
    jitter: milliseconds(30),
    reordered: 30,
    lost: 8,
    burst: 0,
    repeated: 10,
    late: 3,
};

const fn wave(name: &'static str, faults: Faults, client: Stack, server: Stack) -> Wave {
    Wave {
        name,
        faults,
        lost_behind: 5,
        stacks: [client, server],
    }
}

/// The waves of a short run are the first [`SHORT`].
pub const WAVES: &[Wave] = &[
    wave("a little of everything", MIXED, ALL, ALL),
    wave("no options, lossy", LOSSY, NONE, NONE),
    wave(
        "only the client scales and stamps, shuffled",
        SHUFFLED,
        ALL,
        Stack { sack: true, ..NONE },
    ),
    wave(
        "large packets, copies, ECN, a window that shrinks",
        REPEATED,
        Stack {
            ecn: true,
            shrinks: true,
            large: true,
            ..ALL
        },
        Stack {
            ecn: true,
            shrinks: true,
            large: true,
            ..ALL
        },
    ),
    wave("all options, lossy", LOSSY, ALL, ALL),
    wave("all options, shuffled", SHUFFLED, ALL, ALL),
    wave("all options, copies", REPEATED, ALL, ALL),
    wave("all options, distant", DISTANT, ALL, ALL),
    wave("no options, shuffled", SHUFFLED, NONE, NONE),
    wave("no options, copies", REPEATED, NONE, NONE),
    wave(
        "no options, distant, large packets",
        DISTANT,
        Stack {
            large: true,
            ..NONE
        },
        Stack {
            large: true,
            ..NONE
        },
    ),
    wave(
        "scaling alone, a window that shrinks",
        MIXED,
        Stack {
            scaling: true,
            shrinks: true,
            ..NONE
        },
        Stack {
            scaling: true,
            shrinks: true,
            ..NONE
        },
    ),
    wave(
        "selective acknowledgements alone, lossy",
        LOSSY,
        Stack { sack: true, ..NONE },
        Stack { sack: true, ..NONE },
    ),
    wave(
        "timestamps alone, copies",
        REPEATED,
        Stack {
            timestamps: true,
            ..NONE
        },
        Stack {
            timestamps: true,
            ..NONE
        },
    ),
    wave(
        "no timestamps, shuffled",
        SHUFFLED,
        Stack {
            timestamps: false,
            ..ALL
        },
        Stack {
            timestamps: false,
            ..ALL
        },
    ),
    wave(
        "only the server scales and stamps, lossy",
        LOSSY,
        Stack { sack: true, ..NONE },
        ALL,
    ),
];

/// How many waves a short run has.
pub const SHORT: usize = 4;

impl Wave {
    /// Sets the stacks of both ends.
    pub fn prepare(&self, topology: &Topology) -> Result<()> {
        let [client, server] = &self.stacks;
        client.set(&topology.client.netns)?;
        server.set(&topology.server.netns)
    }

    /// What its connections may do.
    pub const fn allowed(&self) -> Allowed {
        let [client, server] = &self.stacks;
        Allowed {
            reuse: client.timestamps && server.timestamps,
            crossing: client.scaling == server.scaling,
        }
    }
}

impl Stack {
    fn set(self, netns: &Namespace) -> Result<()> {
        let Self {
            scaling,
            sack,
            timestamps,
            ecn,
            shrinks,
            large,
        } = self;
        for (key, value) in [
            ("tcp_window_scaling", u8::from(scaling)),
            ("tcp_sack", u8::from(sack)),
            ("tcp_timestamps", u8::from(timestamps)),
            // 2 is the default: if the other asks for it.
            ("tcp_ecn", if ecn { 1 } else { 2 }),
            // A server that remembers nothing resets honest clients when their
            // first ACK is lost or overtaken, and takes late copies for clients.
            ("tcp_syncookies", 0),
            ("tcp_shrink_window", u8::from(shrinks)),
            // As client and as server.
            ("tcp_fastopen", 3),
            ("tcp_tw_reuse", 1),
        ] {
            netns.sysctl(&format!("ipv4.{key}"), &value.to_string())?;
        }
        // Or who closes gives up when his back-off is at its longest.
        netns.sysctl("ipv4.tcp_orphan_retries", "15")?;
        // Otherwise a bad wave waits for minutes at the end of a back-off.
        // Linux 6.15 and later.
        if Path::new("/proc/sys/net/ipv4/tcp_rto_max_ms").exists() {
            netns.sysctl("ipv4.tcp_rto_max_ms", "2000")?;
        }
        let segments = if large { 65_535 } else { 1 };
        netns.ip(&format!("link set {INTERFACE} gso_max_segs {segments}\n"))
    }
}
