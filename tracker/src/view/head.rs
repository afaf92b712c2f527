//! The line above a live table: what is tracked, and how well.

use std::io::{self, Write};

use tracker_common::abi::{FULL_SCALE, Gauge, Live, Mode};

/// An agent that has been silent for longer is reported, ms. It gives a sign of
/// life every second.
const SILENCE: u64 = 10_000;

/// How the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// None runs.
    Absent,
    /// It gives signs of life.
    Well {
        /// Its process id.
        pid: u32,
        /// Since the last one, ms.
        age_ms: u64,
    },
    /// It gives none.
    Silent {
        /// Its process id.
        pid: u32,
        /// Since the last one, ms.
        age_ms: u64,
    },
}

impl Health {
    /// What the running configuration tells of the agent.
    #[must_use]
    pub const fn of(live: &Live, now_ns: u64) -> Self {
        let pid = live.agent_pid;
        let age_ms = now_ns.saturating_sub(live.heartbeat_ns) / 1_000_000;
        match (pid, age_ms) {
            (0, _) => Self::Absent,
            (_, SILENCE..) => Self::Silent { pid, age_ms },
            _ => Self::Well { pid, age_ms },
        }
    }
}

/// The word for what happens to packets of class refuse.
#[must_use]
pub const fn mode(live: &Live) -> &'static str {
    if live.mode == Mode::Enforce as u8 {
        "enforce"
    } else {
        "observe"
    }
}

/// What the line is made of.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Tracked interfaces with the mode of XDP.
    pub interfaces: &'a [(String, Option<String>)],
    /// Running configuration.
    pub live: &'a Live,
    /// `CLOCK_MONOTONIC`, ns.
    pub now_ns: u64,
    /// By [`Gauge`].
    pub gauges: &'a [u64; Gauge::COUNT as usize],
    /// Flows in the table below.
    pub flows: usize,
}

impl Head<'_> {
    /// Writes the line. Of what does not fit into `width` characters, parts are
    /// left out from the end.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn write(&self, out: &mut impl Write, width: usize, colours: bool) -> io::Result<()> {
        let gauge = |gauge: Gauge| self.gauges[gauge as usize];
        let interfaces: Vec<String> = self
            .interfaces
            .iter()
            .map(|(name, xdp)| match xdp {
                Some(xdp) => format!("{name} ({xdp})"),
                None => name.clone(),
            })
            .collect();
        let health = match Health::of(self.live, self.now_ns) {
            Health::Well { .. } => None,
            Health::Absent => Some("NO AGENT".to_owned()),
            Health::Silent { age_ms, .. } => {
                Some(format!("AGENT SILENT for {}", super::text::Span(age_ms)))
            }
        };
        let scale = self.live.timeout_scale;
        let pressure = (scale < FULL_SCALE).then(|| {
            format!(
                "time-outs at {}%",
                u64::from(scale) * 100 / u64::from(FULL_SCALE)
            )
        });
        let plural = if self.flows == 1 { "" } else { "s" };
        let parts = [
            Some(format!("{} flow{plural}", self.flows)),
            health,
            pressure,
            Some(format!(
                "half-open {}/{}",
                gauge(Gauge::HalfOpen),
                self.live.half_open_limit
            )),
            Some("q quits".to_owned()),
            Some(mode(self.live).to_owned()),
            (!interfaces.is_empty()).then(|| interfaces.join(", ")),
        ];
        let mut line = String::from("tracker");
        for part in parts.into_iter().flatten() {
            if line.chars().count() + 3 + part.chars().count() <= width {
                line.push_str(" | ");
                line.push_str(&part);
            }
        }
        // Reversed, so that the line ends where the table begins; also where
        // there are no colours to tell them apart.
        let (on, off) = if colours {
            ("\x1b[7m", "\x1b[0m")
        } else {
            ("", "")
        };
        let fill = if colours { width } else { 0 };
        writeln!(out, "{on}{line:<fill$}{off}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{gauges, live, now_ns};

    fn line(live: &Live, flows: usize, width: usize) -> String {
        let head = Head {
            interfaces: &[
                ("eth0".into(), Some("native".into())),
                ("eth1".into(), None),
            ],
            live,
            now_ns: now_ns(),
            gauges: &gauges(),
            flows,
        };
        let mut out = Vec::new();
        head.write(&mut out, width, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_matters_most_is_left_when_it_gets_narrow() {
        insta::assert_snapshot!(line(&live(), 15, 100), @"tracker | 15 flows | half-open 3/32768 | q quits | observe | eth0 (native), eth1");
        insta::assert_snapshot!(line(&live(), 1, 50), @"tracker | 1 flow | half-open 3/32768 | q quits");
        insta::assert_snapshot!(line(&live(), 1, 0), @"tracker");
    }

    #[test]
    fn pressure_is_told() {
        let live = Live {
            timeout_scale: 512,
            ..live()
        };
        insta::assert_snapshot!(line(&live, 15, 70), @"tracker | 15 flows | time-outs at 50% | half-open 3/32768 | q quits");
    }

    #[test]
    fn a_missing_agent_is_told() {
        insta::assert_snapshot!(line(&Live { agent_pid: 0, ..live() }, 15, 80), @"tracker | 15 flows | NO AGENT | half-open 3/32768 | q quits | observe");
        insta::assert_snapshot!(line(&Live { heartbeat_ns: 0, ..live() }, 15, 80), @"tracker | 15 flows | AGENT SILENT for 11h39m | half-open 3/32768 | q quits");
    }
}
