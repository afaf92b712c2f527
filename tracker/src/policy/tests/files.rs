//! Sets and policies from files.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::super::{Context, Reading, parse, prefixes, print, read};

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

/// The same with a set of ports, written as `set`, whose file has `ports` in it.
fn with_ports(set: &str, ports: impl AsRef<[u8]>) -> TempDir {
    let directory = TempDir::new().unwrap();
    let policy = format!(
        "default = \"drop\"\nports.web{set}\n[[rules]]\nname = \"web\"\nports = \"@web\"\naction = \
         \"allow\"\n"
    );
    fs::write(directory.path().join("p.toml"), policy).unwrap();
    fs::write(directory.path().join("ports.txt"), ports).unwrap();
    directory
}

#[test]
fn a_set_of_ports_is_a_port_or_a_range_a_line() {
    let lines = "\u{feff}# Web\n8080\r\n\n  8000-8010 # why\n443\n8011 - 8020";
    let directory = with_ports(".file = \"ports.txt\"", lines);
    let found = reading(directory.path());
    assert_eq!(found.report.to_string(), "");
    let policy = found.policy.unwrap();
    let alone = [(443, 443), (8000, 8020), (8080, 8080)];
    assert_eq!(policy.rules[0].to_ports, alone);
    assert_eq!(policy.port_sets[0].name, "web");
    assert_eq!(policy.port_sets[0].ranges, alone);
    assert_eq!(
        policy.source.set_files,
        [directory.path().join("ports.txt")]
    );
    let directory = with_ports(
        " = { ports = [80, \"8021-8030\"], file = \"ports.txt\" }",
        lines,
    );
    let more = reading(directory.path()).policy.unwrap();
    let both = [(80, 80), (443, 443), (8000, 8030), (8080, 8080)];
    assert_eq!(more.rules[0].to_ports, both);
    assert_eq!(more.port_sets[0].ranges, both);
    // Another content of the file is another policy.
    let before = more.source.hash;
    assert_eq!(
        reading(directory.path()).policy.unwrap().source.hash,
        before
    );
    fs::write(directory.path().join("ports.txt"), "443\n").unwrap();
    assert_ne!(
        reading(directory.path()).policy.unwrap().source.hash,
        before
    );
}

#[test]
fn errors_name_the_line_of_the_set_of_ports() {
    let lines = "80\n 9000-8000 # why\n0\n443/tcp\n80, 443\n8000..8010\nhttp\n@more\n!22\n";
    let directory = with_ports(".file = \"ports.txt\"", lines);
    let reading = reading(directory.path());
    assert_eq!(reading.policy, None);
    insta::assert_snapshot!(told(&reading, directory.path()), @r#"
    ports.txt:2:2: error: the range of ports `9000-8000` is upside down
      |
    2 |  9000-8000 # why
      |  ^^^^^^^^^ did you mean "8000-9000"?

    ports.txt:3:1: error: port 0 is none that a connection can have; ports are 1 to 65535
      |
    3 | 0
      | ^

    ports.txt:4:1: error: `443/tcp` is no port and no range as "8000-8099"
      |
    4 | 443/tcp
      | ^^^^^^^ did you mean "443"?

    ports.txt:5:1: error: `80, 443` is not one port or one range: each of them is an entry of its own
      |
    5 | 80, 443
      | ^^^^^^^

    ports.txt:6:1: error: `8000..8010` is no range of ports
      |
    6 | 8000..8010
      | ^^^^^^^^^^ did you mean "8000-8010"?

    ports.txt:7:1: error: `http` is no port and no range as "8000-8099"
      |
    7 | http
      | ^^^^

    ports.txt:8:1: error: `@more` is a set in a set, which there is not: list its ports
      |
    8 | @more
      | ^^^^^

    ports.txt:9:1: error: `!22`: ports are not negated; write the ranges beside them, as ["1-21", "23-65535"] for all but 22
      |
    9 | !22
      | ^^^
    "#);
}

#[test]
fn of_a_file_that_is_no_list_of_ports_a_few_lines_are_told() {
    let directory = with_ports(".file = \"ports.txt\"", "10.0.0.0/8\n".repeat(100));
    let reading = reading(directory.path());
    assert_eq!(reading.report.error_count(), 21);
    assert!(reading.report.problems().iter().any(|problem| {
        problem.message
            == "80 more lines of it are no ports: is it a list of one port or range a line?"
    }));
}

#[test]
fn a_set_of_ports_without_any_is_an_error() {
    let directory = with_ports(".file = \"ports.txt\"", "# none left\n");
    let reading = reading(directory.path());
    assert_eq!(reading.policy, None);
    insta::assert_snapshot!(told(&reading, directory.path()), @r#"
    p.toml:2:18: error: the set of ports `web` is empty: its file ports.txt lists no port, and so nothing could match
      |
    2 | ports.web.file = "ports.txt"
      |                  ^^^^^^^^^^^
    "#);
}

#[test]
fn a_set_of_ports_whose_file_vanished_stays_as_it_was() {
    let directory = with_ports(" = { ports = 80, file = \"ports.txt\" }", "8000-8009\n");
    let before = reading(directory.path()).policy.unwrap();
    fs::remove_file(directory.path().join("ports.txt")).unwrap();
    let without = reading(directory.path());
    assert_eq!(without.policy, None);
    insta::assert_snapshot!(told(&without, directory.path()), @r#"
    p.toml:2:34: error: cannot read the file ports.txt of the set of ports `web`: No such file or directory (os error 2)
      |
    2 | ports.web = { ports = 80, file = "ports.txt" }
      |                                  ^^^^^^^^^^^
    "#);
    // Also after it was printed and read.
    let printed = print(&before);
    let printed = parse(&printed, Path::new("printed.toml"), &Context::default());
    let printed = printed.policy.unwrap();
    assert_eq!(printed.port_sets, before.port_sets);
    for former in [&before, &printed] {
        let context = Context {
            former: Some(former),
            ..Context::default()
        };
        let with = read(&directory.path().join("p.toml"), &context);
        assert_eq!(with.policy.as_ref(), Some(&before));
        assert_eq!(with.report.stale_sets(), ["web"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(told(&with, directory.path()), @r#"
            p.toml:2:34: warning: cannot read the file ports.txt of the set of ports `web`: No such file or directory (os error 2); the set stays as it was (11 ports)
              |
            2 | ports.web = { ports = 80, file = "ports.txt" }
              |                                  ^^^^^^^^^^^
            "#);
        }
    }
}
