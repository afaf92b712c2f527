//! `tracker policy apply`: puts a policy in force.

use std::{
    io::{self, Write},
    thread,
};

use anyhow::{Context as _, Result, bail};
use tokio::{runtime::Builder, sync::oneshot};

use super::{
    super::{counted, say},
    read,
};
use crate::{
    cli::{FlowsChoice, PolicyApplyArgs},
    control::{
        client::Agent,
        message::{Applied, Apply, Reply, Request},
        stored::StoredPolicy,
    },
    datapath::Pinned,
};

/// Does what `args` say.
pub fn apply(args: &PolicyApplyArgs, out: &mut impl Write) -> Result<()> {
    let place = read::place(&Pinned::open(&args.pin.pin_dir)?)?;
    let policy = read::from_file(&args.file)?;
    let request = Request::Apply(Box::new(Apply {
        policy: StoredPolicy::of(&policy),
        flows: args.flows,
        confirm_s: args.confirm.map(|time| time.as_secs()),
        force: args.force,
    }));
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime
        .context("cannot wait for the agent")?
        .block_on(async {
            let mut agent = Agent::connect(&place).await?;
            let Reply::Applied(applied) = agent.ask(&request).await? else {
                bail!("the agent answers something else than was asked");
            };
            tell(out, &applied, args.flows)?;
            match applied.confirm_s {
                Some(seconds) => wait(agent, seconds, out).await,
                None => Ok(()),
            }
        })
}

fn tell(out: &mut impl Write, applied: &Applied, flows: FlowsChoice) -> Result<()> {
    for warning in &applied.warnings {
        eprintln!("warning: {warning}");
    }
    let killed = match flows {
        FlowsChoice::Keep | FlowsChoice::Recheck => String::new(),
        FlowsChoice::Kill => format!(", {} ended", counted(applied.killed, "flow")),
    };
    say(
        out,
        &format!(
            "in force: {} (generation {}){killed}",
            counted(applied.rules, "rule"),
            applied.generation
        ),
    )?;
    if applied.observing {
        eprintln!(
            "note: this tracker observes: what the policy refuses is counted and passes; `tracker run \
             --mode enforce` refuses it"
        );
    }
    Ok(())
}

/// Waits until the policy is confirmed, here by Enter or elsewhere, or has returned.
async fn wait(mut agent: Agent, seconds: u64, out: &mut impl Write) -> Result<()> {
    say(
        out,
        &format!(
            "the former policy returns in {seconds} s: press Enter to keep this one, or say `tracker \
             policy confirm`"
        ),
    )?;
    let mut entered = enter();
    loop {
        tokio::select! {
            Ok(()) = &mut entered => agent.say(&Request::Confirm).await?,
            reply = agent.answer() => match reply? {
                Reply::Confirmed => return say(out, "confirmed: it stays in force"),
                Reply::Returned => bail!(
                    "nobody has confirmed the policy in {seconds} s: the former one is in force again"
                ),
                Reply::Applied(_) | Reply::Refused { .. } => {
                    bail!("the agent answers something else than was asked")
                }
            },
        }
    }
}

/// Is told when somebody presses Enter; never where there is nobody to do so.
fn enter() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, since nothing ends a read of a terminal. It ends with the
    // process.
    thread::spawn(move || {
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            // Who waits has gone, or knows already.
            Ok(read) if read > 0 => drop(sender.send(())),
            // The receiver would take a dropped sender for an answer that never
            // comes, which it is.
            Ok(_) | Err(_) => {}
        }
    });
    receiver
}
