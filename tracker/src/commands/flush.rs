//! `tracker flush`: forget all flows.

use std::io::Write;

use anyhow::Result;
use tracker_common::abi::Cause;

use super::{counted, look, say};
use crate::{
    cli::PinArgs,
    datapath::{Pinned, ReapTotals},
};

/// Removes every flow and says how many.
pub fn flush(args: &PinArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin_dir)?;
    let mut totals = ReapTotals::default();
    look::elements(&pinned, |family, chunk| {
        let candidates: Vec<_> = chunk
            .iter()
            .map(|(key, flow)| (family, *key, flow.generation))
            .collect();
        totals.add(pinned.remove(Cause::Flushed, &candidates)?);
        Ok(())
    })?;
    let mut line = format!("{} removed", counted(totals.removed, "flow"));
    if totals.gone > 0 {
        line += &format!(", {} ended by themselves meanwhile", totals.gone);
    }
    if totals.kept > 0 {
        line += &format!(", {} kept", totals.kept);
    }
    if pinned.live()?.pickup == 0 {
        line += "; pick-ups are off, so connections that are open stay unknown";
    }
    say(out, &line)
}
