//! The thread that carries frames from one end of a wire to the other.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{
    Faults, LATE, Shared, Side, Way,
    end::{End, VNET},
    lock,
};
use crate::program::random::Random;

/// Longest time between two looks at whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Frames taken from one end before the other has its turn.
const BATCH: usize = 64;

/// A frame on its way. Ordered by when it is due, and among equals by when it
/// came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: Instant,
    number: u64,
    /// Index of the end that it goes to.
    to: usize,
    frame: Vec<u8>,
}

/// Frames on their way, and what becomes of the next.
pub struct Carrier {
    ends: [End; 2],
    captured: usize,
    random: Random,
    shared: Arc<Mutex<Shared>>,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    /// Whether the frame before was lost, by the end it came from.
    in_burst: [bool; 2],
}

impl Carrier {
    pub fn new(ends: [End; 2], captured: Side, seed: u64, shared: Arc<Mutex<Shared>>) -> Self {
        Self {
            ends,
            captured: match captured {
                Side::First => 0,
                Side::Second => 1,
            },
            random: Random::new(seed),
            shared,
            queue: BinaryHeap::new(),
            number: 0,
            in_burst: [false; 2],
        }
    }

    /// Carries until told to stop.
    pub fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let mut buffer = vec![0; VNET + (1 << 17)];
        while !stop.load(Ordering::Relaxed) {
            self.wait()?;
            for from in [0, 1] {
                self.take(from, &mut buffer)?;
            }
            self.deliver()?;
        }
        Ok(())
    }

    /// Until a frame comes or is due.
    fn wait(&self) -> Result<()> {
        let next = self.queue.peek().map_or(NAP, |Reverse(due)| {
            due.time.saturating_duration_since(Instant::now()).min(NAP)
        });
        let [first, second] = &self.ends;
        let mut descriptors =
            [first, second].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut descriptors, Some(TimeSpec::from_duration(next)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("waiting for frames"),
        }
    }

    /// Decides about the frames that have come in at one end.
    fn take(&mut self, from: usize, buffer: &mut [u8]) -> Result<()> {
        for _ in 0..BATCH {
            let Some(end) = self.ends.get(from) else {
                break;
            };
            let Some(length) = end.receive(buffer)? else {
                break;
            };
            let frame = buffer.get(..length).unwrap_or_default();
            self.decide(from, frame);
        }
        Ok(())
    }

    fn decide(&mut self, from: usize, frame: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        let bare = frame.get(VNET..).unwrap_or_default();
        if from == self.captured {
            shared.capture.keep(bare);
        }
        shared.account.came += 1;
        let Faults {
            delay,
            jitter,
            reordered,
            lost,
            burst,
            repeated,
            late,
        } = shared.faults;
        let to = 1 - from;
        let now = Instant::now();

        let chance = match self.in_burst.get(from) {
            Some(true) => burst,
            _ => lost,
        };
        let is_lost = self.happens(chance);
        if let Some(in_burst) = self.in_burst.get_mut(from) {
            *in_burst = is_lost;
        }
        if is_lost {
            shared.account.lost += 1;
            note_loss(&mut shared, bare);
            return;
        }
        let mut time = now + delay;
        if self.happens(reordered) {
            time += self.part_of(jitter);
            shared.account.reordered += 1;
        }
        // A second SYN with data may make a second connection of it (RFC 7413
        // section 2.1), which nobody wants: only what TCP copes with.
        let once = segment(bare).is_some_and(|segment| segment.opens_with_data);
        let (repeated, late) = if once { (0, 0) } else { (repeated, late) };
        if self.happens(repeated) {
            let again = time + self.part_of(jitter);
            self.enqueue(again, to, frame);
            shared.account.repeated += 1;
        }
        if self.happens(late) {
            self.enqueue(time + LATE, to, frame);
            shared.account.repeated += 1;
        }
        self.enqueue(time, to, frame);
    }

    fn enqueue(&mut self, time: Instant, to: usize, frame: &[u8]) {
        self.number += 1;
        self.queue.push(Reverse(Due {
            time,
            number: self.number,
            to,
            frame: frame.to_vec(),
        }));
    }

    fn deliver(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(Reverse(due)) = self.queue.peek()
            && due.time <= now
        {
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            let bare = due.frame.get(VNET..).unwrap_or_default();
            if due.to == self.captured {
                lock(&self.shared).capture.keep(bare);
            }
            if let Some(end) = self.ends.get(due.to)
                && !end.send(&due.frame)?
            {
                let mut shared = lock(&self.shared);
                shared.account.lost += 1;
                note_loss(&mut shared, bare);
            }
        }
        Ok(())
    }

    const fn happens(&mut self, per_thousand: u32) -> bool {
        self.random.below(1000) < per_thousand
    }

    fn part_of(&mut self, most: Duration) -> Duration {
        most.mul_f64(f64::from(self.random.bits()) / f64::from(u32::MAX))
    }
}

/// Nothing makes up for a reset that is lost.
fn note_loss(shared: &mut Shared, frame: &[u8]) {
    if let Some(segment) = segment(frame)
        && segment.is_reset
    {
        shared.lost_resets.insert(segment.way);
    }
}

/// What matters of a TCP segment.
struct Segment {
    way: Way,
    is_reset: bool,
    opens_with_data: bool,
}

/// The TCP segment in a frame.
fn segment(frame: &[u8]) -> Option<Segment> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
        return None;
    };
    let (from, to) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        _ => return None,
    };
    let way = (
        SocketAddr::new(from, tcp.source_port()),
        SocketAddr::new(to, tcp.destination_port()),
    );
    Some(Segment {
        way,
        is_reset: tcp.rst(),
        opens_with_data: tcp.syn() && !tcp.payload().is_empty(),
    })
}
