//! Sweeps the flow tables for what has expired.
//!
//! Expiry does not depend on it: to the packet path an expired flow is absent.
//! The sweep gives its memory and its counters back.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{Cause, Family, Flow, Key, Live},
    tcp::timeout,
    time::Tick,
};

use super::live::LiveOwner;
use crate::datapath::{Pinned, ReapTotals};

/// How long the same trouble is told once only.
const QUIET: Duration = Duration::from_secs(60);

/// A flow by its table, its key and its generation.
type Candidate = (Family, Key, u32);

/// Sweeps every interval until `stop`.
pub async fn run(
    pinned: Arc<Pinned>,
    live: Arc<LiveOwner>,
    mut interval: watch::Receiver<Duration>,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::default();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(next) => {}
            // A shorter interval takes effect at once.
            Ok(()) = interval.changed() => {}
        }
        next = Instant::now() + *interval.borrow_and_update();
        let (pinned, live) = (Arc::clone(&pinned), Arc::clone(&live));
        // A sweep of a full table takes tens of milliseconds of the CPU.
        let swept = tokio::task::spawn_blocking(move || sweep(&pinned, &live)).await;
        match swept {
            Ok(Ok(totals)) => {
                trouble.over();
                if totals.removed > 0 {
                    tracing::debug!(
                        "swept: {} removed, {} alive after all, {} gone already",
                        totals.removed,
                        totals.kept,
                        totals.gone
                    );
                }
            }
            Ok(Err(error)) => trouble.tell(&format!("{error:#}")),
            Err(error) => trouble.tell(&error.to_string()),
        }
    }
}

/// One sweep over both tables.
fn sweep(pinned: &Pinned, live: &LiveOwner) -> Result<ReapTotals> {
    live.beat()?;
    let in_force = pinned.live()?;
    let mut candidates = Vec::new();
    let mut totals = ReapTotals::default();
    for family in [Family::V4, Family::V6] {
        let mut flows = pinned.flows(family)?;
        while let Some(chunk) = flows.next_chunk()? {
            candidates.clear();
            select(
                chunk,
                family,
                Tick::from_ns(Pinned::now_ns()?),
                &in_force,
                &mut candidates,
            );
            totals.add(pinned.remove(Cause::Expired, &candidates)?);
        }
    }
    Ok(totals)
}

/// The flows of `chunk` that have expired. The kernel judges them again.
fn select(
    chunk: &[(Key, Flow)],
    family: Family,
    now: Tick,
    live: &Live,
    candidates: &mut Vec<Candidate>,
) {
    let expired = chunk
        .iter()
        .filter(|(_, flow)| timeout::expired(flow, now, live));
    candidates.extend(expired.map(|&(key, flow)| (family, key, flow.generation)));
}

/// Keeps a lasting failure from filling the log.
#[derive(Default)]
struct Trouble {
    told: Option<Instant>,
}

impl Trouble {
    fn tell(&mut self, what: &str) {
        if self.told.is_some_and(|told| told.elapsed() < QUIET) {
            return;
        }
        self.told = Some(Instant::now());
        tracing::error!("expired flows cannot be removed, trying again: {what}");
    }

    fn over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("expired flows are removed again");
        }
    }
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
        select(&chunk, Family::V6, Tick(150), &live, &mut candidates);
        let generations: Vec<u32> = candidates.iter().map(|c| c.2).collect();
        assert_eq!(generations, [1, 2]);
        assert!(
            candidates
                .iter()
                .all(|c| c.0 == Family::V6 && c.1.words[0] == c.2)
        );
    }
}
