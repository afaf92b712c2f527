//! What is done against floods, in the statistics.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use tracker_common::{
    abi::{AtLimit, CookieMode, Gauge, Live, Mode, Place, defence_flags},
    reason::Reason,
};

use super::Snapshot;
use crate::view::{
    head::Health,
    place::{self, Tags},
    text::Span,
};

/// How many listeners and sources are shown.
const TOP: usize = 5;

/// What was read about the defence beside the maps of every tracker.
#[derive(Clone, Debug, Default)]
pub struct Defence {
    /// What the agent, or the last one, does with SYN cookies; `None` where none
    /// has said so.
    pub cookies: Option<CookiesDone>,
    /// Cookies that came back too late, of all listeners that are known.
    pub cookies_expired: u64,
    /// SYNs answered that were sent again, of all listeners that are known.
    pub cookies_retransmitted: u64,
    /// Half-open flows by listener and by source prefix.
    pub half_open: Vec<(Place, u64)>,
    /// Bans that have not ended.
    pub bans: u64,
    /// Bans that the agent made by itself.
    pub bans_made: u64,
    /// Flows by which recounts found the gauges wrong.
    pub corrected_gauges: u64,
    /// Flows by which they found the counts of listeners and sources wrong.
    pub corrected_shares: u64,
    /// Since when a flood goes on, ns of `CLOCK_MONOTONIC`.
    pub flood_since_ns: Option<u64>,
    /// Floods that began.
    pub floods: u64,
    /// Those of them that were not told.
    pub floods_suppressed: u64,
}

/// See [`Defence::cookies`].
#[derive(Clone, Copy, Debug)]
pub struct CookiesDone {
    /// As configured.
    pub mode: CookieMode,
    /// Since when SYNs are answered, ns of `CLOCK_MONOTONIC`.
    pub on_since_ns: Option<u64>,
    /// How often that began.
    pub times_on: u64,
}

/// The same as an object.
#[derive(Serialize)]
pub(super) struct Document {
    cookies: Cookies,
    calling: u64,
    at_limit: Option<&'static str>,
    listener_limit: Option<u32>,
    source_limit: Option<u32>,
    listeners: Vec<Listener>,
    sources: Vec<Source>,
    bans: Bans,
    corrections: Corrections,
    floods: Floods,
}

#[derive(Serialize)]
struct Cookies {
    mode: Option<&'static str>,
    on: bool,
    on_ms: Option<u64>,
    times_on: Option<u64>,
    sent: u64,
    returned: u64,
    invalid: u64,
    untracked: u64,
    expired: u64,
    retransmitted: u64,
}

#[derive(Serialize)]
struct Listener {
    address: IpAddr,
    port: u16,
    zone: u32,
    half_open: u64,
}

#[derive(Serialize)]
struct Source {
    prefix: IpNet,
    zone: u32,
    half_open: u64,
}

#[derive(Serialize)]
struct Bans {
    held: u64,
    made: u64,
}

#[derive(Serialize)]
struct Corrections {
    gauges: u64,
    shares: u64,
}

#[derive(Serialize)]
struct Floods {
    begun: u64,
    suppressed: u64,
    lasting_ms: Option<u64>,
}

impl Snapshot {
    /// The defence as an object.
    pub(super) fn defence_document(&self) -> Document {
        let Defence {
            cookies: _,
            cookies_expired: _,
            cookies_retransmitted: _,
            half_open: _,
            bans,
            bans_made,
            corrected_gauges,
            corrected_shares,
            flood_since_ns: _,
            floods,
            floods_suppressed,
        } = self.defence;
        let live = &self.live;
        Document {
            cookies: self.cookies(),
            calling: self.gauge(Gauge::Calling),
            at_limit: at_limit(live).map(AtLimit::as_str),
            listener_limit: limit(live.listener_limit),
            source_limit: limit(live.source_limit),
            listeners: self.top_listeners(),
            sources: self.top_sources(),
            bans: Bans {
                held: bans,
                made: bans_made,
            },
            corrections: Corrections {
                gauges: corrected_gauges,
                shares: corrected_shares,
            },
            floods: Floods {
                begun: floods,
                suppressed: floods_suppressed,
                lasting_ms: self.flood_ms(),
            },
        }
    }

    fn cookies(&self) -> Cookies {
        let done = self.defence.cookies;
        let on = self.live.defence & defence_flags::ANSWER != 0;
        let packets = |reason| self.counted(reason).map(|count| count.packets).iter().sum();
        Cookies {
            mode: done.map(|done| done.mode.as_str()),
            on,
            on_ms: done
                .and_then(|done| done.on_since_ns)
                .filter(|_| on)
                .map(|since| self.ms_since(since)),
            times_on: done.map(|done| done.times_on),
            sent: packets(Reason::CookieSent),
            returned: packets(Reason::CookieReturned),
            invalid: packets(Reason::CookieInvalid),
            untracked: packets(Reason::CookieUntracked),
            expired: self.defence.cookies_expired,
            retransmitted: self.defence.cookies_retransmitted,
        }
    }

    /// How long a flood has been going on. Without an agent nobody would see its
    /// end.
    fn flood_ms(&self) -> Option<u64> {
        let since = self.defence.flood_since_ns?;
        matches!(self.health(), Health::Well { .. }).then(|| self.ms_since(since))
    }

    const fn ms_since(&self, then_ns: u64) -> u64 {
        self.now_ns.saturating_sub(then_ns) / 1_000_000
    }

    fn top_listeners(&self) -> Vec<Listener> {
        let listeners = self.defence.half_open.iter().filter_map(|(place, flows)| {
            let (address, port) = place::listener(place)?;
            Some(Listener {
                address,
                port,
                zone: place.zone,
                half_open: *flows,
            })
        });
        top(listeners, |it| (it.half_open, it.address, it.port, it.zone))
    }

    fn top_sources(&self) -> Vec<Source> {
        let sources = self.defence.half_open.iter().filter_map(|(place, flows)| {
            Some(Source {
                prefix: place::source(place, self.live.source_bits)?,
                zone: place.zone,
                half_open: *flows,
            })
        });
        top(sources, |it| (it.half_open, it.prefix.addr(), 0, it.zone))
    }

    /// The lines of the summary.
    pub(super) fn defence_lines(&self, out: &mut impl Write) -> io::Result<()> {
        let calling = self.gauge(Gauge::Calling);
        if calling > 0 {
            writeln!(out, "Calling     {calling} more that local clients opened")?;
        }
        if self.live.mode == Mode::Enforce as u8 {
            self.cookie_lines(out)?;
        }
        let Defence {
            bans,
            bans_made,
            corrected_gauges,
            corrected_shares,
            floods,
            floods_suppressed,
            ..
        } = self.defence;
        if let Some(ms) = self.flood_ms() {
            let since = Span(ms);
            writeln!(
                out,
                "Flood       going on for {since}; `tracker listeners` shows where"
            )?;
        }
        if floods > 0 {
            let quiet = match floods_suppressed {
                0 => String::new(),
                count => format!(", {count} of them not logged"),
            };
            writeln!(out, "Floods      {floods} so far{quiet}")?;
        }
        if bans | bans_made > 0 {
            writeln!(
                out,
                "Bans        {bans} in force, {bans_made} ever made by the agent"
            )?;
        }
        if corrected_gauges | corrected_shares > 0 {
            writeln!(
                out,
                "Recounts    corrected the gauges by {corrected_gauges}, the counts of listeners and \
                 sources by {corrected_shares}"
            )?;
        }
        Ok(())
    }

    fn cookie_lines(&self, out: &mut impl Write) -> io::Result<()> {
        let cookies = self.cookies();
        let state = match (cookies.mode, cookies.on, cookies.on_ms) {
            (None, false, _) => "off".to_owned(),
            (None, true, _) => "on".to_owned(),
            (Some("adaptive"), false, _) => "adaptive, off".to_owned(),
            (Some("adaptive"), true, Some(ms)) => format!("adaptive, on for {}", Span(ms)),
            (Some("adaptive"), true, None) => "adaptive, on".to_owned(),
            (Some(mode), _, _) => mode.to_owned(),
        };
        let times = match (cookies.mode, cookies.times_on) {
            (Some("adaptive"), Some(1)) => " (turned on once)".to_owned(),
            (Some("adaptive"), Some(times)) if times > 1 => format!(" (turned on {times} times)"),
            _ => String::new(),
        };
        writeln!(
            out,
            "Cookies     {state}{times}: {} sent, {} of them again, {} came back, {} too late, {} \
             invalid, {} with no room for their flow",
            cookies.sent,
            cookies.retransmitted,
            cookies.returned,
            cookies.expired,
            cookies.invalid,
            cookies.untracked
        )?;
        let any = |limit: u32| match limit {
            0 => "any number".to_owned(),
            limit => limit.to_string(),
        };
        let live = &self.live;
        writeln!(
            out,
            "At a limit  {}; a listener may have {} half-open flows, a source {}",
            at_limit(live).map_or("unknown", AtLimit::as_str),
            any(live.listener_limit),
            any(live.source_limit)
        )
    }

    /// The listeners and sources with most half-open flows.
    pub(super) fn half_open_table(&self, out: &mut impl Write) -> io::Result<()> {
        let limited = |flows: u64, limit: u32| match limit {
            0 => flows.to_string(),
            limit => format!("{flows} of {limit}"),
        };
        let listeners = self.top_listeners().into_iter().map(|it| {
            let at = std::net::SocketAddr::new(it.address, it.port);
            let flows = limited(it.half_open, self.live.listener_limit);
            (format!("{at}{}", Tags(it.zone)), flows)
        });
        let sources = self.top_sources().into_iter().map(|it| {
            let flows = limited(it.half_open, self.live.source_limit);
            (format!("{}{}", it.prefix, Tags(it.zone)), flows)
        });
        let tables: [(&str, Vec<(String, String)>); 2] = [
            ("Half-open at", listeners.collect()),
            ("Half-open from", sources.collect()),
        ];
        for (title, rows) in tables {
            if rows.is_empty() {
                continue;
            }
            writeln!(out, "\n{title:<25} {:>10}", "Flows")?;
            for (name, flows) in rows {
                writeln!(out, "{name:<25} {flows:>10}")?;
            }
        }
        Ok(())
    }
}

/// The largest few by `rank`, the largest first.
fn top<T, K: Ord>(items: impl Iterator<Item = T>, rank: impl Fn(&T) -> K) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_by_cached_key(|item| std::cmp::Reverse(rank(item)));
    items.truncate(TOP);
    items
}

/// `None` for a number that is none of ours.
fn at_limit(live: &Live) -> Option<AtLimit> {
    [AtLimit::Cookie, AtLimit::Drop, AtLimit::EvictOldest]
        .into_iter()
        .find(|choice| *choice as u8 == live.at_limit)
}

const fn limit(limit: u32) -> Option<u32> {
    match limit {
        0 => None,
        limit => Some(limit),
    }
}
