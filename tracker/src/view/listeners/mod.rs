//! The sockets that accept connections, and how each is defended: what `tracker
//! listeners` shows.
//!
//! The programs know concrete addresses, a socket may be bound to all of them: what
//! is known of the addresses adds up in the row of the socket that the kernel would
//! give a connection to.

mod formats;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::IpAddr};

use tracker_common::{
    abi::{CookieMode, Listener, Place},
    tcp::Options,
    time::{Tick, ms_from_ticks},
};

use super::place;
use crate::sockets::Listening;

/// What the tracker knows.
#[derive(Clone, Debug)]
pub struct Known {
    /// The moment of the look.
    pub now: Tick,
    /// By address and port.
    pub listeners: Vec<(Place, Listener)>,
    /// Half-open flows by address and port.
    pub half_open: HashMap<Place, u64>,
    /// Half-open flows that one address and port may have, 0 for any number.
    pub limit: u32,
    /// When SYNs are answered with a cookie; `None` where that is not known.
    pub cookies: Option<CookieMode>,
    /// Whether they are, in adaptive mode.
    pub answering: bool,
}

/// The list.
#[derive(Clone, Debug)]
pub struct Listeners {
    rows: Vec<Row>,
    /// Of one address and port; 0 for any number.
    limit: u32,
    /// Whether there is a tracker.
    tracked: bool,
    /// Whether adaptive cookies are on.
    answering: bool,
}

/// A socket, or an address that the tracker counts for and no socket here has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    at: (IpAddr, u16),
    /// `None` where connections are accepted elsewhere, or were.
    sockets: Option<Sockets>,
    state: State,
    addresses: Vec<Address>,
}

/// Sockets bound to the same address, port and interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sockets {
    dual_stack: bool,
    ifindex: u32,
    /// More than one with `SO_REUSEPORT`.
    count: u64,
    /// Those whose queue is full.
    full: u64,
    /// Connections that wait in all of them.
    queue: u64,
    /// Connections that may wait.
    backlog: u64,
}

/// An address on which connections to a socket come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    at: (IpAddr, u16),
    zone: u32,
    state: State,
}

/// What is known of an address, or of all addresses of a socket together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    half_open: u64,
    sent: u64,
    valid: u64,
    invalid: u64,
    expired: u64,
    retransmitted: u64,
    cookies: Cookies,
    learnt: Option<Learnt>,
}

/// When SYNs to it are answered with a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cookies {
    /// Not known.
    #[default]
    Unknown,
    /// As that says.
    Mode(CookieMode),
    /// Not the same on all of its addresses.
    Mixed,
}

/// What its last own SYN-ACK said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learnt {
    ago_ms: u64,
    mss: Option<u16>,
    scale: Option<u8>,
}

impl Cookies {
    const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Mode(mode) => Some(mode.as_str()),
            Self::Mixed => Some("mixed"),
        }
    }

    const fn is_adaptive(self) -> bool {
        matches!(self, Self::Mode(CookieMode::Adaptive))
    }
}

impl State {
    fn of(listener: &Listener, half_open: u64, known: &Known) -> Self {
        let mode = CookieMode::from_raw(listener.mode).or(known.cookies);
        // What only the agent has written announces nothing.
        let learnt = (listener.window != 0).then(|| Learnt {
            ago_ms: ms_from_ticks(known.now.since(listener.seen)),
            mss: (listener.mss != 0).then_some(listener.mss),
            scale: (listener.options & Options::SCALE != 0).then_some(listener.scale),
        });
        Self {
            half_open,
            sent: listener.sent,
            valid: listener.valid,
            invalid: listener.invalid,
            expired: listener.expired,
            retransmitted: listener.retransmitted,
            cookies: mode.map_or(Cookies::Unknown, Cookies::Mode),
            learnt,
        }
    }

    /// Both together: what was learnt last stands for both.
    fn and(self, other: Self) -> Self {
        let latest = |one: Learnt, other: Learnt| {
            if other.ago_ms < one.ago_ms {
                other
            } else {
                one
            }
        };
        Self {
            half_open: self.half_open.saturating_add(other.half_open),
            sent: self.sent.saturating_add(other.sent),
            valid: self.valid.saturating_add(other.valid),
            invalid: self.invalid.saturating_add(other.invalid),
            expired: self.expired.saturating_add(other.expired),
            retransmitted: self.retransmitted.saturating_add(other.retransmitted),
            cookies: if self.cookies == other.cookies {
                self.cookies
            } else {
                Cookies::Mixed
            },
            learnt: match (self.learnt, other.learnt) {
                (Some(one), Some(other)) => Some(latest(one, other)),
                (one, other) => one.or(other),
            },
        }
    }
}

impl Listeners {
    /// Joins the sockets with what the tracker knows, `None` without one.
    #[must_use]
    pub fn new(sockets: &[Listening], known: Option<&Known>) -> Self {
        let mut rows = grouped(sockets);
        if let Some(known) = known {
            join(&mut rows, known);
        }
        rows.sort_by(|one, other| {
            let order = |row: &Row| (row.sockets.is_none(), row.at.1, row.at.0);
            order(one).cmp(&order(other))
        });
        Self {
            rows,
            limit: known.map_or(0, |known| known.limit),
            tracked: known.is_some(),
            answering: known.is_some_and(|known| known.answering),
        }
    }
}

/// The sockets by address, port and interface.
fn grouped(sockets: &[Listening]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for socket in sockets {
        let one = Sockets {
            dual_stack: socket.dual_stack,
            ifindex: socket.ifindex,
            count: 1,
            // net/sock.h, `sk_acceptq_is_full`.
            full: u64::from(socket.queue > socket.backlog),
            queue: socket.queue.into(),
            backlog: socket.backlog.into(),
        };
        let at = (socket.address, socket.port);
        let same = rows.iter_mut().find_map(|row| {
            let sockets = row.sockets.as_mut()?;
            let same = row.at == at
                && sockets.ifindex == one.ifindex
                && sockets.dual_stack == one.dual_stack;
            same.then_some(sockets)
        });
        match same {
            Some(sockets) => {
                sockets.count += 1;
                sockets.full += one.full;
                sockets.queue += one.queue;
                sockets.backlog += one.backlog;
            }
            None => rows.push(Row {
                at,
                sockets: Some(one),
                state: State::default(),
                addresses: Vec::new(),
            }),
        }
    }
    rows
}

/// Gives each row what is known of its addresses; adds rows for addresses that no
/// socket has.
fn join(rows: &mut Vec<Row>, known: &Known) {
    let mut places: HashMap<Place, Listener> = known.listeners.iter().copied().collect();
    for place in known.half_open.keys() {
        places.entry(*place).or_default();
    }
    for (place, listener) in places {
        let Some(at) = place::listener(&place) else {
            continue;
        };
        let half_open = known.half_open.get(&place).copied().unwrap_or(0);
        let address = Address {
            at,
            zone: place.zone,
            state: State::of(&listener, half_open, known),
        };
        match rows
            .iter_mut()
            .filter(|row| {
                row.sockets
                    .is_some_and(|sockets| takes(row.at, sockets, at))
            })
            .min_by_key(|row| distance(row.at.0, at.0))
        {
            Some(row) => row.addresses.push(address),
            None => rows.push(Row {
                at,
                sockets: None,
                state: State::default(),
                addresses: vec![address],
            }),
        }
    }
    for row in rows {
        row.addresses
            .sort_by_key(|address| (address.at, address.zone));
        let of_none = State::of(&Listener::default(), 0, known);
        let states = row.addresses.iter().map(|address| address.state);
        row.state = states.reduce(State::and).unwrap_or(of_none);
    }
}

/// Whether connections to `at` may reach a socket bound to `bound`.
fn takes(bound: (IpAddr, u16), sockets: Sockets, at: (IpAddr, u16)) -> bool {
    let all =
        bound.0.is_unspecified() && (bound.0.is_ipv4() == at.0.is_ipv4() || sockets.dual_stack);
    bound.1 == at.1 && (bound.0 == at.0 || all)
}

/// The kernel prefers an exact address, then a socket of the same family
/// (`compute_score` in net/ipv4/inet_hashtables.c).
fn distance(bound: IpAddr, at: IpAddr) -> u8 {
    match (bound == at, bound.is_ipv4() == at.is_ipv4()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}
