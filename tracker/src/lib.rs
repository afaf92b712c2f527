//! Agent and command line of tracker.
