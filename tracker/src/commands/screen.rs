//! The terminal while a live table is on it.

use std::{
    io::{self, BufWriter, Stdout, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyModifiers},
    execute, queue,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
        EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode, size,
    },
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// How long a new size of the terminal may go unnoticed.
const NOTICE: Duration = Duration::from_millis(100);

/// The alternate screen in raw mode. Dropping it gives the terminal back as it
/// was, whatever happened.
#[derive(Debug)]
pub struct Screen {
    out: BufWriter<Stdout>,
}

/// Space on the screen in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The time is over.
    Timeout,
    /// The screen is to be drawn again: its size changed, or somebody wants it.
    Redraw,
    /// The user wants to leave.
    Quit,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// When there is none or it refuses.
    pub fn enter() -> Result<Self> {
        enable_raw_mode().context("cannot take the terminal over")?;
        // From here on dropping it undoes what was done.
        let mut screen = Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
        };
        // Without wrapping, what is wider than a tiny terminal is cut off.
        execute!(screen.out, EnterAlternateScreen, DisableLineWrap, Hide)
            .context("cannot write to the terminal")?;
        Ok(screen)
    }

    /// How much fits. A terminal that does not tell gets the classic 80 by 24.
    #[must_use]
    pub fn size() -> Size {
        match size() {
            Ok((width, height)) if width > 0 && height > 0 => Size {
                width: width.into(),
                height: height.into(),
            },
            Ok(_) | Err(_) => Size {
                width: 80,
                height: 24,
            },
        }
    }

    /// Shows `frame`. What is wider or longer than the screen is cut off or pushes
    /// the rest up.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be written.
    pub fn draw(&mut self, frame: &[u8]) -> io::Result<()> {
        let frame = frame.strip_suffix(b"\n").unwrap_or(frame);
        queue!(self.out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        let mut lines = frame.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let last = lines.peek().is_none();
            // Before the text: behind a line that is as wide as the screen the
            // cursor stands on its last character.
            queue!(
                self.out,
                Clear(if last {
                    ClearType::FromCursorDown
                } else {
                    ClearType::CurrentLine
                })
            )?;
            self.out.write_all(line)?;
            if !last {
                self.out.write_all(b"\r\n")?;
            }
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }

    /// Waits for a key, a new size, or `timeout`.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be read, or is gone.
    pub fn wait(timeout: Duration) -> io::Result<Wake> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // crossterm would read a terminal that is gone again and again and
            // never return (crossterm issue 793), so it is only asked for what
            // is there. A new size comes as a signal, which may interrupt
            // another thread: it is looked for now and then.
            await_input(io::stdin(), left.min(NOTICE))?;
            while event::poll(Duration::ZERO)? {
                if let Some(wake) = wake(&event::read()?) {
                    return Ok(wake);
                }
            }
            if left.is_zero() {
                return Ok(Wake::Timeout);
            }
        }
    }
}

/// Waits until `input` can be read or `timeout` is over.
///
/// # Errors
///
/// When the other side of `input` is gone.
fn await_input(input: impl AsFd, timeout: Duration) -> io::Result<()> {
    let mut inputs = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(&mut inputs, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    let [input] = inputs;
    if input
        .revents()
        .is_some_and(|events| events.intersects(gone))
    {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the terminal was closed",
        ));
    }
    Ok(())
}

/// What an event of the terminal asks for.
fn wake(event: &Event) -> Option<Wake> {
    if matches!(event, Event::Resize(..)) {
        return Some(Wake::Redraw);
    }
    let key = event
        .as_key_press_event()
        .or_else(|| event.as_key_repeat_event())?;
    // In raw mode Ctrl-C is a key like others.
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let quits = match key.code.as_char() {
        Some('c' | 'd') => control,
        Some('q' | 'Q') => true,
        _ => key.code.is_esc(),
    };
    if quits {
        return Some(Wake::Quit);
    }
    match key.code.as_char() {
        Some(' ') => Some(Wake::Redraw),
        Some('l') if control => Some(Wake::Redraw),
        _ => None,
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let shown = execute!(self.out, Show, EnableLineWrap, LeaveAlternateScreen);
        let cooked = disable_raw_mode();
        for error in [shown, cooked].into_iter().filter_map(Result::err) {
            tracing::warn!("cannot give the terminal back as it was (`reset` does): {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent};

    use super::*;

    #[test]
    fn a_terminal_that_is_gone_is_an_error() {
        let (reader, mut writer) = io::pipe().unwrap();
        let short = Duration::from_millis(1);
        await_input(&reader, short).unwrap();
        writer.write_all(b"q").unwrap();
        await_input(&reader, Duration::from_secs(10)).unwrap();
        drop(writer);
        let error = await_input(&reader, short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn q_escape_and_control_c_quit() {
        let key = |code, modifiers| wake(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(
            key(KeyCode::Char('q'), KeyModifiers::NONE),
            Some(Wake::Quit)
        );
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Some(Wake::Quit));
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Wake::Quit)
        );
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(wake(&Event::Resize(80, 24)), Some(Wake::Redraw));
    }
}
