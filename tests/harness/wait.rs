//! Polling with the last mismatch told.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long to sleep between two looks.
///
/// A look costs a few processes (`ss` twice and the agent), some milliseconds
/// each: much shorter would measure little but the looking.
const INTERVAL: Duration = Duration::from_millis(50);

/// Calls `look` until it succeeds, at most for `timeout`, and at least twice.
///
/// # Errors
///
/// The last mismatch that `look` told, with the time that was waited.
pub fn wait_for<T>(
    timeout: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= timeout;
        match look() {
            Ok(value) => return Ok(value),
            Err(mismatch) if late => {
                return Err(format!(
                    "after {:.1} s: {mismatch}",
                    start.elapsed().as_secs_f32()
                ));
            }
            Err(_) => sleep(INTERVAL),
        }
    }
}

/// [`wait_for`] that panics with the last mismatch, printed as it is (with its
/// line breaks, unlike `unwrap`).
#[track_caller]
pub fn eventually<T>(timeout: Duration, look: impl FnMut() -> Result<T, String>) -> T {
    match wait_for(timeout, look) {
        Ok(value) => value,
        Err(mismatch) => panic!("{mismatch}"),
    }
}
