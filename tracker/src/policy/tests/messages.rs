//! Every error, as it is told.

use super::{reading, rules, told};

/// What is told of one rule with these keys.
fn of_rule(keys: &str) -> String {
    told(&rules(&[keys]))
}

#[test]
fn all_errors_are_told_in_one_run() {
    let text = r#"
defalt = "drop"
[sets]
office = ["192.0.2.7/24", "example.org"]
lab = { prefixs = ["192.0.2.0/24"] }
[[rules]]
name = "web"
acton = "allow"
ports = [80, "9000-8000", 0, "@htp"]
from = ["@ofice", "!198.51.100.0/33"]
[[rules]]
name = "web"
action = "accept"
direction = "inbound"
"#;
    let reading = reading(text);
    assert_eq!(reading.policy, None);
    insta::assert_snapshot!(reading.report, @r#"
    p.toml:2:1: error: the policy has no key `defalt`; there are `default`, `default_log`, `default_reject_with`, `sets`, `ports`, `rules`, `management`
      |
    2 | defalt = "drop"
      | ^^^^^^ did you mean `default`?

    p.toml:4:11: error: `192.0.2.7/24` has bits set behind its first 24
      |
    4 | office = ["192.0.2.7/24", "example.org"]
      |           ^^^^^^^^^^^^^^ the prefix is "192.0.2.0/24", the address alone "192.0.2.7"

    p.toml:4:27: error: `example.org` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses
      |
    4 | office = ["192.0.2.7/24", "example.org"]
      |                           ^^^^^^^^^^^^^

    p.toml:5:9: error: the set `lab` has no key `prefixs`; there are `prefixes`, `file`
      |
    5 | lab = { prefixs = ["192.0.2.0/24"] }
      |         ^^^^^^^ did you mean `prefixes`?

    p.toml:8:1: error: a rule has no key `acton`; there are `name`, `direction`, `interface`, `from`, `to`, `ports`, `from_ports`, `action`, `reject_with`, `log`, `shadow`, `liberal`, `pickup`, `timeouts`, `limit`
      |
    8 | acton = "allow"
      | ^^^^^ did you mean `action`?

    p.toml:9:14: error: the range of ports `9000-8000` is upside down
      |
    9 | ports = [80, "9000-8000", 0, "@htp"]
      |              ^^^^^^^^^^^ did you mean "8000-9000"?

    p.toml:9:27: error: port 0 is none that a connection can have; ports are 1 to 65535
      |
    9 | ports = [80, "9000-8000", 0, "@htp"]
      |                           ^

    p.toml:9:30: error: there is no set of ports `htp` in [ports]
      |
    9 | ports = [80, "9000-8000", 0, "@htp"]
      |                              ^^^^^^

    p.toml:10:9: error: there is no set `ofice` in [sets]
       |
    10 | from = ["@ofice", "!198.51.100.0/33"]
       |         ^^^^^^^^ did you mean "@office"?

    p.toml:10:19: error: `198.51.100.0/33` has a length of `33`; it must be a number from 0 to 32
       |
    10 | from = ["@ofice", "!198.51.100.0/33"]
       |                   ^^^^^^^^^^^^^^^^^^

    p.toml:12:8: error: there is a rule `web` already, in line 7
       |
    12 | name = "web"
       |        ^^^^^

    p.toml:13:10: error: `action` is "accept"; it must be one of "allow", "drop", "reject"
       |
    13 | action = "accept"
       |          ^^^^^^^^ did you mean "allow"?

    p.toml:14:13: error: `direction` is "inbound"; it must be one of "in", "out", "forward"
       |
    14 | direction = "inbound"
       |             ^^^^^^^^^ did you mean "in"?
    "#);
    insta::assert_snapshot!(reading.report.headline().unwrap(), @"p.toml:2:1: the policy has no key `defalt`; there are `default`, `default_log`, `default_reject_with`, `sets`, `ports`, `rules`, `management`; did you mean `default`? (and 12 more errors)");
}

#[test]
fn what_is_not_toml_is_told() {
    insta::assert_snapshot!(told("default = drop\nlog = \n[[rules]\n"), @r"
    p.toml:1:11: error: string values must be quoted, expected literal string
      |
    1 | default = drop
      |           ^^^^

    p.toml:2:7: error: string values must be quoted, expected literal string
      |
    2 | log = 
      |       ^

    p.toml:3:9: error: unclosed array table, expected `]`
      |
    3 | [[rules]
      |         ^
    ");
    insta::assert_snapshot!(told("default = \"drop\"\ndefault = \"allow\"\n"), @r#"
    p.toml:2:1: error: duplicate key
      |
    2 | default = "allow"
      | ^^^^^^^
    "#);
    insta::assert_snapshot!(told("default = \"drop\"\nrules = [\n"), @r"
    p.toml:2:10: error: unclosed array, expected `]`
      |
    2 | rules = [
      |          ^
    ");
}

#[test]
fn the_top_level_is_checked() {
    insta::assert_snapshot!(told(""), @r#"p.toml: error: there is no `default`, which says what becomes of connections that no rule matches: write default = "drop", "reject" or "allow""#);
    insta::assert_snapshot!(told("default = \"deny\"\n"), @r#"
    p.toml:1:11: error: `default` is "deny"; it must be one of "allow", "drop", "reject"
      |
    1 | default = "deny"
      |           ^^^^^^ did you mean "drop"?
    "#);
    insta::assert_snapshot!(told("default = true\ndefault_log = \"yes\"\n"), @r#"
    p.toml:1:11: error: `default` must be a string in quotes, not true
      |
    1 | default = true
      |           ^^^^

    p.toml:2:15: error: `default_log` must be true or false, not the string "yes"
      |
    2 | default_log = "yes"
      |               ^^^^^
    "#);
    insta::assert_snapshot!(told("default = \"drop\"\ndefault_reject_with = \"reset\"\n"), @r#"
    p.toml:2:1: error: `default_reject_with` has no effect without default = "reject"
      |
    2 | default_reject_with = "reset"
      | ^^^^^^^^^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(told("default = \"drop\"\nrules = \"all\"\nsets = 5\nports = [22]\n"), @r#"
    p.toml:2:9: error: `rules` must be written as [[rules]], once for each
      |
    2 | rules = "all"
      |         ^^^^^

    p.toml:3:8: error: [sets] must be a table, not the number 5
      |
    3 | sets = 5
      |        ^

    p.toml:4:9: error: [ports] must be a table, not a list
      |
    4 | ports = [22]
      |         ^^^^
    "#);
    insta::assert_snapshot!(told("default = \"drop\"\n[rules.ssh]\nports = 22\n"), @r"
    p.toml:2:2: error: `rules` must be written as [[rules]], once for each
      |
    2 | [rules.ssh]
      |  ^^^^^
    ");
    insta::assert_snapshot!(told("default = \"drop\"\n[management]\nport = 22\nports = [\"20-90\"]\npeers = [\"admin.example.org\", 5]\n"), @r#"
    p.toml:3:1: error: [management] has no key `port`; there are `ports`, `peers`
      |
    3 | port = 22
      | ^^^^ did you mean `ports`?

    p.toml:4:9: error: the ports of [management] are 71, more than 64: it is for those by which this machine is managed
      |
    4 | ports = ["20-90"]
      |         ^^^^^^^^^

    p.toml:5:10: error: `admin.example.org` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses
      |
    5 | peers = ["admin.example.org", 5]
      |          ^^^^^^^^^^^^^^^^^^^

    p.toml:5:31: error: a prefix of `peers` must be a string in quotes, not the number 5
      |
    5 | peers = ["admin.example.org", 5]
      |                               ^
    "#);
}

#[test]
fn sets_of_ports_are_checked() {
    insta::assert_snapshot!(told("default = \"drop\"\n[ports]\na = {}\nb = { prots = 80 }\nc = { path = \"c.txt\" }\nd.file = 5\ne = []\nf = \"ports.txt\"\n\"g h\" = 80\ni = { ports = [\"@a\", \" 80\"] }\n"), @r#"
    p.toml:3:1: error: the set of ports `a` has neither `ports` nor `file`
      |
    3 | a = {}
      | ^

    p.toml:4:7: error: the set of ports `b` has no key `prots`; there are `ports`, `file`
      |
    4 | b = { prots = 80 }
      |       ^^^^^ did you mean `ports`?

    p.toml:5:7: error: the set of ports `c` has no key `path`; there are `ports`, `file`
      |
    5 | c = { path = "c.txt" }
      |       ^^^^ did you mean `file`?

    p.toml:6:10: error: `file` must be a string in quotes, not the number 5
      |
    6 | d.file = 5
      |          ^

    p.toml:7:5: error: the set of ports `e` is an empty list, which nothing can match; leave the key out for any
      |
    7 | e = []
      |     ^^

    p.toml:8:5: error: `ports.txt` is no port and no range as "8000-8099"
      |
    8 | f = "ports.txt"
      |     ^^^^^^^^^^^

    p.toml:9:1: error: a set cannot have the name `g h`: it takes up to 64 letters (a to z), digits, `-`, `_` and `.`
      |
    9 | "g h" = 80
      | ^^^^^

    p.toml:10:16: error: `@a` is a set in a set, which there is not: list its ports
       |
    10 | i = { ports = ["@a", " 80"] }
       |                ^^^^

    p.toml:10:22: error: ` 80` is no port and no range as "8000-8099"
       |
    10 | i = { ports = ["@a", " 80"] }
       |                      ^^^^^ did you mean "80"?
    "#);
}

#[test]
fn rules_are_checked() {
    insta::assert_snapshot!(told("default = \"drop\"\n[[rules]]\nports = 22\n"), @r#"
    p.toml:2:1: error: the rule has no `name`, by which counters, logs and `tracker explain` tell it
      |
    2 | [[rules]]
      | ^^^^^^^^^

    p.toml:2:1: error: the rule has no `action`: write "allow", "drop" or "reject"
      |
    2 | [[rules]]
      | ^^^^^^^^^
    "#);
    insta::assert_snapshot!(told("default = \"drop\"\n[[rules]]\nname = \"default\"\naction = \"allow\"\n[[rules]]\nname = \" a\"\naction = \"alow\"\n"), @r#"
    p.toml:3:8: error: the name `default` is that of the default
      |
    3 | name = "default"
      |        ^^^^^^^^^

    p.toml:6:8: error: the name of a rule has 1 to 64 octets, none of them a control character, and no blanks around it
      |
    6 | name = " a"
      |        ^^^^

    p.toml:7:10: error: `action` is "alow"; it must be one of "allow", "drop", "reject"
      |
    7 | action = "alow"
      |          ^^^^^^ did you mean "allow"?
    "#);
    insta::assert_snapshot!(of_rule("source = \"10.0.0.0/8\"\ndport = 22\nprots = 23"), @r#"
    p.toml:5:1: error: a rule has no key `source`; there are `name`, `direction`, `interface`, `from`, `to`, `ports`, `from_ports`, `action`, `reject_with`, `log`, `shadow`, `liberal`, `pickup`, `timeouts`, `limit`
      |
    5 | source = "10.0.0.0/8"
      | ^^^^^^ did you mean `from`?

    p.toml:6:1: error: a rule has no key `dport`; there are `name`, `direction`, `interface`, `from`, `to`, `ports`, `from_ports`, `action`, `reject_with`, `log`, `shadow`, `liberal`, `pickup`, `timeouts`, `limit`
      |
    6 | dport = 22
      | ^^^^^ did you mean `ports`?

    p.toml:7:1: error: a rule has no key `prots`; there are `name`, `direction`, `interface`, `from`, `to`, `ports`, `from_ports`, `action`, `reject_with`, `log`, `shadow`, `liberal`, `pickup`, `timeouts`, `limit`
      |
    7 | prots = 23
      | ^^^^^ did you mean `ports`?
    "#);
    insta::assert_snapshot!(of_rule("direction = [\"in\", \"output\", 5]\ninterface = [\"eth/0\", \"a-name-too-long-for-it\", \"eth*\"]"), @r#"
    p.toml:5:20: error: `direction` is "output"; it must be one of "in", "out", "forward"
      |
    5 | direction = ["in", "output", 5]
      |                    ^^^^^^^^ did you mean "out"?

    p.toml:5:30: error: `direction` must be a string in quotes, not the number 5
      |
    5 | direction = ["in", "output", 5]
      |                              ^

    p.toml:6:14: error: no interface can have the name `eth/0`: it takes 1 to 15 octets without blanks, `/` and `:`
      |
    6 | interface = ["eth/0", "a-name-too-long-for-it", "eth*"]
      |              ^^^^^^^

    p.toml:6:23: error: no interface can have the name `a-name-too-long-for-it`: it takes 1 to 15 octets without blanks, `/` and `:`
      |
    6 | interface = ["eth/0", "a-name-too-long-for-it", "eth*"]
      |                       ^^^^^^^^^^^^^^^^^^^^^^^^

    p.toml:6:49: error: `eth*`: interfaces are named one by one
      |
    6 | interface = ["eth/0", "a-name-too-long-for-it", "eth*"]
      |                                                 ^^^^^^
    "#);
    insta::assert_snapshot!(of_rule("from = []\nto = 5\nports = {}"), @r#"
    p.toml:5:8: error: `from` is an empty list, which nothing can match; leave the key out for any
      |
    5 | from = []
      |        ^^

    p.toml:6:6: error: `to` must be a string in quotes, not the number 5
      |
    6 | to = 5
      |      ^

    p.toml:7:9: error: a port must be a number, a range as "8000-8099" or a set as "@NAME", not a table
      |
    7 | ports = {}
      |         ^^
    "#);
    insta::assert_snapshot!(of_rule("from = \"any\"\nto = \"router.example.org\""), @r#"
    p.toml:5:8: error: `any` is no prefix: leave the key out for any address, or write "0.0.0.0/0" for all of IPv4 and "::/0" for all of IPv6
      |
    5 | from = "any"
      |        ^^^^^

    p.toml:6:6: error: `router.example.org` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses
      |
    6 | to = "router.example.org"
      |      ^^^^^^^^^^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(of_rule("action = \"reject\"\nreject_with = \"rst\""), @r#"
    p.toml:5:15: error: `reject_with` is "rst"; it must be one of "reset", "prohibited"
      |
    5 | reject_with = "rst"
      |               ^^^^^ did you mean "reset"?
    "#);
    insta::assert_snapshot!(of_rule("reject_with = \"reset\""), @r#"
    p.toml:5:1: error: `reject_with` has no effect without action = "reject"
      |
    5 | reject_with = "reset"
      | ^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(of_rule("action = \"drop\"\nlimit = { rate = \"5/s\" }\nliberal = true\npickup = false\ntimeouts = \"pf\""), @r#"
    p.toml:5:1: error: `limit` is about the connections that a rule admits, and this one admits none
      |
    5 | limit = { rate = "5/s" }
      | ^^^^^

    p.toml:6:1: error: `liberal` is about the connections that a rule admits, and this one admits none
      |
    6 | liberal = true
      | ^^^^^^^

    p.toml:7:1: error: `pickup` is about the connections that a rule admits, and this one admits none
      |
    7 | pickup = false
      | ^^^^^^

    p.toml:8:1: error: `timeouts` is about the connections that a rule admits, and this one admits none
      |
    8 | timeouts = "pf"
      | ^^^^^^^^
    "#);
    insta::assert_snapshot!(of_rule("timeouts = \"linus\"\nlog = 1"), @r#"
    p.toml:5:12: error: `timeouts` is "linus"; it must be one of "linux", "pf", "rfc", "aggressive"
      |
    5 | timeouts = "linus"
      |            ^^^^^^^ did you mean "linux"?

    p.toml:6:7: error: `log` must be true or false, not the number 1
      |
    6 | log = 1
      |       ^
    "#);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = "ports.web = [80]\nsets.office = [\"192.0.2.0/24\"]\n".to_owned()
        + &rules(&["interface = [\"eth0\", \"eth7\"]\nshadow = true\nlimit.rate = \"5/s\""]);
    let reading = reading(&text);
    assert!(reading.policy.is_some());
    assert_eq!(reading.report.headline(), None);
    insta::assert_snapshot!(reading.report, @r#"
    p.toml:1:7: warning: no rule refers to the set of ports `@web`
      |
    1 | ports.web = [80]
      |       ^^^

    p.toml:2:6: warning: no rule refers to the set `@office`
      |
    2 | sets.office = ["192.0.2.0/24"]
      |      ^^^^^^

    p.toml:5:8: warning: there is no interface `eth7` here: the rule takes effect there when it appears
      |
    5 | name = "r0"
      |        ^^^^

    p.toml:9:1: warning: limits are not counted while the rule is in shadow
      |
    9 | limit.rate = "5/s"
      | ^^^^^
    "#);
}

#[test]
fn a_configuration_holds_a_policy_or_names_it() {
    insta::assert_snapshot!(told("role = \"host\"\n[policy]\ndefault = \"drip\"\n"), @r#"
    p.toml:3:11: error: `default` is "drip"; it must be one of "allow", "drop", "reject"
      |
    3 | default = "drip"
      |           ^^^^^^ did you mean "drop"?
    "#);
    insta::assert_snapshot!(told("[policy]\nfile = \"/nowhere/p.toml\"\ndefault = \"drop\"\n"), @r#"
    p.toml:3:1: error: the policy stands here and in the file `/nowhere/p.toml`: it can be in one only
      |
    3 | default = "drop"
      | ^^^^^^^
    "#);
    insta::assert_snapshot!(told("[policy]\nfile = \"/nowhere/p.toml\"\nwatch = true\n"), @"/nowhere/p.toml: error: cannot read the policy: No such file or directory (os error 2)");
    insta::assert_snapshot!(told("[policy]\nfil = \"p.toml\"\n"), @r#"
    p.toml:1:1: error: there is no `default`, which says what becomes of connections that no rule matches: write default = "drop", "reject" or "allow"
      |
    1 | [policy]
      | ^^^^^^^^

    p.toml:2:1: error: [policy] has no key `fil`; there are `default`, `default_log`, `default_reject_with`, `sets`, `ports`, `rules`, `management`, `file`, `watch`, `flows`, `grace`
      |
    2 | fil = "p.toml"
      | ^^^ did you mean `file`?
    "#);
}
