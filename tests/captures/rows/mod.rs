//! A row for each capture, by where it comes from.

mod linux;
mod others;
mod suricata;
mod zeek;

use crate::row::Row;

/// All of them.
pub fn all() -> Vec<Row> {
    [linux::ROWS, others::ROWS, suricata::ROWS, zeek::ROWS].concat()
}
