//! Where a flood comes from and goes to, as far as samples and a sketch tell.
//!
//! What a flood leaves behind is looked at, not its packets: of the flows that its
//! SYNs open some hundreds a second are looked at, and the programs' sketch of
//! SYN-ACKs by address tells from how many addresses the SYNs came that left
//! nothing.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    net::IpAddr,
};

use ipnet::IpNet;
use tracker_common::defence;

use crate::prefix;

/// Addresses, prefixes and listeners that are kept apart; further ones are not
/// counted by themselves.
const KEPT: usize = 16_384;
/// How many are named.
const NAMED: usize = 3;
/// Percent of all from which on one is named.
const WORTH_NAMING: u64 = 5;
/// Flows that must have been looked at before anything is said of them.
const ENOUGH: u64 = 32;

/// A flow that a SYN from elsewhere opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the SYN came from.
    pub source: IpAddr,
    /// Where it went.
    pub listener: (IpAddr, u16),
    /// Whether its handshake was completed about a second later.
    pub completed: bool,
}

/// What was seen of a flood.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    sampled: u64,
    completed: u64,
    addresses: HashSet<IpAddr>,
    prefixes: HashMap<IpNet, u64>,
    listeners: HashMap<(IpAddr, u16), u64>,
    sketch: Option<Estimate>,
}

/// An estimate by linear counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// About so many.
    About(u64),
    /// More than can be told; at least so many.
    AtLeast(u64),
}

impl Estimate {
    /// How many addresses have touched a sketch of `cells` cells, of which
    /// `touched` were touched.
    ///
    /// Linear counting (Whang, Vander-Zanden, Taylor 1990): m ln(m / empty). When
    /// hardly a cell is empty, it only tells a lower bound.
    pub fn of(touched: usize, cells: usize) -> Self {
        let empty = cells.saturating_sub(touched);
        let (m, floor) = (cells as f64, (cells / 1000).max(1));
        let estimate = |empty: usize| (m * (m / empty as f64).ln()).round() as u64;
        if empty < floor {
            Self::AtLeast(estimate(floor))
        } else {
            Self::About(estimate(empty))
        }
    }

    /// The number, a lower bound or not.
    const fn number(self) -> u64 {
        match self {
            Self::About(number) | Self::AtLeast(number) => number,
        }
    }
}

/// How many of the cells of the programs' sketch have counted a SYN from the second
/// of `since_ns` up to `now_ns`, both of `CLOCK_MONOTONIC`.
pub fn touched(cells: &[u64], since_ns: u64, now_ns: u64) -> usize {
    let age_s = (now_ns / 1_000_000_000).saturating_sub(since_ns / 1_000_000_000);
    let recent = cells
        .iter()
        .filter(|&&cell| defence::is_touched(cell, now_ns, age_s));
    recent.count()
}

impl Sources {
    /// Takes a flow into account.
    pub fn note(&mut self, sample: &Sample) {
        self.sampled += 1;
        count(&mut self.listeners, sample.listener, 1);
        if sample.completed {
            self.completed += 1;
            return;
        }
        if self.addresses.len() < KEPT {
            self.addresses.insert(sample.source);
        }
        let bits = if sample.source.is_ipv4() { 24 } else { 64 };
        count(
            &mut self.prefixes,
            prefix::containing(sample.source, bits),
            1,
        );
    }

    /// Takes SYNs into account that were answered with a cookie.
    pub fn answered(&mut self, listener: (IpAddr, u16), syns: u64) {
        count(&mut self.listeners, listener, syns);
    }

    /// Takes the sketch into account.
    pub fn sketched(&mut self, touched: usize, cells: usize) {
        self.sketch = (touched > 0).then(|| Estimate::of(touched, cells));
    }

    /// Whether the addresses look made up: nobody behind them goes on, and nearly
    /// each is another one. `None` where that cannot be told, as of a few addresses
    /// from which nobody goes on.
    ///
    /// `sent` and `returned` are cookies.
    fn look_spoofed(&self, sent: u64, returned: u64) -> Option<bool> {
        let (tried, went_on) = (self.sampled + sent, self.completed + returned);
        if tried < ENOUGH {
            return None;
        }
        if went_on * 4 >= tried {
            return Some(false);
        }
        let many = |addresses: u64, asked: u64| asked >= ENOUGH && addresses >= 1000.min(asked / 2);
        let sketched = self.sketch.is_some_and(|it| many(it.number(), sent));
        let sampled = many(self.addresses.len() as u64, self.sampled - self.completed);
        let silent = went_on * 50 < tried;
        (silent && (sketched || sampled)).then_some(true)
    }

    /// What is told of the sources, with the cookies that were sent and came back.
    pub const fn told(&self, sent: u64, returned: u64) -> Told<'_> {
        Told {
            sources: self,
            sent,
            returned,
        }
    }

    /// The listeners that get most of it.
    pub fn listeners(&self) -> String {
        let all = self.listeners.values().sum();
        named(&self.listeners, all, |(address, port)| {
            std::net::SocketAddr::new(*address, *port).to_string()
        })
    }
}

/// See [`Sources::told`].
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    sources: &'a Sources,
    sent: u64,
    returned: u64,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources;
        let seen = sources.addresses.len() as u64;
        match sources.sketch {
            Some(Estimate::About(number)) if number >= seen => {
                write!(f, "about {number} addresses")?
            }
            Some(Estimate::AtLeast(number)) => write!(f, "more than {number} addresses")?,
            _ if sources.sampled == 0 => f.write_str("addresses that are not known")?,
            _ => write!(f, "at least {seen} addresses")?,
        }
        let all = sources.sampled - sources.completed;
        let prefixes = named(&sources.prefixes, all, IpNet::to_string);
        match sources.prefixes.len() {
            0 => {}
            _ if !prefixes.is_empty() => write!(f, ", among them {prefixes}")?,
            1 => {}
            number => write!(
                f,
                " in at least {number} prefixes, none of which stands out"
            )?,
        }
        match sources.look_spoofed(self.sent, self.returned) {
            Some(true) => f.write_str("; they look spoofed"),
            Some(false) => f.write_str("; they do not look spoofed"),
            None => Ok(()),
        }
    }
}

/// The largest few of `counts`, with their percentage of `all`; empty if none is
/// worth it.
fn named<K: Ord>(counts: &HashMap<K, u64>, all: u64, name: impl Fn(&K) -> String) -> String {
    let percent = |count: u64| count.saturating_mul(100).checked_div(all).unwrap_or(0);
    let mut largest: Vec<(&K, u64)> = counts
        .iter()
        .map(|(key, &count)| (key, percent(count)))
        .filter(|(_, percent)| *percent >= WORTH_NAMING)
        .collect();
    largest.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
    largest.truncate(NAMED);
    let words: Vec<String> = largest
        .into_iter()
        .map(|(key, percent)| format!("{} ({percent} %)", name(key)))
        .collect();
    words.join(", ")
}

fn count<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K, by: u64) {
    if counts.len() < KEPT || counts.contains_key(&key) {
        *counts.entry(key).or_default() += by;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tracker_common::{defence::Trace, seq::Seq};

    use super::*;

    const SERVER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 443);

    fn sample(source: u32, completed: bool) -> Sample {
        Sample {
            source: Ipv4Addr::from_bits(source).into(),
            listener: SERVER,
            completed,
        }
    }

    fn spread(samples: u32) -> Sources {
        let mut sources = Sources::default();
        for number in 0..samples {
            sources.note(&sample(number.wrapping_mul(0x9e37_79b1), false));
        }
        sources
    }

    #[test]
    fn linear_counting_comes_close() {
        let cells = 65_536;
        for sources in [1_u32, 100, 10_000, 100_000, 300_000] {
            let mut sketch = vec![0_u64; cells];
            let mut state = 88_172_645_463_325_252_u64;
            for _ in 0..sources {
                // Marsaglia's xorshift, for addresses without a pattern.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let trace = Trace::of([state as u32, 0, 0, 0], 1, Seq(0));
                let cell = &mut sketch[trace.slot as usize];
                *cell = defence::count_answer(*cell, trace, 7_900_000_000, 9).bucket;
            }
            let touched = |since_ns| touched(&sketch, since_ns, 9_000_000_000);
            let Estimate::About(estimate) = Estimate::of(touched(7_100_000_000), cells) else {
                panic!("{sources} are too many");
            };
            let error = estimate.abs_diff(sources.into());
            assert!(error * 50 <= u64::from(sources), "{sources}: {estimate}");
            assert_eq!(touched(8_000_000_000), 0);
        }
    }

    #[test]
    fn a_full_sketch_tells_a_lower_bound() {
        assert_eq!(Estimate::of(0, 65_536), Estimate::About(0));
        let Estimate::AtLeast(bound) = Estimate::of(65_530, 65_536) else {
            panic!("not full");
        };
        assert!((400_000..500_000).contains(&bound), "{bound}");
        assert_eq!(Estimate::of(65_536, 65_536), Estimate::AtLeast(bound));
    }

    #[test]
    fn sources_that_are_all_different_and_silent_look_spoofed() {
        let sources = spread(500);
        insta::assert_snapshot!(sources.told(0, 0), @"at least 500 addresses in at least 500 prefixes, none of which stands out; they look spoofed");
        insta::assert_snapshot!(sources.listeners(), @"192.0.2.1:443 (100 %)");
    }

    #[test]
    fn a_few_hosts_that_ask_often_do_not() {
        let mut sources = Sources::default();
        for number in 0..500 {
            sources.note(&sample(0xc612_0700 + number % 7, false));
        }
        insta::assert_snapshot!(sources.told(0, 0), @"at least 7 addresses, among them 198.18.7.0/24 (100 %)");
    }

    #[test]
    fn a_crowd_does_not() {
        let mut sources = spread(500);
        for number in 0..500 {
            sources.note(&sample(number, true));
        }
        insta::assert_snapshot!(sources.told(0, 0), @"at least 500 addresses in at least 500 prefixes, none of which stands out; they do not look spoofed");
    }

    #[test]
    fn behind_cookies_the_sketch_counts() {
        let mut sources = Sources::default();
        for sent in [5, 1000] {
            assert_eq!(
                sources.told(sent, 0).to_string(),
                "addresses that are not known"
            );
        }
        sources.answered(SERVER, 1_000_000);
        sources.sketched(60_000, 65_536);
        insta::assert_snapshot!(sources.told(1_000_000, 3), @"about 161961 addresses; they look spoofed");
        insta::assert_snapshot!(sources.told(1_000_000, 900_000), @"about 161961 addresses; they do not look spoofed");
        sources.sketched(65_536, 65_536);
        insta::assert_snapshot!(sources.told(1_000_000, 3), @"more than 453245 addresses; they look spoofed");
        sources.sketched(40, 65_536);
        insta::assert_snapshot!(sources.told(1_000_000, 3), @"about 40 addresses");
    }

    #[test]
    fn prefixes_that_stand_out_are_named() {
        let mut sources = spread(300);
        for number in 0..200 {
            sources.note(&sample(0xc612_0700 + number, false));
        }
        for number in 0..40 {
            sources.note(&Sample {
                source: format!("2001:db8::{number:x}").parse().unwrap(),
                ..sample(0, false)
            });
        }
        insta::assert_snapshot!(sources.told(0, 0), @"at least 540 addresses, among them 198.18.7.0/24 (37 %), 2001:db8::/64 (7 %); they look spoofed");
    }

    #[test]
    fn memory_has_an_end() {
        let sources = spread(100_000);
        assert_eq!(sources.addresses.len(), KEPT);
        assert!(sources.prefixes.len() <= KEPT);
        assert_eq!(sources.look_spoofed(0, 0), Some(true));
    }
}
