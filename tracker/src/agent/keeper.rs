//! What must happen every second, however rarely the tables are swept: a sign of
//! life, time-outs that follow the fill of the tables, and the end of pick-ups.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracker_common::abi::{FULL_SCALE, Gauge, Live};

use super::{
    duties::{Duties, Pickup},
    live::LiveOwner,
    pressure::{Announcer, News, scale},
    trouble::Trouble,
};
use crate::datapath::Pinned;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at whether anybody is banned: `tracker ban` cannot write
/// the running configuration.
const BANS_EVERY: Duration = Duration::from_millis(100);

/// Looks after the running configuration until `stop`. `sweep` is notified as long
/// as time-outs are short: places that expired flows hold are needed.
pub async fn run(
    pinned: Arc<Pinned>,
    live: Arc<LiveOwner>,
    mut duties: watch::Receiver<Duties>,
    sweep: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::about("the running configuration is not looked after");
    let mut banless = Trouble::about("bans do not take effect");
    let mut announcer = Announcer::default();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bans = interval(BANS_EVERY);
    bans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = bans.tick() => {
                match look_at_bans(&pinned, &live) {
                    Ok(()) => banless.over(),
                    Err(error) => banless.tell(&format!("{error:#}")),
                }
                continue;
            }
            _ = tick.tick() => {}
            // A new configuration takes effect at once.
            changed = duties.changed(), if open => open = changed.is_ok(),
        }
        let current = *duties.borrow_and_update();
        match look(&pinned, &live, &current) {
            Ok(seen) => {
                trouble.over();
                if seen.scale < FULL_SCALE {
                    sweep.notify_one();
                }
                tell(&mut announcer, &seen, current.pickup);
            }
            Err(error) => trouble.tell(&format!("{error:#}")),
        }
    }
}

/// Tells the programs whether anybody is banned.
fn look_at_bans(pinned: &Pinned, live: &LiveOwner) -> Result<()> {
    let bans = pinned.has_bans()?;
    live.defend(|facts| facts.bans = bans)
}

/// What a look found.
struct Seen {
    before: Live,
    scale: u32,
    pickup: bool,
    /// Flows in the fuller table.
    flows: u64,
}

fn look(pinned: &Pinned, live: &LiveOwner, duties: &Duties) -> Result<Seen> {
    let gauges = pinned.gauges()?;
    let [v4, v6] = [Gauge::FlowsV4, Gauge::FlowsV6].map(|gauge| gauges[gauge as usize]);
    let flows = v4.max(v6);
    let now_ns = Pinned::now_ns()?;
    let pickup = duties.pickup.is_on(now_ns);
    live.change(|live| {
        let before = *live;
        let scale = scale(flows, live.capacity, duties.adaptive);
        live.heartbeat_ns = now_ns;
        live.timeout_scale = scale;
        live.pickup = pickup.into();
        Ok(Seen {
            before,
            scale,
            pickup,
            flows,
        })
    })
}

fn tell(announcer: &mut Announcer, seen: &Seen, pickup: Pickup) {
    let capacity = seen.before.capacity;
    match announcer.note(seen.scale, Instant::now()) {
        Some(News::Begins) => tracing::warn!(
            "a table holds {} of {capacity} flows: time-outs run at {} % of their length",
            seen.flows,
            seen.scale * 100 / FULL_SCALE
        ),
        Some(News::Ends) => tracing::info!("time-outs have their full length again"),
        None => {}
    }
    if seen.before.pickup != 0 && !seen.pickup && matches!(pickup, Pickup::Until(_)) {
        tracing::info!(
            "the grace is over: connections of which no SYN was seen are taken up no more"
        );
    }
}
