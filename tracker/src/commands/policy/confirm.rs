//! `tracker policy confirm`: keeps the policy in force.

use std::io::Write;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;

use super::{super::say, read};
use crate::{
    cli::PolicyConfirmArgs,
    control::{client::Agent, message::Request},
    datapath::Pinned,
};

/// Does what `args` say.
pub fn confirm(args: &PolicyConfirmArgs, out: &mut impl Write) -> Result<()> {
    let place = read::place(&Pinned::open(&args.pin.pin_dir)?)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime
        .context("cannot wait for the agent")?
        .block_on(async { Agent::connect(&place).await?.ask(&Request::Confirm).await })?;
    say(out, "confirmed: the policy stays in force")
}
