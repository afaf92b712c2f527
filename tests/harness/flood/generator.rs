//! Sending a flood.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
    sys::SyscallError,
};
use flood_ebpf::{Plan, State};
use nix::{
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_setaffinity},
    sys::{
        signal::{
            SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
        },
        time::TimeSpec,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::{Pid, gettid},
};

use super::{
    frame::{Kind, Target, plan, template},
    object,
};
use crate::topology::Family;

/// Frames that the kernel takes before the receiver gets its turn, which is a
/// quarter of what the queue of a veth pair holds.
const BATCH: u32 = 64;

/// More runs of the program a millisecond than any core can do: what bounds a
/// call if all else fails.
const MOST: u128 = 200_000;

/// Ends a call that sends for a time.
const ENOUGH: Signal = Signal::SIGUSR2;

/// Frames that left, and how long that took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Frames handed to the interface.
    pub frames: u64,
    /// Time of the whole call, of which some hundredths of a second are the
    /// kernel's preparations and tidying up.
    pub elapsed: Duration,
}

/// Sends frames out of an interface of the namespace that the calling thread
/// is in.
pub struct Generator {
    ebpf: Ebpf,
    program: &'static str,
    template: Vec<u8>,
    context: [u8; CONTEXT],
}

/// Size of `struct xdp_md`: data, data_end, data_meta, ingress_ifindex,
/// rx_queue_index, egress_ifindex.
const CONTEXT: usize = 24;

// SAFETY: both are plain integers without padding, and any octets are valid.
unsafe impl aya::Pod for Wrapped<Plan> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wrapped<State> {}

/// aya's trait on a type of another crate.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Wrapped<T>(T);

impl Generator {
    /// Loads the program for one kind of frames. `seed` decides about their
    /// random fields.
    ///
    /// # Errors
    ///
    /// Not root; the kernel is older than 5.18; no such interface.
    pub fn new(interface: &str, kind: Kind, target: &Target, seed: u64) -> Result<Self> {
        let index = if_nametoindex(interface)
            .with_context(|| format!("the index of {interface}, which is to be flooded"))?;
        let template = template(kind, target)?;
        let plan = plan(kind, target.family(), &template)?;
        let program = match target.family() {
            Family::V4 => "flood_ipv4",
            Family::V6 => "flood_ipv6",
        };
        let mut ebpf = object()?;
        let state = State {
            // Zero is the one state that a xorshift generator never leaves.
            random: seed | 1 << 63,
            ..State::default()
        };
        map(&mut ebpf, "PLAN")?.set(0, Wrapped(plan), 0)?;
        map(&mut ebpf, "STATE")?.set(0, Wrapped(state), 0)?;
        xdp(&mut ebpf, program)?
            .load()
            .with_context(|| format!("loading {program}"))?;
        let mut context = [0; CONTEXT];
        let length = u32::try_from(template.len()).context("length of a frame")?;
        context[4..8].copy_from_slice(&length.to_ne_bytes());
        context[12..16].copy_from_slice(&index.to_ne_bytes());
        Ok(Self {
            ebpf,
            program,
            template,
            context,
        })
    }

    /// Sends so many frames at full speed. Gives the nanoseconds that a frame
    /// took by the kernel's own clock, too: what the receiver does with it, on
    /// the same core, is a part of them; preparations and the time in which
    /// others had the core are not.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or sends another number.
    pub fn send(&mut self, frames: u32) -> Result<(Sent, Duration)> {
        self.prepare(0)?;
        let start = Instant::now();
        let ran = self
            .run(frames)
            .context("running the generator with live frames (Linux 5.18 or newer)")?;
        let sent = Sent {
            frames: self.frames()?,
            elapsed: start.elapsed(),
        };
        ensure!(
            sent.frames == u64::from(frames),
            "the generator sent {} frames instead of {frames}",
            sent.frames
        );
        Ok((sent, ran))
    }

    /// Sends for a time: so many frames a second, or at full speed. Frames that
    /// the receiver had no time for are not made up for.
    ///
    /// It is one call of the kernel, ended by a signal: each takes some
    /// hundredths of a second before and after. A paced one does not rest
    /// between two frames, so that the core is as awake as at full speed.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn send_for(&mut self, time: Duration, rate: Option<u32>) -> Result<Sent> {
        let gap = match rate {
            None => 0,
            Some(rate) => 1_000_000_000 / rate.max(1),
        };
        self.prepare(gap)?;
        let start = Instant::now();
        let alarm = Alarm::set(time)?;
        let ran = self.run(u32::try_from(MOST * time.as_millis()).unwrap_or(u32::MAX));
        drop(alarm);
        match ran {
            Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
                if io_error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) => {}
            Err(error) => {
                return Err(error)
                    .context("running the generator with live frames (Linux 5.18 or newer)");
            }
        }
        Ok(Sent {
            frames: self.frames()?,
            elapsed: start.elapsed(),
        })
    }

    /// The program's runs, those included that a paced one skips. Gives the
    /// time of one.
    fn run(&mut self, times: u32) -> Result<Duration, ProgramError> {
        let options = TestRunOptions {
            data_in: Some(&self.template),
            ctx_in: Some(&self.context),
            repeat: times,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let program: &mut Xdp = self
            .ebpf
            .program_mut(self.program)
            .ok_or(ProgramError::NotLoaded)?
            .try_into()?;
        Ok(program.test_run(options)?.duration)
    }

    /// Sets the pace, and counts from nought.
    fn prepare(&mut self, gap_ns: u32) -> Result<()> {
        let mut plans = map(&mut self.ebpf, "PLAN")?;
        let Wrapped::<Plan>(plan) = plans.get(&0, 0).context("reading the generator's plan")?;
        plans.set(0, Wrapped(Plan { gap_ns, ..plan }), 0)?;
        let mut states = map(&mut self.ebpf, "STATE")?;
        let Wrapped::<State>(state) = states.get(&0, 0).context("reading the generator's state")?;
        let state = State {
            frames: 0,
            next_ns: 0,
            ..state
        };
        states.set(0, Wrapped(state), 0)?;
        Ok(())
    }

    /// A frame as the program writes it, not sent.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn sample(&mut self) -> Result<Vec<u8>> {
        let mut frame = vec![0; self.template.len()];
        let options = TestRunOptions {
            data_in: Some(&self.template),
            data_out: Some(&mut frame),
            ..TestRunOptions::new()
        };
        xdp(&mut self.ebpf, self.program)?
            .test_run(options)
            .context("running the generator for a single frame")?;
        Ok(frame)
    }

    /// Frames that the program has sent since [`Generator::prepare`].
    fn frames(&mut self) -> Result<u64> {
        let Wrapped(State { frames, .. }) = map(&mut self.ebpf, "STATE")?
            .get(&0, 0)
            .context("reading the generator's count")?;
        Ok(frames)
    }
}

/// Interrupts the calling thread's system call when its time is over, until it
/// is dropped. A timer and not a thread, which would have to wait for the core.
struct Alarm(#[expect(dead_code, reason = "held until the call is over")] Timer);

impl Alarm {
    fn set(time: Duration) -> Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        // Without SA_RESTART, or the call would go on.
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing, so it may interrupt anything.
        unsafe { sigaction(ENOUGH, &action) }.context("handling the signal that ends a flood")?;
        let event = SigEvent::new(SigevNotify::SigevThreadId {
            signal: ENOUGH,
            thread_id: gettid().as_raw(),
            si_value: 0,
        });
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event).context("making a timer")?;
        // Again and again, for the first may come in front of the call.
        let expiration = Expiration::IntervalDelayed(
            TimeSpec::from_duration(time),
            TimeSpec::from_duration(Duration::from_millis(20)),
        );
        timer
            .set(expiration, TimerSetTimeFlags::empty())
            .context("setting a timer")?;
        Ok(Self(timer))
    }
}

/// Keeps the calling thread on one core. What the receiver does with the
/// frames of [`Generator::send`] is then done there, too.
///
/// # Errors
///
/// There is no such core.
pub fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores
        .set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
        .with_context(|| format!("staying on core {core}"))
}

/// Lets nothing else of the machine have the core while the calling thread
/// works: as with a flood from outside, which interrupts whatever runs there.
///
/// # Errors
///
/// Not root, or the kernel leaves no time to real-time threads of this cgroup.
pub fn come_first() -> Result<()> {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure lives through the call; with 0 it is about the
    // calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
    ensure!(
        result == 0,
        "asking for a real-time thread: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?)
}

fn map<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, Wrapped<T>>>
where
    Wrapped<T>: aya::Pod,
{
    Ok(ebpf
        .map_mut(name)
        .with_context(|| format!("the object has no map {name}"))?
        .try_into()?)
}
