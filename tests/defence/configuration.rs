//! What is refused before anything is touched.

use tracker_tests::topology::{Placement, Topology};

use crate::{Configuration, sysctls};

/// What `tracker run` says on a configuration that it refuses.
fn refusal(topology: &Topology, text: &str, more: &[&str]) -> String {
    let before = sysctls(topology.tracked().0);
    let file = Configuration::new(text);
    let output = file.options(topology).with(more).run_to_end().unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(sysctls(topology.tracked().0), before);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_key_of_the_defence_is_pointed_at() {
    let topology = Topology::new(Placement::Server).unwrap();
    let said = refusal(&topology, "[defence]\ncookies = \"allways\"\n", &[]);
    assert!(
        said.contains(":2:11: unknown variant `allways`")
            && said.contains("did you mean `always`?"),
        "{said}"
    );
    let said = refusal(&topology, "[defence]\nsource_prefix_v6 = 32\n", &[]);
    assert!(said.contains("32 must lie between 48 and 64"), "{said}");
    let said = refusal(
        &topology,
        "mode = \"enforce\"\n[defence]\ncookies_on = 5\ncookies_off = 5\n",
        &[],
    );
    assert!(said.contains("defence.cookies_off is 5"), "{said}");
}

#[test]
fn a_gateway_refuses_cookies_that_are_asked_for_and_else_has_none() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let text = "[defence]\ncookies = \"adaptive\"\n";
    let said = refusal(&topology, text, &["--mode", "enforce"]);
    assert!(said.contains("role = \"gateway\""), "{said}");

    let before = sysctls(topology.tracked().0);
    let file = Configuration::new("mode = \"enforce\"\n");
    let tracker = file.start(&topology, &[]);
    assert!(tracker.log().contains("tracker ready: enforcing lan"));
    assert!(tracker.log().contains("SYN cookies never"));
    assert_eq!(sysctls(topology.tracked().0), before);
    tracker.stop().unwrap();
}
