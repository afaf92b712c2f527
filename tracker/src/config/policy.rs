//! The table `[policy]`: where the policy is, and what becomes of its changes. The
//! policy itself is read by [`crate::policy::read`], which tells its errors.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};

use super::file::Human;
use crate::{cli::FlowsChoice, policy::beside};

/// How long a gateway watches before it enforces, unless configured.
const GRACE: Duration = Duration::from_secs(60);

/// `[policy]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    file: Option<PathBuf>,
    watch: Option<bool>,
    flows: Option<FlowsChoice>,
    grace: Option<Grace>,
    // The language's own keys.
    #[serde(rename = "default")]
    action: Option<IgnoredAny>,
    default_log: Option<IgnoredAny>,
    default_reject_with: Option<IgnoredAny>,
    sets: Option<IgnoredAny>,
    ports: Option<IgnoredAny>,
    rules: Option<IgnoredAny>,
    management: Option<IgnoredAny>,
    /// The file that this is the table of.
    #[serde(skip)]
    stands_in: PathBuf,
}

/// Time that a gateway watches.
#[derive(Debug)]
struct Grace(Duration);

impl<'de> Deserialize<'de> for Grace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Human(duration) = Human::deserialize(deserializer)?;
        let longest = Duration::from_secs(86_400);
        if duration <= longest {
            Ok(Self(duration))
        } else {
            Err(D::Error::custom("must lie between 0s and 1d"))
        }
    }
}

impl Policy {
    /// Remembers the file that this is the table of.
    pub(super) fn stand_in(&mut self, path: &Path) {
        path.clone_into(&mut self.stands_in);
    }

    /// Whether the policy itself stands in the table.
    const fn is_here(&self) -> bool {
        self.action.is_some()
            || self.default_log.is_some()
            || self.default_reject_with.is_some()
            || self.sets.is_some()
            || self.ports.is_some()
            || self.rules.is_some()
            || self.management.is_some()
    }

    /// What it says together.
    pub(super) fn check(&self) -> Result<super::Policy> {
        let path = match &self.file {
            Some(file) => {
                ensure!(
                    !self.is_here(),
                    "[policy] holds a policy and names the file {} as well: it can be in one only",
                    file.display()
                );
                Some(beside(&self.stands_in, file))
            }
            None => self.is_here().then(|| self.stands_in.clone()),
        };
        Ok(super::Policy {
            path,
            watch: self.watch.unwrap_or(false),
            flows: self.flows.unwrap_or_default(),
            grace: self.grace.as_ref().map_or(GRACE, |grace| grace.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn checked(text: &str) -> Result<crate::config::Policy> {
        file::parse(text, Path::new("/etc/tracker/t.toml"))?
            .policy
            .check()
    }

    fn error(text: &str) -> String {
        checked(text).unwrap_err().to_string()
    }

    #[test]
    fn there_is_no_policy_unless_it_is_named_or_written() {
        let none = checked("").unwrap();
        assert_eq!(none.path, None);
        assert_eq!((none.watch, none.flows), (false, FlowsChoice::Keep));
        assert_eq!(none.grace, Duration::from_secs(60));
        assert_eq!(checked("[policy]\nwatch = true\n").unwrap().path, None);
        let path = |text: &str| checked(text).unwrap().path.unwrap();
        assert_eq!(
            path("[policy]\ndefault = \"drop\"\n"),
            Path::new("/etc/tracker/t.toml")
        );
        // What is wrong with it is told by who reads it.
        assert_eq!(path("policy.rules = 5\n"), Path::new("/etc/tracker/t.toml"));
        assert_eq!(
            path("policy.file = \"p.toml\"\n"),
            Path::new("/etc/tracker/p.toml")
        );
        assert_eq!(
            path("policy.file = \"/a/p.toml\"\n"),
            Path::new("/a/p.toml")
        );
    }

    #[test]
    fn what_becomes_of_changes_is_read() {
        let keys = checked("[policy]\nwatch = true\nflows = \"kill\"\ngrace = \"0s\"\n").unwrap();
        assert_eq!((keys.watch, keys.flows), (true, FlowsChoice::Kill));
        assert_eq!(keys.grace, Duration::ZERO);
    }

    #[test]
    fn what_is_wrong_is_told() {
        insta::assert_snapshot!(error("[policy]\nwach = true\n"), @r"
        /etc/tracker/t.toml:2:1: unknown field `wach`, expected one of `file`, `watch`, `flows`, `grace`, `default`, `default_log`, `default_reject_with`, `sets`, `ports`, `rules`, `management`
          |
        2 | wach = true
          | ^^^^ did you mean `watch`?
        ");
        insta::assert_snapshot!(error("[policy]\nflows = \"rechek\"\n"), @r#"
        /etc/tracker/t.toml:2:9: unknown variant `rechek`, expected one of `keep`, `recheck`, `kill`
          |
        2 | flows = "rechek"
          |         ^^^^^^^^ did you mean `recheck`?
        "#);
        insta::assert_snapshot!(error("[policy]\ngrace = \"2d\"\n"), @r#"
        /etc/tracker/t.toml:2:9: must lie between 0s and 1d
          |
        2 | grace = "2d"
          |         ^^^^
        "#);
        insta::assert_snapshot!(error("[policy]\nfile = \"p.toml\"\ndefault = \"drop\"\n"), @"[policy] holds a policy and names the file p.toml as well: it can be in one only");
    }
}
