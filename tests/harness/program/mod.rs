//! The loaded programs, packet by packet.
//!
//! Nothing here is attached and no packet travels: each is handed to a program
//! through `BPF_PROG_TEST_RUN`, and the clock is the test's.
//!
//! | module | concern |
//! |---|---|
//! | [`frame`] | frames with every header that the tracker reads, whole or broken |
//! | [`talk`] | segments of one connection, in numbers relative to its ISNs |
//! | [`mod@bench`] | the programs, their clock, and an account of their counters |
//! | [`random`] | the same random numbers for the same seed |
//! | [`elf`] | the code in the object, for tests that examine it |

pub mod bench;
pub mod elf;
pub mod frame;
pub mod random;
pub mod talk;
