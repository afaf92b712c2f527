//! Which rule decides about a connection, and why the ones before it do not.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use serde::Serialize;
use tracker_common::policy::{Direction, Mismatch};

use crate::control::stored::directions;
use crate::policy::model::Rule;

/// What was asked and found.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// Who opens the connection.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Which way it goes.
    pub direction: &'static str,
    /// Interface where its first packet is seen; `None`: one that no rule names.
    pub interface: Option<String>,
    /// The rule that decides.
    pub rule: String,
    /// Where it begins in the file; `None` of the default.
    pub line: Option<usize>,
    /// What it does: `allow`, `drop`, `reset` or `prohibit`.
    pub action: &'static str,
    /// The rules before it, in order.
    pub passed: Vec<Passed>,
}

/// A rule that does not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// Its name.
    pub rule: String,
    /// Where it begins in the file.
    pub line: usize,
    /// The first of its terms that is not met; `None` of one in shadow that matches.
    pub mismatch: Option<&'static str>,
    /// The same in words.
    pub why: String,
}

impl Passed {
    /// Why `rule` does not decide about a connection.
    #[must_use]
    pub fn new(rule: &Rule, mismatch: Option<Mismatch>, asked: &Asked) -> Self {
        Self {
            rule: rule.name.clone(),
            line: rule.line,
            mismatch: mismatch.map(term),
            why: why(rule, mismatch, asked),
        }
    }
}

/// What a policy is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who opens the connection.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Which way it goes.
    pub direction: Direction,
    /// See [`Tested::interface`].
    pub interface: Option<String>,
}

/// The key in the language that a mismatch is about.
const fn term(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Direction => "direction",
        Mismatch::Interface => "interface",
        Mismatch::From => "from",
        Mismatch::To => "to",
        Mismatch::FromPort => "from_ports",
        Mismatch::ToPort => "ports",
    }
}

fn why(rule: &Rule, mismatch: Option<Mismatch>, asked: &Asked) -> String {
    let Some(mismatch) = mismatch else {
        return "it matches, and is in shadow".to_owned();
    };
    match mismatch {
        Mismatch::Direction => {
            let wanted: Vec<&str> = directions(rule.directions).collect();
            format!(
                "it is about {}, not {}",
                wanted.join(", "),
                asked.direction.as_str()
            )
        }
        Mismatch::Interface => {
            let seen = asked.interface.as_deref().unwrap_or("another one");
            format!("it is about {}, not {seen}", rule.interfaces.join(", "))
        }
        Mismatch::From => format!("{} is not in its `from`", asked.from.ip()),
        Mismatch::To => format!("{} is not in its `to`", asked.to.ip()),
        Mismatch::FromPort => {
            format!(
                "source port {} is not in {}",
                asked.from.port(),
                ports(&rule.from_ports)
            )
        }
        Mismatch::ToPort => {
            format!(
                "port {} is not in {}",
                asked.to.port(),
                ports(&rule.to_ports)
            )
        }
    }
}

fn ports(ranges: &[(u16, u16)]) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    ranges.join(", ")
}

/// The word for what is done to a connection.
fn done(action: &str) -> &'static str {
    match action {
        "allow" => "allowed",
        "drop" => "dropped",
        "reset" => "rejected with an RST",
        _ => "rejected with an ICMP error",
    }
}

impl Tested {
    /// Writes it for people.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let at = self.interface.as_ref();
        let at = at.map_or_else(String::new, |name| format!(" at {name}"));
        let line = self.line;
        let line = line.map_or_else(String::new, |line| format!(" in line {line}"));
        writeln!(
            out,
            "{} → {}, {}{at}: {} by the rule `{}`{line}",
            self.from,
            self.to,
            self.direction,
            done(self.action),
            self.rule
        )?;
        for passed in &self.passed {
            writeln!(
                out,
                "  not `{}` in line {}: {}",
                passed.rule, passed.line, passed.why
            )?;
        }
        Ok(())
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
}
