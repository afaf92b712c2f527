//! Sets with a name: `[sets]` and `[ports]`.

use std::ops::Range;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    address::{Wrong, prefix},
    port::{Named, PortSets, Ranges, merged, ports},
    table::{Table, Value, list, string},
};
use crate::policy::{files::Files, report::Scope, sets::Sets};

/// Keys of a set of prefixes.
pub(super) const PREFIX_KEYS: [&str; 2] = ["prefixes", "file"];

/// Keys of a set of ports.
pub(super) const PORT_KEYS: [&str; 2] = ["ports", "file"];

/// `[sets]`.
pub(super) fn sets(scope: &mut Scope<'_>, root: &Table<'_, '_>, files: &mut Files<'_>) -> Sets {
    let mut sets = Sets::default();
    let table = root.get("sets");
    let Some(table) = table.and_then(|value| Table::of(scope, "[sets]", value)) else {
        return sets;
    };
    for (name, at, value) in table.entries() {
        let errors = scope.report.error_count();
        set_name(scope, name, &at);
        let mut found = Vec::new();
        // A list alone is its prefixes.
        if matches!(value.get_ref(), DeValue::Array(_)) {
            prefixes(scope, name, value, &mut found);
        } else if let Some(table) = Table::of(scope, format!("the set `{name}`"), value) {
            let others = [("elements", "prefixes"), ("addresses", "prefixes")];
            let parts = parts(scope, &table, &at, PREFIX_KEYS, others);
            if let Some(value) = parts.listed {
                prefixes(scope, name, value, &mut found);
            }
            if let Some((file, at)) = parts.file {
                found.extend(files.read::<IpNet>(scope, (name, &at), file));
            }
        }
        let sound = scope.report.error_count() == errors;
        sets.define(name, at, found, sound);
    }
    sets
}

/// `[ports]`.
pub(super) fn port_sets(
    scope: &mut Scope<'_>,
    root: &Table<'_, '_>,
    files: &mut Files<'_>,
) -> PortSets {
    let mut sets = PortSets::new();
    let table = root.get("ports");
    let Some(table) = table.and_then(|value| Table::of(scope, "[ports]", value)) else {
        return sets;
    };
    for (name, at, value) in table.entries() {
        let errors = scope.report.error_count();
        set_name(scope, name, &at);
        let what = format!("the set of ports `{name}`");
        // A value alone is its ports.
        let parts = if let DeValue::Table(keys) = value.get_ref() {
            let table = Table::new(&*what, keys, value.span());
            let others = [("elements", "ports"), ("port", "ports")];
            parts(scope, &table, &at, PORT_KEYS, others)
        } else {
            Parts {
                listed: Some(value),
                file: None,
            }
        };
        let mut ranges = Ranges::new();
        if let Some(value) = parts.listed {
            ranges.extend(ports(scope, &what, value, None).unwrap_or_default());
        }
        if let Some((file, at)) = &parts.file {
            ranges.extend(files.read::<(u16, u16)>(scope, (name, at), file));
            // Without ports a rule would be about all of them.
            if ranges.is_empty() && scope.report.error_count() == errors {
                let message = format!(
                    "{what} is empty: its file {file} lists no port, and so nothing could match"
                );
                scope.error(at, message);
            }
        }
        let sound = scope.report.error_count() == errors;
        let set = Named {
            ranges: sound.then(|| merged(ranges)),
            at,
            used: false,
        };
        sets.insert(name.to_owned(), set);
    }
    sets
}

/// What a set that is written as a table is made of.
struct Parts<'v, 'i> {
    /// What it lists itself.
    listed: Option<&'v Value<'i>>,
    /// Its file, and where that is named.
    file: Option<(&'v str, Range<usize>)>,
}

/// The parts of the set `table`, whose name stands at `at`: what stands under the first
/// of `keys`, and the file under the second. Words that other tools have for the former
/// are in `others`.
fn parts<'v, 'i>(
    scope: &mut Scope<'_>,
    table: &Table<'v, 'i>,
    at: &Range<usize>,
    keys: [&'static str; 2],
    others: [(&'static str, &'static str); 2],
) -> Parts<'v, 'i> {
    let [key, file] = keys;
    let [one, other] = others;
    let misspelt = table.refuse_others(scope, &keys, &[one, other, ("path", file)]);
    let listed = table.get(key);
    if listed.or(table.get(file)).is_none() && misspelt.is_empty() {
        let message = format!("{} has neither `{key}` nor `{file}`", table.what());
        scope.error(at, message);
    }
    Parts {
        listed,
        file: table.string(scope, file),
    }
}

/// The prefixes that a set lists.
fn prefixes(scope: &mut Scope<'_>, name: &str, value: &Value<'_>, found: &mut Vec<IpNet>) {
    if value
        .get_ref()
        .as_array()
        .is_some_and(|list| list.is_empty())
    {
        return;
    }
    let what = format!("a prefix of the set `{name}`");
    for value in list(scope, &what, value).unwrap_or_default() {
        let Some(text) = string(scope, &what, value) else {
            continue;
        };
        let wrong = match text.strip_prefix('!') {
            Some(_) => Wrong::new(format!(
                "`{text}`: a set has no exceptions; a rule has them, as \"!@NAME\""
            )),
            None if text.starts_with('@') => Wrong::new(format!(
                "`{text}` is a set in a set, which there is not: rules take lists of sets"
            )),
            None => match prefix(text) {
                Ok(net) => {
                    found.push(net);
                    continue;
                }
                Err(wrong) => wrong,
            },
        };
        scope.error_meant(&value.span(), wrong.message, wrong.hint);
    }
}

/// Tells if a set cannot have that name.
fn set_name(scope: &mut Scope<'_>, name: &str, at: &Range<usize>) {
    let may = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(may) {
        scope.error(
            at,
            format!(
                "a set cannot have the name `{name}`: it takes up to 64 letters (a to z), digits, \
                 `-`, `_` and `.`"
            ),
        );
    }
}
