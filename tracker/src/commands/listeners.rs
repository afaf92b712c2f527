//! `tracker listeners`: the sockets that accept connections, and how each is
//! defended.

use std::io::Write;

use anyhow::{Context as _, Result};
use nix::net::if_::if_nameindex;
use tracker_common::{
    abi::{PlaceKind, defence_flags},
    time::Tick,
};

use super::look::{HalfOpen, Look};
use crate::{
    cli::{ListFormat, ListenersArgs},
    datapath::{Error, Pinned},
    sockets,
    view::{
        Names,
        listeners::{Known, Listeners},
    },
};

/// Writes the list to `out`; what is missing from it is said on stderr.
pub fn listeners(args: &ListenersArgs, out: &mut impl Write) -> Result<()> {
    let known = match Pinned::open(&args.pin.pin_dir) {
        Ok(pinned) if pinned.is_of_this_namespace() => Some(known(&pinned)?),
        Ok(_) => {
            eprintln!(
                "note: the tracker at {} is of another network namespace: these are the sockets of \
                 this one",
                args.pin.pin_dir.display()
            );
            None
        }
        Err(error @ Error::NoTracker { .. }) => {
            eprintln!("note: {error}");
            None
        }
        Err(error) => return Err(error.into()),
    };
    // Sockets after flows: a socket that opens in between is shown without flows,
    // not its flows without a socket.
    let list = Listeners::new(&sockets::listening()?, known.as_ref());
    let names = names()?;
    match args.output {
        ListFormat::Table => list.table(out, &names, args.addresses)?,
        ListFormat::Json => list.json(out, &names)?,
        ListFormat::Ndjson => list.ndjson(out, &names)?,
        ListFormat::Csv => list.csv(out, &names, args.addresses)?,
    }
    Ok(out.flush()?)
}

fn known(pinned: &Pinned) -> Result<Known> {
    let look = Look::begin(pinned)?;
    let mut half_open = HalfOpen::begin(pinned, &look.live)?;
    look.flows(pinned, |row| {
        if let Some(row) = row {
            half_open.count(&row);
        }
        Ok(())
    })?;
    let mut half_open = half_open.into_counts();
    half_open.retain(|place, _| place.kind == PlaceKind::Listener as u8);
    Ok(Known {
        now: Tick::from_ns(look.now_ns),
        listeners: pinned.listeners()?,
        half_open,
        limit: look.live.listener_limit,
        cookies: pinned.cookies().map(|note| note.mode),
        answering: look.live.defence & defence_flags::ANSWER != 0,
    })
}

/// Names of the interfaces of this network namespace, whose sockets are listed.
fn names() -> Result<Names> {
    let list = if_nameindex().context("cannot list this machine's network interfaces")?;
    let pairs = list
        .iter()
        .map(|one| (one.index(), one.name().to_string_lossy().into_owned()));
    Ok(Names::new(pairs))
}
