//! Keeps who manages this machine from being cut off by a policy.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;
use tracker_common::{
    abi::Family,
    policy::{Action, Direction, Prefix},
};

use crate::{
    policy::{
        compile::{Compiled, Judge},
        flows::subject,
        model::{Management, Policy},
        prefixes::from_brain,
    },
    routes::{Routes, own_addresses},
    sockets::{self, Connected, Listening},
};

/// A port that callers have: the first of the dynamic ones (RFC 6335 section 6).
const CALLERS_PORT: u16 = 49_152;

/// Cuts that are told one by one.
const TOLD: usize = 5;

/// Who manages this machine, and over which way: what a policy must not cut.
#[derive(Clone, Debug, Default)]
pub struct Lifelines(Vec<Lifeline>);

/// Connections of which at least one must be allowed.
#[derive(Clone, Debug)]
struct Lifeline {
    ways: Vec<Way>,
}

/// A connection to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    from: SocketAddr,
    to: SocketAddr,
    /// Interface where it comes in, 0 where that is not known.
    ifindex: u32,
}

/// A peer that a policy would cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    from: SocketAddr,
    to: SocketAddr,
    rule: String,
    line: usize,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            rule,
            line,
        } = self;
        write!(f, "{from} → {to} would be refused by the rule `{rule}`")?;
        if *line != 0 {
            write!(f, " in line {line}")?;
        }
        Ok(())
    }
}

impl Lifelines {
    /// Looks at who is connected to this machine's management ports, or, where the
    /// policy names who manages it, at where it listens for them.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn look(policy: &Policy) -> Result<Self> {
        let mut routes = Routes::look()?;
        let device = |address| routes.towards(address).unwrap_or(0);
        let management = &policy.management;
        let connected = sockets::connected()?;
        if management.peers.is_empty() {
            return Ok(of_connections(management, &connected, device));
        }
        let listening = sockets::listening()?;
        let own = own_addresses()?;
        Ok(of_peers(policy, &listening, &own, device))
    }

    /// Those that `compiled` cuts.
    #[must_use]
    pub fn cut_by(&self, compiled: &Compiled) -> Vec<Cut> {
        let judge = Judge::new(compiled);
        let cut = self.0.iter().filter_map(|lifeline| {
            let mut first = None;
            for way in &lifeline.ways {
                let from = (way.from.ip(), way.from.port());
                let to = (way.to.ip(), way.to.port());
                let judged = judge.judge(&subject(from, to, Direction::In, way.ifindex))?;
                if judged.rule.action == Action::Allow {
                    return None;
                }
                first.get_or_insert(Cut {
                    from: way.from,
                    to: way.to,
                    rule: judged.rule.name.clone(),
                    line: judged.rule.line,
                });
            }
            first
        });
        cut.collect()
    }
}

/// What is told of cuts.
#[must_use]
pub fn explain(cuts: &[Cut]) -> String {
    let told: Vec<String> = cuts.iter().take(TOLD).map(Cut::to_string).collect();
    let more = match cuts.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!(
        "the policy would cut off who manages this machine: {}{more}; allow them in a rule before \
         that one, or say --force",
        told.join("; ")
    )
}

/// Each connection to a management port.
fn of_connections(
    management: &Management,
    connected: &[Connected],
    mut device: impl FnMut(IpAddr) -> u32,
) -> Lifelines {
    let managing = connected.iter().filter(|connection| {
        management.ports.contains(&connection.local.port())
            && !connection.remote.ip().is_loopback()
            && connection.remote.ip() != connection.local.ip()
    });
    let lifelines = managing.map(|connection| Lifeline {
        ways: vec![Way {
            from: connection.remote,
            to: connection.local,
            ifindex: match connection.ifindex {
                0 => device(connection.remote.ip()),
                bound => bound,
            },
        }],
    });
    Lifelines(lifelines.collect())
}

/// Each prefix of peers, at every address where the policy may begin to treat it
/// another way: one of the listening sockets must be reached.
fn of_peers(
    policy: &Policy,
    listening: &[Listening],
    own: &[IpAddr],
    mut device: impl FnMut(IpAddr) -> u32,
) -> Lifelines {
    let mut lifelines = Vec::new();
    for peer in borders(policy) {
        let from = SocketAddr::new(peer, CALLERS_PORT);
        let ifindex = device(peer);
        let addresses = own
            .iter()
            .filter(|own| own.is_ipv4() == peer.is_ipv4() && !own.is_loopback());
        let ways: Vec<Way> = addresses
            .flat_map(|&address| {
                let ports = policy.management.ports.iter();
                ports.map(move |&port| SocketAddr::new(address, port))
            })
            .filter(|&to| listening.iter().any(|listener| listens(listener, to)))
            .map(|to| Way { from, to, ifindex })
            .collect();
        if !ways.is_empty() {
            lifelines.push(Lifeline { ways });
        }
    }
    Lifelines(lifelines)
}

fn listens(listener: &Listening, at: SocketAddr) -> bool {
    listener.port == at.port()
        && (listener.address == at.ip()
            || listener.address.is_unspecified()
                && (listener.address.is_ipv4() == at.is_ipv4() || listener.dual_stack))
}

/// Addresses of management peers: of each prefix the first one, and within it the
/// first of each prefix of the policy and the first one behind it. Between two of
/// them the policy treats all alike.
fn borders(policy: &Policy) -> BTreeSet<IpAddr> {
    let mut borders = BTreeSet::new();
    for peer in &policy.management.peers {
        borders.insert(first(peer));
        for prefix in policy.sets.iter().flat_map(|set| &set.prefixes) {
            let candidates = [Some(first(prefix)), behind(prefix)];
            for address in candidates.into_iter().flatten() {
                let (family, words) = crate::prefix::words(address);
                if peer.contains(family, &words) {
                    borders.insert(address);
                }
            }
        }
    }
    borders
}

fn first(prefix: &Prefix) -> IpAddr {
    from_brain(prefix).network()
}

fn behind(prefix: &Prefix) -> Option<IpAddr> {
    Some(match (prefix.family, from_brain(prefix).broadcast()) {
        (Family::V4, IpAddr::V4(last)) => {
            IpAddr::from(last.to_bits().checked_add(1)?.to_be_bytes())
        }
        (Family::V6, IpAddr::V6(last)) => {
            IpAddr::from(last.to_bits().checked_add(1)?.to_be_bytes())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracker_common::tcp::State;

    use super::*;
    use crate::policy::{Context, compile::compile, parse};

    fn policy(text: &str) -> Policy {
        let reading = parse(text, Path::new("t.toml"), &Context::default());
        reading.policy.unwrap_or_else(|| panic!("{text}"))
    }

    fn cuts(lifelines: &Lifelines, policy: &Policy) -> Vec<String> {
        let compiled = compile(policy, &|_| Some(2), &|_| 1).unwrap();
        lifelines
            .cut_by(&compiled)
            .iter()
            .map(Cut::to_string)
            .collect()
    }

    fn connection(local: &str, remote: &str) -> Connected {
        Connected {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            state: State::Established,
            ifindex: 0,
        }
    }

    fn listener(port: u16) -> Listening {
        Listening {
            address: "::".parse().unwrap(),
            port,
            dual_stack: true,
            ifindex: 0,
            queue: 0,
            backlog: 1,
        }
    }

    const WEB: &str =
        "default = \"drop\"\n[[rules]]\nname = \"web\"\nports = [80]\naction = \"allow\"\n";

    #[test]
    fn whoever_is_connected_to_ssh_must_stay() {
        let connected = [
            connection("192.0.2.1:22", "198.51.100.7:50000"),
            connection("192.0.2.1:80", "198.51.100.8:50000"),
            connection("127.0.0.1:22", "127.0.0.1:50000"),
        ];
        let lifelines = of_connections(&Management::default(), &connected, |_| 2);
        assert_eq!(
            cuts(&lifelines, &policy(WEB)),
            ["198.51.100.7:50000 → 192.0.2.1:22 would be refused by the rule `default`"]
        );
        let allowing = format!(
            "{WEB}[[rules]]\nname = \"ssh\"\ninterface = \"eth0\"\nfrom = \"198.51.100.0/24\"\nports = [22]\naction = \"allow\"\n"
        );
        assert!(cuts(&lifelines, &policy(&allowing)).is_empty());
        // Their interface is not the one of the rule.
        let elsewhere = of_connections(&Management::default(), &connected, |_| 3);
        assert_eq!(cuts(&elsewhere, &policy(&allowing)).len(), 1);
        // What only counts does not allow.
        let shadow = allowing.replace("name = \"ssh\"", "name = \"ssh\"\nshadow = true");
        assert_eq!(cuts(&lifelines, &policy(&shadow)).len(), 1);
    }

    #[test]
    fn of_a_named_prefix_every_part_is_looked_at() {
        let text = "default = \"drop\"\n[management]\npeers = [\"198.51.100.0/24\"]\n\
            [[rules]]\nname = \"not that one\"\nfrom = \"198.51.100.64/26\"\naction = \"drop\"\n\
            [[rules]]\nname = \"ssh\"\nfrom = \"198.51.100.0/24\"\nports = [22]\naction = \"allow\"\n";
        let policy = policy(text);
        let own = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let lifelines = of_peers(&policy, &[listener(22)], &own, |_| 2);
        let told = cuts(&lifelines, &policy);
        assert_eq!(
            told,
            [
                "198.51.100.64:49152 → 192.0.2.1:22 would be refused by the rule `not that one` in \
                 line 4"
            ]
        );
        // Where nobody listens nobody is cut off.
        assert!(of_peers(&policy, &[listener(23)], &own, |_| 2).0.is_empty());
    }

    #[test]
    fn one_address_that_is_reached_will_do() {
        let text = "default = \"drop\"\n[management]\npeers = [\"198.51.100.7\"]\n\
            [[rules]]\nname = \"ssh\"\nto = \"192.0.2.2\"\nports = [22]\naction = \"allow\"\n";
        let policy = policy(text);
        let own = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let lifelines = of_peers(&policy, &[listener(22)], &own, |_| 2);
        assert_eq!(cuts(&lifelines, &policy), [""; 0]);
    }

    #[test]
    fn many_cuts_are_told_in_short() {
        let cut = Cut {
            from: "198.51.100.7:1".parse().unwrap(),
            to: "192.0.2.1:22".parse().unwrap(),
            rule: "default".to_owned(),
            line: 0,
        };
        let told = explain(&vec![cut; 8]);
        assert!(
            told.contains("and 3 more") && told.contains("--force"),
            "{told}"
        );
    }
}
