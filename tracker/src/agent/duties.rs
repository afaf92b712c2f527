//! What the agent does by itself, as the configuration and the age of the hooks
//! make it.

use std::time::Duration;

use crate::{
    config::{Adaptive, Config, PickupChoice},
    datapath::Upkeep,
};

/// What the tasks go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// Flows in TIME_WAIT that are kept.
    pub time_wait_limit: u32,
    /// When time-outs are shortened.
    pub adaptive: Option<Adaptive>,
    /// Whether connections are met in mid-life.
    pub pickup: Pickup,
    /// Since when the hooks have been in place without a gap, ns of
    /// `CLOCK_MONOTONIC`.
    pub hooks_since_ns: u64,
}

/// When connections are met in mid-life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pickup {
    /// Never.
    Off,
    /// Always.
    On,
    /// Until this moment, ns of `CLOCK_MONOTONIC`.
    Until(u64),
}

impl Pickup {
    /// Whether they are at the moment `now_ns`.
    pub const fn is_on(self, now_ns: u64) -> bool {
        match self {
            Self::Off => false,
            Self::On => true,
            Self::Until(end) => now_ns < end,
        }
    }
}

impl Duties {
    /// Those of `config`, with hooks in place since `hooks_since_ns`.
    pub fn of(config: &Config, hooks_since_ns: u64) -> Self {
        let tracking = &config.tracking;
        let grace = u64::try_from(tracking.pickup_grace.as_nanos()).unwrap_or(u64::MAX);
        Self {
            sweep_interval: config.sweep_interval,
            time_wait_limit: tracking.time_wait_limit,
            adaptive: tracking.adaptive,
            pickup: match tracking.pickup {
                PickupChoice::Off => Pickup::Off,
                PickupChoice::Loose => Pickup::On,
                PickupChoice::Grace => Pickup::Until(hooks_since_ns.saturating_add(grace)),
            },
            hooks_since_ns,
        }
    }

    /// The same for the pin directory.
    pub const fn upkeep(&self) -> Upkeep {
        Upkeep {
            hooks_since_ns: self.hooks_since_ns,
            pickup_until_ns: match self.pickup {
                Pickup::Until(end) => Some(end),
                Pickup::Off | Pickup::On => None,
            },
            time_wait_limit: self.time_wait_limit,
            adaptive: match self.adaptive {
                Some(Adaptive { start, end }) => Some([start, end]),
                None => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_ends_when_it_is_over() {
        assert!(Pickup::Until(10).is_on(9) && !Pickup::Until(10).is_on(10));
        assert!(Pickup::On.is_on(u64::MAX) && !Pickup::Off.is_on(0));
    }
}
