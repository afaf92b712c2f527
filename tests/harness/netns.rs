//! A network namespace and what runs inside it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    panic::resume_unwind,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::SigSet,
};

/// What the name of every namespace of the harness begins with, followed by
/// the process id of its maker.
pub const PREFIX: &str = "tracker-t";

/// What the name of every pin directory of the harness begins with, followed
/// by the process id of its maker.
pub const PIN_PREFIX: &str = "/sys/fs/bpf/trk-";

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A network namespace with `lo` up, removed on drop.
///
/// Only the *network* namespace is entered: `ip netns exec` also mounts a
/// fresh /sys, where the bpffs and its pins are not.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace named after this process, a running number and
    /// `label`.
    ///
    /// # Errors
    ///
    /// Not root, or `ip` is missing or fails.
    pub fn new(label: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static STALE: Once = Once::new();
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run `cargo xtask test`, which asks sudo for it"
        );
        STALE.call_once(remove_stale);

        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new(NAMES).join(&name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                delete(&name);
                return Err(error);
            }
        };
        let namespace = Self { name, file };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay
    /// in the namespace and can be used from anywhere.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// As `work` does.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering network namespace {}", self.name))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A command whose process will run inside the namespace, with no signal
    /// blocked, whatever the calling thread blocks.
    ///
    /// # Errors
    ///
    /// Out of file descriptors.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let file = self
            .file
            .try_clone()
            .context("duplicating a namespace descriptor")?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only async-signal-safe calls are
        // allowed; both are bare system calls and `file` is owned by the
        // closure.
        unsafe {
            command.pre_exec(move || {
                SigSet::empty().thread_set_mask()?;
                Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)
            });
        }
        Ok(command)
    }

    /// Runs `ip` on every line of `batch` inside the namespace.
    ///
    /// # Errors
    ///
    /// `ip` refuses a line: its message names the line.
    pub fn ip(&self, batch: &str) -> Result<()> {
        feed(self.command("ip")?.args(["-batch", "-"]), batch)
            .with_context(|| format!("in namespace {}:\n{batch}", self.name))
    }

    /// Writes a value under /proc/sys/net of the namespace; `key` with dots as
    /// sysctl(8) has it, below `net.`.
    ///
    /// # Errors
    ///
    /// The kernel does not know the key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key.replace('.', "/"));
        // /proc/sys/net shows the namespace of the task that opens it.
        self.run_in(|| fs::write(&path, value))?
            .with_context(|| format!("writing {value} to net.{key} in namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Names of the namespaces that the process `pid` made and that still exist.
///
/// # Errors
///
/// /run/netns cannot be read.
pub fn namespaces_of(pid: u32) -> Result<Vec<String>> {
    Ok(names()?
        .into_iter()
        .filter(|name| owner(name, PREFIX) == Some(pid))
        .collect())
}

/// Runs a command and returns what it printed.
///
/// # Errors
///
/// It cannot be started or does not exit with status 0; the error holds what
/// it printed on stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?} (is it installed?)"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no UTF-8"))
}

/// Runs a command with `input` on its stdin.
///
/// # Errors
///
/// As [`run`].
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?} (is it installed?)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that gives up early says why on stderr, which counts more
        // than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn delete(name: &str) {
    // Nothing better can be done in a drop; the next run removes what stays.
    if let Err(error) = run(Command::new("ip").args(["netns", "del", name])) {
        eprintln!("namespace {name} stays: {error:#}");
    }
}

fn names() -> Result<Vec<String>> {
    match fs::read_dir(NAMES) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()
            .with_context(|| format!("reading {NAMES}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {NAMES}")),
    }
}

/// The process id in a name made of `prefix`, the id, and anything after `-`.
fn owner(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.split('-').next()?.parse().ok()
}

/// Removes what processes left that died without a chance to clean up.
fn remove_stale() {
    let dead = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
    for name in names().unwrap_or_default() {
        if owner(&name, PREFIX).is_some_and(dead) {
            delete(&name);
        }
    }
    let Ok(pins) = fs::read_dir("/sys/fs/bpf") else {
        return;
    };
    for pin in pins.flatten() {
        let path = pin.path();
        let Some(name) = path.to_str() else { continue };
        if owner(name, PIN_PREFIX).is_some_and(dead)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            eprintln!("{name} stays: {error}");
        }
    }
}
