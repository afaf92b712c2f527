//! The sockets of this host that accept connections, as far as their SYN-ACKs
//! were seen to leave.

use aya_ebpf::bindings::BPF_NOEXIST;
use tracker_common::{
    abi::{Listener, Place},
    defence,
    parse::Packet,
    time::Tick,
};

use crate::maps::LISTENERS;

/// Takes what a SYN-ACK of this host tells of its listener.
#[inline(never)]
pub fn learn(packet: &Packet, zone: u32, now: Tick) {
    let place = Place::listener(packet.family(), packet.source, packet.source_port, zone);
    let segment = &packet.segment;
    if let Some(listener) = LISTENERS.get_ptr_mut(place) {
        // SAFETY: a map value of integers. Two CPUs that write at once write the
        // same, or what the next SYN-ACK mends.
        let listener = unsafe { &mut *listener };
        if defence::is_news(listener, &segment.options, now) {
            listener.learn(segment.window, &segment.options, now);
        }
        return;
    }
    let mut listener = Listener::default();
    listener.learn(segment.window, &segment.options, now);
    // A full table leaves the listener to the kernel's own defence.
    let _ = LISTENERS.insert(place, listener, BPF_NOEXIST.into());
}

/// The listener that a packet from elsewhere is addressed to.
#[inline(always)]
pub fn of(packet: &Packet, zone: u32) -> Option<*mut Listener> {
    let place = Place::listener(
        packet.family(),
        packet.destination,
        packet.destination_port,
        zone,
    );
    LISTENERS.get_ptr_mut(place)
}
