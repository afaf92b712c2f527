//! The programs loaded for tests: neither pinned nor attached, with the clock
//! in the tests' hands, run packet by packet.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{Program, ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp},
};
use tracker_common::abi::{Cause, Family, Flow, Key, Seed};

use super::{
    Error, LoadOptions, Planted, ProgramFacts, ReapTotals, Tables, load::load, names, reap,
    seed::plant,
};

/// Loads the programs for a test; whatever `options` say, the time is read
/// from the map that [`Tables::set_test_clock`] writes.
///
/// `LIVE` is not filled: [`Tables::set_live`] does it.
///
/// # Errors
///
/// The programs cannot be loaded, for instance without root.
pub fn load_for_test(options: &LoadOptions) -> Result<Loaded> {
    let options = LoadOptions {
        test_clock: true,
        ..options.clone()
    };
    Loaded::new(&options)
}

/// Loads the programs as [`load_for_test`] does, with the real clock: what is
/// timed must cost what it costs in production.
///
/// # Errors
///
/// As above.
pub fn load_for_bench(options: &LoadOptions) -> Result<Loaded> {
    let options = LoadOptions {
        test_clock: false,
        ..options.clone()
    };
    Loaded::new(&options)
}

/// Loaded programs and their maps. Dereferences to its [`Tables`].
pub struct Loaded {
    ebpf: Ebpf,
    tables: Tables,
}

/// One call of the kernel's `BPF_PROG_TEST_RUN`.
#[derive(Debug)]
pub struct Run<'a> {
    /// The frame, from its Ethernet header.
    pub frame: &'a [u8],
    /// How often the program runs on it.
    pub repeat: u32,
    /// Where the packet seems to come from and go to; see [`Place`].
    pub place: Place,
    /// Receives the frame as the program leaves it; must have room for it.
    pub out: Option<&'a mut [u8]>,
}

impl<'a> Run<'a> {
    /// Runs once on `frame`, which comes from nowhere in particular.
    #[must_use]
    pub const fn once(frame: &'a [u8]) -> Self {
        Self {
            frame,
            repeat: 1,
            place: Place::UNKNOWN,
            out: None,
        }
    }
}

/// What the program's context says besides the frame. All zero is what the
/// kernel fills in by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Interface on which the packet came in; on egress, non-zero for a
    /// forwarded packet. On ingress the interface must exist and have a
    /// receive queue.
    pub ingress_ifindex: u32,
    /// Egress: the interface on which it leaves; must exist.
    pub ifindex: u32,
    /// Egress: segments that a GSO packet stands for.
    pub gso_segments: u32,
    /// Egress: octets of payload in each of them.
    pub gso_size: u32,
}

impl Place {
    /// Nothing said.
    pub const UNKNOWN: Self = Self {
        ingress_ifindex: 0,
        ifindex: 0,
        gso_segments: 0,
        gso_size: 0,
    };
}

/// What a [`Run`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's verdict, of the last run.
    pub verdict: u32,
    /// Mean duration of a run.
    pub duration: Duration,
    /// Octets of the frame as the program left it.
    pub out_len: usize,
}

impl Loaded {
    fn new(options: &LoadOptions) -> Result<Self> {
        let mut ebpf = load(options, None)?;
        let tables = Tables::collect(|name| {
            ebpf.take_map(name)
                .ok_or(Error::Missing { kind: "map", name })
        })?;
        Ok(Self { ebpf, tables })
    }

    /// The program `name`, as the type it has.
    fn program<'a, P>(&'a self, name: &'static str) -> Result<&'a P>
    where
        &'a P: TryFrom<&'a Program, Error = ProgramError>,
    {
        self.ebpf
            .program(name)
            .ok_or(Error::Missing {
                kind: "program",
                name,
            })?
            .try_into()
            .with_context(|| format!("the program {name} has another type than expected"))
    }

    /// Runs the ingress program.
    ///
    /// # Errors
    ///
    /// The kernel refuses the run.
    pub fn ingress(&self, run: Run<'_>) -> Result<Ran> {
        let Place {
            ingress_ifindex, ..
        } = run.place;
        let context = (ingress_ifindex != 0).then(|| {
            // `struct xdp_md` (include/uapi/linux/bpf.h).
            let mut words = [0; 6];
            words[1] = run.frame.len() as u32;
            words[3] = ingress_ifindex;
            bytes(&words)
        });
        let program: &Xdp = self.program(names::INGRESS)?;
        test_run(names::INGRESS, program, run, context.as_deref())
    }

    /// Runs the egress program.
    ///
    /// # Errors
    ///
    /// The kernel refuses the run.
    pub fn egress(&self, run: Run<'_>) -> Result<Ran> {
        let Place {
            ingress_ifindex,
            ifindex,
            gso_segments,
            gso_size,
        } = run.place;
        let context = (run.place != Place::UNKNOWN).then(|| {
            // `struct __sk_buff` (include/uapi/linux/bpf.h).
            let mut words = [0; 48];
            words[9] = ingress_ifindex;
            words[10] = ifindex;
            words[41] = gso_segments;
            words[44] = gso_size;
            bytes(&words)
        });
        let program: &SchedClassifier = self.program(names::EGRESS)?;
        test_run(names::EGRESS, program, run, context.as_deref())
    }

    /// Asks the reaper to remove flows, as [`super::Pinned::remove`] does. One
    /// thread at a time: there is one request.
    ///
    /// # Errors
    ///
    /// The request cannot be made.
    pub fn remove(&self, cause: Cause, candidates: &[(Family, Key, u32)]) -> Result<ReapTotals> {
        let reaper: &SchedClassifier = self.program(names::REAP)?;
        Ok(reap::reap(&self.tables, reaper, cause, candidates)?)
    }

    /// Makes flows of connections that are told of, as [`super::Pinned::plant`] does.
    /// One thread at a time.
    ///
    /// # Errors
    ///
    /// The request cannot be made.
    pub fn plant(&self, seeds: &[Seed]) -> Result<Planted> {
        let seeder: &SchedClassifier = self.program(names::SEED)?;
        Ok(plant(&self.tables, seeder, seeds)?)
    }

    /// Puts an element into a flow table as it stands, where no packet can
    /// bring it about, such as one that another CPU is still filling.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn put_flow(&self, family: Family, key: &Key, flow: &Flow) -> Result<()> {
        Ok(self.tables.put_flow(family, key, flow)?)
    }

    /// What the kernel knows about the programs.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn programs(&self) -> Result<Vec<ProgramFacts>> {
        names::PROGRAMS
            .iter()
            .map(|&(name, _)| {
                let program = self.ebpf.program(name);
                let info = program
                    .ok_or(Error::Missing {
                        kind: "program",
                        name,
                    })
                    .map(Program::info)?
                    .with_context(|| format!("cannot ask the kernel about {name}"))?;
                Ok(ProgramFacts::of(name, &info))
            })
            .collect()
    }
}

impl std::ops::Deref for Loaded {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

fn test_run<P>(name: &'static str, program: &P, run: Run<'_>, context: Option<&[u8]>) -> Result<Ran>
where
    P: for<'o> TestRun<Opts<'o> = TestRunOptions<'o>, Result = aya::TestRunResult>,
{
    let mut options = TestRunOptions::new();
    options.data_in = Some(run.frame);
    options.data_out = run.out;
    options.ctx_in = context;
    options.repeat = run.repeat;
    let result: Result<_, ProgramError> = program.test_run(options);
    let result = result
        .with_context(|| format!("cannot run {name} on a frame of {} octets", run.frame.len()))?;
    Ok(Ran {
        verdict: result.return_value,
        duration: result.duration,
        out_len: result.data_size_out as usize,
    })
}

/// The bytes of a context.
fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
