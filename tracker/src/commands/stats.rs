//! `tracker stats`: counters, fill and health.

use std::io::Write;

use anyhow::Result;
use tracker_common::abi::{Listener, interface_flags};

use super::look::{HalfOpen, Look, names};
use crate::{
    cli::{StatsArgs, StatsFormat},
    control::place::Place,
    datapath::Pinned,
    view::{
        bans::left_ms,
        stats::{
            CookiesDone, Defence, Flows, Interface, Map, PolicyStats, Program, Snapshot, Upkeep,
        },
    },
};

/// Writes the statistics to `out`.
pub fn stats(args: &StatsArgs, out: &mut impl Write) -> Result<()> {
    let snapshot = snapshot(&Pinned::open(&args.pin.pin_dir)?)?;
    match args.output {
        StatsFormat::Table => snapshot.table(out, args.verbose)?,
        StatsFormat::Json => snapshot.json(out)?,
    }
    Ok(out.flush()?)
}

fn snapshot(pinned: &Pinned) -> Result<Snapshot> {
    let look = Look::begin(pinned)?;
    let mut flows = Flows::default();
    let mut half_open = HalfOpen::begin(pinned, &look.live)?;
    look.flows(pinned, |row| {
        match row {
            Some(row) => {
                flows.count(&row);
                half_open.count(&row);
            }
            None => flows.count_expired(),
        }
        Ok(())
    })?;
    let names = names(pinned)?;
    let interfaces = pinned
        .interfaces()?
        .into_iter()
        .map(|(index, interface)| Interface {
            name: names.plain(index),
            index,
            xdp: pinned.xdp_mode(index),
            ingress: interface.flags & interface_flags::INGRESS != 0,
            strips_tags: interface.flags & interface_flags::STRIPS_TAGS != 0,
            checksums: interface.flags & interface_flags::CHECKSUM != 0,
        });
    let programs = pinned.programs()?.into_iter().map(|program| Program {
        name: program.name,
        id: program.id,
        verified_instructions: program.verified_instructions,
        translated_bytes: program.translated_bytes,
        jited_bytes: program.jited_bytes,
    });
    let maps = pinned.maps()?.into_iter().map(|map| Map {
        name: map.name.to_owned(),
        max_entries: map.max_entries,
        memory_bytes: map.memory_bytes,
    });
    Ok(Snapshot {
        now_ns: look.now_ns,
        live: look.live,
        upkeep: pinned.upkeep().map(|upkeep| Upkeep {
            pickup_until_ns: upkeep.pickup_until_ns,
            time_wait_limit: upkeep.time_wait_limit,
            adaptive: upkeep.adaptive,
        }),
        gauges: pinned.gauges()?,
        reasons: pinned.reasons()?,
        lost: pinned.lost()?,
        interfaces: interfaces.collect(),
        programs: programs.collect(),
        maps: maps.collect(),
        flows,
        defence: defence(pinned, half_open, look.now_ns)?,
        policy: policy(pinned)?,
    })
}

/// What the agent has written down of the policy.
fn policy(pinned: &Pinned) -> Result<Option<PolicyStats>> {
    let Some(path) = pinned.run_dir() else {
        return Ok(None);
    };
    let status = Place::at(path).status()?;
    Ok(status.map(|status| PolicyStats::new(&status)))
}

fn defence(pinned: &Pinned, half_open: HalfOpen, now_ns: u64) -> Result<Defence> {
    let (floods, corrections) = (pinned.floods(), pinned.corrections());
    let bans = pinned.bans()?;
    let in_force = bans
        .iter()
        .filter(|(_, ban)| left_ms(ban, now_ns) != Some(0));
    let listeners = pinned.listeners()?;
    let total = |of: fn(&Listener) -> u64| {
        let counts = listeners.iter().map(|(_, listener)| of(listener));
        counts.fold(0, u64::saturating_add)
    };
    Ok(Defence {
        cookies_expired: total(|listener| listener.expired),
        cookies_retransmitted: total(|listener| listener.retransmitted),
        cookies: pinned.cookies().map(|note| CookiesDone {
            mode: note.mode,
            on_since_ns: note.on_since_ns,
            times_on: note.times_on,
        }),
        half_open: half_open.into_counts().into_iter().collect(),
        bans: in_force.count() as u64,
        bans_made: floods.bans,
        corrected_gauges: corrections.gauges,
        corrected_shares: corrections.shares,
        flood_since_ns: floods.since_ns,
        floods: floods.begun,
        floods_suppressed: floods.suppressed,
    })
}
