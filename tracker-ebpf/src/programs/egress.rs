//! TCX, or clsact before kernel 6.6: what goes out.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use tracker_common::{
    abi::{Hook, defence_flags, interface_flags},
    parse::{self, Bytes as _},
    reason::Reason,
    tcp::Flags,
    time::Tick,
};

use crate::{
    cookie, count,
    frame::Egress,
    interfaces, listeners,
    maps::LIVE,
    policy,
    programs::{
        MEETS_FLOW, OPENS_FLOW, STALE_FLOW, ask, ask_again, is_dropped, reason_of, rejection_of,
        slot_of,
    },
    reject, scratch,
    track::{Seen, begin, pass_by, track},
};

/// Egress hook.
#[classifier]
pub fn tracker_egress(ctx: TcContext) -> i32 {
    let mut slot = tracker_egress_read(ctx.skb.skb);
    if slot == MEETS_FLOW {
        slot = tracker_egress_track();
        if slot == STALE_FLOW {
            slot = tracker_egress_ask_again(ctx.skb.skb);
            if slot == MEETS_FLOW {
                slot = tracker_egress_track();
            }
        }
        if slot == OPENS_FLOW && policy::is_there() {
            slot = tracker_egress_ask(ctx.skb.skb);
        }
        if slot == OPENS_FLOW {
            slot = tracker_egress_open(ctx.skb.skb);
        }
        learn();
    }
    let reason = reason_of(slot);
    count::packet(reason, Hook::Egress, Egress(&ctx).length());
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::trace!(&ctx, "out: {} octets, reason {}", ctx.len(), reason as u8);
    if rejection_of(reason).is_some() && tracker_egress_reject(ctx.skb.skb, slot) != 0 {
        // Its sender is this host: in at the interface where it would have left.
        let to = Egress(&ctx).ifindex();
        // SAFETY: the helper takes numbers.
        unsafe { bpf_redirect(to, BPF_F_INGRESS.into()) as i32 }
    } else if is_dropped(reason) {
        TC_ACT_SHOT
    } else {
        // Lets the next program of the hook decide (TCX_NEXT has this value).
        TC_ACT_UNSPEC
    }
}

/// Answers a packet that the policy rejects with the reason of that number: 1 if it
/// has become its own answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_reject(skb: *mut __sk_buff, slot: u32) -> u32 {
    let (Some(scratch), Some(rejection)) =
        (scratch::of(Hook::Egress), rejection_of(reason_of(slot)))
    else {
        return 0;
    };
    reject::at_egress(&Egress(&TcContext::new(skb)), scratch, rejection).into()
}

/// Takes what a SYN-ACK of this host tells of the socket that sent it.
#[inline(always)]
fn learn() {
    let (Some(scratch), Some(live)) = (scratch::of(Hook::Egress), LIVE.get(0)) else {
        return;
    };
    if live.defence & defence_flags::LEARN != 0
        && scratch.local != 0
        && scratch.packet.segment.flags.has(Flags::SYN | Flags::ACK)
    {
        let now = Tick::from_ns(scratch.event.time_ns);
        listeners::learn(&scratch.packet, cookie::zone(scratch), now);
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

/// Lets a segment meet its flow. Gives the number of a [`Reason`], or
/// [`OPENS_FLOW`] where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_track() -> u32 {
    scratch::of(Hook::Egress).map_or(Reason::NotConfigured as u32, |scratch| {
        slot_of(track(scratch))
    })
}

/// Asks the policy about a packet of no flow. Gives the number of a [`Reason`], or
/// [`OPENS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_ask(skb: *mut __sk_buff) -> u32 {
    scratch::of(Hook::Egress).map_or(Reason::NotConfigured as u32, |scratch| {
        ask(scratch, &seen(&TcContext::new(skb)), OPENS_FLOW)
    })
}

/// Asks it about a flow that an earlier policy has judged. Gives the number of a
/// [`Reason`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_ask_again(skb: *mut __sk_buff) -> u32 {
    scratch::of(Hook::Egress).map_or(Reason::NotConfigured as u32, |scratch| {
        ask_again(scratch, &seen(&TcContext::new(skb)))
    })
}

/// Lets a segment open a flow. Gives the number of a [`Reason`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_egress_open(skb: *mut __sk_buff) -> u32 {
    scratch::of(Hook::Egress).map_or(Reason::NotConfigured as u32, |scratch| {
        begin(scratch, &seen(&TcContext::new(skb))) as u32
    })
}

#[inline(always)]
fn seen(ctx: &TcContext) -> Seen {
    Seen {
        context: ctx.as_ptr(),
        ifindex: Egress(ctx).ifindex(),
        hook: Hook::Egress,
    }
}
