//! The capture's own clock, as the clock of the tracker.

/// Where the clock stands at the first packet: an hour after its start, so that
/// no time-out reaches behind it.
const START: u64 = 3_600_000_000_000;

/// The latest that the clock comes to, ns after the first packet: 146 years. What
/// a capture puts behind that is no time, and behind this no sum overflows.
const LATEST: u64 = 1 << 62;

/// Counts on from the first packet, and never runs back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Time of the first packet and of the newest one, ns since 1970.
    span: Option<(u64, u64)>,
    backwards: u64,
}

impl Clock {
    /// Takes the time of the next packet and gives the tracker's, ns. A time
    /// before the newest is counted and taken for the newest: packets may be
    /// captured out of order, on several CPUs or interfaces, but the tracker's
    /// clock is monotonic. A packet without a time comes when the one before
    /// it came.
    pub fn advance(&mut self, time_ns: Option<u64>) -> u64 {
        self.span = match (self.span, time_ns) {
            (None, time) => time.map(|time| (time, time)),
            (Some((first, newest)), Some(time)) => {
                self.backwards += u64::from(time < newest);
                Some((first, newest.max(time)))
            }
            (span, None) => span,
        };
        self.now_ns()
    }

    /// The tracker's time, ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        START + self.elapsed_ns()
    }

    /// From the first packet to the newest, ns, at most 2^62.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.span
            .map_or(0, |(first, newest)| (newest - first).min(LATEST))
    }

    /// What was the tracker's time `now_ns` to the capture: ns since 1970.
    #[must_use]
    pub fn captured_ns(&self, now_ns: u64) -> u64 {
        let first = self.span.map_or(0, |(first, _)| first);
        first.saturating_add(now_ns.saturating_sub(START))
    }

    /// Packets whose time lay before that of one in front of them.
    #[must_use]
    pub const fn backwards(&self) -> u64 {
        self.backwards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_first_packet_and_never_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.advance(None), START);
        assert_eq!(clock.advance(Some(1_000)), START);
        assert_eq!(clock.advance(Some(1_500)), START + 500);
        assert_eq!(clock.advance(Some(900)), START + 500);
        assert_eq!(clock.advance(None), START + 500);
        assert_eq!(clock.advance(Some(1_501)), START + 501);
        assert_eq!(clock.backwards(), 1);
        assert_eq!(clock.captured_ns(START + 501), 1_501);
    }

    #[test]
    fn no_time_is_too_late() {
        let mut clock = Clock::default();
        clock.advance(Some(0));
        assert_eq!(clock.advance(Some(u64::MAX)), START + LATEST);
        assert_eq!(clock.captured_ns(clock.now_ns()), LATEST);
    }
}
