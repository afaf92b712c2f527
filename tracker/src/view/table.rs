//! The table of flows, which reads like `netstat -tn`.
//!
//! State names are netstat's. Where one end is this machine, it stands first and
//! `State` is its state, as in netstat; a flow that is only forwarded has its
//! initiator first. The other end's state stands beside it, so `grep SYN_RECV`
//! finds a half-open connection whichever end it is that waits. The timer reads
//! as netstat's do: what it is, and in brackets the time left and how many
//! segments of the handshake were sent again.

use std::{
    cmp::Ordering,
    collections::HashSet,
    fmt,
    io::{self, Write},
    net::IpAddr,
};

use tracker_common::{
    abi::{Cause, INITIATOR, RESPONDER},
    tcp::{State, timeout::Class},
};

use super::{
    Details, Row,
    beneath::Beneath,
    text::{self, Short, Span},
};

/// The addresses of this machine.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses(HashSet<IpAddr>);

impl LocalAddresses {
    /// These and all loopback addresses.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// The end that is this machine's, if just one is.
    fn end(&self, row: &Row<'_>) -> Option<usize> {
        let local = |end| {
            let (addr, _) = row.at(end);
            addr.is_loopback() || self.0.contains(&addr)
        };
        match (local(INITIATOR), local(RESPONDER)) {
            (true, false) => Some(INITIATOR),
            (false, true) => Some(RESPONDER),
            (true, true) | (false, false) => None,
        }
    }
}

/// The space that a table may take. None means as much as it needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit {
    /// Characters in a line.
    pub width: Option<usize>,
    /// Lines, the header included.
    pub height: Option<usize>,
}

/// Flows that will be sorted and printed.
#[derive(Debug)]
pub struct Table {
    local: LocalAddresses,
    colours: bool,
    lines: Vec<Line>,
    beneath: Vec<Beneath>,
}

/// What the table shows of one flow: small, since all of them are in memory.
#[derive(Clone, Copy, Debug)]
struct Line {
    ends: [(IpAddr, u16); 2],
    vlan: [u16; 2],
    states: [State; 2],
    local: bool,
    timer: Class,
    retransmits: u8,
    packets: u64,
    bytes: u64,
    expires_ms: u64,
    /// Why it has ended, where it is known and has.
    ended: Option<Cause>,
    /// Index in [`Table::beneath`].
    beneath: Option<u32>,
}

impl Line {
    fn order(&self, other: &Self) -> Ordering {
        (self.ends, self.vlan).cmp(&(other.ends, other.vlan))
    }

    /// The same with what is over behind what is not: a busy server has more
    /// connections in TIME_WAIT than a screen has lines.
    fn live_order(&self, other: &Self) -> Ordering {
        let over = |line: &Self| matches!(line.timer, Class::TimeWait | Class::Closed);
        over(self).cmp(&over(other)).then_with(|| self.order(other))
    }

    /// Time left and handshake segments sent again, as in netstat's timers.
    const fn left(&self) -> Left {
        Left(Span(self.expires_ms), self.retransmits)
    }
}

/// See [`Line::left`].
struct Left(Span, u8);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}/{})", self.0, self.1)
    }
}

/// Names of the columns between the addresses and the timer.
const STATE: &str = "State";
const PEER: &str = "Peer State";
const TIMER: &str = "Timer";
const ENDED: &str = "Ended";
/// Of the longest state's name.
const STATE_WIDTH: usize = 11;
/// Columns that a narrow terminal goes without, from the right.
const PACKETS_WIDTH: usize = 7;
const BYTES_WIDTH: usize = 5;
/// Addresses are not cut below this.
const LEAST_ADDRESS: usize = 12;

/// Widths and what is shown at all.
#[derive(Clone, Copy, Debug)]
struct Layout {
    address: [usize; 2],
    vlan: Option<usize>,
    packets: bool,
    bytes: bool,
    /// Width of why flows have ended, 0 where none has.
    ended: usize,
    /// Width of the timer's name and gap, 0 where it is not shown.
    timer: usize,
    /// Width of the timer's numbers, 0 where they are not shown.
    left: usize,
}

impl Layout {
    /// Where the column of the first state begins.
    fn states(&self) -> usize {
        let [first, second] = self.address;
        6 + first + 1 + second + 1 + self.vlan.map_or(0, |width| width + 1)
    }

    /// Width of everything but the addresses.
    fn rest(&self) -> usize {
        let optional = |shown, width| if shown { width + 1 } else { 0 };
        // Proto, and the gaps behind it, both addresses and each state.
        6 + 1
            + 1
            + 2 * (STATE_WIDTH + 1)
            + self.vlan.map_or(0, |width| width + 1)
            + optional(self.packets, PACKETS_WIDTH)
            + optional(self.bytes, BYTES_WIDTH)
            + optional(self.ended > 0, self.ended)
            + self.timer
            + self.left
    }

    /// Makes it at most `width` wide, if it can be: columns that matter least
    /// go first, then addresses are cut in their middle.
    fn narrow(&mut self, width: usize) {
        let fits = |layout: &Self| layout.rest() + layout.address.iter().sum::<usize>() <= width;
        for drop in [
            |layout: &mut Self| layout.timer = 0,
            |layout: &mut Self| layout.packets = false,
            |layout: &mut Self| layout.bytes = false,
        ] {
            if fits(self) {
                return;
            }
            drop(self);
        }
        if self.rest() + 2 * LEAST_ADDRESS > width {
            self.left = 0;
        }
        if !fits(self) {
            let both = width.saturating_sub(self.rest()).max(2 * LEAST_ADDRESS);
            let [first, second] = self.address;
            self.address = if first <= both / 2 {
                [first, both - first]
            } else if second <= both / 2 {
                [both - second, second]
            } else {
                [both / 2, both - both / 2]
            };
        }
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new(local: LocalAddresses, colours: bool) -> Self {
        Self {
            local,
            colours,
            lines: Vec::new(),
            beneath: Vec::new(),
        }
    }

    /// How many flows it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets the flows, keeps their memory.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.beneath.clear();
    }

    /// Adds a flow.
    pub fn push(&mut self, row: &Row<'_>) {
        let local = self.local.end(row);
        let ends = match local {
            Some(RESPONDER) => [RESPONDER, INITIATOR],
            _ => [INITIATOR, RESPONDER],
        };
        let path = row.seen_at();
        let [one, other] = ends.map(|end| row.end(end));
        self.lines.push(Line {
            ends: ends.map(|end| row.at(end)),
            vlan: [path.outer(), path.inner()],
            states: [one.state(), other.state()],
            local: local.is_some(),
            timer: row.timer(),
            retransmits: one.syn_retransmits.saturating_add(other.syn_retransmits),
            packets: one.packets().saturating_add(other.packets()),
            bytes: one.bytes.saturating_add(other.bytes),
            expires_ms: row.expires_ms(),
            ended: row.replayed().and_then(|replayed| replayed.ended),
            beneath: None,
        });
    }

    /// Adds a flow with what is remembered beside it.
    pub fn push_detailed(&mut self, row: &Row<'_>, details: &Details) {
        let swapped = self.local.end(row) == Some(RESPONDER);
        self.push(row);
        if let Some(line) = self.lines.last_mut() {
            line.beneath = u32::try_from(self.beneath.len()).ok();
            self.beneath.push(Beneath::new(row, details, swapped));
        }
    }

    /// Writes header and flows, sorted by address and port of the first end.
    /// Where the height is limited, flows that are over come behind the others,
    /// and the last line says how many did not fit.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn write(&mut self, out: &mut impl Write, fit: Fit) -> io::Result<()> {
        let room = fit
            .height
            .map_or(usize::MAX, |height| height.saturating_sub(1));
        let total = self.lines.len();
        let shown = if total <= room {
            total
        } else {
            room.saturating_sub(1)
        };
        let order = match fit.height {
            Some(_) => Line::live_order,
            None => Line::order,
        };
        if shown < total && shown > 0 {
            self.lines.select_nth_unstable_by(shown, order);
        }
        let colours = self.colours;
        let titles = titles(&self.lines);
        let lines = self.lines.get_mut(..shown).unwrap_or_default();
        lines.sort_unstable_by(order);

        let mut layout = measure(lines, titles);
        if let Some(width) = fit.width {
            layout.narrow(width);
        }
        header(out, &layout, titles, colours)?;
        let mut scratch = Vec::with_capacity(64);
        for line in &*lines {
            write_line(out, line, &layout, colours, &mut scratch)?;
            let beneath = line
                .beneath
                .and_then(|index| self.beneath.get(index as usize));
            if let Some(beneath) = beneath {
                beneath.write(out, layout.states(), STATE_WIDTH + 1)?;
            }
        }
        if shown < total {
            writeln!(out, "… and {} more", total - shown)?;
        }
        Ok(())
    }
}

/// What the columns of addresses hold.
fn titles(lines: &[Line]) -> [&'static str; 2] {
    let local = lines.iter().filter(|line| line.local).count();
    if local == lines.len() {
        ["Local Address", "Foreign Address"]
    } else if local == 0 {
        ["Initiator", "Responder"]
    } else {
        ["Local/Initiator", "Foreign/Responder"]
    }
}

/// The layout in which everything fits.
fn measure(lines: &[Line], titles: [&str; 2]) -> Layout {
    let mut address = titles.map(str::len);
    let (mut vlan, mut timer, mut left, mut ended) = (0, 0, TIMER.len(), 0);
    for line in lines {
        for (width, &at) in address.iter_mut().zip(&line.ends) {
            *width = (*width).max(text::socket_width(at));
        }
        vlan = vlan.max(match line.vlan {
            [0, _] => 0,
            [_, 0] => "VLAN".len(),
            _ => "4094.4094".len(),
        });
        timer = timer.max(line.timer.as_str().len() + 1);
        left = left.max(text::width(line.left()));
        if let Some(cause) = line.ended {
            ended = ended.max(cause.as_str().len()).max(ENDED.len());
        }
    }
    Layout {
        address,
        vlan: (vlan > 0).then_some(vlan),
        packets: true,
        bytes: true,
        ended,
        timer,
        left,
    }
}

fn header(
    out: &mut impl Write,
    layout: &Layout,
    titles: [&str; 2],
    colours: bool,
) -> io::Result<()> {
    let [first, second] = layout.address;
    let [one, other] = titles;
    if colours {
        out.write_all(b"\x1b[1m")?;
    }
    write!(
        out,
        "{:<5} {one:<first$.first$} {other:<second$.second$}",
        "Proto"
    )?;
    if let Some(width) = layout.vlan {
        write!(out, " {:<width$}", "VLAN")?;
    }
    write!(out, " {STATE:<STATE_WIDTH$} {PEER:<STATE_WIDTH$}")?;
    if layout.packets {
        write!(out, " {:>PACKETS_WIDTH$}", "Packets")?;
    }
    if layout.bytes {
        write!(out, " {:>BYTES_WIDTH$}", "Bytes")?;
    }
    if layout.ended > 0 {
        write!(out, " {ENDED:<width$}", width = layout.ended)?;
    }
    if layout.left > 0 {
        write!(out, " {TIMER}")?;
    }
    out.write_all(if colours { b"\x1b[0m\n" } else { b"\n" })
}

fn write_line(
    out: &mut impl Write,
    line: &Line,
    layout: &Layout,
    colours: bool,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    let [(first, _), _] = line.ends;
    out.write_all(if first.is_ipv4() {
        b"tcp   "
    } else {
        b"tcp6  "
    })?;
    for (&at, width) in line.ends.iter().zip(layout.address) {
        scratch.clear();
        text::socket(scratch, at)?;
        padded(out, scratch, width)?;
        out.write_all(b" ")?;
    }
    if let Some(width) = layout.vlan {
        scratch.clear();
        match line.vlan {
            [0, _] => scratch.push(b'-'),
            [outer, 0] => text::int(scratch, outer)?,
            [outer, inner] => write!(scratch, "{outer}.{inner}")?,
        }
        padded(out, scratch, width)?;
        out.write_all(b" ")?;
    }
    for state in line.states {
        let (on, off) = if colours { colour(state) } else { ("", "") };
        let name = state.netstat_name();
        out.write_all(on.as_bytes())?;
        out.write_all(name.as_bytes())?;
        out.write_all(off.as_bytes())?;
        spaces(out, STATE_WIDTH + 1 - name.len().min(STATE_WIDTH))?;
    }
    if layout.packets {
        right(out, scratch, line.packets, PACKETS_WIDTH)?;
    }
    if layout.bytes {
        right(out, scratch, line.bytes, BYTES_WIDTH)?;
    }
    if layout.ended > 0 {
        let cause = line.ended.map_or("-", Cause::as_str);
        padded(out, cause.as_bytes(), layout.ended)?;
        out.write_all(b" ")?;
    }
    if layout.timer > 0 {
        out.write_all(line.timer.as_str().as_bytes())?;
        out.write_all(b" ")?;
    }
    if layout.left > 0 {
        write!(out, "{}", line.left())?;
    }
    out.write_all(b"\n")
}

/// Writes `text` and fills up to `width`; a longer text loses its middle, since
/// an address is known by its two ends.
fn padded(out: &mut impl Write, text: &[u8], width: usize) -> io::Result<()> {
    match width.checked_sub(text.len()) {
        Some(missing) => {
            out.write_all(text)?;
            spaces(out, missing)
        }
        None => {
            let tail = width / 2;
            let (head, _) = text.split_at(width - tail - 1);
            let (_, tail) = text.split_at(text.len() - tail);
            out.write_all(head)?;
            out.write_all("…".as_bytes())?;
            out.write_all(tail)
        }
    }
}

/// Writes a count, aligned to the right, and a gap.
fn right(out: &mut impl Write, scratch: &mut Vec<u8>, number: u64, width: usize) -> io::Result<()> {
    scratch.clear();
    write!(scratch, "{}", Short(number))?;
    spaces(out, width.saturating_sub(scratch.len()))?;
    out.write_all(scratch)?;
    out.write_all(b" ")
}

fn spaces(out: &mut impl Write, count: usize) -> io::Result<()> {
    const SPACES: [u8; 64] = [b' '; 64];
    out.write_all(SPACES.get(..count).unwrap_or(&SPACES))
}

/// Escape sequences around a state: what opens is yellow, what is open green,
/// what closes cyan, what is over dim.
const fn colour(state: State) -> (&'static str, &'static str) {
    let on = match state {
        State::Listen | State::SynSent | State::SynReceived => "\x1b[33m",
        State::Established => "\x1b[32m",
        State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck => {
            "\x1b[36m"
        }
        State::TimeWait | State::Closed => "\x1b[2m",
    };
    (on, "\x1b[0m")
}
