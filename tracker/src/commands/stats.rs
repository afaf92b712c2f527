//! `tracker stats`: counters, fill and health.

use std::io::Write;

use anyhow::Result;
use tracker_common::abi::interface_flags;

use super::look::{Look, names};
use crate::{
    cli::{StatsArgs, StatsFormat},
    datapath::Pinned,
    view::stats::{Flows, Interface, Map, Program, Snapshot, Upkeep},
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
    look.flows(pinned, |row| {
        match row {
            Some(row) => flows.count(&row),
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
    })
}
