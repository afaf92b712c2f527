//! The policy as people write it: which connections may be opened.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | a checked policy |
//! | [`compile`] | what the programs look up instead of it |

pub mod compile;
pub mod model;
