//! A policy as text of its language, whole in itself: sets from files are written
//! out.

use std::fmt::{self, Display, Formatter, Write as _};

use tracker_common::policy::{Action, Direction, Directions};

use super::{
    model::{Addresses, Limits, Management, Policy, Rule},
    prefixes,
    syntax::UNITS,
};

/// The policy as text that reads as the same policy, but for lines and source.
#[must_use]
pub fn print(policy: &Policy) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{}", Printed(policy));
    text
}

struct Printed<'a>(&'a Policy);

impl Display for Printed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        action(f, policy.default, "default", "default_reject_with")?;
        if policy.default_log {
            writeln!(f, "default_log = true")?;
        }
        management(f, &policy.management)?;
        for set in policy.sets.iter().filter(|set| !set.inline) {
            writeln!(f, "\n[sets.{}]", Quoted(&set.name))?;
            match &*set.prefixes {
                [] => writeln!(f, "prefixes = []")?,
                prefixes => {
                    writeln!(f, "prefixes = [")?;
                    for prefix in prefixes {
                        writeln!(f, "  \"{}\",", prefixes::from_brain(prefix))?;
                    }
                    writeln!(f, "]")?;
                }
            }
        }
        if !policy.port_sets.is_empty() {
            writeln!(f, "\n[ports]")?;
        }
        for set in &policy.port_sets {
            ports(f, &Quoted(&set.name).to_string(), &set.ranges)?;
        }
        policy
            .rules
            .iter()
            .try_for_each(|found| rule(f, policy, found))
    }
}

/// A string of TOML.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", toml::Value::String(self.0.to_owned()))
    }
}

/// A list of TOML.
fn list<T: Display>(
    f: &mut Formatter<'_>,
    key: &str,
    values: impl IntoIterator<Item = T>,
) -> fmt::Result {
    write!(f, "{key} = [")?;
    for (index, value) in values.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{value}")?;
    }
    writeln!(f, "]")
}

fn action(f: &mut Formatter<'_>, action: Action, key: &str, with: &str) -> fmt::Result {
    let word = match action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reset | Action::Prohibit => "reject",
    };
    writeln!(f, "{key} = \"{word}\"")?;
    if action == Action::Prohibit {
        writeln!(f, "{with} = \"prohibited\"")?;
    }
    Ok(())
}

fn management(f: &mut Formatter<'_>, management: &Management) -> fmt::Result {
    writeln!(f, "\n[management]")?;
    list(f, "ports", &management.ports)?;
    let peers = management.peers.iter();
    list(
        f,
        "peers",
        peers.map(|peer| format!("\"{}\"", prefixes::from_brain(peer))),
    )
}

fn rule(f: &mut Formatter<'_>, policy: &Policy, rule: &Rule) -> fmt::Result {
    writeln!(f, "\n[[rules]]\nname = {}", Quoted(&rule.name))?;
    if rule.directions != Directions::ANY {
        let ways = Direction::ALL
            .into_iter()
            .filter(|way| rule.directions.has(*way));
        list(
            f,
            "direction",
            ways.map(|way| format!("\"{}\"", way.as_str())),
        )?;
    }
    if !rule.interfaces.is_empty() {
        list(
            f,
            "interface",
            rule.interfaces.iter().map(|name| Quoted(name)),
        )?;
    }
    addresses(f, policy, "from", &rule.from)?;
    addresses(f, policy, "to", &rule.to)?;
    ports(f, "from_ports", &rule.from_ports)?;
    ports(f, "ports", &rule.to_ports)?;
    action(f, rule.action, "action", "reject_with")?;
    for (key, on) in [
        ("log", rule.log),
        ("shadow", rule.shadow),
        ("liberal", rule.liberal),
    ] {
        if on {
            writeln!(f, "{key} = true")?;
        }
    }
    if let Some(pickup) = rule.pickup {
        writeln!(f, "pickup = {pickup}")?;
    }
    if let Some(profile) = rule.timeouts {
        writeln!(f, "timeouts = \"{}\"", profile.as_str())?;
    }
    limits(f, &rule.limits)
}

fn addresses(
    f: &mut Formatter<'_>,
    policy: &Policy,
    key: &str,
    addresses: &Addresses,
) -> fmt::Result {
    if addresses.is_any() {
        return Ok(());
    }
    let among = addresses.among.iter().map(|set| ("", *set));
    let except = addresses.except.iter().map(|set| ("!", *set));
    let sides = among.chain(except);
    let values = sides.flat_map(|(sign, set)| match policy.sets.get(set) {
        Some(set) if set.inline => {
            let listed = set.prefixes.iter().map(prefixes::from_brain);
            listed.map(|prefix| format!("\"{sign}{prefix}\"")).collect()
        }
        Some(set) => vec![format!("\"{sign}@{}\"", set.name)],
        None => Vec::new(),
    });
    list(f, key, values)
}

fn ports(f: &mut Formatter<'_>, key: &str, ranges: &[(u16, u16)]) -> fmt::Result {
    if ranges.is_empty() {
        return Ok(());
    }
    list(
        f,
        key,
        ranges.iter().map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("\"{first}-{last}\"")
            }
        }),
    )
}

fn limits(f: &mut Formatter<'_>, limits: &Limits) -> fmt::Result {
    if !limits.any() {
        return Ok(());
    }
    let mut parts = Vec::new();
    let mut rate = |found: Option<(u64, u64)>, key: &str, burst_key: &str| {
        if let Some((interval, burst)) = found {
            parts.push(format!(
                "{key} = \"{}\", {burst_key} = {burst}",
                Rate(interval)
            ));
        }
    };
    rate(limits.rate, "rate", "burst");
    rate(limits.source_rate, "source_rate", "source_burst");
    let [v4, v6] = limits.source_bits;
    for (key, value, there) in [
        ("connections", limits.flows, limits.flows != 0),
        (
            "source_connections",
            limits.source_flows,
            limits.source_flows != 0,
        ),
        ("source_prefix_v4", v4.into(), limits.by_source()),
        ("source_prefix_v6", v6.into(), limits.by_source()),
    ] {
        if there {
            parts.push(format!("{key} = {value}"));
        }
    }
    writeln!(f, "limit = {{ {} }}", parts.join(", "))
}

/// A rate by the time between two, in ns, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub u64);

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The shortest unit in which a whole number gives that time again.
        let interval = self.0.max(1);
        let found = UNITS.iter().find_map(|(unit, seconds)| {
            let length = seconds * 1_000_000_000;
            let count = length / interval;
            let near = count..=count.saturating_add(1);
            let mut exact = near.filter(|count| *count > 0 && length / count == interval);
            exact.next().map(|count| (count, unit))
        });
        match found {
            Some((count, unit)) => write!(f, "{count}/{unit}"),
            None => write!(f, "{}/s", (1_000_000_000 / interval).max(1)),
        }
    }
}
