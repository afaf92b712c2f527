//! `tracker policy confirm`: keeps the policy in force.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyConfirmArgs;

/// Does what `args` say.
pub fn confirm(_args: &PolicyConfirmArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
