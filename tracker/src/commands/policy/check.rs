//! `tracker policy check`: every error of a policy, told at once.

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::PolicyCheckArgs;

/// Does what `args` say.
pub fn check(_args: &PolicyCheckArgs, _out: &mut impl Write) -> Result<()> {
    bail!("not there yet")
}
