//! The TCP state machine, seen from between the two endpoints.

mod check;
mod express;
mod judge;
mod open;
mod reset;
mod seed;
mod segment;
mod state;
pub mod timeout;
mod track;

pub use check::in_flight;
pub use express::{is_plain, pass};
pub use judge::wants_pending;
pub use open::{Admission, Limit, Opening, admit, full, open, stray};
pub use seed::{is_sound, plant};
pub use segment::{Flags, Options, Segment};
use state::knows_its_fin_taken;
pub use state::{
    Bits, Cell, Move, Received, Sent, State, arriving, on_arrival, on_sending, sending,
};
pub use track::{Admitted, CLOSED, Context, Outcome, meet};

#[cfg(test)]
mod tests;
