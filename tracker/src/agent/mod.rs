//! The agent: keeps the datapath attached and its table clean for as long as it
//! runs.
//!
//! | module | concern |
//! |---|---|
//! | `live` | the running configuration in the kernel, written by one owner |
//! | `duties` | what the tasks go by |
//! | `reaper`, `time_wait` | sweeps for expired flows, and for too many in TIME_WAIT |
//! | `keeper`, `pressure` | signs of life, and time-outs that follow the fill of the tables |
//! | `events` | what the programs report |
//! | `flood` | tells when a flood begins and ends |
//! | `ban` | bans that have ended, and those that the agent makes by itself |
//! | `cookies`, `flight`, `posture`, `listeners`, `sysctls` | SYN cookies: when, for whom, and what they need of the host |
//! | `recount`, `room` | counters that have drifted, and tables that are full |
//! | `policy` | which policy is in force, and how it gets there |
//! | `control` | what the command line asks over a socket |
//! | `seeds` | connections that are older than the tracker |
//! | `interfaces` | interfaces that go and come back |
//! | `announce` | what it says about itself |
//! | `signals` | SIGINT, SIGTERM, SIGHUP |
//!
//! The packet path does not depend on it: without an agent packets are tracked
//! with the last configuration, and expired flows stay in the table but count
//! as absent.

mod announce;
mod ban;
mod control;
mod cookies;
mod duties;
mod events;
mod flight;
mod flood;
mod gaps;
mod interfaces;
mod keeper;
mod listeners;
mod live;
mod policy;
mod posture;
mod pressure;
mod reaper;
mod recount;
mod room;
mod seeds;
mod signals;
mod sysctls;
mod time_wait;
mod trouble;

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracker_common::abi::Mode;

use self::{
    ban::Record,
    control::Control,
    cookies::Controller,
    duties::Duties,
    interfaces::Interfaces,
    live::LiveOwner,
    policy::{Gate, Policies, PolicyFiles, observing},
    signals::{Signal, Signals},
};
use crate::{
    config::{Config, OnExit, merge},
    datapath::{Active, Attached, LoadOptions, Pinned},
};

/// The running tracker, for who shows it. Cheap to clone.
#[derive(Clone)]
pub struct Running {
    pinned: Arc<Pinned>,
    attached: Arc<Mutex<Vec<Attached>>>,
}

impl Running {
    /// The maps.
    #[must_use]
    pub const fn pinned(&self) -> &Arc<Pinned> {
        &self.pinned
    }

    /// The interfaces that carry the hooks at this moment.
    #[must_use]
    pub fn attached(&self) -> Vec<Attached> {
        self.attached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Their names.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        self.attached()
            .into_iter()
            .map(|attached| attached.name)
            .collect()
    }

    fn publish(&self, active: &Active) {
        let attached = active.attached().cloned().collect();
        *self.attached.lock().unwrap_or_else(PoisonError::into_inner) = attached;
    }
}

/// Runs the tracker until SIGINT, SIGTERM or `shutdown`.
///
/// `reload` reads the configuration again; it is called on SIGHUP. `ready` is
/// called once everything is attached and `tracker ready` was logged.
///
/// # Errors
///
/// The tracker cannot be started: nothing is left behind, or, where an earlier
/// run left a tracker, that one goes on. Or it cannot be removed at the end.
pub async fn run(
    config: Config,
    mut reload: impl FnMut() -> Result<Config> + Send,
    ready: impl FnOnce(&Running),
    shutdown: CancellationToken,
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut active = Active::load(&config.pin_dir, load_options(&config), config.on_exit)?;
    let mut config = Arc::new(effective(config, active.pinned())?);
    let hooks_since_ns = hooks_since(&active, &config)?;
    let duties = Duties::of(&config, hooks_since_ns);
    let live = Arc::new(LiveOwner::adopt(Arc::clone(active.pinned()))?);
    let policies = Arc::new(Policies::of(&config, active.pinned(), &live));
    let mut gate = Gate::new(Arc::clone(&policies));
    let started = events::Rings::open(active.pinned()).and_then(|rings| {
        config = begin(&mut active, &live, &config, &duties, &policies, &mut gate)?;
        let record = Arc::new(Record::adopt(active.pinned())?);
        let controller = Controller::begin(active.pinned(), &live, &config)?;
        let control = Control::open(policies.place())?;
        active.establish();
        Ok((rings, record, controller, control))
    });
    let (rings, record, controller, control) = match started {
        Ok(started) => started,
        Err(error) => {
            live.retire(&duties);
            policies.end(active.is_adopted());
            return Err(error);
        }
    };
    let running = Running {
        pinned: Arc::clone(active.pinned()),
        attached: Arc::default(),
    };
    running.publish(&active);

    let stop = CancellationToken::new();
    let (duties, followed) = watch::channel(duties);
    let (configs, configured) = watch::channel(Arc::clone(&config));
    let (wake, woken) = watch::channel(0);
    let no_more_cookies = CancellationToken::new();
    let cookies = controller.run(configured, woken, no_more_cookies.clone());
    let cookies = tokio::spawn(cookies);
    let sweep = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(reaper::run(
        Arc::clone(active.pinned()),
        followed.clone(),
        Arc::clone(&sweep),
        stop.clone(),
    ));
    tasks.spawn(keeper::run(
        Arc::clone(active.pinned()),
        Arc::clone(&live),
        followed,
        sweep,
        stop.clone(),
    ));
    tasks.spawn(events::run(
        rings,
        wake,
        Arc::clone(&policies),
        stop.clone(),
    ));
    tasks.spawn(control.run(Arc::clone(&policies), stop.clone()));
    tasks.spawn(flood::run(
        Arc::clone(active.pinned()),
        Arc::clone(&record),
        stop.clone(),
    ));
    tasks.spawn(ban::run(
        Arc::clone(active.pinned()),
        record,
        configs.subscribe(),
        stop.clone(),
    ));
    if let Some(log) = active.log() {
        tasks.spawn(events::forward_log(log, stop.clone()));
    }
    announce::ready(&active, &config);
    ready(&running);

    let loaded = Arc::clone(&config);
    let mut files = PolicyFiles::default();
    files.follow(&config, &policies);
    let mut interfaces = Interfaces::new();
    let mut look = tokio::time::interval(interfaces::LOOK_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            signal = signals.next() => match signal {
                Signal::Stop(name) => {
                    tracing::info!("{name}: ending");
                    break;
                }
                Signal::Reload => match reload() {
                    Ok(new) => {
                        let new = possible(new, &active);
                        match apply(&loaded, new, &active, &live, &duties, &mut gate) {
                            Ok(new) => {
                                config = new;
                                configs.send_replace(Arc::clone(&config));
                                files.follow(&config, &policies);
                            }
                            Err(error) => stays(&policies, &error),
                        }
                    }
                    Err(error) => stays(&policies, &error),
                },
            },
            wanted = gate.opened() => {
                // The new duties cannot be sent while the old ones are borrowed.
                let current = *duties.borrow();
                match take_on(&wanted, current, &active, &live, &duties) {
                    Ok(()) => {
                        config = wanted;
                        configs.send_replace(Arc::clone(&config));
                    }
                    Err(error) => tracing::error!("the policy is not enforced: {error:#}"),
                }
            }
            _ = look.tick() => {
                let looked = interfaces.look(&mut active, &config);
                if looked.changed {
                    running.publish(&active);
                }
                if looked.attached
                    && let Err(error) = begin_anew(&config, &active, &live, &duties)
                {
                    tracing::error!("pick-ups do not begin anew: {error:#}");
                }
                policies.follow_interfaces();
                if files.changed() {
                    policies.reload(gate.wanted(&config));
                    files.follow(&config, &policies);
                }
            }
            // A task that ends before it is told to has nothing more to do, or
            // has panicked.
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a part of the agent failed, the rest goes on: {error}");
                }
            }
        }
    }

    no_more_cookies.cancel();
    let keep = config.on_exit == OnExit::Keep;
    end_cookies(cookies, keep, &mut signals).await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    policies.end(keep);
    live.retire(&duties.borrow());
    let dir = config.pin_dir.display();
    match config.on_exit {
        OnExit::Keep => tracing::info!("the tracker at {dir} goes on without an agent"),
        OnExit::Detach => tracing::info!("detaching from every interface and removing {dir}"),
    }
    active.finish(config.on_exit)
}

/// Ends what looks after SYN cookies; a second signal shortens the time that it
/// gives them to come back. What cannot be set back is told: the rest of the end
/// does not depend on it.
async fn end_cookies(cookies: JoinHandle<Controller>, keep: bool, signals: &mut Signals) {
    let controller = match cookies.await {
        Ok(controller) => controller,
        Err(error) => {
            tracing::error!("SYN cookies were not looked after: {error}");
            return;
        }
    };
    let hurry = CancellationToken::new();
    let mut end = pin!(controller.end(keep, &hurry));
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            signal = signals.next() => if let Signal::Stop(_) = signal {
                hurry.cancel();
            },
        }
    };
    if let Err(error) = ended {
        tracing::error!("a sysctl may not be as it was before the tracker: {error:#}");
    }
}

/// What of the configuration is fixed at load.
fn load_options(config: &Config) -> LoadOptions {
    LoadOptions {
        role: config.role,
        capacity: config.capacity,
        preallocate: config.preallocate,
        half_open_limit: config.half_open_limit,
        zones: !config.zones.is_empty(),
        event_ring_bytes: config.event_ring_bytes,
        embryo_ring_bytes: config.embryo_ring_bytes,
        test_clock: false,
        checksum: config.tracking.checksum,
    }
}

/// The configuration with the limits that the maps in use can hold, which may
/// be an earlier agent's.
fn effective(mut config: Config, pinned: &Pinned) -> Result<Config> {
    config.capacity = pinned.capacity()?;
    config.half_open_limit = config.half_open_limit.min(pinned.ring_slots()?);
    config.pickup_limit = config.pickup_limit.min(config.capacity);
    Ok(config)
}

/// Since when the hooks have seen all packets, ns of `CLOCK_MONOTONIC`: since an
/// earlier agent attached them if none is missing, else from here on.
fn hooks_since(active: &Active, config: &Config) -> Result<u64> {
    let earlier = match active.are_in_place(&config.interfaces)? {
        true => active.pinned().upkeep(),
        false => None,
    };
    Ok(match earlier {
        Some(upkeep) => upkeep.hooks_since_ns,
        None => Pinned::now_ns()?,
    })
}

/// A hook was attached where packets had passed unseen: what depends on since
/// when none did starts over.
fn begin_anew(
    config: &Arc<Config>,
    active: &Active,
    live: &LiveOwner,
    duties: &watch::Sender<Duties>,
) -> Result<()> {
    take_on(
        config,
        Duties::of(config, Pinned::now_ns()?),
        active,
        live,
        duties,
    )
}

/// Puts a configuration in force together with the duties that follow from it.
fn take_on(
    config: &Arc<Config>,
    new: Duties,
    active: &Active,
    live: &LiveOwner,
    duties: &watch::Sender<Duties>,
) -> Result<()> {
    live.configure(config, &new)?;
    duties.send_replace(new);
    // It is in force either way.
    if let Err(error) = active.set_upkeep(new.upkeep()) {
        tracing::warn!(
            "`tracker stats` tells what was configured before: {:#}",
            anyhow::Error::from(error)
        );
    }
    Ok(())
}

/// Puts the policy in force, attaches the hooks, and only then enforces: connections
/// that are there must be known before. Gives the configuration that is in force.
fn begin(
    active: &mut Active,
    live: &LiveOwner,
    config: &Arc<Config>,
    duties: &Duties,
    policies: &Policies,
    gate: &mut Gate,
) -> Result<Arc<Config>> {
    let before = active.pinned().live()?;
    let enforced = before.mode == Mode::Enforce as u8
        && (before.policy_slot != 0 || config.policy.path.is_none())
        && active.are_in_place(&config.interfaces)?;
    let first = match enforced {
        true => Arc::clone(config),
        false => observing(config),
    };
    live.configure(&first, duties)?;
    policies.begin(config, active.is_adopted())?;
    active.pinned().set_run_dir(policies.place().path())?;
    attach(active, live, &first, duties)?;
    let passed = gate.pass(config)?;
    live.configure(&passed, duties)?;
    Ok(passed)
}

/// Everything that packets depend on first, then the hooks.
fn attach(
    active: &mut Active,
    live: &LiveOwner,
    config: &Arc<Config>,
    duties: &Duties,
) -> Result<()> {
    active.set_upkeep(duties.upkeep())?;
    live.configure(config, duties)?;
    announce::warn(config);
    active
        .set_zones(&config.zones)
        .context("cannot fill the table of zones")?;
    for name in &config.interfaces {
        active.attach(name, config.xdp, config.tracking.checksums_on(name))?;
    }
    let others = active.detach_others()?;
    if !others.is_empty() {
        tracing::info!(
            "detached from {} interface(s) that an earlier run had and this one does not",
            others.len()
        );
    }
    announce::grace(duties.pickup)
}

/// Takes back a wish to keep what this kernel cannot keep.
fn possible(mut config: Config, active: &Active) -> Config {
    if config.on_exit == OnExit::Keep && !active.can_be_kept() {
        tracing::warn!(
            "on_exit = \"keep\" needs TCX, which Linux has since 6.6: detaching at the end"
        );
        config.on_exit = OnExit::Detach;
    }
    config
}

/// A configuration that was read again cannot be had.
fn stays(policies: &Policies, error: &anyhow::Error) {
    tracing::error!("the configuration stays as it was: {error:#}");
    policies.failed(error);
}

/// Takes over what may change while the programs run; tells the rest.
fn apply(
    loaded: &Config,
    new: Config,
    active: &Active,
    live: &LiveOwner,
    duties: &watch::Sender<Duties>,
    gate: &mut Gate,
) -> Result<Arc<Config>> {
    let reloaded = merge(loaded, new);
    let config = gate.reload(&Arc::new(reloaded.config))?;
    let hooks_since_ns = duties.borrow().hooks_since_ns;
    let new = Duties::of(&config, hooks_since_ns);
    take_on(&config, new, active, live, duties)?;
    announce::warn(&config);
    if reloaded.kept.is_empty() {
        tracing::info!("configuration read again");
    } else {
        tracing::warn!(
            "configuration read again; these keys change with the next start only: {}",
            reloaded.kept.join(", ")
        );
    }
    Ok(config)
}
