//! The defence against floods: what meets it before it meets a flow.

use tracker_common::{
    abi::{AtLimit, CookieMode, Family, Gauge, Listener, Live, Mode, Side, defence_flags},
    defence,
    reason::Reason,
    tcp::{Flags, Opening},
};

use crate::{
    atomic::fetch_add,
    bans, clock, cookie,
    frame::Ingress,
    gauge, globals, listeners,
    maps::LIVE,
    scratch::Scratch,
    shares, table,
    track::{Seen, create},
};

/// Whether there is anything to defend with.
#[inline(always)]
pub fn defends() -> bool {
    const ANY: u8 = defence_flags::ANSWER
        | defence_flags::CHECK
        | defence_flags::AT_LIMIT
        | defence_flags::LEARN
        | defence_flags::BANS;
    LIVE.get(0)
        .is_some_and(|live| live.mode == Mode::Enforce as u8 && live.defence & ANY != 0)
}

/// Deals with the packet in `scratch`. Gives its reason; `None` if it is to meet
/// its flow.
#[inline(always)]
pub fn defend(
    seen: &Seen,
    frame: &Ingress<'_>,
    scratch: &mut Scratch,
    live: &Live,
) -> Option<Reason> {
    scratch.returned = 0;
    let flags = scratch.packet.segment.flags;
    // What this host sends to itself is nobody's attack.
    if scratch.local != 0 || flags.has(Flags::RST) {
        return None;
    }
    let family = scratch.packet.family();
    // A packet of a flow is judged by that.
    if table::find(family, &scratch.event.key).is_some() {
        return None;
    }
    if live.defence & defence_flags::BANS != 0
        && bans::refuse(&scratch.packet, scratch.event.time_ns)
    {
        return Some(Reason::Banned);
    }
    if globals::gateway() {
        return None;
    }
    if scratch.packet.segment.is_syn() {
        if !wants_cookie(scratch, family, live) {
            return None;
        }
        return cookie::answer(seen.context, frame, scratch, live);
    }
    if flags.has(Flags::SYN) || live.defence & defence_flags::CHECK == 0 {
        return None;
    }
    take_back(seen, scratch, live)
}

/// Whether a SYN of no flow is to be answered with a cookie.
#[inline(always)]
fn wants_cookie(scratch: &Scratch, family: Family, live: &Live) -> bool {
    let Some(listener) = listeners::of(&scratch.packet, cookie::zone(scratch)) else {
        return false;
    };
    // SAFETY: a map value of integers.
    let mode = unsafe { (*listener).mode };
    if mode == CookieMode::Never as u8 {
        return false;
    }
    if mode == CookieMode::Always as u8 || live.defence & defence_flags::ANSWER != 0 {
        return true;
    }
    live.defence & defence_flags::AT_LIMIT != 0
        && live.at_limit == AtLimit::Cookie as u8
        && (gauge::taken(Gauge::HalfOpen) >= u64::from(live.half_open_limit)
            || shares::exhausted(
                &scratch.event.key,
                family,
                Side::from_raw(scratch.from) as u8 != 0,
                live,
            ))
}

/// Opens a flow for an ACK that returns a cookie; refuses one that returns none,
/// where connections that are older than the tracker have had their time.
#[inline(always)]
fn take_back(seen: &Seen, scratch: &mut Scratch, live: &Live) -> Option<Reason> {
    let listener: *mut Listener = listeners::of(&scratch.packet, cookie::zone(scratch))?;
    // SAFETY: a map value of integers.
    let known = unsafe { *listener };
    if !cookie::is_returned(&scratch.packet, &mut scratch.headers) {
        // SAFETY: an aligned word that every CPU changes atomically.
        unsafe { fetch_add(&raw mut (*listener).invalid, 1) };
        return (live.pickup == 0).then_some(Reason::CookieInvalid);
    }
    // SAFETY: as above.
    unsafe { fetch_add(&raw mut (*listener).valid, 1) };
    cookie::prove(&scratch.packet, live, scratch.event.time_ns);
    let time = clock::exact();
    let (syn, syn_ack) = defence::handshake(&scratch.packet.segment, &known, live, time);
    scratch.context.pending = syn;
    scratch.opener = syn_ack;
    let made = create(scratch, seen, Opening::Cookie, live);
    if !matches!(made, Reason::CookieReturned) {
        // No room: the connection is there nevertheless.
        return Some(Reason::CookieUntracked);
    }
    scratch.returned = 1;
    None
}
