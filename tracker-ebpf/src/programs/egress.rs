//! TCX, or clsact before kernel 6.6: what goes out.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use tracker_common::{
    abi::{Hook, interface_flags},
    parse::{self, Bytes as _},
    reason::{Class, Reason},
};

use crate::{
    count,
    frame::Egress,
    interfaces,
    programs::{MEETS_FLOW, reason_of},
    scratch,
    track::{Seen, pass_by, track},
};

/// Egress hook.
#[classifier]
pub fn tracker_egress(ctx: TcContext) -> i32 {
    let mut slot = tracker_egress_read(ctx.skb.skb);
    if slot == MEETS_FLOW {
        slot = tracker_egress_track(ctx.skb.skb);
    }
    let reason = reason_of(slot);
    count::packet(reason, Hook::Egress, Egress(&ctx).length());
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::trace!(&ctx, "out: {} octets, reason {}", ctx.len(), reason as u8);
    match reason.class() {
        // Lets the next program of the hook decide (TCX_NEXT has this value).
        Class::Accept | Class::Note | Class::Refuse => TC_ACT_UNSPEC,
    }
}

/// Reads the headers, and lets ordinary segments pass. Gives the number of a
/// [`Reason`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_read(skb: *mut __sk_buff) -> u32 {
    let ctx = TcContext::new(skb);
    let frame = Egress(&ctx);
    let came_from = frame.came_from();
    if came_from != 0 && interfaces::flags(came_from) & interface_flags::INGRESS != 0 {
        return Reason::Forwarded as u32;
    }
    let Some(scratch) = scratch::of(Hook::Egress) else {
        return Reason::NotConfigured as u32;
    };
    scratch.local = u8::from(came_from == 0);
    frame.pull();
    if let Err(reason) = parse::ethernet(&frame, frame.tag(), &mut scratch.packet) {
        return reason as u32;
    }
    pass_by(scratch, &seen(&ctx)).map_or(MEETS_FLOW, |reason| reason as u32)
}

/// Lets a segment meet its flow. Gives the number of a [`Reason`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_track(skb: *mut __sk_buff) -> u32 {
    let Some(scratch) = scratch::of(Hook::Egress) else {
        return Reason::NotConfigured as u32;
    };
    track(scratch, &seen(&TcContext::new(skb))) as u32
}

#[inline(always)]
fn seen(ctx: &TcContext) -> Seen {
    Seen {
        context: ctx.as_ptr(),
        ifindex: Egress(ctx).ifindex(),
        hook: Hook::Egress,
    }
}
