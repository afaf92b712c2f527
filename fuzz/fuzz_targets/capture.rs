//! Any octets as a capture file.
#![no_main]

use tracker_tests::invariants::captured;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let _ = captured::check(octets);
});
