//! How many SYN cookies are in flight.

use std::{collections::VecDeque, time::Duration};

/// Time between two samples.
const EVERY_NS: u64 = 1_000_000_000;

/// Cookies since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// Sent.
    pub sent: u64,
    /// Come back.
    pub returned: u64,
}

/// Remembers for two minutes how many there were, second by second.
#[derive(Debug)]
pub struct Flight {
    /// Oldest first, each with its time, ns of `CLOCK_MONOTONIC`.
    samples: VecDeque<(u64, Cookies)>,
    latest: Cookies,
    /// When a cookie was last seen to have been sent.
    last_sent_ns: Option<u64>,
}

impl Flight {
    /// Begins to count. What an earlier agent has sent is out of sight.
    pub fn new(now_ns: u64, cookies: Cookies) -> Self {
        Self {
            samples: VecDeque::from([(now_ns, cookies)]),
            latest: cookies,
            last_sent_ns: None,
        }
    }

    /// Takes note of the counts at `now_ns`.
    pub fn note(&mut self, now_ns: u64, cookies: Cookies) {
        if cookies.sent != self.latest.sent {
            self.last_sent_ns = Some(now_ns);
        }
        self.latest = cookies;
        let newest = self.samples.back().map_or(0, |&(at, _)| at);
        if now_ns.saturating_sub(newest) < EVERY_NS {
            return;
        }
        self.samples.push_back((now_ns, cookies));
        let oldest = now_ns.saturating_sub(ns(crate::config::OLDEST_COOKIE));
        // The newest of those that are too old stands for the time before.
        while self.samples.get(1).is_some_and(|&(at, _)| at <= oldest) {
            self.samples.pop_front();
        }
    }

    /// The latest counts.
    pub const fn latest(&self) -> Cookies {
        self.latest
    }

    /// Cookies sent within `age` before `now_ns` for which none has come back in
    /// that time.
    pub fn in_flight(&self, now_ns: u64, age: Duration) -> u64 {
        let from = now_ns.saturating_sub(ns(age));
        let before = self
            .samples
            .iter()
            .rev()
            .find(|&&(at, _)| at <= from)
            .or_else(|| self.samples.front())
            .map_or(self.latest, |&(_, cookies)| cookies);
        let sent = self.latest.sent.saturating_sub(before.sent);
        sent.saturating_sub(self.latest.returned.saturating_sub(before.returned))
    }

    /// Whether one was sent within `age` before `now_ns`.
    pub fn sent_within(&self, now_ns: u64, age: Duration) -> bool {
        self.last_sent_ns
            .is_some_and(|at| now_ns.saturating_sub(at) < ns(age))
    }
}

/// SYNs that found a limit reached and got no cookie, since the maps were made.
#[derive(Clone, Copy, Debug)]
pub struct Hits {
    total: u64,
    /// When one was last seen to have come, ns of `CLOCK_MONOTONIC`.
    last_ns: Option<u64>,
}

impl Hits {
    /// Begins to count at `total`.
    pub const fn new(total: u64) -> Self {
        Self {
            total,
            last_ns: None,
        }
    }

    /// Takes note of the count at `now_ns`.
    pub const fn note(&mut self, now_ns: u64, total: u64) {
        if total != self.total {
            self.last_ns = Some(now_ns);
        }
        self.total = total;
    }

    /// Whether one came within `age` before `now_ns`.
    pub fn within(&self, now_ns: u64, age: Duration) -> bool {
        self.last_ns
            .is_some_and(|at| now_ns.saturating_sub(at) < ns(age))
    }
}

/// A duration in nanoseconds.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    const fn cookies(sent: u64, returned: u64) -> Cookies {
        Cookies { sent, returned }
    }

    #[test]
    fn what_has_aged_or_returned_is_not_in_flight() {
        let age = Duration::from_secs(30);
        let mut flight = Flight::new(0, cookies(1000, 900));
        assert_eq!(flight.in_flight(0, age), 0);
        // A hundred a second, of which ten come back.
        for second in 1..=60 {
            flight.note(
                second * SECOND,
                cookies(1000 + 100 * second, 900 + 10 * second),
            );
        }
        assert_eq!(flight.in_flight(60 * SECOND, age), 30 * 90);
        // None is sent any more.
        flight.note(75 * SECOND, cookies(7000, 1500));
        assert_eq!(flight.in_flight(75 * SECOND, age), 15 * 90);
        flight.note(90 * SECOND, cookies(7000, 1500));
        assert_eq!(flight.in_flight(90 * SECOND, age), 0);
        assert!(flight.sent_within(90 * SECOND, Duration::from_secs(31)));
        assert!(!flight.sent_within(90 * SECOND, Duration::from_secs(30)));
    }

    #[test]
    fn a_limit_was_hit_if_somebody_was_turned_away_since() {
        let age = Duration::from_secs(3);
        let mut hits = Hits::new(7);
        hits.note(SECOND, 7);
        assert!(!hits.within(SECOND, age));
        hits.note(2 * SECOND, 9);
        hits.note(4 * SECOND, 9);
        assert!(hits.within(4 * SECOND, age) && !hits.within(5 * SECOND, age));
    }

    #[test]
    fn many_looks_a_second_take_no_memory() {
        let mut flight = Flight::new(0, cookies(0, 0));
        for tenth in 0..10_000 {
            flight.note(tenth * SECOND / 10, cookies(tenth, 0));
        }
        assert!(flight.samples.len() <= 123, "{}", flight.samples.len());
        let now = 9999 * SECOND / 10;
        assert_eq!(flight.in_flight(now, Duration::from_secs(120)), 1209);
    }
}
