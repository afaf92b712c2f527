//! The stateful policy: which connections may be opened.
//!
//! A rule is looked at for the first packet of a flow only. [`decide`] finds it in
//! the compiled form that the agent makes; [`interpret`] finds it by looking at one
//! rule after the other, for people and for tests. What becomes of the packet then
//! is in [`verdict`].

mod interpret;
mod limit;
mod matcher;
mod reject;
mod subject;
mod verdict;

pub use interpret::{Mismatch, Ports, Prefix, Prefixes, Terms, interpret, mismatch};
pub use limit::{REPORTS, conforms};
pub use matcher::{Blocks, Decision, Found, NO_RULE, decide, first_common, judges_pickups};
pub use reject::{QUOTE, Reply, prohibited, quoted, reset};
pub use subject::{Action, Direction, Directions, Subject};
pub use verdict::{Rejection, Verdict, is_answer, rejection, tracks_refused, unrelated, verdict};

#[cfg(test)]
mod tests;
