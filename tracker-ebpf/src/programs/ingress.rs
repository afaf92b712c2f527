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
    reason::Reason,
};

use crate::{
    cookie, count,
    defend::{Fate, defend, defends, open_returned},
    frame::Ingress,
    globals, interfaces,
    maps::LIVE,
    policy,
    programs::{
        ANSWERS_SYN, MEETS_FLOW, OPENS_FLOW, RETURNS_COOKIE, STALE_FLOW, ask, ask_again,
        is_dropped, reason_of, rejection_of, slot_of,
    },
    reject, scratch,
    track::{Seen, begin, pass_by, track},
};

/// The loopback device's index in every namespace. What comes in there was sent
/// by this host.
const LOOPBACK: u32 = 1;

/// Ingress hook; multi-buffer aware.
#[xdp(frags)]
pub fn tracker_ingress(ctx: XdpContext) -> u32 {
    let frame = Ingress(&ctx);
    let mut slot = tracker_ingress_read(ctx.ctx);
    if slot == MEETS_FLOW && defends() {
        slot = tracker_ingress_defend();
    }
    let policed = policy::is_there();
    if policed && (slot == ANSWERS_SYN || slot == RETURNS_COOKIE) {
        slot = tracker_ingress_ask(ctx.ctx, slot);
    }
    if slot == ANSWERS_SYN {
        slot = tracker_ingress_answer(ctx.ctx);
    }
    if slot == RETURNS_COOKIE {
        slot = tracker_ingress_return();
    }
    if slot == MEETS_FLOW {
        slot = tracker_ingress_track();
    }
    if slot == STALE_FLOW {
        slot = tracker_ingress_ask_again(ctx.ctx);
        if slot == MEETS_FLOW {
            slot = tracker_ingress_track();
        }
    }
    if policed && slot == OPENS_FLOW {
        slot = tracker_ingress_ask(ctx.ctx, slot);
    }
    if slot == OPENS_FLOW {
        slot = tracker_ingress_open(ctx.ctx);
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
    let answered = matches!(reason, Reason::CookieSent)
        || (rejection_of(reason).is_some() && tracker_ingress_reject(ctx.ctx, slot) != 0);
    if answered {
        xdp_action::XDP_TX
    } else if is_dropped(reason) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
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

/// Answers a packet that the policy rejects with the reason of that number: 1 if it
/// has become its own answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_reject(ctx: *mut xdp_md, slot: u32) -> u32 {
    let (Some(scratch), Some(rejection)) =
        (scratch::of(Hook::Ingress), rejection_of(reason_of(slot)))
    else {
        return 0;
    };
    reject::at_ingress(&Ingress(&XdpContext::new(ctx)), scratch, rejection).into()
}

/// Looks at a packet before it meets its flow, and takes a cookie back that it
/// returns. Gives the number of a [`Reason`], [`ANSWERS_SYN`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_defend() -> u32 {
    let (Some(scratch), Some(live)) = (scratch::of(Hook::Ingress), LIVE.get(0)) else {
        return Reason::NotConfigured as u32;
    };
    match defend(scratch, live) {
        Fate::Leave(reason) => reason as u32,
        Fate::Answer => ANSWERS_SYN,
        Fate::Return => RETURNS_COOKIE,
        Fate::Meet => MEETS_FLOW,
    }
}

/// Asks the policy about a packet of no flow, of which the stage before gave `slot`.
/// Gives that, or the number of a [`Reason`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_ask(ctx: *mut xdp_md, slot: u32) -> u32 {
    scratch::of(Hook::Ingress).map_or(Reason::NotConfigured as u32, |scratch| {
        ask(scratch, &seen(&XdpContext::new(ctx)), slot)
    })
}

/// Asks it about a flow that an earlier policy has judged. Gives the number of a
/// [`Reason`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_ask_again(ctx: *mut xdp_md) -> u32 {
    scratch::of(Hook::Ingress).map_or(Reason::NotConfigured as u32, |scratch| {
        ask_again(scratch, &seen(&XdpContext::new(ctx)))
    })
}

/// Opens a flow for a packet that has returned a cookie. Gives the number of a
/// [`Reason`], or [`MEETS_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_return() -> u32 {
    let (Some(scratch), Some(live)) = (scratch::of(Hook::Ingress), LIVE.get(0)) else {
        return Reason::NotConfigured as u32;
    };
    open_returned(scratch, live).map_or(MEETS_FLOW, |reason| reason as u32)
}

/// Answers a SYN with a cookie. Gives the number of a [`Reason`], or
/// [`MEETS_FLOW`] where that cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_answer(ctx: *mut xdp_md) -> u32 {
    let (Some(scratch), Some(live)) = (scratch::of(Hook::Ingress), LIVE.get(0)) else {
        return Reason::NotConfigured as u32;
    };
    let ctx = XdpContext::new(ctx);
    cookie::answer(ctx.as_ptr(), &Ingress(&ctx), scratch, live)
        .map_or(MEETS_FLOW, |reason| reason as u32)
}

/// Lets a segment meet its flow. Gives the number of a [`Reason`], or
/// [`OPENS_FLOW`] where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_track() -> u32 {
    scratch::of(Hook::Ingress).map_or(Reason::NotConfigured as u32, |scratch| {
        slot_of(track(scratch))
    })
}

/// Lets a segment open a flow. Gives the number of a [`Reason`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_ingress_open(ctx: *mut xdp_md) -> u32 {
    scratch::of(Hook::Ingress).map_or(Reason::NotConfigured as u32, |scratch| {
        begin(scratch, &seen(&XdpContext::new(ctx))) as u32
    })
}

#[inline(always)]
fn seen(ctx: &XdpContext) -> Seen {
    Seen {
        context: ctx.as_ptr(),
        ifindex: ctx.ingress_ifindex() as u32,
        hook: Hook::Ingress,
    }
}
