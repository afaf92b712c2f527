//! Plays the table before a wall, and holds two walls against each other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use anyhow::{Context as _, Result, ensure};
use tracker::policy::model::DEFAULT_RULE;
use tracker_common::{
    abi::{Key, Zone},
    reason::Reason,
};
use tracker_tests::{
    program::talk::{A, B},
    topology::Family,
};

use crate::{
    bed::{Bed, Role, Side},
    table::{Case, Fate, Sent, Stage, Step},
    walls::{Wall, port},
};

/// Where conversations begin that name no port of their own.
const FIRST_PORT: u16 = 20_000;

/// A step of the table in one place: case, step from 0, and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub case: &'static str,
    pub step: usize,
    pub v6: bool,
}

/// Which steps' packets have arrived.
pub type Arrived = BTreeMap<Place, bool>;

/// A stage for every case of a role.
fn stages(bed: &Bed<'_>, cases: &[Case]) -> Vec<(Case, Stage)> {
    let mut stages = vec![];
    let families = [Family::V4, Family::V6];
    for (number, (case, family)) in (0..).zip(
        cases
            .iter()
            .flat_map(|case| families.map(|family| (case, family))),
    ) {
        if !case.roles.contains(&bed.role) || !case.families.contains(&family) {
            continue;
        }
        let from = case.from_port.unwrap_or(FIRST_PORT + number);
        let ends = [
            bed.at(case.opener, family, from),
            bed.at(case.opener.other(), family, case.to_port),
        ];
        let stage = Stage {
            opener: case.opener,
            family,
            ends,
            number,
        };
        stages.push((case.clone(), stage));
    }
    stages
}

/// Plays every case of the bed's role; `judge` is told of each packet before it is
/// sent, and of what has become of it.
fn play(
    bed: &mut Bed<'_>,
    cases: &[Case],
    mut judge: impl FnMut(&Place, &Stage, &Step, Option<bool>) -> Result<()>,
) -> Result<Arrived> {
    let mut arrived = Arrived::new();
    for (case, stage) in stages(bed, cases) {
        for (index, step) in case.steps.iter().enumerate() {
            let place = Place {
                case: case.name,
                step: index,
                v6: stage.family == Family::V6,
            };
            judge(&place, &stage, step, None)?;
            let Sent {
                from,
                datagram,
                packets,
            } = stage.sent(step);
            let heard = bed
                .send(from, stage.family, &packets)
                .with_context(|| format!("{place:?}"))?;
            let expected = (datagram.protocol, datagram.payload);
            let count = heard.iter().filter(|heard| **heard == expected).count();
            ensure!(count < 2, "{place:?} has arrived {count} times");
            judge(&place, &stage, step, Some(count == 1))?;
            arrived.insert(place, count == 1);
        }
    }
    Ok(arrived)
}

/// Plays the table before nftables.
pub fn before_nftables(bed: &mut Bed<'_>, cases: &[Case]) -> Result<Arrived> {
    play(bed, cases, |_, _, _, _| Ok(()))
}

/// Plays it before the tracker. Gives the deviations from the table, too: what did not
/// become of a packet what must, or for another reason or by another rule.
pub fn before_tracker(
    bed: &mut Bed<'_>,
    wall: &Wall<'_>,
    cases: &[Case],
) -> Result<(Arrived, Vec<String>)> {
    let mut wrong = vec![];
    let mut before = HashMap::new();
    let mut numbers: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    let arrived = play(bed, cases, |place, stage, step, arrived| {
        let Some(arrived) = arrived else {
            before = wall.reasons()?;
            return Ok(());
        };
        let refused = wall.refused_since(&before)?;
        let expected = match step.fate {
            Fate::Arrives | Fate::Useless => vec![],
            Fate::Refused(reason) => vec![(reason, 1)],
            Fate::Denied(_) => vec![(Reason::PolicyDropped, 1)],
            Fate::Twice(reasons) => reasons.map(|reason| (reason, 1)).to_vec(),
        };
        let goes_through = step.fate == Fate::Arrives;
        if arrived != goes_through || refused != expected {
            let named: Vec<_> = refused
                .iter()
                .map(|(reason, count)| format!("{count} {}", reason.as_str()))
                .collect();
            let counted = wall.counted_since(&before)?;
            wrong.push(format!(
                "{place:?} must be {:?}: arrived {arrived}, refused {named:?}, counted {counted:?}",
                step.fate
            ));
        }
        if let Fate::Denied(rule) = step.fate {
            match wall.denied(&key(stage))? {
                Some((number, Reason::PolicyDropped)) => {
                    numbers.entry(rule).or_default().insert(number);
                }
                other => wrong.push(format!("{place:?} is remembered as {other:?}")),
            }
        }
        Ok(())
    })?;
    // Each rule has one number, and no two have the same.
    let all: BTreeSet<u16> = numbers.values().flatten().copied().collect();
    if numbers.values().any(|of_one| of_one.len() != 1) || all.len() != numbers.len() {
        wrong.push(format!("numbers of rules that refused: {numbers:?}"));
    }
    Ok((arrived, wrong))
}

/// Key of a conversation's flow.
fn key(stage: &Stage) -> Key {
    let [a, b] = stage.ends.map(|end| {
        let mut words = [0; 4];
        let octets = match end.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        for (word, octets) in words.iter_mut().zip(octets.as_chunks().0) {
            *word = u32::from_ne_bytes(*octets);
        }
        (words, end.port())
    });
    let (key, _) = match stage.family {
        Family::V4 => Key::v4((a.0[0], a.1), (b.0[0], b.1), Zone(0)),
        Family::V6 => Key::v6(a, b, Zone(0)),
    };
    key
}

/// How often each rule must have refused, in both families.
pub fn denials(cases: &[Case], role: Role) -> BTreeMap<&'static str, u64> {
    let mut denials = BTreeMap::new();
    for case in cases.iter().filter(|case| case.roles.contains(&role)) {
        for step in &case.steps {
            let rule = match step.fate {
                Fate::Denied(rule) => rule,
                Fate::Twice(reasons) if reasons.contains(&Reason::PolicyDropped) => DEFAULT_RULE,
                Fate::Arrives | Fate::Useless | Fate::Refused(_) | Fate::Twice(_) => continue,
            };
            *denials.entry(rule).or_default() += case.families.len() as u64;
        }
    }
    denials
}

/// Steps of which one wall lets the packet arrive, and the other does not.
pub fn differing(one: &Arrived, other: &Arrived) -> BTreeSet<Place> {
    let places = one
        .iter()
        .filter(|(place, arrived)| other.get(place) != Some(arrived));
    places.map(|(place, _)| *place).collect()
}

/// Whether a step's packet comes from outside to a port that a rule allows.
pub fn goes_to_allowed(case: &Case, step: &Step) -> bool {
    let from_port = case.from_port.unwrap_or(FIRST_PORT);
    let (sender, from_port, to_port) = match step.from {
        A => (case.opener, from_port, case.to_port),
        B => (case.opener.other(), case.to_port, from_port),
    };
    let allowed = to_port == port::WEB || to_port == port::SHELL && from_port < 1024;
    sender == Side::Outside && allowed
}
