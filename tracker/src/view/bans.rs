//! Banned prefixes: what `tracker ban list` shows.

use std::{
    fmt,
    io::{self, Write},
};

use ipnet::IpNet;
use serde::Serialize;
use tracker_common::abi::{Ban, BanKey};

use super::text::{Short, Span};
use crate::prefix;

/// A ban in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Banned {
    /// What is banned.
    pub prefix: IpNet,
    /// Until it ends, ms; `None` for a ban without an end.
    pub left_ms: Option<u64>,
    /// Packets that it refused.
    pub refused: u64,
}

/// How long a ban still lasts, ms; `None` for one without an end, 0 for one that
/// has ended.
#[must_use]
pub const fn left_ms(ban: &Ban, now_ns: u64) -> Option<u64> {
    match ban.until_ns {
        0 => None,
        until => Some(until.saturating_sub(now_ns).div_ceil(1_000_000)),
    }
}

impl Banned {
    /// `None` for a ban that has ended.
    #[must_use]
    pub fn new(key: &BanKey, ban: &Ban, now_ns: u64) -> Option<Self> {
        let left_ms = left_ms(ban, now_ns);
        if left_ms == Some(0) {
            return None;
        }
        Some(Self {
            prefix: prefix::of_ban(key)?,
            left_ms,
            refused: ban.refused,
        })
    }
}

/// For how long, in words.
#[derive(Clone, Copy, Debug)]
pub struct Lasting(pub Option<u64>);

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ms) => write!(f, "for {}", Span(ms)),
            None => f.write_str("until it is removed"),
        }
    }
}

/// Writes a table, sorted by prefix.
///
/// # Errors
///
/// When `out` fails.
pub fn table(out: &mut impl Write, bans: &[Banned]) -> io::Result<()> {
    if bans.is_empty() {
        return writeln!(out, "nothing is banned");
    }
    let rows: Vec<(String, &Banned)> = sorted(bans)
        .into_iter()
        .map(|ban| (ban.prefix.to_string(), ban))
        .collect();
    let longest = rows.iter().map(|(prefix, _)| prefix.len()).max();
    let width = longest.unwrap_or(0).max("Prefix".len());
    writeln!(out, "{:<width$} {:>8} {:>8}", "Prefix", "Left", "Refused")?;
    for (prefix, ban) in rows {
        let left = ban
            .left_ms
            .map_or_else(|| "-".to_owned(), |ms| Span(ms).to_string());
        let refused = Short(ban.refused).to_string();
        writeln!(out, "{prefix:<width$} {left:>8} {refused:>8}")?;
    }
    Ok(())
}

/// Writes an array of objects.
///
/// # Errors
///
/// When `out` fails.
pub fn json(out: &mut impl Write, bans: &[Banned]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &sorted(bans))?;
    out.write_all(b"\n")
}

fn sorted(bans: &[Banned]) -> Vec<&Banned> {
    let mut bans: Vec<_> = bans.iter().collect();
    bans.sort_by_key(|ban| ban.prefix);
    bans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bans() -> Vec<Banned> {
        let ban = |prefix: &str, until_ns, refused| {
            let key = prefix::ban_key(&prefix::parse(prefix).unwrap());
            Banned::new(
                &key,
                &Ban {
                    until_ns,
                    refused,
                    ..Ban::default()
                },
                1_000_000_000,
            )
        };
        [
            ban("2001:db8::/64", 0, 0),
            ban("198.51.100.0/24", 600_000_000_000, 1_234_567),
            ban("192.0.2.7", 1_000_000_001, 3),
            ban("192.0.2.8", 1_000_000_000, 3),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    #[test]
    fn bans_in_force_are_listed() {
        let mut out = Vec::new();
        table(&mut out, &bans()).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        Prefix              Left  Refused
        192.0.2.7/32        0.0s        3
        198.51.100.0/24    9m59s    1.23M
        2001:db8::/64          -        0
        ");
        let mut out = Vec::new();
        table(&mut out, &[]).unwrap();
        assert_eq!(out, b"nothing is banned\n");
    }

    #[test]
    fn scripts_get_an_array() {
        let mut out = Vec::new();
        json(&mut out, &bans()).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        [
          {
            "prefix": "192.0.2.7/32",
            "left_ms": 1,
            "refused": 3
          },
          {
            "prefix": "198.51.100.0/24",
            "left_ms": 599000,
            "refused": 1234567
          },
          {
            "prefix": "2001:db8::/64",
            "left_ms": null,
            "refused": 0
          }
        ]
        "#);
    }

    #[test]
    fn how_long_is_told_in_words() {
        assert_eq!(Lasting(None).to_string(), "until it is removed");
        assert_eq!(Lasting(Some(600_000)).to_string(), "for 10m");
    }
}
