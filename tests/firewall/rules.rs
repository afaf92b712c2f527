//! What rules ask for, and what they say of the connections that they admit: packet
//! by packet before the tracker's wall alone.

use tracker_common::reason::Reason;
use tracker_tests::program::talk::{A, B};

use crate::{
    bed::{Bed, Role, stay_on_one_cpu},
    court::before_tracker,
    table::{Case, arrives, denied, inwards, outwards, refused},
    walls::Wall,
};

/// A rule for every case, by its port.
fn policy(role: Role) -> String {
    let (interface, other, server) = match role {
        Role::Host => ("eth0", "eth1", ["192.0.2.2", "2001:db8:1::2"]),
        Role::Gateway => ("lan", "wan", ["198.51.100.1", "2001:db8:2::1"]),
    };
    let [v4, v6] = server;
    let way = match role {
        Role::Host => ["in", "out"],
        Role::Gateway => ["forward", "in"],
    };
    let [here, elsewhere] = way;
    let mut text = String::from(
        "default = \"drop\"\n\
         [ports]\nservices = [130, \"140-141\"]\n\
         [sets]\nclients = [\"192.0.2.1\", \"2001:db8:1::1\"]\n\
         strangers = [\"203.0.113.0/24\", \"2001:db8:ff::/48\"]\n\
         everybody = [\"0.0.0.0/0\", \"::/0\"]\n",
    );
    let mut rule = |name: &str, ports: &str, rest: &str| {
        text += &format!(
            "[[rules]]\nname = \"{name}\"\nports = [{ports}]\n{rest}\n{}",
            if rest.contains("action") {
                ""
            } else {
                "action = \"allow\"\n"
            }
        );
    };
    rule(
        "prefixes",
        "102",
        r#"from = ["192.0.2.0/28", "2001:db8:1::/64"]"#,
    );
    rule(
        "other prefixes",
        "103",
        r#"from = ["192.0.2.16/28", "2001:db8:2::/64"]"#,
    );
    rule(
        "not these",
        "104",
        r#"from = ["!192.0.2.1", "!2001:db8:1::1"]"#,
    );
    rule("set", "105", r#"from = "@clients""#);
    rule("other set", "106", r#"from = "@strangers""#);
    rule(
        "all but a set",
        "107",
        r#"from = ["@everybody", "!@clients"]"#,
    );
    rule(
        "all but strangers",
        "108",
        r#"from = ["@everybody", "!@strangers"]"#,
    );
    rule(
        "to the server",
        "109",
        &format!("to = [\"{v4}\", \"{v6}\"]"),
    );
    rule("to somebody", "110", r#"to = "@strangers""#);
    rule("range", "\"120-129\"", "");
    rule("named ports", "\"@services\"", "");
    rule("interface", "150", &format!("interface = \"{interface}\""));
    rule(
        "other interface",
        "151",
        &format!("interface = [\"{other}\", \"nosuch0\"]"),
    );
    rule("this way", "160", &format!("direction = \"{here}\""));
    rule(
        "another way",
        "161",
        &format!("direction = \"{elsewhere}\""),
    );
    rule(
        "first",
        "170",
        "from = [\"192.0.2.0/28\", \"2001:db8:1::/64\"]\naction = \"drop\"",
    );
    rule("second", "170", "");
    rule("shadow", "171", "shadow = true\naction = \"drop\"");
    rule("behind the shadow", "171", "");
    rule("picks up", "180", "pickup = true");
    rule("does not pick up", "181", "pickup = false");
    rule("liberal", "190", "liberal = true");
    rule("strict", "191", "");
    text
}

fn cases() -> Vec<Case> {
    let opens = |name, port| {
        inwards(
            name,
            port,
            [arrives(A.syn()), arrives(B.syn_ack()), arrives(A.ack())],
        )
    };
    let dropped = |name, port| inwards(name, port, [denied(A.syn(), "default")]);
    vec![
        opens("from a prefix", 102),
        dropped("from another prefix", 103),
        dropped("from an exception", 104),
        opens("from a set", 105),
        dropped("from another set", 106),
        dropped("from an exception of a set", 107),
        opens("from a set with exceptions", 108),
        opens("to an address", 109),
        dropped("to another address", 110),
        dropped("before a range", 119),
        opens("first of a range", 120),
        opens("last of a range", 129),
        opens("a named port", 130),
        opens("the last named port", 141),
        dropped("behind the named ports", 142),
        opens("on an interface", 150),
        dropped("on another interface", 151),
        opens("this way", 160),
        dropped("another way", 161),
        inwards("the first rule decides", 170, [denied(A.syn(), "first")]),
        opens("a shadow decides nothing", 171),
        inwards(
            "a rule that picks up",
            180,
            [
                arrives(A.ack().data(10)),
                arrives(B.ack().acks(11)),
                arrives(B.ack().acks(11).data(10)),
                arrives(A.ack().seq(11).acks(11)),
            ],
        ),
        inwards(
            "a rule that picks up no RST",
            180,
            [
                refused(A.rst(), Reason::StrayReset),
                refused(A.syn_ack(), Reason::StraySynAck),
            ],
        ),
        inwards(
            "a rule that does not pick up",
            181,
            [refused(A.ack().data(10), Reason::StrayAck)],
        ),
        inwards(
            "data that no rule picks up",
            102,
            [refused(A.ack().data(10), Reason::StrayAck)],
        ),
        inwards(
            "a liberal rule",
            190,
            [
                arrives(A.ack().seq(500_000).data(10)),
                arrives(B.ack().seq(500_000).data(10)),
                arrives(A.ack().data(10)),
            ],
        )
        .established(),
        inwards(
            "a strict rule",
            191,
            [
                refused(A.ack().seq(500_000).data(10), Reason::BeyondWindow),
                arrives(A.ack().data(10)),
            ],
        )
        .established(),
        outwards("the other way round", 161, [denied(A.syn(), "default")]).only(&[Role::Gateway]),
        outwards(
            "from inside by a rule for any way",
            120,
            [arrives(A.syn()), arrives(B.syn_ack())],
        ),
        outwards(
            "from inside by a rule about the other interface",
            151,
            [arrives(A.syn()), arrives(B.syn_ack())],
        )
        .only(&[Role::Gateway]),
    ]
}

fn decides(role: Role) {
    let topology = role.topology().unwrap();
    let wall = Wall::with(&topology, &policy(role)).unwrap();
    let mut bed = Bed::new(&topology, role).unwrap();
    stay_on_one_cpu().unwrap();
    let (_, wrong) = before_tracker(&mut bed, &wall, &cases()).unwrap();
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    wall.stop();
}

#[test]
fn rules_of_a_host_decide_by_all_that_they_ask_for() {
    decides(Role::Host);
}

#[test]
fn rules_of_a_gateway_decide_by_all_that_they_ask_for() {
    decides(Role::Gateway);
}
