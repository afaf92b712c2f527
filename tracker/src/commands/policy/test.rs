//! `tracker policy test`: which rule decides about a connection.

use std::io::Write;

use anyhow::{Context as _, Result, bail, ensure};
use tracker_common::policy::{Direction, mismatch};

use super::read;
use crate::{
    cli::{PolicyTestArgs, StatsFormat},
    control::stored::action,
    datapath::{Pinned, index_of},
    policy::{
        compile::plain,
        flows::{Standpoint, subject},
        model::{DEFAULT_RULE, Policy},
    },
    routes::own_addresses,
    view::policy::test::{Asked, Passed, Tested},
};

/// Does what `args` say.
pub fn test(args: &PolicyTestArgs, out: &mut impl Write) -> Result<()> {
    ensure!(
        args.source.is_ipv4() == args.destination.is_ipv4(),
        "{} and {} are of two families",
        args.source,
        args.destination
    );
    let policy = match &args.file {
        Some(file) => read::from_file(file)?,
        None => in_force(args)?,
    };
    let asked = Asked {
        from: args.source,
        to: args.destination,
        direction: direction(args)?,
        interface: args.interface.clone(),
    };
    let tested = judge(&policy, asked)?;
    match args.output {
        StatsFormat::Table => tested.table(out)?,
        StatsFormat::Json => tested.json(out)?,
    }
    Ok(out.flush()?)
}

fn in_force(args: &PolicyTestArgs) -> Result<Policy> {
    let place = read::place(&Pinned::open(&args.pin.pin_dir)?)?;
    match read::in_force(&place)? {
        Some(in_force) => Ok(in_force.policy),
        None => {
            bail!("no policy is in force, so every connection is allowed; name a file to test it")
        }
    }
}

/// Which way the connection goes, if nobody says.
fn direction(args: &PolicyTestArgs) -> Result<Direction> {
    if let Some(direction) = args.direction {
        return Ok(direction.into());
    }
    let here = Standpoint {
        gateway: true,
        local: own_addresses()?.into_iter().collect(),
    };
    let (from, to) = (args.source.ip(), args.destination.ip());
    // One to oneself is seen as it comes in at the loopback, if at all.
    if here.local.contains(&from) && !from.is_loopback() {
        return Ok(Direction::Out);
    }
    Ok(here.direction(from, to))
}

/// Looks at one rule after the other.
fn judge(policy: &Policy, asked: Asked) -> Result<Tested> {
    // Rules may name interfaces that this machine does not have: the name decides.
    let wanted = asked.interface.as_deref();
    let number = |name: &str| index_of(name).unwrap_or(u32::MAX - 1);
    let ifindex = wanted.map_or(0, number);
    let index_of = |name: &str| match Some(name) == wanted {
        true => Some(ifindex),
        false => index_of(name).filter(|&index| index != ifindex),
    };
    let ends = [asked.from, asked.to].map(|end| (end.ip(), end.port()));
    let subject = subject(ends[0], ends[1], asked.direction, ifindex);
    let mut passed = Vec::new();
    for (index, plain) in plain::read(policy, &index_of).iter().enumerate() {
        let terms = plain.terms();
        let mismatch = mismatch(&terms, &subject);
        let rule = policy.rules.get(index);
        if mismatch.is_none() && !terms.shadow {
            return Ok(Tested {
                from: asked.from,
                to: asked.to,
                direction: asked.direction.as_str(),
                interface: asked.interface,
                rule: rule.map_or(DEFAULT_RULE, |rule| &rule.name).to_owned(),
                line: rule.map(|rule| rule.line),
                action: action(rule.map_or(policy.default, |rule| rule.action)),
                passed,
            });
        }
        let rule = rule.context("the default of a policy matches everything")?;
        passed.push(Passed::new(rule, mismatch, &asked));
    }
    bail!("the default of a policy matches everything")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Context, parse};

    const POLICY: &str = "default = \"reject\"\n\
        [sets.office]\nprefixes = [\"198.51.100.0/24\"]\n\
        [[rules]]\nname = \"out\"\ndirection = \"out\"\naction = \"allow\"\n\
        [[rules]]\nname = \"ssh\"\nfrom = \"@office\"\nports = [22]\naction = \"allow\"\n\
        [[rules]]\nname = \"maybe\"\nports = [80]\nshadow = true\naction = \"drop\"\n\
        [[rules]]\nname = \"web\"\ninterface = \"wan7\"\nports = [80, \"8000-8099\"]\naction = \"allow\"\n\
        [[rules]]\nname = \"low\"\nfrom_ports = [\"1-1023\"]\naction = \"drop\"\n";

    fn told(from: &str, to: &str, interface: Option<&str>) -> String {
        let reading = parse(POLICY, Path::new("t.toml"), &Context::default());
        let asked = Asked {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            direction: Direction::In,
            interface: interface.map(str::to_owned),
        };
        let tested = judge(&reading.policy.unwrap(), asked).unwrap();
        let mut out = Vec::new();
        tested.table(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn why_each_rule_before_does_not_decide_is_told() {
        insta::assert_snapshot!(told("198.51.100.7:50000", "192.0.2.1:22", None), @r"
        198.51.100.7:50000 → 192.0.2.1:22, in: allowed by the rule `ssh` in line 8
          not `out` in line 4: it is about out, not in
        ");
        insta::assert_snapshot!(told("203.0.113.9:50000", "192.0.2.1:80", Some("wan7")), @r"
        203.0.113.9:50000 → 192.0.2.1:80, in at wan7: allowed by the rule `web` in line 18
          not `out` in line 4: it is about out, not in
          not `ssh` in line 8: 203.0.113.9 is not in its `from`
          not `maybe` in line 13: it matches, and is in shadow
        ");
        insta::assert_snapshot!(told("203.0.113.9:50000", "192.0.2.1:443", Some("lo")), @r"
        203.0.113.9:50000 → 192.0.2.1:443, in at lo: rejected with an RST by the rule `default`
          not `out` in line 4: it is about out, not in
          not `ssh` in line 8: 203.0.113.9 is not in its `from`
          not `maybe` in line 13: port 443 is not in 80
          not `web` in line 18: it is about wan7, not lo
          not `low` in line 23: source port 50000 is not in 1-1023
        ");
    }
}
