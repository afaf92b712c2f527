//! XDP: what comes in.

use aya_ebpf::{EbpfContext as _, bindings::xdp_action, macros::xdp, programs::XdpContext};
use tracker_common::{
    abi::{Hook, interface_flags},
    parse,
    reason::{Class, Reason},
};

use crate::{
    count,
    frame::Ingress,
    globals, interfaces,
    scratch::{self, Scratch},
    track::{Seen, track},
};

/// The loopback device's index in every namespace. What comes in there was sent
/// by this host.
const LOOPBACK: u32 = 1;

/// Ingress hook; multi-buffer aware.
#[xdp(frags)]
pub fn tracker_ingress(ctx: XdpContext) -> u32 {
    let frame = Ingress(&ctx);
    let (reason, bytes) = match scratch::of(Hook::Ingress) {
        Some(scratch) => (handle(&ctx, &frame, scratch), scratch.packet.bytes),
        None => (Reason::NotConfigured, 0),
    };
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

#[inline(always)]
fn handle(ctx: &XdpContext, frame: &Ingress<'_>, scratch: &mut Scratch) -> Reason {
    if let Err(reason) = parse::ethernet(frame, 0, &mut scratch.packet) {
        return reason;
    }
    let ifindex = ctx.ingress_ifindex() as u32;
    if globals::checksums()
        && interfaces::flags(ifindex) & interface_flags::CHECKSUM != 0
        && parse::checksum_fits(frame, &scratch.packet) == Some(false)
    {
        return Reason::BadChecksum;
    }
    scratch.local = u8::from(ifindex == LOOPBACK);
    let seen = Seen {
        context: ctx.as_ptr(),
        ifindex,
        hook: Hook::Ingress,
    };
    track(scratch, &seen)
}
