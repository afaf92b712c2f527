//! Any octets as segments, pauses and sweeps through the table.
#![no_main]

use tracker_tests::invariants::script;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let _ = script::check(octets);
});
