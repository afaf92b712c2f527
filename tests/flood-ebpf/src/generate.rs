//! Writes frames and sends them.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_ktime_get_ns,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use flood_ebpf::{
    Plan, ROOM, SOURCES_IPV4, State, make_up,
    offset::{FLAGS, ID, SEQ, SOURCE_V4, SOURCE_V6, TCP_V4, TCP_V6},
};

use crate::{HEADERS_V4, HEADERS_V6};

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

#[map]
static STATE: Array<State> = Array::with_max_entries(1, 0);

/// Sends a frame of IPv4.
#[xdp]
pub fn flood_ipv4(ctx: XdpContext) -> u32 {
    generate(&ctx, write_ipv4)
}

/// Sends a frame of IPv6.
#[xdp]
pub fn flood_ipv6(ctx: XdpContext) -> u32 {
    generate(&ctx, write_ipv6)
}

/// How far a paced generator may be behind and still catch up: 200 us.
const PATIENCE_NS: u64 = 200_000;

/// Writes a frame with `change` and counts it. One that cannot be written is
/// dropped and not counted.
#[inline(always)]
fn generate(ctx: &XdpContext, change: fn(*mut u8, usize, &Plan, u64) -> bool) -> u32 {
    let (Some(plan), Some(state)) = (PLAN.get(0), STATE.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: array elements live as long as the program and are aligned to
    // eight bytes; nobody else writes this one while the generator runs.
    let state = unsafe { &mut *state };
    if plan.gap_ns != 0 {
        // SAFETY: the helper has no arguments and may be called anywhere.
        let now = unsafe { bpf_ktime_get_ns() };
        if now < state.next_ns {
            return xdp_action::XDP_DROP;
        }
        // A receiver that was late gets what it missed, but not much of it.
        let due = if state.next_ns + PATIENCE_NS < now {
            now
        } else {
            state.next_ns
        };
        state.next_ns = due + plan.gap_ns as u64;
    }
    let mut random = state.random;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    state.random = random;
    let (start, end) = (ctx.data(), ctx.data_end());
    copy(start, end, plan);
    if !change(start as *mut u8, end, plan, random) {
        return xdp_action::XDP_ABORTED;
    }
    state.frames += 1;
    xdp_action::XDP_TX
}

/// Writes as much of the template as the frame has room for. The length of a
/// frame is even.
#[inline(always)]
fn copy(start: usize, end: usize, plan: &Plan) {
    let mut index = 0;
    while index < ROOM / 8 {
        let at = start + index * 8;
        if at + 8 > end {
            break;
        }
        // SAFETY: the eight octets are in front of the frame's end.
        unsafe { (at as *mut u64).write_unaligned(plan.template[index]) };
        index += 1;
    }
    if index >= ROOM / 8 {
        return;
    }
    let mut rest = plan.template[index];
    let mut half = 0;
    while half < 3 {
        let at = start + index * 8 + half * 2;
        if at + 2 > end {
            break;
        }
        // SAFETY: the two octets are in front of the frame's end.
        unsafe { (at as *mut u16).write_unaligned(rest as u16) };
        rest >>= 16;
        half += 1;
    }
}

/// The 16-bit halves of a word, summed up.
#[inline(always)]
const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

#[inline(always)]
fn write_ipv4(frame: *mut u8, end: usize, plan: &Plan, random: u64) -> bool {
    if frame as usize + HEADERS_V4 > end {
        return false;
    }
    let source = u32::from_ne_bytes(first_octet(random as u32, SOURCES_IPV4));
    // SAFETY: the headers are inside the frame.
    unsafe {
        frame.add(SOURCE_V4).cast::<u32>().write_unaligned(source);
        let id = make_up(plan.ip_sum, halves(source));
        frame.add(ID).cast::<u16>().write_unaligned(id);
        write_tcp(frame.add(TCP_V4), plan, halves(source), random);
    }
    true
}

/// A random IPv4 address whose first octet has this upper half.
#[inline(always)]
const fn first_octet(random: u32, upper: u8) -> [u8; 4] {
    let mut octets = random.to_ne_bytes();
    octets[0] = upper | (octets[0] & 0x0f);
    octets
}

#[inline(always)]
fn write_ipv6(frame: *mut u8, end: usize, plan: &Plan, random: u64) -> bool {
    if frame as usize + HEADERS_V6 > end {
        return false;
    }
    // The subnet and the last word, so that prefixes differ, too.
    let source = random as u32;
    // SAFETY: the headers are inside the frame.
    unsafe {
        frame
            .add(SOURCE_V6 + 6)
            .cast::<u16>()
            .write_unaligned(source as u16);
        frame
            .add(SOURCE_V6 + 14)
            .cast::<u16>()
            .write_unaligned((source >> 16) as u16);
        write_tcp(frame.add(TCP_V6), plan, halves(source), random);
    }
    true
}

/// Writes source port, sequence number and, if they are random, flags.
///
/// # Safety
///
/// `tcp` has 20 octets that may be written.
#[inline(always)]
unsafe fn write_tcp(tcp: *mut u8, plan: &Plan, source: u32, random: u64) {
    // At least 1024.
    let port = u16::from_ne_bytes([(random >> 32) as u8 | 4, (random >> 40) as u8]);
    let high = (random >> 48) as u16;
    // SAFETY: the caller's.
    unsafe {
        tcp.cast::<u16>().write_unaligned(port);
        let mut flags = tcp.add(FLAGS).cast::<[u8; 2]>().read();
        if plan.random_flags != 0 {
            flags[1] = (random >> 29) as u8 ^ (random >> 3) as u8;
            tcp.add(FLAGS).cast::<[u8; 2]>().write(flags);
        }
        let others = source + port as u32 + high as u32 + u16::from_ne_bytes(flags) as u32;
        tcp.add(SEQ).cast::<u16>().write_unaligned(high);
        let low = make_up(plan.tcp_sum, others);
        tcp.add(SEQ + 2).cast::<u16>().write_unaligned(low);
    }
}
