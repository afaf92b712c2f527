//! The table `[defence]` of the configuration file: what is done against floods
//! of SYNs.

use std::{fmt, net::IpAddr, time::Duration};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error as _, de::Visitor};
use tracker_common::abi::{AtLimit, CookieMode, Role};

use super::{
    Ban, ListenerRule,
    file::{Bounded, Human},
};

/// Fill of the half-open limit at which adaptive cookies go on, and below which
/// they go off, in percent: pf's (pf.conf(5), `syncookies adaptive`).
const ON: u32 = 25;
const OFF: u32 = 12;

/// Longer than an honest client takes for its ACK, however often that is lost.
const COOKIE_AGE: Duration = Duration::from_secs(30);
/// After this time the kernel refuses a cookie (`MAX_SYNCOOKIE_AGE`,
/// include/net/tcp.h).
pub const OLDEST_COOKIE: Duration = Duration::from_secs(120);
/// SYN-ACKs a second to one address: more than one client behind an address
/// translation needs, and less than hurts anybody.
const ANSWER_RATE: u32 = 200;
/// The longest round trip to expect, and a retransmission.
const DRAIN: Duration = Duration::from_secs(3);
/// Rules for listeners; the programs have room for 4096 listeners in all.
const LISTENERS: usize = 1024;

/// What the file says. An absent key is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Defence {
    cookies: Option<Cookies>,
    cookies_on: Option<Bounded<1, 100>>,
    cookies_off: Option<Bounded<1, 99>>,
    cookie_age: Option<CookieAge>,
    at_limit: Option<Limit>,
    listener_limit: Option<Bounded<0, 0x0100_0000>>,
    source_limit: Option<Bounded<0, 0x0100_0000>>,
    source_prefix_v4: Option<Bounded<24, 32>>,
    source_prefix_v6: Option<Bounded<48, 64>>,
    full: Option<Full>,
    answer_rate: Option<Bounded<0, 1_000_000>>,
    manage_sysctls: Option<bool>,
    drain: Option<Drain>,
    listeners: Vec<Listener>,
    ban: BanKeys,
}

/// One of `[[defence.listeners]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    address: Address,
    port: Bounded<1, 65_535>,
    cookies: Cookies,
}

/// `[defence.ban]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BanKeys {
    enabled: Option<bool>,
    after: Option<BanAfter>,
    #[serde(rename = "for")]
    lasts: Option<BanTime>,
}

/// When SYNs are answered with a cookie.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Cookies {
    Never,
    Adaptive,
    Always,
}

impl From<Cookies> for CookieMode {
    fn from(word: Cookies) -> Self {
        match word {
            Cookies::Never => Self::Never,
            Cookies::Adaptive => Self::Adaptive,
            Cookies::Always => Self::Always,
        }
    }
}

/// What becomes of a SYN at a limit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Limit {
    Cookie,
    Drop,
    EvictOldest,
}

impl From<Limit> for AtLimit {
    fn from(word: Limit) -> Self {
        match word {
            Limit::Cookie => Self::Cookie,
            Limit::Drop => Self::Drop,
            Limit::EvictOldest => Self::EvictOldest,
        }
    }
}

/// What becomes of a new flow that finds its table full.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Full {
    Pass,
    Drop,
}

/// An address without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address(IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address in quotes, such as \"192.0.2.1\" or \"::\" for any")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map(Address).map_err(|_| {
                    E::custom(format!(
                        "\"{text}\" is no address such as \"192.0.2.1\" or \"2001:db8::1\""
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// How long a cookie counts as in flight.
#[derive(Debug)]
struct CookieAge(Duration);

impl<'de> Deserialize<'de> for CookieAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        between(
            deserializer,
            Duration::from_secs(1),
            OLDEST_COOKIE,
            "1s and 2m",
        )
        .map(Self)
    }
}

/// How long the end waits for cookies in flight.
#[derive(Debug)]
struct Drain(Duration);

impl<'de> Deserialize<'de> for Drain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        between(deserializer, Duration::ZERO, OLDEST_COOKIE, "0s and 2m").map(Self)
    }
}

/// How long a source must stand at its limit to be banned.
#[derive(Debug)]
struct BanAfter(Duration);

impl<'de> Deserialize<'de> for BanAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hour = Duration::from_secs(3600);
        between(deserializer, Duration::from_secs(1), hour, "1s and 1h").map(Self)
    }
}

/// How long a ban lasts.
#[derive(Debug)]
struct BanTime(Duration);

impl<'de> Deserialize<'de> for BanTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let year = Duration::from_secs(365 * 86_400);
        between(deserializer, Duration::from_secs(1), year, "1s and 365d").map(Self)
    }
}

fn between<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: Duration,
    most: Duration,
    words: &str,
) -> Result<Duration, D::Error> {
    let Human(duration) = Human::deserialize(deserializer)?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(D::Error::custom(format!("must lie between {words}")))
    }
}

impl Defence {
    /// Fills in the defaults and checks what several keys say together.
    ///
    /// # Errors
    ///
    /// They contradict each other or the role.
    pub(super) fn check(&self, role: Role) -> Result<super::Defence> {
        let cookies_on = self.cookies_on.map_or(ON, |percent| percent.0);
        let cookies_off = self.cookies_off.map_or(OFF, |percent| percent.0);
        ensure!(
            cookies_off < cookies_on,
            "defence.cookies_off is {cookies_off}, which is not below defence.cookies_on, which \
             is {cookies_on}: cookies would go on and off with every SYN"
        );
        let listeners = rules(&self.listeners)?;
        let asked = self.cookies.map(CookieMode::from);
        if role == Role::Gateway {
            // A gateway would have to translate the numbers of both ends.
            if let Some(mode @ (CookieMode::Adaptive | CookieMode::Always)) = asked {
                bail!(
                    "defence.cookies is \"{}\", but with role = \"gateway\" no cookies can be \
                     sent: they are answers of the listener's own host. Set it to \"never\", or \
                     run the tracker on the hosts that listen",
                    mode.as_str()
                );
            }
            if let Some(rule) = listeners
                .iter()
                .find(|rule| rule.cookies != CookieMode::Never)
            {
                bail!(
                    "[[defence.listeners]] for {} port {} has cookies = \"{}\", but with role = \
                     \"gateway\" no cookies can be sent",
                    rule.address,
                    rule.port,
                    rule.cookies.as_str()
                );
            }
        }
        let by_role = match role {
            Role::Host => CookieMode::Adaptive,
            Role::Gateway => CookieMode::Never,
        };
        let source_limit = self.source_limit.map_or(0, |limit| limit.0);
        Ok(super::Defence {
            cookies: asked.unwrap_or(by_role),
            cookies_on,
            cookies_off,
            cookie_age: self.cookie_age.as_ref().map_or(COOKIE_AGE, |age| age.0),
            at_limit: self.at_limit.map_or(AtLimit::Cookie, AtLimit::from),
            listener_limit: self.listener_limit.map_or(0, |limit| limit.0),
            source_limit,
            source_bits: [
                self.source_prefix_v4.map_or(32, |bits| bits.0 as u8),
                self.source_prefix_v6.map_or(64, |bits| bits.0 as u8),
            ],
            full_drops: self.full == Some(Full::Drop),
            answer_rate: self.answer_rate.map_or(ANSWER_RATE, |rate| rate.0),
            manage_sysctls: self.manage_sysctls.unwrap_or(true),
            drain: self.drain.as_ref().map_or(DRAIN, |drain| drain.0),
            listeners,
            ban: self.ban.check(source_limit)?,
        })
    }
}

impl BanKeys {
    fn check(&self, source_limit: u32) -> Result<Ban> {
        let enabled = self.enabled.unwrap_or(false);
        ensure!(
            !enabled || source_limit != 0,
            "defence.ban.enabled = true bans sources that stand at their limit, and \
             defence.source_limit is 0: set that, too"
        );
        let duration = |key: Option<Duration>, default| key.unwrap_or(Duration::from_secs(default));
        Ok(Ban {
            enabled,
            after: duration(self.after.as_ref().map(|after| after.0), 10),
            lasts: duration(self.lasts.as_ref().map(|lasts| lasts.0), 600),
        })
    }
}

/// The rules for listeners. Two for the same one would leave its mode to chance.
fn rules(listeners: &[Listener]) -> Result<Vec<ListenerRule>> {
    ensure!(
        listeners.len() <= LISTENERS,
        "there are {} [[defence.listeners]], more than the {LISTENERS} that are possible",
        listeners.len()
    );
    let mut rules: Vec<ListenerRule> = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.iter().enumerate() {
        let (Address(address), port) = (listener.address, listener.port.0 as u16);
        ensure!(
            !rules
                .iter()
                .any(|other| (other.address, other.port) == (address, port)),
            "[[defence.listeners]] number {} repeats {address} port {port}",
            index + 1
        );
        rules.push(ListenerRule {
            address,
            port,
            cookies: listener.cookies.into(),
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file;

    fn error(text: &str, role: Role) -> String {
        match file::parse(text, Path::new("t.toml")) {
            Ok(file) => file.defence.check(role).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn checked(text: &str, role: Role) -> super::super::Defence {
        let file = file::parse(text, Path::new("t.toml")).unwrap();
        file.defence.check(role).unwrap()
    }

    #[test]
    fn words_mean_what_they_say() {
        let text = "[defence]\ncookies = \"always\"\nat_limit = \"evict-oldest\"\nfull = \"drop\"\n\
                    source_prefix_v4 = 24\nsource_prefix_v6 = 48\nsource_limit = 9\ndrain = \"0s\"\n\
                    manage_sysctls = false\n\
                    [defence.ban]\nenabled = true\nfor = \"1h\"\n\
                    [[defence.listeners]]\naddress = \"::\"\nport = 443\ncookies = \"never\"\n";
        let defence = checked(text, Role::Host);
        assert_eq!(defence.cookies, CookieMode::Always);
        assert_eq!(defence.at_limit, AtLimit::EvictOldest);
        assert_eq!(defence.source_bits, [24, 48]);
        assert_eq!((defence.listener_limit, defence.source_limit), (0, 9));
        assert!(defence.full_drops && !defence.manage_sysctls && defence.drain.is_zero());
        assert!(defence.ban.enabled);
        assert_eq!(defence.ban.lasts, Duration::from_secs(3600));
        assert_eq!(
            defence.listeners,
            [ListenerRule {
                address: "::".parse().unwrap(),
                port: 443,
                cookies: CookieMode::Never,
            }]
        );
    }

    #[test]
    fn a_gateway_sends_no_cookies_and_says_so_where_they_are_asked_for() {
        assert_eq!(checked("", Role::Host).cookies, CookieMode::Adaptive);
        assert_eq!(checked("", Role::Gateway).cookies, CookieMode::Never);
        let never = checked("[defence]\ncookies = \"never\"\n", Role::Gateway);
        assert_eq!(never.cookies, CookieMode::Never);
        insta::assert_snapshot!(error("[defence]\ncookies = \"always\"\n", Role::Gateway), @r#"defence.cookies is "always", but with role = "gateway" no cookies can be sent: they are answers of the listener's own host. Set it to "never", or run the tracker on the hosts that listen"#);
        let rule =
            "[[defence.listeners]]\naddress = \"192.0.2.1\"\nport = 80\ncookies = \"adaptive\"\n";
        insta::assert_snapshot!(error(rule, Role::Gateway), @r#"[[defence.listeners]] for 192.0.2.1 port 80 has cookies = "adaptive", but with role = "gateway" no cookies can be sent"#);
    }

    #[test]
    fn contradictions_and_impossible_values_are_told() {
        let host = |text: &str| error(text, Role::Host);
        insta::assert_snapshot!(host("[defence]\ncookies_on = 10\n"), @"defence.cookies_off is 12, which is not below defence.cookies_on, which is 10: cookies would go on and off with every SYN");
        let rule =
            "[[defence.listeners]]\naddress = \"192.0.2.1\"\nport = 80\ncookies = \"never\"\n";
        insta::assert_snapshot!(host(&format!("{rule}{rule}")), @"[[defence.listeners]] number 2 repeats 192.0.2.1 port 80");
        insta::assert_snapshot!(host("[defence]\ncookies = \"sometimes\"\n"), @r#"
        t.toml:2:11: unknown variant `sometimes`, expected one of `never`, `adaptive`, `always`
          |
        2 | cookies = "sometimes"
          |           ^^^^^^^^^^^
        "#);
        insta::assert_snapshot!(host("[defence]\nat_limit = \"evict_oldest\"\n"), @r#"
        t.toml:2:12: unknown variant `evict_oldest`, expected one of `cookie`, `drop`, `evict-oldest`
          |
        2 | at_limit = "evict_oldest"
          |            ^^^^^^^^^^^^^^ did you mean `evict-oldest`?
        "#);
        insta::assert_snapshot!(host("[defence]\ncookie_age = \"3m\"\n"), @r#"
        t.toml:2:14: must lie between 1s and 2m
          |
        2 | cookie_age = "3m"
          |              ^^^^
        "#);
        insta::assert_snapshot!(host("[defence]\nsource_prefix_v4 = 16\n"), @r"
        t.toml:2:20: 16 must lie between 24 and 32
          |
        2 | source_prefix_v4 = 16
          |                    ^^
        ");
        insta::assert_snapshot!(host("[[defence.listeners]]\naddress = \"localhost\"\nport = 80\ncookies = \"never\"\n"), @r#"
        t.toml:2:11: "localhost" is no address such as "192.0.2.1" or "2001:db8::1"
          |
        2 | address = "localhost"
          |           ^^^^^^^^^^^
        "#);
        insta::assert_snapshot!(host("[defence.ban]\nenabled = true\n"), @"defence.ban.enabled = true bans sources that stand at their limit, and defence.source_limit is 0: set that, too");
        insta::assert_snapshot!(host("[defence.ban]\nfor = \"0s\"\n"), @r#"
        t.toml:2:7: must lie between 1s and 365d
          |
        2 | for = "0s"
          |       ^^^^
        "#);
    }
}
