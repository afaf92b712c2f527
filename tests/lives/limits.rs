//! What ends a flow before its time-out does.

use std::{
    ops::Range,
    thread::sleep,
    time::{Duration, Instant},
};

use tracker_tests::{
    connection::Connection,
    flow::{self, Flow},
    frames::Crowd,
    spoof::{Segment, Spoofer},
    state::State,
    topology::{Family, Placement, Topology},
    wait::eventually,
};

use crate::{Configuration, SOON, ask, connect, listener, nobody, stats};
/// The oldest go, the newest stay, and other flows are not touched.
#[test]
fn of_too_many_flows_in_time_wait_the_oldest_go() {
    const OLD: u16 = 30;
    const KEPT: u16 = 10;
    let topology = Topology::new(Placement::Server).unwrap();
    let file = Configuration::new(&format!("[tracking]\ntime_wait_limit = {KEPT}\n"));
    let tracker = file.start(&topology, &[]);
    let open = Connection::open(&topology, 39_999);

    let listener = listener(&topology, 81);
    let close = |ports: Range<u16>| {
        let pairs: Vec<_> = ports
            .map(|port| connect(&topology, &listener, port))
            .collect();
        for (client, server) in pairs {
            drop(client);
            drop(server);
        }
    };
    close(40_000..40_000 + OLD);
    // The ages of the two lots are a tick apart at least.
    sleep(Duration::from_millis(50));
    close(41_000..41_000 + KEPT);

    let newest: Vec<u16> = (41_000..41_000 + KEPT).collect();
    eventually(SOON, || {
        let flows = ask(&tracker)?;
        let in_time_wait = flows.iter().filter(|flow| is_in_time_wait(flow));
        let mut ports: Vec<u16> = in_time_wait.map(|flow| flow.initiator.port).collect();
        ports.sort_unstable();
        if ports == newest {
            Ok(())
        } else {
            Err(format!("in TIME_WAIT: {ports:?}"))
        }
    });
    let stats = tracker.stats().unwrap();
    assert_eq!(stats.time_wait.limit, u64::from(KEPT));
    assert!(tracker.log().contains("tracking.time_wait_limit"));
    open.talk();
    assert_eq!(open.seen_by(&tracker).origin, "handshake");
    tracker.stop().unwrap();
}

/// A table that is 90 % full halves the time-outs at once, and an empty one gives
/// them back.
#[test]
fn a_full_table_shortens_the_time_outs() {
    let topology = Topology::new(Placement::Gateway).unwrap();
    let table = "[table]\ncapacity = 1000\nhalf_open_limit = 1000\n";
    let established = |seconds: u64| format!("[timeouts]\nestablished = \"{seconds}s\"\n");
    let file = Configuration::new(&(table.to_owned() + &established(1000)));
    let tracker = file.start(&topology, &[]);
    let crowd = Crowd::new(&topology, Family::V4).unwrap();
    let scale = |wanted: f64| {
        eventually(SOON, || match stats(&tracker)?.timeout_scale {
            scale if (scale - wanted).abs() < 0.01 => Ok(()),
            scale => Err(format!("time-outs are at {scale} of their length")),
        });
    };
    scale(1.0);
    let opened = Instant::now();
    crowd.open(0..900).unwrap();
    scale(0.5);
    let flows = tracker.list().unwrap();
    assert_eq!(flows.len(), 900);
    assert!(flows.iter().all(|flow| flow.expires_ms <= 500_000));
    assert!(tracker.log().contains("of 1000 flows: time-outs run at"));

    // Switched off and on again without a restart.
    let off = "[tracking]\nadaptive = false\n";
    file.reload(&tracker, &format!("{table}{}{off}", established(1000)));
    scale(1.0);
    assert!(
        tracker
            .list()
            .unwrap()
            .iter()
            .any(|flow| flow.expires_ms > 500_000)
    );
    file.reload(&tracker, &format!("{table}{}", established(1000)));
    scale(0.5);

    // What is older than half of its time-out is swept, long before its whole.
    let long_enough = Duration::from_secs(10);
    sleep(long_enough.saturating_sub(opened.elapsed()));
    let whole = opened.elapsed().as_secs() * 3 / 2 + 10;
    file.reload(&tracker, &format!("{table}{}", established(whole)));
    // With fewer than 600 left the others have their full time again.
    eventually(SOON, || match stats(&tracker)?.flows_ipv4.held {
        0..=600 => Ok(()),
        held => Err(format!("{held} flows are left")),
    });
    assert!(
        opened.elapsed() < Duration::from_secs(whole),
        "they went when their time-outs of {whole} s had run out in full"
    );
    scale(1.0);
    eventually(SOON, || match tracker.log() {
        log if log.contains("time-outs have their full length again") => Ok(()),
        log => Err(log),
    });
    tracker.stop().unwrap();
}

/// The server repeats its SYN-ACK after 1 s, 3 s, 7 s …; two are one too many here.
#[test]
fn a_half_open_flow_ends_with_its_syn_acks() {
    let topology = Topology::new(Placement::Server).unwrap();
    let spoofer = Spoofer::new(&topology).unwrap();
    let _listener = listener(&topology, 80);
    let file =
        Configuration::new("[tracking]\nsyn_ack_retries = 1\n[timeouts]\nsyn_received = \"10m\"\n");
    let tracker = file.start(&topology, &[]);
    let syn = Segment {
        syn: true,
        ..nobody(&topology, 40_000)
    };
    spoofer.pretend(syn.from).unwrap();
    spoofer.send(&syn).unwrap();
    eventually(SOON, || match ask(&tracker)?.as_slice() {
        [only] if only.states() == (State::SynSent, State::SynReceived) => Ok(()),
        flows => Err(flow::table(flows)),
    });
    eventually(Duration::from_secs(60), || {
        match ask(&tracker)?.as_slice() {
            [] => Ok(()),
            flows => Err(flow::table(flows)),
        }
    });
    let stats = eventually(SOON, || match stats(&tracker)? {
        stats if stats.half_open.held == 0 => Ok(stats),
        stats => Err(format!("{} half-open", stats.half_open.held)),
    });
    assert!(stats.packets("syn_ack_retransmit") >= 2);
    tracker.stop().unwrap();
}

fn is_in_time_wait(flow: &Flow) -> bool {
    let (initiator, responder) = flow.states();
    initiator == State::TimeWait || responder == State::TimeWait
}
