//! `tracker policy test`: which rule decides about a connection.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyTestArgs;

/// Does what `args` say.
pub fn test(_args: &PolicyTestArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
