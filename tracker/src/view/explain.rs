//! What became of a connection, and why: what `tracker explain` shows.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
};

use serde::Serialize;
use tracker_common::{
    abi::{Denial, History, INITIATOR, Origin, RESPONDER, Refusal, Step},
    policy::Direction,
    reason::Reason,
    tcp::{Bits, Flags, State},
};

use super::{
    Clock, Details, Row,
    details::{Stay, timeline},
    ends::Written,
    refusal::{Sentence, verb},
    text::Span,
};

/// Everything that is known of a connection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// Its ends: initiator and responder where that is known, else as they were asked
    /// for.
    pub ends: Option<[SocketAddr; 2]>,
    /// The flow that is there.
    pub flow: Option<Open>,
    /// Flows between the same ends that were there before, the last one first.
    pub ended: Vec<Ended>,
    /// The last refusal while there was none.
    pub denial: Option<Denied>,
}

/// A flow that is there.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// States of initiator and responder, by RFC 9293.
    pub states: [&'static str; 2],
    /// Since it came to be, ms.
    pub age_ms: u64,
    /// Since a segment of it was accepted last, ms.
    pub idle_ms: u64,
    /// Until it ends if nothing happens, ms.
    pub expires_ms: u64,
    /// How it came to be known.
    pub origin: &'static str,
    /// The rule that admitted it; `None`: none did.
    pub rule: Option<String>,
    /// Packets of initiator and responder.
    pub packets: [u64; 2],
    /// Octets likewise.
    pub bytes: [u64; 2],
    /// The pairs of states that it went through, oldest first; `None` for some that are
    /// not known.
    pub history: Vec<Option<Moved>>,
    /// The last segment of it that was refused or noted.
    pub last_refusal: Option<Told>,
}

/// A pair of states that a flow was in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Initiator and responder.
    pub states: [&'static str; 2],
    /// How long ago it came to it, ms.
    pub ago_ms: Option<u64>,
    /// How long it stayed, ms.
    pub lasted_ms: Option<u64>,
    /// The reason of the segment that brought it there.
    pub reason: Option<&'static str>,
}

/// A flow that is there no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its last steps, oldest first.
    pub history: Vec<Moved>,
    /// The last segment of it that was refused or noted.
    pub last_refusal: Option<Told>,
}

/// A segment that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// `refused` or `noted`.
    pub verb: &'static str,
    /// The reason's name.
    pub reason: &'static str,
    /// How long ago it was, ms.
    pub ago_ms: u64,
    /// Its flags.
    pub flags: String,
    /// Why, in one sentence with the numbers.
    pub why: String,
}

/// The last refusal of a connection that had no flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The reason's name.
    pub reason: &'static str,
    /// What it means.
    pub why: &'static str,
    /// The rule that decided; `None`: none did.
    pub rule: Option<String>,
    /// How long ago it was, ms.
    pub ago_ms: u64,
    /// Who sent it.
    pub from: SocketAddr,
    /// Its flags.
    pub flags: String,
    /// Which way the connection would go.
    pub direction: &'static str,
    /// Where it was seen.
    pub interface: String,
}

impl Open {
    /// What is known of `row`, which the rule of that name admitted.
    #[must_use]
    pub fn new(row: &Row<'_>, details: &Details, rule: Option<String>) -> Self {
        let flow = row.flow();
        let ends = [INITIATOR, RESPONDER].map(|end| row.end(end));
        Self {
            states: flow.states().map(State::rfc_name),
            age_ms: row.age_ms(),
            idle_ms: row.idle_ms(),
            expires_ms: row.expires_ms(),
            origin: flow.origin().as_str(),
            rule,
            packets: ends.map(|end| end.packets()),
            bytes: ends.map(|end| end.bytes),
            history: timeline(row, details)
                .into_iter()
                .map(|stay| stay.map(Moved::of_stay))
                .collect(),
            last_refusal: details
                .refusal
                .map(|refusal| Told::new(&refusal, row.since_ms(refusal.time))),
        }
    }
}

impl Moved {
    fn of_stay(stay: Stay) -> Self {
        Self {
            states: stay.states.map(State::rfc_name),
            ago_ms: stay.ago_ms,
            lasted_ms: stay.lasted_ms,
            reason: stay.reason.map(Reason::as_str),
        }
    }

    fn of_step(step: &Step, clock: &Clock) -> Self {
        Self {
            states: step.pair().map(Bits::state).map(State::rfc_name),
            ago_ms: Some(clock.since_ms(step.time)),
            lasted_ms: None,
            reason: Reason::from_raw(step.reason).map(Reason::as_str),
        }
    }
}

impl Ended {
    /// What is remembered of a flow that is not there any more.
    #[must_use]
    pub fn new(history: Option<&History>, refusal: Option<&Refusal>, clock: &Clock) -> Self {
        let steps = history.map_or_else(Vec::new, |history| {
            let used = history.steps.iter().filter(|step| step.used != 0);
            let newest = used.min_by_key(|step| clock.since_ms(step.time));
            let newest = newest.map_or(0, |step| step.seq);
            history.in_order(newest).collect()
        });
        Self {
            history: steps
                .iter()
                .map(|step| Moved::of_step(step, clock))
                .collect(),
            last_refusal: refusal.map(|refusal| Told::new(refusal, clock.since_ms(refusal.time))),
        }
    }

    /// How long ago anything of it was remembered, ms.
    #[must_use]
    pub fn ago_ms(&self) -> u64 {
        let steps = self.history.iter().filter_map(|moved| moved.ago_ms);
        let refusal = self.last_refusal.iter().map(|told| told.ago_ms);
        steps.chain(refusal).min().unwrap_or(u64::MAX)
    }
}

impl Told {
    fn new(refusal: &Refusal, ago_ms: u64) -> Self {
        let reason = Reason::from_raw(refusal.reason);
        Self {
            verb: reason.map_or("refused", verb),
            reason: reason.map_or("unknown", Reason::as_str),
            ago_ms,
            flags: Written(Flags(refusal.flags)).to_string(),
            why: Sentence(refusal).to_string(),
        }
    }
}

impl Denied {
    /// What `denial` tells of a segment that `from` sent.
    #[must_use]
    pub fn new(
        denial: &Denial,
        from: SocketAddr,
        rule: Option<String>,
        interface: String,
        now_ns: u64,
    ) -> Self {
        let reason = Reason::from_raw(denial.reason);
        Self {
            reason: reason.map_or("unknown", Reason::as_str),
            why: reason.map_or("for a reason of another version", Reason::describe),
            rule,
            ago_ms: now_ns.saturating_sub(denial.time_ns) / 1_000_000,
            from,
            flags: Written(Flags(denial.flags)).to_string(),
            direction: Direction::from_raw(denial.direction).as_str(),
            interface,
        }
    }
}

/// Reads as a sentence about the rule.
struct Admitted<'a>(&'a Open);

impl fmt::Display for Admitted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.rule, self.0.origin) {
            (Some(rule), _) => write!(f, "admitted by the rule `{rule}`"),
            (None, origin) if origin == Origin::Socket.as_str() => {
                f.write_str("read from this host's sockets: it is older than the tracker")
            }
            (None, origin) if origin == Origin::Conntrack.as_str() => {
                f.write_str("read from nf_conntrack: it is older than the tracker")
            }
            (None, _) => f.write_str("admitted by no rule: there was no policy when it came to be"),
        }
    }
}

impl Explained {
    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flow.is_none() && self.ended.is_empty() && self.denial.is_none()
    }

    /// Writes it for people.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn text(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some([one, other]) = self.ends {
            write!(out, "{one} → {other}: ")?;
        }
        match &self.flow {
            Some(flow) => flow.write(out)?,
            None => writeln!(out, "there is no flow")?,
        }
        for ended in &self.ended {
            writeln!(out, "a flow before that one:")?;
            for moved in &ended.history {
                moved.write(out)?;
            }
            if let Some(told) = &ended.last_refusal {
                told.write(out)?;
            }
        }
        if let Some(denial) = &self.denial {
            denial.write(out)?;
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

impl Open {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let [initiator, responder] = self.states;
        writeln!(
            out,
            "{initiator}/{responder}, {} old, silent for {}, ends in {} if nothing happens",
            Span(self.age_ms),
            Span(self.idle_ms),
            Span(self.expires_ms)
        )?;
        writeln!(out, "  {}", Admitted(self))?;
        for moved in &self.history {
            match moved {
                Some(moved) => moved.write(out)?,
                None => writeln!(out, "  …")?,
            }
        }
        match &self.last_refusal {
            Some(told) => told.write(out),
            None => writeln!(out, "  no segment of it is remembered as refused"),
        }
    }
}

impl Moved {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let [initiator, responder] = self.states;
        match self.ago_ms {
            Some(ago) => write!(out, "  {} ago", Span(ago))?,
            None => write!(out, "  some time ago")?,
        }
        write!(out, " {initiator}/{responder}")?;
        if let Some(lasted) = self.lasted_ms {
            write!(out, " for {}", Span(lasted))?;
        }
        match self.reason {
            Some(reason) => writeln!(out, " ({reason})"),
            None => writeln!(out),
        }
    }
}

impl Told {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            verb,
            reason,
            ago_ms,
            flags,
            why,
        } = self;
        writeln!(
            out,
            "  the last segment {verb} [{flags}], {} ago: {why} ({reason})",
            Span(*ago_ms)
        )
    }
}

impl Denied {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let why = self.why.strip_suffix('.').unwrap_or(self.why);
        write!(
            out,
            "  refused [{}] of {} {} ago, {} at {}",
            self.flags,
            self.from,
            Span(self.ago_ms),
            self.direction,
            self.interface
        )?;
        if let Some(rule) = &self.rule {
            write!(out, ", by the rule `{rule}`")?;
        }
        writeln!(out, ": {why} ({})", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::Bound;

    use super::*;
    use crate::view::samples::{Sample, clock, now, now_ns};

    #[test]
    fn a_flow_is_told_with_its_rule_and_its_last_refusal() {
        let sample = Sample::new(
            "198.51.100.9:40003",
            "192.0.2.1:443",
            [State::Established; 2],
        )
        .rtt(1500);
        let clock = clock();
        let row = Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap();
        let refusal = Refusal {
            time: now(),
            reason: Reason::AckUnsent as u8,
            sender: 1,
            flags: Flags::ACK,
            bound: Bound {
                value: 9,
                low: 1,
                high: 5,
            },
            ..Refusal::default()
        };
        let details = Details {
            history: None,
            refusal: Some(refusal),
        };
        let explained = Explained {
            ends: Some([row.at(INITIATOR).into(), row.at(RESPONDER).into()]),
            flow: Some(Open::new(&row, &details, Some("web".to_owned()))),
            ..Explained::default()
        };
        let mut out = Vec::new();
        explained.text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("198.51.100.9:40003 → 192.0.2.1:443: ESTABLISHED/ESTABLISHED"));
        assert!(text.contains("admitted by the rule `web`"), "{text}");
        assert!(
            text.contains("acknowledgement 9 of the responder lies beyond 5"),
            "{text}"
        );
        assert!(!explained.is_empty() && Explained::default().is_empty());
    }

    #[test]
    fn a_refused_syn_is_told_with_the_rule() {
        let denial = Denial {
            time_ns: now_ns() - 3_000_000_000,
            ifindex: 2,
            rule: 7,
            reason: Reason::PolicyDropped as u8,
            flags: Flags::SYN,
            direction: Direction::In as u8,
            ..Denial::default()
        };
        let from = "198.51.100.7:50000".parse().unwrap();
        let rule = Some("no telnet".to_owned());
        let explained = Explained {
            ends: Some([from, "192.0.2.1:23".parse().unwrap()]),
            denial: Some(Denied::new(
                &denial,
                from,
                rule,
                "eth0".to_owned(),
                now_ns(),
            )),
            ..Explained::default()
        };
        let mut out = Vec::new();
        explained.text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(
                "refused [SYN] of 198.51.100.7:50000 3.0s ago, in at eth0, by the rule `no telnet`: "
            ),
            "{text}"
        );
        assert!(text.contains("(policy_dropped)"), "{text}");
    }
}
