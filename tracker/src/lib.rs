//! Agent and command line of tracker.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: definitions only |
//! | [`config`] | what was typed → a checked configuration |

pub mod cli;
pub mod config;
