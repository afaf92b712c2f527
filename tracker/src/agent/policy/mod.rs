//! The policy in force: put there whole, kept over restarts, and returned from.
//!
//! | module | concern |
//! |---|---|
//! | `numbers` | numbers of rules, which flows and counters name them by |
//! | `guard` | who manages this machine, and must not be cut off |
//! | `switch` | from a checked policy to one in force |
//! | `confirm` | policies that return unless somebody confirms |
//! | `start` | what the last agent left, what the configuration says, and what is known of connections |
//! | `gate` | nothing is enforced before it is |
//! | `kill` | flows that a policy does not admit |
//! | `watch` | files that change |
//! | `decided` | lines about what rules with `log` decide |

mod confirm;
mod decided;
mod gate;
mod guard;
mod kill;
mod numbers;
mod start;
mod switch;
mod watch;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use tracker_common::abi::{Mode, Role};

use self::{confirm::Awaiting, start::Hold, switch::InForce};
pub use self::{
    confirm::{Decision, Outcome},
    gate::{Gate, observing},
    watch::PolicyFiles,
};
use super::live::LiveOwner;
use crate::{
    cli::FlowsChoice,
    config::Config,
    control::{
        place::Place,
        record::{By, Moment, RuleNames, Status, Trouble},
    },
    datapath::{Pinned, interface_names},
    policy::{self, Context, Reading, model::Policy},
};

/// What the agent knows about policies. One for each agent.
pub struct Policies {
    pinned: Arc<Pinned>,
    live: Arc<LiveOwner>,
    place: Place,
    role: Role,
    /// Names of the interfaces that are tracked.
    tracked: Vec<String>,
    /// Held while a policy is put in force.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: RuleNames,
    in_force: Option<Arc<InForce>>,
    awaiting: Option<Awaiting>,
    status: Status,
    settings: Settings,
    /// Connections that were there before the policy have become flows.
    known: bool,
}

/// What the configuration says beside the policy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// What is to become of packets that are refused.
    mode: Mode,
    /// How long a gateway watches before it enforces, where nobody tells it of
    /// connections.
    grace: Duration,
    /// What becomes of flows when the configuration brings another policy.
    flows: FlowsChoice,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            mode: config.mode,
            grace: config.policy.grace,
            flows: config.policy.flows,
        }
    }
}

/// The file with the configured policy; `None` where none is configured.
fn origin(config: &Config) -> Option<&Path> {
    config.policy.path.as_deref()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            grace: Duration::from_secs(60),
            flows: FlowsChoice::Keep,
        }
    }
}

impl Policies {
    /// None yet, for the tracker that `config` is about.
    pub fn of(config: &Config, pinned: &Arc<Pinned>, live: &Arc<LiveOwner>) -> Self {
        Self {
            pinned: Arc::clone(pinned),
            live: Arc::clone(live),
            place: Place::of(&config.run_dir, &config.pin_dir),
            role: config.role,
            tracked: config.interfaces.clone(),
            turn: Mutex::new(()),
            state: Mutex::default(),
        }
    }

    /// Where its records are.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Reads the policy in a file. Warnings are logged; so are sets whose file cannot be
    /// read, which stay as they are in the policy in force.
    ///
    /// # Errors
    ///
    /// Something is wrong with it; all of that is logged.
    pub fn read(&self, path: &Path) -> Result<Arc<Policy>> {
        let interfaces = interface_names();
        // A set of `tracker policy apply` is another one, be its name the same.
        let by = self.lock().by();
        let former = match by {
            Some(By::Configuration) => self.in_force(),
            Some(By::Apply | By::Return) | None => None,
        };
        let context = Context {
            interfaces: Some(&interfaces),
            former: former.as_deref(),
        };
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let Reading { policy, report } = policy::read(&whole, &context);
        for warning in report.warnings() {
            tracing::warn!("{warning}");
        }
        for error in report.errors() {
            tracing::error!("{error}");
        }
        let stale = report.stale_sets();
        if !stale.is_empty() && policy.is_some() {
            self.failed(&anyhow!(
                "the files of these sets cannot be read, and the sets stay as they were: {}",
                stale.join(", ")
            ));
        }
        let headline = report.headline().unwrap_or_default();
        policy.map(Arc::new).with_context(|| headline)
    }

    /// Reads the configured policy anew and puts it in force, where there is another
    /// than before. What is wrong is logged, written down, and changes nothing.
    pub fn reload(&self, config: &Config) {
        self.lock().settings = Settings::of(config);
        let read = origin(config).map(|path| self.read(path)).transpose();
        if let Err(error) = read.and_then(|policy| self.configured(policy.as_ref())) {
            tracing::error!("the policy in force stays as it is: {error:#}");
            self.failed(&error);
        }
    }

    /// Puts the configured policy in force where it was edited since it last came
    /// from there; a policy of `tracker policy apply` stays otherwise.
    ///
    /// # Errors
    ///
    /// It would cut off who manages this machine, another policy awaits its
    /// confirmation, or it cannot be put in force. The one in force stays.
    pub fn configured(&self, policy: Option<&Arc<Policy>>) -> Result<()> {
        let _turn = self.wait_for_turn();
        let mut state = self.lock();
        let hash = hash(policy.map(AsRef::as_ref));
        if hash == state.configured() {
            if state.by() == Some(By::Apply) {
                tracing::info!(
                    "the policy of `tracker policy apply` stays in force: the configured one was \
                     not edited since"
                );
            }
            return Ok(());
        }
        if state.awaiting.is_some() {
            bail!(
                "the policy in force awaits its confirmation: `tracker policy confirm` keeps it, and \
                 then the configured one can be read again"
            );
        }
        let (enforcing, flows) = (state.enforces(), state.settings.flows);
        if state.in_force.is_none() && enforcing && policy.is_some() {
            self.know_connections(&mut state, false)?;
        }
        self.switch(&mut state, policy, hash, By::Configuration, flows, |cuts| {
            refuse_cuts(enforcing, cuts)
        })?;
        Ok(())
    }

    /// Compiles the policy in force anew where interfaces that its rules name have
    /// come, gone, or changed their index.
    pub fn follow_interfaces(&self) {
        // Who puts one in force at this moment does so for the interfaces there are.
        let Ok(_turn) = self.turn.try_lock() else {
            return;
        };
        let mut state = self.lock();
        let Some(in_force) = state.in_force.clone() else {
            return;
        };
        let changed = in_force.changed_interfaces();
        if changed.is_empty() {
            return;
        }
        match self.renew(&mut state, &in_force) {
            Ok(()) => tracing::info!(
                "rules about {} follow the interface{}",
                changed.join(", "),
                if changed.len() == 1 { "" } else { "s" }
            ),
            Err(error) => tracing::error!(
                "rules about {} do not follow it yet: {error:#}",
                changed.join(", ")
            ),
        }
    }

    /// Writes down that a policy could not be put in force.
    pub fn failed(&self, error: &anyhow::Error) {
        let mut state = self.lock();
        state.failed(error);
        self.write_status(&state);
    }

    /// The policy in force, for who reads it anew.
    pub fn in_force(&self) -> Option<Arc<Policy>> {
        let state = self.lock();
        state
            .in_force
            .as_ref()
            .map(|in_force| Arc::clone(&in_force.policy))
    }

    /// The agent ends. What awaits its confirmation has nobody who would return it,
    /// so it returns.
    pub fn end(&self, keep: bool) {
        if let Err(error) = self.return_unconfirmed() {
            tracing::error!("an unconfirmed policy stays in force: {error:#}");
        }
        if !keep && let Err(error) = self.place.clear() {
            tracing::warn!("the runtime directory stays: {error:#}");
        }
    }

    fn write_status(&self, state: &State) {
        if let Err(error) = self.place.set_status(&state.status) {
            tracing::error!("`tracker stats` does not tell about the policy: {error:#}");
        }
    }

    fn wait_for_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(&mut self, error: &anyhow::Error) {
        self.status.errors += 1;
        self.status.last_error = Some(Trouble {
            message: format!("{error:#}"),
            at: Moment::now(),
        });
    }

    /// Hash of the configuration's policy when the one in force came there.
    fn configured(&self) -> u64 {
        self.in_force
            .as_ref()
            .map_or(0, |in_force| in_force.configured)
    }

    fn by(&self) -> Option<By> {
        Some(self.in_force.as_ref()?.by)
    }

    fn enforces(&self) -> bool {
        self.settings.mode == Mode::Enforce
    }
}

/// What becomes of a configured policy that cuts off who manages this machine.
fn refuse_cuts(enforcing: bool, cuts: &str) -> Result<bool> {
    if enforcing {
        bail!(
            "{}",
            cuts.replace(
                "say --force",
                "put it in force by `tracker policy apply --force` while the tracker observes"
            )
        );
    }
    tracing::warn!("nothing is enforced yet, but {cuts}");
    Ok(false)
}

/// Hash of a policy, 0 where there is none.
fn hash(policy: Option<&Policy>) -> u64 {
    policy.map_or(0, |policy| policy.source.hash.max(1))
}
