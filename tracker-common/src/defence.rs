//! What is decided against SYN floods: when cookies are on, what a cookie's
//! SYN-ACK says, and what its acknowledgement tells.
//!
//! A SYN cookie (D. J. Bernstein, 1996) is an initial sequence number from which
//! whoever sent it can tell, when it comes back, that it was sent. The kernel
//! makes and checks it (net/ipv4/syncookies.c); all that must be remembered of
//! the client's offers beside the maximum segment size travels in the timestamp
//! that the client echoes.

pub mod extensions;
mod sketch;

pub use sketch::{
    BUCKETS, Counted, MARKS, Trace, count_answer, is_expired, is_touched, mark, mark_bit,
};

use crate::{
    abi::{
        AtLimit, CookieMode, Flow, INITIATOR, Listener, Live, PendingSyn, RESPONDER, Side,
        defence_flags, held,
    },
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options, Segment, State},
    time::{Micros, TICK_NS, Tick, ticks_from_ms},
};

/// Octets of the longest options of a SYN-ACK made here: MSS, SACK-permitted,
/// timestamps, window scale.
pub const OPTIONS: usize = 20;

/// Low bits of a timestamp that are used (net/ipv4/syncookies.c, `TSBITS`).
const BITS: u32 = 6;
/// The four bits of the client's window scale (`TS_OPT_WSCALE_MASK`), all set for
/// none.
const SCALE_MASK: u32 = 0xf;
/// SACK-permitted (`TS_OPT_SACK`).
const SACK: u32 = 1 << 4;
/// ECN (`TS_OPT_ECN`).
const ECN: u32 = 1 << 5;

/// The timestamp that a SYN-ACK carries to be told the client's offers again
/// (`cookie_init_timestamp`); `now_ms` is the kernel's clock of timestamps.
///
/// It never runs ahead of that clock: segments that the socket sends within the
/// same 64 ms would look old to the client.
#[inline(always)]
#[must_use]
pub const fn stamp(now_ms: u32, offers: &Options, ecn: bool) -> u32 {
    let scale = if offers.has(Options::SCALE) {
        at_most_14(offers.scale) as u32
    } else {
        SCALE_MASK
    };
    let sack = if offers.has(Options::SACK_PERMITTED) {
        SACK
    } else {
        0
    };
    let ecn = if ecn { ECN } else { 0 };
    let stamp = (now_ms >> BITS << BITS) | scale | sack | ecn;
    if stamp.wrapping_sub(now_ms) as i32 > 0 {
        stamp.wrapping_sub(1 << BITS)
    } else {
        stamp
    }
}

const fn at_most_14(scale: u8) -> u8 {
    if scale > 14 { 14 } else { scale }
}

/// The SYN-ACK that answers a SYN with a cookie, but for the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// Its options; NOPs fill what is not used.
    pub options: [u8; OPTIONS],
    /// Its window: what the listener's own SYN-ACKs announce.
    pub window: u16,
    /// Its flags.
    pub flags: Flags,
    /// How many octets of options there are: a multiple of four, and never more
    /// than the SYN has, so that nobody is sent more than he sent.
    pub length: u8,
}

const NOP: u8 = 1;

/// The answer of `listener` to `syn`, whose options take `room` octets.
///
/// Without [`defence_flags::OPTIONS`], or where the client sends no timestamps,
/// only the maximum segment size survives, since there is nothing that brings the
/// other offers back. What is promised is what the listener itself promises: the
/// kernel works out its own scale afresh when the cookie comes back.
#[inline(always)]
#[must_use]
pub const fn answer(
    syn: &Segment,
    listener: &Listener,
    live: &Live,
    room: u32,
    now_ms: u32,
) -> Answer {
    let mut answer = Answer {
        options: [NOP; OPTIONS],
        window: listener.window,
        flags: Flags(Flags::SYN | Flags::ACK),
        length: 0,
    };
    if room < 4 || listener.mss == 0 {
        return answer;
    }
    let [high, low] = listener.mss.to_be_bytes();
    answer.options[0] = 2;
    answer.options[1] = 4;
    answer.options[2] = high;
    answer.options[3] = low;
    answer.length = 4;
    let mut offers = syn.options;
    offers.present &= live.offers;
    if room < 16 || live.defence & defence_flags::OPTIONS == 0 || !offers.has(Options::TIMESTAMPS) {
        return answer;
    }
    if room < 20 {
        offers.present &= !Options::SCALE;
    }
    // RFC 3168 section 6.1.1: a SYN that offers ECN has both bits.
    let ecn = live.defence & defence_flags::ECN != 0 && syn.flags.has(Flags::ECE | Flags::CWR);
    if ecn {
        answer.flags = Flags(Flags::SYN | Flags::ACK | Flags::ECE);
    }
    if offers.has(Options::SACK_PERMITTED) {
        answer.options[4] = 4;
        answer.options[5] = 2;
    }
    let stamp = stamp(now_ms, &offers, ecn).to_be_bytes();
    let echo = syn.options.ts_value.to_be_bytes();
    answer.options[6] = 8;
    answer.options[7] = 10;
    let mut octet = 0;
    while octet < 4 {
        answer.options[8 + octet] = stamp[octet];
        answer.options[12 + octet] = echo[octet];
        octet += 1;
    }
    answer.length = 16;
    if offers.has(Options::SCALE) {
        answer.options[17] = 3;
        answer.options[18] = 3;
        answer.options[19] = scale_of(listener, live);
        answer.length = 20;
    }
    answer
}

/// The window scale that a listener announces.
#[inline(always)]
const fn scale_of(listener: &Listener, live: &Live) -> u8 {
    if listener.options & Options::SCALE != 0 {
        listener.scale
    } else {
        live.default_scale
    }
}

/// The SYN and the SYN-ACK before an ACK that returned a cookie, as far as the ACK
/// tells; [`crate::tcp::Opening::Cookie`] opens a flow by them.
///
/// The window of the SYN travels nowhere: it is taken for the largest that a SYN
/// can have, which allows nothing that is not on the way already.
#[inline(always)]
#[must_use]
pub const fn handshake(
    ack: &Segment,
    listener: &Listener,
    live: &Live,
    time: Micros,
) -> (PendingSyn, Segment) {
    let stamped =
        ack.options.has(Options::TIMESTAMPS) && live.defence & defence_flags::OPTIONS != 0;
    let echo = ack.options.ts_echo;
    let mut offers = if stamped { Options::TIMESTAMPS } else { 0 };
    if stamped && echo & SACK != 0 {
        offers |= Options::SACK_PERMITTED;
    }
    if stamped && echo & SCALE_MASK != SCALE_MASK {
        offers |= Options::SCALE;
    }
    let syn = PendingSyn {
        seq: ack.seq.minus(1),
        payload: 0,
        ts_value: ack.options.ts_value,
        time,
        window: u16::MAX,
        mss: 0,
        present: offers,
        scale: (echo & SCALE_MASK) as u8,
        sender: 0,
        known: 1,
    };
    let syn_ack = Segment {
        seq: ack.ack.minus(1),
        ack: ack.seq,
        payload: 0,
        window: listener.window,
        flags: Flags(Flags::SYN | Flags::ACK),
        fragmented: 0,
        options: Options {
            present: offers | Options::MSS,
            scale: scale_of(listener, live),
            mss: listener.mss,
            ts_value: echo,
            ts_echo: ack.options.ts_value,
            sack_high: Seq(0),
        },
    };
    (syn, syn_ack)
}

/// How long a listener that was seen to answer is taken to be there.
const CONFIRMED: u32 = ticks_from_ms(10_000);
/// How often a SYN is let through to have that confirmed.
const ASK_EVERY: u32 = ticks_from_ms(1000);
/// How often a socket is told that cookies are out: it takes one back only if it
/// was within two minutes, and not more than a second ahead (include/net/tcp.h,
/// `tcp_synq_no_recent_overflow`).
const STAMP_EVERY: u32 = ticks_from_ms(500);

/// What to do with a SYN to a listener, where cookies are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approach {
    /// Let it through: whether the listener is there is not known, or to be
    /// confirmed.
    Ask,
    /// Answer it, and tell the socket so.
    AnswerAndStamp,
    /// Answer it.
    Answer,
}

/// See [`Approach`]. The caller writes down when it asked or stamped.
#[inline(always)]
#[must_use]
pub const fn approach(listener: &Listener, now: Tick) -> Approach {
    let unseen = now.since(listener.seen);
    if listener.window == 0 || unseen >= CONFIRMED {
        return Approach::Ask;
    }
    if unseen >= ASK_EVERY && now.since(listener.asked) >= ASK_EVERY {
        return Approach::Ask;
    }
    if now.since(listener.stamped) >= STAMP_EVERY {
        return Approach::AnswerAndStamp;
    }
    Approach::Answer
}

/// Whether a SYN of no flow to `listener` is to be answered with a cookie.
///
/// `half_open` and `exhausted` are asked only where they matter: the half-open
/// flows from elsewhere, and whether the SYN's listener or source prefix has as
/// many as it may. Where the oldest half-open flow makes room in all, the limits of
/// one listener and one source still bring cookies.
#[inline(always)]
#[must_use]
pub fn wants_cookie(
    listener: &Listener,
    live: &Live,
    half_open: impl FnOnce() -> u64,
    exhausted: impl FnOnce() -> bool,
) -> bool {
    if listener.mode == CookieMode::Never as u8 {
        return false;
    }
    if listener.mode == CookieMode::Always as u8 || live.defence & defence_flags::ANSWER != 0 {
        return true;
    }
    if live.defence & defence_flags::AT_LIMIT == 0 || live.at_limit == AtLimit::Drop as u8 {
        return false;
    }
    let full =
        live.at_limit == AtLimit::Cookie as u8 && half_open() >= u64::from(live.half_open_limit);
    full || exhausted()
}

/// The reason of an ACK to a listener that is of no flow and returns no cookie;
/// `None` while it may be of a connection that is older than the tracker.
#[inline(always)]
#[must_use]
pub const fn unreturned(live: &Live) -> Option<Reason> {
    if live.pickup == 0 {
        Some(Reason::CookieInvalid)
    } else {
        None
    }
}

/// Whether `segment` of its `from` side is the ACK that completes the handshake of
/// `flow`, a connection from elsewhere: its sender has seen the SYN-ACK.
#[inline(always)]
#[must_use]
pub const fn completes(flow: &Flow, from: Side, segment: &Segment) -> bool {
    let answered = &flow.ends[RESPONDER];
    flow.has(held::COUNTED)
        && flow.index_of(from) == INITIATOR
        && segment.flags.has(Flags::ACK)
        && segment.flags.0 & (Flags::SYN | Flags::RST) == 0
        && answered.bits().is(State::SynReceived)
        && segment.ack.0 == answered.isn.plus(1).0
}

/// How long a handshake speaks for its source: an hour, ns.
const VOUCHES_NS: u64 = 3_600_000_000_000;

/// Whether a handshake that ended at `at_ns` still speaks for its source: then it
/// gets any number of SYN-ACKs.
#[inline(always)]
#[must_use]
pub const fn vouches(at_ns: u64, now_ns: u64) -> bool {
    now_ns.wrapping_sub(at_ns) < VOUCHES_NS
}

/// Whether SYN-ACKs that leave at `now` tell anything new about a listener: its
/// entry is written four times a second at most.
#[inline(always)]
#[must_use]
pub const fn is_news(listener: &Listener, options: &Options, now: Tick) -> bool {
    now.since(listener.seen) >= ticks_from_ms(250)
        || listener.window == 0
        || options.present & !listener.options != 0
}

/// Whether nobody answers at an IPv4 address (in host order): unspecified,
/// loopback, multicast, reserved or broadcast (RFC 1122 section 3.2.1.3, RFC
/// 6890). A SYN from there must not be answered.
#[inline(always)]
#[must_use]
pub const fn is_nobody_v4(address: u32) -> bool {
    let first = address >> 24;
    first == 0 || first == 127 || first >= 224
}

/// The same of an IPv6 address, words in host order: unspecified, loopback,
/// multicast (RFC 4291 section 2).
#[inline(always)]
#[must_use]
pub const fn is_nobody_v6(words: [u32; 4]) -> bool {
    let [a, b, c, d] = words;
    a >> 24 == 0xff || (a | b | c == 0 && d <= 1)
}

/// When SYN cookies are on in adaptive mode, as in pf's `syncookies adaptive`
/// (pf.conf(5)): many half-open flows turn them on, few half-open flows and
/// cookies in flight together turn them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Percent of the limit at which they go on.
    pub on: u32,
    /// Percent below which they go off; less than `on`.
    pub off: u32,
    /// Whether they are.
    pub answering: bool,
}

impl Adaptive {
    /// Off.
    #[must_use]
    pub const fn new(on: u32, off: u32) -> Self {
        Self {
            on,
            off,
            answering: false,
        }
    }

    /// Half-open flows at which they go on, at least 1.
    #[must_use]
    pub const fn on_level(&self, limit: u32) -> u32 {
        let level = (limit as u64 * self.on as u64 / 100) as u32;
        if level == 0 { 1 } else { level }
    }

    /// Decides anew. `in_flight` is the number of cookies sent and not returned
    /// within the time that one may take.
    pub const fn step(&mut self, half_open: u64, in_flight: u64, limit: u32) -> bool {
        if self.answering {
            let low = limit as u64 * self.off as u64 / 100;
            self.answering = half_open + in_flight >= low && half_open + in_flight > 0;
        } else {
            self.answering = half_open >= self.on_level(limit) as u64;
        }
        self.answering
    }
}

const _: () = assert!(TICK_NS > 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::timeout::Profile;

    fn live() -> Live {
        Live {
            defence: defence_flags::OPTIONS | defence_flags::ECN,
            offers: Options::TIMESTAMPS | Options::SACK_PERMITTED | Options::SCALE | Options::MSS,
            default_scale: 9,
            ..Live::observing(Profile::Linux)
        }
    }

    const LISTENER: Listener = Listener {
        sent: 0,
        valid: 0,
        invalid: 0,
        expired: 0,
        retransmitted: 0,
        seen: Tick(1000),
        asked: Tick(0),
        stamped: Tick(1000),
        window: 65_160,
        mss: 1460,
        scale: 10,
        options: Options::SCALE | Options::MSS,
        mode: 0,
        reserved: 0,
        reserved_too: 0,
    };

    fn syn(present: u8) -> Segment {
        Segment {
            seq: Seq(77),
            flags: Flags(Flags::SYN),
            window: 64_240,
            options: Options {
                present,
                scale: 7,
                mss: 1400,
                ts_value: 0x0102_0304,
                ..Options::default()
            },
            ..Segment::default()
        }
    }

    const ALL: u8 = Options::MSS | Options::SCALE | Options::SACK_PERMITTED | Options::TIMESTAMPS;

    #[test]
    fn a_stamp_is_never_ahead_of_the_clock() {
        for now in [0_u32, 1, 63, 64, 65, 1_000_000, u32::MAX] {
            for present in [0, Options::SCALE, Options::SCALE | Options::SACK_PERMITTED] {
                let stamp = stamp(now, &syn(present).options, true);
                assert!(now.wrapping_sub(stamp) < 2 << BITS, "{now} {stamp}");
            }
        }
    }

    #[test]
    fn what_an_answer_offers_its_acknowledgement_brings_back() {
        for present in 0..=ALL {
            let present = present & ALL;
            let answer = answer(&syn(present), &LISTENER, &live(), 20, 123_456);
            let stamped = present & Options::TIMESTAMPS != 0;
            let mut ack = syn(if stamped { Options::TIMESTAMPS } else { 0 });
            ack.flags = Flags(Flags::ACK);
            ack.options.ts_echo = u32::from_be_bytes(answer.options[8..12].try_into().unwrap());
            let (syn, syn_ack) = handshake(&ack, &LISTENER, &live(), Micros(0));
            if !stamped {
                assert_eq!((answer.length, syn.present), (4, 0));
                continue;
            }
            assert_eq!(syn.present, present & !Options::MSS);
            assert_eq!(syn_ack.options.scale, 10);
            let scaled = present & Options::SCALE != 0;
            assert_eq!(answer.length, if scaled { 20 } else { 16 });
            assert!(!scaled || syn.scale == 7);
            assert_eq!(answer.options[19] == 10, scaled);
            assert_eq!(&answer.options[12..16], &[1, 2, 3, 4]);
        }
    }

    #[test]
    fn an_answer_is_no_longer_than_the_question() {
        for room in (0..=40).step_by(4) {
            let answer = answer(&syn(ALL), &LISTENER, &live(), room, 5);
            assert!(u32::from(answer.length) <= room);
            assert_eq!(answer.length % 4, 0);
        }
    }

    #[test]
    fn without_leave_to_stamp_only_the_segment_size_survives() {
        let live = Live {
            defence: 0,
            ..live()
        };
        let answer = answer(&syn(ALL), &LISTENER, &live, 20, 5);
        assert_eq!(
            (answer.length, &answer.options[..4]),
            (4, &[2, 4, 5, 180][..])
        );
    }

    #[test]
    fn congestion_bits_are_answered_where_the_host_has_them_on() {
        let mut ecn = syn(ALL);
        ecn.flags = Flags(Flags::SYN | Flags::ECE | Flags::CWR);
        assert!(
            answer(&ecn, &LISTENER, &live(), 20, 5)
                .flags
                .has(Flags::ECE)
        );
        let off = Live {
            defence: defence_flags::OPTIONS,
            ..live()
        };
        assert!(!answer(&ecn, &LISTENER, &off, 20, 5).flags.has(Flags::ECE));
    }

    #[test]
    fn a_listener_is_asked_now_and_then_and_lost_in_the_end() {
        let now = |ms| Tick(1000 + ticks_from_ms(ms));
        assert_eq!(approach(&LISTENER, now(100)), Approach::Answer);
        assert_eq!(approach(&LISTENER, now(600)), Approach::AnswerAndStamp);
        assert_eq!(approach(&LISTENER, now(1100)), Approach::Ask);
        let asked = Listener {
            asked: now(1100),
            stamped: now(1100),
            ..LISTENER
        };
        assert_eq!(approach(&asked, now(1200)), Approach::Answer);
        assert_eq!(approach(&asked, now(10_100)), Approach::Ask);
        assert_eq!(approach(&Listener::default(), Tick(1)), Approach::Ask);
    }

    #[test]
    fn cookies_come_by_mode_by_switch_and_at_limits() {
        let of = |mode, defence, at_limit, half_open, exhausted| {
            let listener = Listener { mode, ..LISTENER };
            let live = Live {
                defence,
                at_limit: at_limit as u8,
                half_open_limit: 10,
                ..live()
            };
            wants_cookie(&listener, &live, || half_open, || exhausted)
        };
        let (cookie, drop, evict) = (AtLimit::Cookie, AtLimit::Drop, AtLimit::EvictOldest);
        let [never, always] = [CookieMode::Never as u8, CookieMode::Always as u8];
        assert!(of(always, 0, drop, 0, false) && of(0, defence_flags::ANSWER, drop, 0, false));
        assert!(!of(never, defence_flags::ANSWER, cookie, 99, true));
        let at = defence_flags::AT_LIMIT;
        assert!(of(0, at, cookie, 10, false) && !of(0, at, cookie, 9, false));
        assert!(of(0, at, cookie, 0, true) && !of(0, 0, cookie, 10, true));
        assert!(!of(0, at, drop, 10, true));
        assert!(of(0, at, evict, 10, true) && !of(0, at, evict, 10, false));
    }

    #[test]
    fn a_stray_is_refused_once_old_connections_had_their_time() {
        let of = |pickup| unreturned(&Live { pickup, ..live() });
        assert_eq!((of(1), of(0)), (None, Some(Reason::CookieInvalid)));
        assert!(vouches(5, 5 + VOUCHES_NS - 1) && !vouches(5, 5 + VOUCHES_NS));
    }

    #[test]
    fn only_who_has_seen_the_syn_ack_completes_a_handshake() {
        let mut flow = Flow {
            flags: held::COUNTED | held::HALF_OPEN,
            ..Flow::default()
        };
        flow.ends[RESPONDER].isn = Seq(500);
        flow.ends[RESPONDER].set_state(State::SynReceived);
        let ack = Segment {
            ack: Seq(501),
            flags: Flags(Flags::ACK),
            ..Segment::default()
        };
        assert!(completes(&flow, Side::Low, &ack));
        let with = |flags| Segment {
            flags: Flags(flags),
            ..ack
        };
        assert!(completes(&flow, Side::Low, &with(Flags::ACK | Flags::FIN)));
        assert!(!completes(&flow, Side::High, &ack));
        for wrong in [
            with(0),
            with(Flags::ACK | Flags::RST),
            with(Flags::ACK | Flags::SYN),
            Segment {
                ack: Seq(502),
                ..ack
            },
        ] {
            assert!(!completes(&flow, Side::Low, &wrong), "{wrong:?}");
        }
        // Of a local client, over, or not answered yet.
        let calling = Flow {
            flags: held::HALF_OPEN,
            ..flow
        };
        assert!(!completes(&calling, Side::Low, &ack));
        for state in [State::Listen, State::Established, State::Closed] {
            flow.ends[RESPONDER].set_state(state);
            assert!(!completes(&flow, Side::Low, &ack), "{state:?}");
        }
    }

    #[test]
    fn nobody_is_answered_who_is_nobody() {
        let v4 = |a, b, c, d| is_nobody_v4(u32::from_be_bytes([a, b, c, d]));
        assert!(v4(0, 0, 0, 0) && v4(127, 0, 0, 1) && v4(224, 0, 0, 1) && v4(255, 255, 255, 255));
        assert!(!v4(10, 0, 0, 1) && !v4(203, 0, 113, 9));
        assert!(is_nobody_v6([0; 4]) && is_nobody_v6([0, 0, 0, 1]));
        assert!(is_nobody_v6([0xff02_0000, 0, 0, 1]) && !is_nobody_v6([0xfd00_0000, 0, 0, 1]));
    }

    #[test]
    fn cookies_go_on_at_a_quarter_and_off_below_an_eighth() {
        let mut adaptive = Adaptive::new(25, 12);
        assert!(!adaptive.step(249, 0, 1000));
        assert!(adaptive.step(250, 0, 1000));
        assert!(adaptive.step(10, 200, 1000));
        assert!(adaptive.step(120, 0, 1000));
        assert!(!adaptive.step(10, 100, 1000));
        assert!(!adaptive.step(0, 1_000_000, 1000));
    }

    #[test]
    fn a_tiny_limit_still_turns_them_off() {
        let mut adaptive = Adaptive::new(25, 12);
        assert!(adaptive.step(1, 0, 2));
        assert!(!adaptive.step(0, 0, 2));
    }
}
