//! Any octets as a frame.
#![no_main]

use tracker_tests::invariants::parsing;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let _ = parsing::check(octets);
});
