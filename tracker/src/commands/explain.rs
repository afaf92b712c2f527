//! `tracker explain`: what became of a connection, and why.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::ExplainArgs;

/// Does what `args` say.
pub fn explain(_args: &ExplainArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
