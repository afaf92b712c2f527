//! What a reload may change, and what it may not.

use super::{Config, Defence, Tracking};

/// A configuration to go on with, and what of the new one cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The running configuration with every change that is possible.
    pub config: Config,
    /// Keys whose new values wait for the next start.
    pub kept: Vec<&'static str>,
}

/// Takes over from `new` what the programs can follow while they run: the
/// mode, the policy's place, the time-outs, the limits, how flows are followed and
/// defended, and the sweep. All else is fixed at load. The policy itself is read
/// apart: what is wrong with it keeps nothing else from taking effect.
///
/// `loaded` is the configuration that the programs were loaded with: the ring
/// of half-open flows is as long as that one's limit, so the limit may move
/// below it only.
#[must_use]
pub fn merge(loaded: &Config, new: Config) -> Reloaded {
    let mut kept = Vec::new();
    let mut fixed = |key, differs: bool| {
        if differs {
            kept.push(key);
        }
    };
    fixed("interfaces", new.interfaces != loaded.interfaces);
    fixed("role", new.role != loaded.role);
    fixed("xdp", new.xdp != loaded.xdp);
    fixed("pin_dir", new.pin_dir != loaded.pin_dir);
    fixed("run_dir", new.run_dir != loaded.run_dir);
    fixed("table.capacity", new.capacity != loaded.capacity);
    fixed("table.preallocate", new.preallocate != loaded.preallocate);
    fixed(
        "table.half_open_limit",
        new.half_open_limit > loaded.half_open_limit,
    );
    fixed(
        "tracking.tcp_checksum",
        new.tracking.checksum != loaded.tracking.checksum,
    );
    fixed(
        "tracking.tcp_checksum_force",
        new.tracking.checksum_force != loaded.tracking.checksum_force,
    );
    fixed(
        "defence.manage_sysctls",
        new.defence.manage_sysctls != loaded.defence.manage_sysctls,
    );
    fixed("zones", new.zones != loaded.zones);
    fixed(
        "events.ring_bytes",
        new.event_ring_bytes != loaded.event_ring_bytes,
    );
    fixed(
        "events.embryo_ring_bytes",
        new.embryo_ring_bytes != loaded.embryo_ring_bytes,
    );
    let config = Config {
        on_exit: new.on_exit,
        half_open_limit: new.half_open_limit.min(loaded.half_open_limit),
        pickup_limit: new.pickup_limit.min(loaded.capacity),
        tracking: Tracking {
            checksum: loaded.tracking.checksum,
            checksum_force: loaded.tracking.checksum_force.clone(),
            ..new.tracking
        },
        mode: new.mode,
        policy: new.policy,
        defence: if new.role == loaded.role {
            Defence {
                manage_sysctls: loaded.defence.manage_sysctls,
                ..new.defence
            }
        } else {
            // Checked for a role that this is not.
            loaded.defence.clone()
        },
        timeouts: new.timeouts,
        sweep_interval: new.sweep_interval,
        ..loaded.clone()
    };
    Reloaded { config, kept }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracker_common::abi::{CookieMode, Mode, Role};

    use super::*;
    use crate::{
        cli::RunArgs,
        config::{File, PickupChoice, System, check},
    };

    fn loaded() -> Config {
        let system = System {
            interfaces: vec!["eth0".to_owned()],
            default_routes: vec!["eth0".to_owned()],
        };
        check(&File::default(), &RunArgs::default(), &system).unwrap()
    }

    #[test]
    fn what_the_programs_can_follow_is_taken_over() {
        let mut new = loaded();
        new.timeouts = [7; _];
        new.sweep_interval = Duration::from_secs(9);
        new.half_open_limit -= 1;
        new.pickup_limit += 1;
        new.tracking.pickup = PickupChoice::Grace;
        new.tracking.time_wait_limit = 1;
        new.tracking.liberal = true;
        new.mode = Mode::Enforce;
        new.defence.cookies = CookieMode::Always;
        new.defence.source_limit = 7;
        new.policy.path = Some("p.toml".into());
        new.policy.watch = true;
        assert_eq!(
            merge(&loaded(), new.clone()),
            Reloaded {
                config: new,
                kept: Vec::new()
            }
        );
    }

    #[test]
    fn what_is_fixed_at_load_is_kept_and_told() {
        let mut new = loaded();
        new.interfaces.push("eth1".to_owned());
        new.role = Role::Gateway;
        new.run_dir.push("elsewhere");
        new.capacity = 1;
        new.half_open_limit += 1;
        new.tracking.checksum = true;
        new.defence.manage_sysctls = false;
        let reloaded = merge(&loaded(), new);
        assert_eq!(reloaded.config, loaded());
        assert_eq!(
            reloaded.kept,
            [
                "interfaces",
                "role",
                "run_dir",
                "table.capacity",
                "table.half_open_limit",
                "tracking.tcp_checksum",
                "defence.manage_sysctls",
            ]
        );
    }
}
