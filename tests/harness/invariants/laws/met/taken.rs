//! The numbers that a flow takes from a segment, and those that a refusal tells.

use tracker_common::{
    abi::{Bound, end_flags},
    reason::Reason,
    seq::Seq,
    tcp::{Flags, State},
};

use super::Met;

/// Milliseconds by which an honest timestamp may be late.
const LATE: u32 = 30_000;

impl Met<'_> {
    /// The right edge that the segment tells its receiver. The window of a SYN is
    /// not scaled, and a closed one admits a probe of an octet.
    pub(super) fn edge(&self) -> Seq {
        let segment = self.segment;
        let shift = if segment.flags.has(Flags::SYN) {
            0
        } else {
            self.settled.ends[self.me].scale()
        };
        segment
            .ack
            .plus((u32::from(segment.window) << shift).max(1))
    }

    /// The edge of its peer after a segment that may open the window.
    pub(super) fn opened(&self) -> Seq {
        let ends = &self.settled.ends;
        let (known, edge) = (ends[self.me].has(end_flags::SEEN), self.edge());
        let old = ends[self.me ^ 1].max_end;
        if known { old.max(edge) } else { edge }
    }

    /// A segment behind the SYNs brings what lies in it, and nothing else.
    pub(super) fn took(&self) {
        let (me, peer) = (self.me, self.me ^ 1);
        let (was, is) = (&self.settled.ends, &self.after.flow.ends);
        let segment = self.segment;
        assert_eq!(was[me].isn, is[me].isn);
        // Not all was seen of what was sent.
        let anchorless = self.reason == Reason::Liberal
            || self.settled.is_liberal()
            || self.settled.is_unanchored();
        let brings = segment.length() != 0 || anchorless;
        let end = if brings && segment.end().after(was[me].end) {
            segment.end()
        } else {
            was[me].end
        };
        assert_eq!(is[me].end, end, "{:?}: {segment:?} on {was:?}", self.reason);
        let fin = was[me].has(end_flags::FIN) || segment.flags.has(Flags::FIN);
        assert_eq!(is[me].has(end_flags::FIN), fin);
        assert!(
            is[me].ack == segment.ack
                || is[me].ack == was[me].ack && !segment.ack.after(was[me].ack),
            "{:?}: {segment:?} on {was:?} leaves {is:?}",
            self.reason
        );
        // It acknowledges a SYN-ACK that had been passed over, whose numbers hold.
        if was[peer].isn != is[peer].isn {
            let pending = self.before.pending.as_deref().expect("a SYN-ACK");
            assert_eq!(is[peer].isn, pending.seq);
            return;
        }
        let seen = if anchorless {
            was[peer].end.max(segment.ack)
        } else {
            was[peer].end
        };
        assert_eq!(
            is[peer].end, seen,
            "{:?}: {segment:?} on {was:?}",
            self.reason
        );
        assert_eq!(is[me].max_end, was[me].max_end);
        let expected = [was[peer].max_end, self.opened()];
        assert!(
            expected.contains(&is[peer].max_end),
            "{:?}: {segment:?} on {was:?} leaves {is:?}",
            self.reason
        );
    }

    /// The numbers that a refusal tells are the flow's own.
    pub(super) fn bound_is_the_flows(&self, bound: &Bound) {
        let [me, peer] = [self.me, self.me ^ 1].map(|end| &self.settled.ends[end]);
        let Bound { low, high, .. } = *bound;
        let known = match self.reason {
            Reason::HandshakeWrongAck | Reason::ResetWrongAck => {
                [low, high] == [peer.isn.plus(1).0, peer.end.0]
            }
            Reason::AckUnsent => {
                let sent = if self.settled.is_unanchored() {
                    peer.end.max(peer.max_end)
                } else {
                    peer.end
                };
                [low, high] == [peer.isn.0, sent.0]
            }
            Reason::BeyondFin => me.has(end_flags::FIN) && [low, high] == [me.isn.0, me.end.0],
            Reason::BeyondWindow | Reason::ResetOutsideWindow => {
                let silent = matches!(peer.state(), State::Listen | State::SynSent);
                let next = if silent { me.isn } else { peer.ack };
                (low == next.0 || low == next.plus(1).0) && high == me.max_end.0
            }
            Reason::TimestampOld => high == me.ts && high.wrapping_sub(low) >= LATE,
            _ => false,
        };
        assert!(
            known,
            "{:?} by {bound:?}, which is not of {:?}",
            self.reason, self.settled
        );
    }
}
