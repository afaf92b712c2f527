//! The flood generator of the benches, and the programs at both ends of its
//! cable.
//!
//! | program | where | what |
//! |---|---|---|
//! | `flood_ipv4`, `flood_ipv6` | run by `BPF_PROG_TEST_RUN` with live frames | write a frame and send it |
//! | `sink` | XDP, receiving end | drops the flood, lets everything else in: the floor |
//! | `mirror` | XDP, receiving end | sends the flood back: the floor with a reply |
//! | `absorb`, `absorb_tc` | XDP or TC, sending end | count and drop what is sent to made-up sources |
#![no_std]
#![no_main]

mod ends;
mod generate;

use flood_ebpf::offset::{TCP_V4, TCP_V6};

/// Octets up to the end of a TCP header without options.
const HEADERS_V4: usize = TCP_V4 + 20;
const HEADERS_V6: usize = TCP_V6 + 20;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
