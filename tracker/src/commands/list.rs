//! `tracker list`: the flows, once.

use std::io::Write;

use anyhow::Result;

use super::look::{Look, local_addresses, names};
use crate::{
    cli::{ListArgs, ListFormat},
    datapath::Pinned,
    view::{Details, Listing, LocalAddresses, Names},
};

/// Writes the flows to `out`.
pub fn list(args: &ListArgs, out: &mut impl Write, colours: bool) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let names = names(&pinned)?;
    let local = match args.output {
        ListFormat::Table => local_addresses(&pinned)?,
        ListFormat::Json | ListFormat::Ndjson | ListFormat::Csv => LocalAddresses::default(),
    };
    if args.details {
        return detailed(args.output, &pinned, out, &names, local, colours);
    }
    let look = Look::begin(&pinned)?;
    let mut listing = Listing::begin(args.output, out, &names, local, colours)?;
    look.flows(&pinned, |row| match row {
        Some(row) => Ok(listing.row(&row)?),
        None => Ok(()),
    })?;
    Ok(listing.end()?)
}

/// The same with what is remembered beside the flows.
fn detailed(
    format: ListFormat,
    pinned: &Pinned,
    out: &mut impl Write,
    names: &Names,
    local: LocalAddresses,
    colours: bool,
) -> Result<()> {
    // A step that is kept after this look is missing from the history, which the
    // views tell from the flow's number of its newest event.
    let (histories, refusals) = (pinned.histories()?, pinned.refusals()?);
    let look = Look::begin(pinned)?;
    let mut listing = Listing::begin_detailed(format, out, names, local, colours)?;
    look.flows(pinned, |row| {
        let Some(row) = row else {
            return Ok(());
        };
        let id = row.flow().id().0;
        let details = Details {
            history: histories.get(&id).copied(),
            refusal: refusals.get(&id).copied(),
        };
        Ok(listing.detailed_row(&row, &details)?)
    })?;
    Ok(listing.end()?)
}
