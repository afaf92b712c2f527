//! `tracker policy show`: the policy in force and its counters.

use std::{collections::HashMap, io::Write};

use anyhow::Result;
use tracker_common::{abi::Mode, policy::Action};

use super::{super::look::Look, read};
use crate::{
    cli::{ListFormat, PolicyShowArgs},
    control::{
        record::{Moment, Status},
        stored::action,
    },
    datapath::{Pinned, RuleTotals},
    policy::model::{DEFAULT_RULE, Policy},
    view::policy::show::{Head, Rule, Shown},
};

/// Does what `args` say.
pub fn show(args: &PolicyShowArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let shown = look(&pinned)?;
    match args.output {
        ListFormat::Table => shown.table(out)?,
        ListFormat::Json => shown.json(out)?,
        ListFormat::Ndjson => shown.ndjson(out)?,
        ListFormat::Csv => shown.csv(out)?,
    }
    Ok(out.flush()?)
}

fn look(pinned: &Pinned) -> Result<Shown> {
    let place = read::place(pinned)?;
    let status = read::status(&place)?;
    let Some(in_force) = read::in_force(&place)? else {
        return Ok(Shown {
            policy: None,
            rules: Vec::new(),
        });
    };
    let look = Look::begin(pinned)?;
    // Before the flows: one that ends in between is missed rather than counted twice.
    let totals = pinned.rule_totals(&in_force.numbers)?;
    let mut live: HashMap<u16, Live> = HashMap::new();
    look.flows(pinned, |row| {
        if let Some(row) = row {
            let flow = row.flow();
            let live = live.entry(flow.rule).or_default();
            live.flows += 1;
            for end in &flow.ends {
                live.packets += end.packets();
                live.bytes = live.bytes.saturating_add(end.bytes);
            }
        }
        Ok(())
    })?;
    let policy = &in_force.policy;
    let rules = traits(policy)
        .zip(&in_force.numbers)
        .map(|(traits, &number)| {
            let RuleTotals {
                hits,
                packets,
                bytes,
                last_ns,
            } = totals.get(&number).copied().unwrap_or_default();
            let live = live.get(&number).copied().unwrap_or_default();
            Rule {
                name: traits.name.to_owned(),
                number,
                line: traits.line,
                action: action(traits.action),
                shadow: traits.shadow,
                log: traits.log,
                hits,
                flows: live.flows,
                packets: packets.saturating_add(live.packets),
                bytes: bytes.saturating_add(live.bytes),
                last_hit_ms: (last_ns != 0)
                    .then(|| look.now_ns.saturating_sub(last_ns) / 1_000_000),
            }
        });
    Ok(Shown {
        policy: Some(head(&status, policy, look.live.mode == Mode::Enforce as u8)),
        rules: rules.collect(),
    })
}

/// What is counted of flows that are open.
#[derive(Clone, Copy, Default)]
struct Live {
    flows: u64,
    packets: u64,
    bytes: u64,
}

struct Traits<'a> {
    name: &'a str,
    line: Option<usize>,
    action: Action,
    shadow: bool,
    log: bool,
}

fn traits(policy: &Policy) -> impl Iterator<Item = Traits<'_>> {
    let rules = policy.rules.iter().map(|rule| Traits {
        name: &rule.name,
        line: Some(rule.line),
        action: rule.action,
        shadow: rule.shadow,
        log: rule.log,
    });
    rules.chain([Traits {
        name: DEFAULT_RULE,
        line: None,
        action: policy.default,
        shadow: false,
        log: policy.default_log,
    }])
}

fn head(status: &Status, policy: &Policy, enforced: bool) -> Head {
    let now = Moment::now();
    let told = status.policy.as_ref();
    Head {
        path: policy.source.path.clone(),
        generation: status.generation,
        by: told.map_or("configuration", |told| told.by.as_str()),
        age_ms: told.map_or(0, |told| now.0.saturating_sub(told.since.0)),
        enforced,
        confirm_within_ms: status
            .confirm_until
            .map(|until| until.0.saturating_sub(now.0)),
        errors: status.errors,
        last_error: status
            .last_error
            .as_ref()
            .map(|error| error.message.clone()),
    }
}
