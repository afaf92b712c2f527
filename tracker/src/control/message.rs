//! What the command line asks of the agent, and what it answers.

use serde::{Deserialize, Serialize};

use super::stored::StoredPolicy;
use crate::cli::FlowsChoice;

/// Version of what is said; both ends must have the same.
pub const VERSION: u32 = 1;

/// A question and its version.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    /// [`VERSION`] of who asks.
    pub version: u32,
    /// The question. Kept as JSON until the version was looked at.
    pub request: serde_json::Value,
}

/// What the agent is asked to do.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Put a policy in force. With `confirm_s` a second answer follows when that
    /// was decided.
    Apply(Box<Apply>),
    /// Keep the policy that awaits it.
    Confirm,
}

/// A policy to be put in force.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The policy, checked.
    pub policy: StoredPolicy,
    /// What becomes of flows that it would not admit.
    pub flows: FlowsChoice,
    /// Seconds after which the policy before it returns unless it is confirmed.
    pub confirm_s: Option<u64>,
    /// Even where it cuts off who manages this machine.
    pub force: bool,
}

/// What the agent answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// The policy is in force.
    Applied(Applied),
    /// The policy that awaited it stays.
    Confirmed,
    /// Nobody confirmed in time: the policy before it is in force again.
    Returned,
    /// It was not done.
    Refused {
        /// Why, and what helps.
        why: String,
    },
}

/// A policy that was put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Policies that were put in force since the maps were made, this one included.
    pub generation: u64,
    /// Its rules, without the default.
    pub rules: u64,
    /// It is in force, and the tracker only observes.
    pub observing: bool,
    /// Flows that were ended, where that was asked for.
    pub killed: u64,
    /// What its author may not have meant.
    pub warnings: Vec<String>,
    /// Seconds in which it must be confirmed.
    pub confirm_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_people_would_write_them() {
        let confirm = serde_json::to_string(&Request::Confirm).unwrap();
        assert_eq!(confirm, r#"{"do":"confirm"}"#);
        let unknown = serde_json::from_str::<Request>(r#"{"do":"dance"}"#);
        assert!(unknown.unwrap_err().to_string().contains("dance"));
        let refused = Reply::Refused { why: "no".into() };
        let text = serde_json::to_string(&refused).unwrap();
        assert_eq!(text, r#"{"answer":"refused","why":"no"}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), refused);
    }
}
