//! The defence against floods: what meets it before it meets a flow.

use tracker_common::{
    abi::{Listener, Live, Mode, Side, defence_flags},
    defence,
    reason::Reason,
    tcp::{Flags, Opening},
};

use crate::{
    atomic::fetch_add, bans, clock, cookie, globals, listeners, maps::LIVE, scratch::Scratch,
    table, track::create,
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

/// What is to become of a packet.
pub enum Fate {
    /// It leaves with this reason.
    Leave(Reason),
    /// It is a SYN of no flow, which may have to be answered with a cookie.
    Answer,
    /// It has returned a cookie.
    Return,
    /// It meets its flow.
    Meet,
}

/// Looks at the packet in `scratch` before it meets its flow.
#[inline(always)]
pub fn defend(scratch: &mut Scratch, live: &Live) -> Fate {
    let flags = scratch.packet.segment.flags;
    // What this host sends to itself is nobody's attack.
    if scratch.local != 0 || flags.has(Flags::RST) {
        return Fate::Meet;
    }
    let family = scratch.packet.family();
    // A packet of a flow is judged by that.
    if let Some(flow) = table::find(family, &scratch.event.key) {
        // SAFETY: a map value of integers, which any bits are. It is read without its
        // lock: what is read of another flow vouches for one source too many.
        let flow = unsafe { &*flow.cast_const() };
        let from = Side::from_raw(scratch.from);
        if live.defence & defence_flags::LEARN != 0
            && defence::completes(flow, from, &scratch.packet.segment)
        {
            cookie::prove(&scratch.packet, live, scratch.event.time_ns);
        }
        return Fate::Meet;
    }
    if live.defence & defence_flags::BANS != 0
        && bans::refuse(&scratch.packet, scratch.event.time_ns)
    {
        return Fate::Leave(Reason::Banned);
    }
    if globals::gateway() {
        return Fate::Meet;
    }
    if scratch.packet.segment.is_syn() {
        return Fate::Answer;
    }
    if flags.has(Flags::SYN) || live.defence & defence_flags::CHECK == 0 {
        return Fate::Meet;
    }
    take_back(scratch, live)
}

/// Takes back the cookie that an ACK returns; refuses one that returns none, where
/// connections that are older than the tracker have had their time.
#[inline(always)]
fn take_back(scratch: &mut Scratch, live: &Live) -> Fate {
    let zone = cookie::zone(scratch);
    let Some(listener): Option<*mut Listener> = listeners::of(&scratch.packet, zone) else {
        return Fate::Meet;
    };
    // SAFETY: a map value of integers.
    let known = unsafe { *listener };
    if !cookie::is_returned(&scratch.packet, &mut scratch.headers) {
        cookie::count_unreturned(&scratch.packet, listener, scratch.event.time_ns);
        return defence::unreturned(live).map_or(Fate::Meet, Fate::Leave);
    }
    // SAFETY: an aligned word that every CPU changes atomically.
    unsafe { fetch_add(&raw mut (*listener).valid, 1) };
    cookie::prove(&scratch.packet, live, scratch.event.time_ns);
    let time = clock::exact();
    let (syn, syn_ack) = defence::handshake(&scratch.packet.segment, &known, live, time);
    scratch.context.pending = syn;
    scratch.opener = syn_ack;
    Fate::Return
}

/// Opens the flow of an ACK that has returned a cookie. Gives the reason with which it
/// leaves; `None` if it is to meet that flow.
#[inline(always)]
pub fn open_returned(scratch: &mut Scratch, live: &Live) -> Option<Reason> {
    let from = Side::from_raw(scratch.from);
    let made = create(scratch, Opening::Cookie, from, false, live);
    if !matches!(made, Reason::CookieReturned) {
        // No room: the connection is there nevertheless.
        return Some(Reason::CookieUntracked);
    }
    scratch.returned = 1;
    None
}
