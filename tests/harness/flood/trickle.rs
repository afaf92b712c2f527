//! A slow flood: some thousand SYNs a second by a raw socket, for tests in which
//! others use the machine, too.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::{
    netns::Namespace,
    spoof::{Segment, Spoofer},
    topology::{FIRST_MAC, Family, INTERFACE, Topology},
};

/// Has answers to made-up hosts go to the client's end, which ignores them.
///
/// # Errors
///
/// `ip` fails.
pub fn lead_back(server: &Namespace) -> Result<()> {
    server.ip(&format!(
        "neigh replace 192.0.2.250 lladdr {FIRST_MAC} dev {INTERFACE} nud permanent\n\
         route add 100.64.0.0/10 via 192.0.2.250 dev {INTERFACE}\n"
    ))
}

/// Sends SYNs to a port of the server until `stop`, from another address in
/// 100.64.0.0/10 each: up to two thousand a second.
///
/// # Errors
///
/// As [`Spoofer::new`] and [`Spoofer::send`].
pub fn trickle(topology: &Topology, port: u16, stop: &AtomicBool) -> Result<()> {
    let spoofer = Spoofer::new(topology)?;
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            number = number.wrapping_add(1);
            let mixed = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
            let address = [100, 64 | mixed[0] & 63, mixed[1], mixed[2]];
            spoofer.send(&Segment {
                from: SocketAddr::from((address, 1024 + (number % 60_000) as u16)),
                to: topology.server.at(Family::V4, port),
                seq: number,
                ack: None,
                syn: true,
                rst: false,
                payload: b"",
                damaged: false,
            })?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
