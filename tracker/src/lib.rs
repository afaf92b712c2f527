//! Agent and command line of tracker.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: definitions only |
//! | [`config`] | what was typed → a checked configuration |
//! | [`view`] | what was read → what people and scripts see |

pub mod cli;
pub mod config;
pub mod view;
