//! Rules.

use std::{collections::HashMap, ops::Range};

use tracker_common::{
    policy::{Action, Direction, Directions},
    tcp::timeout::Profile,
};

use super::{
    Wrong,
    limit::limits,
    port::{PortSets, Ranges, ports},
    prefix, rule_name,
    table::{Table, Value, list, string, there_are, word},
};
use crate::policy::{
    model::{Addresses, Limits, Rule},
    report::Scope,
    sets::Sets,
};

/// Keys of a rule.
pub(super) const KEYS: [&str; 15] = [
    "name",
    "direction",
    "interface",
    "from",
    "to",
    "ports",
    "from_ports",
    "action",
    "reject_with",
    "log",
    "shadow",
    "liberal",
    "pickup",
    "timeouts",
    "limit",
];

/// What other tools call them.
const OTHERS: [(&str, &str); 24] = [
    ("src", "from"),
    ("source", "from"),
    ("saddr", "from"),
    ("dst", "to"),
    ("dest", "to"),
    ("destination", "to"),
    ("daddr", "to"),
    ("port", "ports"),
    ("dport", "ports"),
    ("dports", "ports"),
    ("to_port", "ports"),
    ("to_ports", "ports"),
    ("sport", "from_ports"),
    ("source_port", "from_ports"),
    ("iface", "interface"),
    ("interfaces", "interface"),
    ("iifname", "interface"),
    ("dir", "direction"),
    ("chain", "direction"),
    ("verdict", "action"),
    ("target", "action"),
    ("limits", "limit"),
    ("rate", "limit"),
    ("timeout", "timeouts"),
];

/// Names of rules, and where they stand.
pub(super) type Names = HashMap<String, Range<usize>>;

/// Reads a rule, and where its name stands; tells what is wrong. `None` if it has an
/// error.
pub(super) fn rule(
    scope: &mut Scope<'_>,
    value: &Value<'_>,
    sets: &mut Sets,
    port_sets: &mut PortSets,
    names: &mut Names,
) -> Option<(Rule, Range<usize>)> {
    let errors = scope.report.error_count();
    let table = Table::of(scope, "a rule", value)?;
    let misspelt = table.refuse_others(scope, &KEYS, &OTHERS);
    let (name, at) = name(scope, &table, names, misspelt.contains(&"name"));
    if table.get("action").is_none() && !misspelt.contains(&"action") {
        let message = "the rule has no `action`: write \"allow\", \"drop\" or \"reject\"";
        scope.error(&at, message);
    }
    let action = action(scope, &table, "action", "reject_with");
    let [from_ports, to_ports] =
        ["from_ports", "ports"].map(|key| ranges(scope, &table, key, port_sets));
    let sound = from_ports.is_some() && to_ports.is_some();
    let rule = Rule {
        name,
        line: scope.text.place(&table.at).line,
        directions: directions(scope, &table),
        interfaces: interfaces(scope, &table),
        from: addresses(scope, &table, "from", sets),
        to: addresses(scope, &table, "to", sets),
        from_ports: from_ports.unwrap_or_default(),
        to_ports: to_ports.unwrap_or_default(),
        action: action.unwrap_or(Action::Drop),
        log: table.truth(scope, "log").unwrap_or(false),
        shadow: table.truth(scope, "shadow").unwrap_or(false),
        liberal: table.truth(scope, "liberal").unwrap_or(false),
        pickup: table.truth(scope, "pickup"),
        timeouts: timeouts(scope, &table),
        limits: table
            .get("limit")
            .and_then(|value| Table::of(scope, "`limit`", value))
            .map_or_else(Limits::default, |table| limits(scope, &table)),
    };
    if action.is_some_and(|action| action != Action::Allow) {
        for key in ["limit", "liberal", "pickup", "timeouts"] {
            if let Some((at, _)) = table.entry(key) {
                let message = format!(
                    "`{key}` is about the connections that a rule admits, and this one admits none"
                );
                scope.error(&at, message);
            }
        }
    } else if rule.shadow
        && let Some((at, _)) = table.entry("limit")
    {
        scope.warn(&at, "limits are not counted while the rule is in shadow");
    }
    (sound && scope.report.error_count() == errors).then_some((rule, at))
}

/// The name of a rule, and where it stands. That there is none is told unless its key
/// is `misspelt`.
fn name(
    scope: &mut Scope<'_>,
    table: &Table<'_, '_>,
    names: &mut Names,
    misspelt: bool,
) -> (String, Range<usize>) {
    let Some((name, at)) = table.string(scope, "name") else {
        if table.get("name").is_none() && !misspelt {
            let message = "the rule has no `name`, by which counters, logs and `tracker explain` \
                           tell it";
            scope.error(&table.at, message);
        }
        return (String::new(), table.at.clone());
    };
    if let Err(message) = rule_name(name) {
        scope.error(&at, message);
    } else if let Some(first) = names.get(name) {
        let line = scope.text.place(first).line;
        let message = format!("there is a rule `{name}` already, in line {line}");
        scope.error(&at, message);
    } else {
        names.insert(name.to_owned(), at.clone());
    }
    (name.to_owned(), at)
}

/// What becomes of a connection, from the key that says so and the one that says how
/// to reject.
pub(super) fn action(
    scope: &mut Scope<'_>,
    table: &Table<'_, '_>,
    key: &str,
    with_key: &str,
) -> Option<Action> {
    let words = [
        ("allow", Action::Allow),
        ("drop", Action::Drop),
        ("reject", Action::Reset),
    ];
    let others = [
        ("accept", "allow"),
        ("permit", "allow"),
        ("pass", "allow"),
        ("deny", "drop"),
        ("block", "drop"),
        ("discard", "drop"),
        ("refuse", "reject"),
        ("reset", "reject"),
    ];
    let action = table.word(scope, key, &words, &others);
    let answers = [("reset", Action::Reset), ("prohibited", Action::Prohibit)];
    let others = [
        ("rst", "reset"),
        ("tcp-reset", "reset"),
        ("tcp reset", "reset"),
        ("admin-prohibited", "prohibited"),
        ("icmp", "prohibited"),
    ];
    let answer = table.word(scope, with_key, &answers, &others);
    match action {
        Some(Action::Reset) => Some(answer.unwrap_or(Action::Reset)),
        Some(_) => {
            if let Some((at, _)) = table.entry(with_key) {
                let message = format!("`{with_key}` has no effect without {key} = \"reject\"");
                scope.error(&at, message);
            }
            action
        }
        None => None,
    }
}

/// `direction`.
fn directions(scope: &mut Scope<'_>, table: &Table<'_, '_>) -> Directions {
    let words = Direction::ALL.map(|direction| (direction.as_str(), direction));
    let others = [
        ("input", "in"),
        ("ingress", "in"),
        ("inbound", "in"),
        ("incoming", "in"),
        ("output", "out"),
        ("egress", "out"),
        ("outbound", "out"),
        ("outgoing", "out"),
        ("forwarded", "forward"),
        ("through", "forward"),
    ];
    let Some(value) = table.get("direction") else {
        return Directions::ANY;
    };
    let mut directions = Directions(0);
    for value in list(scope, "`direction`", value).unwrap_or_default() {
        let Some(text) = string(scope, "`direction`", value) else {
            continue;
        };
        let found = (text, &value.span());
        if let Some(direction) = word(scope, "`direction`", found, &words, &others) {
            directions = directions.with(Directions::only(direction));
        }
    }
    directions
}

/// `interface`.
fn interfaces(scope: &mut Scope<'_>, table: &Table<'_, '_>) -> Vec<String> {
    let mut interfaces: Vec<String> = Vec::new();
    let Some(value) = table.get("interface") else {
        return interfaces;
    };
    for value in list(scope, "`interface`", value).unwrap_or_default() {
        let Some(name) = string(scope, "`interface`", value) else {
            continue;
        };
        // dev_valid_name() in net/core/dev.c.
        let may = |c: char| !c.is_whitespace() && !matches!(c, '/' | ':');
        if name.is_empty()
            || name.len() > 15
            || matches!(name, "." | "..")
            || !name.chars().all(may)
        {
            let message = format!(
                "no interface can have the name `{name}`: it takes 1 to 15 octets without blanks, \
                 `/` and `:`"
            );
            scope.error(&value.span(), message);
        } else if name.contains(['*', '+']) {
            let message = format!("`{name}`: interfaces are named one by one");
            scope.error(&value.span(), message);
        } else if !interfaces.iter().any(|other| other == name) {
            interfaces.push(name.to_owned());
        }
    }
    interfaces
}

/// `from` and `to`.
fn addresses(
    scope: &mut Scope<'_>,
    table: &Table<'_, '_>,
    key: &str,
    sets: &mut Sets,
) -> Addresses {
    let mut addresses = Addresses::default();
    let Some(value) = table.get(key) else {
        return addresses;
    };
    let what = format!("`{key}`");
    let mut listed = [Vec::new(), Vec::new()];
    for value in list(scope, &what, value).unwrap_or_default() {
        let Some(text) = string(scope, &what, value) else {
            continue;
        };
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let found = match text.strip_prefix('@') {
            Some(name) => set(name, sets).map(|set| {
                let side = if negated {
                    &mut addresses.except
                } else {
                    &mut addresses.among
                };
                side.push(set);
            }),
            None => prefix(text)
                .map(|net| listed[usize::from(negated)].push(net))
                .map_err(|wrong| bare_set(text, sets).unwrap_or(wrong)),
        };
        if let Err(wrong) = found {
            scope.error_meant(&value.span(), wrong.message, wrong.hint);
        }
    }
    for (side, listed) in [&mut addresses.among, &mut addresses.except]
        .into_iter()
        .zip(listed)
    {
        if !listed.is_empty() {
            side.push(sets.list(listed));
        }
        side.sort_unstable();
        side.dedup();
    }
    addresses
}

/// The set of that name.
fn set(name: &str, sets: &mut Sets) -> Result<usize, Wrong> {
    if let Some(set) = sets.refer(name) {
        return Ok(set);
    }
    let message = format!("there is no set `{name}` in [sets]");
    Err(match sets.closest(name) {
        Some(meant) => Wrong::meant(message, &format!("@{meant}")),
        None => Wrong::new(message + &there_are(sets.names())),
    })
}

/// A set whose name stands there without `@`.
fn bare_set(text: &str, sets: &Sets) -> Option<Wrong> {
    let message = format!("`{text}` is a set; sets are written with `@`");
    sets.has(text)
        .then(|| Wrong::meant(message, &format!("@{text}")))
}

/// `ports` and `from_ports`; `None` if there is an error in them.
fn ranges(
    scope: &mut Scope<'_>,
    table: &Table<'_, '_>,
    key: &str,
    sets: &mut PortSets,
) -> Option<Ranges> {
    match table.get(key) {
        Some(value) => ports(scope, &format!("`{key}`"), value, Some(sets)),
        None => Some(Ranges::new()),
    }
}

/// `timeouts`.
fn timeouts(scope: &mut Scope<'_>, table: &Table<'_, '_>) -> Option<Profile> {
    let words = Profile::ALL.map(|profile| (profile.as_str(), profile));
    table.word(scope, "timeouts", &words, &[])
}
