//! Sweeps the flow tables for what has expired.
//!
//! Expiry does not depend on it: to the packet path an expired flow is absent.
//! The sweep gives its memory and its counters back, and since it reads all flows,
//! it counts them again (`recount`).

use std::sync::Arc;

use anyhow::Result;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{Cause, Family, Flow, Gauge, Hook, Key, Live, Mode},
    reason::Reason,
    tcp::timeout::{self, Class},
    time::Tick,
};

use super::{
    duties::Duties,
    recount::{Census, Recount},
    room::{self, Room},
    time_wait::Ages,
    trouble::{QUIET, Trouble},
};
use crate::datapath::{Corrections, Pinned, ReapTotals};

/// A flow by its table, its key and its generation.
type Candidate = (Family, Key, u32);

/// Sweeps every interval, and when `sweep` is notified, until `stop`.
pub async fn run(
    pinned: Arc<Pinned>,
    mut duties: watch::Receiver<Duties>,
    sweep_now: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::about("expired flows cannot be removed");
    let mut limited = None::<Instant>;
    let mut crowded = None::<Instant>;
    let mut next = Instant::now();
    let mut sweeper = Sweeper::new(Arc::clone(&pinned));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(next) => {}
            () = sweep_now.notified() => {}
            // A shorter interval takes effect at once.
            Ok(()) = duties.changed() => {}
        }
        let current = *duties.borrow_and_update();
        next = Instant::now() + current.sweep_interval;
        // A sweep of a full table takes tens of milliseconds of the CPU.
        let sweeping = tokio::task::spawn_blocking(move || {
            let swept = sweeper.sweep(current.time_wait_limit);
            (sweeper, swept)
        });
        match sweeping.await {
            Ok((back, Ok(swept))) => {
                sweeper = back;
                trouble.over();
                tell(&swept, current.time_wait_limit, &mut limited, &mut crowded);
            }
            Ok((back, Err(error))) => {
                sweeper = back;
                trouble.tell(&format!("{error:#}"));
            }
            Err(error) => {
                sweeper = Sweeper::new(Arc::clone(&pinned));
                trouble.tell(&error.to_string());
            }
        }
    }
}

/// What became of a sweep's candidates.
#[derive(Debug, Default)]
struct Swept {
    expired: ReapTotals,
    /// Flows in TIME_WAIT above the limit.
    time_wait: ReapTotals,
    /// Flows that made room in a full table.
    evicted: ReapTotals,
    /// Counters that were set right.
    corrected: Corrections,
}

fn tell(swept: &Swept, limit: u32, limited: &mut Option<Instant>, crowded: &mut Option<Instant>) {
    let Swept {
        expired,
        time_wait,
        evicted,
        corrected,
    } = swept;
    if expired.removed > 0 {
        tracing::debug!(
            "swept: {} removed, {} alive after all, {} gone already",
            expired.removed,
            expired.kept,
            expired.gone
        );
    }
    if *corrected != Corrections::default() {
        tracing::warn!(
            "counters had drifted from the flows that they count: gauges by {}, shares of listeners \
             and sources by {}; both are right again",
            corrected.gauges,
            corrected.shares
        );
    }
    if evicted.removed > 0 {
        if seldom(crowded) {
            tracing::warn!(
                "a table is full: {} flows that were half-open, over or unanswered made room; more \
                 of these in the next minute are not told",
                evicted.removed
            );
        } else {
            tracing::debug!("{} flows made room", evicted.removed);
        }
    }
    if time_wait.removed == 0 {
        return;
    }
    if seldom(limited) {
        tracing::info!(
            "more than tracking.time_wait_limit = {limit} flows are in TIME_WAIT: the {} oldest \
             were removed; more of these in the next minute are not told",
            time_wait.removed
        );
    } else {
        tracing::debug!(
            "{} flows in TIME_WAIT above the limit were removed",
            time_wait.removed
        );
    }
}

/// Whether something was not told in the last minute; it is then.
fn seldom(told: &mut Option<Instant>) -> bool {
    let seldom = told.is_none_or(|told| told.elapsed() >= QUIET);
    if seldom {
        *told = Some(Instant::now());
    }
    seldom
}

/// Sweeps, and remembers what one sweep tells the next.
struct Sweeper {
    pinned: Arc<Pinned>,
    recount: Recount,
    /// Flows that had found no place in their table, at the last sweep.
    refused: Option<u64>,
}

impl Sweeper {
    fn new(pinned: Arc<Pinned>) -> Self {
        Self {
            pinned,
            recount: Recount::default(),
            refused: None,
        }
    }

    /// One sweep over both tables, and further ones for flows in TIME_WAIT where
    /// these are more than `limit`, and for room where there is none.
    fn sweep(&mut self, limit: u32) -> Result<Swept> {
        let pinned = &self.pinned;
        let live = pinned.live()?;
        let mut swept = Swept::default();
        let now = Tick::from_ns(Pinned::now_ns()?);
        let mut ages = Ages::new(now, live.timeouts[0][Class::TimeWait as usize]);
        let mut census = Census::begin(pinned, &live)?;
        swept.expired = remove(
            pinned,
            Cause::Expired,
            &FAMILIES,
            |family, chunk, candidates| {
                let now = Tick::from_ns(Pinned::now_ns()?);
                for (key, flow) in chunk {
                    census.note(family, key, flow);
                }
                select(chunk, family, now, &live, &mut ages, candidates);
                Ok(())
            },
        )?;
        swept.corrected = self.recount.settle(pinned, census)?;
        if swept.corrected != Corrections::default() {
            let Corrections { gauges, shares } = pinned.corrections();
            pinned.set_corrections(Corrections {
                gauges: gauges.saturating_add(swept.corrected.gauges),
                shares: shares.saturating_add(swept.corrected.shares),
            })?;
        }
        if let Some(mut excess) = ages.beyond(limit) {
            let take = |family, chunk: &[(Key, Flow)], candidates: &mut Vec<Candidate>| {
                propose(chunk, family, candidates, |flow| excess.takes(flow));
                Ok(())
            };
            swept.time_wait = remove(pinned, Cause::TimeWaitLimit, &FAMILIES, take)?;
        }
        swept.evicted = self.make_room(&live)?;
        Ok(swept)
    }

    /// Makes room in tables that are nearly full or have refused a flow since the
    /// last sweep, where that is wanted.
    fn make_room(&mut self, live: &Live) -> Result<ReapTotals> {
        let pinned = &self.pinned;
        let mut refused = 0_u64;
        for reason in [Reason::TableFull, Reason::TableRefused] {
            for hook in [Hook::Ingress, Hook::Egress] {
                refused = refused.wrapping_add(pinned.reason(reason, hook)?.packets);
            }
        }
        let before = self.refused.replace(refused);
        let mut totals = ReapTotals::default();
        if live.mode != Mode::Enforce as u8 {
            return Ok(totals);
        }
        let lately = before.is_some_and(|before| before != refused);
        let gauges = pinned.gauges()?;
        for (family, gauge) in [(Family::V4, Gauge::FlowsV4), (Family::V6, Gauge::FlowsV6)] {
            let needed = room::needed(gauges[gauge as usize], live.capacity, lately);
            if needed == 0 {
                continue;
            }
            let mut room = Room::new(Tick::from_ns(Pinned::now_ns()?));
            let mut flows = pinned.flows(family)?;
            while let Some(chunk) = flows.next_chunk()? {
                chunk.iter().for_each(|(_, flow)| room.note(flow));
            }
            let mut choice = room.choose(needed);
            let take = |family, chunk: &[(Key, Flow)], candidates: &mut Vec<Candidate>| {
                propose(chunk, family, candidates, |flow| choice.takes(flow));
                Ok(())
            };
            totals.add(remove(pinned, Cause::Evicted, &[family], take)?);
        }
        Ok(totals)
    }
}

/// Both tables.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Walks over the tables of `families` and has the candidates that `select` finds
/// removed.
fn remove(
    pinned: &Pinned,
    cause: Cause,
    families: &[Family],
    mut select: impl FnMut(Family, &[(Key, Flow)], &mut Vec<Candidate>) -> Result<()>,
) -> Result<ReapTotals> {
    let mut candidates = Vec::new();
    let mut totals = ReapTotals::default();
    for &family in families {
        let mut flows = pinned.flows(family)?;
        while let Some(chunk) = flows.next_chunk()? {
            candidates.clear();
            select(family, chunk, &mut candidates)?;
            totals.add(pinned.remove(cause, &candidates)?);
        }
    }
    Ok(totals)
}

/// The flows of `chunk` that have expired. The kernel judges them again. The
/// others are counted in `ages`.
fn select(
    chunk: &[(Key, Flow)],
    family: Family,
    now: Tick,
    live: &Live,
    ages: &mut Ages,
    candidates: &mut Vec<Candidate>,
) {
    for (key, flow) in chunk {
        if timeout::expired(flow, now, live) {
            candidates.push((family, *key, flow.generation));
        } else {
            ages.note(flow);
        }
    }
}

/// Proposes the flows of `chunk` that `takes` takes. The kernel judges again.
fn propose(
    chunk: &[(Key, Flow)],
    family: Family,
    candidates: &mut Vec<Candidate>,
    mut takes: impl FnMut(&Flow) -> bool,
) {
    let taken = chunk.iter().filter(|(_, flow)| takes(flow));
    candidates.extend(taken.map(|&(key, flow)| (family, key, flow.generation)));
}

#[cfg(test)]
mod tests {
    use tracker_common::tcp::{State, timeout::Profile};

    use super::*;

    #[test]
    fn only_the_expired_are_proposed() {
        let live = Live {
            timeouts: [[100; 16]; _],
            ..Live::observing(Profile::Linux)
        };
        let chunk: Vec<_> = [(1, 0), (2, 50), (3, 99)]
            .map(|(generation, last)| {
                let mut flow = Flow {
                    generation,
                    last: Tick(last),
                    ..Flow::default()
                };
                flow.ends[0].set_state(State::Established);
                flow.ends[1].set_state(State::Established);
                (
                    Key {
                        words: [generation; 10],
                    },
                    flow,
                )
            })
            .into();
        let mut candidates = Vec::new();
        let mut ages = Ages::new(Tick(150), 100);
        select(
            &chunk,
            Family::V6,
            Tick(150),
            &live,
            &mut ages,
            &mut candidates,
        );
        let generations: Vec<u32> = candidates.iter().map(|c| c.2).collect();
        assert_eq!(generations, [1, 2]);
        assert!(
            candidates
                .iter()
                .all(|c| c.0 == Family::V6 && c.1.words[0] == c.2)
        );
    }
}
