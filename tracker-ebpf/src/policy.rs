//! The policy's say about a connection: asked for the first packet of a flow, and
//! once more when another policy is in force.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, bpf_fib_lookup},
    btf_maps::lpm_trie::Key as PrefixKey,
    helpers::generated,
};
use tracker_common::{
    abi::{
        Block, Denial, Event, EventKind, Family, Flow, Hook, INITIATOR, Key, Live, PrefixVectors,
        RESPONDER, Rate, Rule, Side, flow_flags, rule_flags,
    },
    policy::{
        Blocks, Direction, Found, NO_RULE, Subject, Verdict, conforms, decide, first_common,
        is_answer, judges_pickups, tracks_refused, verdict,
    },
    reason::Reason,
    tcp::{Admission, Admitted, Flags, Opening, admit},
};

use crate::{
    event, globals,
    maps::{DENIALS, LIVE, POLICIES, PREFIXES, Policy},
    rules,
    scratch::{self, Scratch},
    table,
    track::{Seen, initiator_of},
};

/// Refusals of connections without a flow that are kept, by CPU: a thousand a second.
/// A flood of them must not cost an insertion each.
const KEPT: Rate = Rate {
    interval_ns: 1_000_000,
    tolerance_ns: 100_000_000,
};

/// `AF_INET` and `AF_INET6` of Linux.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What `bpf_fib_lookup` says of a destination that this host takes itself
/// (`BPF_FIB_LKUP_RET_NOT_FWDED`), or must, since it forwards nothing
/// (`BPF_FIB_LKUP_RET_FWD_DISABLED`).
const NOT_FORWARDED: i64 = 4;
const FORWARDING_DISABLED: i64 = 5;

/// The blocks of a policy in its inner map.
struct InMap {
    policy: &'static Policy,
    slot: u32,
    hook: Hook,
}

impl InMap {
    #[inline(always)]
    fn of(slot: u32, hook: Hook) -> Option<Self> {
        let policy = POLICIES.get(slot)?;
        Some(Self { policy, slot, hook })
    }
}

impl Blocks for InMap {
    #[inline(always)]
    fn block(&self, number: u32) -> Option<&Block> {
        self.policy.get(number)
    }

    #[inline(always)]
    fn first_common(&self, _: &mut Found, chunk: u32) -> u32 {
        tracker_first_common(self.slot, self.hook as u32, chunk)
    }
}

/// The hook of that number.
#[inline(always)]
const fn hook_of(number: u32) -> Hook {
    if number == Hook::Ingress as u32 {
        Hook::Ingress
    } else {
        Hook::Egress
    }
}

/// [`first_common`] of [`Scratch::found`]. Of external linkage, so that the verifier
/// walks it once, and not once for each chunk that there may be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_first_common(slot: u32, hook: u32, chunk: u32) -> u32 {
    let hook = hook_of(hook);
    let (Some(policy), Some(scratch)) = (InMap::of(slot, hook), scratch::of(hook)) else {
        return NO_RULE;
    };
    first_common(&policy, &mut scratch.found, chunk & 63)
}

/// Whether there is a policy.
#[inline(always)]
pub fn is_there() -> bool {
    LIVE.get(0).is_some_and(|live| live.policy_slot != 0)
}

/// [`tracker_common::abi::PolicyHeader::flags`] of the policy in force; 0 without one.
#[inline(always)]
pub fn flags(live: &Live) -> u32 {
    POLICIES
        .get(live.policy_slot.wrapping_sub(1))
        .and_then(|policy| policy.get(0))
        .map_or(0, |block| {
            tracker_common::abi::PolicyHeader::from_block(block).flags
        })
}

/// What is asked about a packet.
#[derive(Clone, Copy)]
pub enum Question {
    /// It may be answered with a SYN cookie: nothing comes to be yet.
    Answer,
    /// It returned a SYN cookie.
    Return,
    /// It would open a flow.
    Open,
}

/// Asks the policy about the packet in `scratch`. Gives the reason with which it
/// leaves; `None` if it goes on, with what its flow must know in
/// [`Scratch::context`].
#[inline(always)]
pub fn judge(scratch: &mut Scratch, seen: &Seen, question: Question) -> Option<Reason> {
    let Some(live) = LIVE.get(0) else {
        return Some(Reason::NotConfigured);
    };
    let ours = scratch.local != 0;
    let opening = match question {
        Question::Answer => Opening::Handshake,
        Question::Return => Opening::Cookie,
        Question::Open => {
            if scratch.restarts != 0 {
                // As the flow whose addresses and ports it has.
                return None;
            }
            let pickups = judges_pickups(flags(live));
            match admit(&scratch.packet.segment, ours, pickups, live) {
                Admission::Open(opening) => opening,
                Admission::Leave(Reason::StrayReset) if is_own(&scratch.event) => {
                    return Some(Reason::OwnRejection);
                }
                Admission::Leave(reason) => return Some(reason),
            }
        }
    };
    let from = Side::from_raw(scratch.from);
    let initiator = match opening {
        Opening::Pickup => initiator_of(&scratch.packet, seen, from).0,
        Opening::Handshake | Opening::Calling | Opening::Answered | Opening::Cookie => from,
    };
    let answers = initiator as u8 != from as u8;
    describe(scratch, seen, answers);
    if tracker_look_up(seen.hook as u32) == 0 {
        return Some(Reason::NotConfigured);
    }
    let flags = scratch.packet.segment.flags;
    let said = verdict(&scratch.found, opening, flags, ours, live);
    if matches!((question, said), (Question::Answer, Verdict::Allow)) {
        return None;
    }
    settle(scratch, seen, initiator, said)
}

/// Whether what has come in is our own answer to what this host has sent, on its way
/// back through the interface ([`crate::reject`]).
#[inline(never)]
pub fn is_own(event: &Event) -> bool {
    let key: &Key = &event.key;
    // SAFETY: a map value of integers, of which any bits are.
    unsafe { DENIALS.get(key) }.is_some_and(|denial| is_answer(denial, event.time_ns))
}

/// Takes from the rule that was found what the flow needs, and counts.
#[inline(always)]
fn settle(scratch: &mut Scratch, seen: &Seen, initiator: Side, said: Verdict) -> Option<Reason> {
    let Scratch {
        packet,
        event,
        context,
        found,
        ..
    } = scratch;
    let family = packet.family();
    let rule = &found.rule;
    let now_ns = event.time_ns;
    let high = matches!(initiator, Side::High);
    rules::hit(rule.number, now_ns);
    if found.shadow != 0 {
        rules::hit(found.shadow, now_ns);
    }
    let mut admitted = Admitted {
        rule: rule.number,
        flags: 0,
        profile: rule.profile,
    };
    if rule.flags & rule_flags::LIBERAL != 0 {
        admitted.flags = flow_flags::LIBERAL;
    }
    let reason = match said {
        Verdict::Leave(reason) => Some(reason),
        Verdict::Allow if !rule.is_limited() => None,
        Verdict::Allow => match rules::take(rule, &event.key, family, high, now_ns) {
            Ok(held) => {
                admitted.flags |= held;
                None
            }
            Err(reason) => Some(reason),
        },
    };
    context.admitted = admitted;
    let told = reason.unwrap_or(Reason::FlowOpened);
    let (flags, shadow_flags) = (rule.flags, found.shadow_flags);
    let (number, shadow) = (rule.number, found.shadow);
    if flags & rule_flags::LOG != 0 {
        report(scratch, seen.ifindex, number, told);
    }
    if shadow != 0 && shadow_flags & rule_flags::LOG != 0 {
        report(scratch, seen.ifindex, shadow, Reason::FlowOpened);
    }
    let reason = reason?;
    scratch.refused = reason as u8;
    keep(scratch, seen.ifindex, number, reason);
    Some(reason)
}

/// Reports what the rule of that number has decided.
#[inline(never)]
fn report(scratch: &mut Scratch, ifindex: u32, rule: u16, reason: Reason) {
    let now_ns = scratch.event.time_ns;
    let Some(left_out) = rules::reports(rule, now_ns) else {
        return;
    };
    scratch.evicted = Event {
        time_ns: now_ns,
        key: scratch.event.key,
        family: scratch.packet.family() as u8,
        kind: EventKind::Decided as u8,
        reason: reason as u8,
        flags: scratch.packet.segment.flags.0.into(),
        ifindex,
        packets: [left_out, 0],
        rule,
        direction: scratch.subject.direction,
        from: scratch.from,
        ..Event::default()
    };
    event::send(&scratch.evicted, false);
}

/// Keeps the refusal of a connection that has no flow.
#[inline(never)]
fn keep(scratch: &mut Scratch, ifindex: u32, rule: u16, reason: Reason) {
    let time_ns = scratch.event.time_ns;
    // What this host itself sends is known again by this when its answer comes back.
    if scratch.local == 0 {
        let Some(due) = conforms(scratch.kept_due_ns, time_ns, &KEPT) else {
            return;
        };
        scratch.kept_due_ns = due;
    }
    let denial = Denial {
        time_ns,
        ifindex,
        rule,
        reason: reason as u8,
        flags: scratch.packet.segment.flags.0,
        from: scratch.from,
        direction: scratch.subject.direction,
        reserved: [0; 6],
    };
    // Without room nobody can be told later why.
    let key: &Key = &scratch.event.key;
    let _ = DENIALS.insert(key, denial, BPF_ANY.into());
}

/// Writes down who opens what to whom, for a packet whose sender has opened it, or
/// `answers`.
#[inline(always)]
fn describe(scratch: &mut Scratch, seen: &Seen, answers: bool) {
    let taken = match seen.hook {
        Hook::Ingress => !globals::gateway() || is_taken(scratch, seen),
        Hook::Egress => false,
    };
    let packet = &scratch.packet;
    let direction = Direction::of(seen.hook, scratch.local != 0, taken, answers);
    let source = (packet.source, packet.source_port);
    let destination = (packet.destination, packet.destination_port);
    let (from, to) = if answers {
        (destination, source)
    } else {
        (source, destination)
    };
    scratch.subject = Subject {
        from: from.0,
        to: to.0,
        from_port: from.1,
        to_port: to.1,
        ifindex: seen.ifindex,
        family: packet.family() as u8,
        direction: direction as u8,
        reserved: [0; 2],
    };
}

/// Whether the packet, which came in, is for this host itself: by its own routes.
#[inline(always)]
fn is_taken(scratch: &mut Scratch, seen: &Seen) -> bool {
    let packet = &scratch.packet;
    let family = match packet.family() {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    scratch.route = Route {
        family,
        protocol: 6,
        ports: [packet.source_port.to_be(), packet.destination_port.to_be()],
        length: 0,
        ifindex: seen.ifindex,
        flow: 0,
        source: packet.source,
        destination: packet.destination,
        rest: [0; 4],
    };
    is_taken_to(seen.context, &mut scratch.route)
}

/// `struct bpf_fib_lookup` of include/uapi/linux/bpf.h, whose unions hide its parts.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Route {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    length: u16,
    ifindex: u32,
    flow: u32,
    source: [u32; 4],
    destination: [u32; 4],
    rest: [u32; 4],
}

const _: () = assert!(size_of::<Route>() == size_of::<bpf_fib_lookup>());

#[inline(always)]
fn is_taken_to(context: *mut c_void, route: &mut Route) -> bool {
    // SAFETY: the context is this program's, and the helper reads and writes no more
    // than it is told of.
    let answer = unsafe {
        generated::bpf_fib_lookup(
            context,
            (&raw mut *route).cast(),
            size_of::<Route>() as i32,
            0,
        )
    };
    answer == NOT_FORWARDED || answer == FORWARDING_DISABLED
}

/// Finds the rule that decides about [`Scratch::subject`]: 1 if there is one. Of
/// external linkage for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracker_look_up(hook: u32) -> u32 {
    let hook = hook_of(hook);
    let (Some(scratch), Some(live)) = (scratch::of(hook), LIVE.get(0)) else {
        return 0;
    };
    let slot = live.policy_slot.wrapping_sub(1);
    let subject = &scratch.subject;
    let from = vectors(slot, subject.family(), subject.from);
    let to = vectors(slot, subject.family(), subject.to);
    let (Some(from), Some(to), Some(policy)) = (from, to, InMap::of(slot, hook)) else {
        return 0;
    };
    decide(&policy, &scratch.subject, from, to, &mut scratch.found).into()
}

/// The vectors of the longest prefix that holds an address.
#[inline(always)]
fn vectors(slot: u32, family: Family, address: [u32; 4]) -> Option<PrefixVectors> {
    let [a, b, c, d] = address;
    let (bits, data) = match family {
        Family::V4 => (32 + 32, [family as u32, a, 0, 0, 0]),
        Family::V6 => (32 + 128, [family as u32, a, b, c, d]),
    };
    PREFIXES
        .get(slot)?
        .get(&PrefixKey::new(bits, data))
        .copied()
}

/// Asks the policy once more about the flow of the packet in `scratch`, which an
/// earlier one has judged: whether the flow ends. `None` if there is no flow. What
/// else it says is in [`Scratch::context`], for [`crate::track::rejudge`].
#[inline(always)]
pub fn judge_again(scratch: &mut Scratch, seen: &Seen) -> Option<bool> {
    let (Some(live), Some(flow)) = (
        LIVE.get(0),
        table::find(scratch.packet.family(), &scratch.event.key),
    ) else {
        return None;
    };
    // SAFETY: a map value of integers, of which any bits are. If it is another
    // flow's by now, that is found out under the lock.
    let flow: &Flow = unsafe { &*flow.cast_const() };
    let from = flow.index_of(Side::from_raw(scratch.from));
    let answers = from == RESPONDER;
    describe(scratch, seen, answers);
    let path = flow.paths[INITIATOR];
    if path.is_known() {
        scratch.subject.ifindex = path.ifindex();
    }
    if live.policy_slot == 0 {
        scratch.context.admitted = Admitted::default();
        return Some(false);
    }
    if tracker_look_up(seen.hook as u32) == 0 {
        return None;
    }
    let rule: &Rule = &scratch.found.rule;
    scratch.context.admitted = Admitted {
        rule: rule.number,
        flags: 0,
        profile: rule.profile,
    };
    let flags = Flags(Flags::SYN);
    let said = verdict(&scratch.found, Opening::Handshake, flags, false, live);
    Some(match said {
        Verdict::Allow => false,
        Verdict::Leave(reason) => !tracks_refused(reason, live),
    })
}
