//! Errors in sets, ports and limits, as they are told.

use super::{rules, told};

/// What is told of one rule with these keys.
fn of_rule(keys: &str) -> String {
    told(&rules(&[keys]))
}

#[test]
fn sets_are_checked() {
    insta::assert_snapshot!(told("default = \"drop\"\n[sets.a]\n[sets.\"b c\"]\nprefixes = [7, \"!10.0.0.0/8\", \"@a\"]\n[ports]\nd = [\"@e\", \"22\", -1]\ne = 1.5\nf = []\n"), @r#"
    p.toml:2:7: error: the set `a` has neither `prefixes` nor `file`
      |
    2 | [sets.a]
      |       ^

    p.toml:3:7: error: a set cannot have the name `b c`: it takes up to 64 letters (a to z), digits, `-`, `_` and `.`
      |
    3 | [sets."b c"]
      |       ^^^^^

    p.toml:4:13: error: a prefix of the set `b c` must be a string in quotes, not the number 7
      |
    4 | prefixes = [7, "!10.0.0.0/8", "@a"]
      |             ^

    p.toml:4:16: error: `!10.0.0.0/8`: a set has no exceptions; a rule has them, as "!@NAME"
      |
    4 | prefixes = [7, "!10.0.0.0/8", "@a"]
      |                ^^^^^^^^^^^^^

    p.toml:4:31: error: `@a` is a set in a set, which there is not: rules take lists of sets
      |
    4 | prefixes = [7, "!10.0.0.0/8", "@a"]
      |                               ^^^^

    p.toml:6:6: error: `@e` is a set in a set, which there is not: list its ports
      |
    6 | d = ["@e", "22", -1]
      |      ^^^^

    p.toml:6:18: error: port -1 must lie between 1 and 65535
      |
    6 | d = ["@e", "22", -1]
      |                  ^^

    p.toml:7:5: error: a port must be a number, a range as "8000-8099" or a set as "@NAME", not the number 1.5
      |
    7 | e = 1.5
      |     ^^^

    p.toml:8:5: error: the set of ports `f` is an empty list, which nothing can match; leave the key out for any
      |
    8 | f = []
      |     ^^
    "#);
}

#[test]
fn ports_are_checked() {
    insta::assert_snapshot!(of_rule("ports = [65536, -1, \"0-5\", \"80:90\", \"80..90\", \"https\", \"!22\", \"22-\", [22], true]"), @r#"
    p.toml:5:10: error: port 65536 must lie between 1 and 65535
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |          ^^^^^

    p.toml:5:17: error: port -1 must lie between 1 and 65535
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                 ^^

    p.toml:5:21: error: port 0 is none that a connection can have; ports are 1 to 65535
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                     ^^^^^

    p.toml:5:28: error: `80:90` is no range of ports
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                            ^^^^^^^ did you mean "80-90"?

    p.toml:5:37: error: `80..90` is no range of ports
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                     ^^^^^^^^ did you mean "80-90"?

    p.toml:5:47: error: `https` is no port, no range as "8000-8099" and no set as "@NAME"
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                               ^^^^^^^

    p.toml:5:56: error: `!22`: ports are not negated; write the ranges beside them, as ["1-21", "23-65535"] for all but 22
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                                        ^^^^^

    p.toml:5:63: error: `22-` is no port, no range as "8000-8099" and no set as "@NAME"
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                                               ^^^^^

    p.toml:5:70: error: a port must be a number, a range as "8000-8099" or a set as "@NAME", not a list
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                                                      ^^^^

    p.toml:5:76: error: a port must be a number, a range as "8000-8099" or a set as "@NAME", not true
      |
    5 | ports = [65536, -1, "0-5", "80:90", "80..90", "https", "!22", "22-", [22], true]
      |                                                                            ^^^^
    "#);
}

#[test]
fn sets_that_are_referred_to_exist() {
    insta::assert_snapshot!(told(&("ports.web = [80, 443]\nsets.office = [\"192.0.2.0/24\"]\n".to_owned() + &rules(&["from = [\"@offce\", \"office\", \"!@web\"]\nports = [\"@wbe\", \"web\"]"]))), @r#"
    p.toml:7:9: error: there is no set `offce` in [sets]
      |
    7 | from = ["@offce", "office", "!@web"]
      |         ^^^^^^^^ did you mean "@office"?

    p.toml:7:19: error: `office` is a set; sets are written with `@`
      |
    7 | from = ["@offce", "office", "!@web"]
      |                   ^^^^^^^^ did you mean "@office"?

    p.toml:7:29: error: there is no set `web` in [sets]; there are `office`
      |
    7 | from = ["@offce", "office", "!@web"]
      |                             ^^^^^^^

    p.toml:8:10: error: there is no set of ports `wbe` in [ports]; there are `web`
      |
    8 | ports = ["@wbe", "web"]
      |          ^^^^^^

    p.toml:8:18: error: `web` is no port, no range as "8000-8099" and no set as "@NAME"
      |
    8 | ports = ["@wbe", "web"]
      |                  ^^^^^ did you mean "@web"?
    "#);
}

#[test]
fn limits_are_checked() {
    insta::assert_snapshot!(of_rule("limit = { burst = 5, rates = \"5/s\", source_burst = 0, connections = 0, source_prefix_v4 = 33 }"), @r#"
    p.toml:5:11: error: `burst` has no effect without `rate`
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |           ^^^^^

    p.toml:5:22: error: `limit` has no key `rates`; there are `rate`, `burst`, `connections`, `source_rate`, `source_burst`, `source_connections`, `source_prefix_v4`, `source_prefix_v6`
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                      ^^^^^ did you mean `rate`?

    p.toml:5:37: error: `source_burst` has no effect without `source_rate`
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                                     ^^^^^^^^^^^^

    p.toml:5:52: error: `source_burst` is 0; it must lie between 1 and 100000
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                                                    ^

    p.toml:5:69: error: `connections` is 0; it must lie between 1 and 67108864
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                                                                     ^

    p.toml:5:72: error: `source_prefix_v4` has no effect without `source_rate` or `source_connections`
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                                                                        ^^^^^^^^^^^^^^^^

    p.toml:5:91: error: `source_prefix_v4` is 33; it must lie between 1 and 32
      |
    5 | limit = { burst = 5, rates = "5/s", source_burst = 0, connections = 0, source_prefix_v4 = 33 }
      |                                                                                           ^^
    "#);
    insta::assert_snapshot!(of_rule("limit = { rate = \"5\", source_rate = 5, source_connections = \"many\" }"), @r#"
    p.toml:5:18: error: `rate`: "5" has no unit
      |
    5 | limit = { rate = "5", source_rate = 5, source_connections = "many" }
      |                  ^^^ did you mean "5/s"?

    p.toml:5:37: error: `source_rate` must be a string in quotes, not the number 5
      |
    5 | limit = { rate = "5", source_rate = 5, source_connections = "many" }
      |                                     ^

    p.toml:5:61: error: `source_connections` must be a whole number, not the string "many"
      |
    5 | limit = { rate = "5", source_rate = 5, source_connections = "many" }
      |                                                             ^^^^^^
    "#);
    insta::assert_snapshot!(of_rule("limit = {}"), @r"
    p.toml:5:9: error: the limit sets none: leave it out
      |
    5 | limit = {}
      |         ^^
    ");
    insta::assert_snapshot!(of_rule("limit = 5"), @r"
    p.toml:5:9: error: `limit` must be a table, not the number 5
      |
    5 | limit = 5
      |         ^
    ");
}
