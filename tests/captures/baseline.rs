//! What others made of the flows of a capture: Zeek's conn.log, Suricata's
//! test.yaml, nDPI's results. Read as far as they tell packets and states.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, bail};
use tracker_common::tcp::State::{
    self, CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen,
    SynReceived, SynSent, TimeWait,
};

use crate::replayed::{Outcome, Replayed};

/// A flow as somebody else saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Theirs {
    /// Originator and responder, where they are told.
    pub ends: Option<[SocketAddr; 2]>,
    /// Packets of each.
    pub packets: Option<[u64; 2]>,
    /// Their word for the state.
    pub state: Option<String>,
}

/// Reads a baseline.
///
/// # Errors
///
/// It cannot be read, or says nothing about TCP flows.
pub fn read(path: &Path) -> Result<Vec<Theirs>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let name = path.to_string_lossy();
    let flows = if name.ends_with(".yaml") {
        suricata(&text)
    } else if name.ends_with(".out") {
        ndpi(&text)
    } else {
        zeek(&text)
    }
    .with_context(|| format!("reading {}", path.display()))?;
    if flows.is_empty() {
        bail!("{} tells of no flow", path.display());
    }
    Ok(flows)
}

/// Zeek's tables: names of the columns behind `#fields`, or in the first line.
fn zeek(text: &str) -> Result<Vec<Theirs>> {
    let mut columns: Vec<&str> = vec![];
    let mut flows = vec![];
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("#fields\t") {
            columns = names.split('\t').collect();
        } else if line.starts_with('#') {
        } else if columns.is_empty() {
            columns = line.split('\t').collect();
        } else {
            let values: BTreeMap<&str, &str> =
                columns.iter().copied().zip(line.split('\t')).collect();
            if values
                .get("proto")
                .is_some_and(|&protocol| protocol != "tcp")
            {
                continue;
            }
            let value = |name: &str| -> Result<&str> {
                values
                    .get(name)
                    .copied()
                    .with_context(|| format!("no column {name} in {line:?}"))
            };
            let end = |side: &str| -> Result<SocketAddr> {
                let address = value(&format!("id.{side}_h"))?.parse()?;
                Ok(SocketAddr::new(
                    address,
                    value(&format!("id.{side}_p"))?.parse()?,
                ))
            };
            flows.push(Theirs {
                ends: Some([end("orig")?, end("resp")?]),
                packets: Some([value("orig_pkts")?.parse()?, value("resp_pkts")?.parse()?]),
                state: values.get("conn_state").map(|&state| state.to_owned()),
            });
        }
    }
    Ok(flows)
}

/// Suricata's checks of flow events. Each begins with `- filter`; the rest are
/// lines of a name and a value.
fn suricata(text: &str) -> Result<Vec<Theirs>> {
    let mut flows = vec![];
    for check in text.split("- filter").skip(1) {
        let values: BTreeMap<&str, &str> = check
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .map(|(name, value)| (name, value.trim_matches(['\'', '"'])))
            .collect();
        if values.get("event_type") != Some(&"flow") {
            continue;
        }
        let number = |name: &str| -> Result<Option<u64>> {
            values
                .get(name)
                .map(|value| {
                    value
                        .parse()
                        .with_context(|| format!("{name} is {value:?}"))
                })
                .transpose()
        };
        let end = |side: &str| -> Result<Option<SocketAddr>> {
            let address = values.get(format!("{side}_ip").as_str());
            let port = values.get(format!("{side}_port").as_str());
            Ok(match (address, port) {
                (Some(address), Some(port)) => {
                    Some(SocketAddr::new(address.parse()?, port.parse()?))
                }
                _ => None,
            })
        };
        let packets = (number("flow.pkts_toserver")?, number("flow.pkts_toclient")?);
        let theirs = Theirs {
            ends: end("src")?.zip(end("dest")?).map(<[_; 2]>::from),
            packets: packets.0.zip(packets.1).map(<[_; 2]>::from),
            state: values
                .get("tcp.state")
                .or_else(|| values.get("flow.state"))
                .map(|&state| state.to_owned()),
        };
        // A check of what was done about a flow.
        if theirs.packets.is_some() || theirs.state.is_some() {
            flows.push(theirs);
        }
    }
    Ok(flows)
}

/// nDPI's results: a line for each flow,
/// `1 TCP 10.0.0.1:80 <-> 10.0.0.2:90 […][3 pkts/198 bytes <-> 1 pkts/74 bytes]…`.
fn ndpi(text: &str) -> Result<Vec<Theirs>> {
    let mut flows = vec![];
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "TCP", from, arrow, to, ..] = words[..] else {
            continue;
        };
        if !["<->", "->"].contains(&arrow) {
            continue;
        }
        let counts = line
            .split('[')
            .find(|part| part.contains(" pkts/"))
            .with_context(|| format!("no packets in {line:?}"))?;
        let counts: Vec<u64> = counts
            .split(" pkts/")
            .filter_map(|part| part.split_whitespace().next_back()?.parse().ok())
            .collect();
        let packets = match counts[..] {
            [there, back] => [there, back],
            [there] => [there, 0],
            _ => bail!("packets of {line:?}"),
        };
        flows.push(Theirs {
            ends: Some([from.parse()?, to.parse()?]),
            packets: Some(packets),
            state: None,
        });
    }
    Ok(flows)
}

/// Whether both ends' states are what another's word means.
fn means(word: &str, states: [State; 2]) -> Result<bool> {
    let [initiator, responder] = states;
    let closed = states == [Closed, Closed];
    // Both FINs were seen; the last acknowledgement may be missing.
    let both = |state| {
        matches!(
            state,
            FinWait1 | FinWait2 | Closing | LastAck | TimeWait | Closed
        )
    };
    let finished = both(initiator) && both(responder) && !closed;
    Ok(match word {
        // Zeek: no answer; with SH a FIN of the originator, whose SYN-ACK went
        // another way.
        "S0" | "SH" | "syn_sent" | "new" => states == [SynSent, Listen],
        "S1" | "OTH" | "established" => states == [Established, Established],
        "SF" => finished,
        "REJ" | "RSTO" | "RSTR" | "RSTRH" | "RSTOS0" => closed,
        "syn_recv" => states == [SynSent, SynReceived],
        // Suricata knows one state for both ends.
        "closed" => finished || closed,
        "fin_wait1" | "fin_wait2" | "close_wait" => {
            let one =
                |a, b| matches!(a, FinWait1 | FinWait2) && matches!(b, Established | CloseWait);
            one(initiator, responder) || one(responder, initiator)
        }
        "last_ack" => finished,
        other => bail!("nobody has said what {other} means"),
    })
}

/// Compares with what others made of a capture: how many of their flows were
/// compared, and a line for each that is otherwise.
///
/// Where others count several flows between the same ends, or the tracker does,
/// packets are compared in sum, and states only if both count as many.
///
/// # Errors
///
/// A word that nobody has said the meaning of.
pub fn compare(theirs: &[Theirs], replayed: &Replayed) -> Result<(usize, Vec<String>)> {
    let mut wrong = vec![];
    for (index, flow) in theirs.iter().enumerate() {
        let same = |theirs: &Theirs| match (theirs.ends, flow.ends) {
            (Some(a), Some([b, c])) => a == [b, c] || a == [c, b],
            _ => true,
        };
        let group: Vec<&Theirs> = theirs.iter().filter(|theirs| same(theirs)).collect();
        let first = theirs.iter().position(same) == Some(index);
        let ours: Vec<&Outcome> = replayed
            .flows
            .iter()
            .filter(|ours| {
                flow.ends
                    .is_none_or(|[a, b]| ours.ends == [a, b] || ours.ends == [b, a])
            })
            .collect();
        let here = || format!("{:?}", flow);
        if ours.is_empty() {
            wrong.push(format!("there is no flow for {}", here()));
            continue;
        }
        // Of each end, whoever is taken for the initiator.
        let mine: [u64; 2] = ours.iter().fold([0; 2], |[a, b], outcome| {
            let turned = flow.ends.is_some_and(|ends| ends[0] != outcome.ends[0]);
            let [c, d] = outcome.packets;
            if turned {
                [a + d, b + c]
            } else {
                [a + c, b + d]
            }
        });
        let sum = group.iter().try_fold([0; 2], |[a, b], theirs| {
            let [c, d] = theirs.packets?;
            let turned = theirs.ends != flow.ends;
            Some(if turned {
                [a + d, b + c]
            } else {
                [a + c, b + d]
            })
        });
        if let Some(sum) = sum
            && sum != mine
            && first
        {
            wrong.push(format!(
                "the packets of {} are {mine:?}, not {sum:?}",
                here()
            ));
            continue;
        }
        if let Some(word) = &flow.state
            && ours.len() == group.len()
        {
            let place = theirs[..index].iter().filter(|theirs| same(theirs)).count();
            let states = ours[place].states;
            if !means(word, states)? {
                wrong.push(format!("the states of {} are {states:?}", here()));
            }
        }
    }
    Ok((theirs.len(), wrong))
}
