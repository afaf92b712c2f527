//! Ports as people write them: numbers, ranges, sets.

use std::{collections::BTreeMap, ops::Range};

use toml::de::DeValue;

use super::{
    address::Wrong,
    table::{Value, kind, list, there_are, whole},
};
use crate::{config::closest, policy::report::Scope};

/// Inclusive ranges.
pub(super) type Ranges = Vec<(u16, u16)>;

/// A set of ports with a name.
#[derive(Debug)]
pub(super) struct Named {
    /// Its ports, at least one, in order and merged; `None` if there is an error in it.
    pub(super) ranges: Option<Ranges>,
    /// Where its name stands.
    pub(super) at: Range<usize>,
    /// A rule refers to it.
    pub(super) used: bool,
}

/// Sets of ports by their names.
pub(super) type PortSets = BTreeMap<String, Named>;

/// The ports of `value`, in order and merged; tells what is wrong. `None` if
/// something is, also in a set that it refers to.
pub(super) fn ports(
    scope: &mut Scope<'_>,
    what: &str,
    value: &Value<'_>,
    sets: Option<&mut PortSets>,
) -> Option<Ranges> {
    let values = list(scope, what, value)?;
    let mut sets = sets;
    let mut ranges = Ranges::new();
    let mut sound = true;
    for value in values {
        match item(value, sets.as_deref_mut()) {
            Ok(Some(found)) => ranges.extend(found),
            Ok(None) => sound = false,
            Err(wrong) => {
                sound = false;
                scope.error_meant(&value.span(), wrong.message, wrong.hint);
            }
        }
    }
    sound.then(|| merged(ranges))
}

/// The ranges of one value; `None` for a set with an error, which is told there.
fn item(value: &Value<'_>, sets: Option<&mut PortSets>) -> Result<Option<Ranges>, Wrong> {
    match value.get_ref() {
        DeValue::Integer(number) => match whole(number) {
            Some(number) => one(number).map(|port| Some(vec![(port, port)])),
            None => Err(Wrong::new(format!(
                "port {number} must lie between 1 and 65535"
            ))),
        },
        DeValue::String(text) => match text.strip_prefix('@') {
            Some(name) => set(name, sets),
            None => range(text, sets.as_deref()).map(|range| Some(vec![range])),
        },
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Err(Wrong::new(format!(
            "a port must be a number, a range as \"8000-8099\" or a set as \"@NAME\", not {}",
            kind(value)
        ))),
    }
}

/// A port that a connection may have.
fn one(number: u64) -> Result<u16, Wrong> {
    match u16::try_from(number) {
        Ok(0) => Err(Wrong::new(
            "port 0 is none that a connection can have; ports are 1 to 65535",
        )),
        Ok(port) => Ok(port),
        Err(_) => Err(Wrong::new(format!(
            "port {number} must lie between 1 and 65535"
        ))),
    }
}

/// The ranges of a set; see [`item`].
fn set(name: &str, sets: Option<&mut PortSets>) -> Result<Option<Ranges>, Wrong> {
    let Some(sets) = sets else {
        return Err(nested(name));
    };
    if let Some(set) = sets.get_mut(name) {
        set.used = true;
        return Ok(set.ranges.clone());
    }
    let message = format!("there is no set of ports `{name}` in [ports]");
    Err(match closest(name, sets.keys().map(String::as_str)) {
        Some(meant) => Wrong::meant(message, &format!("@{meant}")),
        None => Wrong::new(message + &there_are(sets.keys().map(String::as_str))),
    })
}

/// Reads what stands for ports in a list of its own: a port, or a range.
///
/// # Errors
///
/// It is neither, or has a port that no connection has.
pub(in crate::policy) fn entry(text: &str) -> Result<(u16, u16), Wrong> {
    match text.strip_prefix('@') {
        Some(name) => Err(nested(name)),
        None => range(text, None),
    }
}

/// A set stands where none may.
fn nested(name: &str) -> Wrong {
    Wrong::new(format!(
        "`@{name}` is a set in a set, which there is not: list its ports"
    ))
}

/// `8000-8099`, or a number in quotes.
fn range(text: &str, sets: Option<&PortSets>) -> Result<(u16, u16), Wrong> {
    let number = |text: &str| -> Option<u64> {
        let digits = text.bytes().all(|octet| octet.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    if let Some(found) = number(text) {
        let port = one(found)?;
        return Ok((port, port));
    }
    let halves = text
        .split_once('-')
        .map(|(a, b)| (number(a.trim()), number(b.trim())));
    if let Some((Some(first), Some(last))) = halves {
        let (first, last) = (one(first)?, one(last)?);
        if first > last {
            let message = format!("the range of ports `{text}` is upside down");
            return Err(Wrong::meant(message, &format!("{last}-{first}")));
        }
        return Ok((first, last));
    }
    for separator in ["..=", "..", ":", "–"] {
        let halves = text.split_once(separator);
        if let Some((Some(first), Some(last))) = halves.map(|(a, b)| (number(a), number(b))) {
            let message = format!("`{text}` is no range of ports");
            return Err(Wrong::meant(message, &format!("{first}-{last}")));
        }
    }
    if text.starts_with('!') {
        return Err(Wrong::new(format!(
            "`{text}`: ports are not negated; write the ranges beside them, as \
             [\"1-21\", \"23-65535\"] for all but 22"
        )));
    }
    let Some(sets) = sets else {
        return Err(alone(text));
    };
    let message = format!("`{text}` is no port, no range as \"8000-8099\" and no set as \"@NAME\"");
    Err(if sets.contains_key(text) {
        Wrong::meant(message, &format!("@{text}"))
    } else {
        Wrong::new(message)
    })
}

/// What is wrong with something that is no port and no range, where no set may stand.
fn alone(text: &str) -> Wrong {
    let apart = |c: char| c == ',' || c.is_whitespace();
    let parts: Vec<&str> = text.split(apart).filter(|part| !part.is_empty()).collect();
    let message = format!("`{text}` is no port and no range as \"8000-8099\"");
    if text.contains(apart) && parts.iter().all(|part| entry(part).is_ok()) {
        return match *parts {
            [] => Wrong::new(message),
            [one] => Wrong::meant(message, one),
            _ => Wrong::new(format!(
                "`{text}` is not one port or one range: each of them is an entry of its own"
            )),
        };
    }
    // As in /etc/services.
    match text.strip_suffix("/tcp").filter(|port| entry(port).is_ok()) {
        Some(port) => Wrong::meant(message, port),
        None => Wrong::new(message),
    }
}

/// The same ports in order, with as few ranges as can be.
pub(super) fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged = Ranges::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(
            merged(vec![(5, 9), (1, 2), (3, 3), (8, 20)]),
            [(1, 3), (5, 20)]
        );
        assert_eq!(
            merged(vec![(7, 65_535), (65_535, 65_535), (1, 5)]),
            [(1, 5), (7, 65_535)]
        );
        assert_eq!(merged(vec![(1, 9), (2, 3)]), [(1, 9)]);
    }
}
