//! `tracker watch`: the table, kept up to date.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{
    live,
    look::{Look, local_addresses},
    out,
};
use crate::{
    cli::WatchArgs,
    datapath::Pinned,
    view::{Fit, Table},
};

/// Shows the table until the user leaves.
pub fn watch(args: &WatchArgs) -> Result<()> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return print(args);
    }
    // A signal must not leave the terminal in the wrong mode.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot install a signal handler")?;
    }
    // Opened for each picture anew: a tracker that was started again has other
    // maps.
    let pinned = || Ok(Arc::new(Pinned::open(&args.pin.pin_dir)?));
    live::show(pinned, args.interval, &stop, || None).map(drop)
}

/// Prints the table again and again, until stdout is closed.
fn print(args: &WatchArgs) -> Result<()> {
    let mut pinned = Pinned::open(&args.pin.pin_dir)?;
    let mut table = Table::new(local_addresses(&pinned)?, false);
    let mut out = out();
    loop {
        let look = Look::begin(&pinned)?;
        table.clear();
        look.flows(&pinned, |row| {
            if let Some(row) = row {
                table.push(&row);
            }
            Ok(())
        })?;
        table.write(&mut out, Fit::default())?;
        writeln!(out)?;
        out.flush()?;
        thread::sleep(args.interval);
        pinned = Pinned::open(&args.pin.pin_dir)?;
    }
}
