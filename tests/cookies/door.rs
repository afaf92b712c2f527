//! A listener without a socket, and who knocks there.
//!
//! The listener is put into the map of those that were learnt, where the kernel's
//! cookies need no socket.

use anyhow::{Context as _, Result};
use tracker_common::{
    abi::{
        Listener, Live, Mode, Place,
        defence_flags::{ANSWER, CHECK, ECN, OPTIONS},
    },
    reason::Reason,
    tcp::{Flags, Options},
    time::Tick,
};
use tracker_tests::program::{
    bench::{Bench, Origin, live},
    frame::{Frame, Wrapping},
    talk::{A, Talk},
};

use crate::reply::{self, Reply};

/// What the listener announces. Nothing of it is what a client of [`Offer`] does.
pub const WINDOW: u16 = 65_160;
pub const MSS: u16 = 1412;
pub const SCALE: u8 = 9;

/// What a client offers in its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub mss: bool,
    pub sack: bool,
    pub stamps: bool,
    pub scale: bool,
}

impl Offer {
    pub const MSS: u16 = 1400;
    pub const SCALE: u8 = 5;
    pub const STAMP: u32 = 0x8899_aabb;
    pub const ALL: Self = Self {
        mss: true,
        sack: true,
        stamps: true,
        scale: true,
    };

    /// Every subset.
    pub fn every() -> impl Iterator<Item = Self> {
        (0..16).map(|bits| Self {
            mss: bits & 1 != 0,
            sack: bits & 2 != 0,
            stamps: bits & 4 != 0,
            scale: bits & 8 != 0,
        })
    }

    /// As Linux lays them out (net/ipv4/tcp_output.c, `tcp_options_write`).
    pub fn octets(self) -> Vec<u8> {
        let mut octets = vec![];
        if self.mss {
            octets.extend([2, 4]);
            octets.extend(Self::MSS.to_be_bytes());
        }
        match (self.sack, self.stamps) {
            (true, true) => octets.extend([4, 2]),
            (true, false) => octets.extend([1, 1, 4, 2]),
            (false, true) => octets.extend([1, 1]),
            (false, false) => {}
        }
        if self.stamps {
            octets.extend([8, 10]);
            octets.extend(Self::STAMP.to_be_bytes());
            octets.extend([0; 4]);
        }
        if self.scale {
            octets.extend([1, 3, 3, Self::SCALE]);
        }
        octets
    }

    /// What of it the answer takes up: the first word goes to the MSS, and what
    /// does not fit into the SYN's length is left out.
    pub const fn kept(self) -> Self {
        let room = self.room();
        let stamps = self.stamps && room >= 16;
        Self {
            mss: room >= 4,
            sack: self.sack && stamps,
            stamps,
            scale: self.scale && stamps && room >= 20,
        }
    }

    /// Octets of its options.
    pub const fn room(self) -> usize {
        let mut room = 0;
        if self.mss {
            room += 4;
        }
        if self.stamps {
            room += 12;
        } else if self.sack {
            room += 4;
        }
        if self.scale {
            room += 4;
        }
        room
    }
}

/// Enforcing, cookies on, nothing older than the tracker.
pub fn answering() -> Live {
    Live {
        mode: Mode::Enforce as u8,
        defence: ANSWER | CHECK | OPTIONS | ECN,
        offers: Options::MSS | Options::SCALE | Options::SACK_PERMITTED | Options::TIMESTAMPS,
        pickup: 0,
        ..live()
    }
}

/// The programs, and the listener.
pub struct Door {
    pub bench: Bench,
}

impl Door {
    pub fn new() -> Self {
        let bench = Bench::new().unwrap();
        bench.loaded.set_live(&answering()).unwrap();
        Self { bench }
    }

    /// A listener as it is just after its own SYN-ACK was seen.
    pub fn listener(&self) -> Listener {
        let now = Tick::from_ns(self.bench.now_ns());
        Listener {
            seen: now,
            asked: now,
            stamped: now,
            window: WINDOW,
            mss: MSS,
            scale: SCALE,
            options: Options::MSS | Options::SCALE,
            ..Listener::default()
        }
    }

    /// The listener of a talk's `B`.
    pub fn place(talk: &Talk) -> Place {
        talk.ends[1].listener(talk.wrapping)
    }

    /// Has the talk's `B` listen, with counters at 0.
    pub fn learn(&self, talk: &Talk) {
        let tables = &self.bench.loaded;
        tables
            .set_listener(&Self::place(talk), &self.listener())
            .unwrap();
    }

    /// What is known of the talk's listener.
    pub fn known(&self, talk: &Talk) -> Listener {
        let tables = &self.bench.loaded;
        tables.listener(&Self::place(talk)).unwrap().unwrap()
    }

    /// Sends a SYN that must be answered.
    pub fn knock(&mut self, syn: &Frame) -> Result<(Vec<u8>, Reply)> {
        let octets = self
            .bench
            .expect_and_see(Origin::Wire, &syn.summed(), Reason::CookieSent)?;
        let reply = reply::read(&octets).with_context(|| format!("{octets:02x?}"))?;
        Ok((octets, reply))
    }
}

/// The SYN of a talk with these options.
pub fn syn(talk: &Talk, offer: Offer) -> Frame {
    Frame {
        options: offer.octets(),
        ..talk.frame(A.syn())
    }
}

/// The ACK that returns the cookie of `reply`, as the client of `offer` sends it.
pub fn ack(talk: &Talk, reply: &Reply, offer: Offer) -> Frame {
    let options = if offer.kept().stamps {
        let echo = stamp_of(reply).expect("a timestamp").to_be_bytes();
        let value = (Offer::STAMP + 3).to_be_bytes();
        [&[1, 1, 8, 10][..], &value, &echo].concat()
    } else {
        vec![]
    };
    Frame {
        ack: reply.seq.wrapping_add(1),
        window: 500,
        options,
        ..talk.frame(A.ack())
    }
}

/// The timestamp of a reply.
pub fn stamp_of(reply: &Reply) -> Option<u32> {
    reply.options.iter().find_map(|option| {
        if let etherparse::TcpOptionElement::Timestamp(value, _) = option {
            Some(*value)
        } else {
            None
        }
    })
}

/// A talk like no other of a test.
pub fn talk(wrapping: Wrapping, number: u32) -> Talk {
    let isn = 0xffff_ff00_u32.wrapping_add(number.wrapping_mul(0x1234_5677));
    Talk {
        isns: [isn, 0],
        ..Talk::new(wrapping, number)
    }
}

/// The bits of a SYN that offers ECN (RFC 3168 section 6.1.1).
pub const ECN_SETUP: u8 = Flags::SYN | Flags::ECE | Flags::CWR;
