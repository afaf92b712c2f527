//! Flows that would fare differently under another policy.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use serde::Serialize;

use super::{columns, counted};

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diff {
    /// Flows that were looked at.
    pub looked_at: u64,
    /// Those that would fare differently.
    pub flows: Vec<Differs>,
}

/// A flow that would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Differs {
    /// Who opened it.
    pub initiator: SocketAddr,
    /// To whom.
    pub responder: SocketAddr,
    /// Which way it goes.
    pub direction: &'static str,
    /// Interface where its initiator's packets are seen.
    pub interface: String,
    /// State of the initiator.
    pub state: &'static str,
    /// Under the policy in force.
    pub now: Fate,
    /// Under the other one.
    pub then: Fate,
}

/// What a policy does with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// `allow`, `drop`, `reset` or `prohibit`.
    pub action: &'static str,
    /// The rule that decides; `None` where no policy is in force.
    pub rule: Option<String>,
}

impl Fate {
    fn cell(&self) -> String {
        match &self.rule {
            Some(rule) => format!("{} by {rule}", self.action),
            None => format!("{} without a policy", self.action),
        }
    }
}

impl Diff {
    /// Writes a table.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let looked = counted(self.looked_at, "flow");
        if self.flows.is_empty() {
            return writeln!(out, "none of {looked} would fare differently");
        }
        let title = ["Initiator", "Responder", "State", "Way", "Now", "Then"];
        let mut lines = vec![title.map(str::to_owned).to_vec()];
        lines.extend(self.flows.iter().map(|flow| {
            vec![
                flow.initiator.to_string(),
                flow.responder.to_string(),
                flow.state.to_owned(),
                format!("{} at {}", flow.direction, flow.interface),
                flow.now.cell(),
                flow.then.cell(),
            ]
        }));
        columns(out, &lines, &[])?;
        writeln!(
            out,
            "{} of {looked} would fare differently",
            self.flows.len()
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_fare_how_is_told() {
        let mut diff = Diff {
            looked_at: 3,
            flows: Vec::new(),
        };
        let table = |diff: &Diff| {
            let mut out = Vec::new();
            diff.table(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!(table(&diff), @"none of 3 flows would fare differently");
        diff.flows.push(Differs {
            initiator: "198.51.100.7:50000".parse().unwrap(),
            responder: "192.0.2.1:22".parse().unwrap(),
            direction: "in",
            interface: "eth0".to_owned(),
            state: "ESTABLISHED",
            now: Fate {
                action: "allow",
                rule: None,
            },
            then: Fate {
                action: "drop",
                rule: Some("default".to_owned()),
            },
        });
        insta::assert_snapshot!(table(&diff), @r"
        Initiator           Responder     State        Way         Now                     Then
        198.51.100.7:50000  192.0.2.1:22  ESTABLISHED  in at eth0  allow without a policy  drop by default
        1 of 3 flows would fare differently
        ");
    }
}
