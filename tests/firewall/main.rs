//! The policy as a firewall: between namespaces, seen from where its packets arrive.

mod actions;
mod bed;
mod court;
mod differences;
mod lifeline;
mod packet;
mod policy;
mod reload;
mod rules;
mod table;
mod walls;

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use crate::{
    bed::{Bed, Role, stay_on_one_cpu},
    court::{Arrived, Place, before_nftables, before_tracker},
    table::cases,
    walls::{Accept, Wall, nftables},
};

/// Cases that the table must have at least.
const LEAST: usize = 60;

#[test]
fn every_case_has_its_own_name() {
    let cases = cases();
    let names: HashSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= LEAST, "{} cases", cases.len());
}

#[test]
fn as_host_the_tracker_does_what_nftables_does() {
    both_walls(Role::Host);
}

#[test]
fn as_gateway_the_tracker_does_what_nftables_does() {
    both_walls(Role::Gateway);
}

/// The tracker does with every packet what the table says, for the reason and by the
/// rule that it says; nftables does the same, but for what is on the list.
fn both_walls(role: Role) {
    let cases = cases();
    let [one, other] = [role.topology().unwrap(), role.topology().unwrap()];
    let wall = Wall::new(&one, role).unwrap();
    nftables(other.tracked().0, role, Accept::New).unwrap();
    let mut tracked = Bed::new(&one, role).unwrap();
    let mut filtered = Bed::new(&other, role).unwrap();
    stay_on_one_cpu().unwrap();

    let (by_tracker, wrong) = before_tracker(&mut tracked, &wall, &cases).unwrap();
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let by_nftables = before_nftables(&mut filtered, &cases).unwrap();
    assert_eq!(by_nftables.len(), by_tracker.len());
    let (nftables_lets_in, tracker_lets_in) = differences::expected(role);
    assert_eq!(lets_in(&by_nftables, &by_tracker), nftables_lets_in);
    assert_eq!(lets_in(&by_tracker, &by_nftables), tracker_lets_in);
    println!("in {role:?} they differ on");
    let named = differences::ALL
        .iter()
        .filter(|difference| difference.roles.contains(&role));
    for difference in named.clone() {
        println!("  {}: {}", difference.name, difference.source);
    }
    let numbers = json!({
        "cases": cases.iter().filter(|case| case.roles.contains(&role)).count(),
        "packets": by_tracker.len(),
        "differences": named.count(),
    });
    println!("judge: {numbers}");

    // Rules that refuse have decided about nothing else.
    for (rule, times) in court::denials(&cases, role) {
        assert_eq!(wall.hits(rule), Ok(times), "{rule}");
    }
    wall.stop();
}

/// What one wall lets arrive, and the other does not.
fn lets_in(one: &Arrived, other: &Arrived) -> BTreeSet<Place> {
    let differing = court::differing(one, other).into_iter();
    differing.filter(|place| one[place]).collect()
}

/// Without `ct state new` in its rule nftables lets in whatever goes to the allowed
/// port. The tracker asks its rule about what opens a connection only.
#[test]
fn a_plain_rule_of_nftables_lets_strays_in_and_the_tracker_does_not() {
    let role = Role::Host;
    let cases = cases();
    let both = [Accept::New, Accept::Plain].map(|accept| {
        let topology = role.topology().unwrap();
        nftables(topology.tracked().0, role, accept).unwrap();
        topology
    });
    stay_on_one_cpu().unwrap();
    let [new, plain] = both.each_ref().map(|topology| {
        let mut bed = Bed::new(topology, role).unwrap();
        before_nftables(&mut bed, &cases).unwrap()
    });
    assert_eq!(lets_in(&new, &plain), BTreeSet::new());
    let more = lets_in(&plain, &new);
    let step_of = |place: &Place| {
        let case = cases.iter().find(|case| case.name == place.case).unwrap();
        (case, &case.steps[place.step])
    };
    for place in &more {
        let (case, step) = step_of(place);
        assert!(court::goes_to_allowed(case, step), "{place:?}");
    }
    // Of those, a plain rule knows none from what opens a connection.
    let strays = cases.iter().filter(|case| table::is_stray_to_allowed(case));
    for case in strays {
        for v6 in [false, true] {
            let place = Place {
                case: case.name,
                step: 0,
                v6,
            };
            assert!(more.contains(&place), "{place:?} is not let in");
        }
    }
}
