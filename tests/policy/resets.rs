//! Connections that are killed: both ends are told at once.

use tracker_tests::{
    topology::{Placement, Topology},
    wait::eventually,
};

use crate::{FAMILIES, Files, OPEN, Pair, SOON, WEB};

#[test]
fn both_ends_of_a_killed_connection_are_reset() {
    for placement in [Placement::Server, Placement::Client, Placement::Gateway] {
        let topology = Topology::new(placement).unwrap();
        let files = Files::with(OPEN, "mode = \"enforce\"\n", "grace = \"0s\"\n");
        let tracker = files.start(&topology);
        let pairs: Vec<(Pair, Pair)> = (0..)
            .zip(FAMILIES)
            .map(|(number, family)| {
                let allowed = Pair::open(&topology, family, (40_000 + number, 80));
                (
                    allowed,
                    Pair::open(&topology, family, (40_010 + number, 8080)),
                )
            })
            .collect();
        let web = files.write("web.toml", WEB);
        let told = tracker
            .ask(&["policy", "apply", &web.to_string_lossy(), "--flows", "kill"])
            .unwrap();
        assert!(told.contains("2 flows ended"), "{placement:?}: {told}");
        for (allowed, forbidden) in &pairs {
            eventually(SOON, || {
                forbidden
                    .is_reset()
                    .map_err(|why| format!("{placement:?}: {why}"))
            });
            allowed.talk().unwrap();
        }
        let left = tracker.list().unwrap();
        assert!(
            left.iter().all(|flow| flow.responder.port != 8080),
            "{placement:?}: {left:?}"
        );
        tracker.stop().unwrap();
    }
}

#[test]
fn what_was_read_from_sockets_and_never_seen_just_ends() {
    let topology = Topology::new(Placement::Server).unwrap();
    let silent = Pair::open(&topology, FAMILIES[0], (40_000, 8080));
    let files = Files::new(OPEN);
    let tracker = files.start(&topology);
    let web = files.write("web.toml", WEB);
    let told = tracker
        .ask(&["policy", "apply", &web.to_string_lossy(), "--flows", "kill"])
        .unwrap();
    assert!(told.contains("1 flow ended"), "{told}");
    // Its numbers are known to nobody, so nobody is told; it is cut all the same.
    assert!(silent.talk().is_err());
    tracker.stop().unwrap();
}
