//! When a flood of SYNs begins and when it is over: judged from counters, once a
//! second. The time is passed in.

use std::time::Duration;

/// A flood is over when it has been below its threshold for so long.
pub const QUIET: Duration = Duration::from_secs(10);
/// A flood that begins within this time after the last one was told is not told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// SYNs a second below which nothing is a flood.
const LEAST: u64 = 20;

/// The SYNs a second that come to nothing from which on a flood goes on: as many as
/// would fill the half-open table up to `level`, were they to go on for as long as
/// a half-open flow lasts, `lasting_ms`.
pub fn threshold(level: u64, lasting_ms: u64) -> u64 {
    let rate = level
        .saturating_mul(1000)
        .checked_div(lasting_ms)
        .unwrap_or(0);
    rate.max(LEAST)
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// SYNs that came from elsewhere for a new connection.
    pub syns: u64,
    /// Those of them that opened a flow.
    pub opened: u64,
    /// SYNs that were answered with a cookie.
    pub sent: u64,
    /// Cookies that came back.
    pub returned: u64,
    /// SYNs that were refused.
    pub refused: u64,
}

impl Totals {
    /// What was counted since `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            syns: self.syns.saturating_sub(earlier.syns),
            opened: self.opened.saturating_sub(earlier.opened),
            sent: self.sent.saturating_sub(earlier.sent),
            returned: self.returned.saturating_sub(earlier.returned),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}

/// What one look found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `CLOCK_MONOTONIC`, ns.
    pub now_ns: u64,
    /// Counters.
    pub totals: Totals,
    /// Of a thousand flows that were opened before the last look, how many had
    /// completed their handshake at this one.
    pub completed_permille: u64,
    /// Half-open flows.
    pub half_open: u64,
    /// Half-open flows that are many.
    pub level: u64,
    /// Whether SYNs are answered with cookies.
    pub answering: bool,
    /// See [`threshold`].
    pub threshold: u64,
}

/// A flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// When it began, ns.
    pub began_ns: u64,
    /// When it was last above its threshold, ns.
    pub seen_ns: u64,
    /// Counters as it began.
    before: Totals,
    /// What was counted until it was last seen.
    pub totals: Totals,
    /// Most SYNs in a second.
    pub peak: u64,
    /// Most half-open flows.
    pub high_water: u64,
    /// Whether it is told.
    pub told: bool,
}

impl Flood {
    /// How long it has lasted, ms.
    pub const fn lasted_ms(&self) -> u64 {
        self.seen_ns.saturating_sub(self.began_ns) / 1_000_000
    }
}

/// What there is to tell after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A flood begins. With the SYNs a second of which it is made, and those that
    /// come to nothing.
    Begins {
        /// It.
        flood: Flood,
        /// SYNs a second.
        rate: u64,
    },
    /// It is over.
    Ends(Flood),
}

/// Watches for floods.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<Look>,
    /// Looks in a row that could be the beginning of a flood.
    suspicions: u32,
    flood: Option<Flood>,
    told_ns: Option<u64>,
    /// Floods that were not told.
    suppressed: u64,
}

impl Watch {
    /// The flood that goes on.
    pub const fn flood(&self) -> Option<&Flood> {
        self.flood.as_ref()
    }

    /// Floods that were not told, since this was asked last.
    pub const fn take_suppressed(&mut self) -> u64 {
        let suppressed = self.suppressed;
        self.suppressed = 0;
        suppressed
    }

    /// Takes a look into account.
    pub fn step(&mut self, look: &Look) -> Option<News> {
        let last = self.last.replace(*look)?;
        let counted = look.totals.since(last.totals);
        let span_ns = look.now_ns.saturating_sub(last.now_ns).max(1);
        let rate = per_second(counted.syns, span_ns);
        let futile = per_second(futile(counted, look.completed_permille), span_ns);
        let above = futile >= look.threshold;
        match &mut self.flood {
            Some(flood) => {
                if above {
                    flood.seen_ns = look.now_ns;
                    flood.totals = look.totals.since(flood.before);
                }
                flood.peak = flood.peak.max(rate);
                flood.high_water = flood.high_water.max(look.half_open);
                let quiet_ns = look.now_ns.saturating_sub(flood.seen_ns);
                if quiet_ns < QUIET.as_nanos() as u64 {
                    return None;
                }
                self.suspicions = 0;
                self.flood.take().filter(|flood| flood.told).map(News::Ends)
            }
            None => {
                // An honest second may look bad while cookies are on: SYNs that are
                // answered in one may come back in the next.
                let turned_away = per_second(turned_away(counted), span_ns);
                let crowded = look.half_open >= look.level || turned_away >= look.threshold;
                let suspicious = above && 2 * futile >= rate && (crowded || look.answering);
                self.suspicions = if suspicious { self.suspicions + 1 } else { 0 };
                if !(suspicious && (crowded || self.suspicions > 1)) {
                    return None;
                }
                let flood = self.begin(look, last, rate);
                flood.told.then_some(News::Begins { flood, rate })
            }
        }
    }

    fn begin(&mut self, look: &Look, last: Look, rate: u64) -> Flood {
        let recent = self
            .told_ns
            .is_some_and(|told| look.now_ns.saturating_sub(told) < TELL_EVERY.as_nanos() as u64);
        if recent {
            self.suppressed += 1;
        } else {
            self.told_ns = Some(look.now_ns);
        }
        *self.flood.insert(Flood {
            began_ns: last.now_ns,
            seen_ns: look.now_ns,
            before: last.totals,
            totals: look.totals.since(last.totals),
            peak: rate,
            high_water: look.half_open,
            told: !recent,
        })
    }
}

/// How many of the counted SYNs came to nothing.
fn futile(counted: Totals, completed_permille: u64) -> u64 {
    let completed = counted.opened.saturating_mul(completed_permille.min(1000)) / 1000;
    counted
        .syns
        .saturating_sub(completed)
        .saturating_sub(counted.returned)
}

/// How many of them a limit kept from opening a flow: refused, or passed without.
const fn turned_away(counted: Totals) -> u64 {
    let Totals {
        syns, opened, sent, ..
    } = counted;
    syns.saturating_sub(opened).saturating_sub(sent)
}

fn per_second(count: u64, span_ns: u64) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / u128::from(span_ns);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world in which seconds pass.
    struct World {
        watch: Watch,
        look: Look,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                watch: Watch::default(),
                look: Look {
                    now_ns: 1_000_000_000_000,
                    totals: Totals::default(),
                    completed_permille: 0,
                    half_open: 0,
                    level: 1000,
                    answering: false,
                    threshold: threshold(1000, 60_000),
                },
            };
            assert_eq!(world.watch.step(&world.look.clone()), None);
            world
        }

        /// A second with so many SYNs, after which so many flows are half-open.
        fn second(&mut self, syns: u64, half_open: u64) -> Option<News> {
            self.look.now_ns += 1_000_000_000;
            self.look.totals.syns += syns;
            self.look.totals.opened += syns;
            self.look.half_open = half_open;
            self.watch.step(&self.look)
        }

        fn seconds(&mut self, count: u64, syns: u64, half_open: u64) -> Vec<(u64, News)> {
            (1..=count)
                .filter_map(|second| Some((second, self.second(syns, half_open)?)))
                .collect()
        }
    }

    #[test]
    fn a_flood_is_what_would_fill_the_table() {
        assert_eq!(threshold(8192, 60_000), 136);
        assert_eq!(threshold(100, 60_000), LEAST);
        assert_eq!(threshold(100, 0), LEAST);
        assert_eq!(threshold(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn a_flood_begins_when_half_open_flows_are_many_and_ends_after_ten_quiet_seconds() {
        let mut world = World::new();
        assert_eq!(world.seconds(5, 500, 999), []);
        let Some(News::Begins { flood, rate }) = world.second(800, 1000) else {
            panic!("no flood begins");
        };
        assert_eq!((rate, flood.totals.syns, flood.told), (800, 800, true));
        assert_eq!(world.seconds(20, 2000, 1500), []);
        let ended = world.seconds(60, 3, 1400);
        let [(10, News::Ends(flood))] = ended.as_slice() else {
            panic!("{ended:?}");
        };
        assert_eq!(flood.lasted_ms(), 21_000);
        assert_eq!(flood.totals.syns, 40_800);
        assert_eq!((flood.peak, flood.high_water), (2000, 1500));
        assert_eq!(world.watch.flood(), None);
    }

    #[test]
    fn a_flood_that_a_limit_turns_away_is_one_however_few_are_half_open() {
        let mut world = World::new();
        world.look.totals.syns += 5000;
        world.look.totals.refused += 5000;
        assert!(matches!(
            world.second(0, 100),
            Some(News::Begins { rate: 5000, .. })
        ));
    }

    #[test]
    fn a_pause_does_not_end_a_flood() {
        let mut world = World::new();
        assert_eq!(world.seconds(1, 800, 1000).len(), 1);
        for _ in 0..5 {
            assert_eq!(world.seconds(9, 0, 0), []);
            assert_eq!(world.seconds(1, 800, 10), []);
        }
    }

    #[test]
    fn a_crowd_that_completes_its_handshakes_is_no_flood() {
        let mut world = World::new();
        world.look.completed_permille = 990;
        assert_eq!(world.seconds(10, 100_000, 900), []);
        // Even if it is so large that many are half-open at any moment.
        assert_eq!(world.seconds(10, 100_000, 5000), []);
    }

    #[test]
    fn while_cookies_are_on_a_flood_takes_two_seconds_to_be_sure_of() {
        let mut world = World::new();
        world.look.answering = true;
        let second = |world: &mut World, sent: u64, returned: u64| {
            world.look.totals.sent += sent;
            world.look.totals.returned += returned;
            world.look.totals.opened -= sent.min(world.look.totals.opened);
            world.second(sent, 0)
        };
        // A burst whose cookies come back in the next second.
        assert_eq!(second(&mut world, 5000, 0), None);
        assert_eq!(second(&mut world, 5000, 9000), None);
        assert_eq!(second(&mut world, 5000, 5000), None);
        assert_eq!(second(&mut world, 5000, 20), None);
        assert!(matches!(
            second(&mut world, 5000, 20),
            Some(News::Begins { rate: 5000, .. })
        ));
    }

    #[test]
    fn of_many_floods_one_a_minute_is_told() {
        let mut world = World::new();
        let mut told = 0;
        for _ in 0..10 {
            told += world.seconds(2, 800, 1000).len();
            told += world.seconds(11, 0, 0).len();
        }
        // 130 s: the first, and those after 60 and 120 s; each with its end.
        assert_eq!(told, 4);
        assert_eq!(world.watch.take_suppressed(), 8);
        assert_eq!(world.watch.take_suppressed(), 0);
    }

    #[test]
    fn the_first_look_and_counters_that_run_back_are_nothing() {
        let mut world = World::new();
        world.look.totals.syns = 1_000_000;
        world.watch = Watch::default();
        assert_eq!(world.second(1_000_000, 5000), None);
        world.look.totals = Totals::default();
        assert_eq!(world.second(0, 5000), None);
    }

    #[test]
    fn a_late_look_counts_by_the_time_that_passed() {
        let mut world = World::new();
        world.look.now_ns += 9_000_000_000;
        let Some(News::Begins { rate, .. }) = world.second(10_000, 2000) else {
            panic!("no flood begins");
        };
        assert_eq!(rate, 1000);
    }
}
