//! How a flow comes to be: what a segment without one may do.

use super::{CLOSED, Context, Flags, Options, Outcome, Segment, State};
use crate::{
    abi::{
        AtLimit, Bound, Endpoint, EventKind, Flow, INITIATOR, Live, Origin, RESPONDER,
        defence_flags, end_flags, flow_flags, held, switches,
    },
    reason::Reason,
    seq::Seq,
};

/// Largest window scale (RFC 7323 section 2.3: "MUST … use 14").
pub(super) const MAX_SCALE: u8 = 14;

/// How a new flow opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By a SYN that comes from elsewhere; needs a half-open reservation.
    Handshake,
    /// By a SYN of one of this host's own clients, which is nobody's attack.
    Calling,
    /// In mid-life; needs a reservation for flows that wait for proof.
    Pickup,
    /// By a SYN-ACK that answers [`Context::pending`]; half-open like the first.
    Answered,
    /// By a SYN cookie that came back: [`Context::pending`] is the SYN and the
    /// segment the SYN-ACK, as [`crate::defence::handshake`] gives them. The ACK
    /// that brought it is met next.
    Cookie,
}

impl Opening {
    /// What it must reserve before the flow is inserted, and what the flow then
    /// holds.
    #[inline(always)]
    #[must_use]
    pub const fn reservation(self, live: &Live) -> u16 {
        match self {
            Self::Handshake | Self::Answered => {
                if live.listener_limit | live.source_limit == 0 {
                    held::HALF_OPEN | held::COUNTED
                } else {
                    held::HANDSHAKE
                }
            }
            Self::Calling | Self::Cookie => held::HALF_OPEN,
            Self::Pickup => held::PICKUP,
        }
    }
}

/// A limit on new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Half-open flows in all.
    HalfOpen,
    /// Those of one listener.
    Listener,
    /// Those from one prefix.
    Source,
    /// Flows met in mid-life that wait for proof.
    Pickup,
    /// What the tables hold: that of connections that are nobody's attack.
    Capacity,
}

impl Limit {
    /// Whether the oldest half-open flow makes room for one that would exceed it.
    #[inline(always)]
    #[must_use]
    pub const fn evicts(self, live: &Live) -> bool {
        matches!(self, Self::HalfOpen) && live.at_limit == AtLimit::EvictOldest as u8
    }

    /// The limit on what `reservation` says, and how much it allows.
    #[inline(always)]
    #[must_use]
    pub const fn on(reservation: u16, live: &Live) -> (Self, u32) {
        if reservation & held::PICKUP != 0 {
            (Self::Pickup, live.pickup_limit)
        } else if reservation & held::COUNTED != 0 {
            (Self::HalfOpen, live.half_open_limit)
        } else {
            (Self::Capacity, live.capacity)
        }
    }

    /// The reason of a segment that would exceed it.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self, live: &Live) -> Reason {
        let drops = live.at_limit == AtLimit::Drop as u8;
        match self {
            Self::HalfOpen if drops => Reason::HalfOpenRefused,
            Self::HalfOpen => Reason::HalfOpenLimit,
            Self::Listener if drops => Reason::ListenerRefused,
            Self::Listener => Reason::ListenerLimit,
            Self::Source if drops => Reason::SourceRefused,
            Self::Source => Reason::SourceLimit,
            Self::Pickup => Reason::PickupLimit,
            Self::Capacity => Reason::TableFull,
        }
    }
}

/// The reason of a segment that would open a flow, and finds its table full.
#[inline(always)]
#[must_use]
pub const fn full(live: &Live) -> Reason {
    if live.defence & defence_flags::FULL_DROPS != 0 {
        Reason::TableRefused
    } else {
        Reason::TableFull
    }
}

/// What a segment that belongs to no flow may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Open a flow.
    Open(Opening),
    /// Nothing; it leaves with this reason.
    Leave(Reason),
}

/// Judges a segment that belongs to no flow.
///
/// What of it is allowed is in `live`. `local` says that this host's own stack sent
/// it, which makes it nobody's attack: the RST that answers a stray segment is one
/// itself. `pickups`: a rule of the policy may let it open a flow in mid-life,
/// whatever `live` says; the policy is to be asked.
#[inline(always)]
#[must_use]
pub const fn admit(segment: &Segment, local: bool, pickups: bool, live: &Live) -> Admission {
    let flags = segment.flags;
    if segment.is_syn() {
        if segment.payload != 0 && live.switches & switches::DROP_SYN_DATA != 0 {
            return Admission::Leave(Reason::SynData);
        }
        return Admission::Open(if local {
            Opening::Calling
        } else {
            Opening::Handshake
        });
    }
    // An ACK, with data or FIN or without, is what any live connection sends, and
    // from it both ends' numbers can be read.
    if !flags.has(Flags::RST) && !flags.has(Flags::SYN) && (live.pickup != 0 || pickups) {
        return Admission::Open(Opening::Pickup);
    }
    Admission::Leave(stray(flags, local))
}

/// The reason of a segment that belongs to no flow and opens none.
#[inline(always)]
#[must_use]
pub const fn stray(flags: Flags, local: bool) -> Reason {
    if local {
        Reason::LocalStray
    } else if flags.has(Flags::RST) {
        Reason::StrayReset
    } else if flags.has(Flags::SYN) {
        Reason::StraySynAck
    } else if flags.has(Flags::FIN) {
        Reason::StrayFin
    } else {
        Reason::StrayAck
    }
}

/// Fills a blank element with the flow that `segment` opens.
///
/// `initiator_high` says that the initiator is the key's high side, `guessed`
/// that this is not known; `sender` is the index of the segment's sender in
/// [`Flow::ends`]. `flow` must be blank, that is all zero but for its lock, which
/// it keeps; it becomes owner of `tag` and `generation`.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the packet; a struct would only name them twice"
)]
#[inline(always)]
pub fn open(
    flow: &mut Flow,
    opening: Opening,
    segment: &Segment,
    tag: u32,
    generation: u32,
    initiator_high: bool,
    guessed: bool,
    sender: usize,
    context: &Context,
    live: &Live,
    outcome: &mut Outcome,
) {
    flow.tag = tag;
    flow.generation = generation;
    flow.first = context.now;
    flow.last = context.now;
    flow.rule = context.admitted.rule;
    flow.judged(context.policy, context.admitted.profile);
    flow.flags = opening.reservation(live) | context.admitted.flags;
    if initiator_high {
        flow.flags |= flow_flags::INITIATOR_HIGH;
    }
    if guessed {
        flow.flags |= flow_flags::GUESSED;
    }
    let reason = match opening {
        Opening::Handshake | Opening::Calling => {
            let [initiator, responder] = &mut flow.ends;
            begin(initiator, segment);
            // Until its first ACK this field holds the time of its SYN.
            initiator.ack = Seq(context.micros.0);
            initiator.set_state(State::SynSent);
            responder.set_state(State::Listen);
            if context.replaced != 0 {
                Reason::FlowReopened
            } else {
                Reason::FlowOpened
            }
        }
        Opening::Answered | Opening::Cookie => {
            let [initiator, responder] = &mut flow.ends;
            let syn = context.pending.segment();
            begin(initiator, &syn);
            initiator.ack = Seq(context.pending.time.0);
            initiator.flags |= end_flags::SEEN;
            begin(responder, segment);
            responder.ack = segment.ack;
            initiator.max_end = segment.ack.plus(segment.window as u32);
            responder.max_end = responder.isn.plus(1).plus(syn.window as u32);
            if initiator.flags & responder.flags & end_flags::SCALE == 0 {
                initiator.set_scale(0);
                responder.set_scale(0);
            }
            initiator.set_state(State::SynSent);
            responder.set_state(State::SynReceived);
            if matches!(opening, Opening::Cookie) {
                flow.flags |= (Origin::Cookie as u16) << flow_flags::ORIGIN_SHIFT;
                Reason::CookieReturned
            } else {
                Reason::FlowRestarted
            }
        }
        Opening::Pickup => {
            flow.flags |= (Origin::Pickup as u16) << flow_flags::ORIGIN_SHIFT;
            let me = &mut flow.ends[sender & 1];
            me.isn = segment.seq;
            me.end = segment.end();
            me.ack = segment.ack;
            me.max_window = at_least_one(segment.window);
            // Nobody has announced a window to it yet: the largest there is.
            me.max_end = me.end.plus((u16::MAX as u32) << MAX_SCALE);
            me.set_state(State::Established);
            if segment.flags.has(Flags::FIN) {
                me.flags |= end_flags::FIN;
                me.set_state(State::FinWait1);
            }
            if segment.options.has(Options::TIMESTAMPS) {
                me.flags |= end_flags::TIMESTAMPS;
                me.ts = segment.options.ts_value;
            }
            // What it acknowledges, the peer has sent. The scale of neither
            // window is known: so it is taken for the largest.
            me.set_scale(MAX_SCALE);
            let peer = &mut flow.ends[(sender & 1) ^ 1];
            peer.isn = segment.ack;
            peer.end = segment.ack;
            peer.ack = segment.seq;
            peer.max_window = 1;
            peer.max_end = segment.ack.plus((segment.window as u32) << MAX_SCALE);
            peer.set_scale(MAX_SCALE);
            peer.set_state(State::Established);
            peer.flags |= end_flags::SPOKE;
            flow.ends[sender & 1].flags |= end_flags::SPOKE;
            Reason::FlowPickedUp
        }
    };
    flow.ends[sender & 1].flags |= end_flags::SEEN;
    // Of a handshake by cookie nothing was kept, so nothing is counted.
    if !matches!(opening, Opening::Cookie) {
        flow.ends[sender & 1].count(context.bytes);
        flow.paths[sender & 1] = context.path;
    }
    *outcome = Outcome {
        reason,
        replace: 0,
        restart: 0,
        remember: 0,
        event: EventKind::Opened as u8,
        embryo: 1,
        seq: flow.next_event(),
        before: CLOSED,
        after: flow.bits(),
        released: 0,
        previous: context.now,
        bound: Bound {
            value: 0,
            low: 0,
            high: 0,
        },
        sender: sender as u8 & 1,
    };
}

/// Takes an endpoint's numbers and offers from its SYN or SYN-ACK.
#[inline(always)]
pub fn begin(end: &mut Endpoint, segment: &Segment) {
    end.isn = segment.seq;
    end.end = segment.end();
    // A window in a segment with SYN is never scaled (RFC 7323 section 2.2).
    end.max_window = at_least_one(segment.window);
    let options = &segment.options;
    end.flags = (end.flags & !OFFERS) | (options.present & OFFERS);
    end.ts = options.ts_value;
    end.set_scale(if options.scale > MAX_SCALE {
        MAX_SCALE
    } else {
        options.scale
    });
}

/// What a SYN offers, in the same bits of [`Endpoint::flags`] and of
/// [`Options::present`].
const OFFERS: u8 = end_flags::SCALE | end_flags::SACK | end_flags::TIMESTAMPS;

const _: () = assert!(
    end_flags::SCALE == Options::SCALE
        && end_flags::SACK == Options::SACK_PERMITTED
        && end_flags::TIMESTAMPS == Options::TIMESTAMPS
);

/// A zero window still admits the probe of one octet (RFC 9293 section 3.8.6.1).
#[inline(always)]
pub const fn at_least_one(window: u16) -> u16 {
    if window == 0 { 1 } else { window }
}

const _: () = assert!(INITIATOR == 0 && RESPONDER == 1);
