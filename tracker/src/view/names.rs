//! Names of interfaces and of rules, ready for each format.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::text;

/// The names of this machine's interfaces by index, and of the policy's rules by
/// number.
///
/// The kernel allows quotes, commas and control characters in a name
/// (net/core/dev.c, `dev_valid_name`), so each is quoted once, here.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_index: HashMap<u32, Quoted>,
    rules: HashMap<u16, Quoted>,
}

/// A name that somebody else chose, in each spelling.
#[derive(Clone, Debug)]
pub struct Quoted {
    plain: String,
    json: String,
    csv: String,
}

impl Quoted {
    /// The name in each spelling.
    #[must_use]
    pub fn new(plain: String) -> Self {
        Self {
            json: serde_json::Value::from(plain.as_str()).to_string(),
            csv: csv(&plain),
            plain,
        }
    }

    /// As a JSON string with its quotes.
    pub(super) const fn json(&self) -> &str {
        self.json.as_str()
    }

    /// As a CSV field.
    pub(super) const fn csv(&self) -> &str {
        self.csv.as_str()
    }
}

impl Names {
    /// From pairs of index and name.
    pub fn new(pairs: impl IntoIterator<Item = (u32, String)>) -> Self {
        Self {
            by_index: pairs
                .into_iter()
                .map(|(index, name)| (index, Quoted::new(name)))
                .collect(),
            rules: HashMap::new(),
        }
    }

    /// The same with rules, from pairs of number and name.
    #[must_use]
    pub fn with_rules(mut self, pairs: impl IntoIterator<Item = (u16, String)>) -> Self {
        let pairs = pairs.into_iter();
        self.rules = pairs
            .map(|(number, name)| (number, Quoted::new(name)))
            .collect();
        self
    }

    /// The rules by number.
    pub(super) fn rules(&self) -> impl Iterator<Item = (u16, &str)> {
        let rules = self.rules.iter();
        rules.map(|(number, name)| (*number, name.plain.as_str()))
    }

    /// Writes the name of a rule as a JSON string, its number where it has none, or
    /// `null` for number 0.
    pub(super) fn rule_json(&self, out: &mut impl Write, number: u16) -> io::Result<()> {
        match self.rules.get(&number) {
            Some(name) => out.write_all(name.json.as_bytes()),
            None if number == 0 => out.write_all(b"null"),
            None => write!(out, "\"{number}\""),
        }
    }

    /// The same as a CSV field, empty for number 0.
    pub(super) fn rule_csv(&self, out: &mut impl Write, number: u16) -> io::Result<()> {
        match self.rules.get(&number) {
            Some(name) => out.write_all(name.csv.as_bytes()),
            None if number == 0 => Ok(()),
            None => text::int(out, number),
        }
    }

    /// The name, or `if7` as ip(8) writes it for an interface that is gone.
    #[must_use]
    pub fn plain(&self, ifindex: u32) -> String {
        match self.by_index.get(&ifindex) {
            Some(name) => name.plain.clone(),
            None => format!("if{ifindex}"),
        }
    }

    /// Writes a JSON string, or `null` for index 0.
    pub(super) fn json(&self, out: &mut impl Write, ifindex: u32) -> io::Result<()> {
        match self.by_index.get(&ifindex) {
            Some(name) => out.write_all(name.json.as_bytes()),
            None if ifindex == 0 => out.write_all(b"null"),
            None => {
                out.write_all(b"\"if")?;
                text::int(out, ifindex)?;
                out.write_all(b"\"")
            }
        }
    }

    /// Writes a CSV field, empty for index 0.
    pub(super) fn csv(&self, out: &mut impl Write, ifindex: u32) -> io::Result<()> {
        match self.by_index.get(&ifindex) {
            Some(name) => out.write_all(name.csv.as_bytes()),
            None if ifindex == 0 => Ok(()),
            None => {
                out.write_all(b"if")?;
                text::int(out, ifindex)
            }
        }
    }
}

/// A field as RFC 4180 section 2 wants it.
fn csv(plain: &str) -> String {
    if plain.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", plain.replace('"', "\"\""))
    } else {
        plain.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted_for_each_format() {
        let names = Names::new([(1, "a\",b".to_owned())]).with_rules([(3, "x,y".to_owned())]);
        let written = |write: fn(&Names, &mut Vec<u8>, u32) -> io::Result<()>, index| {
            let mut out = Vec::new();
            write(&names, &mut out, index).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Names::json, 1), r#""a\",b""#);
        assert_eq!(written(Names::csv, 1), r#""a"",b""#);
        let rule = |write: fn(&Names, &mut Vec<u8>, u16) -> io::Result<()>, number| {
            let mut out = Vec::new();
            write(&names, &mut out, number).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            [3, 4, 0].map(|number| rule(Names::rule_json, number)),
            [r#""x,y""#, r#""4""#, "null"]
        );
        assert_eq!(
            [3, 4, 0].map(|number| rule(Names::rule_csv, number)),
            [r#""x,y""#, "4", ""]
        );
        assert_eq!(names.plain(1), "a\",b");
        assert_eq!(
            (written(Names::json, 7), written(Names::csv, 7)),
            ("\"if7\"".into(), "if7".into())
        );
        assert_eq!(
            (written(Names::json, 0), written(Names::csv, 0)),
            ("null".into(), "".into())
        );
    }
}
