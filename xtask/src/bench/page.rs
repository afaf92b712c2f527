//! docs/bench.md, and the results that it is written from.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{BENCHES, Results, in_workspace};

/// Results of full runs, by the name of the bench.
const RESULTS: &str = "docs/bench.json";
/// The page.
const PAGE: &str = "docs/bench.md";

const HEAD: &str = "\
# Benches

<!-- docs/bench.md is written by `cargo xtask bench` from docs/bench.json. -->

Every figure stands beside a floor or a peer of the same run, on the same machine. Contestants take turns (A B A B), and
what counts is the ratio within a round: machines drift, virtual ones most of all. A cell gives the median, and in
brackets the smallest and the largest of all rounds.

    cargo xtask bench            # what there is
    cargo xtask bench flood      # a full run, which writes this page
    cargo xtask bench long-flood # likewise
    cargo xtask bench policy     # likewise
    cargo xtask bench flood --quick --json flood.json
";

/// The results that are kept; none if there is no file.
///
/// # Errors
/// The file cannot be read or is not JSON.
pub fn load() -> Result<Results> {
    let file = in_workspace(RESULTS)?;
    match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("cannot understand {}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Keeps results.
///
/// # Errors
/// The file cannot be written.
pub fn keep(results: &Results) -> Result<()> {
    store(&in_workspace(RESULTS)?, &Value::Object(results.clone()))
}

/// Writes JSON to a file.
///
/// # Errors
/// The file cannot be written.
pub fn store(file: &Path, value: &Value) -> Result<()> {
    fs::write(file, format!("{value:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Writes the page.
///
/// # Errors
/// The page cannot be written.
pub fn write(results: &Results) -> Result<()> {
    let file = in_workspace(PAGE)?;
    fs::write(&file, page(results)).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written: {}", file.display());
    Ok(())
}

fn page(results: &Results) -> String {
    let sections = BENCHES.iter().map(|bench| {
        results.get(bench.name).map_or_else(
            || format!("\n## {}\n\n(This bench has not run yet.)\n", bench.name),
            |result| format!("\n{}", (bench.section)(result)),
        )
    });
    std::iter::once(HEAD.to_owned()).chain(sections).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_has_its_section_even_before_it_has_run() {
        let page = page(&Results::new());
        for bench in BENCHES {
            assert!(page.contains(&format!("## {}", bench.name)));
        }
    }
}
