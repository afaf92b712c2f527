//! The listeners as a table.

use std::io::{self, Write};

use super::{Address, Learnt, Listeners, Row, State};
use crate::view::{
    Names,
    place::Tags,
    text::{self, Short, Span},
};

/// Rows of addresses that no socket here has; a scan can make any number.
const ELSEWHERE: usize = 20;

/// The columns of one line, as text.
struct Line {
    proto: &'static str,
    at: String,
    queue: String,
    half_open: String,
    cookies: String,
    learnt: String,
    mss: String,
    scale: String,
    counts: [u64; 5],
}

/// Stands for what is not known or is none.
const NONE: &str = "-";

impl Listeners {
    /// Writes a table for people; with `addresses` the addresses beneath each
    /// socket on which connections came in.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn table(&self, out: &mut impl Write, names: &Names, addresses: bool) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut elsewhere = 0;
        for row in &self.rows {
            if row.sockets.is_none() {
                elsewhere += 1;
                if elsewhere > ELSEWHERE {
                    continue;
                }
            }
            lines.push(self.line(row, names));
            if addresses && row.sockets.is_some() {
                lines.extend(row.addresses.iter().map(|address| self.beneath(address)));
            }
        }
        self.write(out, &lines)?;
        if elsewhere > ELSEWHERE {
            writeln!(
                out,
                "… and {} more that no socket here has",
                elsewhere - ELSEWHERE
            )?;
        }
        Ok(())
    }

    fn write(&self, out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
        let width = |title: &str, of: fn(&Line) -> &String| {
            let longest = lines.iter().map(|line| of(line).chars().count()).max();
            longest.unwrap_or(0).max(title.len())
        };
        let at = width("Local Address", |line| &line.at);
        let queue = width("Accept queue", |line| &line.queue);
        write!(
            out,
            "{:<5} {:<at$} {:>queue$}",
            "Proto", "Local Address", "Accept queue"
        )?;
        if !self.tracked {
            writeln!(out)?;
            for line in lines {
                writeln!(
                    out,
                    "{:<5} {:<at$} {:>queue$}",
                    line.proto, line.at, line.queue
                )?;
            }
            return Ok(());
        }
        let half_open = width("Half-open", |line| &line.half_open);
        let cookies = width("Cookies", |line| &line.cookies);
        let learnt = width("Learnt", |line| &line.learnt);
        writeln!(
            out,
            " {:>half_open$} {:<cookies$} {:>learnt$} {:>5} {:>5} {:>5} {:>6} {:>5} {:>7} {:>7}",
            "Half-open",
            "Cookies",
            "Learnt",
            "MSS",
            "Scale",
            "Sent",
            "Resent",
            "Valid",
            "Expired",
            "Invalid"
        )?;
        for line in lines {
            let [sent, resent, valid, expired, invalid] =
                line.counts.map(|count| Short(count).to_string());
            writeln!(
                out,
                "{:<5} {:<at$} {:>queue$} {:>half_open$} {:<cookies$} {:>learnt$} {:>5} {:>5} \
                 {sent:>5} {resent:>6} {valid:>5} {expired:>7} {invalid:>7}",
                line.proto,
                line.at,
                line.queue,
                line.half_open,
                line.cookies,
                line.learnt,
                line.mss,
                line.scale,
            )?;
        }
        Ok(())
    }

    fn line(&self, row: &Row, names: &Names) -> Line {
        let mut at = socket(row.at);
        let queue = match row.sockets {
            Some(sockets) => {
                if sockets.ifindex != 0 {
                    at += &format!("%{}", names.plain(sockets.ifindex));
                }
                let number = match sockets.count {
                    1 => String::new(),
                    count => format!(" in {count}"),
                };
                let full = if sockets.full > 0 { " FULL" } else { "" };
                format!("{}/{}{number}{full}", sockets.queue, sockets.backlog)
            }
            None => {
                if let [address] = row.addresses.as_slice() {
                    at += &Tags(address.zone).to_string();
                }
                "no socket".to_owned()
            }
        };
        let proto = if row.at.0.is_ipv4() {
            "tcp"
        } else if row.sockets.is_some_and(|sockets| sockets.dual_stack) {
            "tcp46"
        } else {
            "tcp6"
        };
        self.filled(proto, at, queue, &row.state)
    }

    fn beneath(&self, address: &Address) -> Line {
        let at = format!("  {}{}", socket(address.at), Tags(address.zone));
        self.filled("", at, String::new(), &address.state)
    }

    fn filled(&self, proto: &'static str, at: String, queue: String, state: &State) -> Line {
        let optional = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
        let learnt = state.learnt;
        let said = |of: fn(Learnt) -> Option<String>| optional(learnt.and_then(of));
        let cookies = match (state.cookies.as_str(), state.cookies.is_adaptive()) {
            (None, _) => NONE.to_owned(),
            (Some(mode), false) => mode.to_owned(),
            (Some(mode), true) if self.answering => format!("{mode}, on"),
            (Some(mode), true) => format!("{mode}, off"),
        };
        Line {
            proto,
            at,
            queue,
            half_open: match self.limit {
                0 => state.half_open.to_string(),
                limit => format!("{}/{limit}", state.half_open),
            },
            cookies,
            learnt: said(|learnt| Some(format!("{} ago", Span(learnt.ago_ms)))),
            mss: said(|learnt| learnt.mss.map(|mss| mss.to_string())),
            scale: said(|learnt| learnt.scale.map(|scale| scale.to_string())),
            counts: [
                state.sent,
                state.retransmitted,
                state.valid,
                state.expired,
                state.invalid,
            ],
        }
    }
}

/// Address and port; `0.0.0.0` and `::` as they are.
fn socket(at: (std::net::IpAddr, u16)) -> String {
    let mut text = Vec::new();
    match text::socket(&mut text, at) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // A vector takes everything.
        Err(error) => error.to_string(),
    }
}
