//! Loads the programs: makes or adopts the maps, fixes what is fixed at load.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, MapError},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use nix::sys::signal::{SigSet, SigmaskHow};
use tracker_common::abi::Role;

use super::names;

/// The object whose flow tables take memory as flows come.
static ON_DEMAND: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker"));
/// The same programs with flow tables that take all memory at load.
static PREALLOCATED: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker-prealloc"));

/// Memory is taken as entries come (`BPF_F_NO_PREALLOC` in
/// include/uapi/linux/bpf.h).
const NO_PREALLOC: u32 = 1;

/// What is fixed when the programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where the tracker stands.
    pub role: Role,
    /// Entries of each flow table, at least 1.
    pub capacity: u32,
    /// Take all memory of the flow tables at once.
    pub preallocate: bool,
    /// Slots of the age ring: the largest half-open limit, at least 1.
    pub half_open_limit: u32,
    /// The map of zones has entries.
    pub zones: bool,
    /// Octets of the ring of events; rounded up to a power of two of pages.
    pub event_ring_bytes: u32,
    /// Octets of the ring of events before the handshake is complete.
    pub embryo_ring_bytes: u32,
    /// The time is what a test says it is.
    pub test_clock: bool,
    /// TCP checksums are verified on interfaces that say so.
    pub checksum: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            role: Role::Host,
            capacity: 262_144,
            preallocate: false,
            half_open_limit: 32_768,
            zones: false,
            event_ring_bytes: 1 << 20,
            embryo_ring_bytes: 1 << 18,
            test_clock: false,
            checksum: false,
        }
    }
}

/// The embedded ELF objects by name, for tests that examine the code: flow
/// tables that take memory as flows come, and preallocated ones.
#[must_use]
pub fn objects() -> [(&'static str, &'static [u8]); 2] {
    [("tracker", ON_DEMAND), ("tracker-prealloc", PREALLOCATED)]
}

/// Maps whose size the options tell.
const SIZED: [&str; 5] = [
    names::FLOWS_V4,
    names::FLOWS_V6,
    names::HALF_OPEN_RING,
    names::EVENTS,
    names::EMBRYO_EVENTS,
];

impl LoadOptions {
    const fn sizes(&self) -> [u32; SIZED.len()] {
        [
            self.capacity,
            self.capacity,
            self.half_open_limit,
            self.event_ring_bytes,
            self.embryo_ring_bytes,
        ]
    }

    /// Takes over the sizes of maps that are pinned in `dir`, and tells which
    /// of the wanted ones stay without effect.
    ///
    /// # Errors
    ///
    /// A pinned map cannot be examined.
    pub fn adopt(&mut self, dir: &Path) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        let mut sizes = self.sizes();
        for (&name, wanted) in SIZED.iter().zip(&mut sizes) {
            let Some((kept, flags)) = pinned_size(&dir.join(name))
                .with_context(|| format!("cannot examine the pinned map {name}"))?
            else {
                continue;
            };
            if kept != rounded(name, *wanted) {
                differences.push(format!("{name} keeps its size {kept} instead of {wanted}"));
            }
            *wanted = kept;
            if name == names::FLOWS_V4 {
                let preallocated = flags & NO_PREALLOC == 0;
                if preallocated != self.preallocate {
                    differences.push(format!(
                        "the flow tables stay {}preallocated",
                        if preallocated { "" } else { "not " }
                    ));
                }
                self.preallocate = preallocated;
            }
        }
        [
            self.capacity,
            _,
            self.half_open_limit,
            self.event_ring_bytes,
            self.embryo_ring_bytes,
        ] = sizes;
        Ok(differences)
    }
}

/// Size and flags of the map pinned at `path`, `None` where none is.
fn pinned_size(path: &Path) -> Result<Option<(u32, u32)>, MapError> {
    if !path.exists() {
        return Ok(None);
    }
    let info = MapData::from_pin(path)?.info()?;
    Ok(Some((info.max_entries(), info.map_flags())))
}

/// The size that a map of this name gets when `size` is asked for: rings are
/// made of a power of two of pages.
fn rounded(name: &str, size: u32) -> u32 {
    const PAGE: u32 = 4096;
    match name {
        names::EVENTS | names::EMBRYO_EVENTS => size
            .div_ceil(PAGE)
            .checked_next_power_of_two()
            .map_or(size, |pages| pages * PAGE),
        _ => size,
    }
}

/// Loads the programs. With `pins`, maps that are pinned there are used and
/// the others are pinned there.
///
/// # Errors
///
/// The maps cannot be made or the verifier refuses a program.
pub(super) fn load(options: &LoadOptions, pins: Option<&Path>) -> Result<Ebpf> {
    let role = options.role as u32;
    let zones = u32::from(options.zones);
    let test_clock = u32::from(options.test_clock);
    let checksums = u32::from(options.checksum);
    let cpus = possible_cpus()?;
    let mut loader = EbpfLoader::new();
    loader
        .override_global("ROLE", &role, true)
        .override_global("ZONES_CONFIGURED", &zones, true)
        .override_global("TEST_CLOCK_ON", &test_clock, true)
        .override_global("CHECKSUMS", &checksums, true)
        .override_global("CPUS", &cpus, true);
    for (&name, size) in SIZED.iter().zip(options.sizes()) {
        loader.map_max_entries(name, size);
    }
    // Each half-open flow has a share of its listener and of its source.
    loader.map_max_entries(names::SHARES, options.half_open_limit.saturating_mul(2));
    if let Some(dir) = pins {
        for name in names::MAPS {
            loader.map_pin_path(name, dir.join(name));
        }
    }
    let object = if options.preallocate {
        PREALLOCATED
    } else {
        ON_DEMAND
    };
    let mut ebpf = loader.load(object).with_context(|| {
        format!(
            "cannot make the maps for {} flows of each family{}",
            options.capacity,
            if options.preallocate {
                " with all memory taken at once"
            } else {
                ""
            }
        )
    })?;
    without_signals(|| verify(&mut ebpf))?;
    Ok(ebpf)
}

/// Hands the programs to the verifier.
fn verify(ebpf: &mut Ebpf) -> Result<()> {
    let ingress: &mut Xdp = program(ebpf, names::INGRESS)?;
    accept(names::INGRESS, ingress.load())?;
    for name in [names::EGRESS, names::REAP, names::SEED] {
        let classifier: &mut SchedClassifier = program(ebpf, name)?;
        accept(name, classifier.load())?;
    }
    Ok(())
}

/// Runs `work` with signals kept from this thread. The verifier gives up when
/// one is pending, and aya then verifies again with a log, which takes ten times
/// as long. Another thread gets the signal, or this one afterwards.
fn without_signals<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    const MASK: &str = "cannot change which signals this thread receives";
    let before = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .context(MASK)?;
    let result = work();
    before.thread_set_mask().context(MASK)?;
    result
}

/// The program `name` of the object, as the type it must have.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(super::Error::Missing {
            kind: "program",
            name,
        })?
        .try_into()
        .with_context(|| format!("the program {name} has another type than expected"))
}

/// Turns the verifier's refusal into an error of readable length.
fn accept(name: &str, result: Result<(), ProgramError>) -> Result<()> {
    match result {
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let log = verifier_log.to_string();
            tracing::debug!("the verifier on {name}:\n{log}");
            Err(anyhow!(
                "the kernel refuses the program {name}: {io_error}; {}",
                last_lines(&log)
            ))
        }
        other => other.with_context(|| format!("cannot load the program {name}")),
    }
}

/// The end of a verifier's log, where the reason stands.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(12)..];
    if tail.is_empty() {
        "the verifier gives no reason".to_owned()
    } else {
        format!("the verifier says at the end:\n{}", tail.join("\n"))
    }
}

fn possible_cpus() -> Result<u32> {
    let count = aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow!(error).context(format!("cannot read {path}")))?;
    u32::try_from(count).context("more CPUs than a number can tell")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_rounded_as_the_kernel_wants_them() {
        assert_eq!(rounded(names::EVENTS, 1), 4096);
        assert_eq!(rounded(names::EVENTS, 4096 * 3), 4096 * 4);
        assert_eq!(rounded(names::EMBRYO_EVENTS, 1 << 18), 1 << 18);
        assert_eq!(rounded(names::FLOWS_V4, 1000), 1000);
    }

    #[test]
    fn of_a_long_log_the_end_is_told() {
        let log: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let told = last_lines(&log);
        assert!(told.ends_with("line 99") && told.contains("line 88") && !told.contains("line 87"));
        assert_eq!(last_lines("\n"), "the verifier gives no reason");
    }

    #[test]
    fn nothing_pinned_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = LoadOptions {
            capacity: 7,
            ..LoadOptions::default()
        };
        assert!(options.adopt(dir.path()).unwrap().is_empty());
        assert_eq!(
            options,
            LoadOptions {
                capacity: 7,
                ..LoadOptions::default()
            }
        );
    }
}
