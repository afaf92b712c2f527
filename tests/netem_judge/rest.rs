//! The tracker's states against those of the sockets, when all is at rest.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use tracker_tests::{flow::Flow, ss::Snapshot, state::State, topology::Topology, wire::Way};

/// How long a flow in TIME-WAIT must have been silent for the kernel, whose
/// TIME-WAIT takes a minute, to have ended it already: less, by what passes
/// between the looks at both.
const KERNELS_TIME_WAIT_MS: u64 = 55_000;

/// Client's and server's address.
type Ends = (SocketAddr, SocketAddr);

/// What everybody says at one moment. The sockets are read before and after
/// the tracker is asked, so that what moved in between is known.
pub struct Look {
    before: HashMap<Ends, (State, State)>,
    flows: HashMap<Ends, Vec<Flow>>,
    after: HashMap<Ends, (State, State)>,
}

/// What a look shows.
#[derive(Default)]
pub struct Judgement {
    /// Connections that both accounts agree about.
    pub equal: usize,
    /// Of them, those whose sockets are not both closed.
    pub alive: usize,
    /// TIME-WAIT on one account and CLOSED on the other, because a reset was
    /// lost before or behind the tracker.
    pub lost_resets: Vec<Difference>,
    /// TIME-WAIT at both sockets, and CLOSED for one of them at the tracker: both
    /// closed at once, and what shows that did not pass. The FIN of one was lost
    /// before the tracker; or it was queued (RFC 9293 section 3.10.4: "in any
    /// case, enter FIN-WAIT-1 state"), and sent behind the acknowledgement of
    /// the other's, as if its sender had closed in CLOSE-WAIT.
    pub unseen: Vec<Difference>,
    /// All other differences.
    pub different: Vec<Difference>,
}

/// A connection about which the two accounts differ.
#[derive(Clone, Debug)]
pub struct Difference {
    ends: Ends,
    truth: (State, State),
    flows: Vec<Flow>,
    why: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ends: (client, server),
            truth: (at_client, at_server),
            flows,
            why,
        } = self;
        writeln!(
            f,
            "  {client} {server}: {why}; ss says {at_client}/{at_server}"
        )?;
        flows.iter().try_for_each(|flow| writeln!(f, "{flow}"))
    }
}

impl Look {
    /// Looks at the sockets of both ends and at the tracker's `flows`.
    pub fn take(
        topology: &Topology,
        flows: impl FnOnce() -> anyhow::Result<Vec<Flow>>,
    ) -> anyhow::Result<Self> {
        let clients: HashSet<IpAddr> = addresses(topology);
        let before = sockets(topology)?;
        let mut by_ends: HashMap<Ends, Vec<Flow>> = HashMap::new();
        for flow in flows()? {
            let (initiator, responder) = (flow.initiator.at(), flow.responder.at());
            let ends = if clients.contains(&initiator.ip()) {
                (initiator, responder)
            } else {
                (responder, initiator)
            };
            by_ends.entry(ends).or_default().push(flow);
        }
        Ok(Self {
            before,
            flows: by_ends,
            after: sockets(topology)?,
        })
    }

    /// Compares the accounts of every connection that either knows. Those that
    /// agree or are excused are counted if the client's address is among `new`.
    pub fn judge(&self, lost_resets: &HashSet<Way>, new: &HashSet<SocketAddr>) -> Judgement {
        let mut judgement = Judgement::default();
        let ends: HashSet<&Ends> = self.flows.keys().chain(self.after.keys()).collect();
        for &ends in &ends {
            let closed = (State::Closed, State::Closed);
            let truth = self.after.get(ends).copied().unwrap_or(closed);
            let moved = self.before.get(ends).copied().unwrap_or(closed) != truth;
            let flows = self.flows.get(ends).map_or(&[][..], Vec::as_slice);
            let why = match compare(truth, flows, ends.0) {
                _ if moved => "it moved under the eyes of the judge",
                Ok(()) => {
                    let is_new = usize::from(new.contains(&ends.0));
                    judgement.equal += is_new;
                    judgement.alive += is_new * usize::from(truth != closed);
                    continue;
                }
                Err(why) => why,
            };
            let difference = Difference {
                ends: *ends,
                truth,
                flows: flows.to_vec(),
                why,
            };
            let (client, server) = *ends;
            let ways = [(client, server), (server, client)];
            let kind = if moved || !only_time_wait(truth, flows, client) {
                &mut judgement.different
            } else if ways.iter().any(|way| lost_resets.contains(way)) {
                &mut judgement.lost_resets
            } else if truth == (State::TimeWait, State::TimeWait) {
                &mut judgement.unseen
            } else {
                &mut judgement.different
            };
            kind.push(difference);
        }
        for excused in [&mut judgement.lost_resets, &mut judgement.unseen] {
            excused.retain(|difference| new.contains(&difference.ends.0));
        }
        judgement
    }
}

/// The states that the tracker gives, the client's first.
fn states(flow: &Flow, client: SocketAddr) -> (State, State) {
    let (initiator, responder) = flow.states();
    if flow.initiator.at() == client {
        (initiator, responder)
    } else {
        (responder, initiator)
    }
}

fn compare(truth: (State, State), flows: &[Flow], client: SocketAddr) -> Result<(), &'static str> {
    let flow = match flows {
        [flow] => flow,
        [] => return Err("no flow"),
        _ => return Err("more than one flow"),
    };
    if flow.origin != "handshake" {
        return Err("picked up in mid-life");
    }
    let tracked = states(flow, client);
    let same = |tracked: State, truth: State| {
        let over = tracked == State::TimeWait
            && truth == State::Closed
            && flow.idle_ms >= KERNELS_TIME_WAIT_MS;
        tracked == truth || over
    };
    if same(tracked.0, truth.0) && same(tracked.1, truth.1) {
        Ok(())
    } else {
        Err("states differ")
    }
}

/// Whether nothing differs but TIME-WAIT on one account and CLOSED on the
/// other: what a lost reset explains.
fn only_time_wait(truth: (State, State), flows: &[Flow], client: SocketAddr) -> bool {
    let [flow] = flows else { return false };
    let tracked = states(flow, client);
    let over = |state| matches!(state, State::TimeWait | State::Closed);
    [tracked.0, tracked.1, truth.0, truth.1]
        .into_iter()
        .all(over)
}

fn addresses(topology: &Topology) -> HashSet<IpAddr> {
    use tracker_tests::topology::Family::{V4, V6};
    [V4, V6]
        .map(|family| topology.client.at(family, 0).ip())
        .into()
}

/// Every connection's states, the client's first, CLOSED where there is no
/// socket.
fn sockets(topology: &Topology) -> anyhow::Result<HashMap<Ends, (State, State)>> {
    let mut states = HashMap::new();
    let closed = (State::Closed, State::Closed);
    for socket in Snapshot::take(&topology.client.netns)?.0 {
        if socket.peer.port() != 0 {
            states
                .entry((socket.local, socket.peer))
                .or_insert(closed)
                .0 = socket.state;
        }
    }
    for socket in Snapshot::take(&topology.server.netns)?.0 {
        if socket.peer.port() != 0 {
            states
                .entry((socket.peer, socket.local))
                .or_insert(closed)
                .1 = socket.state;
        }
    }
    Ok(states)
}
