//! TCX, or clsact before kernel 6.6: what goes out.

use aya_ebpf::{
    EbpfContext as _, bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext,
};
use tracker_common::{
    abi::{Hook, interface_flags},
    parse::{self, Bytes as _},
    reason::{Class, Reason},
};

use crate::{
    count,
    frame::Egress,
    interfaces, scratch,
    track::{Seen, track},
};

/// Egress hook.
#[classifier]
pub fn tracker_egress(ctx: TcContext) -> i32 {
    let reason = handle(&ctx);
    count::packet(reason, Hook::Egress, Egress(&ctx).length());
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::trace!(&ctx, "out: {} octets, reason {}", ctx.len(), reason as u8);
    match reason.class() {
        // Lets the next program of the hook decide (TCX_NEXT has this value).
        Class::Accept | Class::Note | Class::Refuse => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Reason {
    let frame = Egress(ctx);
    let came_from = frame.came_from();
    if came_from != 0 && interfaces::flags(came_from) & interface_flags::INGRESS != 0 {
        return Reason::Forwarded;
    }
    let Some(scratch) = scratch::of(Hook::Egress) else {
        return Reason::NotConfigured;
    };
    scratch.local = u8::from(came_from == 0);
    frame.pull();
    if let Err(reason) = parse::ethernet(&frame, frame.tag(), &mut scratch.packet) {
        return reason;
    }
    let ifindex = frame.ifindex();
    let seen = Seen {
        context: ctx.as_ptr(),
        ifindex,
        hook: Hook::Egress,
    };
    track(scratch, &seen)
}
