//! Bans that have ended, and sources that keep standing at their limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracker_common::abi::{Ban, Mode, Place, PlaceKind};

use super::{flight::ns, trouble::Trouble};
use crate::{
    config::{self, Config},
    datapath::{Floods, Pinned},
    prefix,
    view::{bans::left_ms, place, text::Span},
};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How often bans are looked at for those that have ended, at least: `tracker ban`
/// may have added some.
const SWEEP_NS: u64 = 10_000_000_000;
/// Bans that one look tells one by one, made or ended.
const TOLD: usize = 5;

/// What is written down of floods and bans, by the two tasks that see them.
#[derive(Debug)]
pub struct Record(Mutex<State>);

#[derive(Debug)]
struct State {
    floods: Floods,
    /// Of [`Floods::suppressed`], those that a line has told.
    told: u64,
}

impl Record {
    /// Goes on from what stands there.
    pub fn adopt(pinned: &Pinned) -> Result<Self> {
        // A flood that an earlier agent saw may be over.
        let floods = Floods {
            since_ns: None,
            ..pinned.floods()
        };
        pinned.set_floods(floods)?;
        Ok(Self(Mutex::new(State {
            floods,
            told: floods.suppressed,
        })))
    }

    /// Changes something, and writes it down if that changes anything.
    pub fn change(&self, pinned: &Pinned, change: impl FnOnce(&mut Floods)) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut floods = state.floods;
        change(&mut floods);
        if floods != state.floods {
            pinned.set_floods(floods)?;
            state.floods = floods;
        }
        Ok(())
    }

    /// Floods that no line has told; they count as told from here on.
    pub fn unlogged(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unlogged = state.floods.suppressed.saturating_sub(state.told);
        state.told = state.floods.suppressed;
        unlogged
    }
}

/// Looks after bans until `stop`.
pub async fn run(
    pinned: Arc<Pinned>,
    record: Arc<Record>,
    mut configs: watch::Receiver<Arc<Config>>,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::about("bans are not looked after");
    let mut offenders = Offenders::default();
    let mut next_sweep_ns = 0;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let config = Arc::clone(&configs.borrow_and_update());
        let looked = sweep(&pinned, &mut next_sweep_ns)
            .and_then(|()| look(&pinned, &record, &config, &mut offenders));
        match looked {
            Ok(()) => trouble.over(),
            Err(error) => trouble.tell(&format!("{error:#}")),
        }
    }
}

/// Removes bans that have ended, if it is time to: the programs take them for ended
/// anyway, but look at no more than a few that lie one in the other.
fn sweep(pinned: &Pinned, next_ns: &mut u64) -> Result<()> {
    let now_ns = Pinned::now_ns()?;
    if now_ns < *next_ns {
        return Ok(());
    }
    let mut next = now_ns.saturating_add(SWEEP_NS);
    let mut over = 0;
    for (key, ban) in pinned.bans()? {
        if left_ms(&ban, now_ns) == Some(0) {
            pinned.clear_ban(&key)?;
            over += 1;
            if let Some(prefix) = prefix::of_ban(&key).filter(|_| over <= TOLD) {
                tracing::info!(
                    "the ban of {prefix} is over: it refused {} packets",
                    ban.refused
                );
            }
        } else if ban.until_ns != 0 {
            next = next.min(ban.until_ns);
        }
    }
    if over > TOLD {
        tracing::info!("{} more bans are over", over - TOLD);
    }
    *next_ns = next;
    Ok(())
}

/// Bans the sources that have stood at their limit for too long.
fn look(
    pinned: &Pinned,
    record: &Record,
    config: &Config,
    offenders: &mut Offenders,
) -> Result<()> {
    let config::Ban {
        enabled,
        after,
        lasts,
    } = config.defence.ban;
    if !enabled || config.mode != Mode::Enforce {
        *offenders = Offenders::default();
        return Ok(());
    }
    let limit = config.defence.source_limit;
    let now_ns = Pinned::now_ns()?;
    let found = offenders.step(&pinned.shares()?, limit, now_ns, ns(after));
    if found.is_empty() {
        return Ok(());
    }
    let own: Vec<_> = own_addresses()?;
    let mut made = 0;
    for source in found {
        let Some(prefix) = place::source(&source, config.defence.source_bits) else {
            continue;
        };
        if own.iter().any(|address| prefix.contains(address)) {
            continue;
        }
        let key = prefix::ban_key(&prefix);
        let before = pinned.ban(&key)?;
        let until_ns = now_ns.saturating_add(ns(lasts));
        if before.is_some_and(|ban| ban.until_ns == 0 || ban.until_ns >= until_ns) {
            continue;
        }
        let ban = Ban {
            until_ns,
            refused: before.map_or(0, |ban| ban.refused),
            ..Ban::default()
        };
        pinned.set_ban(&key, &ban)?;
        made += 1;
        if made <= TOLD {
            tracing::warn!(
                "{prefix} is banned for {}: it has stood at its limit of {limit} half-open \
                 connections for {}",
                Span(lasts.as_millis() as u64),
                Span(after.as_millis() as u64)
            );
        }
    }
    if made > TOLD {
        tracing::warn!("{} more prefixes are banned likewise", made - TOLD);
    }
    record.change(pinned, |floods| floods.bans += made as u64)
}

/// The addresses of this machine, which are never banned.
fn own_addresses() -> Result<Vec<std::net::IpAddr>> {
    let list = getifaddrs().context("cannot list this machine's addresses")?;
    let addresses = list.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(addresses.collect())
}

/// Since when sources have been standing at their limit, look for look, ns.
#[derive(Debug, Default)]
struct Offenders(HashMap<Place, u64>);

impl Offenders {
    /// Takes a look into account, and gives the sources that have been at their
    /// limit for `after_ns`; they begin anew.
    ///
    /// A source is at its limit with nine tenths of it or more: between a flow that
    /// expires and the next SYN a place is free.
    fn step(
        &mut self,
        shares: &[(Place, u64)],
        limit: u32,
        now_ns: u64,
        after_ns: u64,
    ) -> Vec<Place> {
        let at_limit = shares.iter().filter(|(place, flows)| {
            place.kind == PlaceKind::Source as u8
                && limit > 0
                && flows.saturating_mul(10) >= u64::from(limit) * 9
        });
        let mut standing = HashMap::new();
        let mut found = Vec::new();
        for (place, _) in at_limit {
            let since = self.0.get(place).copied().unwrap_or(now_ns);
            if now_ns.saturating_sub(since) >= after_ns {
                found.push(*place);
            } else {
                standing.insert(*place, since);
            }
        }
        self.0 = standing;
        found
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::Family;

    use super::*;

    fn source(number: u8) -> Place {
        let word = u32::from_ne_bytes([198, 18, number, 0]);
        Place::source(Family::V4, [word, 0, 0, 0], 24, 0)
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn who_stands_at_its_limit_look_for_look_is_found() {
        let mut offenders = Offenders::default();
        let listener = Place::listener(Family::V4, [1, 0, 0, 0], 80, 0);
        let shares = [(source(1), 64), (source(2), 30), (listener, 1000)];
        for second in 0..10 {
            let found = offenders.step(&shares, 64, second * SECOND, 10 * SECOND);
            assert!(found.is_empty(), "{second}");
        }
        let found = offenders.step(&shares, 64, 10 * SECOND, 10 * SECOND);
        assert_eq!(found, [source(1)]);
        // And not again at once.
        assert!(
            offenders
                .step(&shares, 64, 11 * SECOND, 10 * SECOND)
                .is_empty()
        );
    }

    #[test]
    fn one_look_below_it_begins_anew() {
        let mut offenders = Offenders::default();
        let full = [(source(1), 58)];
        for second in [0, 1, 3, 4] {
            let found = offenders.step(&full, 64, second * SECOND, 3 * SECOND);
            assert!(found.is_empty(), "{second}");
            if second == 1 {
                assert!(
                    offenders
                        .step(&[(source(1), 57)], 64, 2 * SECOND, 3 * SECOND)
                        .is_empty()
                );
            }
        }
        assert_eq!(
            offenders.step(&full, 64, 6 * SECOND, 3 * SECOND),
            [source(1)]
        );
    }

    #[test]
    fn without_a_limit_nobody_is_found() {
        let mut offenders = Offenders::default();
        assert!(offenders.step(&[(source(1), 64)], 0, 0, 0).is_empty());
        assert_eq!(offenders.step(&[(source(1), 1)], 1, 0, 0), [source(1)]);
    }
}
