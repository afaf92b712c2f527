//! The one writer of the map `LIVE`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tracker_common::{
    abi::{FULL_SCALE, LAYOUT_VERSION, Live, switches},
    tcp::timeout::Profile,
};

use super::duties::{Duties, Pickup};
use crate::{
    config::{Config, Tracking},
    datapath::Pinned,
};

/// Holds what stands in `LIVE` and writes it as a whole, so that readers never
/// find a mixture of two writers.
pub struct LiveOwner {
    pinned: Arc<Pinned>,
    live: Mutex<Live>,
}

impl LiveOwner {
    /// Takes over what stands there, as an earlier agent may have left it. Writes
    /// nothing yet.
    pub fn adopt(pinned: Arc<Pinned>) -> Result<Self> {
        let found = pinned.live()?;
        let live = if found.layout == LAYOUT_VERSION {
            found
        } else {
            // Never written.
            Live::observing(Profile::Linux)
        };
        Ok(Self {
            pinned,
            live: Mutex::new(live),
        })
    }

    /// Puts the configuration in force. The factor on the time-outs stays as the
    /// fill of the tables has made it.
    pub fn configure(&self, config: &Config, duties: &Duties) -> Result<()> {
        let slots = self.pinned.ring_slots()?;
        self.change(|live| {
            let now_ns = Pinned::now_ns()?;
            *live = Live {
                agent_pid: std::process::id(),
                heartbeat_ns: now_ns,
                half_open_limit: config.half_open_limit,
                pickup_limit: config.pickup_limit,
                capacity: config.capacity,
                ring_slots: slots,
                switches: switches_of(&config.tracking),
                pickup: duties.pickup.is_on(now_ns).into(),
                syn_ack_retries: config.tracking.syn_ack_retries,
                timeouts: config.timeouts,
                ..*live
            };
            Ok(())
        })
    }

    /// Says that no agent runs any more, and ends what nobody would end: pick-ups
    /// in a grace, and short time-outs. It is the last word either way, so a
    /// failure is only told.
    pub fn retire(&self, duties: &Duties) {
        let result = self.change(|live| {
            live.agent_pid = 0;
            live.timeout_scale = FULL_SCALE;
            if let Pickup::Until(_) = duties.pickup {
                live.pickup = 0;
            }
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!("the tracker still names this process as its agent: {error:#}");
        }
    }

    /// Changes something and writes the whole. Gives what `change` gives.
    pub fn change<T>(&self, change: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let given = change(&mut live)?;
        self.pinned
            .set_live(&live)
            .context("cannot put the configuration in force")?;
        Ok(given)
    }
}

/// Bits of [`Live::switches`].
const fn switches_of(tracking: &Tracking) -> u8 {
    let mut bits = 0;
    if tracking.liberal {
        bits |= switches::LIBERAL;
    }
    if tracking.drop_syn_data {
        bits |= switches::DROP_SYN_DATA;
    }
    if tracking.strict_2msl {
        bits |= switches::STRICT_2MSL;
    }
    bits
}
