//! A terminal for programs that behave differently on one.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::{Pid, setsid},
};

use crate::wait::wait_for;

/// A process that has a pseudo-terminal of its own, as if somebody sat there.
/// Ended on drop if it still runs.
pub struct Terminal {
    /// The process.
    pub child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `command` on a terminal of so many columns and lines.
    ///
    /// # Errors
    ///
    /// There is no pseudo-terminal left, or the command does not start.
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).context("opening a pseudo-terminal")?;
        let slave = File::from(pty.slave);
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        // SAFETY: between fork and exec only async-signal-safe calls are
        // allowed: setsid and ioctl are bare system calls.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                let terminal = std::io::stdin().as_raw_fd();
                if libc::ioctl(terminal, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        // The command holds the other end of the terminal: it must go, or
        // reading never ends.
        drop(command);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone()?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end shows as an error (EIO) when the last process is gone.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let mut screen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    /// All that was written until now, with its control sequences.
    #[must_use]
    pub fn written(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until `text` has been written.
    ///
    /// # Errors
    ///
    /// It was not in `timeout`: the error holds all that was.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<()> {
        wait_for(timeout, || match self.written() {
            written if written.contains(text) => Ok(()),
            written => Err(format!("no {text:?} on the terminal:\n{written}")),
        })
        .map_err(|mismatch| anyhow!(mismatch))
    }

    /// Presses keys; `\x03` is Ctrl-C.
    ///
    /// # Errors
    ///
    /// Nobody has the terminal any more.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard
            .write_all(keys.as_bytes())
            .context("writing to a terminal")
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    ///
    /// It does not in `timeout`: the error holds all that was written.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let Self { child, .. } = self;
        let ended = wait_for(timeout, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        ended.map_err(|mismatch| anyhow!("{mismatch}:\n{}", self.written()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already, as a rule. If not, it gets a chance to clean up.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGTERM,
            );
            let _ = self.wait(Duration::from_secs(15));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
