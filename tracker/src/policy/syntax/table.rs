//! Tables of a TOML document: their keys, and values of the type that is expected.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use crate::{config::closest, policy::report::Scope};

/// A value and its place.
pub(in crate::policy) type Value<'i> = Spanned<DeValue<'i>>;

/// A table of the document.
#[derive(Clone)]
pub(in crate::policy) struct Table<'v, 'i> {
    /// What people call it.
    what: String,
    keys: &'v DeTable<'i>,
    /// Where it begins.
    pub(in crate::policy) at: Range<usize>,
}

impl<'v, 'i> Table<'v, 'i> {
    /// The table `keys`, whose name is `what` and whose place is `at`.
    pub(in crate::policy) fn new(
        what: impl Into<String>,
        keys: &'v DeTable<'i>,
        at: Range<usize>,
    ) -> Self {
        Self {
            what: what.into(),
            keys,
            at,
        }
    }

    /// The table that `value` is; tells if it is none.
    pub(in crate::policy) fn of(
        scope: &mut Scope<'_>,
        what: impl Into<String>,
        value: &'v Value<'i>,
    ) -> Option<Self> {
        let what = what.into();
        if let DeValue::Table(keys) = value.get_ref() {
            return Some(Self::new(what, keys, value.span()));
        }
        let message = format!("{what} must be a table, not {}", kind(value));
        scope.error(&value.span(), message);
        None
    }

    /// What people call it.
    pub(in crate::policy) fn what(&self) -> &str {
        &self.what
    }

    /// The value of a key.
    pub(in crate::policy) fn get(&self, key: &str) -> Option<&'v Value<'i>> {
        self.keys.get(key)
    }

    /// The value of a key with the key's own place.
    pub(in crate::policy) fn entry(&self, key: &str) -> Option<(Range<usize>, &'v Value<'i>)> {
        let (key, value) = self.keys.get_key_value(key)?;
        Some((key.span(), value))
    }

    /// Every key with its place, and its value.
    pub(in crate::policy) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'v str, Range<usize>, &'v Value<'i>)> + use<'v, 'i> {
        let entries = self.keys.iter();
        entries.map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    /// Tells the keys that are not among `known`, and gives those that were probably
    /// meant. Words that other tools have for a key are in `others`.
    pub(in crate::policy) fn refuse_others<'k>(
        &self,
        scope: &mut Scope<'_>,
        known: &[&'k str],
        others: &[(&str, &'static str)],
    ) -> Vec<&'k str> {
        let mut misspelt = Vec::new();
        for (key, at, _) in self.entries().filter(|(key, _, _)| !known.contains(key)) {
            let other = others.iter().find(|(other, _)| *other == key);
            let meant = other.map(|(_, meant)| *meant);
            let meant = meant.or_else(|| closest(key, known.iter().copied()));
            misspelt.extend(meant);
            let known = known.join("`, `");
            scope.error_meant(
                &at,
                format!("{} has no key `{key}`; there are `{known}`", self.what),
                meant.map(|meant| format!("did you mean `{meant}`?")),
            );
        }
        misspelt
    }

    /// A string, if the key is there; tells if it is none.
    pub(in crate::policy) fn string(
        &self,
        scope: &mut Scope<'_>,
        key: &str,
    ) -> Option<(&'v str, Range<usize>)> {
        let value = self.get(key)?;
        let string = string(scope, &format!("`{key}`"), value)?;
        Some((string, value.span()))
    }

    /// A truth value, if the key is there; tells if it is none.
    pub(in crate::policy) fn truth(&self, scope: &mut Scope<'_>, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            let message = format!("`{key}` must be true or false, not {}", kind(value));
            scope.error(&value.span(), message);
        }
        truth
    }

    /// One of some words, if the key is there; tells if it is none of them.
    pub(in crate::policy) fn word<T: Copy>(
        &self,
        scope: &mut Scope<'_>,
        key: &str,
        words: &[(&str, T)],
        others: &[(&str, &str)],
    ) -> Option<T> {
        let (found, at) = self.string(scope, key)?;
        word(scope, &format!("`{key}`"), (found, &at), words, others)
    }

    /// A whole number of a range, if the key is there; tells if it is none.
    pub(in crate::policy) fn number(
        &self,
        scope: &mut Scope<'_>,
        key: &str,
        range: Range<u64>,
    ) -> Option<u64> {
        let value = self.get(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            let message = format!("`{key}` must be a whole number, not {}", kind(value));
            scope.error(&value.span(), message);
            return None;
        };
        let found = whole(number).filter(|number| range.contains(number));
        if found.is_none() {
            let (first, last) = (range.start, range.end - 1);
            let message = format!("`{key}` is {number}; it must lie between {first} and {last}");
            scope.error(&value.span(), message);
        }
        found
    }
}

/// The values of a list, or the one that stands for a list of one; tells if it is
/// empty.
pub(super) fn list<'v, 'i>(
    scope: &mut Scope<'_>,
    what: &str,
    value: &'v Value<'i>,
) -> Option<Vec<&'v Value<'i>>> {
    let DeValue::Array(values) = value.get_ref() else {
        return Some(vec![value]);
    };
    if values.is_empty() {
        scope.error(
            &value.span(),
            format!("{what} is an empty list, which nothing can match; leave the key out for any"),
        );
        return None;
    }
    Some(values.iter().collect())
}

/// The string that a value is; tells if it is none.
pub(super) fn string<'v>(
    scope: &mut Scope<'_>,
    what: &str,
    value: &'v Value<'_>,
) -> Option<&'v str> {
    let string = value.get_ref().as_str();
    if string.is_none() {
        let message = format!("{what} must be a string in quotes, not {}", kind(value));
        scope.error(&value.span(), message);
    }
    string
}

/// What one of `words` stands for; tells if it is none. Words that other tools have
/// are in `others`.
pub(super) fn word<T: Copy>(
    scope: &mut Scope<'_>,
    what: &str,
    (found, at): (&str, &Range<usize>),
    words: &[(&str, T)],
    others: &[(&str, &str)],
) -> Option<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == found) {
        return Some(*value);
    }
    let lower = found.to_lowercase();
    let other = others.iter().find(|(other, _)| *other == lower);
    let meant = other.map(|(_, meant)| *meant);
    let meant = meant.or_else(|| closest(&lower, words.iter().map(|(word, _)| *word)));
    let known: Vec<String> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    scope.error_meant(
        at,
        format!(
            "{what} is \"{found}\"; it must be one of {}",
            known.join(", ")
        ),
        meant.map(|meant| format!("did you mean \"{meant}\"?")),
    );
    None
}

/// The number that an integer is; `None` for a negative one, and beyond 64 bits.
pub(super) fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What a value is, for people.
pub(super) fn kind(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) if text.len() <= 40 => format!("the string \"{text}\""),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Float(number) => format!("the number {number}"),
    }
}

/// What there is, for a message that something else is not there.
pub(super) fn there_are<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    /// Names that are told.
    const TOLD: usize = 5;
    let left = names.len().saturating_sub(TOLD);
    let told: Vec<String> = names.take(TOLD).map(|name| format!("`{name}`")).collect();
    match (told.is_empty(), left) {
        (true, _) => String::new(),
        (false, 0) => format!("; there are {}", told.join(", ")),
        (false, left) => format!("; there are {} and {left} more", told.join(", ")),
    }
}
