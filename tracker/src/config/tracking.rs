//! The table `[tracking]` of the configuration file: how flows are followed.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};
use tracker_common::abi::{Mode, SYN_ACK_RETRIES};

use super::{
    Adaptive,
    file::{Bounded, Human},
};
use crate::cli::PickupChoice;

/// Where time-outs begin to shrink, and where they would be nothing, in percent
/// of a table: pf's (pf.conf(5), `adaptive.start` and `adaptive.end`).
const ADAPTIVE: Adaptive = Adaptive {
    start: 60,
    end: 120,
};

/// Long enough for a busy connection to be heard, and for one that is kept alive
/// every minute.
const GRACE: Duration = Duration::from_secs(60);

/// What the file says. An absent key is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tracking {
    pickup: Option<PickupChoice>,
    pickup_grace: Option<Grace>,
    liberal: Option<bool>,
    syn_data: Option<SynData>,
    time_wait_reuse: Option<TimeWaitReuse>,
    syn_ack_retries: Option<Bounded<0, 255>>,
    time_wait_limit: Option<Bounded<0, 0x0800_0000>>,
    adaptive: Option<bool>,
    adaptive_start: Option<Bounded<1, 100>>,
    adaptive_end: Option<Bounded<2, 1000>>,
    tcp_checksum: Option<bool>,
    tcp_checksum_force: Vec<String>,
}

/// What becomes of a SYN with data.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum SynData {
    Pass,
    Drop,
}

/// When a SYN may reopen a connection that is in TIME-WAIT.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TimeWaitReuse {
    Rfc6191,
    Never,
}

/// How long flows are picked up.
#[derive(Debug)]
struct Grace(Duration);

impl<'de> Deserialize<'de> for Grace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Human(duration) = Human::deserialize(deserializer)?;
        if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&duration) {
            Ok(Self(duration))
        } else {
            Err(D::Error::custom("must lie between 1ms and 1d"))
        }
    }
}

impl Tracking {
    /// Switches on what flags say beside the file.
    pub(super) fn add(&mut self, liberal: bool, checksum: bool) {
        self.liberal = Some(liberal || self.liberal == Some(true));
        self.tcp_checksum = Some(checksum || self.tcp_checksum == Some(true));
    }

    /// Names of the interfaces that `tcp_checksum_force` is about.
    pub(super) fn checksum_interfaces(&self) -> &[String] {
        &self.tcp_checksum_force
    }

    /// Fills in the defaults and checks what several keys say together. `pickup`
    /// is the flag, which wins over the key.
    ///
    /// # Errors
    ///
    /// They contradict each other, or name an interface that is not tracked.
    pub(super) fn check(
        &self,
        pickup: Option<PickupChoice>,
        mode: Mode,
        capacity: u32,
        interfaces: &[String],
    ) -> Result<super::Tracking> {
        let start = self.adaptive_start.map_or(ADAPTIVE.start, |start| start.0);
        let end = self.adaptive_end.map_or(ADAPTIVE.end, |end| end.0);
        ensure!(
            start < end,
            "tracking.adaptive_start is {start}, which is not below tracking.adaptive_end, which \
             is {end}: time-outs shrink from the one to the other"
        );
        for name in &self.tcp_checksum_force {
            ensure!(
                interfaces.contains(name),
                "tracking.tcp_checksum_force names `{name}`, which is not tracked: the tracked \
                 interfaces are {}",
                interfaces.join(", ")
            );
        }
        let checksum = self.tcp_checksum.unwrap_or(false);
        ensure!(
            checksum || self.tcp_checksum_force.is_empty(),
            "tracking.tcp_checksum_force has no effect without tracking.tcp_checksum = true"
        );
        let by_mode = match mode {
            Mode::Observe => PickupChoice::Loose,
            // A flood of ACKs must not open flows for ever.
            Mode::Enforce => PickupChoice::Grace,
        };
        let pickup = pickup.or(self.pickup).unwrap_or(by_mode);
        Ok(super::Tracking {
            pickup,
            pickup_grace: self.pickup_grace.as_ref().map_or(GRACE, |grace| grace.0),
            liberal: self.liberal.unwrap_or(false),
            drop_syn_data: self.syn_data == Some(SynData::Drop),
            strict_2msl: self.time_wait_reuse == Some(TimeWaitReuse::Never),
            syn_ack_retries: self
                .syn_ack_retries
                .map_or(SYN_ACK_RETRIES, |retries| retries.0 as u8),
            time_wait_limit: self
                .time_wait_limit
                .map_or(default_time_wait_limit(capacity), |limit| limit.0),
            adaptive: self
                .adaptive
                .unwrap_or(true)
                .then_some(Adaptive { start, end }),
            checksum,
            checksum_force: self.tcp_checksum_force.clone(),
        })
    }
}

/// A quarter of a table: connections that are over can then never bring it to
/// where time-outs of those that live are shortened.
const fn default_time_wait_limit(capacity: u32) -> u32 {
    capacity / 4
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file;

    fn error(text: &str) -> String {
        let text = format!("[tracking]\n{text}\n");
        match file::parse(&text, Path::new("t.toml")) {
            Ok(file) => {
                let checked = file
                    .tracking
                    .check(None, Mode::Observe, 1000, &["eth0".to_owned()]);
                checked.unwrap_err().to_string()
            }
            Err(error) => error.to_string(),
        }
    }

    fn checked(text: &str, flag: Option<PickupChoice>) -> super::super::Tracking {
        let text = format!("[tracking]\n{text}\n");
        let file = file::parse(&text, Path::new("t.toml")).unwrap();
        file.tracking
            .check(flag, Mode::Observe, 1000, &["eth0".to_owned()])
            .unwrap()
    }

    #[test]
    fn who_enforces_takes_old_connections_up_for_a_while_only() {
        let pickup = |text| {
            let file = file::parse(text, Path::new("t.toml")).unwrap();
            let checked = file.tracking.check(None, Mode::Enforce, 1000, &[]);
            checked.unwrap().pickup
        };
        assert_eq!(pickup(""), PickupChoice::Grace);
        assert_eq!(
            pickup("[tracking]\npickup = \"loose\"\n"),
            PickupChoice::Loose
        );
    }

    #[test]
    fn words_mean_what_they_say() {
        let strict = checked(
            "pickup = \"off\"\nsyn_data = \"drop\"\ntime_wait_reuse = \"never\"\nliberal = true\n\
             adaptive = false\nsyn_ack_retries = 0",
            None,
        );
        assert_eq!(strict.pickup, PickupChoice::Off);
        assert!(strict.drop_syn_data && strict.strict_2msl && strict.liberal);
        assert_eq!((strict.adaptive, strict.syn_ack_retries), (None, 0));
        let defaults = checked("", None);
        assert_eq!(defaults.pickup, PickupChoice::Loose);
        assert!(!defaults.drop_syn_data && !defaults.strict_2msl && !defaults.liberal);
        assert_eq!(defaults.time_wait_limit, 250);
        assert_eq!(
            defaults.adaptive,
            Some(Adaptive {
                start: 60,
                end: 120
            })
        );
    }

    #[test]
    fn the_flag_wins_over_the_key() {
        let tracking = checked("pickup = \"off\"", Some(PickupChoice::Grace));
        assert_eq!(tracking.pickup, PickupChoice::Grace);
    }

    #[test]
    fn wrong_values_are_pointed_at() {
        insta::assert_snapshot!(error("pickup = \"lose\""), @r#"
        t.toml:2:10: unknown variant `lose`, expected one of `off`, `loose`, `grace`
          |
        2 | pickup = "lose"
          |          ^^^^^^ did you mean `loose`?
        "#);
        insta::assert_snapshot!(error("pickup_grace = \"2 days\""), @r#"
        t.toml:2:16: must lie between 1ms and 1d
          |
        2 | pickup_grace = "2 days"
          |                ^^^^^^^^
        "#);
        insta::assert_snapshot!(error("syn_ack_retries = 256"), @r"
        t.toml:2:19: 256 must lie between 0 and 255
          |
        2 | syn_ack_retries = 256
          |                   ^^^
        ");
        insta::assert_snapshot!(error("time_wait_reuse = \"always\""), @r#"
        t.toml:2:19: unknown variant `always`, expected `rfc6191` or `never`
          |
        2 | time_wait_reuse = "always"
          |                   ^^^^^^^^
        "#);
        insta::assert_snapshot!(error("adaptive_start = 0"), @r"
        t.toml:2:18: 0 must lie between 1 and 100
          |
        2 | adaptive_start = 0
          |                  ^
        ");
    }

    #[test]
    fn contradictions_are_told() {
        insta::assert_snapshot!(error("adaptive_start = 80\nadaptive_end = 80"), @"tracking.adaptive_start is 80, which is not below tracking.adaptive_end, which is 80: time-outs shrink from the one to the other");
        insta::assert_snapshot!(error("tcp_checksum = true\ntcp_checksum_force = [\"eth1\"]"), @"tracking.tcp_checksum_force names `eth1`, which is not tracked: the tracked interfaces are eth0");
        insta::assert_snapshot!(error("tcp_checksum_force = [\"eth0\"]"), @"tracking.tcp_checksum_force has no effect without tracking.tcp_checksum = true");
    }
}
