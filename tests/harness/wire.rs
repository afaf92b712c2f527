//! A cable that loses, repeats, delays and reorders.
//!
//! Linux has `tc netem` for this, where the kernel is built with it
//! (`CONFIG_NET_SCH_NETEM`); distributions' kernels are, small ones for virtual
//! machines and CI are not. This one needs nothing but raw sockets: the cable
//! is cut, both new ends lie in a namespace of its own, and a thread carries
//! frames from one to the other as badly as it is told. Unlike netem it is the
//! same for the same seed and order of frames, knows which resets it lost, and
//! keeps a capture for the report of a failure.
//!
//! Frames pass with what the kernel knows about them (`PACKET_VNET_HDR`):
//! checksums yet to be filled in stay so, and a packet of many segments is
//! lost, late or repeated as a whole.

mod capture;
mod carrier;
mod end;

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    netns::Namespace,
    topology::{Plug, cable},
};
use capture::Capture;
use carrier::Carrier;
use end::End;

/// What a wire does to frames, for each by itself and for both directions
/// alike. Chances are per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Every frame takes this long.
    pub delay: Duration,
    /// And up to this much longer; those that follow overtake it.
    pub jitter: Duration,
    /// Chance of a delay of up to `jitter`; the others come in order.
    pub reordered: u32,
    /// Chance to get lost.
    pub lost: u32,
    /// Chance that the frames behind a lost one get lost too, each with this
    /// chance until one does not.
    pub burst: u32,
    /// Chance to come twice, the copy up to `jitter` after the first.
    pub repeated: u32,
    /// Chance to come again after [`LATE`].
    pub late: u32,
}

/// How long after the frame itself its late copy comes.
pub const LATE: Duration = Duration::from_millis(800);

/// What a wire has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Frames that came.
    pub came: u64,
    /// Of them, those that were not delivered.
    pub lost: u64,
    /// Copies delivered in addition.
    pub repeated: u64,
    /// Frames delivered with a delay of their own.
    pub reordered: u64,
}

impl std::ops::AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        let Self {
            came,
            lost,
            repeated,
            reordered,
        } = self;
        *came += other.came;
        *lost += other.lost;
        *repeated += other.repeated;
        *reordered += other.reordered;
    }
}

/// Which end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Source and destination of a segment.
pub type Way = (SocketAddr, SocketAddr);

/// What the carrying thread and the wire's owner share.
#[derive(Default)]
struct Shared {
    faults: Faults,
    account: Account,
    lost_resets: HashSet<Way>,
    capture: Capture,
}

/// A bad cable between two namespaces. Frames on their way are lost when it is
/// dropped.
pub struct Wire {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<Result<()>>>,
    // Last: the namespace goes when nothing is carried any more.
    _netns: Namespace,
}

impl Wire {
    /// Connects `a` and `b` as [`cable`] does. What passes at `captured` is
    /// kept for [`Wire::save`].
    ///
    /// # Errors
    ///
    /// As [`cable`] and [`Namespace::new`]; raw sockets fail.
    pub fn lay(a: Plug<'_>, b: Plug<'_>, captured: Side, seed: u64) -> Result<Self> {
        let netns = Namespace::new("wire")?;
        // The kernel here only looks on; it must not speak.
        netns.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
        cable(a, (&netns, FIRST))?;
        cable((&netns, SECOND), b)?;
        netns.ip(&format!("link set {FIRST} up\nlink set {SECOND} up\n"))?;
        let ends = [End::open(&netns, FIRST)?, End::open(&netns, SECOND)?];
        let shared = Arc::<Mutex<Shared>>::default();
        let stop = Arc::<AtomicBool>::default();
        let carrier = Carrier::new(ends, captured, seed, Arc::clone(&shared));
        let carrier = thread::Builder::new()
            .name("wire".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || carrier.run(&stop)
            })
            .context("starting the thread of a wire")?;
        Ok(Self {
            shared,
            stop,
            carrier: Some(carrier),
            _netns: netns,
        })
    }

    /// From now on does this to frames.
    pub fn set(&self, faults: Faults) {
        lock(&self.shared).faults = faults;
    }

    /// What it has done so far.
    #[must_use]
    pub fn account(&self) -> Account {
        lock(&self.shared).account
    }

    /// The source and destination of every RST that was lost.
    #[must_use]
    pub fn lost_resets(&self) -> HashSet<Way> {
        lock(&self.shared).lost_resets.clone()
    }

    /// Forgets what was captured.
    pub fn forget(&self) {
        lock(&self.shared).capture.clear();
    }

    /// Writes what was captured to a pcap file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        lock(&self.shared)
            .capture
            .save(path)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Whether it still carries frames.
    #[must_use]
    pub fn works(&self) -> bool {
        self.carrier
            .as_ref()
            .is_some_and(|carrier| !carrier.is_finished())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            match carrier.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("a wire broke: {error:#}"),
                Err(_) => eprintln!("a wire's thread panicked"),
            }
        }
    }
}

/// The interface of the wire's namespace towards the first end.
const FIRST: &str = "first";
/// The one towards the second.
const SECOND: &str = "second";

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
