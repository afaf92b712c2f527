//! The start of an agent: which policy is in force from the first packet on, and
//! when anything is enforced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tracker_common::abi::{Mode, Role};

use super::{Policies, Settings, State, guard, hash, origin, refuse_cuts, switch::InForce};
use crate::{
    agent::seeds,
    cli::FlowsChoice,
    config::Config,
    control::record::{By, Moment, Recorded},
    datapath::Pinned,
    policy::compile::compile,
};

/// Whether anything may be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may.
    No,
    /// Connections that are there are not known, and would be cut: not before this
    /// time has passed.
    For(Duration),
}

/// What an earlier agent left.
#[derive(Default)]
struct Left {
    recorded: Option<Recorded>,
    by: Option<By>,
    /// It awaited its confirmation, which nobody can give any more.
    returned: bool,
}

impl Policies {
    /// Puts the policy in force with which this agent begins: the one that an earlier
    /// agent had in force, unless the configured one was edited since.
    ///
    /// # Errors
    ///
    /// The configured one cannot be put in force, and there is no other.
    pub fn begin(&self, config: &Config, adopted: bool) -> Result<()> {
        if !adopted && let Err(error) = self.place.clear() {
            tracing::debug!("{error:#}");
        }
        self.place.create()?;
        let read = origin(config).map(|path| self.read(path)).transpose();
        let settings = Settings::of(config);
        let _turn = self.wait_for_turn();
        let mut state = self.lock();
        state.settings = settings;
        let left = if adopted {
            self.left(&mut state)
        } else {
            Left::default()
        };
        state.status.gateway = self.role == Role::Gateway;
        let known = left.recorded.as_ref().map_or(0, |left| left.configured);
        let (configured, wanted) = match read {
            Ok(configured) => {
                let wanted = hash(configured.as_deref());
                (configured, wanted)
            }
            Err(error) if left.recorded.is_some() => {
                tracing::error!("the policy of the earlier agent stays in force: {error:#}");
                state.failed(&error);
                (None, known)
            }
            Err(error) => return Err(error),
        };
        if let Some(recorded) = left.recorded
            && known == wanted
        {
            return self.go_on(&mut state, recorded, left.by, left.returned);
        }
        if adopted && (known != 0 || wanted != 0) {
            tracing::info!(
                "the configured policy was edited since it came into force: it is read anew"
            );
        }
        let enforcing = state.enforces();
        let flows = settings.flows;
        let switched = match configured {
            None if self.pinned.live()?.policy_slot == 0 => Ok(0),
            _ => {
                let configured = configured.as_ref();
                self.switch(
                    &mut state,
                    configured,
                    wanted,
                    By::Configuration,
                    flows,
                    |cuts| refuse_cuts(enforcing, cuts),
                )
            }
        };
        match switched {
            Ok(_) => {
                self.write_status(&state);
                Ok(())
            }
            Err(error) if self.pinned.live()?.policy_slot != 0 => {
                // Whoever is connected stays so.
                tracing::error!("the policy of the earlier agent stays in force: {error:#}");
                state.failed(&error);
                self.write_status(&state);
                Ok(())
            }
            Err(error) => Err(error.context("the policy cannot be put in force")),
        }
    }

    /// What an earlier agent has written down.
    fn left(&self, state: &mut State) -> Left {
        let read = || -> Result<Left> {
            let status = self.place.status()?.unwrap_or_default();
            let left = match self.place.previous()? {
                Some(previous) => Left {
                    recorded: previous,
                    by: Some(By::Return),
                    returned: true,
                },
                None => Left {
                    recorded: self.place.policy()?,
                    by: status.policy.as_ref().map(|policy| policy.by),
                    returned: false,
                },
            };
            Ok(left)
        };
        match self.place.rules() {
            Ok(names) => state.names = names,
            Err(error) => tracing::error!("rules of the earlier agent have no names: {error:#}"),
        }
        match self.place.status() {
            Ok(status) => state.status = status.unwrap_or_default(),
            Err(error) => tracing::error!("counts of policies begin anew: {error:#}"),
        }
        state.status.confirm_until = None;
        state.status.observe_until = None;
        read().unwrap_or_else(|error| {
            tracing::error!("the policy of the earlier agent is not known: {error:#}");
            Left::default()
        })
    }

    /// Goes on with the policy of an earlier agent.
    fn go_on(
        &self,
        state: &mut State,
        recorded: Recorded,
        by: Option<By>,
        returned: bool,
    ) -> Result<()> {
        let policy = recorded.policy.clone().policy();
        let policy = Arc::new(policy.context("the policy of the earlier agent cannot be read")?);
        let by = by.unwrap_or(By::Configuration);
        if returned {
            tracing::warn!(
                "the earlier agent ended while its policy awaited confirmation: the one before it \
                 returns"
            );
            let configured = recorded.configured;
            self.switch(
                state,
                Some(&policy),
                configured,
                by,
                FlowsChoice::Keep,
                |cuts| {
                    tracing::warn!("{cuts}");
                    Ok(true)
                },
            )?;
            return self.place.set_previous(None);
        }
        let configured = recorded.configured;
        let in_force = Arc::new(InForce {
            // Renewed below.
            compiled: compile(&policy, &|_| None, &|_| 0)?,
            interfaces: BTreeMap::new(),
            policy,
            recorded,
            by,
            configured,
        });
        self.renew(state, &in_force)?;
        self.write_status(state);
        tracing::info!(
            "the policy {} stays in force (generation {}, by {})",
            super::switch::path(&in_force.policy),
            state.status.generation,
            by.as_str()
        );
        Ok(())
    }

    /// Sees to it that connections which are there are known before a policy is
    /// enforced. The hooks must be in place.
    ///
    /// # Errors
    ///
    /// The kernel does not tell of them, or the policy would cut off who manages this
    /// machine.
    pub fn know(&self) -> Result<Hold> {
        let mut state = self.lock();
        let Some(in_force) = &state.in_force else {
            return Ok(Hold::No);
        };
        let observed = self.pinned.live()?.mode == Mode::Observe as u8;
        if state.known && !observed {
            return Ok(Hold::No);
        }
        if observed && !in_force.recorded.forced {
            let cuts = guard::Lifelines::look(&in_force.policy)?.cut_by(&in_force.compiled);
            if !cuts.is_empty() {
                refuse_cuts(true, &guard::explain(&cuts))?;
            }
        }
        let read = seeds::plant(&self.pinned, self.role)?;
        seeds::tell(&read);
        state.known = true;
        if self.role == Role::Host || read.conntrack.is_some() {
            return Ok(Hold::No);
        }
        let since_ns = self
            .pinned
            .upkeep()
            .map_or(0, |upkeep| upkeep.hooks_since_ns);
        let watched = Duration::from_nanos(Pinned::now_ns()?.saturating_sub(since_ns));
        Ok(match state.settings.grace.checked_sub(watched) {
            Some(left) if !left.is_zero() => Hold::For(left),
            _ => Hold::No,
        })
    }

    /// Writes down until when nothing is enforced.
    pub fn observes_for(&self, hold: Hold) {
        let mut state = self.lock();
        state.status.observe_until = match hold {
            Hold::No => None,
            Hold::For(time) => {
                Some(Moment::now().after(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
        };
        self.write_status(&state);
    }
}
