//! What the statistics tell of the policy.

use std::io::{self, Write};

use serde::Serialize;

use super::Snapshot;
use crate::{
    control::record::{Moment, Status},
    view::text::Span,
};

/// The policy in force, and what went wrong with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyStats {
    /// Policies that were put in force since the maps were made.
    pub generation: u64,
    /// Rules of the one in force, without its default; `None`: none is, and every
    /// connection is allowed.
    pub rules: Option<u64>,
    /// What becomes of connections that no rule is about.
    pub default: Option<String>,
    /// File that it was read from.
    pub source: Option<String>,
    /// What brought it: `configuration`, `apply` or `return`.
    pub by: Option<&'static str>,
    /// Since when it is in force, ms.
    pub age_ms: Option<u64>,
    /// Within which it must be confirmed, ms.
    pub confirm_within_ms: Option<u64>,
    /// For how long nothing is enforced yet, since connections are not known, ms.
    pub observes_for_ms: Option<u64>,
    /// Policies that were not put in force, since something was wrong with them.
    pub errors: u64,
    /// What was wrong with the last of these, if no good one came after it.
    pub last_error: Option<String>,
}

impl PolicyStats {
    /// From what the agent has written down.
    #[must_use]
    pub fn new(status: &Status) -> Self {
        let now = Moment::now();
        let policy = status.policy.as_ref();
        let left = |until: Option<Moment>| {
            let left = until?.0.saturating_sub(now.0);
            (left > 0).then_some(left)
        };
        Self {
            generation: status.generation,
            rules: policy.map(|policy| policy.rules as u64),
            default: policy.map(|policy| policy.default.clone()),
            source: policy.and_then(|policy| Some(policy.path.as_ref()?.display().to_string())),
            by: policy.map(|policy| policy.by.as_str()),
            age_ms: policy.map(|policy| now.0.saturating_sub(policy.since.0)),
            confirm_within_ms: left(status.confirm_until),
            observes_for_ms: left(status.observe_until),
            errors: status.errors,
            last_error: status
                .last_error
                .as_ref()
                .map(|error| error.message.clone()),
        }
    }
}

impl Snapshot {
    /// Lines about the policy; none where there has never been one.
    pub(super) fn policy_lines(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        match (policy.rules, &policy.default) {
            (Some(rules), Some(default)) => {
                let source = policy.source.as_deref().unwrap_or("the configuration");
                writeln!(
                    out,
                    "Policy      {rules} rules of {source}, default {default}; generation {}, by {} {} \
                     ago",
                    policy.generation,
                    policy.by.unwrap_or("configuration"),
                    Span(policy.age_ms.unwrap_or(0))
                )?;
            }
            _ if policy.generation + policy.errors > 0 => {
                writeln!(out, "Policy      none: every connection is allowed")?;
            }
            _ => {}
        }
        if let Some(left) = policy.confirm_within_ms {
            writeln!(
                out,
                "            the former one returns in {} unless `tracker policy confirm` comes before",
                Span(left)
            )?;
        }
        if let Some(left) = policy.observes_for_ms {
            writeln!(
                out,
                "            nothing is enforced for {}: connections through this gateway are not known yet",
                Span(left)
            )?;
        }
        match (&policy.last_error, policy.errors) {
            (Some(error), errors) => writeln!(
                out,
                "            {errors} could not be put in force; the last one: {error}"
            ),
            (None, 0) => Ok(()),
            (None, errors) => writeln!(out, "            {errors} could not be put in force"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::record::{By, InForce, Trouble};

    #[test]
    fn what_is_written_down_is_told() {
        let now = Moment::now();
        let status = Status {
            generation: 7,
            policy: Some(InForce {
                path: Some("/etc/p.toml".into()),
                rules: 3,
                default: "drop".to_owned(),
                by: By::Return,
                since: Moment(now.0 - 5000),
            }),
            confirm_until: Some(now.after(60_000)),
            observe_until: Some(Moment(now.0 - 1)),
            errors: 2,
            last_error: Some(Trouble {
                message: "no".to_owned(),
                at: now,
            }),
            gateway: false,
        };
        let told = PolicyStats::new(&status);
        assert_eq!(
            (told.generation, told.rules, told.by),
            (7, Some(3), Some("return"))
        );
        assert_eq!(told.source.as_deref(), Some("/etc/p.toml"));
        assert!(told.age_ms.is_some_and(|age| age >= 5000));
        assert!(told.confirm_within_ms.is_some_and(|left| left > 50_000));
        // What is over is not told.
        assert_eq!(told.observes_for_ms, None);
        assert_eq!((told.errors, told.last_error.as_deref()), (2, Some("no")));
    }
}
