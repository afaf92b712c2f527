//! What the host's own sockets tell.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::{bpf_sk_lookup_tcp, bpf_sk_release},
};
use tracker_common::{abi::Family, parse::Packet};

/// State of a listening socket (include/net/tcp_states.h, `TCP_LISTEN`).
const LISTENING: u32 = 10;

/// Look up in the namespace of the packet's device.
const THIS_NAMESPACE: u64 = -1_i64 as u64;

/// A socket that listens, held until it is dropped.
pub struct Listening(*mut bpf_sock);

impl Listening {
    /// The socket of this host that listens at the packet's destination
    /// (`inbound`) or source.
    ///
    /// `context` is the program's context. Port 0 stands for the peer's port: no
    /// connection has it, so the look-up passes over established sockets.
    #[inline(always)]
    pub fn find(context: *mut c_void, packet: &Packet, inbound: bool) -> Option<Self> {
        let (local, local_port, remote) = if inbound {
            (&packet.destination, packet.destination_port, &packet.source)
        } else {
            (&packet.source, packet.source_port, &packet.destination)
        };
        // SAFETY: the union is made of integers; all zeros is a value of it.
        let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
        let (four, six) = (size_of_v4(), size_of_v6());
        let size = match packet.family() {
            Family::V4 => {
                // SAFETY: plain integers; this arm is the one the size names.
                let four_tuple = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
                four_tuple.saddr = remote[0];
                four_tuple.daddr = local[0];
                four_tuple.dport = local_port.to_be();
                four
            }
            Family::V6 => {
                // SAFETY: as above.
                let six_tuple = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
                six_tuple.saddr = *remote;
                six_tuple.daddr = *local;
                six_tuple.dport = local_port.to_be();
                six
            }
        };
        // SAFETY: the tuple lives across the call and `size` is that of its arm.
        let socket: *mut bpf_sock =
            unsafe { bpf_sk_lookup_tcp(context, &raw mut tuple, size, THIS_NAMESPACE, 0) };
        if socket.is_null() {
            return None;
        }
        let socket = Self(socket);
        // SAFETY: a non-null result is a socket, referenced until released.
        (unsafe { (*socket.0).state } == LISTENING).then_some(socket)
    }

    /// The socket.
    pub fn get(&self) -> *mut c_void {
        self.0.cast()
    }
}

impl Drop for Listening {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: it is held since it was found.
        unsafe { bpf_sk_release(self.0.cast()) };
    }
}

/// Whether a socket of this host listens at the packet's destination
/// (`inbound`) or source.
#[inline(always)]
pub fn listens(context: *mut c_void, packet: &Packet, inbound: bool) -> bool {
    Listening::find(context, packet, inbound).is_some()
}

/// The kernel tells the family by the size (net/core/filter.c, `__bpf_skc_lookup`).
const fn size_of_v4() -> u32 {
    12
}

const fn size_of_v6() -> u32 {
    size_of::<bpf_sock_tuple>() as u32
}
