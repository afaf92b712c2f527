//! What becomes of a packet that would open a flow.

use super::{Action, Direction, Found};
use crate::{
    abi::{Denial, Live, Mode, policy_flags, rule_flags},
    reason::Reason,
    tcp::{Flags, Opening, stray},
};

/// What the policy says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be.
    Allow,
    /// Its packet leaves with this reason. Where nothing is enforced its flow is
    /// tracked all the same.
    Leave(Reason),
}

/// What becomes of a packet with `flags` that would open a flow by `opening`, by the
/// rule that was found. Limits of that rule are asked afterwards. `local`: this host
/// sends it.
#[inline(always)]
#[must_use]
pub const fn verdict(
    found: &Found,
    opening: Opening,
    flags: Flags,
    local: bool,
    live: &Live,
) -> Verdict {
    let rule = &found.rule;
    if matches!(opening, Opening::Pickup) {
        let wanted = live.pickup != 0 && rule.flags & rule_flags::NO_PICKUP == 0;
        if !wanted && rule.flags & rule_flags::PICKUP == 0 {
            return Verdict::Leave(stray(flags, local));
        }
    }
    match Action::from_raw(rule.action) {
        Action::Allow => Verdict::Allow,
        Action::Drop => Verdict::Leave(Reason::PolicyDropped),
        Action::Reset => Verdict::Leave(Reason::PolicyReset),
        Action::Prohibit => Verdict::Leave(Reason::PolicyProhibited),
    }
}

/// Whether a packet that leaves with `reason` opens a flow nevertheless: where nothing
/// is enforced the connection that the policy refuses goes on, and people want to see
/// it.
#[inline(always)]
#[must_use]
pub const fn tracks_refused(reason: Reason, live: &Live) -> bool {
    let number = reason as u8;
    live.mode == Mode::Observe as u8
        && number >= Reason::PolicyDropped as u8
        && number <= Reason::RuleSourceFlows as u8
}

/// How a packet is answered that leaves with `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// With an RST.
    Reset,
    /// With an ICMP error.
    Prohibited,
}

/// How a packet is answered that leaves with `reason`, if it is.
#[inline(always)]
#[must_use]
pub const fn rejection(reason: Reason, live: &Live) -> Option<Rejection> {
    if live.mode != Mode::Enforce as u8 {
        return None;
    }
    if reason as u8 == Reason::PolicyReset as u8 {
        Some(Rejection::Reset)
    } else if reason as u8 == Reason::PolicyProhibited as u8 {
        Some(Rejection::Prohibited)
    } else {
        None
    }
}

/// The reason of an ICMP error about a segment of no flow, which this host itself
/// sends (`ours`) or not, under a policy with these [`policy_flags`].
#[inline(always)]
#[must_use]
pub const fn unrelated(flags: u32, ours: bool) -> Reason {
    if flags & policy_flags::CLOSED != 0 && !ours {
        Reason::IcmpStray
    } else {
        Reason::IcmpUnrelated
    }
}

/// How long an answer to a rejected packet is on its way to this host itself, ns. Less
/// than a millisecond; the coarse clock may be 10 ms late.
const ANSWER_NS: u64 = 1_000_000_000;

/// Whether `denial`, of the same addresses and ports, was answered with what has come
/// in at `now_ns`: it was of a packet that this host sent just before.
#[inline(always)]
#[must_use]
pub const fn is_answer(denial: &Denial, now_ns: u64) -> bool {
    let reason = denial.reason;
    let answered = reason == Reason::PolicyReset as u8 || reason == Reason::PolicyProhibited as u8;
    answered
        && denial.direction == Direction::Out as u8
        && now_ns.wrapping_sub(denial.time_ns) < ANSWER_NS
}
