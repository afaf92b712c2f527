//! The policy in force, and what each of its rules has decided.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use serde::Serialize;

use super::{columns, counted};
use crate::view::{
    Quoted,
    text::{Octets, Short, Span},
};

/// Everything that was read.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The policy; `None` where none is in force and everything is allowed.
    pub policy: Option<Head>,
    /// Its rules in the order in which they are looked at, the default last.
    pub rules: Vec<Rule>,
}

/// How a policy is in force.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// File that it was read from.
    pub path: Option<PathBuf>,
    /// Policies that were put in force since the maps were made, this one included.
    pub generation: u64,
    /// What brought it: `configuration`, `apply`, `return`.
    pub by: &'static str,
    /// Since when, ms.
    pub age_ms: u64,
    /// Whether what it refuses is dropped.
    pub enforced: bool,
    /// Until when it must be confirmed, ms from this moment; `None` where it need not
    /// be.
    pub confirm_within_ms: Option<u64>,
    /// Policies that were not put in force since something was wrong with them.
    pub errors: u64,
    /// What was wrong with the last one, if no good one came after it.
    pub last_error: Option<String>,
}

/// A rule and its counters.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its name; `default` of the last one.
    pub name: String,
    /// By which flows name it.
    pub number: u16,
    /// Where it begins in the file; `None` of the default.
    pub line: Option<usize>,
    /// `allow`, `drop`, `reset` or `prohibit`.
    pub action: &'static str,
    /// It counts what it would decide, and the next one decides.
    pub shadow: bool,
    /// Whether its decisions are logged.
    pub log: bool,
    /// First packets that it has decided, or would have.
    pub hits: u64,
    /// Flows that it admitted and that are open.
    pub flows: u64,
    /// Packets of all flows that it admitted, both ways.
    pub packets: u64,
    /// Octets of their IP datagrams.
    pub bytes: u64,
    /// Since its last hit, ms; `None` where there was none.
    pub last_hit_ms: Option<u64>,
}

/// Columns of the machine formats.
const FIELDS: &str = "name,number,line,action,shadow,log,hits,flows,packets,bytes,last_hit_ms";

impl Shown {
    /// Writes a table.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(head) = &self.policy else {
            return writeln!(out, "no policy is in force: every connection is allowed");
        };
        head.write(out, self.rules.len().saturating_sub(1) as u64)?;
        let title = [
            "Rule", "Action", "Hits", "Flows", "Packets", "Bytes", "Last hit",
        ];
        let mut lines = vec![title.map(str::to_owned).to_vec()];
        lines.extend(self.rules.iter().map(Rule::cells));
        columns(out, &lines, &[2, 3, 4, 5, 6])
    }

    /// Writes one object.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Writes an object a line, the rules only.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn ndjson(&self, out: &mut impl Write) -> io::Result<()> {
        for rule in &self.rules {
            serde_json::to_writer(&mut *out, rule)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Writes a header line and a line for each rule.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn csv(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(FIELDS.as_bytes())?;
        out.write_all(b"\r\n")?;
        for rule in &self.rules {
            let number = |value: Option<u64>| value.map_or_else(String::new, |n| n.to_string());
            write!(
                out,
                "{},{},{},{},{},{},{},{},{},{},{}\r\n",
                Quoted::new(rule.name.clone()).csv(),
                rule.number,
                number(rule.line.map(|line| line as u64)),
                rule.action,
                rule.shadow,
                rule.log,
                rule.hits,
                rule.flows,
                rule.packets,
                rule.bytes,
                number(rule.last_hit_ms)
            )?;
        }
        Ok(())
    }
}

impl Head {
    fn write(&self, out: &mut impl Write, rules: u64) -> io::Result<()> {
        let path = self.path.as_ref();
        let path = path.map_or_else(String::new, |path| format!(" {}", path.display()));
        let mode = if self.enforced {
            "enforced"
        } else {
            "observed only"
        };
        writeln!(
            out,
            "policy{path}: {}, {mode}; generation {}, by {} {} ago",
            counted(rules, "rule"),
            self.generation,
            self.by,
            Span(self.age_ms)
        )?;
        if let Some(left) = self.confirm_within_ms {
            writeln!(
                out,
                "the former policy returns in {} unless `tracker policy confirm` comes before",
                Span(left)
            )?;
        }
        if let Some(error) = &self.last_error {
            writeln!(
                out,
                "{} could not be put in force; the last one: {error}",
                counted(self.errors, "policy change")
            )?;
        }
        Ok(())
    }
}

impl Rule {
    fn cells(&self) -> Vec<String> {
        let mut action = self.action.to_owned();
        if self.shadow {
            action += " (shadow)";
        }
        if self.log {
            action += ", log";
        }
        let last = self.last_hit_ms;
        vec![
            self.name.clone(),
            action,
            Short(self.hits).to_string(),
            Short(self.flows).to_string(),
            Short(self.packets).to_string(),
            Octets(self.bytes).to_string(),
            last.map_or_else(|| "-".to_owned(), |ms| format!("{} ago", Span(ms))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        let rule = |name: &str, hits| Rule {
            name: name.to_owned(),
            number: 3,
            line: Some(7),
            action: "allow",
            shadow: false,
            log: false,
            hits,
            flows: 2,
            packets: 130_000,
            bytes: 5 << 20,
            last_hit_ms: Some(1500),
        };
        let default = Rule {
            line: None,
            action: "drop",
            shadow: false,
            log: true,
            last_hit_ms: None,
            ..rule("default", 0)
        };
        let shadow = Rule {
            shadow: true,
            ..rule("a \"b\", c", 12)
        };
        Shown {
            policy: Some(Head {
                path: Some("/etc/p.toml".into()),
                generation: 4,
                by: "apply",
                age_ms: 65_000,
                enforced: true,
                confirm_within_ms: Some(30_000),
                errors: 1,
                last_error: Some("line 3: no".to_owned()),
            }),
            rules: vec![rule("web", 7), shadow, default],
        }
    }

    fn written(write: impl Fn(&Shown, &mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&shown(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_for_people() {
        insta::assert_snapshot!(written(Shown::table), @r#"
        policy /etc/p.toml: 2 rules, enforced; generation 4, by apply 65s ago
        the former policy returns in 30s unless `tracker policy confirm` comes before
        1 policy change could not be put in force; the last one: line 3: no
        Rule      Action          Hits  Flows  Packets    Bytes  Last hit
        web       allow              7      2     130K  5.0 MiB  1.5s ago
        a "b", c  allow (shadow)    12      2     130K  5.0 MiB  1.5s ago
        default   drop, log          0      2     130K  5.0 MiB         -
        "#);
        let none = Shown {
            policy: None,
            rules: Vec::new(),
        };
        let mut out = Vec::new();
        none.table(&mut out).unwrap();
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("every connection is allowed")
        );
    }

    #[test]
    fn machine_formats_agree_on_their_fields() {
        let csv = written(Shown::csv);
        let mut lines = csv.split("\r\n");
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        assert_eq!(
            lines.nth(1),
            Some(r#""a ""b"", c",3,7,allow,true,false,12,2,130000,5242880,1500"#)
        );
        let ndjson = written(Shown::ndjson);
        let first: serde_json::Value =
            serde_json::from_str(ndjson.lines().next().unwrap()).unwrap();
        let mut keys: Vec<&str> = first
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = header.clone();
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        let json: serde_json::Value = serde_json::from_str(&written(Shown::json)).unwrap();
        assert_eq!(json["rules"][0], first);
        assert_eq!(json["policy"]["generation"], 4);
    }
}
