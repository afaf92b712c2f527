//! A cable with a queue for the flood and one for everybody else.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    netns::run,
    topology::{FIRST_MAC, Plug, SECOND_MAC},
};

/// As [`crate::topology::cable`], with two queues each way: what the first core
/// sends goes through the first, what others send through the second. As on a
/// NIC that spreads connections over queues and queues over cores; with a
/// single queue, whoever sends first decides which core receives, and a flood
/// would fill the queue while another core is late.
///
/// # Errors
///
/// `ip` fails: a name is taken, or the kernel has no veth or no XPS.
pub fn two_queues(a: Plug<'_>, b: Plug<'_>) -> Result<()> {
    const QUEUES: [&str; 4] = ["numtxqueues", "2", "numrxqueues", "2"];
    let end = |plug: Plug<'_>, mac| {
        let words = ["name", plug.1, "address", mac, "mtu", "1500"];
        let words = words.into_iter().chain(QUEUES);
        words
            .chain(["netns", plug.0.name()])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    run(Command::new("ip")
        .args(["link", "add"])
        .args(end(a, FIRST_MAC))
        .args(["type", "veth", "peer"])
        .args(end(b, SECOND_MAC)))?;
    for (netns, interface) in [a, b] {
        // Cores, as hexadecimal bits. `ip netns exec` mounts the namespace's
        // own /sys, where its interfaces are.
        let script = format!(
            "queues=/sys/class/net/{interface}/queues\n\
             others=$(( ((1 << $(nproc --all)) - 1) & ~1 ))\n\
             echo 1 > $queues/tx-0/xps_cpus\n\
             printf '%x' $others > $queues/tx-1/xps_cpus\n"
        );
        run(Command::new("ip").args(["netns", "exec", netns.name(), "sh", "-ec", &script]))
            .with_context(|| format!("giving {interface} a queue for each side of the machine"))?;
    }
    Ok(())
}
