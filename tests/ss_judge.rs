//! The kernel's own TCP judges: at the resting point of every scripted
//! connection, the two states that `tracker list -o json` gives are those that
//! `ss -tan` shows at the two ends.
//!
//! One topology holds all connections of the table at once, so that a whole
//! run takes as long as its slowest connection: the SYN that nobody answers.

use std::{
    fmt::Write as _,
    io::Write as _,
    thread::sleep,
    time::{Duration, Instant},
};

use tracker_tests::{
    agent::{Options, Tracker},
    flow::{self, Flow},
    nft::Firewall,
    scenario::{Scenario, Stage, TABLE, Truth},
    ss::Snapshot,
    state::State,
    topology::{Family, Placement, Topology},
};

/// How long all connections may take to come to rest and to be seen there.
/// Shorter than any stack retries (a minute for a SYN-ACK), and ample for a
/// busy machine.
const TO_REST: Duration = Duration::from_secs(40);

/// What is closed is remembered for as long as a run takes on a busy machine,
/// which is longer than by default.
const CONFIGURATION: &str = "[timeouts]\nclosed = \"10m\"\n";

/// How long they are left alone before the second look. Longer than the
/// retransmission time-out (200 ms) several times over, so that a state that a
/// repeated segment would wrongly change is seen changed.
const AT_REST: Duration = Duration::from_millis(1500);

#[test]
fn host_role_at_the_server_over_ipv4() {
    judge(Placement::Server, Family::V4);
}

#[test]
fn host_role_at_the_server_over_ipv6() {
    judge(Placement::Server, Family::V6);
}

#[test]
fn host_role_at_the_client_over_ipv4() {
    judge(Placement::Client, Family::V4);
}

#[test]
fn host_role_at_the_client_over_ipv6() {
    judge(Placement::Client, Family::V6);
}

#[test]
fn gateway_role_over_ipv4() {
    judge(Placement::Gateway, Family::V4);
}

#[test]
fn gateway_role_over_ipv6() {
    judge(Placement::Gateway, Family::V6);
}

/// Runs every scenario of the table and compares both accounts.
fn judge(placement: Placement, family: Family) {
    let topology = Topology::new(placement).unwrap();
    let at_client = Firewall::new(&topology.client.netns).unwrap();
    let at_server = Firewall::new(&topology.server.netns).unwrap();
    let mut configuration = tempfile::NamedTempFile::new().unwrap();
    configuration.write_all(CONFIGURATION.as_bytes()).unwrap();
    let tracker = Options::on(&topology)
        .with(["-c".as_ref(), configuration.path().as_os_str()])
        .start()
        .unwrap();

    let mut held = Vec::new();
    let mut cases = Vec::new();
    for (number, scenario) in (0..).zip(TABLE) {
        let ports = (40_000 + number, 5_000 + number);
        let stage = Stage::new(&topology, &at_client, &at_server, family, ports);
        match (scenario.script)(&stage) {
            Ok(hold) => held.push(hold),
            Err(error) => panic!("{}: {error:#}", scenario.name),
        }
        cases.push((scenario, stage));
    }

    // A case is done when it has been seen right once.
    let mut open: Vec<_> = cases.iter().collect();
    let start = Instant::now();
    loop {
        let look = Look::take(&topology, &tracker);
        open.retain(|(scenario, stage)| look.compare(scenario, stage).is_err());
        if open.is_empty() {
            break;
        }
        assert!(start.elapsed() < TO_REST, "{}", look.report(&open));
        sleep(Duration::from_millis(100));
    }

    sleep(AT_REST);
    let start = Instant::now();
    let mut lasting: Vec<_> = cases
        .iter()
        .filter(|(scenario, _)| scenario.rest != (State::Closed, State::Closed))
        .collect();
    // Repeated, because a look at something that is just being sent again is
    // void, not wrong.
    loop {
        let look = Look::take(&topology, &tracker);
        lasting.retain(|(scenario, stage)| look.compare(scenario, stage).is_err());
        if lasting.is_empty() {
            break;
        }
        assert!(
            start.elapsed() < TO_REST,
            "left alone:\n{}",
            look.report(&lasting)
        );
    }

    // Honest stacks on lossless wires: nothing that they do is refused, and the
    // counters agree with the tables.
    let stats = tracker.stats().unwrap();
    let refused = stats.met("refuse");
    assert!(refused.is_empty(), "refused: {refused:?}");
    let flows = tracker.list().unwrap();
    let half_open = flows.iter().filter(|flow| {
        [flow.initiator.state, flow.responder.state]
            .iter()
            .any(|state| matches!(state, State::Listen | State::SynSent | State::SynReceived))
    });
    let half_open = half_open.count() as u64;
    // One that was refused in its handshake keeps its place until it is removed.
    let closed = flows
        .iter()
        .filter(|flow| flow.states() == (State::Closed, State::Closed));
    let most = half_open + closed.count() as u64;
    // What the host's own clients open counts against no limit.
    let (held, none) = match placement {
        Placement::Client => (stats.defence.calling, stats.half_open.held),
        Placement::Server | Placement::Gateway => (stats.half_open.held, stats.defence.calling),
    };
    assert!(
        (half_open..=most).contains(&held),
        "{held} half-open places are held, {half_open} to {most} are in use:\n{}",
        flow::table(&flows)
    );
    assert_eq!(none, 0, "connections are counted on the wrong side");
    assert_eq!(stats.unproved.held, 0);

    tracker.stop().unwrap();
}

/// What everybody says at one moment: the sockets are read before and after
/// the tracker is asked, so that something that moved in between is known.
struct Look {
    before: (Snapshot, Snapshot),
    flows: Vec<Flow>,
    after: (Snapshot, Snapshot),
}

impl Look {
    fn take(topology: &Topology, tracker: &Tracker<'_>) -> Self {
        let sockets = || {
            (
                Snapshot::take(&topology.client.netns).unwrap(),
                Snapshot::take(&topology.server.netns).unwrap(),
            )
        };
        Self {
            before: sockets(),
            flows: tracker.list().unwrap(),
            after: sockets(),
        }
    }

    /// Compares the two accounts of one connection.
    fn compare(&self, scenario: &Scenario, stage: &Stage<'_>) -> Result<(), String> {
        let truth = Truth::of(stage, &self.before.0, &self.before.1);
        let after = Truth::of(stage, &self.after.0, &self.after.1);
        if truth != after {
            return Err(format!(
                "moved from {truth:?} to {after:?} under the eyes of the judge"
            ));
        }
        if (truth.client, truth.server) != scenario.rest
            || truth.syn_retransmits < scenario.syn_retransmits
            || truth.synack_retransmits < scenario.synack_retransmits
        {
            return Err(format!("the sockets are not at rest: {truth:?}"));
        }

        let (client, server) = (stage.client, stage.server);
        let mut flows = self
            .flows
            .iter()
            .filter(|flow| flow.connects(client, server) || flow.connects(server, client));
        let (Some(flow), None) = (flows.next(), flows.next()) else {
            return Err("not exactly one flow".to_owned());
        };
        if flow.initiator.at() != client {
            return Err("the initiator is not the one who sent the first SYN".to_owned());
        }
        if flow.states() != (truth.client, truth.server) {
            let (initiator, responder) = flow.states();
            return Err(format!(
                "tracker says {initiator}/{responder}, ss says {}/{}",
                truth.client, truth.server
            ));
        }
        // The kernel's count is of whatever the retransmission timer runs for:
        // a SYN in SYN-SENT, a SYN-ACK in SYN-RECEIVED.
        let counts = match (truth.client, truth.server) {
            (State::SynSent, State::Listen | State::SynReceived) => [
                ("SYN", flow.syn_retransmits, truth.syn_retransmits),
                ("SYN-ACK", flow.synack_retransmits, truth.synack_retransmits),
            ]
            .into(),
            _ => Vec::new(),
        };
        for (what, tracked, sent) in counts {
            if tracked != sent {
                return Err(format!(
                    "tracker counts {tracked} repeated {what}s, ss {sent}"
                ));
            }
        }
        if flow.origin != "handshake" || flow.family != stage.family.as_str() {
            return Err(format!("origin {} and family {}", flow.origin, flow.family));
        }
        Ok(())
    }

    /// Says for each of `cases` what is wrong, with all three tables.
    fn report(&self, cases: &[&(&Scenario, Stage<'_>)]) -> String {
        let mut text = String::new();
        for (scenario, stage) in cases {
            let verdict = match self.compare(scenario, stage) {
                Ok(()) => "right by now".to_owned(),
                Err(mismatch) => mismatch,
            };
            let _ = writeln!(
                text,
                "{} ({} to {}): {verdict}",
                scenario.name, stage.client, stage.server
            );
        }
        let (clients, servers) = &self.after;
        let _ = write!(
            text,
            "\n  client's sockets\n{clients}  server's sockets\n{servers}  flows\n{}",
            flow::table(&self.flows)
        );
        text
    }
}
