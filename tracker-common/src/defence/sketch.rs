//! The sketch of the SYN-ACKs that carry cookies, the map `ANSWERS`: how many went
//! toward which addresses in this second, and for whom the last one was. Behind its
//! buckets lie marks of the addresses that are to get none.
//!
//! A SYN that is answered with a cookie leaves no state, and this is none of its
//! own: addresses share a bucket, and each bucket remembers one SYN. So what it
//! tells of SYNs that were sent again and of cookies that came back too late is a
//! lower bound: another SYN of the bucket may have come between. (One in sixteen
//! million is taken for another.)
//!
//! A bucket is one word, so that a SYN costs no more than one cache line of it:
//!
//! | bits | what |
//! |---|---|
//! | 0 to 19 | SYNs of the second |
//! | 20 to 39 | the second, by the kernel's clock, modulo 2^20 (twelve days) |
//! | 40 to 63 | a fingerprint of the last SYN |

use crate::seq::Seq;

/// Buckets, a power of two.
pub const BUCKETS: usize = 65_536;
/// Words behind the next for marks of addresses ([`mark`]) that are this host's own or
/// a network's broadcast; the first 0 ends them. The one before them has the
/// [`mark_bit`]s of all.
pub const MARKS: usize = 31;

const COUNT: u64 = (1 << SECOND_AT) - 1;
const SECOND_AT: u32 = 20;
const SECOND: u32 = (1 << 20) - 1;
const PRINT_AT: u32 = 40;

/// A SYN as the sketch knows it: its bucket, and its fingerprint there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of the bucket, among [`BUCKETS`].
    pub slot: u32,
    print: u32,
}

impl Trace {
    /// Of the SYN with this source address (words as they lie in the packet), these
    /// ports (the source's in the high half) and this sequence number.
    #[inline(always)]
    #[must_use]
    pub const fn of(address: [u32; 4], ports: u32, isn: Seq) -> Self {
        let mixed = mix(address);
        // The lower half says of the address what the slot does not.
        let whole =
            (mixed ^ ((ports as u64) << 32 | isn.0 as u64)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self {
            slot: (mixed >> 48) as u32,
            print: (whole >> PRINT_AT) as u32,
        }
    }
}

/// Fibonacci hashing; who finds addresses that share a bucket gets fewer answers for
/// them.
#[inline(always)]
const fn mix(address: [u32; 4]) -> u64 {
    let [a, b, c, d] = address;
    (((a ^ c) as u64) << 32 | (b ^ d) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What stands for an address among the [`MARKS`]; never 0. No two IPv4 addresses have
/// the same, and two IPv6 addresses once in four billion: one of them then gets no
/// answer.
#[inline(always)]
#[must_use]
pub const fn mark(address: [u32; 4]) -> u64 {
    mix(address) >> 32 | 1 << 32
}

/// The bit of a mark: who has another one need not be looked for.
#[inline(always)]
#[must_use]
pub const fn mark_bit(mark: u64) -> u64 {
    1 << (mark & 63)
}

/// What a bucket tells of a SYN that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The bucket from here on.
    pub bucket: u64,
    /// Whether the bucket's addresses get one more SYN-ACK in this second.
    pub within: bool,
    /// Whether this very SYN was the last before it: it was sent again.
    pub again: bool,
}

#[inline(always)]
const fn second(now_ns: u64) -> u32 {
    (now_ns / 1_000_000_000) as u32 & SECOND
}

/// Counts the SYN `trace` in its `bucket`, which is granted `rate` SYN-ACKs a
/// second: at most a million, 0 for any number.
#[inline(always)]
#[must_use]
pub const fn count_answer(bucket: u64, trace: Trace, now_ns: u64, rate: u32) -> Counted {
    let second = second(now_ns);
    let count = if (bucket >> SECOND_AT) as u32 & SECOND == second {
        // Full at more than any rate.
        let count = (bucket & COUNT) + 1;
        if count > COUNT { COUNT } else { count }
    } else {
        1
    };
    Counted {
        bucket: (trace.print as u64) << PRINT_AT | (second as u64) << SECOND_AT | count,
        within: rate == 0 || count <= rate as u64,
        // What was never used remembers nothing.
        again: bucket != 0 && (bucket >> PRINT_AT) as u32 == trace.print,
    }
}

/// Seconds within which the kernel takes any cookie back: it takes those of this
/// minute of its clock and of the minute before (`MAX_SYNCOOKIE_AGE`, 2, in
/// include/net/tcp.h; `check_tcp_syn_cookie` in net/ipv4/syncookies.c).
const TAKEN_BACK_S: u32 = 60;

/// Whether an ACK that returns no cookie comes too late for one: its SYN, of which
/// `trace` is, was the last in `bucket`, and was answered longer ago than every
/// cookie is taken back.
#[inline(always)]
#[must_use]
pub const fn is_expired(bucket: u64, trace: Trace, now_ns: u64) -> bool {
    let answered = (bucket >> SECOND_AT) as u32 & SECOND;
    let age = second(now_ns).wrapping_sub(answered) & SECOND;
    bucket != 0 && (bucket >> PRINT_AT) as u32 == trace.print && age > TAKEN_BACK_S
}

/// Whether a bucket has counted a SYN within the `age_s` seconds before `now_ns`.
#[must_use]
pub const fn is_touched(bucket: u64, now_ns: u64, age_s: u64) -> bool {
    let last = (bucket >> SECOND_AT) as u32 & SECOND;
    let age = second(now_ns).wrapping_sub(last) & SECOND;
    bucket != 0 && age as u64 <= age_s
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn trace(number: u32) -> Trace {
        let address = [number.wrapping_mul(0x9e37_79b1), 0, 0, 0];
        Trace::of(address, 40_000 << 16 | 80, Seq(number))
    }

    #[test]
    fn an_address_gets_so_many_answers_a_second() {
        let mut bucket = 0;
        let mut sent = 0;
        for number in 0..100 {
            let counted = count_answer(bucket, trace(number), 5 * S, 30);
            bucket = counted.bucket;
            sent += u32::from(counted.within);
        }
        assert_eq!(sent, 30);
        assert!(count_answer(bucket, trace(0), 6 * S, 30).within);
        assert!(count_answer(bucket, trace(0), 5 * S, 0).within);
    }

    #[test]
    fn a_count_that_is_full_stays_so() {
        let full = COUNT | 5 << SECOND_AT;
        let counted = count_answer(full, trace(1), 5 * S, 1_000_000);
        assert_eq!(counted.bucket & COUNT, COUNT);
        assert!(!counted.within);
        assert_eq!((counted.bucket >> SECOND_AT) as u32 & SECOND, 5);
    }

    #[test]
    fn the_last_syn_of_a_bucket_is_known_again_and_no_other() {
        // A bucket that nobody has used knows nobody.
        assert!(!count_answer(0, trace(0), 0, 9).again);
        let bucket = count_answer(0, trace(1), 5 * S, 9).bucket;
        assert!(count_answer(bucket, trace(1), 6 * S, 9).again);
        let address = [0x9e37_79b1, 0, 0, 0];
        for other in [
            trace(2),
            Trace::of(address, 40_001 << 16 | 80, Seq(1)),
            Trace::of(address, 40_000 << 16 | 81, Seq(1)),
            Trace::of(address, 40_000 << 16 | 80, Seq(2)),
            Trace::of([0x9e37_79b1, 1, 0, 0], 40_000 << 16 | 80, Seq(1)),
        ] {
            let between = count_answer(bucket, other, 6 * S, 9);
            assert!(!between.again);
            assert!(!count_answer(between.bucket, trace(1), 6 * S, 9).again);
        }
    }

    #[test]
    fn prints_of_a_million_syns_are_spread() {
        let mut seen = std::collections::HashSet::new();
        let mut slots = std::collections::HashSet::new();
        for number in 0..100_000 {
            let trace = trace(number);
            assert!(trace.slot < 65_536 && trace.print < 1 << 24);
            seen.insert(trace.print);
            slots.insert(trace.slot);
        }
        // Of 2^24 prints, 100,000 random ones would be about 99,700 different ones;
        // of 65,536 slots they would meet about 51,300.
        assert!(seen.len() > 99_000, "{}", seen.len());
        assert!(slots.len() > 48_000, "{}", slots.len());
    }

    #[test]
    fn a_cookie_is_too_late_once_the_kernel_takes_none_of_its_minute() {
        let at = (1 << 20) * 7 + 90;
        let bucket = count_answer(0, trace(1), at * S, 9).bucket;
        for (age, expired) in [(0, false), (60, false), (61, true), (4000, true)] {
            assert_eq!(is_expired(bucket, trace(1), (at + age) * S), expired);
            assert!(!is_expired(bucket, trace(2), (at + age) * S));
        }
        assert!(!is_expired(0, trace(1), 99 * S));
        // Across the turn of the second's bits.
        let late = (1 << 20) - 5;
        let bucket = count_answer(0, trace(1), late * S, 9).bucket;
        assert!(!is_expired(bucket, trace(1), (late + 10) * S));
        assert!(is_expired(bucket, trace(1), (late + 70) * S));
    }

    #[test]
    fn addresses_have_marks_of_their_own() {
        let mut marks: Vec<u64> = (1..100_000_u32)
            .flat_map(|number| {
                let word = number.to_be();
                let other = number.wrapping_mul(0x0101_0101);
                let marks = |word| [mark([word, 0, 0, 0]), mark([0xfd, 7, 0, word])];
                [marks(word), marks(other)].concat()
            })
            .collect();
        assert!(marks.iter().all(|&mark| mark != 0));
        marks.sort_unstable();
        marks.dedup();
        assert!(marks.len() > 399_000, "{}", marks.len());
    }

    #[test]
    fn a_bucket_says_when_it_was_used() {
        let bucket = count_answer(0, trace(1), 100 * S, 9).bucket;
        assert!(is_touched(bucket, 110 * S, 10) && !is_touched(bucket, 110 * S, 9));
        assert!(!is_touched(0, 0, 10));
    }
}
