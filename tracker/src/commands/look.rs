//! One look at the pinned maps.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use nix::{ifaddrs::getifaddrs, net::if_::if_nameindex};
use tracker_common::abi::{Family, Flow, Key, Live, Place, flow_flags, held};

use crate::{
    control::place,
    datapath::Pinned,
    view::{Clock, LocalAddresses, Names, Row},
};

/// A moment, and what was in force then.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `CLOCK_MONOTONIC`, ns.
    pub now_ns: u64,
    /// Running configuration.
    pub live: Live,
    clock: Clock,
}

impl Look {
    /// Begins a look.
    ///
    /// # Errors
    ///
    /// When the running configuration or the clock cannot be read.
    pub fn begin(pinned: &Pinned) -> Result<Self> {
        let now_ns = Pinned::now_ns()?;
        let live = pinned.live()?;
        Ok(Self {
            now_ns,
            live,
            clock: Clock::new(now_ns, live),
        })
    }

    /// Hands every element of the flow tables to `each`: the flow as the views
    /// see it, or `None` for one that has expired.
    ///
    /// # Errors
    ///
    /// When a table cannot be read, or `each` fails.
    pub fn flows(
        &self,
        pinned: &Pinned,
        mut each: impl FnMut(Option<Row<'_>>) -> Result<()>,
    ) -> Result<()> {
        elements(pinned, |family, chunk| {
            for (key, flow) in chunk {
                each(Row::new(family, key, flow, &self.clock))?;
            }
            Ok(())
        })
    }
}

/// Hands the flow tables to `each`, chunk by chunk.
///
/// # Errors
///
/// When a table cannot be read, or `each` fails.
pub fn elements(
    pinned: &Pinned,
    mut each: impl FnMut(Family, &[(Key, Flow)]) -> Result<()>,
) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let mut reader = pinned.flows(family)?;
        while let Some(chunk) = reader.next_chunk()? {
            each(family, chunk)?;
        }
    }
    Ok(())
}

/// Half-open flows that came from elsewhere, by listener and by source prefix.
#[derive(Debug)]
pub struct HalfOpen {
    counts: HashMap<Place, u64>,
    /// The programs keep these counts while there is a limit on either.
    kept: bool,
    source_bits: [u8; 2],
}

impl HalfOpen {
    /// What the programs count; nothing yet where they do not.
    ///
    /// # Errors
    ///
    /// When the counts cannot be read.
    pub fn begin(pinned: &Pinned, live: &Live) -> Result<Self> {
        let kept = live.listener_limit | live.source_limit != 0;
        let counts = match kept {
            true => pinned.shares()?.into_iter().collect(),
            false => HashMap::new(),
        };
        Ok(Self {
            counts,
            kept,
            source_bits: live.source_bits,
        })
    }

    /// Counts a flow where the programs do not.
    pub fn count(&mut self, row: &Row<'_>) {
        let flags = row.flow().flags;
        if self.kept || flags & held::COUNTED == 0 {
            return;
        }
        let high = flags & flow_flags::INITIATOR_HIGH != 0;
        let (listener, source) = Place::of_flow(row.key(), row.family(), high, self.source_bits);
        for place in [listener, source] {
            *self.counts.entry(place).or_default() += 1;
        }
    }

    /// The counts, each at least 1.
    pub fn into_counts(mut self) -> HashMap<Place, u64> {
        self.counts.retain(|_, flows| *flows > 0);
        self.counts
    }
}

/// Names of the policy's rules, and of the interfaces of the tracker's network
/// namespace; none of these from another one, where the same index is another
/// interface.
///
/// # Errors
///
/// When they cannot be listed.
pub fn names(pinned: &Pinned) -> Result<Names> {
    let rules = rule_names(pinned)?;
    if !pinned.is_of_this_namespace() {
        return Ok(Names::default().with_rules(rules));
    }
    let list = if_nameindex().context("cannot list this machine's network interfaces")?;
    let pairs = list
        .iter()
        .map(|one| (one.index(), one.name().to_string_lossy().into_owned()));
    Ok(Names::new(pairs).with_rules(rules))
}

/// Names of the policy's rules by their numbers, as the agent has written them down.
fn rule_names(pinned: &Pinned) -> Result<Vec<(u16, String)>> {
    let Some(path) = pinned.run_dir() else {
        return Ok(Vec::new());
    };
    let rules = place::Place::at(path).rules()?.rules.into_iter();
    Ok(rules.map(|(number, named)| (number, named.name)).collect())
}

/// Addresses of the tracker's network namespace, likewise.
///
/// # Errors
///
/// When they cannot be listed.
pub fn local_addresses(pinned: &Pinned) -> Result<LocalAddresses> {
    if !pinned.is_of_this_namespace() {
        return Ok(LocalAddresses::default());
    }
    let list = getifaddrs().context("cannot list this machine's addresses")?;
    let addresses = list.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(LocalAddresses::new(addresses))
}
