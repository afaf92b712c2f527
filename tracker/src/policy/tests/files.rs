//! Sets and policies from files.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::super::{Context, Reading, prefixes, read};

const POLICY: &str = "default = \"drop\"\n[sets.bad]\nfile = \"bad.txt\"\n[[rules]]\nname = \"bad\"\n\
                      from = \"@bad\"\naction = \"drop\"\n";

/// A directory with the policy and the content of its set.
fn directory(set: impl AsRef<[u8]>) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("p.toml"), POLICY).unwrap();
    fs::write(directory.path().join("bad.txt"), set).unwrap();
    directory
}

fn reading(directory: &Path) -> Reading {
    read(&directory.join("p.toml"), &Context::default())
}

/// What is told, without the directory's name.
fn told(reading: &Reading, directory: &Path) -> String {
    let told = reading.report.to_string();
    told.replace(&format!("{}/", directory.display()), "")
}

#[test]
fn a_set_is_a_prefix_a_line() {
    let directory =
        directory("\u{feff}# Bad ones\n10.0.0.0/8\r\n\n  2001:db8::/32 # why\n192.0.2.7");
    let reading = reading(directory.path());
    assert_eq!(reading.report.to_string(), "");
    let policy = reading.policy.unwrap();
    let prefixes: Vec<_> = policy.sets[0]
        .prefixes
        .iter()
        .map(|prefix| prefixes::from_brain(prefix).to_string())
        .collect();
    assert_eq!(prefixes, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    assert_eq!(policy.source.set_files, [directory.path().join("bad.txt")]);
    assert_eq!(policy.source.path, Some(directory.path().join("p.toml")));
}

#[test]
fn errors_name_the_line_of_the_set() {
    let directory = directory("10.0.0.0/8\n  10.0.0.1/8 # why\nexample.org\n\u{feff}10.0.0.0/40\n");
    let reading = reading(directory.path());
    assert_eq!(reading.policy, None);
    insta::assert_snapshot!(told(&reading, directory.path()), @r#"
    bad.txt:2:3: error: `10.0.0.1/8` has bits set behind its first 8
      |
    2 |   10.0.0.1/8 # why
      |   ^^^^^^^^^^ the prefix is "10.0.0.0/8", the address alone "10.0.0.1"

    bad.txt:3:1: error: `example.org` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses
      |
    3 | example.org
      | ^^^^^^^^^^^

    bad.txt:4:2: error: `10.0.0.0/40` has a length of `40`; it must be a number from 0 to 32
      |
    4 | ﻿10.0.0.0/40
      |  ^^^^^^^^^^^
    "#);
}

#[test]
fn of_a_file_that_is_no_list_a_few_lines_are_told() {
    let directory = directory("{ \"json\": 1 }\n".repeat(1000));
    let reading = reading(directory.path());
    assert_eq!(reading.report.error_count(), 21);
    let last = reading.report.problems().last().unwrap();
    assert!(reading.report.problems().iter().any(|problem| {
        problem.message
            == "980 more lines of it are no prefixes: is it a list of one prefix a line?"
    }));
    assert_eq!(last.line, Some(20));
    let binary = self::directory(b"10.0.0.0/8\n\xff\xfe");
    let binary_reading = self::reading(binary.path());
    insta::assert_snapshot!(told(&binary_reading, binary.path()), @"bad.txt: error: line 2 is no text in UTF-8");
}

#[test]
fn a_set_whose_file_vanished_stays_as_it_was() {
    let directory = directory("10.0.0.0/8\n192.0.2.0/24\n");
    let before = reading(directory.path()).policy.unwrap();
    fs::remove_file(directory.path().join("bad.txt")).unwrap();
    let without = reading(directory.path());
    assert_eq!(without.policy, None);
    insta::assert_snapshot!(told(&without, directory.path()), @r#"
    p.toml:3:8: error: cannot read the file bad.txt of the set `bad`: No such file or directory (os error 2)
      |
    3 | file = "bad.txt"
      |        ^^^^^^^^^
    "#);
    let context = Context {
        former: Some(&before),
        ..Context::default()
    };
    let with = read(&directory.path().join("p.toml"), &context);
    assert_eq!(with.policy.as_ref(), Some(&before));
    assert_eq!(with.report.stale_sets(), ["bad"]);
    insta::assert_snapshot!(told(&with, directory.path()), @r#"
    p.toml:3:8: warning: cannot read the file bad.txt of the set `bad`: No such file or directory (os error 2); the set stays as it was (2 prefixes)
      |
    3 | file = "bad.txt"
      |        ^^^^^^^^^
    "#);
    // What is there and wrong is an error all the same.
    fs::write(directory.path().join("bad.txt"), "x.y\n").unwrap();
    let wrong = read(&directory.path().join("p.toml"), &context);
    assert_eq!((wrong.policy, wrong.report.error_count()), (None, 1));
}

#[test]
fn only_regular_files_are_read() {
    let directory = directory("");
    fs::remove_file(directory.path().join("bad.txt")).unwrap();
    fs::create_dir(directory.path().join("bad.txt")).unwrap();
    let reading = reading(directory.path());
    insta::assert_snapshot!(told(&reading, directory.path()), @r#"
    p.toml:3:8: error: cannot read the file bad.txt of the set `bad`: it is no regular file
      |
    3 | file = "bad.txt"
      |        ^^^^^^^^^
    "#);
    let none = read(&directory.path().join("bad.txt"), &Context::default());
    insta::assert_snapshot!(told(&none, directory.path()), @"bad.txt: error: cannot read the policy: it is no regular file");
    let none = read(&directory.path().join("nowhere.toml"), &Context::default());
    insta::assert_snapshot!(told(&none, directory.path()), @"nowhere.toml: error: cannot read the policy: No such file or directory (os error 2)");
}

#[test]
fn a_configuration_may_name_the_file() {
    let directory = directory("10.0.0.0/8\n");
    let configuration = directory.path().join("tracker.toml");
    fs::write(
        &configuration,
        "role = \"host\"\n[policy]\nfile = \"p.toml\"\n",
    )
    .unwrap();
    let reading = read(&configuration, &Context::default());
    let policy = reading.policy.unwrap();
    assert_eq!(policy.rules[0].name, "bad");
    assert_eq!(policy.source.path, Some(directory.path().join("p.toml")));
    // One file names another, and that is the end of it.
    fs::write(
        directory.path().join("p.toml"),
        "[policy]\nfile = \"p.toml\"\n",
    )
    .unwrap();
    let reading = read(&configuration, &Context::default());
    insta::assert_snapshot!(told(&reading, directory.path()), @r"
    p.toml:1:2: error: the policy has no key `policy`; there are `default`, `default_log`, `default_reject_with`, `sets`, `ports`, `rules`, `management`
      |
    1 | [policy]
      |  ^^^^^^ did you mean `default`?
    ");
}
