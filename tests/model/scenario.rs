//! What is explored: who may do what, and how often.

use std::time::Duration;

use tracker_common::tcp::timeout::{Class, Profile};

use super::{endpoint::Manner, search::Limits, world::Budget};

/// Where the tracker stands.
///
/// Each direction of the channel has two halves, before and behind the tracker,
/// so a segment may be lost, duplicated and overtaken on either side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the halves. It contains all runs of the other places, at a higher
    /// price.
    Middle,
    /// At the end with this index: what that end sends has passed the tracker
    /// before anything else happens, and what passes towards it arrives at once.
    At(usize),
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub place: Place,
    pub manners: [Manner; 2],
    pub budget: Budget,
    /// Whether an end gives up once it has no retransmission left.
    pub gives_up: bool,
    /// Whose user may CLOSE.
    pub closes: [bool; 2],
    /// Whether the tracker picks up connections in mid-life.
    pub pickup: bool,
    /// What 2MSL are on the tracker's clock.
    pub msl2_ticks: u32,
    /// Steps of the longest run, at most.
    pub depth: u32,
    /// Whether the tracker drops what it refuses.
    pub enforces: bool,
    /// Whether every point with an empty channel is run to its end by `fair`.
    pub fair: bool,
}

/// Just below the wrap of the circle, so that every connection crosses it.
const ISS_0: u32 = 0xffff_fffd;
/// Just below its middle, where signed comparisons turn over.
const ISS_1: u32 = 0x7fff_fffe;

const fn manner(iss: u32) -> Manner {
    Manner {
        iss,
        buffer: 3,
        slow_reader: false,
        delayed_ack: false,
        early_fin: false,
        reopens: false,
        reset_acks: false,
    }
}

/// A client that opens, a server that listens, each sends an octet and closes;
/// nothing is lost.
const PLAIN: Scenario = Scenario {
    name: "plain",
    place: Place::Middle,
    manners: [manner(ISS_0), manner(ISS_1)],
    budget: Budget {
        losses: 0,
        duplicates: 0,
        forgeries: 0,
        time_waits: 1,
        retransmissions: [0; 2],
        sends: [1, 1],
        opens_active: [1, 0],
        opens_passive: [0, 1],
        aborts: [0; 2],
    },
    gives_up: false,
    closes: [true; 2],
    pickup: true,
    msl2_ticks: Profile::Linux.ticks()[Class::TimeWait as usize],
    depth: u32::MAX,
    enforces: false,
    fair: true,
};

/// Changes one scenario into another.
fn but(of: Scenario, name: &'static str, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario { name, ..of };
    change(&mut scenario);
    scenario
}

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Within `cargo xtask test`.
    Short,
    /// By `TRACKER_JUDGE=full`.
    Full,
}

impl Size {
    /// Where one search ends.
    pub const fn limits(self) -> Limits {
        match self {
            Self::Short => Limits {
                states: 400_000,
                // A slow machine sees less.
                time: Duration::from_secs(8),
            },
            Self::Full => Limits {
                states: 5_000_000,
                time: Duration::from_secs(300),
            },
        }
    }

    /// All searches of this size.
    pub fn scenarios(self) -> Vec<Scenario> {
        let mut all = honest();
        all.extend(forged());
        if self == Self::Full {
            all.extend(more());
        }
        all
    }
}

/// Nobody forges.
fn honest() -> Vec<Scenario> {
    vec![
        PLAIN,
        but(PLAIN, "early_fin", |s| {
            s.manners
                .iter_mut()
                .for_each(|manner| manner.early_fin = true);
        }),
        but(PLAIN, "loss", |s| {
            s.budget.losses = 1;
            s.budget.retransmissions = [1; 2];
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "loss_at_client", |s| {
            s.place = Place::At(0);
            s.budget.losses = 2;
            s.budget.retransmissions = [2; 2];
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "loss_at_server", |s| {
            s.place = Place::At(1);
            s.budget.losses = 2;
            s.budget.retransmissions = [2; 2];
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "duplicate", |s| {
            s.budget.duplicates = 1;
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "abort", |s| {
            s.budget.aborts = [1; 2];
            s.budget.losses = 1;
            s.budget.sends = [1, 0];
            s.budget.retransmissions = [1, 0];
        }),
        but(PLAIN, "abort_with_ack", |s| {
            s.place = Place::At(0);
            s.manners
                .iter_mut()
                .for_each(|manner| manner.reset_acks = true);
            s.budget.aborts = [1; 2];
            s.budget.losses = 1;
            s.budget.sends = [1, 0];
            s.budget.retransmissions = [1, 1];
        }),
        but(PLAIN, "simultaneous_open", |s| {
            s.budget.opens_active = [1; 2];
            s.budget.opens_passive = [0; 2];
            s.budget.sends = [0, 0];
        }),
        but(PLAIN, "simultaneous_open_with_loss", |s| {
            s.budget.opens_active = [1; 2];
            s.budget.opens_passive = [0; 2];
            s.budget.sends = [0, 0];
            s.budget.losses = 1;
            s.budget.retransmissions = [1; 2];
            s.budget.aborts = [1, 0];
        }),
        but(PLAIN, "give_up", |s| {
            s.gives_up = true;
            s.budget.losses = 2;
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "reopen", |s| {
            s.manners
                .iter_mut()
                .for_each(|manner| manner.reopens = true);
            s.budget.opens_active = [1, 1];
            s.budget.opens_passive = [1, 1];
            s.budget.sends = [0, 0];
            s.place = Place::At(0);
        }),
        but(PLAIN, "begin_again", |s| {
            s.budget.opens_active = [2, 0];
            s.budget.opens_passive = [0, 2];
            s.budget.aborts = [1, 1];
            s.budget.losses = 1;
            s.budget.sends = [0, 0];
            s.budget.retransmissions = [1, 0];
            s.place = Place::At(1);
        }),
        but(PLAIN, "narrow", |s| {
            s.manners.iter_mut().for_each(|manner| {
                manner.buffer = 1;
                manner.slow_reader = true;
            });
            s.budget.sends = [3, 0];
            s.budget.retransmissions = [1, 0];
            s.place = Place::At(0);
        }),
        but(PLAIN, "narrow_both_ways", |s| {
            s.manners.iter_mut().for_each(|manner| {
                manner.buffer = 2;
                manner.slow_reader = true;
            });
            s.budget.sends = [2, 1];
            s.closes = [false; 2];
            s.place = Place::At(0);
        }),
        but(PLAIN, "delayed_ack", |s| {
            s.manners
                .iter_mut()
                .for_each(|manner| manner.delayed_ack = true);
            s.budget.losses = 1;
            s.budget.retransmissions = [1, 0];
            s.place = Place::At(0);
        }),
    ]
}

/// Somebody forges a segment.
fn forged() -> Vec<Scenario> {
    let forges = but(PLAIN, "forge", |s| {
        s.budget.forgeries = 1;
        s.pickup = false;
        s.fair = false;
    });
    vec![
        but(forges, "forge_at_server", |s| {
            s.budget.sends = [1, 0];
            s.place = Place::At(1);
        }),
        but(forges, "forge_at_client", |s| {
            s.budget.sends = [0, 1];
            s.place = Place::At(0);
        }),
        but(forges, "forge_in_the_middle", |s| {
            s.budget.sends = [0, 0];
            s.closes = [true, false];
        }),
        but(forges, "forge_with_pickup", |s| {
            s.pickup = true;
            s.budget.sends = [1, 0];
            s.place = Place::At(1);
        }),
        but(forges, "forge_enforcing", |s| {
            s.enforces = true;
            s.fair = true;
            s.pickup = true;
            s.budget.sends = [1, 0];
            s.closes = [true, false];
        }),
        but(forges, "forge_narrow", |s| {
            s.manners.iter_mut().for_each(|manner| manner.buffer = 1);
            s.budget.sends = [2, 0];
            s.place = Place::At(1);
        }),
        but(forges, "forge_and_lose", |s| {
            s.budget.sends = [0, 0];
            s.budget.losses = 1;
            s.budget.retransmissions = [1, 0];
            s.place = Place::At(1);
        }),
    ]
}

/// What only the full size has time for.
fn more() -> Vec<Scenario> {
    let forges = but(PLAIN, "forge", |s| {
        s.budget.forgeries = 1;
        s.enforces = true;
    });
    vec![
        but(PLAIN, "loss_twice", |s| {
            s.budget.losses = 2;
            s.budget.retransmissions = [2; 2];
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "loss_and_duplicate", |s| {
            s.budget.losses = 1;
            s.budget.duplicates = 1;
            s.budget.retransmissions = [1; 2];
            s.budget.sends = [1, 0];
        }),
        but(PLAIN, "duplicate_twice", |s| {
            s.budget.duplicates = 2;
        }),
        but(PLAIN, "abort_twice", |s| {
            s.budget.aborts = [1; 2];
            s.budget.opens_active = [2, 0];
            s.budget.opens_passive = [0, 2];
            s.budget.losses = 1;
            s.budget.sends = [1, 0];
            s.budget.retransmissions = [1, 1];
        }),
        but(PLAIN, "begin_again_in_the_middle", |s| {
            s.budget.opens_active = [2, 0];
            s.budget.opens_passive = [0, 2];
            s.budget.aborts = [1, 1];
            s.budget.losses = 1;
            s.budget.sends = [0, 0];
        }),
        but(PLAIN, "begin_again_enforcing", |s| {
            s.enforces = true;
            s.budget.opens_active = [2, 0];
            s.budget.opens_passive = [0, 2];
            s.budget.aborts = [1, 1];
            s.budget.losses = 1;
            s.budget.sends = [0, 0];
            s.budget.retransmissions = [1, 0];
            s.place = Place::At(1);
        }),
        but(PLAIN, "narrow_in_the_middle", |s| {
            s.manners.iter_mut().for_each(|manner| {
                manner.buffer = 2;
                manner.slow_reader = true;
            });
            s.budget.sends = [3, 1];
            s.budget.losses = 1;
            s.budget.retransmissions = [1, 1];
        }),
        but(forges, "forge_at_server_both_ways", |s| {
            s.place = Place::At(1);
        }),
        but(forges, "forge_at_client_both_ways", |s| {
            s.place = Place::At(0);
        }),
        but(forges, "forge_in_the_middle_both_ways", |s| {
            s.pickup = false;
        }),
        but(forges, "forge_twice", |s| {
            s.budget.forgeries = 2;
            s.budget.sends = [0, 0];
            s.closes = [true, false];
            s.place = Place::At(1);
            s.pickup = false;
        }),
        but(forges, "forge_with_abort", |s| {
            s.budget.sends = [1, 0];
            s.budget.aborts = [1, 1];
            s.place = Place::At(1);
            s.pickup = false;
        }),
    ]
}
