//! What the programs keep of each rule: what it has decided, and its limits.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use tracker_common::{
    abi::{Event, Family, Key, Place, RULES_PER_PAGE, Rate, Rule, RuleCount, RuleState, held},
    policy::{REPORTS, conforms},
    reason::Reason,
};

use crate::{
    atomic::{compare_and_swap, fetch_add},
    maps::{RULE_COUNTS, RULE_RATES, RULE_SHARES, RULE_STATES},
};

/// How often a due time is read and written before it is left as others have it.
const TRIES: u32 = 4;

#[inline(always)]
fn count_of(rule: u16) -> Option<*mut RuleCount> {
    let rule = u32::from(rule);
    RULE_COUNTS
        .get(rule / RULES_PER_PAGE)?
        .get_ptr_mut(rule % RULES_PER_PAGE)
}

#[inline(always)]
fn state_of(rule: u16) -> Option<*mut RuleState> {
    let rule = u32::from(rule);
    RULE_STATES
        .get(rule / RULES_PER_PAGE)?
        .get_ptr_mut(rule % RULES_PER_PAGE)
}

/// Counts a first packet that `rule` has decided.
#[inline(never)]
pub fn hit(rule: u16, now_ns: u64) {
    if let Some(count) = count_of(rule) {
        // SAFETY: this CPU's element of integers. A hook that interrupts the other
        // between two accesses loses a count.
        unsafe {
            (*count).hits += 1;
            (*count).last_ns = now_ns;
        }
    }
}

/// Counts what a flow has carried that has ended, to the rule that admitted it.
#[inline(never)]
pub fn ended(event: &Event) {
    if event.rule == 0 {
        return;
    }
    if let Some(count) = count_of(event.rule) {
        let [packets, more_packets] = event.packets;
        let [bytes, more_bytes] = event.bytes;
        // SAFETY: as above.
        unsafe {
            (*count).packets += packets + more_packets;
            (*count).bytes += bytes + more_bytes;
        }
    }
}

/// Whether one more is in time; then the next one is due later.
#[inline(always)]
fn in_time(due: *mut u64, now_ns: u64, rate: &Rate) -> bool {
    for _ in 0..TRIES {
        // SAFETY: an aligned word of a map value, which all CPUs change atomically.
        let before = unsafe { due.read_volatile() };
        let Some(next) = conforms(before, now_ns, rate) else {
            return false;
        };
        // SAFETY: as above.
        if unsafe { compare_and_swap(due, before, next) } == before {
            return true;
        }
    }
    // Others were in time meanwhile, so this one is nearly.
    true
}

/// Whether a report of `rule` is in time. Gives how many were left out before it.
#[inline(never)]
pub fn reports(rule: u16, now_ns: u64) -> Option<u64> {
    let state = state_of(rule)?;
    // SAFETY: aligned words of a map value, which all CPUs change atomically.
    unsafe {
        let left_out = &raw mut (*state).unreported;
        if !in_time(&raw mut (*state).report_due_ns, now_ns, &REPORTS) {
            fetch_add(left_out, 1);
            return None;
        }
        let count = left_out.read_volatile();
        fetch_add(left_out, count.wrapping_neg());
        Some(count)
    }
}

/// Takes what a flow of `rule` must hold; gives its [`held`] bits, or the reason if a
/// limit of the rule does not allow it.
#[inline(never)]
pub fn take(
    rule: &Rule,
    key: &Key,
    family: Family,
    initiator_high: bool,
    now_ns: u64,
) -> Result<u16, Reason> {
    let Some(state) = state_of(rule.number) else {
        return Ok(0);
    };
    // SAFETY: words of a map value that are written before the rule is in force.
    let masks = unsafe { &(*state).source_masks };
    let source = &Place::under_rule(key, family, initiator_high, masks, rule.number);
    if rule.rate.interval_ns != 0 {
        // SAFETY: a place in a map value.
        let due = unsafe { &raw mut (*state).due_ns };
        if !in_time(due, now_ns, &rule.rate) {
            return Err(Reason::RuleRate);
        }
    }
    if rule.source_rate.interval_ns != 0 && !source_in_time(rule, source, now_ns) {
        return Err(Reason::RuleSourceRate);
    }
    let mut taken = 0;
    if rule.flows != 0 {
        // SAFETY: as above.
        let flows = unsafe { &raw mut (*state).flows };
        // Below zero while flows of another rule give back that had this number before.
        // SAFETY: an aligned word of a map value.
        if unsafe { fetch_add(flows, 1) }.cast_signed() >= i64::from(rule.flows) {
            // SAFETY: as above.
            unsafe { fetch_add(flows, 1_u64.wrapping_neg()) };
            return Err(Reason::RuleFlows);
        }
        taken = held::RULE;
    }
    if rule.source_flows != 0 {
        match take_share(source, rule.source_flows) {
            Share::Taken => taken |= held::RULE_SOURCE,
            Share::NoRoom => {}
            Share::Exceeded => {
                if taken != 0 {
                    give_one_back(rule.number);
                }
                return Err(Reason::RuleSourceFlows);
            }
        }
    }
    Ok(taken)
}

#[inline(always)]
fn source_in_time(rule: &Rule, source: &Place, now_ns: u64) -> bool {
    if let Some(due) = RULE_RATES.get_ptr_mut(source) {
        return in_time(due, now_ns, &rule.source_rate);
    }
    let Some(next) = conforms(0, now_ns, &rule.source_rate) else {
        return false;
    };
    // Without room the source is not held to its rate, rather than refused.
    let _ = RULE_RATES.insert(source, next, BPF_ANY.into());
    true
}

enum Share {
    Taken,
    Exceeded,
    NoRoom,
}

#[inline(always)]
fn take_share(source: &Place, limit: u32) -> Share {
    let count = RULE_SHARES.get_ptr_mut(source).or_else(|| {
        // Whether this makes it or another CPU has, it is there now; or there is no room.
        let _ = RULE_SHARES.insert(source, 0, BPF_NOEXIST.into());
        RULE_SHARES.get_ptr_mut(source)
    });
    let Some(count) = count else {
        return Share::NoRoom;
    };
    // SAFETY: a word of a map value, which every program changes atomically.
    if unsafe { fetch_add(count, 1) } < u64::from(limit) {
        return Share::Taken;
    }
    // SAFETY: as above.
    unsafe { fetch_add(count, 1_u64.wrapping_neg()) };
    Share::Exceeded
}

#[inline(always)]
fn give_one_back(rule: u16) {
    if let Some(state) = state_of(rule) {
        // SAFETY: an aligned word of a map value.
        unsafe { fetch_add(&raw mut (*state).flows, 1_u64.wrapping_neg()) };
    }
}

/// Gives back what a flow of the rule of that number held.
#[inline(never)]
pub fn give_back(released: u16, key: &Key, family: Family, initiator_high: bool, rule: u16) {
    if released & held::RULE != 0 {
        give_one_back(rule);
    }
    if released & held::RULE_SOURCE == 0 {
        return;
    }
    let Some(state) = state_of(rule) else {
        return;
    };
    // SAFETY: words of a map value that are written before the rule is in force.
    let masks = unsafe { &(*state).source_masks };
    let source = Place::under_rule(key, family, initiator_high, masks, rule);
    let Some(count) = RULE_SHARES.get_ptr_mut(source) else {
        return;
    };
    // SAFETY: as above.
    if unsafe { fetch_add(count, 1_u64.wrapping_neg()) } <= 1 {
        // Gone already: another CPU was faster.
        let _ = RULE_SHARES.remove(source);
    }
}
