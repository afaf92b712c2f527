//! The listeners for scripts. Fields are only ever added.

use std::io::{self, Write};

use serde::Serialize;

use super::{Address, Listeners, Row, State};
use crate::view::Names;

/// The header of CSV, without the line's end. Columns are only ever added, at the
/// end.
pub const HEADER: &str = "family,address,port,interface,dual_stack,sockets,full,accept_queue,\
    backlog,half_open,limit,cookies,answering,learnt_ms,mss,scale,cookies_sent,cookies_valid,\
    cookies_invalid,zone,bound,cookies_expired,cookies_retransmitted";

#[derive(Serialize)]
struct Object<'a> {
    family: &'static str,
    address: String,
    port: u16,
    interface: Option<&'a str>,
    dual_stack: bool,
    sockets: u64,
    full: u64,
    accept_queue: Option<u64>,
    backlog: Option<u64>,
    #[serde(flatten)]
    state: Option<Fields>,
    addresses: Vec<Beneath>,
}

#[derive(Serialize)]
struct Beneath {
    address: String,
    zone: u32,
    #[serde(flatten)]
    state: Fields,
}

#[derive(Serialize)]
struct Fields {
    half_open: u64,
    limit: Option<u32>,
    cookies: Option<&'static str>,
    answering: Option<bool>,
    learnt_ms: Option<u64>,
    mss: Option<u16>,
    scale: Option<u8>,
    cookies_sent: u64,
    cookies_valid: u64,
    cookies_invalid: u64,
    cookies_expired: u64,
    cookies_retransmitted: u64,
}

impl Listeners {
    /// Writes one array of objects. What only a tracker knows is left out without
    /// one.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn json(&self, out: &mut impl Write, names: &Names) -> io::Result<()> {
        let labels = self.labels(names);
        let objects: Vec<_> = self.objects(&labels).collect();
        serde_json::to_writer_pretty(&mut *out, &objects)?;
        out.write_all(b"\n")
    }

    /// Writes one object a line.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn ndjson(&self, out: &mut impl Write, names: &Names) -> io::Result<()> {
        let labels = self.labels(names);
        for object in self.objects(&labels) {
            serde_json::to_writer(&mut *out, &object)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Writes a header and one line for each socket; with `addresses` one for each
    /// of its addresses behind it, which names in `bound` where the socket is bound.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn csv(&self, out: &mut impl Write, names: &Names, addresses: bool) -> io::Result<()> {
        writeln!(out, "{HEADER}")?;
        for row in &self.rows {
            self.csv_row(out, row, names)?;
            if addresses && row.sockets.is_some() {
                for address in &row.addresses {
                    self.csv_address(out, row, address)?;
                }
            }
        }
        Ok(())
    }

    fn csv_row(&self, out: &mut impl Write, row: &Row, names: &Names) -> io::Result<()> {
        write!(out, "{},{},{},", family(row.at.0), row.at.0, row.at.1)?;
        match row.sockets {
            Some(sockets) => {
                names.csv(out, sockets.ifindex)?;
                write!(
                    out,
                    ",{},{},{},{},{}",
                    sockets.dual_stack, sockets.count, sockets.full, sockets.queue, sockets.backlog
                )?;
            }
            None => write!(out, ",false,0,0,,")?,
        }
        self.csv_state(out, &row.state)?;
        match (row.sockets, row.addresses.as_slice()) {
            (None, [address]) => write!(out, ",{},", address.zone)?,
            _ => write!(out, ",,")?,
        }
        self.csv_end(out, &row.state)
    }

    fn csv_address(&self, out: &mut impl Write, row: &Row, address: &Address) -> io::Result<()> {
        let (at, port) = address.at;
        write!(out, "{},{at},{port},,,,,,", family(at))?;
        self.csv_state(out, &address.state)?;
        write!(out, ",{},{}", address.zone, row.at.0)?;
        self.csv_end(out, &address.state)
    }

    fn csv_end(&self, out: &mut impl Write, state: &State) -> io::Result<()> {
        match self.fields(state) {
            Some(fields) => writeln!(
                out,
                ",{},{}",
                fields.cookies_expired, fields.cookies_retransmitted
            ),
            None => writeln!(out, ",,"),
        }
    }

    fn csv_state(&self, out: &mut impl Write, state: &State) -> io::Result<()> {
        let Some(fields) = self.fields(state) else {
            return write!(out, ",,,,,,,,,,");
        };
        write!(
            out,
            ",{},{},{},{},{},{},{},{},{},{}",
            fields.half_open,
            text(fields.limit),
            text(fields.cookies),
            text(fields.answering),
            text(fields.learnt_ms),
            text(fields.mss),
            text(fields.scale),
            fields.cookies_sent,
            fields.cookies_valid,
            fields.cookies_invalid
        )
    }

    /// The names of the interfaces that sockets are bound to, by row.
    fn labels(&self, names: &Names) -> Vec<Option<String>> {
        self.rows
            .iter()
            .map(|row| {
                let sockets = row.sockets.filter(|sockets| sockets.ifindex != 0)?;
                Some(names.plain(sockets.ifindex))
            })
            .collect()
    }

    fn objects<'a>(
        &'a self,
        labels: &'a [Option<String>],
    ) -> impl Iterator<Item = Object<'a>> + 'a {
        self.rows.iter().zip(labels).map(|(row, interface)| Object {
            family: family(row.at.0),
            address: row.at.0.to_string(),
            port: row.at.1,
            interface: interface.as_deref(),
            dual_stack: row.sockets.is_some_and(|sockets| sockets.dual_stack),
            sockets: row.sockets.map_or(0, |sockets| sockets.count),
            full: row.sockets.map_or(0, |sockets| sockets.full),
            accept_queue: row.sockets.map(|sockets| sockets.queue),
            backlog: row.sockets.map(|sockets| sockets.backlog),
            state: self.fields(&row.state),
            addresses: row
                .addresses
                .iter()
                .filter_map(|address| {
                    Some(Beneath {
                        address: address.at.0.to_string(),
                        zone: address.zone,
                        state: self.fields(&address.state)?,
                    })
                })
                .collect(),
        })
    }

    /// What a tracker knows; `None` without one.
    fn fields(&self, state: &State) -> Option<Fields> {
        self.tracked.then(|| Fields {
            half_open: state.half_open,
            limit: (self.limit != 0).then_some(self.limit),
            cookies: state.cookies.as_str(),
            answering: state.cookies.is_adaptive().then_some(self.answering),
            learnt_ms: state.learnt.map(|learnt| learnt.ago_ms),
            mss: state.learnt.and_then(|learnt| learnt.mss),
            scale: state.learnt.and_then(|learnt| learnt.scale),
            cookies_sent: state.sent,
            cookies_valid: state.valid,
            cookies_invalid: state.invalid,
            cookies_expired: state.expired,
            cookies_retransmitted: state.retransmitted,
        })
    }
}

const fn family(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A field, empty for what is null in JSON.
fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
