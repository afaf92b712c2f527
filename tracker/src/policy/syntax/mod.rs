//! The language: from a TOML document to a policy, or to everything that is wrong
//! with it.
//!
//! Each value is judged where it stands. What rules say together is in `check`.

mod address;
mod limit;
mod port;
mod rule;
mod set;
mod table;

use std::{collections::HashMap, ops::Range};

use toml::de::DeValue;
use tracker_common::policy::Action;

use self::table::{Value, list, string};
pub(super) use self::{
    address::{Wrong, prefix},
    limit::UNITS,
    port::entry as port_range,
    table::Table,
};
use super::{
    files::Files,
    model::{DEFAULT_RULE, MAX_RULES, Management, Policy, PortSet, Source},
    report::{Problem, Scope, Severity},
};

/// Top-level keys of the language.
pub(super) const KEYS: [&str; 7] = [
    "default",
    "default_log",
    "default_reject_with",
    "sets",
    "ports",
    "rules",
    "management",
];

/// Keys of `[management]`.
const MANAGEMENT_KEYS: [&str; 2] = ["ports", "peers"];

/// What other tools call them.
pub(super) const OTHERS: [(&str, &str); 8] = [
    ("policy", "default"),
    ("default_action", "default"),
    ("default_policy", "default"),
    ("set", "sets"),
    ("table", "sets"),
    ("rule", "rules"),
    ("port", "ports"),
    ("log", "default_log"),
];

/// A policy whose rules were not held against each other, and where they stand.
#[derive(Debug)]
pub(super) struct Draft {
    /// The rules that had no error of their own.
    pub(super) policy: Policy,
    /// A mark for each of its rules.
    pub(super) marks: Vec<Mark>,
}

/// What is to be known of a rule beside it.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Where its name stands.
    pub(super) at: Range<usize>,
    /// It says what is meant: no set that it refers to has an error.
    pub(super) sound: bool,
}

/// Reads a policy from `root`, where the keys `beside` may stand, too; tells everything
/// that is wrong with it. `former` is the policy whose sets stand for those whose files
/// cannot be read.
pub(super) fn policy(
    scope: &mut Scope<'_>,
    root: &Table<'_, '_>,
    beside: &[&str],
    former: Option<&Policy>,
) -> Draft {
    let known = [&KEYS, beside].concat();
    let misspelt = root.refuse_others(scope, &known, &OTHERS);
    let default = default(scope, root, misspelt.contains(&"default"));
    let default_log = root.truth(scope, "default_log").unwrap_or(false);
    let mut files = Files::new(former);
    let mut sets = set::sets(scope, root, &mut files);
    let mut ports = set::port_sets(scope, root, &mut files);
    let mut rules = Vec::new();
    let mut marks = Vec::new();
    let mut names = HashMap::new();
    for value in tables(scope, root, "rules").unwrap_or_default() {
        if let Some((rule, at)) = rule::rule(scope, value, &mut sets, &mut ports, &mut names) {
            let sound = [&rule.from, &rule.to].into_iter().all(|list| {
                let mut indices = list.among.iter().chain(&list.except);
                indices.all(|index| sets.is_sound(*index))
            });
            rules.push(rule);
            marks.push(Mark { at, sound });
        }
    }
    let management = management(scope, root);
    // A rule with an error may have meant any of them.
    if scope.report.error_count() == 0 {
        for (name, at) in sets.unused() {
            scope.warn(at, format!("no rule refers to the set `@{name}`"));
        }
        for (name, set) in ports.iter().filter(|(_, set)| !set.used) {
            let message = format!("no rule refers to the set of ports `@{name}`");
            scope.warn(&set.at, message);
        }
    }
    let port_sets = ports.into_iter().filter_map(|(name, set)| {
        let ranges = set.ranges?;
        Some(PortSet { name, ranges })
    });
    let source = Source {
        path: Some(scope.path.to_path_buf()),
        set_files: files.into_paths(),
        hash: 0,
    };
    let policy = Policy {
        rules,
        default,
        default_log,
        sets: sets.into_sets(),
        port_sets: port_sets.collect(),
        management,
        source,
    };
    Draft { policy, marks }
}

/// What becomes of connections that no rule matches. That it is not said is told
/// unless the key is `misspelt`.
fn default(scope: &mut Scope<'_>, root: &Table<'_, '_>, misspelt: bool) -> Action {
    if root.get("default").is_none() && !misspelt {
        let message = "there is no `default`, which says what becomes of connections that no rule \
                       matches: write default = \"drop\", \"reject\" or \"allow\"";
        if root.at.is_empty() {
            let problem = Problem::of_file(Severity::Error, scope.path, message.to_owned());
            scope.report.push(problem);
        } else {
            scope.error(&root.at, message);
        }
    }
    let found = rule::action(scope, root, "default", "default_reject_with");
    found.unwrap_or(Action::Drop)
}

/// The tables of an array of tables; tells if it is something else or too long.
fn tables<'v, 'i>(
    scope: &mut Scope<'_>,
    root: &Table<'v, 'i>,
    key: &str,
) -> Option<&'v [Value<'i>]> {
    let value = root.get(key)?;
    let DeValue::Array(tables) = value.get_ref() else {
        let message = format!("`{key}` must be written as [[{key}]], once for each");
        scope.error(&value.span(), message);
        return None;
    };
    if let Some(beyond) = tables.get(MAX_RULES) {
        let (found, most) = (tables.len(), MAX_RULES);
        let message = format!(
            "there are {found} {key}, more than the {most} that there may be: rules that differ in \
             addresses or ports alone are one rule with a set"
        );
        scope.error(&beyond.span(), message);
    }
    Some(tables)
}

/// `[management]`.
fn management(scope: &mut Scope<'_>, root: &Table<'_, '_>) -> Management {
    let mut management = Management::default();
    let table = root.get("management");
    let Some(table) = table.and_then(|value| Table::of(scope, "[management]", value)) else {
        return management;
    };
    table.refuse_others(
        scope,
        &MANAGEMENT_KEYS,
        &[("port", "ports"), ("from", "peers")],
    );
    let filled = |key| {
        let value: Option<&Value<'_>> = table.get(key);
        value.filter(|value| {
            value
                .get_ref()
                .as_array()
                .is_none_or(|list| !list.is_empty())
        })
    };
    if table.get("ports").is_some() {
        management.ports.clear();
    }
    if let Some(value) = filled("ports") {
        let found = port::ports(scope, "`ports`", value, None).unwrap_or_default();
        let count: usize = found
            .iter()
            .map(|(first, last)| usize::from(last - first) + 1)
            .sum();
        if count > MAX_MANAGEMENT_PORTS {
            let message = format!(
                "the ports of [management] are {count}, more than {MAX_MANAGEMENT_PORTS}: it is for \
                 those by which this machine is managed"
            );
            scope.error(&value.span(), message);
        } else {
            management.ports = found
                .iter()
                .flat_map(|(first, last)| *first..=*last)
                .collect();
        }
    }
    if let Some(value) = filled("peers") {
        let mut found = Vec::new();
        for value in list(scope, "`peers`", value).unwrap_or_default() {
            let text = string(scope, "a prefix of `peers`", value);
            match text.map(prefix) {
                Some(Ok(net)) => found.push(net),
                Some(Err(wrong)) => scope.error_meant(&value.span(), wrong.message, wrong.hint),
                None => {}
            }
        }
        let found = super::prefixes::canonical(found);
        management.peers = found.iter().map(super::prefixes::to_brain).collect();
    }
    management
}

/// Ports that [`Management`] may have.
const MAX_MANAGEMENT_PORTS: usize = 64;

/// Whether a rule may have that name; else why not.
fn rule_name(name: &str) -> Result<(), String> {
    if name == DEFAULT_RULE {
        return Err(format!("the name `{DEFAULT_RULE}` is that of the default"));
    }
    let blank = name.trim() != name;
    if name.is_empty() || name.len() > 64 || blank || name.contains(char::is_control) {
        return Err(
            "the name of a rule has 1 to 64 octets, none of them a control character, and no \
             blanks around it"
                .to_owned(),
        );
    }
    Ok(())
}

/// Every key of the language.
#[cfg(test)]
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    let tables: [&[&str]; 6] = [
        &KEYS,
        &set::PREFIX_KEYS,
        &set::PORT_KEYS,
        &MANAGEMENT_KEYS,
        &rule::KEYS,
        &limit::KEYS,
    ];
    tables.into_iter().flatten().copied()
}
