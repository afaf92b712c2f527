//! What the fuzzer has found worth keeping (`fuzz/corpus`), through the same
//! laws as there: each input led to code that no other one led to, or broke a law
//! once.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use serde_json::json;
use tracker_tests::invariants::{TARGETS, Target};

/// The inputs of a target, in the order of their names.
fn inputs(target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let folder = folder.join(target.name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort_unstable();
    inputs
}

#[test]
fn every_input_of_the_corpus_keeps_the_laws() {
    let mut all_broken = Vec::new();
    for target in TARGETS {
        let mut broken = Vec::new();
        let inputs = inputs(&target);
        assert!(inputs.len() > 20, "{}: the corpus is missing", target.name);
        let mut looked_at = 0;
        for input in &inputs {
            let octets = fs::read(input).unwrap_or_else(|error| panic!("{input:?}: {error}"));
            // The message has been printed when the panic is caught.
            match catch_unwind(AssertUnwindSafe(|| (target.check)(&octets))) {
                Ok(count) => looked_at += count,
                Err(_) => broken.push(input.display().to_string()),
            }
        }
        println!(
            "judge: {}",
            json!({
                "judge": "corpus",
                "target": target.name,
                "inputs": inputs.len(),
                "looked_at": looked_at,
                "broken": broken.len(),
            })
        );
        assert!(looked_at > 0, "{}: nothing was looked at", target.name);
        all_broken.extend(broken);
    }
    assert!(all_broken.is_empty(), "laws are broken by {all_broken:#?}");
}
