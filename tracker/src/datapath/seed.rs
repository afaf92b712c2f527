//! Makes flows of connections that userspace knows of: a program does, which runs as
//! the reaper does.

use aya::{
    maps::{Array, MapData},
    programs::SchedClassifier,
};
use tracker_common::abi::{ReapControl, SEEDS, Seed};

use super::{
    error::{Error, Result},
    names,
    pinned::Pinned,
    pins,
    reap::run_through,
    sys,
    tables::{Tables, array, descriptor, lock, opening, reading, writing},
};

/// Element of `REAP` by which the seeder is asked.
const CONTROL: u32 = 1;

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Flows made.
    pub made: u64,
    /// Flows that were there already.
    pub there: u64,
    /// Connections that there was no room for.
    pub no_room: u64,
}

impl Planted {
    fn count(&mut self, seed: &Seed) {
        match seed.fate {
            1 => self.made += 1,
            2 => self.there += 1,
            _ => self.no_room += 1,
        }
    }
}

/// Hands `seeds` to `seeder`, a request's worth at a time. The caller sees to it that
/// nobody else makes requests meanwhile.
pub(super) fn plant(tables: &Tables, seeder: &SchedClassifier, seeds: &[Seed]) -> Result<Planted> {
    let mut planted = Planted::default();
    for request in seeds.chunks(SEEDS as usize) {
        tables.set_seeds(request)?;
        run(tables, seeder, request.len() as u64)?;
        for (slot, _) in (0..).zip(request) {
            planted.count(&tables.seed(slot)?);
        }
    }
    Ok(planted)
}

/// Lets the seeder take the `count` seeds written.
fn run(tables: &Tables, seeder: &SchedClassifier, count: u64) -> Result<()> {
    tables.set_seed_control(&ReapControl {
        count,
        ..ReapControl::default()
    })?;
    run_through(seeder, names::SEED, count, || {
        Ok(tables.seed_control()?.next)
    })
}

impl Pinned {
    /// Makes flows of connections that userspace knows of.
    ///
    /// Requests of several processes wait for each other.
    ///
    /// # Errors
    ///
    /// The request cannot be made; some of the flows may be there.
    pub fn plant(&self, seeds: &[Seed]) -> Result<Planted> {
        if seeds.is_empty() {
            return Ok(Planted::default());
        }
        let _turn = pins::lock_reaper(self.dir())?;
        let pin = self.dir().join(names::program_pin(names::SEED));
        let planter = SchedClassifier::from_pin(pin).map_err(|source| Error::Program {
            action: "open",
            program: names::SEED,
            source,
        })?;
        plant(self, &planter, seeds)
    }
}

impl Tables {
    /// Writes the first slots of the request.
    fn set_seeds(&self, seeds: &[Seed]) -> Result<()> {
        let map = descriptor(&self.policy.seeds, names::SEEDS)?;
        let slots: Vec<u32> = (0..).zip(seeds).map(|(slot, _)| slot).collect();
        sys::update_batch(map, &slots, seeds).map_err(|source| Error::Batch {
            action: "write",
            map: names::SEEDS,
            source,
        })
    }

    /// A slot of the request, with what became of it.
    fn seed(&self, slot: u32) -> Result<Seed> {
        array(&self.policy.seeds, names::SEEDS)?
            .get(&slot, 0)
            .map_err(reading(names::SEEDS))
    }

    fn seed_control(&self) -> Result<ReapControl> {
        let map = lock(&self.reap);
        array(&map, names::REAP_CONTROL)?
            .get(&CONTROL, 0)
            .map_err(reading(names::REAP_CONTROL))
    }

    fn set_seed_control(&self, control: &ReapControl) -> Result<()> {
        let mut map = lock(&self.reap);
        let mut array: Array<&mut MapData, ReapControl> =
            Array::try_from(&mut *map).map_err(opening(names::REAP_CONTROL))?;
        array
            .set(CONTROL, control, 0)
            .map_err(writing(names::REAP_CONTROL))
    }
}
