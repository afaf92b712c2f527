//! Captures that others made, and what each must come to.
//!
//! They are in a folder that is not part of the project ([`captures`]); where it
//! is missing, nothing can be said about them. A row for each tells the outcome:
//! final states of its flows, what is refused and nothing else, what is never
//! reached. Where somebody else has counted its flows (Zeek, Suricata, nDPI), the
//! counts and states are compared, too, and a row says how many differ and why.
//!
//! PPPoE, MPLS and FabricPath are not read: what is inside passes as `not_ip`.

mod baseline;
mod replayed;
mod row;
mod rows;

use std::{collections::HashSet, fmt::Write as _};

use serde_json::json;
use tracker_tests::captures;

use replayed::Replayed;

#[test]
fn every_capture_comes_to_what_it_must() {
    let Some(files) = captures::find() else {
        return;
    };
    let rows = rows::all();
    let mut wrong = String::new();
    let (mut packets, mut compared, mut differ) = (0, 0, 0);
    for file in &files {
        let Some(row) = rows.iter().find(|row| row.file == file.name) else {
            let _ = writeln!(wrong, "{}: there is no row for it", file.name);
            continue;
        };
        for pickup in [true, false] {
            let replayed = Replayed::new(file, row, pickup)
                .unwrap_or_else(|error| panic!("{}: {error:?}", file.name));
            packets += replayed.packets;
            for line in row.compare(pickup, &replayed) {
                let _ = writeln!(wrong, "{}, pick-up {pickup}: {line}", file.name);
            }
            if let Some(name) = row.baseline.filter(|_| pickup) {
                let path = captures::folder()
                    .join("baselines")
                    .join(row.file)
                    .join(name);
                let theirs = baseline::read(&path).unwrap_or_else(|error| panic!("{error:?}"));
                let (count, lines) = baseline::compare(&theirs, &replayed)
                    .unwrap_or_else(|error| panic!("{}: {error:?}", file.name));
                compared += count;
                differ += lines.len();
                if lines.len() != row.differs {
                    let _ = writeln!(
                        wrong,
                        "{}: {} entries of {name} differ instead of {}:\n    {}",
                        file.name,
                        lines.len(),
                        row.differs,
                        lines.join("\n    ")
                    );
                }
            }
        }
    }
    for row in rows.iter().filter(|row| !row.why.is_empty()) {
        println!("{}: {}\n    {}", row.file, row.requires, row.why);
    }
    let missing: Vec<&str> = rows
        .iter()
        .map(|row| row.file)
        .filter(|name| files.iter().all(|file| file.name != *name))
        .collect();
    println!(
        "judge: {}",
        json!({
            "judge": "captures",
            "files": files.len(),
            "missing": missing,
            "packets": packets,
            "baseline_flows": compared,
            "baseline_differences_explained": differ,
            "wrong": wrong.lines().count(),
        })
    );
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn rows_say_why_they_differ_and_have_names_of_their_own() {
    let mut names = HashSet::new();
    for row in rows::all() {
        assert!(names.insert(row.file), "{} has two rows", row.file);
        assert!(
            row.differs == 0 || !row.why.is_empty(),
            "{} differs from its baseline and does not say why",
            row.file
        );
        assert!(!row.requires.is_empty(), "{} requires nothing", row.file);
    }
}
