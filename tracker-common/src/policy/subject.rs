//! What is asked of a policy.

use crate::abi::{Family, Hook};

/// Which way a connection goes, from its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// To this host.
    In = 0,
    /// From this host.
    Out = 1,
    /// Through this host.
    Forward = 2,
}

impl Direction {
    /// Every direction.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Forward];

    /// The word that users see and write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "forward",
        }
    }

    /// The direction of a connection, from a packet of it.
    ///
    /// `hook` has seen the packet, which this host itself sends (`ours`), or takes
    /// (`taken`; an end host takes all that comes in). `answers`: its sender is the
    /// responder.
    #[inline(always)]
    #[must_use]
    pub const fn of(hook: Hook, ours: bool, taken: bool, answers: bool) -> Self {
        let inwards = match hook {
            Hook::Ingress if taken => true,
            Hook::Egress if ours => false,
            Hook::Ingress | Hook::Egress => return Self::Forward,
        };
        if inwards == answers {
            Self::Out
        } else {
            Self::In
        }
    }

    /// The direction whose number is `raw`; a number that is none's reads as
    /// [`Direction::Forward`].
    #[inline(always)]
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::In,
            1 => Self::Out,
            _ => Self::Forward,
        }
    }
}

/// A set of [`Direction`]s, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions(pub u8);

impl Directions {
    /// All of them.
    pub const ANY: Self = Self(0b111);

    /// That one alone.
    #[must_use]
    pub const fn only(direction: Direction) -> Self {
        Self(1 << direction as u8)
    }

    /// Whether `direction` is in it.
    #[must_use]
    pub const fn has(self, direction: Direction) -> bool {
        self.0 >> direction as u8 & 1 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a rule does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// It may be.
    Allow = 1,
    /// Its packets are dropped without a word.
    Drop = 2,
    /// They are answered with an RST (RFC 9293 section 3.10.7.1).
    Reset = 3,
    /// They are answered with an ICMP error: communication administratively
    /// prohibited (RFC 1812 section 5.2.7.1; RFC 4443 section 3.1).
    Prohibit = 4,
}

impl Action {
    /// The action whose number is `raw`; a number that is none's drops.
    #[inline(always)]
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Allow,
            3 => Self::Reset,
            4 => Self::Prohibit,
            _ => Self::Drop,
        }
    }
}

/// A connection, as a rule sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Subject {
    /// Initiator's address as it lies in the packet; IPv4 in the first word, the
    /// others 0.
    pub from: [u32; 4],
    /// Responder's address.
    pub to: [u32; 4],
    /// Initiator's port.
    pub from_port: u16,
    /// Responder's port.
    pub to_port: u16,
    /// Interface where the initiator's packets are seen.
    pub ifindex: u32,
    /// [`Family`] as a number.
    pub family: u8,
    /// [`Direction`] as a number.
    pub direction: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

impl Subject {
    /// Address family.
    #[inline(always)]
    #[must_use]
    pub const fn family(&self) -> Family {
        if self.family == Family::V4 as u8 {
            Family::V4
        } else {
            Family::V6
        }
    }
}
