//! At both ends of the cable: takes the flood, or its answers, and counts.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    macros::{classifier, map, xdp},
    maps::PerCpuArray,
    programs::{TcContext, XdpContext},
};
use flood_ebpf::{
    SLOTS, SOURCES_IPV4, SOURCES_IPV6, Slot,
    offset::{
        DESTINATION_V4, DESTINATION_V6, ETHERTYPE, FLAGS, SOURCE_V4, SOURCE_V6, TCP_V4, TCP_V6,
    },
};

use crate::{HEADERS_V4, HEADERS_V6};

#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(SLOTS, 0);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Drops what made-up sources send.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    if is_flood(ctx.data(), ctx.data_end()) {
        count(Slot::Arrived);
        xdp_action::XDP_DROP
    } else {
        count(Slot::Passed);
        xdp_action::XDP_PASS
    }
}

/// Sends back what made-up sources send.
#[xdp]
pub fn mirror(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if !is_flood(start, end) {
        count(Slot::Passed);
        return xdp_action::XDP_PASS;
    }
    count(Slot::Arrived);
    if start + HEADERS_V6 <= end {
        let frame = start as *mut u8;
        // SAFETY: the headers of the longer family are inside the frame.
        unsafe {
            swap::<u16>(frame, 0, 6);
            swap::<u32>(frame, 2, 8);
            if ethertype(frame) == ETHERTYPE_IPV4 {
                swap::<u32>(frame, SOURCE_V4, DESTINATION_V4);
            } else {
                swap::<u64>(frame, SOURCE_V6, DESTINATION_V6);
                swap::<u64>(frame, SOURCE_V6 + 8, DESTINATION_V6 + 8);
            }
        }
    }
    xdp_action::XDP_TX
}

/// # Safety
///
/// Both offsets leave room for a `T` inside the frame.
#[inline(always)]
unsafe fn swap<T>(frame: *mut u8, a: usize, b: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (frame.add(a).cast::<T>(), frame.add(b).cast::<T>());
        let kept = a.read_unaligned();
        a.write_unaligned(b.read_unaligned());
        b.write_unaligned(kept);
    }
}

/// Drops what is sent to made-up sources.
#[xdp]
pub fn absorb(ctx: XdpContext) -> u32 {
    match answer(ctx.data(), ctx.data_end()) {
        Some(slot) => {
            count(slot);
            xdp_action::XDP_DROP
        }
        None => {
            count(Slot::Passed);
            xdp_action::XDP_PASS
        }
    }
}

/// The same for packets that were handed over whole, without a ring.
#[classifier]
pub fn absorb_tc(ctx: TcContext) -> i32 {
    match answer(ctx.data(), ctx.data_end()) {
        Some(slot) => {
            count(slot);
            TC_ACT_SHOT
        }
        None => {
            count(Slot::Passed);
            TC_ACT_OK
        }
    }
}

/// Whether a made-up source sends it.
#[inline(always)]
fn is_flood(start: usize, end: usize) -> bool {
    if start + HEADERS_V4 > end {
        return false;
    }
    let frame = start as *const u8;
    // SAFETY: both offsets are inside the headers.
    unsafe {
        match ethertype(frame) {
            ETHERTYPE_IPV4 => *frame.add(SOURCE_V4) & 0xf0 == SOURCES_IPV4,
            ETHERTYPE_IPV6 => *frame.add(SOURCE_V6 + 4) == SOURCES_IPV6,
            _ => false,
        }
    }
}

/// What it is, if it is sent to a made-up source.
#[inline(always)]
fn answer(start: usize, end: usize) -> Option<Slot> {
    if start + HEADERS_V4 > end {
        return None;
    }
    let frame = start as *const u8;
    // SAFETY: IPv4 and its TCP header are inside the frame, and so is what is
    // read of IPv6 before its own check.
    let flags = unsafe {
        match ethertype(frame) {
            ETHERTYPE_IPV4 if *frame.add(DESTINATION_V4) & 0xf0 == SOURCES_IPV4 => {
                *frame.add(TCP_V4 + FLAGS + 1)
            }
            ETHERTYPE_IPV6 if *frame.add(DESTINATION_V6 + 4) == SOURCES_IPV6 => {
                if start + HEADERS_V6 > end {
                    return Some(Slot::Other);
                }
                *frame.add(TCP_V6 + FLAGS + 1)
            }
            _ => return None,
        }
    };
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    Some(if flags & (SYN | ACK) == SYN | ACK {
        Slot::SynAck
    } else if flags & RST != 0 {
        Slot::Reset
    } else {
        Slot::Other
    })
}

/// # Safety
///
/// The frame has an Ethernet header.
#[inline(always)]
unsafe fn ethertype(frame: *const u8) -> u16 {
    // SAFETY: the caller's.
    u16::from_be(unsafe { frame.add(ETHERTYPE).cast::<u16>().read_unaligned() })
}

#[inline(always)]
fn count(slot: Slot) {
    if let Some(counter) = COUNTS.get_ptr_mut(slot as u32) {
        // SAFETY: the element is this CPU's own and lives as long as the
        // program.
        unsafe { *counter += 1 };
    }
}
