//! Breadth-first search over all that may happen.
//!
//! A world is known by a 64-bit fingerprint of everything its future depends on;
//! among 50 million worlds the chance that any two share one is 1 in 15,000.
//! Only the worlds of one depth are kept; a run is found again by the chain of
//! events that led to it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    time::{Duration, Instant},
};

use foldhash::quality::FixedState;

use super::{
    fair, properties,
    world::{Apart, Event, Notes, Setting, Told, World},
};

/// A fingerprint is as good as a hash.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

/// The shortest run to a finding, and how often its like came up.
pub struct Counterexample {
    pub kind: String,
    pub count: u64,
    pub depth: u32,
    pub trace: Vec<Vec<Told>>,
}

/// What a search came to.
pub struct Found {
    pub states: u64,
    pub transitions: u64,
    /// Steps of the longest run; all worlds of fewer steps are among the states.
    pub depth: u32,
    /// Every world that the settings allow was reached.
    pub exhausted: bool,
    pub counterexamples: Vec<Counterexample>,
    pub apart: BTreeMap<String, u64>,
    pub seconds: f64,
}

/// A world and the number under which its way is kept.
struct Open {
    world: World,
    number: u32,
}

struct Search<'a> {
    setting: Setting<'a>,
    known: HashSet<u64, BuildHasherDefault<Fingerprint>>,
    /// By number: the world before, and what happened then.
    ways: Vec<(u32, Event)>,
    apart: HashMap<Apart, u64>,
    kinds: HashMap<String, (u64, u32, u32, Option<Event>)>,
    found: Found,
    bytes: Vec<u8>,
}

/// Limits that bound time and memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Worlds at most; the search ends with the depth in which it meets them.
    pub states: u64,
    /// Time at most; the search ends in the middle of a depth.
    pub time: Duration,
}

/// Explores what `setting` allows.
pub fn explore(setting: Setting<'_>, limits: Limits) -> Found {
    let began = Instant::now();
    let mut search = Search {
        setting,
        known: HashSet::default(),
        ways: Vec::new(),
        apart: HashMap::new(),
        kinds: HashMap::new(),
        found: Found {
            states: 0,
            transitions: 0,
            depth: 0,
            exhausted: false,
            counterexamples: Vec::new(),
            apart: BTreeMap::new(),
            seconds: 0.0,
        },
        bytes: Vec::new(),
    };
    search.run(limits, began);
    let mut found = search.finish();
    found.seconds = began.elapsed().as_secs_f64();
    found
}

impl Search<'_> {
    fn run(&mut self, limits: Limits, began: Instant) {
        let root = World::new(self.setting.scenario);
        self.ways.push((0, Event::GiveUp { end: 0 }));
        self.is_new(&root);
        let mut open = vec![Open {
            world: root,
            number: 0,
        }];
        let mut notes = Notes::default();
        let mut events = Vec::new();
        while !open.is_empty() && self.found.depth < self.setting.scenario.depth {
            if self.ways.len() as u64 >= limits.states {
                return;
            }
            let mut next = Vec::new();
            for (count, Open { world, number }) in open.drain(..).enumerate() {
                if count % 1024 == 0 && began.elapsed() > limits.time {
                    return;
                }
                world.events(&self.setting, &mut events);
                for &event in &events {
                    self.follow(&world, number, event, &mut notes, &mut next);
                }
            }
            open = next;
            self.found.depth += u32::from(!open.is_empty());
        }
        self.found.exhausted = open.is_empty();
    }

    /// Lets one event happen in `world`.
    fn follow(
        &mut self,
        world: &World,
        number: u32,
        event: Event,
        notes: &mut Notes,
        next: &mut Vec<Open>,
    ) {
        let mut world = *world;
        notes.clear();
        let happens = world.step(event, &self.setting, notes);
        self.found.transitions += u64::from(happens);
        // Behind a finding everything may be wrong.
        let sound = notes.findings.is_empty();
        self.take(notes, number, Some(event));
        if !happens || !sound || !self.is_new(&world) {
            return;
        }
        let here = u32::try_from(self.ways.len()).expect("a number for every world");
        self.ways.push((number, event));
        notes.clear();
        if world.is_quiescent() {
            properties::at_rest(&world, &self.setting, notes);
        }
        if self.setting.scenario.fair && world.is_channel_empty() {
            fair::check(&world, &self.setting, notes);
        }
        let sound = notes.findings.is_empty();
        self.take(notes, here, None);
        if !sound {
            return;
        }
        next.push(Open {
            world,
            number: here,
        });
    }

    /// Writes down what a step, or the point it led to, has shown.
    fn take(&mut self, notes: &mut Notes, number: u32, event: Option<Event>) {
        for class in notes.apart.drain(..) {
            *self.apart.entry(class).or_default() += 1;
        }
        for finding in notes.findings.drain(..) {
            let depth = self.found.depth + 1;
            let entry = self.kinds.entry(finding.kind);
            entry.or_insert((0, depth, number, event)).0 += 1;
        }
    }

    fn is_new(&mut self, world: &World) -> bool {
        self.bytes.clear();
        world.write_to(&mut self.bytes);
        let mut hasher = FixedState::with_seed(0).build_hasher();
        hasher.write(&self.bytes);
        self.known.insert(hasher.finish())
    }

    fn finish(mut self) -> Found {
        self.found.states = self.ways.len() as u64;
        for ((class, reason), count) in self.apart.drain() {
            let name = reason.map_or_else(
                || class.to_owned(),
                |reason| format!("{class}/{}", reason.as_str()),
            );
            self.found.apart.insert(name, count);
        }
        let mut kinds: Vec<_> = self.kinds.drain().collect();
        kinds.sort_by(|(a, (_, first, ..)), (b, (_, second, ..))| (first, a).cmp(&(second, b)));
        for (kind, (count, depth, number, event)) in kinds {
            let trace = self.trace(number, event);
            self.found.counterexamples.push(Counterexample {
                kind,
                count,
                depth,
                trace,
            });
        }
        self.found
    }

    /// Plays the way to a world again, telling each step.
    fn trace(&self, number: u32, last: Option<Event>) -> Vec<Vec<Told>> {
        let mut way = Vec::from_iter(last);
        let mut at = number;
        while at != 0 {
            let (before, event) = self.ways[at as usize];
            way.push(event);
            at = before;
        }
        let mut world = World::new(self.setting.scenario);
        let mut trace = Vec::new();
        for event in way.into_iter().rev() {
            let mut notes = Notes::telling();
            world.step(event, &self.setting, &mut notes);
            let mut told = notes.told.unwrap_or_default();
            told.push(Told::Stands {
                states: world.states(),
                pair: world.tracker.pair(self.setting.live),
            });
            trace.push(told);
        }
        trace
    }
}
