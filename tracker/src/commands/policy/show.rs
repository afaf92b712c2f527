//! `tracker policy show`: the policy in force and its counters.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyShowArgs;

/// Does what `args` say.
pub fn show(_args: &PolicyShowArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
