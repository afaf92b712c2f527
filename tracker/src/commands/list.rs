//! `tracker list`: the flows, once.

use std::io::Write;

use anyhow::Result;

use super::look::{Look, local_addresses, names};
use crate::{
    cli::{ListArgs, ListFormat},
    datapath::Pinned,
    view::{Listing, LocalAddresses},
};

/// Writes the flows to `out`.
pub fn list(args: &ListArgs, out: &mut impl Write, colours: bool) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let names = names(&pinned)?;
    let local = match args.output {
        ListFormat::Table => local_addresses(&pinned)?,
        ListFormat::Json | ListFormat::Ndjson | ListFormat::Csv => LocalAddresses::default(),
    };
    let look = Look::begin(&pinned)?;
    let mut listing = Listing::begin(args.output, out, &names, local, colours)?;
    look.flows(&pinned, |row| match row {
        Some(row) => Ok(listing.row(&row)?),
        None => Ok(()),
    })?;
    Ok(listing.end()?)
}
