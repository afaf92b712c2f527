//! The configuration file: its keys, and errors that point into it.
//!
//! What a single value may be is checked while it is read, so that the error
//! knows the line; what several say together is checked in `check`.

use std::{fmt, fs, path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};
use tracker_common::{
    tcp::timeout::{CLASSES, Class, Profile},
    time::{MAX_TIMEOUT_TICKS, ms_from_ticks, ticks_from_ms},
};

use super::{closest, defence::Defence, policy::Policy, tracking::Tracking};
use crate::{
    cli::{ModeChoice, OnExit, RoleChoice, XdpChoice},
    text::Text,
};

/// What a configuration file says. An absent key is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub(super) interfaces: Vec<String>,
    pub(super) role: Option<RoleChoice>,
    pub(super) mode: Option<ModeChoice>,
    pub(super) xdp: Option<XdpChoice>,
    pub(super) on_exit: Option<OnExit>,
    pub(super) pin_dir: Option<PathBuf>,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) table: Table,
    pub(super) tracking: Tracking,
    pub(super) policy: Policy,
    pub(super) defence: Defence,
    pub(super) timeouts: Timeouts,
    pub(super) zones: Vec<Zone>,
    pub(super) agent: Agent,
    pub(super) events: Events,
}

/// `[table]`: the flow tables.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    pub(super) capacity: Option<Bounded<1, 0x0400_0000>>,
    pub(super) preallocate: Option<bool>,
    pub(super) half_open_limit: Option<Bounded<1, 0x0100_0000>>,
    pub(super) pickup_limit: Option<Bounded<0, 0x0400_0000>>,
}

/// `[timeouts]`: a profile, and time-outs that differ from it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Timeouts {
    #[serde(deserialize_with = "profile")]
    pub(super) profile: Option<Profile>,
    syn_sent: Option<Timeout>,
    syn_received: Option<Timeout>,
    established: Option<Timeout>,
    fin_wait: Option<Timeout>,
    half_closed: Option<Timeout>,
    last_ack: Option<Timeout>,
    time_wait: Option<Timeout>,
    closed: Option<Timeout>,
    pickup: Option<Timeout>,
    unacknowledged: Option<Timeout>,
    retransmitting: Option<Timeout>,
}

impl Timeouts {
    /// Ticks by [`Class`], `None` where the profile holds.
    pub(super) fn overrides(&self) -> [Option<u32>; CLASSES] {
        Class::ALL.map(|class| {
            let key = match class {
                Class::SynSent => &self.syn_sent,
                Class::SynReceived => &self.syn_received,
                Class::Established => &self.established,
                Class::FinWait => &self.fin_wait,
                Class::HalfClosed => &self.half_closed,
                Class::LastAck => &self.last_ack,
                Class::TimeWait => &self.time_wait,
                Class::Closed => &self.closed,
                Class::Pickup => &self.pickup,
                Class::Unacknowledged => &self.unacknowledged,
                Class::Retransmitting => &self.retransmitting,
            };
            key.as_ref().map(|timeout| timeout.0)
        })
    }
}

/// One of `[[zones]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    pub(super) interface: String,
    #[serde(default)]
    pub(super) outer: Bounded<0, 4094>,
    #[serde(default)]
    pub(super) inner: Bounded<0, 4094>,
    pub(super) zone: u32,
}

/// `[agent]`: the process itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    pub(super) sweep_interval: Option<SweepInterval>,
}

/// `[events]`: the rings through which the programs report.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Events {
    pub(super) ring_bytes: Option<RingBytes>,
    pub(super) embryo_ring_bytes: Option<RingBytes>,
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounded<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = i64::deserialize(deserializer)?;
        u32::try_from(value)
            .ok()
            .filter(|value| (MIN..=MAX).contains(value))
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{value} must lie between {MIN} and {MAX}")))
    }
}

/// A time-out in ticks, at least 1.
#[derive(Debug)]
struct Timeout(u32);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Human(duration) = Human::deserialize(deserializer)?;
        let longest = Duration::from_millis(ms_from_ticks(MAX_TIMEOUT_TICKS));
        if duration.is_zero() || duration > longest {
            return Err(D::Error::custom(format!(
                "a time-out must be longer than 0 and at most {} days",
                longest.as_secs() / 86_400
            )));
        }
        // Below a millisecond rounds up to a tick, like everything else.
        let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Ok(Self(ticks_from_ms(ms)))
    }
}

/// Time between two sweeps.
#[derive(Debug)]
pub(super) struct SweepInterval(pub(super) Duration);

impl<'de> Deserialize<'de> for SweepInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Human(duration) = Human::deserialize(deserializer)?;
        if (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&duration) {
            Ok(Self(duration))
        } else {
            Err(D::Error::custom("must lie between 10ms and 1h"))
        }
    }
}

/// Size of a ring buffer in octets.
#[derive(Debug)]
pub(super) struct RingBytes(pub(super) u32);

impl<'de> Deserialize<'de> for RingBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Bounded(bytes) = Bounded::<4096, 0x4000_0000>::deserialize(deserializer)?;
        if bytes.is_power_of_two() {
            Ok(Self(bytes))
        } else {
            Err(D::Error::custom(format!(
                "{bytes} is no power of two, which the kernel asks of a ring; the next one is {}",
                bytes.next_power_of_two()
            )))
        }
    }
}

/// A duration as people write it: `90s`, `2h 4m`, `250ms`.
#[derive(Debug)]
pub(super) struct Human(pub(super) Duration);

impl<'de> Deserialize<'de> for Human {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Human;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, in quotes, such as \"90s\" or \"2h 4m\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Human, E> {
                humantime::parse_duration(text).map(Human).map_err(|error| {
                    E::custom(format!(
                        "\"{text}\" is no duration such as \"2h 4m\": {error}"
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The profile of that name.
fn profile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Profile>, D::Error> {
    let word = String::deserialize(deserializer)?;
    let found = Profile::ALL
        .into_iter()
        .find(|profile| profile.as_str() == word);
    if found.is_none() {
        let known = Profile::ALL
            .map(|profile| format!("`{}`", profile.as_str()))
            .join(", ");
        return Err(D::Error::custom(format!(
            "unknown profile `{word}`, expected one of {known}"
        )));
    }
    Ok(found)
}

/// Reads a configuration file.
///
/// # Errors
///
/// When the file cannot be read, is not TOML, has a key that does not exist or
/// a value that cannot be; the message names file, line and column.
pub fn load(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    parse(&text, path)
}

/// The file `path` with the content `text`.
pub(super) fn parse(text: &str, path: &Path) -> Result<File> {
    let mut file: File =
        toml::from_str(text).map_err(|error| anyhow::Error::msg(explain(&error, text, path)))?;
    file.policy.stand_in(path);
    Ok(file)
}

/// The error with its place, the line it is in, and what may have been meant.
fn explain(error: &toml::de::Error, text: &str, path: &Path) -> String {
    let message = error.message().trim();
    let Some(span) = error.span() else {
        return format!("{}: {message}", path.display());
    };
    let text = Text::new(text);
    let place = text.place(&span);
    let hint = meant(message).map(|meant| format!("did you mean `{meant}`?"));
    format!(
        "{}:{}:{}: {message}\n{}",
        path.display(),
        place.line,
        place.column,
        place.excerpt(hint.as_deref())
    )
}

/// What serde lists as possible that is closest to what it found: both stand
/// in backticks in its messages for unknown fields and variants.
fn meant(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    closest(found, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("t.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_pointed_at_and_the_closest_one_named() {
        insta::assert_snapshot!(error("role = \"host\"\n\n[table]\ncapasity = 5\n"), @r"
        t.toml:4:1: unknown field `capasity`, expected one of `capacity`, `preallocate`, `half_open_limit`, `pickup_limit`
          |
        4 | capasity = 5
          | ^^^^^^^^ did you mean `capacity`?
        ");
    }

    #[test]
    fn a_wrong_value_is_pointed_at() {
        insta::assert_snapshot!(error("[timeouts]\nestablished = 120\n"), @r#"
        t.toml:2:15: invalid type: integer `120`, expected a duration with its unit, in quotes, such as "90s" or "2h 4m"
          |
        2 | established = 120
          |               ^^^
        "#);
        insta::assert_snapshot!(error("[timeouts]\nestablished = \"5 fortnights\"\n"), @r#"
        t.toml:2:15: "5 fortnights" is no duration such as "2h 4m": unknown time unit "fortnights", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)
          |
        2 | established = "5 fortnights"
          |               ^^^^^^^^^^^^^^
        "#);
        insta::assert_snapshot!(error("[timeouts]\ntime_wait = \"0s\"\n"), @r#"
        t.toml:2:13: a time-out must be longer than 0 and at most 104 days
          |
        2 | time_wait = "0s"
          |             ^^^^
        "#);
        insta::assert_snapshot!(error("[timeouts]\ntime_wait = \"200d\"\n"), @r#"
        t.toml:2:13: a time-out must be longer than 0 and at most 104 days
          |
        2 | time_wait = "200d"
          |             ^^^^^^
        "#);
        insta::assert_snapshot!(error("[timeouts]\nprofile = \"linus\"\n"), @r#"
        t.toml:2:11: unknown profile `linus`, expected one of `linux`, `pf`, `rfc`, `aggressive`
          |
        2 | profile = "linus"
          |           ^^^^^^^ did you mean `linux`?
        "#);
        insta::assert_snapshot!(error("role = \"gatewy\"\n"), @r#"
        t.toml:1:8: unknown variant `gatewy`, expected `host` or `gateway`
          |
        1 | role = "gatewy"
          |        ^^^^^^^^ did you mean `gateway`?
        "#);
        insta::assert_snapshot!(error("[table]\ncapacity = 0\n"), @r"
        t.toml:2:12: 0 must lie between 1 and 67108864
          |
        2 | capacity = 0
          |            ^
        ");
        insta::assert_snapshot!(error("[table]\ncapacity = -1\n"), @r"
        t.toml:2:12: -1 must lie between 1 and 67108864
          |
        2 | capacity = -1
          |            ^^
        ");
        insta::assert_snapshot!(error("[events]\nring_bytes = 5000\n"), @r"
        t.toml:2:14: 5000 is no power of two, which the kernel asks of a ring; the next one is 8192
          |
        2 | ring_bytes = 5000
          |              ^^^^
        ");
        insta::assert_snapshot!(error("[agent]\nsweep_interval = \"1ms\"\n"), @r#"
        t.toml:2:18: must lie between 10ms and 1h
          |
        2 | sweep_interval = "1ms"
          |                  ^^^^^
        "#);
        insta::assert_snapshot!(error("[[zones]]\ninterface = \"e\"\nouter = 4095\nzone = 1\n"), @r"
        t.toml:3:9: 4095 must lie between 0 and 4094
          |
        3 | outer = 4095
          |         ^^^^
        ");
        insta::assert_snapshot!(error("[[zones]]\ninterface = \"e\"\n"), @r"
        t.toml:1:1: missing field `zone`
          |
        1 | [[zones]]
          | ^^^^^^^^^
        ");
    }

    #[test]
    fn what_is_not_toml_is_pointed_at() {
        insta::assert_snapshot!(error("role = \n"), @r"
        t.toml:1:8: string values must be quoted, expected literal string
          |
        1 | role = 
          |        ^
        ");
        insta::assert_snapshot!(error("[table\n"), @r"
        t.toml:1:7: unclosed table, expected `]`
          |
        1 | [table
          |       ^
        ");
    }

    #[test]
    fn durations_take_several_units() {
        let file = parse(
            "[timeouts]\nestablished = \"2h 4m\"\nclosed = \"250ms\"\n",
            Path::new("t"),
        )
        .unwrap();
        let overrides = file.timeouts.overrides();
        assert_eq!(
            overrides[Class::Established as usize],
            Some(ticks_from_ms(7_440_000))
        );
        assert_eq!(overrides[Class::Closed as usize], Some(ticks_from_ms(250)));
        assert_eq!(overrides[Class::Pickup as usize], None);
    }

    /// A class whose key in the file is not its name would be an override that
    /// nobody can find.
    #[test]
    fn every_class_of_time_out_has_its_key() {
        for class in Class::ALL {
            let text = format!("[timeouts]\n{} = \"7s\"\n", class.as_str());
            let overrides = parse(&text, Path::new("t")).unwrap().timeouts.overrides();
            for other in Class::ALL {
                let expected = (other == class).then(|| ticks_from_ms(7000));
                assert_eq!(overrides[other as usize], expected);
            }
        }
    }
}
