//! Sweeps the flow tables for what has expired.
//!
//! Expiry does not depend on it: to the packet path an expired flow is absent.
//! The sweep gives its memory and its counters back.

use std::sync::Arc;

use anyhow::Result;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{Cause, Family, Flow, Key, Live},
    tcp::timeout::{self, Class},
    time::Tick,
};

use super::{
    duties::Duties,
    time_wait::{Ages, Excess},
    trouble::{QUIET, Trouble},
};
use crate::datapath::{Pinned, ReapTotals};

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
    let mut next = Instant::now();
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
        let pinned = Arc::clone(&pinned);
        // A sweep of a full table takes tens of milliseconds of the CPU.
        let swept =
            tokio::task::spawn_blocking(move || sweep(&pinned, current.time_wait_limit)).await;
        match swept {
            Ok(Ok(swept)) => {
                trouble.over();
                tell(&swept, current.time_wait_limit, &mut limited);
            }
            Ok(Err(error)) => trouble.tell(&format!("{error:#}")),
            Err(error) => trouble.tell(&error.to_string()),
        }
    }
}

/// What became of a sweep's candidates.
#[derive(Debug, Default)]
struct Swept {
    expired: ReapTotals,
    /// Flows in TIME_WAIT above the limit.
    time_wait: ReapTotals,
}

fn tell(swept: &Swept, limit: u32, limited: &mut Option<Instant>) {
    let Swept { expired, time_wait } = swept;
    if expired.removed > 0 {
        tracing::debug!(
            "swept: {} removed, {} alive after all, {} gone already",
            expired.removed,
            expired.kept,
            expired.gone
        );
    }
    if time_wait.removed == 0 {
        return;
    }
    if limited.is_none_or(|told| told.elapsed() >= QUIET) {
        *limited = Some(Instant::now());
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

/// One sweep over both tables, and another one for flows in TIME_WAIT where these
/// are more than `limit`.
fn sweep(pinned: &Pinned, limit: u32) -> Result<Swept> {
    let live = pinned.live()?;
    let mut swept = Swept::default();
    let now = Tick::from_ns(Pinned::now_ns()?);
    let mut ages = Ages::new(now, live.timeouts[Class::TimeWait as usize]);
    swept.expired = remove(pinned, Cause::Expired, |family, chunk, candidates| {
        let now = Tick::from_ns(Pinned::now_ns()?);
        select(chunk, family, now, &live, &mut ages, candidates);
        Ok(())
    })?;
    if let Some(mut excess) = ages.beyond(limit) {
        swept.time_wait = remove(pinned, Cause::TimeWaitLimit, |family, chunk, candidates| {
            select_excess(chunk, family, &mut excess, candidates);
            Ok(())
        })?;
    }
    Ok(swept)
}

/// Walks over both tables and has the candidates that `select` finds removed.
fn remove(
    pinned: &Pinned,
    cause: Cause,
    mut select: impl FnMut(Family, &[(Key, Flow)], &mut Vec<Candidate>) -> Result<()>,
) -> Result<ReapTotals> {
    let mut candidates = Vec::new();
    let mut totals = ReapTotals::default();
    for family in [Family::V4, Family::V6] {
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

/// The flows of `chunk` that are too many in TIME_WAIT. The kernel judges again
/// whether they are in it.
fn select_excess(
    chunk: &[(Key, Flow)],
    family: Family,
    excess: &mut Excess,
    candidates: &mut Vec<Candidate>,
) {
    let taken = chunk.iter().filter(|(_, flow)| excess.takes(flow));
    candidates.extend(taken.map(|&(key, flow)| (family, key, flow.generation)));
}

#[cfg(test)]
mod tests {
    use tracker_common::tcp::{State, timeout::Profile};

    use super::*;

    #[test]
    fn only_the_expired_are_proposed() {
        let live = Live {
            timeouts: [100; _],
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
