//! Typed access to the maps, whether they are pinned or freshly loaded.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    sys::SyscallError,
};
use tracker_common::{
    abi::{
        Candidate, Family, Flow, FlowId, Gauge, GaugeCell, History, Hook, Interface, Key, KeyV4,
        KeyV6, Live, ReapControl, ReasonCount, Refusal, RingSlot, ZoneKey, reason_slot,
    },
    reason::Reason,
};

use super::{
    batch::FlowReader,
    defended::Defended,
    error::{Error, Result},
    names,
    policy::PolicyMaps,
    ring::EventRing,
    sys,
};

/// The maps of one tracker.
///
/// Reading needs no lock. Writing takes `&self` too: each written map has one
/// writer by contract (see tracker-ebpf's maps.rs), and a mutex here keeps
/// threads of one process apart.
pub struct Tables {
    flows_v4: Map,
    flows_v6: Map,
    pub(super) gauges: Map,
    reasons: Map,
    lost: Map,
    half_open_ring: Map,
    events: Map,
    embryo_events: Map,
    candidates: Map,
    pub(super) history: Map,
    pub(super) refusals: Map,
    pub(super) defended: Defended,
    pub(super) policy: PolicyMaps,
    live: Mutex<Map>,
    interfaces: Mutex<Map>,
    zones: Mutex<Map>,
    pub(super) reap: Mutex<Map>,
    test_clock: Mutex<Map>,
}

impl Tables {
    /// Collects the maps that `map` gives by name, and checks the sizes of
    /// their elements.
    pub(super) fn collect(mut map: impl FnMut(&'static str) -> Result<Map>) -> Result<Self> {
        let tables = Self {
            flows_v4: map(names::FLOWS_V4)?,
            flows_v6: map(names::FLOWS_V6)?,
            gauges: map(names::GAUGES)?,
            reasons: map(names::REASONS)?,
            lost: map(names::LOST)?,
            half_open_ring: map(names::HALF_OPEN_RING)?,
            events: map(names::EVENTS)?,
            embryo_events: map(names::EMBRYO_EVENTS)?,
            candidates: map(names::CANDIDATES)?,
            history: map(names::HISTORY)?,
            refusals: map(names::REFUSALS)?,
            defended: Defended::collect(&mut map)?,
            policy: PolicyMaps::collect(&mut map)?,
            live: Mutex::new(map(names::LIVE)?),
            interfaces: Mutex::new(map(names::INTERFACES)?),
            zones: Mutex::new(map(names::ZONES)?),
            reap: Mutex::new(map(names::REAP_CONTROL)?),
            test_clock: Mutex::new(map(names::TEST_CLOCK)?),
        };
        hash::<KeyV4, Flow>(&tables.flows_v4, names::FLOWS_V4)?;
        hash::<KeyV6, Flow>(&tables.flows_v6, names::FLOWS_V6)?;
        array::<Candidate>(&tables.candidates, names::CANDIDATES)?;
        hash::<FlowId, History>(&tables.history, names::HISTORY)?;
        hash::<FlowId, Refusal>(&tables.refusals, names::REFUSALS)?;
        Ok(tables)
    }

    /// Reads all flows of `family`.
    ///
    /// # Errors
    ///
    /// The table is not the map it should be.
    pub fn flows(&self, family: Family) -> Result<FlowReader<'_>> {
        let (map, name) = match family {
            Family::V4 => (&self.flows_v4, names::FLOWS_V4),
            Family::V6 => (&self.flows_v6, names::FLOWS_V6),
        };
        Ok(FlowReader::new(descriptor(map, name)?, name, family))
    }

    /// One flow, read under its lock; `None` where there is none, or only a
    /// blank or dying element.
    ///
    /// # Errors
    ///
    /// The kernel refuses the look-up.
    pub fn flow(&self, family: Family, key: &Key) -> Result<Option<Flow>> {
        let (name, found) = match family {
            Family::V4 => {
                let map = hash::<KeyV4, Flow>(&self.flows_v4, names::FLOWS_V4)?;
                (names::FLOWS_V4, map.get(&key.as_v4(), sys::BPF_F_LOCK))
            }
            Family::V6 => {
                let map = hash::<KeyV6, Flow>(&self.flows_v6, names::FLOWS_V6)?;
                (names::FLOWS_V6, map.get(&key.as_v6(), sys::BPF_F_LOCK))
            }
        };
        match found {
            Ok(flow) => Ok((flow.tag != 0).then_some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(reading(name)(source)),
        }
    }

    /// Entries that each flow table may hold.
    ///
    /// # Errors
    ///
    /// The kernel does not describe the map.
    pub fn capacity(&self) -> Result<u32> {
        let info = data(&self.flows_v4, names::FLOWS_V4)?.info();
        Ok(info.map_err(reading(names::FLOWS_V4))?.max_entries())
    }

    /// Slots of the age ring.
    ///
    /// # Errors
    ///
    /// The map is not the array it should be.
    pub fn ring_slots(&self) -> Result<u32> {
        Ok(array::<RingSlot>(&self.half_open_ring, names::HALF_OPEN_RING)?.len())
    }

    /// The running configuration.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn live(&self) -> Result<Live> {
        let map = lock(&self.live);
        array(&map, names::LIVE)?
            .get(&0, 0)
            .map_err(reading(names::LIVE))
    }

    /// Replaces the running configuration as a whole.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_live(&self, live: &Live) -> Result<()> {
        set(&self.live, names::LIVE, live)
    }

    /// The shared counters, by [`Gauge`].
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn gauges(&self) -> Result<[u64; Gauge::COUNT as usize]> {
        let map = array::<GaugeCell>(&self.gauges, names::GAUGES)?;
        let mut gauges = [0; Gauge::COUNT as usize];
        for (index, gauge) in (0..).zip(&mut gauges) {
            *gauge = map.get(&index, 0).map_err(reading(names::GAUGES))?.value;
        }
        Ok(gauges)
    }

    /// Packets and octets by reason and hook, summed over the CPUs; those that
    /// never happened too.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn reasons(&self) -> Result<Vec<(Reason, Hook, ReasonCount)>> {
        let map = PerCpuArray::<_, ReasonCount>::try_from(&self.reasons)
            .map_err(opening(names::REASONS))?;
        let mut counts = Vec::with_capacity(Reason::ALL.len() * 2);
        for &reason in Reason::ALL {
            for hook in [Hook::Ingress, Hook::Egress] {
                let per_cpu = map
                    .get(&reason_slot(reason, hook), 0)
                    .map_err(reading(names::REASONS))?;
                counts.push((reason, hook, sum(&per_cpu)));
            }
        }
        Ok(counts)
    }

    /// Packets and octets of one reason at one hook, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn reason(&self, reason: Reason, hook: Hook) -> Result<ReasonCount> {
        let map = PerCpuArray::<_, ReasonCount>::try_from(&self.reasons)
            .map_err(opening(names::REASONS))?;
        map.get(&reason_slot(reason, hook), 0)
            .map(|per_cpu| sum(&per_cpu))
            .map_err(reading(names::REASONS))
    }

    /// Events that found their ring full, since the maps were made: by
    /// [`tracker_common::abi::LOST_EVENTS`] and
    /// [`tracker_common::abi::LOST_EMBRYO`].
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn lost(&self) -> Result<[u64; 2]> {
        let map = PerCpuArray::<_, u64>::try_from(&self.lost).map_err(opening(names::LOST))?;
        let mut lost = [0_u64; 2];
        for (index, total) in (0..).zip(&mut lost) {
            let per_cpu = map.get(&index, 0).map_err(reading(names::LOST))?;
            *total = per_cpu.iter().fold(0, |sum, &n| sum.saturating_add(n));
        }
        Ok(lost)
    }

    /// What slot `index` of the age ring holds.
    ///
    /// # Errors
    ///
    /// The map cannot be read, or has no such slot.
    pub fn ring_slot(&self, index: u32) -> Result<RingSlot> {
        array(&self.half_open_ring, names::HALF_OPEN_RING)?
            .get(&index, 0)
            .map_err(reading(names::HALF_OPEN_RING))
    }

    /// The interfaces that carry the hooks, by index.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn interfaces(&self) -> Result<Vec<(u32, Interface)>> {
        let map = lock(&self.interfaces);
        let map = hash::<u32, Interface>(&map, names::INTERFACES)?;
        let mut interfaces = map
            .iter()
            .collect::<Result<Vec<_>, MapError>>()
            .map_err(reading(names::INTERFACES))?;
        interfaces.sort_unstable_by_key(|&(index, _)| index);
        Ok(interfaces)
    }

    /// Says what the interface with this index carries.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_interface(&self, ifindex: u32, interface: Interface) -> Result<()> {
        insert(&self.interfaces, names::INTERFACES, &ifindex, &interface)
    }

    /// Says that the interface with this index carries nothing.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn clear_interface(&self, ifindex: u32) -> Result<()> {
        delete::<_, Interface>(&self.interfaces, names::INTERFACES, &ifindex)
    }

    /// The configured zones.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn zones(&self) -> Result<Vec<(ZoneKey, u32)>> {
        let map = lock(&self.zones);
        hash::<ZoneKey, u32>(&map, names::ZONES)?
            .iter()
            .collect::<Result<_, MapError>>()
            .map_err(reading(names::ZONES))
    }

    /// Gives a tag stack on an interface a zone.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_zone(&self, key: &ZoneKey, zone: u32) -> Result<()> {
        insert(&self.zones, names::ZONES, key, &zone)
    }

    /// Takes a tag stack's zone away.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn clear_zone(&self, key: &ZoneKey) -> Result<()> {
        delete::<_, u32>(&self.zones, names::ZONES, key)
    }

    /// Sets the clock of a tracker that was loaded with the test clock, ns of
    /// `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_test_clock(&self, ns: u64) -> Result<()> {
        set(&self.test_clock, names::TEST_CLOCK, &ns)
    }

    /// Opens the ring of events of open flows. Each ring has one reader: two
    /// would take each other's events.
    ///
    /// # Errors
    ///
    /// The ring cannot be mapped.
    pub fn events(&self) -> Result<EventRing> {
        ring(&self.events, names::EVENTS)
    }

    /// Opens the ring of events of flows whose handshake is not complete. As
    /// above.
    ///
    /// # Errors
    ///
    /// The ring cannot be mapped.
    pub fn embryo_events(&self) -> Result<EventRing> {
        ring(&self.embryo_events, names::EMBRYO_EVENTS)
    }

    /// Puts an element into a flow table as it stands. Only for tests: on a
    /// running tracker the programs are the only writers.
    pub(super) fn put_flow(&self, family: Family, key: &Key, flow: &Flow) -> Result<()> {
        let (map, name) = match family {
            Family::V4 => (&self.flows_v4, names::FLOWS_V4),
            Family::V6 => (&self.flows_v6, names::FLOWS_V6),
        };
        let (map, values) = (descriptor(map, name)?, [*flow]);
        match family {
            Family::V4 => sys::update_batch(map, &[key.as_v4()], &values),
            Family::V6 => sys::update_batch(map, &[key.as_v6()], &values),
        }
        .map_err(|source| Error::Batch {
            action: "write",
            map: name,
            source,
        })
    }

    /// Writes the first slots of the reaper's request.
    pub(super) fn set_candidates(&self, candidates: &[Candidate]) -> Result<()> {
        let map = descriptor(&self.candidates, names::CANDIDATES)?;
        let slots: Vec<u32> = (0..).zip(candidates).map(|(slot, _)| slot).collect();
        sys::update_batch(map, &slots, candidates).map_err(|source| Error::Batch {
            action: "write",
            map: names::CANDIDATES,
            source,
        })
    }

    /// The reaper's request and answer.
    pub(super) fn reap_control(&self) -> Result<ReapControl> {
        let map = lock(&self.reap);
        array(&map, names::REAP_CONTROL)?
            .get(&0, 0)
            .map_err(reading(names::REAP_CONTROL))
    }

    /// Makes a request to the reaper.
    pub(super) fn set_reap_control(&self, control: &ReapControl) -> Result<()> {
        set(&self.reap, names::REAP_CONTROL, control)
    }
}

/// A map's lock; what a panicking thread left behind is a whole element, since
/// each write is one call.
pub(super) fn lock(map: &Mutex<Map>) -> MutexGuard<'_, Map> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn opening(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map {
        action: "open",
        map,
        source,
    }
}

pub(super) fn reading(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map {
        action: "read",
        map,
        source,
    }
}

pub(super) fn writing(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map {
        action: "write",
        map,
        source,
    }
}

pub(super) fn array<'a, V: Pod>(map: &'a Map, name: &'static str) -> Result<Array<&'a MapData, V>> {
    Array::try_from(map).map_err(opening(name))
}

pub(super) fn hash<'a, K: Pod, V: Pod>(
    map: &'a Map,
    name: &'static str,
) -> Result<HashMap<&'a MapData, K, V>> {
    HashMap::try_from(map).map_err(opening(name))
}

fn set<V: Pod>(map: &Mutex<Map>, name: &'static str, value: &V) -> Result<()> {
    let mut map = lock(map);
    let mut array: Array<&mut MapData, V> = Array::try_from(&mut *map).map_err(opening(name))?;
    array.set(0, value, 0).map_err(writing(name))
}

pub(super) fn insert<K: Pod, V: Pod>(
    map: &Mutex<Map>,
    name: &'static str,
    key: &K,
    value: &V,
) -> Result<()> {
    let mut map = lock(map);
    let mut hash: HashMap<&mut MapData, K, V> =
        HashMap::try_from(&mut *map).map_err(opening(name))?;
    hash.insert(key, value, 0).map_err(writing(name))
}

/// Deletes an element; one that is not there is as good as deleted.
pub(super) fn delete<K: Pod, V: Pod>(map: &Mutex<Map>, name: &'static str, key: &K) -> Result<()> {
    let mut map = lock(map);
    let removed =
        HashMap::<&mut MapData, K, V>::try_from(&mut *map).and_then(|mut map| map.remove(key));
    match removed {
        Err(error) if !is_missing(&error) => Err(writing(name)(error)),
        _ => Ok(()),
    }
}

/// Whether an element that was to be deleted was not there.
pub(super) fn is_missing(error: &MapError) -> bool {
    let of_call = |error: &SyscallError| error.io_error.raw_os_error() == Some(libc::ENOENT);
    matches!(error, MapError::KeyNotFound)
        || matches!(error, MapError::SyscallError(error) if of_call(error))
}

/// The data behind a map of one of the kinds that the tracker has.
pub(super) fn data<'a>(map: &'a Map, name: &'static str) -> Result<&'a MapData> {
    if let Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data) = map
    {
        return Ok(data);
    }
    Err(opening(name)(MapError::InvalidMapType { map_type: 0 }))
}

/// Its descriptor.
pub(super) fn descriptor<'a>(map: &'a Map, name: &'static str) -> Result<BorrowedFd<'a>> {
    Ok(data(map, name)?.fd().as_fd())
}

fn ring(map: &Map, name: &'static str) -> Result<EventRing> {
    let fd = descriptor(map, name)?
        .try_clone_to_owned()
        .map_err(|error| opening(name)(error.into()))?;
    let ring = MapData::from_fd(fd)
        .and_then(Map::from_map_data)
        .and_then(RingBuf::try_from)
        .map_err(opening(name))?;
    Ok(EventRing::new(ring))
}

fn sum(per_cpu: &PerCpuValues<ReasonCount>) -> ReasonCount {
    per_cpu
        .iter()
        .fold(ReasonCount::default(), |sum, count| ReasonCount {
            packets: sum.packets.saturating_add(count.packets),
            bytes: sum.bytes.saturating_add(count.bytes),
        })
}
