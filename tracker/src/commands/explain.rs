//! `tracker explain`: what became of a connection, and why.

use std::{io::Write, net::SocketAddr};

use anyhow::{Result, bail, ensure};
use tracker_common::abi::{Family, Flow, INITIATOR, Key, RESPONDER, Side, Zone};

use super::look::{elements, names};
use crate::{
    cli::{ExplainArgs, StatsFormat},
    control::{place::Place, record::RuleNames},
    datapath::Pinned,
    prefix,
    view::{
        Clock, Details, Row,
        ends::at,
        explain::{Denied, Ended, Explained, Open},
    },
};

/// Flows that are there no more, at most: a busy pair of ports has had many.
const ENDED: usize = 3;

/// Does what `args` say.
pub fn explain(args: &ExplainArgs, out: &mut impl Write) -> Result<()> {
    let ends = [args.source, args.destination];
    ensure!(
        ends[0].is_ipv4() == ends[1].is_ipv4(),
        "{} and {} are of two families",
        ends[0],
        ends[1]
    );
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let explained = look(&pinned, ends)?;
    if explained.is_empty() {
        bail!(
            "nothing is known of a connection between {} and {}: it has no flow, and no refusal of it \
             is remembered; `tracker policy test {0} {1}` tells what the policy would decide",
            ends[0],
            ends[1]
        );
    }
    match args.output {
        StatsFormat::Table => explained.text(out)?,
        StatsFormat::Json => explained.json(out)?,
    }
    Ok(out.flush()?)
}

fn look(pinned: &Pinned, ends: [SocketAddr; 2]) -> Result<Explained> {
    let rules = match pinned.run_dir() {
        Some(path) => Place::at(path).rules()?,
        None => RuleNames::default(),
    };
    let name = |number: u16| {
        let named = rules.rules.get(&number).map(|named| named.name.clone());
        (number != 0).then(|| named.unwrap_or_else(|| format!("number {number}")))
    };
    let (family, plain) = key(ends, Zone::default());
    let (histories, refusals) = (pinned.histories()?, pinned.refusals()?);
    let now_ns = Pinned::now_ns()?;
    let clock = Clock::new(now_ns, pinned.live()?);
    let mut explained = Explained {
        ends: Some(ends),
        ..Explained::default()
    };
    let mut tags = vec![plain.tag(family)];
    let mut open = None;
    if let Some((key, flow)) = find(pinned, family, &plain)?
        && let Some(row) = Row::new(family, &key, &flow, &clock)
    {
        let id = flow.id().0;
        let details = Details {
            history: histories.get(&id).copied(),
            refusal: refusals.get(&id).copied(),
        };
        explained.ends = Some([INITIATOR, RESPONDER].map(|end| row.at(end).into()));
        explained.flow = Some(Open::new(&row, &details, name(flow.rule)));
        tags.push(flow.tag);
        open = Some(id);
    }
    let mut ids: Vec<u64> = histories.keys().chain(refusals.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    // The upper half of a flow's name is its key's tag.
    ids.retain(|id| tags.contains(&((id >> 32) as u32)) && Some(*id) != open);
    explained.ended = ids
        .iter()
        .map(|id| Ended::new(histories.get(id), refusals.get(id), &clock))
        .collect();
    explained.ended.sort_by_key(Ended::ago_ms);
    explained.ended.truncate(ENDED);
    let denials = pinned.denials()?;
    let same = |key: &Key| without_zone(family, key) == without_zone(family, &plain);
    let denial = denials
        .iter()
        .filter(|(key, _)| same(key))
        .max_by_key(|(_, denial)| denial.time_ns);
    if let Some((key, denial)) = denial {
        let from = at(key, family, Side::from_raw(denial.from)).into();
        let interface = names(pinned)?.plain(denial.ifindex);
        explained.denial = Some(Denied::new(
            denial,
            from,
            name(denial.rule),
            interface,
            now_ns,
        ));
    }
    Ok(explained)
}

/// The flow between these ends, in whatever zone it is.
fn find(pinned: &Pinned, family: Family, plain: &Key) -> Result<Option<(Key, Flow)>> {
    if let Some(flow) = pinned.flow(family, plain)? {
        return Ok(Some((*plain, flow)));
    }
    let mut found = None;
    elements(pinned, |of, chunk| {
        if of == family && found.is_none() {
            let mut flows = chunk.iter();
            found = flows
                .find(|(key, _)| without_zone(family, key) == without_zone(family, plain))
                .map(|(key, flow)| (*key, *flow));
        }
        Ok(())
    })?;
    Ok(found)
}

fn key(ends: [SocketAddr; 2], zone: Zone) -> (Family, Key) {
    let [(family, from), (_, to)] = ends.map(|end| prefix::words(end.ip()));
    let [from_port, to_port] = ends.map(|end| end.port());
    let (key, _) = match family {
        Family::V4 => Key::v4((from[0], from_port), (to[0], to_port), zone),
        Family::V6 => Key::v6((from, from_port), (to, to_port), zone),
    };
    (family, key)
}

fn without_zone(family: Family, key: &Key) -> [u32; 10] {
    let mut words = key.words;
    match family {
        Family::V4 => words[3] = 0,
        Family::V6 => words[9] = 0,
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_found_in_either_order_and_any_zone() {
        for ends in [
            ["198.51.100.7:50000", "192.0.2.1:443"],
            ["[2001:db8::7]:50000", "[2001:db8:1::1]:22"],
        ] {
            let [one, other] = ends.map(|end| end.parse().unwrap());
            let (family, here) = key([one, other], Zone(0));
            assert_eq!(key([other, one], Zone(0)).1, here);
            let (_, there) = key([one, other], Zone(7));
            assert_ne!(here, there);
            assert_eq!(without_zone(family, &here), without_zone(family, &there));
        }
    }
}
