//! `tracker policy diff`: which live flows would fare differently.

use std::io::Write;

use anyhow::Result;
use tracker_common::{
    abi::{INITIATOR, RESPONDER},
    policy::{Direction, Subject},
    tcp::State,
};

use super::{
    super::look::{Look, names},
    read,
};
use crate::{
    cli::{PolicyDiffArgs, StatsFormat},
    control::stored::action,
    datapath::{Pinned, index_of},
    policy::{
        compile::{Compiled, Judge, compile},
        flows::Standpoint,
        model::Policy,
    },
    routes::own_addresses,
    view::policy::diff::{Diff, Differs, Fate},
};

/// Does what `args` say.
pub fn diff(args: &PolicyDiffArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let new = compiled(&read::from_file(&args.file)?)?;
    let place = read::place(&pinned)?;
    let old = read::in_force(&place)?;
    let old = old.map(|old| compiled(&old.policy)).transpose()?;
    let here = Standpoint {
        gateway: read::status(&place)?.gateway,
        local: own_addresses()?.into_iter().collect(),
    };
    let new = Judge::new(&new);
    let old = old.as_ref().map(Judge::new);
    let names = names(&pinned)?;
    let mut diff = Diff::default();
    Look::begin(&pinned)?.flows(&pinned, |row| {
        let Some(row) = row else {
            return Ok(());
        };
        diff.looked_at += 1;
        let subject = here.subject(&row);
        let now = match &old {
            Some(old) => fate(old, &subject),
            None => Fate {
                action: "allow",
                rule: None,
            },
        };
        let then = fate(&new, &subject);
        if now.action != then.action {
            let [initiator, responder] = [INITIATOR, RESPONDER].map(|end| row.at(end).into());
            diff.flows.push(Differs {
                initiator,
                responder,
                direction: Direction::from_raw(subject.direction).as_str(),
                interface: names.plain(subject.ifindex),
                state: State::netstat_name(row.end(INITIATOR).state()),
                now,
                then,
            });
        }
        Ok(())
    })?;
    match args.output {
        StatsFormat::Table => diff.table(out)?,
        StatsFormat::Json => diff.json(out)?,
    }
    Ok(out.flush()?)
}

/// Numbers do not matter here.
fn compiled(policy: &Policy) -> Result<Compiled> {
    Ok(compile(policy, &index_of, &|_| 1)?)
}

fn fate(judge: &Judge<'_>, subject: &Subject) -> Fate {
    match judge.judge(subject) {
        Some(judged) => Fate {
            action: action(judged.rule.action),
            rule: Some(judged.rule.name.clone()),
        },
        None => Fate {
            action: "drop",
            rule: None,
        },
    }
}
