//! Keeps a policy from being enforced before the connections that are there are known.

use std::sync::Arc;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};
use tracker_common::abi::Mode;

use super::{Hold, Policies};
use crate::config::Config;

/// See the module.
pub struct Gate {
    policies: Arc<Policies>,
    /// The configuration that waits, and until when.
    waiting: Option<(Arc<Config>, Instant)>,
}

impl Gate {
    /// One that nothing waits at.
    pub const fn new(policies: Arc<Policies>) -> Self {
        Self {
            policies,
            waiting: None,
        }
    }

    /// The configuration that may be in force at this moment: `config`, or the same
    /// that only observes, while connections are not known that a policy would cut.
    /// The hooks must be in place.
    ///
    /// # Errors
    ///
    /// The kernel does not tell of connections, or the policy would cut off who
    /// manages this machine.
    pub fn pass(&mut self, config: &Arc<Config>) -> Result<Arc<Config>> {
        let hold = match config.mode {
            Mode::Enforce => self.policies.know()?,
            Mode::Observe => Hold::No,
        };
        self.policies.observes_for(hold);
        let Hold::For(time) = hold else {
            self.waiting = None;
            return Ok(Arc::clone(config));
        };
        tracing::warn!(
            "nothing is enforced for {} s yet: nf_conntrack follows no connections that could tell \
             which go through this gateway, so they are watched first (policy.grace)",
            time.as_secs()
        );
        self.waiting = Some((Arc::clone(config), Instant::now() + time));
        Ok(observing(config))
    }

    /// The same for a configuration that was read again, with its policy, which is put
    /// in force first. That one may be wrong; the rest is taken over nevertheless.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn reload(&mut self, config: &Arc<Config>) -> Result<Arc<Config>> {
        self.policies.reload(config);
        self.pass(config)
    }

    /// The configuration that waits, or, where none does, the one in force.
    pub fn wanted<'a>(&'a self, config: &'a Arc<Config>) -> &'a Arc<Config> {
        let waiting = self.waiting.as_ref();
        waiting.map_or(config, |(waiting, _)| waiting)
    }

    /// When the time has come, the configuration that waited for it; never where none
    /// does.
    pub async fn opened(&mut self) -> Arc<Config> {
        let Some((config, until)) = &self.waiting else {
            return std::future::pending().await;
        };
        sleep_until(*until).await;
        let config = Arc::clone(config);
        self.waiting = None;
        self.policies.observes_for(Hold::No);
        tracing::info!("connections have been watched long enough: the policy is enforced");
        config
    }
}

/// The same configuration, which enforces nothing.
pub fn observing(config: &Arc<Config>) -> Arc<Config> {
    Arc::new(Config {
        mode: Mode::Observe,
        ..Config::clone(config)
    })
}
