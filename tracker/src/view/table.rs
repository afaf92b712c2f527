//! The table of flows, which reads like `netstat -tn`.
//!
//! State names are netstat's. Where one end is this machine, it stands first and
//! `State` is its state, as in netstat; a flow that is only forwarded has its
//! initiator first. The other end's state stands beside it, so `grep SYN_RECV`
//! finds a half-open connection whichever end it is that waits. The timer reads
//! as netstat's do: what it is, and in brackets the time left and how many
//! segments of the handshake were sent again.

mod layout;

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    fmt,
    io::{self, Write},
    net::IpAddr,
};

use tracker_common::{
    abi::{Cause, INITIATOR, RESPONDER},
    tcp::{State, timeout::Class},
};

use self::layout::{
    BYTES_WIDTH, ENDED, Layout, PACKETS_WIDTH, PEER, RULE, RULE_WIDTH, STATE, STATE_WIDTH, TIMER,
    measure,
};
use super::{
    Details, Names, Row,
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
    /// Names of rules by their numbers.
    rules: HashMap<u16, String>,
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
    /// Number of the rule that admitted it.
    rule: u16,
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

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(local: LocalAddresses, colours: bool) -> Self {
        Self {
            local,
            colours,
            lines: Vec::new(),
            beneath: Vec::new(),
            rules: HashMap::new(),
        }
    }

    /// Names the rules that admitted flows, which then have a column.
    pub fn name_rules(&mut self, names: &Names) {
        self.rules = names
            .rules()
            .map(|(number, name)| (number, name.chars().take(RULE_WIDTH).collect()))
            .collect();
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
            rule: row.flow().rule,
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

        let mut layout = measure(lines, titles, &self.rules);
        if let Some(width) = fit.width {
            layout.narrow(width);
        }
        header(out, &layout, titles, colours)?;
        let mut scratch = Vec::with_capacity(64);
        for line in &*lines {
            let rule = self.rules.get(&line.rule).map(String::as_str);
            write_line(out, line, rule, &layout, colours, &mut scratch)?;
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
    if layout.rule > 0 {
        write!(out, " {RULE:<width$}", width = layout.rule)?;
    }
    if layout.left > 0 {
        write!(out, " {TIMER}")?;
    }
    out.write_all(if colours { b"\x1b[0m\n" } else { b"\n" })
}

fn write_line(
    out: &mut impl Write,
    line: &Line,
    rule: Option<&str>,
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
    if layout.rule > 0 {
        write!(out, "{:<width$} ", rule.unwrap_or("-"), width = layout.rule)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{Sample, clock};

    #[test]
    fn rules_have_a_column_while_there_is_room_and_they_have_names() {
        let mut sample = Sample::new(
            "198.51.100.9:40003",
            "192.0.2.1:443",
            [State::Established; 2],
        );
        sample.flow.rule = 7;
        let clock = clock();
        let written = |names: &Names, width| {
            let mut table = Table::new(LocalAddresses::default(), false);
            table.name_rules(names);
            let row = Row::new(sample.family, &sample.key, &sample.flow, &clock);
            table.push(&row.unwrap());
            let mut out = Vec::new();
            let fit = Fit {
                width,
                height: None,
            };
            table.write(&mut out, fit).unwrap();
            String::from_utf8(out).unwrap()
        };
        let names = Names::default().with_rules([(7, "a rule — with a long name".to_owned())]);
        let text = written(&names, None);
        let [head, line] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}");
        };
        let column = head.chars().collect::<String>().find("Rule").unwrap();
        let told: String = line.chars().skip(column).take(RULE_WIDTH + 1).collect();
        assert_eq!(told, "a rule — with a long ");
        assert!(!written(&names, Some(80)).contains("Rule"));
        assert!(!written(&Names::default(), None).contains("Rule"));
    }
}
