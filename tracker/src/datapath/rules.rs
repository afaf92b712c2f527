//! What the programs keep of each rule: what it has decided, and its limits.
//!
//! By number, in pages of [`RULES_PER_PAGE`] that are made when a policy first needs
//! them. A page is pinned like a map of its own: of an inner map the kernel tells the
//! number only, and who may ask for a map by its number may ask for any map.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{Map, MapData, MapError};
use aya_obj::generated::bpf_map_type;
use tracker_common::abi::{Place, PlaceKind, RULES_PER_PAGE, RuleCount, RuleState};

use super::{
    defended::all,
    error::{Error, Result},
    names, pins,
    policy::{Inner, check, put},
    sys,
    tables::{Tables, data, delete, descriptor, lock, opening},
};

/// A rule whose number was nobody's, or another rule's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Its number.
    pub number: u16,
    /// Bits of the prefixes that its limits by source count, IPv4 and IPv6.
    pub source_bits: [u8; 2],
}

/// What a rule has decided, summed over the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// First packets that it decided, or would have if it is in shadow.
    pub hits: u64,
    /// Packets of its flows that have ended.
    pub packets: u64,
    /// Octets of their IP datagrams.
    pub bytes: u64,
    /// Coarse `CLOCK_MONOTONIC` of the last hit, ns; 0: there was none.
    pub last_ns: u64,
}

/// The maps of maps `RULE_COUNTS` and `RULE_STATES`, and the pages in them.
pub(super) struct Pages {
    counts: Mutex<Map>,
    states: Mutex<Map>,
    /// Where they are pinned; `None`: nowhere.
    dir: Option<PathBuf>,
    known: Mutex<BTreeMap<u32, Page>>,
}

struct Page {
    counts: Map,
    states: Map,
    /// This process has put it into the maps of maps.
    placed: bool,
}

impl Pages {
    pub(super) fn collect(mut map: impl FnMut(&'static str) -> Result<Map>) -> Result<Self> {
        let (counts, states) = (map(names::RULE_COUNTS)?, map(names::RULE_STATES)?);
        check(&counts, names::RULE_COUNTS)?;
        check(&states, names::RULE_STATES)?;
        Ok(Self {
            counts: Mutex::new(counts),
            states: Mutex::new(states),
            dir: None,
            known: Mutex::new(BTreeMap::new()),
        })
    }

    /// Says that pages are pinned in `dir`.
    pub(super) fn pin_at(&mut self, dir: &Path) {
        self.dir = Some(dir.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Page>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `look` at a page; `None` where there is none yet.
    fn read<T>(&self, number: u32, look: impl FnOnce(&Page) -> Result<T>) -> Result<Option<T>> {
        let mut known = self.lock();
        let page = match known.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => match self.open(number)? {
                Some(page) => unknown.insert(page),
                None => return Ok(None),
            },
        };
        look(page).map(Some)
    }

    /// Sees to it that the programs find a page, and lets `change` it.
    fn write<T>(&self, number: u32, change: impl FnOnce(&mut Page) -> Result<T>) -> Result<T> {
        let mut known = self.lock();
        let page = match known.remove(&number) {
            Some(page) => page,
            None => match self.open(number)? {
                Some(page) => page,
                None => self.make(number)?,
            },
        };
        let page = known.entry(number).or_insert(page);
        if !page.placed {
            // Again for a page that an earlier agent left, which may have died before.
            put(
                &self.counts,
                names::RULE_COUNTS,
                number,
                data(&page.counts, names::RULE_COUNTS)?,
            )?;
            put(
                &self.states,
                names::RULE_STATES,
                number,
                data(&page.states, names::RULE_STATES)?,
            )?;
            page.placed = true;
        }
        change(page)
    }

    /// The page that is pinned, if one is.
    fn open(&self, number: u32) -> Result<Option<Page>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let open = |name: &'static str| match MapData::from_pin(pin(dir, name, number)) {
            Ok(data) => Map::from_map_data(data).map(Some).map_err(opening(name)),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(source) => Err(opening(name)(source)),
        };
        let (counts, states) = (open(names::RULE_COUNTS)?, open(names::RULE_STATES)?);
        Ok(counts.zip(states).map(|(counts, states)| Page {
            counts,
            states,
            placed: false,
        }))
    }

    fn make(&self, number: u32) -> Result<Page> {
        let counts = Inner {
            of: names::RULE_COUNTS,
            name: "rule_counts",
            kind: bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
            key_size: size_of::<u32>(),
            value_size: size_of::<RuleCount>(),
            flags: 0,
        };
        let states = Inner {
            of: names::RULE_STATES,
            name: "rule_states",
            kind: bpf_map_type::BPF_MAP_TYPE_ARRAY,
            value_size: size_of::<RuleState>(),
            ..counts
        };
        let make = |inner: &Inner| {
            let data = inner.create(RULES_PER_PAGE as usize)?;
            if let Some(dir) = &self.dir {
                let path = pin(dir, inner.of, number);
                // One of the two may be left of an agent that died between them.
                pins::remove(&path)?;
                data.pin(&path)
                    .map_err(|error| pins::io("pin a map at", &path)(io::Error::other(error)))?;
            }
            Map::from_map_data(data).map_err(opening(inner.of))
        };
        Ok(Page {
            counts: make(&counts)?,
            states: make(&states)?,
            placed: false,
        })
    }
}

/// Where the page of that number is pinned.
fn pin(dir: &Path, map: &'static str, number: u32) -> PathBuf {
    dir.join(format!("{map}_{number}"))
}

impl Page {
    /// What rules have decided, by their place in the page.
    fn totals(&self) -> Result<Vec<RuleTotals>> {
        const NAME: &str = names::RULE_COUNTS;
        let cpus = possible_cpus()?;
        let mut keys = vec![0_u32; RULES_PER_PAGE as usize];
        let mut values = vec![RuleCount::default(); keys.len() * cpus];
        let map = descriptor(&self.counts, NAME)?;
        sys::lookup_batch(map, &mut sys::Cursor::default(), &mut keys, &mut values, 0)
            .map_err(batch("read", NAME))?;
        Ok(values.chunks(cpus).map(RuleTotals::of).collect())
    }

    /// What all CPUs share of rules, likewise.
    fn states(&self) -> Result<Vec<RuleState>> {
        const NAME: &str = names::RULE_STATES;
        let mut keys = vec![0_u32; RULES_PER_PAGE as usize];
        let mut values = vec![RuleState::default(); keys.len()];
        let map = descriptor(&self.states, NAME)?;
        sys::lookup_batch(map, &mut sys::Cursor::default(), &mut keys, &mut values, 0)
            .map_err(batch("read", NAME))?;
        Ok(values)
    }

    /// Begins anew with rules that all have their place in this page.
    fn begin(&self, fresh: &[Fresh]) -> Result<()> {
        let keys: Vec<u32> = fresh
            .iter()
            .map(|rule| u32::from(rule.number) % RULES_PER_PAGE)
            .collect();
        let states: Vec<RuleState> = fresh
            .iter()
            .map(|rule| RuleState {
                source_masks: RuleState::masks(rule.source_bits),
                ..RuleState::default()
            })
            .collect();
        let counts = vec![RuleCount::default(); keys.len() * possible_cpus()?];
        sys::update_batch(
            descriptor(&self.states, names::RULE_STATES)?,
            &keys,
            &states,
        )
        .map_err(batch("write", names::RULE_STATES))?;
        sys::update_batch(
            descriptor(&self.counts, names::RULE_COUNTS)?,
            &keys,
            &counts,
        )
        .map_err(batch("write", names::RULE_COUNTS))
    }
}

impl RuleTotals {
    fn of(per_cpu: &[RuleCount]) -> Self {
        per_cpu.iter().fold(Self::default(), |sum, count| Self {
            hits: sum.hits.saturating_add(count.hits),
            packets: sum.packets.saturating_add(count.packets),
            bytes: sum.bytes.saturating_add(count.bytes),
            last_ns: sum.last_ns.max(count.last_ns),
        })
    }
}

impl Tables {
    /// Makes room for what is kept of rules, and begins anew with the `fresh` ones:
    /// their counts are 0, and no source has a share under them.
    pub(super) fn prepare_rules(
        &self,
        numbers: impl Iterator<Item = u16>,
        fresh: &[Fresh],
    ) -> Result<()> {
        let pages: BTreeSet<u32> = numbers.map(page_of).collect();
        for page in pages {
            let here = fresh.iter().filter(|rule| page_of(rule.number) == page);
            let here: Vec<Fresh> = here.copied().collect();
            self.policy
                .pages
                .write(page, |page| match here.is_empty() {
                    true => Ok(()),
                    false => page.begin(&here),
                })?;
        }
        self.forget_sources(fresh)
    }

    /// Removes the shares of sources under rules that begin anew.
    fn forget_sources(&self, fresh: &[Fresh]) -> Result<()> {
        const NAME: &str = names::RULE_SHARES;
        let fresh: BTreeSet<u16> = fresh.iter().map(|rule| rule.number).collect();
        let held = all::<Place, u64>(&lock(&self.policy.shares), NAME)?;
        for (place, _) in held {
            if place.kind == PlaceKind::RuleSource as u8 && fresh.contains(&place.port) {
                delete::<Place, u64>(&self.policy.shares, NAME, &place)?;
            }
        }
        Ok(())
    }

    /// What the rules of those numbers have decided, those without a place that the
    /// programs could count in left out.
    ///
    /// # Errors
    ///
    /// The maps cannot be read.
    pub fn rule_totals(&self, numbers: &[u16]) -> Result<BTreeMap<u16, RuleTotals>> {
        self.of_rules(numbers, Page::totals)
    }

    /// What all CPUs share of the rules of those numbers, likewise.
    ///
    /// # Errors
    ///
    /// The maps cannot be read.
    pub fn rule_states(&self, numbers: &[u16]) -> Result<BTreeMap<u16, RuleState>> {
        self.of_rules(numbers, Page::states)
    }

    /// Flows by rule and source prefix: those that have any.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn rule_shares(&self) -> Result<Vec<(Place, u64)>> {
        all(&lock(&self.policy.shares), names::RULE_SHARES)
    }

    fn of_rules<T: Copy>(
        &self,
        numbers: &[u16],
        read: impl Fn(&Page) -> Result<Vec<T>>,
    ) -> Result<BTreeMap<u16, T>> {
        let mut found = BTreeMap::new();
        let pages: BTreeSet<u32> = numbers.iter().copied().map(page_of).collect();
        for page in pages {
            let Some(values) = self.policy.pages.read(page, &read)? else {
                continue;
            };
            for &number in numbers.iter().filter(|&&number| page_of(number) == page) {
                let value = values.get((u32::from(number) % RULES_PER_PAGE) as usize);
                found.extend(value.map(|&value| (number, value)));
            }
        }
        Ok(found)
    }
}

fn page_of(number: u16) -> u32 {
    u32::from(number) / RULES_PER_PAGE
}

fn batch(action: &'static str, map: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Batch {
        action,
        map,
        source,
    }
}

/// CPUs that an element of a per-CPU map has values of.
fn possible_cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(path, source)| Error::Io {
        action: "read the number of CPUs from",
        path: path.into(),
        source,
    })
}
