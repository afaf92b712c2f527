//! Interfaces that go and come back while the agent runs.
//!
//! They are looked at once a second rather than listened for: a request per
//! interface costs nothing, no message of a socket can be missed, and an
//! interface that was made anew between two looks has another index.

use std::{collections::HashMap, time::Duration};

use crate::{
    config::Config,
    datapath::{Active, index_of},
};

/// Time between two looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a look led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Interfaces went or came back.
    pub changed: bool,
    /// Hooks were attached.
    pub attached: bool,
}

/// Remembers what was told.
pub struct Interfaces {
    /// The index with which an interface could not be attached: it is not
    /// tried again until it has another.
    failed: HashMap<String, u32>,
}

impl Interfaces {
    /// Has seen nothing yet.
    pub fn new() -> Self {
        Self {
            failed: HashMap::new(),
        }
    }

    /// Forgets interfaces that are gone and attaches those that are back.
    pub fn look(&mut self, active: &mut Active, config: &Config) -> Looked {
        let mut looked = Looked::default();
        match active.forget_gone() {
            Ok(gone) => {
                for interface in gone {
                    tracing::warn!(
                        "interface {} is gone; it is attached again when it comes back",
                        interface.name
                    );
                    looked.changed = true;
                }
            }
            Err(error) => tracing::error!("an interface is gone, and its pins stay: {error:#}"),
        }
        for name in &config.interfaces {
            if active.attached().any(|attached| attached.name == *name) {
                continue;
            }
            let Some(index) = index_of(name) else {
                continue;
            };
            if self.failed.get(name) == Some(&index) {
                continue;
            }
            let attached = active.attach(name, config.xdp, config.tracking.checksums_on(name));
            match attached.map(|attached| attached.xdp) {
                Ok(mode) => {
                    tracing::info!("interface {name} is back and attached again (XDP {mode})");
                    self.failed.remove(name);
                    looked = Looked {
                        changed: true,
                        attached: true,
                    };
                }
                Err(error) => {
                    tracing::error!("interface {name} is back but cannot be attached: {error:#}");
                    self.failed.insert(name.clone(), index);
                }
            }
        }
        // Zones name interfaces by index.
        if looked.changed
            && let Err(error) = active.set_zones(&config.zones)
        {
            tracing::error!("the table of zones could not follow: {error:#}");
        }
        looked
    }
}
