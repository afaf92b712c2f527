//! The limits of a rule.

use super::{address::Wrong, table::Table};
use crate::policy::{model::Limits, report::Scope};

/// Most of what may open at once.
const MAX_BURST: u64 = 100_000;
/// Most that a rate names.
const MAX_RATE: u64 = 1_000_000;
/// Flows that the largest table holds.
const MAX_FLOWS: u64 = 0x0400_0000;

/// Units of a rate, and how long they are in seconds.
pub(in crate::policy) const UNITS: [(&str, u64); 4] =
    [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// Keys of the table.
pub(super) const KEYS: [&str; 8] = [
    "rate",
    "burst",
    "connections",
    "source_rate",
    "source_burst",
    "source_connections",
    "source_prefix_v4",
    "source_prefix_v6",
];

/// What other tools call them.
const OTHERS: [(&str, &str); 6] = [
    ("max", "connections"),
    ("flows", "connections"),
    ("concurrent", "connections"),
    ("source_flows", "source_connections"),
    ("max-src-conn", "source_connections"),
    ("max-src-conn-rate", "source_rate"),
];

/// The limits that `table` sets; tells what is wrong.
pub(super) fn limits(scope: &mut Scope<'_>, table: &Table<'_, '_>) -> Limits {
    table.refuse_others(scope, &KEYS, &OTHERS);
    let none = Limits::default();
    let [v4, v6] = none.source_bits;
    let count = |scope: &mut Scope<'_>, key| {
        let found = table.number(scope, key, 1..MAX_FLOWS + 1);
        found.map_or(0, |number| number as u32)
    };
    let bits = |scope: &mut Scope<'_>, key, most: u8, default| {
        let found = table.number(scope, key, 1..u64::from(most) + 1);
        found.map_or(default, |number| number as u8)
    };
    let limits = Limits {
        rate: rate(scope, table, "rate", "burst"),
        flows: count(scope, "connections"),
        source_rate: rate(scope, table, "source_rate", "source_burst"),
        source_flows: count(scope, "source_connections"),
        source_bits: [
            bits(scope, "source_prefix_v4", 32, v4),
            bits(scope, "source_prefix_v6", 128, v6),
        ],
    };
    let by_source = table.get("source_rate").or(table.get("source_connections"));
    for key in ["source_prefix_v4", "source_prefix_v6"] {
        if let Some((at, _)) = table.entry(key).filter(|_| by_source.is_none()) {
            scope.error(
                &at,
                format!("`{key}` has no effect without `source_rate` or `source_connections`"),
            );
        }
    }
    if table.entries().next().is_none() {
        scope.error(&table.at, "the limit sets none: leave it out");
    }
    limits
}

/// A rate with its burst.
fn rate(
    scope: &mut Scope<'_>,
    table: &Table<'_, '_>,
    key: &str,
    burst_key: &str,
) -> Option<(u64, u64)> {
    let burst = table.number(scope, burst_key, 1..MAX_BURST + 1);
    if table.get(key).is_none() {
        if let Some((at, _)) = table.entry(burst_key) {
            scope.error(&at, format!("`{burst_key}` has no effect without `{key}`"));
        }
        return None;
    }
    let (text, at) = table.string(scope, key)?;
    match interval(text) {
        Ok((interval, number)) => Some((interval, burst.unwrap_or(number.min(MAX_BURST)))),
        Err(wrong) => {
            scope.error_meant(&at, format!("`{key}`: {}", wrong.message), wrong.hint);
            None
        }
    }
}

/// The time between two in ns, and how many are in a unit.
fn interval(text: &str) -> Result<(u64, u64), Wrong> {
    const LONG: [(&str, &str); 8] = [
        ("sec", "s"),
        ("second", "s"),
        ("min", "m"),
        ("minute", "m"),
        ("hour", "h"),
        ("hr", "h"),
        ("day", "d"),
        ("S", "s"),
    ];
    let wrong = || {
        Wrong::new(format!(
            "\"{text}\" is no rate: it is written \"100/s\", \"30/m\", \"5/h\" or \"1/d\""
        ))
    };
    let Some((number, unit)) = text.split_once('/') else {
        return Err(match text.parse::<u64>() {
            Ok(_) => Wrong::meant(format!("\"{text}\" has no unit"), &format!("{text}/s")),
            Err(_) => wrong(),
        });
    };
    if !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = number.parse().map_err(|_| wrong())?;
    if let Some((_, meant)) = LONG.iter().find(|(long, _)| *long == unit) {
        let message = format!("\"{text}\" has the unit `{unit}`");
        return Err(Wrong::meant(message, &format!("{number}/{meant}")));
    }
    let units = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, seconds) = units.ok_or_else(wrong)?;
    if !(1..=MAX_RATE).contains(&count) {
        return Err(Wrong::new(format!(
            "\"{text}\" must be from 1 to {MAX_RATE}; to admit none, drop"
        )));
    }
    Ok((seconds * 1_000_000_000 / count, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_intervals() {
        assert_eq!(interval("100/s"), Ok((10_000_000, 100)));
        assert_eq!(interval("30/m"), Ok((2_000_000_000, 30)));
        assert_eq!(interval("1/d"), Ok((86_400_000_000_000, 1)));
        assert_eq!(interval("1000000/s"), Ok((1000, 1_000_000)));
    }

    /// What the programs compute with must not overflow.
    #[test]
    fn no_burst_is_longer_than_the_clock() {
        let (_, longest) = UNITS[3];
        assert!((longest * 1_000_000_000).checked_mul(MAX_BURST).unwrap() < 1 << 63);
    }

    #[test]
    fn what_is_no_rate_is_told() {
        let told = |text: &str| {
            let wrong = interval(text).unwrap_err();
            let hint = wrong
                .hint
                .map_or_else(String::new, |hint| format!(" | {hint}"));
            format!("{}{hint}", wrong.message)
        };
        insta::assert_snapshot!(told("100"), @r#""100" has no unit | did you mean "100/s"?"#);
        insta::assert_snapshot!(told("100/min"), @r#""100/min" has the unit `min` | did you mean "100/m"?"#);
        insta::assert_snapshot!(told("0/s"), @r#""0/s" must be from 1 to 1000000; to admit none, drop"#);
        insta::assert_snapshot!(told("1000001/s"), @r#""1000001/s" must be from 1 to 1000000; to admit none, drop"#);
        insta::assert_snapshot!(told("-1/s"), @r#""-1/s" is no rate: it is written "100/s", "30/m", "5/h" or "1/d""#);
        insta::assert_snapshot!(told("ten/s"), @r#""ten/s" is no rate: it is written "100/s", "30/m", "5/h" or "1/d""#);
        insta::assert_snapshot!(told("10/fortnight"), @r#""10/fortnight" is no rate: it is written "100/s", "30/m", "5/h" or "1/d""#);
    }
}
