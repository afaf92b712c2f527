//! What becomes of a packet that would open a flow.

use super::{Action, Found};
use crate::{
    abi::{Live, Mode, rule_flags},
    reason::Reason,
    tcp::Opening,
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

/// What becomes of a packet that would open a flow by `opening`, by the rule that was
/// found. Limits of that rule are asked afterwards.
#[inline(always)]
#[must_use]
pub const fn verdict(found: &Found, opening: Opening, local: bool) -> Verdict {
    match Action::from_raw(found.rule.action) {
        Action::Allow => {}
        Action::Drop => return Verdict::Leave(Reason::PolicyDropped),
        Action::Reset => return Verdict::Leave(Reason::PolicyReset),
        Action::Prohibit => return Verdict::Leave(Reason::PolicyProhibited),
    }
    if matches!(opening, Opening::Pickup) && found.rule.flags & rule_flags::NO_PICKUP != 0 {
        let stray = if local {
            Reason::LocalStray
        } else {
            Reason::StrayAck
        };
        return Verdict::Leave(stray);
    }
    Verdict::Allow
}

/// Whether a packet that the policy refuses has a flow nevertheless: where nothing is
/// enforced the connection goes on, and people want to see it.
#[inline(always)]
#[must_use]
pub const fn tracks_refused(live: &Live) -> bool {
    live.mode == Mode::Observe as u8
}
