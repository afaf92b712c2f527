//! Captures through the brain, and beside it through the loaded program.
//!
//! | module | what it holds |
//! |---|---|
//! | [`capture`] | the files: packets with their times |
//! | `link` | a packet of any link type as an Ethernet frame |
//! | `clock` | the capture's clock as the tracker's |
//! | `table`, `entry` | the brain with a table of flows around it |
//! | `beside` | the loaded program, which must say the same |
//! | `run` | all of these together |
//! | [`trace`] | a line for each packet |
//! | `progress` | how far a long file is read |

mod beside;
pub mod capture;
mod clock;
mod entry;
mod link;
mod progress;
mod run;
mod table;
pub mod trace;

#[cfg(test)]
mod tests;

pub use self::{
    beside::{Beside, comparable},
    clock::Clock,
    entry::Entry,
    link::{Frame, Heading, Link, frame},
    progress::Progress,
    run::{Judged, Replay, STATIONS, Stats},
    table::{Ended, Id, Passage, Seen, Settings, Table},
};
