//! What rules say together.

use super::{reading, rules, sound, told};

#[test]
fn a_rule_that_another_covers_is_never_reached() {
    insta::assert_snapshot!(told(&rules(&["ports = \"1-1023\"", "from = \"10.0.0.0/8\"\nports = [22, 80]"])), @r#"
    p.toml:7:8: error: the rule is never reached: `r0` (line 2) before it matches everything that it does
      |
    7 | name = "r1"
      |        ^^^^
    "#);
    insta::assert_snapshot!(told(&rules(&["shadow = true", "shadow = true\nports = 22"])), @r#"
    p.toml:7:8: error: the rule is never reached: `r0` (line 2) before it matches everything that it does (of rules in shadow the first one counts)
      |
    7 | name = "r1"
      |        ^^^^
    "#);
}

#[test]
fn rules_that_cover_another_together_are_named() {
    insta::assert_snapshot!(told(&rules(&[
        "from = \"10.0.0.0/9\"",
        "from = \"10.128.0.0/9\"\nports = \"1-100\"",
        "from = \"10.0.0.0/8\"\nports = [22, 80]",
    ])), @r#"
    p.toml:12:8: error: the rule is never reached: `r0` (line 2), `r1` (line 6) before it match together everything that it does
       |
    12 | name = "r2"
       |        ^^^^
    "#);
    insta::assert_snapshot!(told(&rules(&[
        "direction = \"in\"",
        "direction = \"out\"",
        "direction = \"forward\"\nfrom = \"0.0.0.0/0\"",
        "direction = \"forward\"\nfrom = \"::/1\"",
        "direction = \"forward\"\nfrom = \"8000::/1\"",
        "ports = 22",
    ])), @r#"
    p.toml:26:8: error: the rule is never reached: `r0` (line 2), `r1` (line 6), `r2` (line 10) and 2 more before it match together everything that it does
       |
    26 | name = "r5"
       |        ^^^^
    "#);
}

#[test]
fn a_rule_that_can_match_nothing_is_told() {
    insta::assert_snapshot!(told(&rules(&["from = \"10.0.0.0/8\"\nto = \"2001:db8::/32\""])), @r#"
    p.toml:3:8: error: the rule can match nothing: `from` has IPv4 addresses only, `to` IPv6 addresses only
      |
    3 | name = "r0"
      |        ^^^^
    "#);
    insta::assert_snapshot!(told(&rules(&["from = [\"10.0.0.0/8\", \"!10.0.0.0/9\", \"!10.128.0.0/9\"]"])), @r#"
    p.toml:3:8: error: the rule can match nothing: its exceptions leave no address
      |
    3 | name = "r0"
      |        ^^^^
    "#);
    insta::assert_snapshot!(told(&("sets.nobody = []\n".to_owned() + &rules(&["from = \"@nobody\""]))), @r#"
    p.toml:4:8: warning: the rule matches nothing while `from` is empty: there is no prefix in `@nobody`
      |
    4 | name = "r0"
      |        ^^^^
    "#);
}

#[test]
fn no_rule_that_is_reached_is_accused() {
    for keys in [
        // A hole that an exception leaves.
        [
            "from = [\"10.0.0.0/8\", \"!10.0.0.1\"]",
            "from = \"10.0.0.0/8\"",
        ],
        // One family only.
        ["from = \"0.0.0.0/0\"", "ports = 22"],
        // An interface that no rule names.
        ["interface = [\"eth0\", \"eth1\"]", "ports = 22"],
        // Port 0 is a port.
        ["ports = \"1-65535\"", "from = \"10.0.0.0/8\""],
        // What is in shadow decides nothing.
        ["shadow = true", "ports = 22"],
        ["from_ports = \"1-1023\"", "from_ports = \"1-1024\""],
        [
            "direction = [\"in\", \"out\"]",
            "direction = [\"out\", \"forward\"]",
        ],
        ["to = \"2001:db8::/33\"", "to = \"2001:db8::/32\""],
    ] {
        sound(&rules(&keys));
    }
    sound(&rules(&[
        "from = \"10.0.0.0/9\"\nshadow = true",
        "from = \"10.128.0.0/9\"",
        "from = \"10.0.0.0/8\"",
    ]));
}

#[test]
fn a_rule_with_an_error_accuses_nobody() {
    let text = "default = \"drop\"\nports.x = [80, 0]\nsets.y = [\"10.0.0.0/8\", \"z\"]\n"
        .to_owned()
        + &rules(&["ports = \"@x\"", "from = \"!@y\"", "action = \"drop\""])
            ["default = \"drop\"\n".len()..];
    let reading = reading(&text);
    assert_eq!(reading.report.error_count(), 2, "{}", reading.report);
}
