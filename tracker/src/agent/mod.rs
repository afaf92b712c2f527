//! The agent: keeps the datapath attached and its table clean for as long as it
//! runs.
//!
//! | module | concern |
//! |---|---|
//! | `live` | the running configuration in the kernel, written by one owner |
//! | `reaper` | sweeps for expired flows |
//! | `events` | what the programs report |
//! | `interfaces` | interfaces that go and come back |
//! | `signals` | SIGINT, SIGTERM, SIGHUP |
//!
//! The packet path does not depend on it: without an agent packets are tracked
//! with the last configuration, and expired flows stay in the table but count
//! as absent.

mod events;
mod gaps;
mod interfaces;
mod live;
mod reaper;
mod signals;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    interfaces::Interfaces,
    live::LiveOwner,
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
    let mut config = effective(config, active.pinned())?;
    let live = Arc::new(LiveOwner::new(Arc::clone(active.pinned())));
    let started = events::Rings::open(active.pinned())
        .and_then(|rings| attach(&mut active, &live, &config).map(|()| rings));
    let rings = match started {
        Ok(rings) => rings,
        Err(error) => {
            live.retire();
            return Err(error);
        }
    };
    let running = Running {
        pinned: Arc::clone(active.pinned()),
        attached: Arc::default(),
    };
    running.publish(&active);

    let stop = CancellationToken::new();
    let (interval, intervals) = watch::channel(config.sweep_interval);
    let mut tasks = JoinSet::new();
    tasks.spawn(reaper::run(
        Arc::clone(active.pinned()),
        Arc::clone(&live),
        intervals,
        stop.clone(),
    ));
    tasks.spawn(events::run(rings, stop.clone()));
    if let Some(log) = active.log() {
        tasks.spawn(events::forward_log(log, stop.clone()));
    }
    announce(&active);
    ready(&running);

    let loaded = config.clone();
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
                        config = apply(&loaded, new, &live, &interval).unwrap_or_else(|error| {
                            tracing::error!("the configuration stays as it was: {error:#}");
                            config
                        });
                    }
                    Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
                },
            },
            _ = look.tick() => {
                if interfaces.look(&mut active, &config) {
                    running.publish(&active);
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

    stop.cancel();
    while tasks.join_next().await.is_some() {}
    live.retire();
    let dir = config.pin_dir.display();
    match config.on_exit {
        OnExit::Keep => tracing::info!("the tracker at {dir} goes on without an agent"),
        OnExit::Detach => tracing::info!("detaching from every interface and removing {dir}"),
    }
    active.finish(config.on_exit)
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

/// Everything that packets depend on first, then the hooks.
fn attach(active: &mut Active, live: &LiveOwner, config: &Config) -> Result<()> {
    live.configure(config)?;
    active
        .set_zones(&config.zones)
        .context("cannot fill the table of zones")?;
    for name in &config.interfaces {
        active.attach(name, config.xdp)?;
    }
    let others = active.detach_others()?;
    if !others.is_empty() {
        tracing::info!(
            "detached from {} interface(s) that an earlier run had and this one does not",
            others.len()
        );
    }
    active.establish();
    Ok(())
}

fn announce(active: &Active) {
    let interfaces: Vec<String> = active
        .attached()
        .map(|it| {
            format!(
                "{} (XDP {}, egress {})",
                it.name,
                it.xdp,
                it.egress.as_str()
            )
        })
        .collect();
    let adopted = if active.is_adopted() {
        ", with the flows of an earlier run"
    } else {
        ""
    };
    tracing::info!(
        "tracker ready: observing {}{adopted}",
        interfaces.join(", ")
    );
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

/// Takes over what may change while the programs run; tells the rest.
fn apply(
    loaded: &Config,
    new: Config,
    live: &LiveOwner,
    interval: &watch::Sender<std::time::Duration>,
) -> Result<Config> {
    let reloaded = merge(loaded, new);
    live.configure(&reloaded.config)?;
    interval.send_replace(reloaded.config.sweep_interval);
    if reloaded.kept.is_empty() {
        tracing::info!("configuration read again");
    } else {
        tracing::warn!(
            "configuration read again; these keys change with the next start only: {}",
            reloaded.kept.join(", ")
        );
    }
    Ok(reloaded.config)
}
