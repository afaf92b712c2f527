//! What the programs report, logged at DEBUG under `tracker::events`; what rules with
//! `log` decide, at INFO under `tracker::policy`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{Cause, Event, EventKind, Family, Key, flow_flags},
    reason::Reason,
    tcp::State,
};

use super::{gaps::Gaps, policy::Policies};
use crate::datapath::{EventRing, Pinned, ProgramLog};

/// The ring of unfinished handshakes is written without a wake-up, so that a
/// flood costs no wake-ups: it is looked at this often.
const POLL_EMBRYO: Duration = Duration::from_millis(100);

/// Events taken at once, so that a flood cannot hold the task.
const BATCH: usize = 4096;

/// Both rings.
pub struct Rings {
    open: AsyncFd<EventRing>,
    embryo: EventRing,
}

impl Rings {
    /// Opens the rings of `pinned`. This process is their only reader.
    ///
    /// # Errors
    ///
    /// They cannot be mapped or waited for.
    pub fn open(pinned: &Pinned) -> Result<Self> {
        let ring = pinned.events()?;
        // SAFETY: the ring owns its descriptor and never changes it.
        let open = unsafe { AsyncFd::register(ring) }.context("cannot wait for events")?;
        Ok(Self {
            open,
            embryo: pinned.embryo_events()?,
        })
    }

    /// Takes what has come, a flow's events in their order: those of its
    /// handshake are older than all that the other ring had before them.
    fn take(&mut self, events: &mut Vec<Event>) {
        events.clear();
        let mut open = Vec::new();
        self.open.get_mut().take(BATCH, &mut open);
        self.embryo.take(BATCH, events);
        events.append(&mut open);
    }
}

/// Logs events until `stop`. `wake` gets the time of each report that half-open
/// flows have become many.
pub async fn run(
    mut rings: Rings,
    wake: watch::Sender<u64>,
    policies: Arc<Policies>,
    stop: CancellationToken,
) {
    let mut gaps = Gaps::default();
    let mut told = 0;
    let mut events = Vec::with_capacity(2 * BATCH);
    let mut poll = interval(POLL_EMBRYO);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let more = tokio::select! {
            () = stop.cancelled() => return,
            _ = poll.tick() => false,
            ready = rings.open.readable_mut() => match ready {
                Ok(mut ready) => {
                    ready.clear_ready();
                    true
                }
                Err(error) => {
                    tracing::error!("events are no longer read: {error}");
                    return;
                }
            },
        };
        // The readiness was cleared first: what comes from here on sets it
        // again. So the ring must be emptied, or nothing wakes the task.
        loop {
            rings.take(&mut events);
            for event in &events {
                if event.kind == EventKind::Decided as u8 {
                    tracing::info!(target: "tracker::policy", "{}", policies.decided(event));
                    continue;
                }
                if event.kind == EventKind::Pressure as u8 {
                    wake.send_replace(event.time_ns);
                } else {
                    gaps.note(event);
                }
                tell(event);
            }
            if !more || events.len() < BATCH || stop.is_cancelled() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if gaps.missed() > told {
            told = gaps.missed();
            tracing::debug!("{told} events of flows were missed so far: the rings are too small");
        }
    }
}

/// Hands log lines of the programs on until `stop`.
pub async fn forward_log(log: ProgramLog, stop: CancellationToken) {
    // SAFETY: the log owns its descriptor and never changes it.
    let mut log = match unsafe { AsyncFd::register(log) } {
        Ok(log) => log,
        Err(error) => {
            tracing::warn!("the programs' log lines cannot be waited for: {error}");
            return;
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = log.readable_mut() => match ready {
                Ok(mut ready) => {
                    ready.clear_ready();
                    ready.get_inner_mut().flush();
                }
                Err(error) => {
                    tracing::warn!("the programs' log lines are no longer read: {error}");
                    return;
                }
            },
        }
    }
}

fn tell(event: &Event) {
    tracing::debug!(target: "tracker::events", "{}", Line(event));
}

/// An event as a line of text.
struct Line<'a>(&'a Event);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        if event.kind == EventKind::Pressure as u8 {
            return f.write_str("half-open flows have become many");
        }
        match ends(&event.key, event.family, event.flags) {
            Some([initiator, responder]) => write!(f, "{initiator} → {responder} ")?,
            None => write!(f, "flow {:016x} ", event.flow.0)?,
        }
        let after = Pair(event.after);
        match EventKind::from_raw(event.kind) {
            Some(EventKind::Opened) => write!(f, "opened {after}: {}", reason(event.reason)),
            Some(EventKind::Changed) => {
                write!(
                    f,
                    "{} → {after}: {}",
                    Pair(event.before),
                    reason(event.reason)
                )
            }
            Some(EventKind::Ended) => {
                let cause = Cause::from_raw(event.reason).map_or("unknown", Cause::as_str);
                let ([sent, answered], [out, back]) = (event.packets, event.bytes);
                write!(
                    f,
                    "ended {after}: {cause}; {sent} packets, {out} bytes and {answered}, {back} back"
                )
            }
            Some(EventKind::Pressure | EventKind::Decided) | None => {
                write!(f, "event of kind {}", event.kind)
            }
        }
    }
}

/// States of initiator and responder.
struct Pair([u8; 2]);

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [initiator, responder] = self.0.map(|bits| State::from_bits(bits).rfc_name());
        write!(f, "{initiator}/{responder}")
    }
}

fn reason(raw: u8) -> &'static str {
    Reason::from_raw(raw).map_or("unknown", Reason::as_str)
}

/// Initiator and responder of a flow; `None` for a family that is none.
fn ends(key: &Key, family: u8, flags: u16) -> Option<[SocketAddr; 2]> {
    let (low, high, ports): (IpAddr, IpAddr, u32) = match Family::from_raw(family)? {
        Family::V4 => {
            let key = key.as_v4();
            (v4(key.low).into(), v4(key.high).into(), key.ports)
        }
        Family::V6 => {
            let key = key.as_v6();
            (v6(key.low).into(), v6(key.high).into(), key.ports)
        }
    };
    let low = SocketAddr::new(low, (ports >> 16) as u16);
    let high = SocketAddr::new(high, ports as u16);
    Some(if flags & flow_flags::INITIATOR_HIGH == 0 {
        [low, high]
    } else {
        [high, low]
    })
}

/// Addresses in keys are the octets of the packet.
fn v4(address: u32) -> Ipv4Addr {
    Ipv4Addr::from(address.to_ne_bytes())
}

fn v6(address: [u32; 4]) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip(address) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::Zone;

    use super::*;

    #[test]
    fn a_change_reads_as_a_line() {
        let client = (u32::from_ne_bytes([10, 0, 0, 1]), 40_000);
        let server = (u32::from_ne_bytes([10, 0, 0, 2]), 80);
        let (key, _) = Key::v4(client, server, Zone(0));
        let mut event = Event {
            key,
            family: Family::V4 as u8,
            kind: EventKind::Changed as u8,
            reason: Reason::Tracked as u8,
            before: [State::SynSent as u8, State::SynReceived as u8],
            after: [State::Established as u8; 2],
            ..Event::default()
        };
        // On which side the initiator is depends on the machine's byte order.
        if ends(&key, event.family, 0).unwrap()[0].port() == 80 {
            event.flags = flow_flags::INITIATOR_HIGH;
        }
        assert_eq!(
            Line(&event).to_string(),
            "10.0.0.1:40000 → 10.0.0.2:80 SYN_SENT/SYN_RECEIVED → ESTABLISHED/ESTABLISHED: tracked"
        );
    }

    #[test]
    fn an_end_carries_its_totals_and_ipv6_its_brackets() {
        let octets = Ipv6Addr::LOCALHOST.octets();
        let word = |at: usize| {
            u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        let address = [word(0), word(4), word(8), word(12)];
        let (key, _) = Key::v6((address, 1), (address, 2), Zone(0));
        let event = Event {
            key,
            family: Family::V6 as u8,
            kind: EventKind::Ended as u8,
            reason: Cause::Flushed as u8,
            packets: [3, 2],
            bytes: [300, 200],
            ..Event::default()
        };
        let line = Line(&event).to_string();
        assert!(
            line.starts_with("[::1]:1 → [::1]:2 ended CLOSED/CLOSED: flushed"),
            "{line}"
        );
        assert!(
            line.ends_with("3 packets, 300 bytes and 2, 200 back"),
            "{line}"
        );
    }

    #[test]
    fn bytes_that_mean_nothing_are_still_a_line() {
        let event = Event {
            family: 9,
            kind: 77,
            ..Event::default()
        };
        assert_eq!(
            Line(&event).to_string(),
            "flow 0000000000000000 event of kind 77"
        );
        let pressure = Event {
            kind: EventKind::Pressure as u8,
            ..Event::default()
        };
        assert_eq!(
            Line(&pressure).to_string(),
            "half-open flows have become many"
        );
    }
}
