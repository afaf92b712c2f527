//! `tracker policy apply`, and policies that return unless somebody confirms.
//!
//! The agent keeps the time: whoever applied a policy that cuts him off need do
//! nothing to have the old one back.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tokio::{sync::watch, time::sleep};
use tracker_common::abi::Role;

use super::{Policies, State, switch::InForce};
use crate::{
    agent::seeds,
    cli::FlowsChoice,
    control::{
        message::{Applied, Apply},
        record::{By, Moment},
    },
    datapath::Pinned,
    policy::model::Policy,
};

/// A policy in force that was not confirmed yet.
pub struct Awaiting {
    previous: Option<Arc<InForce>>,
    /// What becomes of flows when that one returns.
    flows: FlowsChoice,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What became of a policy that had to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays.
    Confirmed,
    /// The one before it is in force again.
    Returned,
}

/// Tells what became of it, once that is known.
pub type Decision = watch::Receiver<Option<Outcome>>;

impl Policies {
    /// Puts a policy in force that somebody asks for. The second value tells what
    /// becomes of one that must be confirmed.
    ///
    /// # Errors
    ///
    /// Another one is being applied or awaits its confirmation, it would cut off who
    /// manages this machine, or it cannot be put in force. The one in force stays.
    pub async fn apply(self: &Arc<Self>, asked: Apply) -> Result<(Applied, Option<Decision>)> {
        let confirm = asked.confirm_s.map(Duration::from_secs);
        let this = Arc::clone(self);
        let applying = tokio::task::spawn_blocking(move || this.apply_now(asked));
        let (applied, decision) = applying.await??;
        if let (Some(decision), Some(time)) = (&decision, confirm) {
            let this = Arc::clone(self);
            let mut decision = decision.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = sleep(time) => {}
                    // Decided before.
                    _ = decision.wait_for(Option::is_some) => return,
                }
                let returning = tokio::task::spawn_blocking(move || this.return_unconfirmed());
                match returning.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("the old policy does not return: {error:#}"),
                    Err(error) => tracing::error!("the old policy does not return: {error}"),
                }
            });
        }
        Ok((applied, decision))
    }

    fn apply_now(&self, asked: Apply) -> Result<(Applied, Option<Decision>)> {
        let Ok(_turn) = self.turn.try_lock() else {
            bail!("another policy is being applied at this moment; try again when it is done");
        };
        let policy = Arc::new(asked.policy.policy()?);
        let mut state = self.lock();
        if state.awaiting.is_some() {
            bail!(
                "the policy in force awaits its confirmation: `tracker policy confirm` keeps it, or \
                 wait until the former one has returned"
            );
        }
        let enforcing = state.enforces();
        if state.in_force.is_none() && enforcing {
            self.know_connections(&mut state, asked.force)?;
        }
        let previous = state.in_force.clone();
        if asked.confirm_s.is_some() {
            // First of all: an agent that dies here is followed by one that returns.
            let recorded = previous.as_ref().map(|previous| previous.recorded.clone());
            self.place.set_previous(Some(&recorded))?;
        }
        let mut warnings = self.warnings(&policy);
        let configured = state.configured();
        let switched = self.switch(
            &mut state,
            Some(&policy),
            configured,
            By::Apply,
            asked.flows,
            |cuts| {
                if enforcing && !asked.force {
                    bail!("{cuts}");
                }
                let advice = [
                    "; allow them in a rule before that one, or say --force",
                    "; say --force",
                ];
                let told = advice.iter().find_map(|advice| cuts.strip_suffix(advice));
                warnings.push(told.unwrap_or(cuts).to_owned());
                Ok(asked.force)
            },
        );
        let killed = match switched {
            Ok(killed) => killed,
            Err(error) => {
                self.place.set_previous(None)?;
                return Err(error);
            }
        };
        let mut decision = None;
        if let Some(seconds) = asked.confirm_s {
            let (outcome, receiver) = watch::channel(None);
            state.awaiting = Some(Awaiting {
                previous,
                flows: match asked.flows {
                    FlowsChoice::Keep => FlowsChoice::Keep,
                    FlowsChoice::Recheck | FlowsChoice::Kill => FlowsChoice::Recheck,
                },
                outcome,
            });
            state.status.confirm_until = Some(Moment::now().after(seconds.saturating_mul(1000)));
            self.write_status(&state);
            tracing::info!("it returns to the former policy in {seconds} s unless it is confirmed");
            decision = Some(receiver);
        }
        let applied = Applied {
            generation: state.status.generation,
            rules: policy.rules.len() as u64,
            observing: !enforcing,
            killed,
            warnings,
            confirm_s: asked.confirm_s,
        };
        Ok((applied, decision))
    }

    /// Keeps the policy that awaits it.
    ///
    /// # Errors
    ///
    /// None does.
    pub fn confirm(&self) -> Result<()> {
        let mut state = self.lock();
        let Some(awaiting) = state.awaiting.take() else {
            bail!(
                "no policy awaits its confirmation: none was applied with --confirm, or the former \
                 one has returned already; `tracker policy show` tells which is in force"
            );
        };
        self.place.set_previous(None)?;
        state.status.confirm_until = None;
        self.write_status(&state);
        tracing::info!("the policy in force is confirmed");
        awaiting.outcome.send_replace(Some(Outcome::Confirmed));
        Ok(())
    }

    /// Returns to the policy before one that nobody has confirmed, if there is one.
    pub(super) fn return_unconfirmed(&self) -> Result<()> {
        let _turn = self.wait_for_turn();
        let mut state = self.lock();
        let Some(awaiting) = state.awaiting.take() else {
            return Ok(());
        };
        tracing::warn!("nobody has confirmed the policy in force: the former one returns");
        state.status.confirm_until = None;
        let previous = awaiting.previous.as_ref();
        let configured =
            previous.map_or_else(|| state.configured(), |previous| previous.configured);
        let policy: Option<&Arc<Policy>> = previous.map(|previous| &previous.policy);
        // It was in force before, so whom it cuts is nobody's surprise.
        self.switch(
            &mut state,
            policy,
            configured,
            By::Return,
            awaiting.flows,
            |cuts| {
                tracing::warn!("{cuts}");
                Ok(true)
            },
        )?;
        self.place.set_previous(None)?;
        awaiting.outcome.send_replace(Some(Outcome::Returned));
        Ok(())
    }

    /// Before the first policy decides, connections that are there become flows.
    pub(super) fn know_connections(&self, state: &mut State, force: bool) -> Result<()> {
        let read = match seeds::plant(&self.pinned, self.role) {
            Err(error) if force => {
                tracing::warn!("connections that are there may be cut: {error:#}");
                return Ok(());
            }
            read => read?,
        };
        seeds::tell(&read);
        state.known = true;
        if self.role == Role::Host || read.conntrack.is_some() || force {
            return Ok(());
        }
        let since_ns = self
            .pinned
            .upkeep()
            .map_or(0, |upkeep| upkeep.hooks_since_ns);
        let watched = Duration::from_nanos(Pinned::now_ns()?.saturating_sub(since_ns));
        let grace = state.settings.grace;
        if watched < grace {
            bail!(
                "this gateway has watched for {} s only, and nobody tells it of the connections \
                 through it: a policy would cut those that were silent. Wait until it has watched \
                 for {} s (policy.grace), or say --force",
                watched.as_secs(),
                grace.as_secs()
            );
        }
        Ok(())
    }
}
