//! The policy: which connections may be opened.
//!
//! People write it in TOML (docs/policy.md). Reading it gives a checked [`model`], or
//! everything that is wrong with it; nothing is ever half-read.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | a checked policy |
//! | [`report`] | what is wrong with one, each with its place |
//! | `read` | from a file to either of these |
//! | `syntax`, `sets` | the language: values, each judged where it stands |
//! | `files` | sets from files of their own |
//! | `check`, `reach`, `space` | what rules say together: which are never reached |
//! | `print` | a policy as text again |
//! | [`prefixes`] | prefixes as people and as the brain have them |
//! | [`compile`] | what the programs look up instead of it |
//! | [`flows`] | flows that are there, as it would be asked about them |

mod check;
pub mod compile;
mod files;
pub mod flows;
pub mod model;
pub mod prefixes;
mod print;
mod reach;
mod read;
pub mod report;
mod sets;
mod space;
mod syntax;

pub use self::{
    print::{Rate, print},
    read::{CONFIG_KEYS, Context, Reading, beside, parse, read},
};

#[cfg(test)]
mod tests;
