//! The one writer of the map `LIVE`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tracker_common::{
    abi::{FULL_SCALE, LAYOUT_VERSION, Live},
    defence::Adaptive,
    tcp::timeout::{Profile, rows},
};

use super::{
    duties::{Duties, Pickup},
    posture::{self, Facts},
};
use crate::{
    config::Config,
    datapath::{HostTcp, Pinned},
};

/// Holds what stands in `LIVE` and writes it as a whole, so that readers never
/// find a mixture of two writers.
pub struct LiveOwner {
    pinned: Arc<Pinned>,
    state: Mutex<State>,
}

struct State {
    live: Live,
    facts: Facts,
    /// In force; `None` before the first.
    config: Option<Arc<Config>>,
}

impl State {
    /// Works the defence out anew.
    fn settle(&mut self) {
        if let Some(config) = &self.config {
            self.live.defence = posture::bits(config, self.facts);
            self.live.offers = posture::offers(self.facts.host);
            self.live.default_scale = self.facts.host.scale;
        }
    }
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
        let state = State {
            live,
            facts: Facts::of(&live, HostTcp::read()),
            config: None,
        };
        Ok(Self {
            pinned,
            state: Mutex::new(state),
        })
    }

    /// Puts the configuration in force. The factor on the time-outs stays as the
    /// fill of the tables has made it.
    pub fn configure(&self, config: &Arc<Config>, duties: &Duties) -> Result<()> {
        let slots = self.pinned.ring_slots()?;
        let defence = &config.defence;
        let adaptive = Adaptive::new(defence.cookies_on, defence.cookies_off);
        self.update(
            |State {
                 live, config: held, ..
             }| {
                let now_ns = Pinned::now_ns()?;
                *live = Live {
                    mode: config.mode as u8,
                    agent_pid: std::process::id(),
                    heartbeat_ns: now_ns,
                    half_open_limit: config.half_open_limit,
                    pickup_limit: config.pickup_limit,
                    capacity: config.capacity,
                    ring_slots: slots,
                    switches: config.tracking.switches(),
                    pickup: duties.pickup.is_on(now_ns).into(),
                    syn_ack_retries: config.tracking.syn_ack_retries,
                    at_limit: defence.at_limit as u8,
                    listener_limit: defence.listener_limit,
                    source_limit: defence.source_limit,
                    wake_level: adaptive.on_level(config.half_open_limit),
                    answer_rate: defence.answer_rate,
                    source_bits: defence.source_bits,
                    timeouts: rows(&config.timeouts),
                    ..*live
                };
                *held = Some(Arc::clone(config));
                Ok(())
            },
        )
    }

    /// What the defence goes by beside the configuration.
    pub fn facts(&self) -> Facts {
        self.lock().facts
    }

    /// Changes what the defence goes by, and writes the whole where that changes
    /// anything.
    pub fn defend(&self, change: impl FnOnce(&mut Facts)) -> Result<()> {
        let mut state = self.lock();
        let before = state.facts;
        change(&mut state.facts);
        if state.facts == before {
            return Ok(());
        }
        self.write(&mut state)
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
        self.update(|state| change(&mut state.live))
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let given = change(&mut state)?;
        self.write(&mut state)?;
        Ok(given)
    }

    fn write(&self, state: &mut State) -> Result<()> {
        state.settle();
        self.pinned
            .set_live(&state.live)
            .context("cannot put the configuration in force")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
