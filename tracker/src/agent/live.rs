//! The one writer of the map `LIVE`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tracker_common::{abi::Live, tcp::timeout::Profile};

use crate::{config::Config, datapath::Pinned};

/// Holds what stands in `LIVE` and writes it as a whole, so that readers never
/// find a mixture of two writers.
pub struct LiveOwner {
    pinned: Arc<Pinned>,
    live: Mutex<Live>,
}

impl LiveOwner {
    /// Writes nothing yet.
    pub fn new(pinned: Arc<Pinned>) -> Self {
        Self {
            pinned,
            live: Mutex::new(Live::observing(Profile::Linux)),
        }
    }

    /// Puts the configuration in force.
    pub fn configure(&self, config: &Config) -> Result<()> {
        let slots = self.pinned.ring_slots()?;
        self.change(|live| {
            *live = Live {
                agent_pid: std::process::id(),
                heartbeat_ns: Pinned::now_ns()?,
                half_open_limit: config.half_open_limit,
                pickup_limit: config.pickup_limit,
                capacity: config.capacity,
                ring_slots: slots,
                timeouts: config.timeouts,
                ..*live
            };
            Ok(())
        })
    }

    /// Gives a sign of life.
    pub fn beat(&self) -> Result<()> {
        self.change(|live| {
            live.heartbeat_ns = Pinned::now_ns()?;
            Ok(())
        })
    }

    /// Says that no agent runs any more. It is the last word either way, so a
    /// failure is only told.
    pub fn retire(&self) {
        let result = self.change(|live| {
            live.agent_pid = 0;
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!("the tracker still names this process as its agent: {error:#}");
        }
    }

    fn change(&self, change: impl FnOnce(&mut Live) -> Result<()>) -> Result<()> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut live)?;
        self.pinned
            .set_live(&live)
            .context("cannot put the configuration in force")
    }
}
