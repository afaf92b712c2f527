//! The `tracker` process and its command line.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::{
    flow::Flow,
    netns::{Namespace, PIN_PREFIX},
    stats::Stats,
    topology::Topology,
    wait::wait_for,
};

/// How long the programs may take to load and attach.
const READY: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(30);

/// The program under test: `$TRACKER_BIN`, else the newest of the release and
/// the debug build in the target directory.
///
/// # Errors
///
/// There is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRACKER_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "TRACKER_BIN names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("tracker"))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| {
            format!(
                "no tracker in {}: build it with `cargo build --package tracker`, \
                 or name it in TRACKER_BIN",
                target.display()
            )
        })
}

/// A pin directory that nobody else uses.
#[must_use]
pub fn fresh_pin_dir() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{PIN_PREFIX}{}-{number}", std::process::id()).into()
}

/// Options of `tracker run`.
pub struct Options<'a> {
    netns: &'a Namespace,
    pin_dir: PathBuf,
    arguments: Vec<OsString>,
}

impl<'a> Options<'a> {
    /// On the interfaces of a topology where its placement wants the tracker.
    #[must_use]
    pub fn on(topology: &'a Topology) -> Self {
        let (netns, interfaces) = topology.tracked();
        Self::new(netns, interfaces).with(["--role", topology.placement.role()])
    }

    /// On some interfaces of a namespace, role by default.
    #[must_use]
    pub fn new(netns: &'a Namespace, interfaces: &[&str]) -> Self {
        let options = Self {
            netns,
            pin_dir: fresh_pin_dir(),
            arguments: Vec::new(),
        };
        interfaces.iter().fold(options, |options, interface| {
            options.with(["-i", *interface])
        })
    }

    /// Adds arguments.
    #[must_use]
    pub fn with<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Uses a pin directory of one's own choice.
    #[must_use]
    pub fn pinned_at(mut self, pin_dir: impl Into<PathBuf>) -> Self {
        self.pin_dir = pin_dir.into();
        self
    }

    /// The command, not started. It gets SIGTERM when the thread that starts
    /// it ends without having ended it, killed for instance.
    ///
    /// # Errors
    ///
    /// As [`binary`].
    pub fn command(&self) -> Result<Command> {
        let mut command = self.netns.command(binary()?)?;
        // SAFETY: between fork and exec only async-signal-safe calls are
        // allowed; prctl is a bare system call.
        unsafe {
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
        }
        command
            .arg("run")
            .args(&self.arguments)
            .arg("--pin-dir")
            .arg(&self.pin_dir);
        Ok(command)
    }

    /// Runs it to its end, for what is expected to be refused. Bounded: an
    /// agent that starts instead is killed after a minute.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not end.
    pub fn run_to_end(&self) -> Result<Output> {
        let mut child = self
            .command()?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting tracker run")?;
        match wait_for(READY, || ended(&mut child)) {
            Ok(_) => child
                .wait_with_output()
                .context("reading what tracker run printed"),
            Err(_) => {
                let _ = child.kill();
                let output = child.wait_with_output()?;
                bail!(
                    "tracker run should have refused, but runs:\n{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }

    /// Starts it and waits until it has attached its programs.
    ///
    /// # Errors
    ///
    /// It ends, or does not say `tracker ready` in a minute: the error holds its
    /// log.
    pub fn start(self) -> Result<Tracker<'a>> {
        // One after the other: two agents that both find no BPF file system
        // would mount two, and one of them would hide the other's pins.
        static STARTING: Mutex<()> = Mutex::new(());
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = self
            .command()?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting tracker run")?;
        let log = Log::default();
        log.follow(child.stdout.take());
        log.follow(child.stderr.take());
        let mut tracker = Tracker {
            netns: self.netns,
            pin_dir: self.pin_dir,
            child,
            log,
            leave_pins: false,
        };
        let start = Instant::now();
        loop {
            if tracker
                .log
                .wait("tracker ready", Duration::from_millis(100))
            {
                return Ok(tracker);
            }
            if let Some(status) = tracker.child.try_wait().context("looking at tracker run")? {
                // What it said last may still be on its way through the pipe.
                tracker
                    .log
                    .wait("tracker ready", Duration::from_millis(100));
                bail!(
                    "tracker run ended ({status}) before it was ready:\n{}",
                    tracker.log()
                );
            }
            if start.elapsed() > READY {
                bail!("no `tracker ready` after {READY:?}:\n{}", tracker.log());
            }
        }
    }
}

/// A running agent. Killed on drop if it still runs, its pins removed.
pub struct Tracker<'a> {
    netns: &'a Namespace,
    pin_dir: PathBuf,
    child: Child,
    log: Log,
    leave_pins: bool,
}

impl<'a> Tracker<'a> {
    /// Starts an agent on a topology with nothing but what the placement asks
    /// for.
    ///
    /// # Errors
    ///
    /// As [`Options::start`].
    pub fn start(topology: &'a Topology) -> Result<Self> {
        Options::on(topology).start()
    }

    /// Its pin directory.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed until now, on stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it prints `text` behind what was its log `before`.
    ///
    /// # Errors
    ///
    /// It did not in `timeout`: the error holds the log.
    pub fn wait_for_log(&self, before: &str, text: &str, timeout: Duration) -> Result<()> {
        wait_for(timeout, || match self.log().get(before.len()..) {
            Some(after) if after.contains(text) => Ok(()),
            _ => Err(format!("no new {text:?} in the log:\n{}", self.log())),
        })
        .map_err(|mismatch| anyhow!(mismatch))
    }

    /// Runs `tracker COMMAND… --pin-dir …` and returns its stdout.
    ///
    /// # Errors
    ///
    /// It fails: the error holds its stderr.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        ask(self.netns, &self.pin_dir, arguments)
    }

    /// All flows.
    ///
    /// # Errors
    ///
    /// `tracker list -o json` fails or prints something else than its contract
    /// says.
    pub fn list(&self) -> Result<Vec<Flow>> {
        list(self.netns, &self.pin_dir)
    }

    /// What `tracker stats -o json` prints.
    ///
    /// # Errors
    ///
    /// It fails or prints something else than its contract says.
    pub fn stats(&self) -> Result<Stats> {
        let text = self.ask(&["stats", "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("tracker stats -o json: {text}"))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into().context("process id")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to tracker run"))
    }

    /// Ends it with SIGINT and returns its log. It must exit with status 0 and
    /// remove its pins.
    ///
    /// # Errors
    ///
    /// It does not end, ends otherwise, or leaves its pins.
    pub fn stop(self) -> Result<String> {
        let pins = self.pin_dir.clone();
        let log = self.end(Signal::SIGINT)?;
        ensure!(
            !pins.exists(),
            "tracker run ended and left {}:\n{log}",
            pins.display()
        );
        Ok(log)
    }

    /// Ends it with `signal`, leaves the pins to it and returns its log. It
    /// must exit with status 0.
    ///
    /// # Errors
    ///
    /// It does not end, or ends otherwise.
    pub fn end(mut self, signal: Signal) -> Result<String> {
        self.signal(signal)?;
        match wait_for(END, || ended(&mut self.child)) {
            Ok(status) if status.success() => {
                self.leave_pins = true;
                Ok(self.log())
            }
            Ok(status) => bail!(
                "tracker run ended with {status} on {signal}:\n{}",
                self.log()
            ),
            Err(_) => bail!(
                "tracker run still runs {END:?} after {signal}:\n{}",
                self.log()
            ),
        }
    }

    /// Kills it with SIGKILL and leaves everything as it is. Returns the pin
    /// directory.
    ///
    /// # Errors
    ///
    /// It has ended before.
    pub fn kill(mut self) -> Result<PathBuf> {
        self.child.kill().context("killing tracker run")?;
        self.child.wait().context("waiting for tracker run")?;
        self.leave_pins = true;
        Ok(self.pin_dir.clone())
    }
}

impl Drop for Tracker<'_> {
    fn drop(&mut self) {
        // Already ended: nothing to kill, and an error says no more than that.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.leave_pins && self.pin_dir.exists() {
            if let Ok(records) = fs::read_link(self.pin_dir.join("run")) {
                let _ = fs::remove_dir_all(records);
            }
            let _ = fs::remove_dir_all(&self.pin_dir);
        }
        if thread::panicking() {
            eprintln!("log of tracker run:\n{}", self.log());
        }
    }
}

/// Runs `tracker ARGUMENTS… --pin-dir PIN_DIR` in a namespace to its end and
/// returns its stdout.
///
/// # Errors
///
/// It fails: the error holds its stderr.
pub fn ask(netns: &Namespace, pin_dir: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = netns.command(binary()?)?;
    crate::netns::run(command.args(arguments).arg("--pin-dir").arg(pin_dir))
}

/// All flows in the tables pinned at `pin_dir`.
///
/// # Errors
///
/// As [`Tracker::list`].
pub fn list(netns: &Namespace, pin_dir: &Path) -> Result<Vec<Flow>> {
    let text = ask(netns, pin_dir, &["list", "-o", "json"])?;
    serde_json::from_str(&text).with_context(|| {
        let start: String = text.chars().take(2000).collect();
        format!("tracker list -o json printed something else than flows:\n{start}")
    })
}

fn ended(child: &mut Child) -> Result<ExitStatus, String> {
    match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("still runs".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a process prints, collected by threads of their own so that it never
/// blocks on a full pipe.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<String>, Condvar)>);

impl Log {
    fn follow(&self, output: Option<impl Read + Send + 'static>) {
        let Some(output) = output else { return };
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                let (text, changed) = &*log.0;
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
                changed.notify_all();
            }
        });
    }

    fn text(&self) -> String {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether `wanted` is in it, at the latest after `timeout`.
    fn wait(&self, wanted: &str, timeout: Duration) -> bool {
        let (text, changed) = &*self.0;
        let text = text.lock().unwrap_or_else(PoisonError::into_inner);
        changed
            .wait_timeout_while(text, timeout, |text| !text.contains(wanted))
            .is_ok_and(|(text, _)| text.contains(wanted))
    }
}
