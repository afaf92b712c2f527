//! The packet path of tracker. Memory of the flow tables is taken as flows come.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod bans;
mod clock;
mod cookie;
mod count;
mod defend;
mod event;
mod evict;
mod frame;
mod gauge;
mod globals;
mod interfaces;
mod listeners;
mod maps;
mod memory;
mod policy;
mod programs;
mod reject;
mod rules;
mod scratch;
mod shares;
mod sockets;
mod table;
mod track;

/// How the flow tables take memory.
const FLOW_TABLE_FLAGS: usize = maps::NO_PREALLOC;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
