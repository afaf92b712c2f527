//! `tracker policy diff`: which live flows would fare differently.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyDiffArgs;

/// Does what `args` say.
pub fn diff(_args: &PolicyDiffArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
