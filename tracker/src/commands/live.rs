//! The live table of `tracker watch` and `tracker run`.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    colours,
    look::{Look, local_addresses, names, xdp_mode},
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

/// Shows the flows of `pinned` on the terminal, anew every `interval`,
/// until the user leaves or `stop` is set. `footer` gives the last line.
///
/// # Errors
///
/// When the maps cannot be read or the terminal not be used. The terminal is
/// given back all the same.
pub fn show(
    pinned: &Pinned,
    interval: Duration,
    stop: &AtomicBool,
    footer: impl Fn() -> Option<String>,
) -> Result<Ended> {
    let mut picture = Picture::new(local_addresses()?, colours());
    let mut screen = Screen::enter()?;
    loop {
        let drawn = Instant::now();
        screen.draw(picture.frame(pinned, Screen::size()?, footer())?)?;
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
    fn frame(&mut self, pinned: &Pinned, size: Size, footer: Option<String>) -> Result<&[u8]> {
        let look = Look::begin(pinned)?;
        self.table.clear();
        look.flows(pinned, |row| {
            if let Some(row) = row {
                self.table.push(&row);
            }
            Ok(())
        })?;
        let names = names()?;
        let interfaces: Vec<_> = pinned
            .interfaces()?
            .into_iter()
            .map(|(index, _)| (names.plain(index), xdp_mode(pinned.dir(), index)))
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
            let line: String = footer
                .chars()
                .filter(|c| !c.is_control())
                .take(size.width)
                .collect();
            self.frame.write_all(line.as_bytes())?;
        }
        Ok(&self.frame)
    }
}
