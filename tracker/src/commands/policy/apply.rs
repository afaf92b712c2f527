//! `tracker policy apply`: puts a policy in force.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyApplyArgs;

/// Does what `args` say.
pub fn apply(_args: &PolicyApplyArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
