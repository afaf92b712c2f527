//! What is read.

use tracker_common::{
    policy::{Action, Direction, Directions},
    tcp::timeout::Profile,
};

use super::{reading, rules, sound};
use crate::policy::{
    model::{Addresses, Limits, Policy},
    prefixes,
};

/// The sets of a list of indices.
fn named(policy: &Policy, sets: &[usize]) -> Vec<String> {
    let names = sets.iter().map(|set| policy.sets[*set].name.clone());
    names.collect()
}

#[test]
fn every_key_is_read() {
    let policy = sound(
        r#"
default = "reject"
default_reject_with = "prohibited"
default_log = true

[sets]
office = ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"]
guests.prefixes = ["192.0.2.64/26"]

[ports]
web = [443, "80", "8000-8099"]

[management]
ports = [22, 2222]
peers = ["198.51.100.0/24"]

[[rules]]
name = "web"
direction = ["in", "forward"]
interface = ["eth1", "eth0"]
from = ["@office", "!@guests", "203.0.113.7", "!203.0.113.0/29", "10.0.0.0/8"]
to = "!10.1.0.0/16"
ports = ["@web", 8100]
from_ports = "1024-65535"
action = "allow"
log = true
shadow = false
liberal = true
pickup = false
timeouts = "rfc"
limit = { rate = "100/s", burst = 200, connections = 1000, source_rate = "30/m", source_connections = 9, source_prefix_v4 = 24, source_prefix_v6 = 56 }

[[rules]]
name = "rest"
from = "10.0.0.0/8"
action = "reject"
shadow = true
"#,
    );
    assert_eq!(
        (policy.default, policy.default_log),
        (Action::Prohibit, true)
    );
    assert_eq!(policy.management.ports, [22, 2222]);
    let peers: Vec<_> = policy
        .management
        .peers
        .iter()
        .map(prefixes::from_brain)
        .collect();
    assert_eq!(peers, ["198.51.100.0/24".parse().unwrap()]);
    let [web, rest] = &*policy.rules else {
        panic!("{:?}", policy.rules);
    };
    assert_eq!((web.name.as_str(), web.line), ("web", 17));
    let ways = Directions::only(Direction::In).with(Directions::only(Direction::Forward));
    assert_eq!(web.directions, ways);
    assert_eq!(web.interfaces, ["eth1", "eth0"]);
    assert_eq!(
        named(&policy, &web.from.among),
        ["office", "10.0.0.0/8, 203.0.113.7/32"]
    );
    assert_eq!(
        named(&policy, &web.from.except),
        ["guests", "203.0.113.0/29"]
    );
    assert_eq!(named(&policy, &web.to.among), [""; 0]);
    assert_eq!(named(&policy, &web.to.except), ["10.1.0.0/16"]);
    assert_eq!(web.to_ports, [(80, 80), (443, 443), (8000, 8100)]);
    assert_eq!(web.from_ports, [(1024, 65_535)]);
    assert_eq!(web.action, Action::Allow);
    assert!(web.log && !web.shadow && web.liberal);
    assert_eq!(
        (web.pickup, web.timeouts),
        (Some(false), Some(Profile::Rfc))
    );
    assert_eq!(
        web.limits,
        Limits {
            rate: Some((10_000_000, 200)),
            flows: 1000,
            source_rate: Some((2_000_000_000, 30)),
            source_flows: 9,
            source_bits: [24, 56],
        }
    );
    assert_eq!(rest.action, Action::Reset);
    assert!(rest.shadow && !rest.log && !rest.liberal && !rest.limits.any());
    assert_eq!(
        (rest.directions, &rest.to),
        (Directions::ANY, &Addresses::default())
    );
    let office = policy.sets.iter().find(|set| set.name == "office").unwrap();
    let office: Vec<_> = office
        .prefixes
        .iter()
        .map(|net| prefixes::from_brain(net).to_string())
        .collect();
    assert_eq!(office, ["192.0.2.0/24", "2001:db8::/32"]);
}

#[test]
fn what_is_not_said_is_the_default() {
    let policy = sound("default = \"allow\"\n");
    assert_eq!((policy.default, policy.default_log), (Action::Allow, false));
    assert_eq!(policy.management.ports, [22]);
    assert_eq!((policy.rules.len(), policy.sets.len()), (0, 0));
    assert_eq!(sound("default = \"reject\"\n").default, Action::Reset);
    let unguarded = sound("default = \"drop\"\nmanagement = { ports = [], peers = [] }\n");
    assert_eq!(unguarded.management.ports, [0; 0]);
}

#[test]
fn equal_lists_are_one_set() {
    let policy = sound(&rules(&[
        "from = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\nports = 1",
        "to = \"10.0.0.0/8\"\nports = 2",
    ]));
    assert_eq!(policy.sets.len(), 1);
    assert_eq!(policy.rules[0].from, policy.rules[1].to);
}

/// A configuration file of the agent has its other tables, too.
#[test]
fn a_policy_in_a_configuration_is_read() {
    let reading = reading(
        "role = \"gateway\"\n[policy]\nwatch = true\nflows = \"kill\"\ndefault = \"drop\"\n\
         [[policy.rules]]\nname = \"ssh\"\nports = 22\naction = \"allow\"\n[table]\ncapacity = 5\n",
    );
    let policy = reading.policy.unwrap();
    assert_eq!(reading.report.to_string(), "");
    assert_eq!(
        (policy.rules[0].name.as_str(), policy.rules[0].line),
        ("ssh", 6)
    );
}

#[test]
fn equal_policies_have_equal_hashes() {
    let hash = |text: &str| sound(text).source.hash;
    let one = rules(&["ports = [22, 23]"]);
    assert_eq!(
        hash(&one),
        hash(&format!(
            "# A comment.\n{}",
            one.replace("[22, 23]", "\"22-23\"")
        ))
    );
    assert_ne!(hash(&one), hash(&rules(&["ports = [22]"])));
    assert_ne!(
        hash("default = \"drop\""),
        hash("default = \"drop\"\ndefault_log = true")
    );
}
