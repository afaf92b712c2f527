//! The policy as people write it: which connections may be opened.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | a checked policy |

pub mod model;
