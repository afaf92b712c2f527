//! The live table of `tracker watch` and `tracker run`.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    colours,
    look::{Look, local_addresses, names},
    screen::{Screen, Size, Wake},
};
use crate::{
    datapath::Pinned,
    view::{Fit, LocalAddresses, Table, head::Head},
};

/// How long a request to stop may go unnoticed.
const NOTICE: Duration = Duration::from_millis(100);

/// Why the live table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its user left it.
    ByUser,
    /// It was told to stop.
    Stopped,
}

/// Shows flows on the terminal, anew every `interval`, until the user leaves or
/// `stop` is set. `pinned` is asked for the maps before each frame; an error
/// after the first is shown and tried again, since a tracker may come back.
/// `footer` gives the last line.
///
/// # Errors
///
/// When the maps cannot be read at first, or the terminal not be used. The
/// terminal is given back all the same.
pub fn show(
    pinned: impl Fn() -> Result<Arc<Pinned>>,
    interval: Duration,
    stop: &AtomicBool,
    footer: impl Fn() -> Option<String>,
) -> Result<Ended> {
    let local = local_addresses(&*pinned()?)?;
    let mut picture = Picture::new(local, colours());
    let mut screen = Screen::enter()?;
    loop {
        let drawn = Instant::now();
        let size = Screen::size();
        if let Err(error) = pinned().and_then(|pinned| picture.draw(&pinned, size, footer())) {
            picture.draw_error(&error, size)?;
        }
        screen.draw(&picture.frame)?;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(Ended::Stopped);
            }
            let left = interval.saturating_sub(drawn.elapsed());
            match Screen::wait(left.min(NOTICE))? {
                Wake::Quit => return Ok(Ended::ByUser),
                Wake::Redraw => break,
                Wake::Timeout if drawn.elapsed() >= interval => break,
                Wake::Timeout => {}
            }
        }
    }
}

/// What is on the screen; its memory is kept from one frame to the next.
struct Picture {
    table: Table,
    colours: bool,
    frame: Vec<u8>,
}

impl Picture {
    fn new(local: LocalAddresses, colours: bool) -> Self {
        Self {
            table: Table::new(local, colours),
            colours,
            frame: Vec::new(),
        }
    }

    /// Draws the pinned flows into `size`.
    fn draw(&mut self, pinned: &Pinned, size: Size, footer: Option<String>) -> Result<()> {
        let look = Look::begin(pinned)?;
        self.table.clear();
        look.flows(pinned, |row| {
            if let Some(row) = row {
                self.table.push(&row);
            }
            Ok(())
        })?;
        let names = names(pinned)?;
        self.table.name_rules(&names);
        let interfaces: Vec<_> = pinned
            .interfaces()?
            .into_iter()
            .map(|(index, _)| (names.plain(index), pinned.xdp_mode(index)))
            .collect();
        let head = Head {
            interfaces: &interfaces,
            live: &look.live,
            now_ns: look.now_ns,
            gauges: &pinned.gauges()?,
            flows: self.table.len(),
        };
        self.frame.clear();
        head.write(&mut self.frame, size.width, self.colours)?;
        let around = if footer.is_some() { 2 } else { 1 };
        let fit = Fit {
            width: Some(size.width),
            height: Some(size.height.saturating_sub(around)),
        };
        self.table.write(&mut self.frame, fit)?;
        if let Some(footer) = footer {
            let line: String = footer.chars().take(size.width).collect();
            self.text(&line, size)?;
        }
        Ok(())
    }

    /// Draws why there is nothing else.
    fn draw_error(&mut self, error: &anyhow::Error, size: Size) -> Result<()> {
        self.frame.clear();
        self.text("tracker | q quits", size)?;
        self.text(&format!("error: {error:#}"), size)
    }

    /// Adds lines of text, folded to the width.
    fn text(&mut self, text: &str, size: Size) -> Result<()> {
        let characters: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
        for line in characters.chunks(size.width.max(1)) {
            writeln!(self.frame, "{}", line.iter().collect::<String>())?;
        }
        Ok(())
    }
}
