//! How long a flow may be silent before it is forgotten.
//!
//! A time-out belongs to the *pair* of states: how long an endpoint may be
//! silent depends on what its peer may still do.

use super::{Bits, State};
use crate::{
    abi::{Cause, Flow, Live, PROFILES, end_flags, flow_flags, held},
    time::{Tick, ticks_from_ms},
};

/// What a flow waits for. Indexes [`Live::timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// A SYN without an answer.
    SynSent = 0,
    /// A SYN-ACK without an answer, or SYNs from both sides.
    SynReceived = 1,
    /// Both ends established.
    Established = 2,
    /// A FIN that is not acknowledged.
    FinWait = 3,
    /// One side has closed, the other may go on sending for as long as it
    /// likes.
    HalfClosed = 4,
    /// Both have closed, the last FIN is not acknowledged.
    LastAck = 5,
    /// 2MSL (RFC 9293 section 3.4.1) after the last FIN was acknowledged.
    TimeWait = 6,
    /// Nothing: the flow is over and only kept to recognise what comes late.
    Closed = 7,
    /// Proof that a connection met in mid-life is real.
    Pickup = 8,
    /// An endpoint that answers: one end has sent data that the other has not
    /// acknowledged, or an inexact RST came.
    Unacknowledged = 9,
    /// The same after three retransmissions in a row without progress.
    Retransmitting = 10,
}

/// Number of classes.
pub const CLASSES: usize = 11;

impl Class {
    /// Every class, in the order of its number.
    pub const ALL: [Self; CLASSES] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::HalfClosed,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
        Self::Pickup,
        Self::Unacknowledged,
        Self::Retransmitting,
    ];

    /// The key in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::FinWait => "fin_wait",
            Self::HalfClosed => "half_closed",
            Self::LastAck => "last_ack",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::Pickup => "pickup",
            Self::Unacknowledged => "unacknowledged",
            Self::Retransmitting => "retransmitting",
        }
    }
}

/// A set of time-outs that somebody has lived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// nf_conntrack's (`tcp_timeouts[]` in
    /// net/netfilter/nf_conntrack_proto_tcp.c, Linux 6.12).
    Linux,
    /// pf's (pf.conf(5), `set timeout`).
    Pf,
    /// RFC 9293 and RFC 5382 taken by the letter.
    Rfc,
    /// pf's `aggressive` preset.
    Aggressive,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 4] = [Self::Linux, Self::Pf, Self::Rfc, Self::Aggressive];

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Pf => "pf",
            Self::Rfc => "rfc",
            Self::Aggressive => "aggressive",
        }
    }

    /// Seconds for each [`Class`], in the order of their numbers.
    #[must_use]
    pub const fn seconds(self) -> [u32; CLASSES] {
        match self {
            // Half-closed is ours: Linux cuts a half-closed flow after 60 s of
            // silence (CLOSE_WAIT), which an honest slow sender has; pf grants
            // 900 s. A pick-up without proof is bounded more tightly than
            // nf_conntrack's 300 s, since anybody can send a stray ACK.
            Self::Linux => [120, 60, 432_000, 120, 900, 30, 120, 10, 30, 300, 300],
            // tcp.first, opening, established, closing (one FIN seen), closing,
            // finwait (both), closed, closed; opening for what is not proved.
            Self::Pf => [120, 30, 86_400, 900, 900, 45, 90, 90, 30, 300, 300],
            // MSL is two minutes, hence 240 s of TIME-WAIT (RFC 9293 section
            // 3.4.2); RFC 5382 REQ-5: established not below 2 h 4 min,
            // transitory not below 4 min. RFC 9293 puts no bound on a
            // half-closed connection: it gets that of an established one.
            Self::Rfc => [240, 240, 7440, 240, 7440, 240, 240, 240, 240, 300, 300],
            Self::Aggressive => [30, 5, 18_000, 60, 60, 30, 30, 30, 5, 150, 150],
        }
    }
}

/// Whether a flow in these states waits out 2MSL.
#[inline(always)]
#[must_use]
pub const fn waits_2msl(states: [Bits; 2]) -> bool {
    states[0].is(State::TimeWait) || states[1].is(State::TimeWait)
}

impl Profile {
    /// Its row in [`Live::timeouts`], 1 to 4.
    #[must_use]
    pub const fn index(self) -> u8 {
        self as u8 + 1
    }

    /// The same in ticks.
    #[must_use]
    pub const fn ticks(self) -> [u32; CLASSES] {
        let seconds = self.seconds();
        let mut ticks = [0; CLASSES];
        let mut class = 0;
        while class < CLASSES {
            ticks[class] = ticks_from_ms(seconds[class] as u64 * 1000);
            class += 1;
        }
        ticks
    }
}

/// [`Live::timeouts`]: those that are configured, which are for flows whose rule
/// names no profile, then those of [`Profile::ALL`] by [`Profile::index`].
#[must_use]
pub const fn rows(configured: &[u32; CLASSES]) -> [[u32; 16]; PROFILES] {
    let mut rows = [row(configured); PROFILES];
    let mut profile = 0;
    while profile < Profile::ALL.len() {
        rows[profile + 1] = row(&Profile::ALL[profile].ticks());
        profile += 1;
    }
    rows
}

const fn row(ticks: &[u32; CLASSES]) -> [u32; 16] {
    let mut row = [0; 16];
    let mut class = 0;
    while class < CLASSES {
        row[class] = ticks[class];
        class += 1;
    }
    row
}

/// What a flow in these states waits for.
///
/// Read as: the first line that fits. States are [initiator, responder].
#[must_use]
pub const fn class_of(states: [State; 2]) -> Class {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
        SynSent, TimeWait,
    };
    match states {
        // One end is gone for good and the other waits out 2MSL, or both are.
        [TimeWait, _] | [_, TimeWait] => Class::TimeWait,
        [Closed, _] | [_, Closed] => Class::Closed,
        // Handshakes.
        [SynReceived, _] | [_, SynReceived] => Class::SynReceived,
        [SynSent, SynSent] => Class::SynReceived,
        [SynSent | Listen, _] | [_, SynSent | Listen] => Class::SynSent,
        // Both have sent a FIN.
        [LastAck | Closing, _] | [_, LastAck | Closing] => Class::LastAck,
        [FinWait1, FinWait1 | FinWait2] | [FinWait2, FinWait1 | FinWait2] => Class::LastAck,
        // One has, and the other acknowledged it.
        [FinWait2, Established | CloseWait] | [Established | CloseWait, FinWait2] => {
            Class::HalfClosed
        }
        // One has, and it is not acknowledged.
        [FinWait1, Established | CloseWait] | [Established | CloseWait, FinWait1] => Class::FinWait,
        // CLOSE_WAIT is proved by the ACK that moves the peer to FIN_WAIT_2,
        // so two of them, or one beside ESTABLISHED, only stand for a peer
        // whose FIN was seen.
        [CloseWait, Established | CloseWait] | [Established, CloseWait] => Class::HalfClosed,
        [Established, Established] => Class::Established,
    }
}

/// [`class_of`] as a table: it is asked for every packet, under the lock.
const CLASS_BY_STATES: [[u8; 16]; 16] = {
    let mut table = [[Class::Closed as u8; 16]; 16];
    let mut a = 0;
    while a < State::COUNT {
        let mut b = 0;
        while b < State::COUNT {
            table[a][b] = class_of([State::ALL[a], State::ALL[b]]) as u8;
            b += 1;
        }
        a += 1;
    }
    table
};

/// Number of [`class_of`] the flow's states, as they are once doubts have
/// settled: whoever doubts a state does not let the flow expire by it. `veil` is
/// [`super::Context::veil`]; added last, so that what comes out of one table is
/// masked before it is looked up in the next.
#[inline(always)]
const fn class_number(flow: &Flow, veil: u8) -> u8 {
    let [a, b] = believed_both(flow, veil);
    let a = a.number().wrapping_add(veil) & 0x0f;
    let b = b.number().wrapping_add(veil) & 0x0f;
    CLASS_BY_STATES[a as usize][b as usize]
}

/// Number of the class that a fact about this very flow shortens its time-out
/// to; its own where there is none.
///
/// An endpoint with data in flight does not stay silent: it sends them again
/// within its longest retransmission time-out (120 s in Linux, `TCP_RTO_MAX`;
/// RFC 6298 section 2.5 allows down to 60 s), or gives up. So a long silence
/// with data in flight says more than one without (nf_conntrack's
/// `timeout_unacknowledged` and `timeout_max_retrans`).
#[inline(always)]
const fn shortened(flow: &Flow, class: u8) -> u8 {
    const LONG: u16 = 1 << Class::Established as u16 | 1 << Class::HalfClosed as u16;
    if LONG >> (class & 0x0f) & 1 == 0 {
        return class;
    }
    if flow.has(held::PICKUP) {
        return Class::Pickup as u8;
    }
    let [initiator, responder] = &flow.ends;
    // By arithmetic, since every comparison doubles what the verifier follows:
    // both bits of a run that is at its maximum, and the sign of what is not
    // acknowledged.
    const _: () = assert!(end_flags::RUN_MAX == 3 && end_flags::RUN_SHIFT == 6);
    if (initiator.flags & initiator.flags << 1 | responder.flags & responder.flags << 1) & 0x80 != 0
    {
        return Class::Retransmitting as u8;
    }
    let inexact = (flow.flags & flow_flags::RST_INEXACT_BOTH) as u32;
    let in_flight = responder.ack.since(initiator.end) | initiator.ack.since(responder.end);
    if inexact | in_flight >> 31 != 0 {
        return Class::Unacknowledged as u8;
    }
    class
}

/// The class that this very flow waits in.
#[must_use]
pub const fn class_of_flow(flow: &Flow) -> Class {
    Class::ALL[shortened(flow, class_number(flow, 0)) as usize]
}

/// A time-out of the profile that holds for `flow`.
#[inline(always)]
const fn ticks_of(flow: &Flow, class: u8, live: &Live) -> u32 {
    live.timeouts[flow.profile()][(class & 0x0f) as usize]
}

/// The time-out that is in force for `flow`, in ticks.
#[inline(always)]
#[must_use]
pub fn timeout_ticks(flow: &Flow, live: &Live) -> u32 {
    timeout_ticks_veiled(flow, live, 0)
}

/// [`timeout_ticks`] for the packet path; `veil` is [`super::Context::veil`].
#[inline(always)]
fn timeout_ticks_veiled(flow: &Flow, live: &Live, veil: u8) -> u32 {
    let class = class_number(flow, veil);
    let own = ticks_of(flow, class, live);
    // A fact only ever shortens, whatever the configuration says.
    let shorter = ticks_of(flow, shortened(flow, class).wrapping_add(veil), live);
    let ticks = if shorter < own { shorter } else { own };
    scaled(ticks, live)
}

/// `ticks` under the pressure that there is.
#[inline(always)]
pub(super) fn scaled(ticks: u32, live: &Live) -> u32 {
    ((u64::from(ticks) * u64::from(live.timeout_scale)) >> 10) as u32
}

/// Whether a responder has repeated its SYN-ACK more often than it may.
///
/// Only what it repeats of its own accord counts: every SYN that comes again
/// draws one more (RFC 9293 section 3.10.7.4, first).
#[inline(always)]
const fn gave_up(flow: &Flow, live: &Live, veil: u8) -> bool {
    let [initiator, responder] = &flow.ends;
    responder
        .syn_retransmits
        .saturating_sub(initiator.syn_retransmits)
        > live.syn_ack_retries
        && class_number(flow, veil) == Class::SynReceived as u8
}

/// Whether a segment that moved no state starts the time-out of `flow` anew.
///
/// Not in a handshake, or whoever repeats a SYN keeps an entry for ever: it has
/// [`Class::SynSent`] from its first SYN and [`Class::SynReceived`] from its
/// first SYN-ACK, which may answer a late repetition of the SYN (Linux: up to
/// 63 s after the first). And in TIME_WAIT only a FIN does, which comes again
/// (RFC 9293 section 3.10.7.4, eighth). `veil` is [`super::Context::veil`].
#[inline(always)]
pub(super) const fn refreshes(flow: &Flow, fin: bool, veil: u8) -> bool {
    const HANDSHAKE: u16 = 1 << Class::SynSent as u16 | 1 << Class::SynReceived as u16;
    let patient = HANDSHAKE | (!fin as u16) << Class::TimeWait as u16;
    patient >> (class_number(flow, veil) & 0x0f) & 1 == 0
}

/// Ticks until `flow` expires, 0 when it has.
#[inline(always)]
#[must_use]
pub fn remaining(flow: &Flow, now: Tick, live: &Live) -> u32 {
    let flow = &settled(flow, now);
    if gave_up(flow, live, 0) {
        return 0;
    }
    timeout_ticks(flow, live).saturating_sub(now.since(flow.last))
}

/// Whether `flow` has expired: to the packet path it is absent from then on,
/// swept or not.
#[inline(always)]
#[must_use]
pub fn expired(flow: &Flow, now: Tick, live: &Live) -> bool {
    expired_veiled(&settled(flow, now), now, live, 0)
}

/// [`expired`] for the packet path, which has called [`settle_doubts`]; `veil`
/// is [`super::Context::veil`].
#[inline(always)]
pub(super) fn expired_veiled(flow: &Flow, now: Tick, live: &Live, veil: u8) -> bool {
    now.since(flow.last) >= timeout_ticks_veiled(flow, live, veil) || gave_up(flow, live, veil)
}

/// How long a state that was taken back is believed after the retransmission
/// that took it back, in ticks: until the next one must have come.
///
/// A segment that comes again tells that the endpoint had not seen the answer
/// when it sent it, which says the same of now only if the answer was lost.
/// Then it sends again, each time after twice as long: a first retransmission
/// time-out of 1.5 s at most doubles `disproved` times.
#[inline(always)]
const fn doubt_ticks(flow: &Flow) -> u32 {
    /// By the number of times; no retransmission time-out exceeds 240 s.
    const BY_TIMES: [u32; 64] = {
        let mut ticks = [ticks_from_ms(240_000); 64];
        let mut times = 0;
        while times < 7 {
            ticks[times] = ticks_from_ms(3000 << times);
            times += 1;
        }
        ticks
    };
    BY_TIMES[(flow.disproved() & 0x3f) as usize]
}

/// Returns to the states that were taken on sight and then back, where the
/// endpoint has not sent again since for so long that it must have had its
/// answer. Whoever looks at a flow's states looks after this.
#[inline(always)]
pub fn settle_doubts(flow: &mut Flow, now: Tick) {
    if !flow.is_in_doubt() || now.since(flow.last) < doubt_ticks(flow) {
        return;
    }
    let [initiator, responder] = believed_both(flow, 0);
    flow.ends[0].set_bits(initiator);
    flow.ends[1].set_bits(responder);
    flow.end_doubts();
}

/// `flow` after [`settle_doubts`].
#[inline(always)]
#[must_use]
pub fn settled(flow: &Flow, now: Tick) -> Flow {
    let mut flow = *flow;
    settle_doubts(&mut flow, now);
    flow
}

/// Both states as they are once doubts have settled; `veil` is
/// [`super::Context::veil`].
#[inline(always)]
const fn believed_both(flow: &Flow, veil: u8) -> [Bits; 2] {
    let [a, b] = flow.bits();
    [
        believed(Bits::of(a.number().wrapping_add(veil)), flow.doubt_mask(0)),
        believed(Bits::of(b.number().wrapping_add(veil)), flow.doubt_mask(1)),
    ]
}

/// The state that was taken on sight where `mask` is all ones, `state` where it
/// is 0: by arithmetic, for the verifier's sake.
#[inline(always)]
const fn believed(state: Bits, mask: u8) -> Bits {
    let number = state.number();
    let believed = BELIEVED[(number & 0x0f) as usize] as u8;
    Bits::of((number & !mask) | (believed & mask))
}

/// The state that was taken on sight, for each that a retransmission takes back
/// to (the cells marked `Back` in the table of states).
const BELIEVED: [State; 16] = {
    let mut believed = [State::Closed; 16];
    let mut index = 0;
    while index < State::COUNT {
        believed[index] = State::ALL[index];
        index += 1;
    }
    believed[State::SynReceived as usize] = State::Established;
    believed[State::FinWait1 as usize] = State::FinWait2;
    believed[State::Closing as usize] = State::TimeWait;
    believed[State::LastAck as usize] = State::Closed;
    believed
};

/// Whether `flow` may be removed for `cause`, which somebody proposed who saw it
/// a moment ago.
#[inline(always)]
#[must_use]
pub fn removable(flow: &Flow, cause: Cause, now: Tick, live: &Live) -> bool {
    let flow = &settled(flow, now);
    match cause {
        Cause::Expired => expired_veiled(flow, now, live, 0),
        Cause::TimeWaitLimit => waits_2msl(flow.bits()),
        Cause::Evicted => rank(flow).is_some(),
        Cause::Replaced | Cause::Flushed | Cause::Revoked => true,
    }
}

/// In which order flows make room in a full table, the lowest number first;
/// `None` for one that never does: both ends established and seen, or on their
/// orderly way out with data still to come.
#[inline(always)]
#[must_use]
pub fn rank(flow: &Flow) -> Option<u8> {
    const BY_CLASS: [u8; 16] = {
        let mut ranks = [NEVER; 16];
        ranks[Class::SynSent as usize] = 1;
        ranks[Class::SynReceived as usize] = 1;
        ranks[Class::TimeWait as usize] = 2;
        ranks[Class::Closed as usize] = 2;
        ranks[Class::LastAck as usize] = 2;
        ranks[Class::FinWait as usize] = 2;
        ranks
    };
    const NEVER: u8 = 0;
    const IDLE: u8 = 3;
    let rank = BY_CLASS[(class_number(flow, 0) & 0x0f) as usize];
    let [initiator, responder] = &flow.ends;
    let both = initiator.flags & responder.flags & end_flags::SEEN != 0;
    if rank != NEVER {
        Some(rank)
    } else if both {
        None
    } else {
        Some(IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_in_order() {
        for (index, class) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, index);
        }
    }

    #[test]
    fn an_honest_half_closed_flow_outlives_a_handshake() {
        for profile in Profile::ALL {
            let seconds = profile.seconds();
            assert!(seconds[Class::HalfClosed as usize] >= seconds[Class::FinWait as usize]);
            assert!(seconds.iter().all(|&s| s > 0), "{profile:?}");
        }
    }

    #[test]
    fn pairs_are_classed_alike_from_either_side() {
        for a in State::ALL {
            for b in State::ALL {
                assert_eq!(class_of([a, b]), class_of([b, a]), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_timeout_that_has_run_out_is_expired_and_not_a_tick_earlier() {
        let mut live = Live::observing(Profile::Linux);
        live.timeouts[0][Class::Established as usize] = 100;
        let mut flow = Flow {
            first: Tick(0),
            last: Tick(50),
            ..Flow::default()
        };
        flow.ends[0].set_state(State::Established);
        flow.ends[1].set_state(State::Established);
        assert!(!expired(&flow, Tick(149), &live));
        assert_eq!(remaining(&flow, Tick(149), &live), 1);
        assert!(expired(&flow, Tick(150), &live));
        live.timeout_scale = 512;
        assert!(expired(&flow, Tick(100), &live));
    }
}
