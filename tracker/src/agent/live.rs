//! The one writer of the map `LIVE`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tracker_common::abi::{LAYOUT_VERSION, Live, Mode};

use crate::{config::Config, datapath::Pinned};

/// Time-outs run at their full length.
const FULL_SCALE: u32 = 1024;

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
            live: Mutex::new(blank()),
        }
    }

    /// Puts the configuration in force.
    pub fn configure(&self, config: &Config) -> Result<()> {
        let slots = self.pinned.ring_slots()?;
        self.change(|live| {
            *live = Live {
                layout: LAYOUT_VERSION,
                mode: Mode::Observe as u8,
                agent_pid: std::process::id(),
                timeout_scale: FULL_SCALE,
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

const fn blank() -> Live {
    Live {
        layout: LAYOUT_VERSION,
        mode: Mode::Observe as u8,
        cookies: 0,
        policy: 0,
        agent_pid: 0,
        timeout_scale: FULL_SCALE,
        heartbeat_ns: 0,
        half_open_limit: 0,
        pickup_limit: 0,
        capacity: 0,
        ring_slots: 0,
        timeouts: [0; _],
    }
}
