//! What people and scripts see: pure functions from what was read to bytes.
//!
//! Nothing here opens a map or a terminal; flows come in one by one as
//! [`Row`]s, so a listing of a million of them needs no memory, except for the
//! table, which is sorted.

pub mod bans;
mod beneath;
pub mod csv;
pub mod details;
pub mod ends;
pub mod explain;
pub mod head;
pub mod json;
pub mod listeners;
mod listing;
mod names;
pub mod place;
pub mod policy;
pub mod refusal;
mod row;
pub mod stats;
mod table;
pub(crate) mod text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use self::{
    details::Details,
    listing::Listing,
    names::{Names, Quoted},
    row::{Clock, Replayed, Row},
    table::{Fit, LocalAddresses, Table},
};
