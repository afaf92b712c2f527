//! Half-open flows by listener and by source prefix.
//!
//! An entry is made by the first flow that it counts and removed with the last.
//! Between its count falling to 0 and its removal another CPU may add one, which is
//! then lost; the agent recounts.

use aya_ebpf::bindings::BPF_NOEXIST;
use tracker_common::{
    abi::{Family, Key, Live, Place},
    tcp::Limit,
};

use crate::{
    atomic::fetch_add,
    maps::{LIVE, SHARES},
};

/// Adds one to the count of `place`, unless that is `limit` (0: no limit).
#[inline(never)]
fn take_one(place: &Place, limit: u32) -> bool {
    if let Some(count) = SHARES.get_ptr_mut(place) {
        // SAFETY: a word of a map value, which every program changes atomically.
        let before = unsafe { fetch_add(count, 1) };
        if limit == 0 || before < u64::from(limit) {
            return true;
        }
        lower(place, count);
        return false;
    }
    if SHARES.insert(place, 1, BPF_NOEXIST.into()).is_err()
        && let Some(count) = SHARES.get_ptr_mut(place)
    {
        // Another CPU was faster.
        // SAFETY: as above.
        unsafe { fetch_add(count, 1) };
    }
    true
}

#[inline(never)]
fn give_one_back(place: &Place) {
    if let Some(count) = SHARES.get_ptr_mut(place) {
        lower(place, count);
    }
}

/// Takes one off the `count` of `place`, and the entry away with the last.
#[inline(always)]
fn lower(place: &Place, count: *mut u64) {
    // SAFETY: a word of a map value, which every program changes atomically.
    let before = unsafe { fetch_add(count, 1_u64.wrapping_neg()) };
    if before <= 1 {
        // Gone already: another CPU was faster.
        let _ = SHARES.remove(place);
    }
}

/// Takes the shares of a flow that is to be; gives the limit that it would
/// exceed.
#[inline(never)]
pub fn take(key: &Key, family: Family, initiator_high: bool, live: &Live) -> Option<Limit> {
    let (listener, source) = Place::of_flow(key, family, initiator_high, live.source_bits);
    if !take_one(&source, live.source_limit) {
        return Some(Limit::Source);
    }
    if !take_one(&listener, live.listener_limit) {
        give_one_back(&source);
        return Some(Limit::Listener);
    }
    None
}

/// Gives them back.
///
/// Each place by itself: this is the end of the longest chain of calls, and both
/// together would not fit its stack.
#[inline(always)]
pub fn give_back(key: &Key, family: Family, initiator_high: bool) {
    give_back_listener(key, family, initiator_high);
    give_back_source(key, family, initiator_high);
}

#[inline(never)]
fn give_back_listener(key: &Key, family: Family, initiator_high: bool) {
    let (listener, _) = Place::of_flow(key, family, initiator_high, [0; 2]);
    give_one_back(&listener);
}

#[inline(never)]
fn give_back_source(key: &Key, family: Family, initiator_high: bool) {
    if let Some(live) = LIVE.get(0) {
        let (_, source) = Place::of_flow(key, family, initiator_high, live.source_bits);
        give_one_back(&source);
    }
}

/// Whether the listener or the prefix of a flow that is to be has as many as it
/// may.
#[inline(never)]
pub fn exhausted(key: &Key, family: Family, initiator_high: bool, live: &Live) -> bool {
    if live.listener_limit | live.source_limit == 0 {
        return false;
    }
    let (listener, source) = Place::of_flow(key, family, initiator_high, live.source_bits);
    is_full(&listener, live.listener_limit) || is_full(&source, live.source_limit)
}

#[inline(always)]
fn is_full(place: &Place, limit: u32) -> bool {
    if limit == 0 {
        return false;
    }
    // SAFETY: an aligned word is read whole.
    unsafe { SHARES.get(place) }.is_some_and(|&count| count >= u64::from(limit))
}
