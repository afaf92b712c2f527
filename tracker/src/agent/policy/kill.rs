//! Ends flows that a policy does not admit.

use anyhow::Result;
use tracker_common::{
    abi::{Cause, Family, INITIATOR, Key, RESPONDER, Role},
    policy::Action,
};

use crate::{
    datapath::Pinned,
    policy::{
        compile::{Compiled, Judge},
        flows::Standpoint,
    },
    reset::Resetter,
    routes::own_addresses,
    view::{Clock, Row},
};

/// Ends every flow that `compiled` does not admit, with an RST to both ends. Gives
/// how many there were.
pub fn forbidden(pinned: &Pinned, role: Role, compiled: &Compiled) -> Result<u64> {
    let judge = Judge::new(compiled);
    let here = standpoint(role)?;
    let resetter = Resetter::open()?;
    let clock = Clock::new(Pinned::now_ns()?, pinned.live()?);
    let mut found: Vec<(Family, Key, u32)> = Vec::new();
    let mut unreached = 0_u64;
    for family in [Family::V4, Family::V6] {
        let mut flows = pinned.flows(family)?;
        while let Some(chunk) = flows.next_chunk()? {
            for (key, flow) in chunk {
                let Some(row) = Row::new(family, key, flow, &clock) else {
                    continue;
                };
                let judged = judge.judge(&here.subject(&row));
                if judged.is_none_or(|judged| judged.rule.action == Action::Allow) {
                    continue;
                }
                let ends = [INITIATOR, RESPONDER].map(|end| row.at(end).into());
                if resetter.reset(ends, row.flow()).is_err() {
                    unreached += 1;
                }
                found.push((family, *key, flow.generation));
            }
        }
    }
    if unreached > 0 {
        tracing::warn!("{unreached} of the flows had an end that no RST can be sent to");
    }
    let removed = pinned.remove(Cause::Revoked, &found)?;
    Ok(removed.removed)
}

/// Where this machine stands.
pub fn standpoint(role: Role) -> Result<Standpoint> {
    Ok(Standpoint {
        gateway: role == Role::Gateway,
        local: own_addresses()?.into_iter().collect(),
    })
}
