//! What the agent says about itself.

use anyhow::Result;
use tracker_common::abi::Mode;

use super::duties::Pickup;
use crate::{
    config::Config,
    datapath::{Active, Pinned},
};

/// Tells what of the configuration makes the tracker see less.
pub fn warn(config: &Config) {
    if config.tracking.liberal {
        tracing::warn!(
            "tracking.liberal = true: no segment is held against windows, timestamps or the \
             numbers of an RST; what a check would refuse is counted as `liberal`"
        );
    }
}

/// Tells how long connections are met in mid-life, where that ends.
pub fn grace(pickup: Pickup) -> Result<()> {
    let Pickup::Until(end) = pickup else {
        return Ok(());
    };
    match end.saturating_sub(Pinned::now_ns()?) / 1_000_000_000 {
        0 => tracing::info!("connections of which no SYN was seen are not taken up"),
        left => {
            tracing::info!("connections of which no SYN was seen are taken up for another {left} s")
        }
    }
    Ok(())
}

/// Tells what is tracked, and how.
pub fn ready(active: &Active, config: &Config) {
    let interfaces: Vec<String> = active
        .attached()
        .map(|it| {
            let checksums = match it.checksums {
                true => ", TCP checksums verified",
                false => "",
            };
            format!(
                "{} (XDP {}, egress {}{checksums})",
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
    let doing = match config.mode {
        Mode::Observe => "observing",
        Mode::Enforce => "enforcing",
    };
    let cookies = match config.mode {
        Mode::Observe => String::new(),
        Mode::Enforce => format!(", SYN cookies {}", config.defence.cookies.as_str()),
    };
    tracing::info!(
        "tracker ready: {doing} {}{cookies}{adopted}",
        interfaces.join(", ")
    );
}
