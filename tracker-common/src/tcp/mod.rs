//! The TCP state machine, seen from between the two endpoints.

mod open;
mod segment;
mod state;
pub mod timeout;
mod track;

pub use open::{Admission, Opening, admit, open};
pub use segment::{Flags, Options, Segment};
pub use state::{Move, Received, Sent, State, on_arrival, on_sending};
pub use track::{Context, Outcome, meet};
