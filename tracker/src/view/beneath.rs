//! What a table shows beneath a flow: how it came to its states, and what was
//! refused of it.

use std::io::{self, Write};

use tracker_common::{abi::Refusal, reason::Reason, tcp::State};

use super::{
    Details, Row,
    details::{Stay, timeline},
    refusal::{self, Sentence},
    text::Span,
};

/// How far in the lines begin.
const INDENT: usize = 8;

/// The lines beneath one flow.
#[derive(Clone, Debug)]
pub struct Beneath {
    stays: Vec<Option<Stay>>,
    /// With how long ago it was, ms.
    refused: Option<(Refusal, u64)>,
}

impl Beneath {
    /// What is remembered beside `row`. With `swapped` the responder stands first
    /// in the table, and so do its states here.
    pub fn new(row: &Row<'_>, details: &Details, swapped: bool) -> Self {
        let mut stays = timeline(row, details);
        if swapped {
            stays
                .iter_mut()
                .flatten()
                .for_each(|stay| stay.states.reverse());
        }
        Self {
            stays,
            refused: details
                .refusal
                .map(|refusal| (refusal, row.since_ms(refusal.time))),
        }
    }

    /// Writes the lines, states in the columns that begin at `column` and are
    /// `width` wide with their gap.
    pub fn write(&self, out: &mut impl Write, column: usize, width: usize) -> io::Result<()> {
        let column = column.saturating_sub(INDENT);
        for stay in &self.stays {
            let Some(stay) = stay else {
                writeln!(out, "{:INDENT$}…", "")?;
                continue;
            };
            let when = match (stay.ago_ms, stay.lasted_ms) {
                (Some(ago), Some(lasted)) => format!("{} ago for {}", Span(ago), Span(lasted)),
                (Some(ago), None) => format!("{} ago", Span(ago)),
                (None, _) => "-".to_owned(),
            };
            let [one, other] = stay.states.map(State::netstat_name);
            let reason = stay.reason.map_or("-", Reason::as_str);
            writeln!(
                out,
                "{:INDENT$}{when:<column$}{one:<width$}{other:<width$}{reason}",
                ""
            )?;
        }
        if let Some((refusal, ago)) = &self.refused {
            let verb = Reason::from_raw(refusal.reason).map_or("refused", refusal::verb);
            let (ago, sentence) = (Span(*ago), Sentence(refusal));
            writeln!(out, "{:INDENT$}{verb} {ago} ago: {sentence}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::{
        abi::{Bound, History, Step},
        seq::Seq,
        tcp::Bits,
        time::{Tick, ticks_from_ms},
    };

    use super::*;
    use crate::{
        cli::ListFormat,
        view::{
            Listing, LocalAddresses, Row,
            samples::{Sample, clock, names, now},
        },
    };

    fn ago(ms: u64) -> Tick {
        Tick(now().0 - ticks_from_ms(ms))
    }

    /// A connection that was opened 2 s ago and is being closed, of which an RST
    /// was refused in between.
    fn flow() -> (Sample, Details) {
        let states = [State::FinWait2, State::CloseWait];
        let mut sample = Sample::new("198.51.100.9:40003", "192.0.2.1:443", states).rtt(1500);
        let mut history = History::default();
        for (seq, ms, reason, states) in [
            (3, 1900, Reason::Tracked, [State::Established; 2]),
            (
                4,
                900,
                Reason::Tracked,
                [State::FinWait1, State::Established],
            ),
            (5, 800, Reason::Tracked, states),
        ] {
            let states = states.map(|state| Bits::of(state as u8));
            history.steps[History::place(seq)] = Step::new(ago(ms), reason as u8, states, seq);
        }
        for _ in 0..5 {
            sample.flow.next_event();
        }
        let refusal = Refusal {
            time: ago(1500),
            reason: Reason::ResetOutsideWindow as u8,
            sender: 1,
            flags: 0x14,
            seq: Seq(101_001),
            ack: Seq(7),
            bound: Bound {
                value: 101_001,
                low: 1001,
                high: 1257,
            },
            ..Refusal::default()
        };
        let details = Details {
            history: Some(history),
            refusal: Some(refusal),
        };
        (sample, details)
    }

    fn listing(format: ListFormat, flows: &[(Sample, Details)]) -> String {
        let (mut out, names, clock) = (Vec::new(), names(), clock());
        let local = LocalAddresses::new(["192.0.2.1".parse().unwrap()]);
        let mut listing = Listing::begin_detailed(format, &mut out, &names, local, false).unwrap();
        for (sample, details) in flows {
            let row = Row::new(sample.family, &sample.key, &sample.flow, &clock).unwrap();
            listing.detailed_row(&row, details).unwrap();
        }
        listing.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn plain() -> (Sample, Details) {
        let states = [State::SynSent, State::Listen];
        let mut sample = Sample::new("198.51.100.9:40004", "192.0.2.1:443", states);
        sample.flow.next_event();
        (sample, Details::default())
    }

    #[test]
    fn the_table_shows_them_beneath_their_flow_and_in_its_columns() {
        insta::assert_snapshot!(listing(ListFormat::Table, &[plain(), flow()]), @r"
        Proto Local Address Foreign Address    State       Peer State  Packets Bytes Timer
        tcp   192.0.2.1:443 198.51.100.9:40003 CLOSE_WAIT  FIN_WAIT2         1    60 half_closed (14m58s/0)
                2.0s ago                       LISTEN      SYN_SENT    -
                …
                1.9s ago for 0.9s              ESTABLISHED ESTABLISHED tracked
                0.9s ago for 0.1s              ESTABLISHED FIN_WAIT1   tracked
                0.8s ago for 0.8s              CLOSE_WAIT  FIN_WAIT2   tracked
                refused 1.5s ago: an RST of the responder has the sequence number 101001, outside the initiator's window, 1001 to 1257 (RFC 5961 3)
        tcp   192.0.2.1:443 198.51.100.9:40004 LISTEN      SYN_SENT          1    60 syn_sent (118s/0)
                2.0s ago for 2.0s              LISTEN      SYN_SENT    -
        ");
    }

    #[test]
    fn json_has_all_of_it() {
        let text = listing(ListFormat::Json, &[flow()]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let [history, refusal] = ["history", "last_refusal"].map(|key| &value[0][key]);
        insta::assert_snapshot!(format!("{history}\n{refusal:#}"), @r#"
        [{"ago_ms":2000,"initiator":"SYN_SENT","lasted_ms":null,"reason":null,"responder":"LISTEN"},null,{"ago_ms":1900,"initiator":"ESTABLISHED","lasted_ms":999,"reason":"tracked","responder":"ESTABLISHED"},{"ago_ms":901,"initiator":"FIN_WAIT_1","lasted_ms":100,"reason":"tracked","responder":"ESTABLISHED"},{"ago_ms":801,"initiator":"FIN_WAIT_2","lasted_ms":801,"reason":"tracked","responder":"CLOSE_WAIT"}]
        {
          "ack": 7,
          "ago_ms": 1501,
          "flags": [
            "RST",
            "ACK"
          ],
          "high": 1257,
          "length": 0,
          "low": 1001,
          "reason": "reset_outside_window",
          "sender": "responder",
          "seq": 101001,
          "text": "an RST of the responder has the sequence number 101001, outside the initiator's window, 1001 to 1257 (RFC 5961 3)",
          "value": 101001
        }
        "#);
        let value: serde_json::Value =
            serde_json::from_str(&listing(ListFormat::Ndjson, &[plain()])).unwrap();
        assert_eq!(value["last_refusal"], serde_json::Value::Null);
        assert_eq!(value["history"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn csv_has_the_refusal() {
        let text = listing(ListFormat::Csv, &[flow(), plain()]);
        let columns: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [columns[0]; 3]);
        let lines = text.lines().map(|line| {
            let ends: Vec<&str> = line.rsplitn(7, ',').take(6).collect();
            ends.into_iter().rev().collect::<Vec<_>>().join(",")
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        refused_ago_ms,refused_reason,refused_sender,refused_value,refused_low,refused_high
        1501,reset_outside_window,responder,101001,1001,1257
        ,,,,,
        ");
    }
}
