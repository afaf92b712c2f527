//! Decides when SYNs are answered with cookies, and sees to it that what is sent
//! can be taken back.
//!
//! Before the first cookie the kernel must be ready to make and take them, and
//! ACKs must be looked at; after the last one it must stay so until the cookies in
//! flight have aged. So they go on in the order CHECK, sysctl, ANSWER, and off in
//! the order ANSWER, sysctl, CHECK.

mod unanswered;

use std::{fmt::Display, future::pending, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracker_common::{
    abi::{AtLimit, CookieMode, Gauge, Hook},
    defence::Adaptive,
    reason::Reason,
};

use self::unanswered::Unanswered;
use super::{
    flight::{Cookies, Flight, Hits, ns},
    listeners,
    live::LiveOwner,
    posture,
    sysctls::Custody,
    trouble::Trouble,
};
use crate::{
    config::{Config, Defence, OLDEST_COOKIE},
    datapath::{CookieNote, HostTcp, Managed, Pinned, hidden_tags},
};

/// Time between two looks while cookies are on, or may soon be.
const BUSY: Duration = Duration::from_millis(100);
/// Time between two looks else; a datapath that needs one sooner wakes the task.
const IDLE: Duration = Duration::from_secs(1);

/// Looks after SYN cookies.
pub struct Controller {
    pinned: Arc<Pinned>,
    live: Arc<LiveOwner>,
    config: Arc<Config>,
    sysctls: Custody,
    adaptive: Adaptive,
    flight: Flight,
    hits: Hits,
    /// Until this moment cookies of an earlier agent count as in flight, ns.
    aged_ns: u64,
    /// Until this moment the kernel may take them, ns.
    refused_ns: u64,
    note: CookieNote,
    /// As they were when cookies went on last.
    before: Cookies,
    /// Why none can be sent on an interface.
    obstacle: Option<String>,
    unanswered: Unanswered,
    /// The sysctl of timestamps was set for this configuration.
    stamped: bool,
    /// When things that change seldom were last looked at.
    looked: Option<Instant>,
    trouble: Trouble,
}

impl Controller {
    /// Takes over where an earlier agent has stopped, tells which sysctls will
    /// change, and sets those that must be right from the start. Cookies that are
    /// always on are on afterwards.
    ///
    /// # Errors
    ///
    /// A tracked interface hides the VLAN tags that answers need, or the maps
    /// cannot be read.
    pub fn begin(
        pinned: &Arc<Pinned>,
        live: &Arc<LiveOwner>,
        config: &Arc<Config>,
    ) -> Result<Self> {
        if let Some(refusal) = refusal(config, hidden_tags) {
            bail!(refusal);
        }
        let now_ns = Pinned::now_ns()?;
        let facts = live.facts();
        let defence = &config.defence;
        let sysctls = Custody::new(pinned.sysctls(), defence.manage_sysctls);
        sysctls.announce(config, facts.host);
        let earlier = facts.checking || sysctls.holds(Managed::SynCookies);
        let after = |age| match earlier {
            true => now_ns.saturating_add(ns(age)),
            false => now_ns,
        };
        let mut controller = Self {
            pinned: Arc::clone(pinned),
            live: Arc::clone(live),
            sysctls,
            adaptive: Adaptive {
                answering: facts.answering,
                ..Adaptive::new(defence.cookies_on, defence.cookies_off)
            },
            flight: Flight::new(now_ns, count(pinned)?),
            hits: Hits::new(turned_away(pinned)?),
            aged_ns: after(defence.cookie_age),
            refused_ns: after(OLDEST_COOKIE),
            note: CookieNote {
                mode: defence.cookies,
                on_since_ns: facts.answering.then_some(now_ns),
                times_on: 0,
            },
            before: Cookies::default(),
            obstacle: None,
            unanswered: Unanswered::default(),
            stamped: false,
            looked: None,
            trouble: Trouble::about("SYN cookies are not looked after"),
            config: Arc::clone(config),
        };
        controller.before = controller.flight.latest();
        if let Some(earlier) = pinned.cookies() {
            controller.note.times_on = earlier.times_on;
            if facts.answering {
                controller.note.on_since_ns = earlier.on_since_ns.or(Some(now_ns));
            }
        }
        // Without cookies the tracker goes on all the same.
        if let Err(error) = controller.step(None) {
            controller.trouble.tell(&format!("{error:#}"));
        }
        controller.write_note()?;
        Ok(controller)
    }

    /// Goes on until `stop`. `woken` brings the time of each report that half-open
    /// flows have become many, coarse ns of `CLOCK_MONOTONIC`.
    pub async fn run(
        mut self,
        mut configs: watch::Receiver<Arc<Config>>,
        mut woken: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Self {
        let mut pace = IDLE;
        loop {
            let mut event_ns = None;
            tokio::select! {
                () = stop.cancelled() => return self,
                time_ns = report(&mut woken) => event_ns = Some(time_ns),
                Ok(()) = configs.changed() => {
                    let config = Arc::clone(&configs.borrow_and_update());
                    self.configure(config);
                }
                () = sleep(pace) => {}
            }
            match self.step(event_ns) {
                Ok(next) => {
                    self.trouble.over();
                    pace = next;
                }
                Err(error) => self.trouble.tell(&format!("{error:#}")),
            }
        }
    }

    /// Stops answering, gives cookies in flight the configured time to come back
    /// unless `hurry`, and sets the sysctls back. With `keep` all stays as it is.
    ///
    /// # Errors
    ///
    /// Something could not be set back; the rest was.
    pub async fn end(mut self, keep: bool, hurry: &CancellationToken) -> Result<()> {
        if keep {
            return Ok(());
        }
        self.live.defend(|facts| facts.answering = false)?;
        if !self.config.defence.listeners.is_empty() {
            listeners::apply(&self.pinned, None, false)?;
        }
        let now_ns = Pinned::now_ns()?;
        self.flight.note(now_ns, count(&self.pinned)?);
        let before = self.flight.latest();
        let out = self.in_flight(now_ns);
        let held = Managed::ALL
            .iter()
            .any(|&sysctl| self.sysctls.holds(sysctl));
        let drain = self.config.defence.drain;
        if out > 0 && held && !drain.is_zero() {
            tracing::info!("SYNs are no longer answered; waiting {drain:?} for {out} cookies");
            tokio::select! {
                () = sleep(drain) => {}
                () = hurry.cancelled() => tracing::info!("not waiting any longer"),
            }
            let after = count(&self.pinned)?;
            let late = after.returned.saturating_sub(before.returned);
            tracing::info!(
                "{late} cookies came back meanwhile; {} more may still come and be refused",
                out.saturating_sub(late)
            );
        }
        let restored = Managed::ALL.map(|sysctl| self.sysctls.restore(sysctl));
        restored.into_iter().collect::<Result<()>>()
    }

    /// Takes a new configuration over.
    fn configure(&mut self, config: Arc<Config>) {
        let defence = &config.defence;
        (self.adaptive.on, self.adaptive.off) = (defence.cookies_on, defence.cookies_off);
        self.note.mode = defence.cookies;
        self.looked = None;
        self.stamped = false;
        let begins = posture::may_answer(&config) && !posture::may_answer(&self.config);
        self.config = config;
        if begins {
            self.sysctls.announce(&self.config, self.live.facts().host);
        }
        if let Err(error) = self.write_note() {
            tracing::warn!(
                "`tracker stats` tells of cookies what was configured before: {error:#}"
            );
        }
    }

    /// One look, and what follows from it. Gives the time until the next one.
    fn step(&mut self, event_ns: Option<u64>) -> Result<Duration> {
        let now_ns = Pinned::now_ns()?;
        self.flight.note(now_ns, count(&self.pinned)?);
        self.hits.note(now_ns, turned_away(&self.pinned)?);
        let half_open = self.pinned.gauges()?[Gauge::HalfOpen as usize];
        let in_flight = self.in_flight(now_ns);
        let limit = self.config.half_open_limit;
        let was = self.adaptive.answering;
        let pressed = self.adaptive.step(half_open, in_flight, limit);
        let slow = pressed != was || self.looked.is_none_or(|looked| looked.elapsed() >= IDLE);
        if slow {
            self.look(pressed)?;
        }

        let can = posture::may_answer(&self.config)
            && self.obstacle.is_none()
            && self.sysctls.cookies_can_be_had(self.live.facts().host);
        let (answer, always) = wishes(&self.config, pressed);
        let Defence {
            at_limit,
            listener_limit,
            source_limit,
            cookie_age,
            ..
        } = self.config.defence;
        let at_limits = at_limit != AtLimit::Drop && self.hits.within(now_ns, cookie_age);
        let wish = Wish {
            answer: can && answer,
            ready: can && (answer || always || at_limits),
        };
        let reach = [half_open, in_flight];
        self.fulfil(wish, slow, now_ns, event_ns, reach)?;
        // The programs wake nobody at the limit of a listener or a source.
        let single = at_limit != AtLimit::Drop && listener_limit | source_limit != 0;
        let near = half_open.saturating_mul(2) >= self.adaptive.on_level(limit).into()
            || single && half_open > 0;
        Ok(if wish.ready || near { BUSY } else { IDLE })
    }

    /// What changes seldom: what the host does, which addresses it has, whether an
    /// interface hides tags, and the modes of single listeners.
    fn look(&mut self, pressed: bool) -> Result<()> {
        self.looked = Some(Instant::now());
        let may_answer = posture::may_answer(&self.config);
        if may_answer && !self.stamped {
            self.stamped = true;
            // Without it cookies still work, with fewer options.
            if let Err(error) = self.sysctls.raise(Managed::Timestamps) {
                tracing::error!("SYN cookies carry no window scale, SACK or timestamps: {error:#}");
            }
        }
        let host = HostTcp::read();
        self.live.defend(|facts| facts.host = host)?;
        if may_answer {
            self.unanswered.look(&self.pinned)?;
        }
        let obstacle = obstacle(&self.config, hidden_tags);
        if obstacle != self.obstacle {
            match &obstacle {
                Some(obstacle) => tracing::error!("no SYN cookies are sent: {obstacle}"),
                None => tracing::info!("SYN cookies can be sent again"),
            }
            self.obstacle = obstacle;
        }
        let hindered = self.obstacle.is_some();
        self.live.defend(|facts| facts.hindered = hindered)?;
        let defence = (may_answer && !hindered).then_some(&self.config.defence);
        listeners::apply(&self.pinned, defence, pressed)
    }

    /// Does what is wished, in the order that the module tells. `reach` is the
    /// number of half-open flows and of cookies in flight.
    fn fulfil(
        &mut self,
        wish: Wish,
        slow: bool,
        now_ns: u64,
        event_ns: Option<u64>,
        reach: [u64; 2],
    ) -> Result<()> {
        let facts = self.live.facts();
        if wish.ready {
            if slow || !facts.checking || wish.answer != facts.answering {
                self.live.defend(|facts| facts.checking = true)?;
                self.sysctls.raise(Managed::SynCookies)?;
                self.live.defend(|facts| {
                    facts.host.syncookies = Managed::WANTED;
                    facts.answering = wish.answer;
                })?;
            }
        } else {
            self.live.defend(|facts| facts.answering = false)?;
            let age = self.config.defence.cookie_age;
            let aged = now_ns >= self.aged_ns && !self.flight.sent_within(now_ns, age);
            if aged && self.sysctls.holds(Managed::SynCookies) {
                self.sysctls.restore(Managed::SynCookies)?;
                self.looked = None;
            }
            if aged && !posture::may_answer(&self.config) {
                self.sysctls.restore(Managed::Timestamps)?;
            }
            let out = now_ns < self.refused_ns || self.flight.sent_within(now_ns, OLDEST_COOKIE);
            let checking = facts.checking && out;
            self.live.defend(|facts| facts.checking = checking)?;
        }
        if wish.answer != facts.answering {
            self.turned(wish.answer, now_ns, event_ns, reach)?;
        }
        Ok(())
    }

    /// Tells that cookies went on or off.
    fn turned(
        &mut self,
        on: bool,
        now_ns: u64,
        event_ns: Option<u64>,
        [half_open, in_flight]: [u64; 2],
    ) -> Result<()> {
        let limit = self.config.half_open_limit;
        if on {
            self.before = self.flight.latest();
            self.note.on_since_ns = Some(now_ns);
            self.note.times_on += 1;
            if self.config.defence.cookies == CookieMode::Always {
                tracing::info!("SYN cookies are on, as they always are");
                return self.write_note();
            }
            let after = match event_ns {
                Some(event_ns) => format!(
                    ", {} ms after the one that made them many",
                    Pinned::now_ns()?.saturating_sub(event_ns) / 1_000_000
                ),
                None => String::new(),
            };
            tracing::warn!(
                "SYN cookies are on: {half_open} half-open flows of at most {limit}{after}"
            );
        } else {
            let Cookies { sent, returned } = self.flight.latest();
            let lasted = self.note.on_since_ns.take().unwrap_or(now_ns);
            tracing::info!(
                "SYN cookies are off after {} s: {half_open} half-open flows, {in_flight} cookies \
                 in flight; {} were sent, {} came back",
                now_ns.saturating_sub(lasted) / 1_000_000_000,
                sent.saturating_sub(self.before.sent),
                returned.saturating_sub(self.before.returned)
            );
        }
        self.write_note()
    }

    /// Cookies in flight; of those of an earlier agent none is known, so as long as
    /// they may be there, they count as enough to go on.
    fn in_flight(&self, now_ns: u64) -> u64 {
        let known = self
            .flight
            .in_flight(now_ns, self.config.defence.cookie_age);
        if now_ns < self.aged_ns && self.adaptive.answering {
            known.max(self.config.half_open_limit.into())
        } else {
            known
        }
    }

    fn write_note(&self) -> Result<()> {
        let mode = match posture::may_answer(&self.config) {
            true => self.note.mode,
            false => CookieMode::Never,
        };
        Ok(self.pinned.set_cookies(CookieNote { mode, ..self.note })?)
    }
}

/// What is to be.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// SYNs are answered.
    answer: bool,
    /// The kernel is ready for it; single listeners may be answered for, and SYNs
    /// that find a limit reached.
    ready: bool,
}

/// Whether SYNs are to be answered for listeners without a rule, or by an adaptive
/// rule; and whether those to some listener always are.
fn wishes(config: &Config, pressed: bool) -> (bool, bool) {
    let rules = &config.defence.listeners;
    let any = |mode| rules.iter().any(|rule| rule.cookies == mode);
    let answer = match config.defence.cookies {
        CookieMode::Always => true,
        CookieMode::Adaptive => pressed,
        CookieMode::Never => pressed && any(CookieMode::Adaptive),
    };
    (answer, any(CookieMode::Always))
}

/// What stands against cookies, if any are to be sent, on the tracked interfaces;
/// `hides` tells what an interface hides of its frames.
fn obstacle<H: Display>(config: &Config, hides: impl Fn(&str) -> Option<H>) -> Option<String> {
    let mut interfaces = config.interfaces.iter();
    let hidden = || interfaces.find_map(|name| hides(name));
    posture::may_answer(config)
        .then(hidden)
        .flatten()
        .map(|hidden| hidden.to_string())
}

/// Why there can be no start with this configuration.
fn refusal<H: Display>(config: &Config, hides: impl Fn(&str) -> Option<H>) -> Option<String> {
    let obstacle = obstacle(config, hides)?;
    Some(format!(
        "no SYN cookies can be sent: {obstacle}; or set defence.cookies = \"never\""
    ))
}

/// Cookies since the maps were made.
fn count(pinned: &Pinned) -> Result<Cookies> {
    let packets = |reason| {
        pinned
            .reason(reason, Hook::Ingress)
            .map(|count| count.packets)
    };
    Ok(Cookies {
        sent: packets(Reason::CookieSent)?,
        returned: packets(Reason::CookieReturned)? + packets(Reason::CookieUntracked)?,
    })
}

/// SYNs that passed at a limit since the maps were made, for want of a cookie.
fn turned_away(pinned: &Pinned) -> Result<u64> {
    let limits = [
        Reason::HalfOpenLimit,
        Reason::ListenerLimit,
        Reason::SourceLimit,
    ];
    limits.into_iter().try_fold(0_u64, |total, reason| {
        let count = pinned.reason(reason, Hook::Ingress)?;
        Ok(total.wrapping_add(count.packets))
    })
}

/// The next report; none comes any more once nobody can make one.
async fn report(woken: &mut watch::Receiver<u64>) -> u64 {
    match woken.changed().await {
        Ok(()) => *woken.borrow_and_update(),
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::{Mode, Role};

    use super::{super::posture::tests::enforcing, *};
    use crate::config::ListenerRule;

    /// No interface here hides tags; the words are those of `datapath::HiddenTags`.
    #[test]
    fn who_would_answer_without_the_tag_is_refused_the_start() {
        let mends = "`ethtool -K eth1 rxvlan off` mends it";
        let hides = |name: &str| (name == "eth1").then_some(mends);
        let config = |interfaces: &[&str]| Config {
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
            ..enforcing()
        };
        let refused = refusal(&config(&["eth0", "eth1"]), hides).unwrap();
        assert!(refused.contains(mends) && refused.contains("defence.cookies = \"never\""));
        assert_eq!(refusal(&config(&["eth0"]), hides), None);
        // Who sends none needs no tags.
        let mut never = config(&["eth1"]);
        never.defence.cookies = CookieMode::Never;
        assert_eq!(refusal(&never, hides), None);
        let observing = Config {
            mode: Mode::Observe,
            ..config(&["eth1"])
        };
        assert_eq!(refusal(&observing, hides), None);
        let gateway = Config {
            role: Role::Gateway,
            ..config(&["eth1"])
        };
        assert_eq!(refusal(&gateway, hides), None);
    }

    #[test]
    fn cookies_follow_their_mode_and_a_listener_its_own() {
        let config = |cookies, rule: Option<CookieMode>| {
            let mut config = enforcing();
            config.defence.cookies = cookies;
            config
                .defence
                .listeners
                .extend(rule.map(|cookies| ListenerRule {
                    address: "192.0.2.1".parse().unwrap(),
                    port: 80,
                    cookies,
                }));
            config
        };
        for (cookies, rule, quiet, pressed) in [
            (CookieMode::Never, None, (false, false), (false, false)),
            (CookieMode::Adaptive, None, (false, false), (true, false)),
            (CookieMode::Always, None, (true, false), (true, false)),
            (
                CookieMode::Never,
                Some(CookieMode::Adaptive),
                (false, false),
                (true, false),
            ),
            (
                CookieMode::Never,
                Some(CookieMode::Always),
                (false, true),
                (false, true),
            ),
            (
                CookieMode::Adaptive,
                Some(CookieMode::Never),
                (false, false),
                (true, false),
            ),
        ] {
            let config = config(cookies, rule);
            assert_eq!(wishes(&config, false), quiet, "{cookies:?} {rule:?}");
            assert_eq!(wishes(&config, true), pressed, "{cookies:?} {rule:?}");
        }
    }
}
