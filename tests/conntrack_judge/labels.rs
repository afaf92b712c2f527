//! From our pairs of endpoint states to conntrack's labels.
//!
//! Conntrack has one state for both ends, and moves it by flags: a FIN leads to
//! FIN_WAIT, any ACK after that to CLOSE_WAIT, any further FIN to LAST_ACK (the
//! first one sent again is enough), any ACK after that to TIME_WAIT. It does not
//! ask what an ACK acknowledges nor who sends it, so a pair has more than one
//! label; which, is below.

use tracker_common::tcp::State::{self, *};

use crate::kernel::Label;

/// The labels that fit both ends' states.
///
/// `fin_again` says that an end has sent its FIN more than once, which conntrack
/// counts as FINs of both.
pub fn labels(pair: Option<[State; 2]>, fin_again: bool) -> &'static [Label] {
    let Some([a, b]) = pair else {
        return &[Label::Gone];
    };
    let sent_fin = |state| matches!(state, FinWait1 | FinWait2 | Closing | LastAck | TimeWait);
    match (a, b) {
        // An RST. An entry that was never answered goes with it.
        (Closed, Closed) => &[Label::Close, Label::Gone],
        (SynSent, Listen) | (Listen, SynSent) => &[Label::SynSent],
        (SynSent, SynSent) => &[Label::SynSent2],
        // The ACK that opens one end is not always what opens the other; and in a
        // simultaneous open any ACK of the first end opens conntrack's entry.
        (SynReceived, Established) | (Established, SynReceived) | (SynReceived, SynSent) => {
            &[Label::SynRecv, Label::Established]
        }
        (SynReceived, _) | (_, SynReceived) if !sent_fin(a) && !sent_fin(b) => &[Label::SynRecv],
        (Established, Established) => &[Label::Established],
        // Both have closed, and the last ACK was seen: LAST_ACK closes by it, or
        // both were closing.
        (TimeWait, Closed) | (Closed, TimeWait) | (TimeWait, TimeWait) => &[Label::TimeWait],
        // Both have closed: any ACK since then is the last one to conntrack.
        (a, b) if sent_fin(a) && (sent_fin(b) || b == Closed) || sent_fin(b) && a == Closed => {
            &[Label::LastAck, Label::TimeWait]
        }
        // One has closed, and its FIN is acknowledged ...
        (CloseWait, _) | (_, CloseWait) if !fin_again => &[Label::CloseWait],
        // ... or not: any ACK since then acknowledges it to conntrack.
        _ if !fin_again => &[Label::FinWait, Label::CloseWait],
        // The same, and a FIN came again: any ACK since then is the last one.
        _ => &[
            Label::FinWait,
            Label::CloseWait,
            Label::LastAck,
            Label::TimeWait,
        ],
    }
}
