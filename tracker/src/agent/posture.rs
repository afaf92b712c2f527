//! Which defences the programs are told to use.

use tracker_common::{
    abi::{AtLimit, CookieMode, Live, Mode, Role, defence_flags},
    tcp::Options,
};

use crate::{
    config::{Config, Defence},
    datapath::HostTcp,
};

/// What of the defence does not follow from the configuration alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What this host's TCP does.
    pub host: HostTcp,
    /// SYNs are answered with cookies.
    pub answering: bool,
    /// Cookies may be out.
    pub checking: bool,
    /// Somebody is banned.
    pub bans: bool,
    /// An interface hides what an answer needs: none may be sent.
    pub hindered: bool,
}

impl Facts {
    /// As an earlier agent, or none, left them.
    pub const fn of(live: &Live, host: HostTcp) -> Self {
        Self {
            host,
            answering: live.defence & defence_flags::ANSWER != 0,
            checking: live.defence & defence_flags::CHECK != 0,
            bans: live.defence & defence_flags::BANS != 0,
            hindered: false,
        }
    }
}

/// Whether cookies are ever sent under this configuration.
pub fn may_answer(config: &Config) -> bool {
    config.mode == Mode::Enforce && config.role == Role::Host && wants_cookies(&config.defence)
}

/// Whether some listener is to have them.
fn wants_cookies(defence: &Defence) -> bool {
    defence.cookies != CookieMode::Never
        || defence
            .listeners
            .iter()
            .any(|rule| rule.cookies != CookieMode::Never)
}

/// Whether a SYN may be answered with a cookie at any moment, whatever the
/// controller of cookies decides: at a limit, where the kernel gives one. With
/// `tcp_syncookies = 1` it does so when the listener's own queue is full.
///
/// Then an ACK of no flow must be looked at at any moment, too. At the global
/// limit alone that does not happen where the controller may set the sysctl: it
/// has been woken long before.
fn answers_at_limits(defence: &Defence, host: HostTcp) -> bool {
    let single = defence.listener_limit != 0 || defence.source_limit != 0;
    defence.at_limit != AtLimit::Drop
        && host.syncookies != 0
        && (host.syncookies == 2 || single || !defence.manage_sysctls)
}

/// Whether the kernel may send a cookie of its own for a SYN that passes at a limit,
/// where the tracker sends none: its ACK is then of no flow, and no stray.
fn kernel_answers_at_limits(config: &Config, host: HostTcp) -> bool {
    config.mode == Mode::Enforce
        && config.role == Role::Host
        && config.defence.at_limit != AtLimit::Drop
        && host.syncookies != 0
}

/// [`Live::defence`].
pub fn bits(config: &Config, facts: Facts) -> u8 {
    let Facts {
        host,
        answering,
        checking,
        bans,
        hindered,
    } = facts;
    let cookies = may_answer(config);
    let sends = cookies && !hindered;
    let at_limits = sends && answers_at_limits(&config.defence, host);
    let kernels = !sends && kernel_answers_at_limits(config, host);
    [
        (defence_flags::ANSWER, sends && answering),
        (defence_flags::CHECK, checking || at_limits || kernels),
        (defence_flags::OPTIONS, cookies && host.timestamps == 2),
        (defence_flags::LEARN, cookies || kernels),
        (defence_flags::AT_LIMIT, sends && host.syncookies != 0),
        (defence_flags::BANS, bans),
        (defence_flags::FULL_DROPS, config.defence.full_drops),
        (defence_flags::ECN, cookies && host.ecn),
    ]
    .into_iter()
    .fold(
        0,
        |bits, (bit, is_set)| if is_set { bits | bit } else { bits },
    )
}

/// [`Live::offers`].
pub const fn offers(host: HostTcp) -> u8 {
    let mut bits = Options::MSS;
    if host.timestamps != 0 {
        bits |= Options::TIMESTAMPS;
    }
    if host.sack {
        bits |= Options::SACK_PERMITTED;
    }
    if host.scaling {
        bits |= Options::SCALE;
    }
    bits
}

#[cfg(test)]
pub mod tests {
    use tracker_common::abi::defence_flags::{
        ANSWER, AT_LIMIT, BANS, CHECK, ECN, FULL_DROPS, LEARN, OPTIONS,
    };

    use super::*;
    use crate::{
        cli::RunArgs,
        config::{File, ListenerRule, System, check},
    };

    /// Linux's defaults.
    pub const HOST: HostTcp = HostTcp {
        timestamps: 1,
        syncookies: 1,
        sack: true,
        scaling: true,
        ecn: true,
        scale: 7,
    };

    /// The defaults, enforced.
    pub fn enforcing() -> Config {
        let system = System {
            interfaces: vec!["eth0".to_owned()],
            default_routes: vec!["eth0".to_owned()],
        };
        Config {
            mode: Mode::Enforce,
            ..check(&File::default(), &RunArgs::default(), &system).unwrap()
        }
    }

    const QUIET: Facts = Facts {
        host: HOST,
        answering: false,
        checking: false,
        bans: false,
        hindered: false,
    };

    #[test]
    fn who_enforces_on_a_host_learns_and_may_answer_at_limits() {
        let config = enforcing();
        assert_eq!(bits(&config, QUIET), LEARN | AT_LIMIT | ECN);
        let host = HostTcp {
            timestamps: 2,
            ecn: false,
            ..HOST
        };
        assert_eq!(
            bits(&config, Facts { host, ..QUIET }),
            LEARN | AT_LIMIT | OPTIONS
        );
        let on = Facts {
            answering: true,
            checking: true,
            ..QUIET
        };
        assert_eq!(bits(&config, on), ANSWER | CHECK | LEARN | AT_LIMIT | ECN);
    }

    #[test]
    fn who_observes_or_routes_or_wants_none_sends_none() {
        let on = Facts {
            answering: true,
            bans: true,
            ..QUIET
        };
        let observing = Config {
            mode: Mode::Observe,
            ..enforcing()
        };
        assert_eq!(bits(&observing, on), BANS);
        let gateway = Config {
            role: Role::Gateway,
            ..enforcing()
        };
        assert_eq!(bits(&gateway, on), BANS);
        let mut never = enforcing();
        never.defence.cookies = CookieMode::Never;
        never.defence.full_drops = true;
        never.defence.at_limit = AtLimit::Drop;
        assert_eq!(bits(&never, on), BANS | FULL_DROPS);
        never.defence.listeners.push(ListenerRule {
            address: "192.0.2.1".parse().unwrap(),
            port: 80,
            cookies: CookieMode::Always,
        });
        assert_eq!(bits(&never, on) & (LEARN | ANSWER), LEARN | ANSWER);
    }

    /// A cookie that is sent at a limit comes back in a moment.
    #[test]
    fn acks_are_looked_at_wherever_a_limit_may_bring_a_cookie() {
        let mut config = enforcing();
        let kernel = |syncookies| Facts {
            host: HostTcp { syncookies, ..HOST },
            ..QUIET
        };
        assert_eq!(bits(&config, kernel(1)) & CHECK, 0);
        assert_eq!(bits(&config, kernel(2)) & CHECK, CHECK);
        config.defence.source_limit = 5;
        assert_eq!(bits(&config, kernel(1)) & CHECK, CHECK);
        assert_eq!(bits(&config, kernel(0)) & (CHECK | AT_LIMIT), 0);
        config.defence.at_limit = AtLimit::Drop;
        assert_eq!(bits(&config, kernel(2)) & CHECK, 0);
        // Nobody sets the sysctl when half-open flows become many.
        let mut config = enforcing();
        config.defence.manage_sysctls = false;
        assert_eq!(bits(&config, kernel(1)) & CHECK, CHECK);
    }

    /// The kernel has cookies of its own, whoever sends none.
    #[test]
    fn who_sends_none_takes_the_kernels_for_what_they_are() {
        let mut never = enforcing();
        never.defence.cookies = CookieMode::Never;
        assert_eq!(bits(&never, QUIET), CHECK | LEARN);
        let host = HostTcp {
            syncookies: 0,
            ..HOST
        };
        assert_eq!(bits(&never, Facts { host, ..QUIET }), 0);
        let gateway = Config {
            role: Role::Gateway,
            ..never.clone()
        };
        assert_eq!(bits(&gateway, QUIET), 0);
        let observing = Config {
            mode: Mode::Observe,
            ..never.clone()
        };
        assert_eq!(bits(&observing, QUIET), 0);
        never.defence.at_limit = AtLimit::EvictOldest;
        assert_eq!(bits(&never, QUIET), CHECK | LEARN);
    }

    #[test]
    fn where_an_answer_would_lack_its_tag_none_is_sent() {
        let hindered = Facts {
            answering: true,
            checking: true,
            hindered: true,
            ..QUIET
        };
        assert_eq!(bits(&enforcing(), hindered), CHECK | LEARN | ECN);
    }

    #[test]
    fn only_what_the_host_agrees_to_is_offered() {
        assert_eq!(
            offers(HOST),
            Options::MSS | Options::TIMESTAMPS | Options::SACK_PERMITTED | Options::SCALE
        );
        let host = HostTcp {
            timestamps: 0,
            sack: false,
            scaling: false,
            ..HOST
        };
        assert_eq!(offers(host), Options::MSS);
    }
}
