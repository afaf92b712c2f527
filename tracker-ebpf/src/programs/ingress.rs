//! XDP: what comes in.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{xdp_action, xdp_md},
    macros::xdp,
    programs::XdpContext,
};
use tracker_common::{
    abi::{Hook, interface_flags},
    parse,
    reason::{Class, Reason},
};

use crate::{
    count,
    frame::Ingress,
    globals, interfaces,
    programs::{MEETS_FLOW, reason_of},
    scratch,
    track::{Seen, pass_by, track},
};

/// The loopback device's index in every namespace. What comes in there was sent
/// by this host.
const LOOPBACK: u32 = 1;

/// Ingress hook; multi-buffer aware.
#[xdp(frags)]
pub fn tracker_ingress(ctx: XdpContext) -> u32 {
    let frame = Ingress(&ctx);
    let mut slot = tracker_ingress_read(ctx.ctx);
    if slot == MEETS_FLOW {
        slot = tracker_ingress_track(ctx.ctx);
    }
    let reason = reason_of(slot);
    let bytes = scratch::of(Hook::Ingress).map_or(0, |scratch| scratch.packet.bytes);
    count::packet(reason, Hook::Ingress, frame.linear().max(bytes));
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::trace!(
        &ctx,
        "in: {} octets, reason {}",
        frame.linear(),
        reason as u8
    );
    match reason.class() {
        Class::Accept | Class::Note | Class::Refuse => xdp_action::XDP_PASS,
    }
}

/// Reads the headers, and lets ordinary segments pass. Gives the number of a
/// [`Reason`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_read(ctx: *mut xdp_md) -> u32 {
    let Some(scratch) = scratch::of(Hook::Ingress) else {
        return Reason::NotConfigured as u32;
    };
    let ctx = XdpContext::new(ctx);
    let frame = Ingress(&ctx);
    if let Err(reason) = parse::ethernet(&frame, 0, &mut scratch.packet) {
        return reason as u32;
    }
    let ifindex = ctx.ingress_ifindex() as u32;
    if globals::checksums()
        && interfaces::flags(ifindex) & interface_flags::CHECKSUM != 0
        && parse::checksum_fits(&frame, &scratch.packet) == Some(false)
    {
        return Reason::BadChecksum as u32;
    }
    scratch.local = u8::from(ifindex == LOOPBACK);
    pass_by(scratch, &seen(&ctx)).map_or(MEETS_FLOW, |reason| reason as u32)
}

/// Lets a segment meet its flow. Gives the number of a [`Reason`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_track(ctx: *mut xdp_md) -> u32 {
    let Some(scratch) = scratch::of(Hook::Ingress) else {
        return Reason::NotConfigured as u32;
    };
    track(scratch, &seen(&XdpContext::new(ctx))) as u32
}

#[inline(always)]
fn seen(ctx: &XdpContext) -> Seen {
    Seen {
        context: ctx.as_ptr(),
        ifindex: ctx.ingress_ifindex() as u32,
        hook: Hook::Ingress,
    }
}
