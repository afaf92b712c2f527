//! Ratios over all rounds, and the targets that they are to meet.

use serde::Serialize;

use super::{
    Account,
    contestant::Contestant,
    phase::{Beside, Turn},
};
use crate::spread::Spread;

/// What all rounds together say.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// One a contestant.
    pub contestants: Vec<Figures>,
    /// Against the targets.
    pub targets: Vec<Target>,
}

/// A contestant's figures.
#[derive(Debug, Serialize)]
pub struct Figures {
    name: &'static str,
    title: &'static str,
    error: Option<String>,
    /// Nanoseconds of a received frame beyond the sink's of the same round.
    net_ns: Option<Spread>,
    /// Millions of frames a second that the generator, alone, could send.
    alone_per_second: Option<Spread>,
    /// Beside honest clients, at full speed.
    full: Option<Noticed>,
    /// Beside honest clients, paced.
    paced: Option<Noticed>,
    /// Most half-open connections at the end of any flood.
    half_open: Option<u64>,
    /// Their limit.
    half_open_limit: Option<u64>,
    /// Octets by which less was available.
    memory: Option<Spread>,
    /// Octets that the kernel held more.
    kernel_memory: Option<Spread>,
}

/// What honest clients noticed.
#[derive(Debug, Serialize)]
pub struct Noticed {
    offered_per_second: Option<Spread>,
    received_per_second: Option<Spread>,
    answered_per_second: Option<Spread>,
    /// Frames of the flood that were lost in the queue of the veth pair, share.
    lost: Option<Spread>,
    /// Share of connections that went well.
    success: Option<Spread>,
    tried: u64,
    resent: u64,
    failed: u64,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    bulk_per_second: Option<Spread>,
    bulk_retransmitted: u64,
    others_lost: u64,
    /// Share of its time that each core was busy, median.
    cores: Vec<f64>,
}

/// A ratio, round by round, beside what it is to be.
#[derive(Debug, Serialize)]
pub struct Target {
    what: String,
    /// At most this.
    at_most: f64,
    /// Of all rounds.
    ratio: Option<Spread>,
    /// Whether the median meets it; unknown if it was not measured.
    met: Option<bool>,
}

impl Summary {
    /// Of all that was measured.
    pub fn of(accounts: &[Account]) -> Self {
        let sink = rounds(accounts, Contestant::Sink);
        let contestants = accounts
            .iter()
            .map(|account| Figures::of(account, sink))
            .collect();
        let mut targets = Vec::new();
        for tracker in [Contestant::Adaptive, Contestant::Always] {
            for peer in [
                Contestant::Kernel1,
                Contestant::Kernel2,
                Contestant::Synproxy,
            ] {
                targets.push(Target::new(
                    format!("net cost of a SYN: {} / {}", tracker.title(), peer.title()),
                    1.0 / 6.0,
                    net_ratio(accounts, tracker, peer),
                ));
            }
            targets.push(Target::new(
                format!("honest p99: {} / sink", tracker.title()),
                2.0,
                pairs(rounds(accounts, tracker), sink)
                    .filter_map(|(turn, sink)| {
                        Some(turn.beside.exchanges.p99_us? / sink.beside.exchanges.p99_us?)
                    })
                    .collect(),
            ));
            targets.push(Target::new(
                format!("honest connections that went wrong: {}", tracker.title()),
                0.0,
                rounds(accounts, tracker)
                    .iter()
                    .map(|turn| 1.0 - turn.beside.exchanges.success())
                    .collect(),
            ));
            targets.push(Target::new(
                format!(
                    "bulk segments sent again, beyond what queues dropped: {}",
                    tracker.title()
                ),
                0.0,
                rounds(accounts, tracker)
                    .iter()
                    .map(|turn| unexplained(&turn.beside))
                    .collect(),
            ));
            targets.push(Target::new(
                format!("half-open connections / their limit: {}", tracker.title()),
                1.0,
                rounds(accounts, tracker)
                    .iter()
                    .filter_map(|turn| {
                        let most = turn.alone.half_open.max(turn.beside.half_open)?;
                        Some(most as f64 / turn.alone.half_open_limit? as f64)
                    })
                    .collect(),
            ));
        }
        Self {
            contestants,
            targets,
        }
    }
}

/// Segments of the bulk transfer that were sent again though no queue dropped
/// anything.
fn unexplained(beside: &Beside) -> f64 {
    let sent_again = u64::from(beside.bulk.retransmitted);
    sent_again.saturating_sub(beside.others_lost) as f64
}

fn rounds(accounts: &[Account], contestant: Contestant) -> &[Turn] {
    accounts
        .iter()
        .find(|account| account.name == contestant.name())
        .map_or(&[], |account| &account.rounds)
}

fn pairs<'a>(a: &'a [Turn], b: &'a [Turn]) -> impl Iterator<Item = (&'a Turn, &'a Turn)> {
    a.iter().zip(b)
}

fn net(turn: &Turn, sink: &Turn) -> f64 {
    turn.alone.ns_per_frame - sink.alone.ns_per_frame
}

fn net_ratio(accounts: &[Account], one: Contestant, other: Contestant) -> Vec<f64> {
    let sink = rounds(accounts, Contestant::Sink);
    pairs(rounds(accounts, one), rounds(accounts, other))
        .zip(sink)
        .map(|((one, other), sink)| net(one, sink) / net(other, sink))
        .collect()
}

impl Target {
    fn new(what: String, at_most: f64, ratios: Vec<f64>) -> Self {
        let ratio = Spread::of(ratios);
        Self {
            what,
            at_most,
            ratio,
            met: ratio.map(|ratio| ratio.median <= at_most),
        }
    }
}

impl Figures {
    fn of(account: &Account, sink: &[Turn]) -> Self {
        let turns = &account.rounds;
        let spread = |value: fn(&Turn) -> f64| Spread::of(turns.iter().map(value).collect());
        let is_floor = account.name == Contestant::Sink.name();
        Self {
            name: account.name,
            title: account.title,
            error: account.error.clone(),
            net_ns: if is_floor {
                None
            } else {
                Spread::of(
                    pairs(turns, sink)
                        .map(|(turn, sink)| net(turn, sink))
                        .collect(),
                )
            },
            alone_per_second: spread(|turn| turn.alone.per_second),
            full: Noticed::of(turns, |turn| Some(&turn.beside)),
            paced: Noticed::of(turns, |turn| turn.paced.as_ref()),
            half_open: turns
                .iter()
                .flat_map(|turn| [turn.alone.half_open, turn.beside.half_open])
                .flatten()
                .max(),
            half_open_limit: turns.first().and_then(|turn| turn.alone.half_open_limit),
            memory: spread(|turn| turn.memory as f64),
            kernel_memory: spread(|turn| turn.kernel_memory as f64),
        }
    }
}

impl Noticed {
    fn of(turns: &[Turn], of: fn(&Turn) -> Option<&Beside>) -> Option<Self> {
        let all: Vec<_> = turns.iter().filter_map(of).collect();
        let first = all.first()?;
        let spread = |value: fn(&Beside) -> f64| {
            Spread::of(all.iter().map(|beside| value(beside)).collect())
        };
        let time = |value: fn(&Beside) -> Option<f64>| {
            Spread::of(all.iter().filter_map(|beside| value(beside)).collect())
        };
        let sum = |value: fn(&Beside) -> u64| all.iter().map(|beside| value(beside)).sum();
        let cores = (0..first.cores.len())
            .filter_map(|core| {
                let shares = all
                    .iter()
                    .filter_map(|beside| beside.cores.get(core).copied());
                Some(Spread::of(shares.collect())?.median)
            })
            .collect();
        Some(Self {
            offered_per_second: spread(|beside| beside.offered_per_second),
            received_per_second: spread(|beside| beside.received_per_second),
            answered_per_second: spread(|beside| beside.answered_per_second),
            lost: spread(|beside| beside.frames.lost as f64 / beside.frames.sent.max(1) as f64),
            success: spread(|beside| beside.exchanges.success()),
            tried: sum(|beside| beside.exchanges.tried),
            resent: sum(|beside| beside.exchanges.resent),
            failed: sum(|beside| beside.exchanges.failed),
            p50_us: time(|beside| beside.exchanges.p50_us),
            p99_us: time(|beside| beside.exchanges.p99_us),
            bulk_per_second: spread(|beside| beside.bulk.octets as f64 / beside.bulk.seconds),
            bulk_retransmitted: sum(|beside| beside.bulk.retransmitted.into()),
            others_lost: sum(|beside| beside.others_lost),
            cores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(values.to_vec()).map(|spread| (spread.min, spread.median, spread.max))
    }

    #[test]
    fn spreads_leave_out_what_is_no_number() {
        assert_eq!(spread(&[3.0, 1.0, f64::NAN, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[f64::INFINITY]), None);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_target_is_judged_by_its_median() {
        let met = |ratios: &[f64]| Target::new("a / b".into(), 2.0, ratios.to_vec()).met;
        assert_eq!(met(&[1.0, 2.0, 9.0]), Some(true));
        assert_eq!(met(&[1.0, 2.1, 2.2]), Some(false));
        assert_eq!(met(&[]), None);
    }
}
