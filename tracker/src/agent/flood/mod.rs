//! Tells when a flood of SYNs begins and when it is over: one line each, never one
//! a packet.
//!
//! | module | what it holds |
//! |---|---|
//! | `watch` | when one begins and ends, judged from counters |
//! | `sampler` | looks at some of the flows that SYNs open |
//! | `sources` | where it comes from and goes to, judged from samples and a sketch |

mod sampler;
mod sources;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{Gauge, Hook, Live, Place, defence_flags},
    reason::{Class, Reason},
    tcp::timeout,
    time::ms_from_ticks,
};

use self::{
    sampler::Sampler,
    sources::{Sample, Sources, touched},
    watch::{Flood, Look, News, Totals, Watch, threshold},
};
use super::{ban::Record, trouble::Trouble};
use crate::{
    datapath::Pinned,
    view::{place, text::Span},
};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Reasons of SYNs from elsewhere for a new connection. That a table is full
/// others find, too; while it matters, they are SYNs.
const SYNS: [Reason; 13] = [
    Reason::FlowOpened,
    Reason::FlowReopened,
    Reason::CookieSent,
    Reason::HalfOpenLimit,
    Reason::ListenerLimit,
    Reason::SourceLimit,
    Reason::TableFull,
    Reason::BadSource,
    Reason::HalfOpenRefused,
    Reason::ListenerRefused,
    Reason::SourceRefused,
    Reason::AnswerLimit,
    Reason::TableRefused,
];

/// Watches for floods until `stop`.
pub async fn run(pinned: Arc<Pinned>, record: Arc<Record>, stop: CancellationToken) {
    let mut trouble = Trouble::about("floods are not watched for");
    let mut observer = Observer::new(pinned, record);
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match observer.look() {
            Ok(()) => trouble.over(),
            Err(error) => trouble.tell(&format!("{error:#}")),
        }
    }
}

/// What is known from one look to the next.
struct Observer {
    pinned: Arc<Pinned>,
    record: Arc<Record>,
    watch: Watch,
    sampler: Sampler,
    /// Of the flood that goes on, or of the second that may be its first.
    sources: Sources,
    /// Cookies that each listener had sent at the last look.
    answered: HashMap<Place, u64>,
    /// See [`Look::completed_permille`].
    completed_permille: u64,
}

impl Observer {
    fn new(pinned: Arc<Pinned>, record: Arc<Record>) -> Self {
        Self {
            pinned,
            record,
            watch: Watch::default(),
            sampler: Sampler::default(),
            sources: Sources::default(),
            answered: HashMap::new(),
            completed_permille: 0,
        }
    }

    fn look(&mut self) -> Result<()> {
        let now_ns = Pinned::now_ns()?;
        let live = self.pinned.live()?;
        let gauges = self.pinned.gauges()?;
        if self.watch.flood().is_none() {
            self.sources = Sources::default();
        }
        self.sample()?;
        let answering = live.defence & defence_flags::ANSWER != 0;
        self.note_answers(answering)?;
        let level = level(&live);
        let look = Look {
            now_ns,
            totals: totals(&self.pinned)?,
            completed_permille: self.completed_permille,
            half_open: gauges[Gauge::HalfOpen as usize],
            level,
            answering,
            threshold: threshold(level, lasting_ms(&live)),
        };
        let before = self.watch.flood().copied();
        let news = self.watch.step(&look);
        if let Some(news) = news {
            self.tell(news, &live)?;
        }
        let (flood, suppressed) = (self.watch.flood().copied(), self.watch.take_suppressed());
        let begun = u64::from(before.is_none() && flood.is_some());
        self.record.change(&self.pinned, |floods| {
            floods.since_ns = flood.map(|flood| flood.began_ns);
            floods.begun += begun;
            floods.suppressed += suppressed;
        })
    }

    fn sample(&mut self) -> Result<()> {
        let samples = self.sampler.take(&self.pinned)?;
        for sample in &samples {
            self.sources.note(sample);
        }
        // Without samples the last ones stand for what is not seen.
        if let Some(permille) = completed_permille(&samples) {
            self.completed_permille = permille;
        }
        Ok(())
    }

    /// Takes note of which listeners sent cookies since the last look.
    fn note_answers(&mut self, answering: bool) -> Result<()> {
        if !answering && self.answered.is_empty() {
            return Ok(());
        }
        let listeners = self.pinned.listeners()?;
        let mut answered = HashMap::with_capacity(listeners.len());
        for (place, listener) in listeners {
            // One that was not there counts from here on.
            let before = self.answered.get(&place).copied().unwrap_or(listener.sent);
            let sent = listener.sent.saturating_sub(before);
            if let Some(at) = place::listener(&place).filter(|_| sent > 0) {
                self.sources.answered(at, sent);
            }
            if answering {
                answered.insert(place, listener.sent);
            }
        }
        self.answered = answered;
        Ok(())
    }

    fn tell(&mut self, news: News, live: &Live) -> Result<()> {
        let (News::Begins { flood, .. } | News::Ends(flood)) = news;
        if flood.totals.sent > 0 {
            let cells = self.pinned.answers()?;
            let touched = touched(&cells, flood.began_ns, Pinned::now_ns()?);
            self.sources.sketched(touched, cells.len());
        }
        match news {
            News::Begins { flood, rate } => {
                // Its first flows are too young to be judged for good.
                let mut sources = self.sources.clone();
                for sample in self.sampler.newest() {
                    sources.note(sample);
                }
                let line = beginning(&flood, rate, &sources, live, self.record.unlogged());
                tracing::warn!(target: "tracker::flood", "{line}");
            }
            News::Ends(flood) => {
                let line = end(&flood, &self.sources);
                tracing::info!(target: "tracker::flood", "{line}");
            }
        }
        Ok(())
    }
}

/// The line for a flood that begins; `unlogged` is the number of those before it
/// that had none.
fn beginning(flood: &Flood, rate: u64, sources: &Sources, live: &Live, unlogged: u64) -> String {
    let Totals { sent, returned, .. } = flood.totals;
    let mut line = format!(
        "a flood of SYNs has begun: {rate} a second{} from {}; {}",
        at(sources),
        sources.told(sent, returned),
        response(live)
    );
    if unlogged > 0 {
        line += &format!(" ({unlogged} before it, within a minute of another, were not logged)");
    }
    line
}

/// The line for one that is over.
fn end(flood: &Flood, sources: &Sources) -> String {
    let Totals {
        syns,
        opened,
        sent,
        returned,
        refused,
    } = flood.totals;
    format!(
        "the flood of SYNs is over after {}: {syns} SYNs{} from {}; at most {} in a second; \
         {opened} opened a flow, {sent} got a cookie, of which {returned} came back, {refused} were \
         refused; at most {} connections were half-open",
        Span(flood.lasted_ms()),
        at(sources),
        sources.told(sent, returned),
        flood.peak,
        flood.high_water
    )
}

fn at(sources: &Sources) -> String {
    match sources.listeners() {
        listeners if listeners.is_empty() => String::new(),
        listeners => format!(" at {listeners}"),
    }
}

/// What is done about it.
const fn response(live: &Live) -> &'static str {
    if live.mode == tracker_common::abi::Mode::Observe as u8 {
        "nothing is done about it, since this tracker observes"
    } else if live.defence & defence_flags::ANSWER != 0 {
        "SYNs are answered with cookies"
    } else {
        "the limits on half-open connections hold"
    }
}

/// Half-open flows that are many: at which adaptive cookies go on, or a quarter of
/// the limit.
fn level(live: &Live) -> u64 {
    match live.wake_level {
        0 => u64::from(live.half_open_limit / 4).max(1),
        level => level.into(),
    }
}

/// How long a half-open flow lasts, ms.
fn lasting_ms(live: &Live) -> u64 {
    let ticks = live.timeouts[0][timeout::Class::SynReceived as usize];
    ms_from_ticks(ticks)
}

/// Of a thousand flows, how many have completed their handshake.
fn completed_permille(samples: &[Sample]) -> Option<u64> {
    let completed = samples.iter().filter(|sample| sample.completed).count() as u64;
    (completed * 1000).checked_div(samples.len() as u64)
}

fn totals(pinned: &Pinned) -> Result<Totals> {
    let mut totals = Totals::default();
    for reason in SYNS {
        let packets = pinned.reason(reason, Hook::Ingress)?.packets;
        totals.syns = totals.syns.saturating_add(packets);
        let into = if matches!(reason, Reason::FlowOpened | Reason::FlowReopened) {
            &mut totals.opened
        } else if reason == Reason::CookieSent {
            &mut totals.sent
        } else if reason.class() == Class::Refuse {
            &mut totals.refused
        } else {
            // It passed without a trace.
            continue;
        };
        *into = into.saturating_add(packets);
    }
    for reason in [Reason::CookieReturned, Reason::CookieUntracked] {
        totals.returned += pinned.reason(reason, Hook::Ingress)?.packets;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tracker_common::{abi::Mode, tcp::timeout::Profile};

    use super::*;

    fn flood() -> Flood {
        let mut watch = Watch::default();
        let mut look = Look {
            now_ns: 5_000_000_000,
            totals: Totals::default(),
            completed_permille: 0,
            half_open: 0,
            level: 100,
            answering: false,
            threshold: 20,
        };
        assert_eq!(watch.step(&look), None);
        look.now_ns += 2_000_000_000;
        look.half_open = 100;
        look.totals = Totals {
            syns: 2000,
            opened: 300,
            sent: 1600,
            returned: 5,
            refused: 100,
        };
        match watch.step(&look) {
            Some(News::Begins { flood, rate: 1000 }) => flood,
            other => panic!("{other:?}"),
        }
    }

    fn sources() -> Sources {
        let mut sources = Sources::default();
        for number in 0..300_u32 {
            sources.note(&Sample {
                source: Ipv4Addr::from_bits(0xc612_0000 + number * 77).into(),
                listener: (Ipv4Addr::new(192, 0, 2, 1).into(), 443),
                completed: false,
            });
        }
        sources.answered((Ipv4Addr::new(192, 0, 2, 1).into(), 80), 1600);
        sources.sketched(1500, 65_536);
        sources
    }

    #[test]
    fn both_lines_say_what_matters() {
        let live = Live {
            mode: Mode::Enforce as u8,
            defence: defence_flags::ANSWER,
            ..Live::observing(Profile::Linux)
        };
        insta::assert_snapshot!(beginning(&flood(), 1000, &sources(), &live, 0), @"a flood of SYNs has begun: 1000 a second at 192.0.2.1:80 (84 %), 192.0.2.1:443 (15 %) from about 1517 addresses in at least 90 prefixes, none of which stands out; they look spoofed; SYNs are answered with cookies");
        let observing = Live::observing(Profile::Linux);
        insta::assert_snapshot!(beginning(&flood(), 1000, &Sources::default(), &observing, 3), @"a flood of SYNs has begun: 1000 a second from addresses that are not known; nothing is done about it, since this tracker observes (3 before it, within a minute of another, were not logged)");
        insta::assert_snapshot!(end(&flood(), &sources()), @"the flood of SYNs is over after 2.0s: 2000 SYNs at 192.0.2.1:80 (84 %), 192.0.2.1:443 (15 %) from about 1517 addresses in at least 90 prefixes, none of which stands out; they look spoofed; at most 1000 in a second; 300 opened a flow, 1600 got a cookie, of which 5 came back, 100 were refused; at most 100 connections were half-open");
    }

    #[test]
    fn every_reason_of_a_syn_is_told_from_the_others() {
        for reason in Reason::ALL {
            // What the policy refuses is its own business.
            let limit = (128..144).contains(&(*reason as u8)) && *reason != Reason::Banned;
            assert!(!limit || SYNS.contains(reason), "{reason:?}");
        }
    }

    #[test]
    fn what_is_many_follows_the_configuration() {
        let mut live = Live::observing(Profile::Linux);
        live.half_open_limit = 4000;
        assert_eq!((level(&live), lasting_ms(&live)), (1000, 60_003));
        live.wake_level = 7;
        assert_eq!(level(&live), 7);
        live.wake_level = 0;
        live.half_open_limit = 1;
        assert_eq!(level(&live), 1);
    }

    #[test]
    fn without_samples_nothing_is_said_of_handshakes() {
        assert_eq!(completed_permille(&[]), None);
        let sample = |completed| Sample {
            source: Ipv4Addr::LOCALHOST.into(),
            listener: (Ipv4Addr::LOCALHOST.into(), 1),
            completed,
        };
        let samples = [sample(true), sample(false), sample(false), sample(false)];
        assert_eq!(completed_permille(&samples), Some(250));
    }
}
