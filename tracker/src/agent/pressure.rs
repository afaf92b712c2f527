//! How much shorter time-outs get as the tables fill.

use tokio::time::Instant;
use tracker_common::abi::FULL_SCALE;

use super::trouble::QUIET;
use crate::config::Adaptive;

/// The factor on every time-out, in 1/1024, while the fuller table holds `flows`
/// of `capacity`.
///
/// pf's formula (pf.conf(5), `adaptive.start`): from the start on it falls in a
/// straight line, (end - flows) / (end - start), to nothing at the end.
pub fn scale(flows: u64, capacity: u32, adaptive: Option<Adaptive>) -> u32 {
    let Some(Adaptive { start, end }) = adaptive else {
        return FULL_SCALE;
    };
    // In hundredths of an entry, so that nothing is rounded before the end.
    let flows = flows.saturating_mul(100);
    let [start, end] = [start, end].map(|percent| u64::from(percent) * u64::from(capacity));
    if flows <= start {
        return FULL_SCALE;
    }
    let left = end.saturating_sub(flows);
    let whole = end.saturating_sub(start).max(1);
    // Below FULL_SCALE, since less is left than the whole.
    (left.saturating_mul(FULL_SCALE.into()) / whole) as u32
}

/// Tells when pressure begins and when it ends, at most once a minute.
#[derive(Debug, Default)]
pub struct Announcer {
    told: bool,
    last: Option<Instant>,
}

impl Announcer {
    /// Takes note of the factor, and says what is to be told.
    pub fn note(&mut self, scale: u32, now: Instant) -> Option<News> {
        let pressed = scale < FULL_SCALE;
        let quiet = self.last.is_some_and(|last| now - last < QUIET);
        if pressed == self.told || (pressed && quiet) {
            return None;
        }
        self.told = pressed;
        if pressed {
            self.last = Some(now);
            Some(News::Begins)
        } else {
            Some(News::Ends)
        }
    }
}

/// What an [`Announcer`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Time-outs are shortened.
    Begins,
    /// They have their full length again.
    Ends,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const USUAL: Option<Adaptive> = Some(Adaptive {
        start: 60,
        end: 120,
    });

    #[test]
    fn the_factor_falls_in_a_line_from_start_to_end() {
        for (flows, factor) in [
            (0, 1024),
            (600, 1024),
            (601, 1022),
            (750, 768),
            (900, 512),
            (1000, 341),
            (1200, 0),
            (5000, 0),
        ] {
            assert_eq!(scale(flows, 1000, USUAL), factor, "{flows}");
        }
    }

    #[test]
    fn switched_off_it_never_falls() {
        assert_eq!(scale(u64::MAX, 1000, None), FULL_SCALE);
    }

    #[test]
    fn the_largest_table_does_not_overflow() {
        let capacity = 0x0400_0000;
        assert_eq!(scale(capacity.into(), capacity, USUAL), 341);
        assert_eq!(scale(u64::MAX, capacity, USUAL), 0);
        let adaptive = Some(Adaptive { start: 1, end: 2 });
        assert_eq!(scale(1, 1, adaptive), 0);
    }

    #[test]
    fn the_factor_never_rises_with_the_fill() {
        let adaptive = Some(Adaptive { start: 17, end: 91 });
        let factors: Vec<u32> = (0..=777).map(|flows| scale(flows, 777, adaptive)).collect();
        assert!(factors.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_beginning_is_told_once_a_minute_and_its_end_with_it() {
        let mut announcer = Announcer::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, scale, news) in [
            (0, 1024, None),
            (1, 900, Some(News::Begins)),
            (2, 700, None),
            (3, 1024, Some(News::Ends)),
            (4, 900, None),
            (5, 1024, None),
            (59, 900, None),
            // Still pressed when a minute is over.
            (61, 900, Some(News::Begins)),
            (62, 1024, Some(News::Ends)),
        ] {
            assert_eq!(announcer.note(scale, after(seconds)), news, "{seconds}");
        }
    }
}
