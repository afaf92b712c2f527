//! `tracker unload`: detach and remove what is pinned.

use std::io::Write;

use anyhow::Result;

use super::{counted, say};
use crate::{cli::PinArgs, control::place::Place, datapath};

/// Removes everything and says what that was.
pub fn unload(args: &PinArgs, out: &mut impl Write) -> Result<()> {
    let records = datapath::run_dir(&args.pin_dir).map(Place::at);
    let removed = datapath::unload(&args.pin_dir)?;
    if let Some(records) = records {
        records.clear()?;
    }
    let mut line = format!(
        "removed {}, {} and {} at {}",
        counted(removed.links as u64, "link"),
        counted(removed.programs as u64, "program"),
        counted(removed.maps as u64, "map"),
        args.pin_dir.display()
    );
    if !removed.interfaces.is_empty() {
        line += &format!("; detached from {}", removed.interfaces.join(", "));
    }
    for change in &removed.sysctls {
        line += &format!("; set back {change}");
    }
    say(out, &line)
}
