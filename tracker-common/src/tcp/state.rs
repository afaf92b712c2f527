//! The states of one endpoint and the table of its moves.
//!
//! The tracker stands between the endpoints and sees segments, not sockets. It
//! gives an endpoint the state that is *proved*:
//!
//! * What an endpoint sends proves what it has become ([`on_sending`]). A move
//!   that RFC 9293 makes on arrival counts when the receiver's own next segment
//!   proves it: SYN_SENT → ESTABLISHED by its ACK, ESTABLISHED → CLOSE_WAIT and
//!   FIN_WAIT_2 → TIME_WAIT by an ACK that covers the FIN. A segment that the
//!   tracker saw may be lost behind it; an answer may not precede its cause.
//! * Moves that RFC 9293 makes silently have no answer to wait for, so they
//!   count on sight ([`on_arrival`]): SYN_RECEIVED → ESTABLISHED, FIN_WAIT_1 →
//!   FIN_WAIT_2, CLOSING → TIME_WAIT, LAST_ACK → CLOSED. If the segment was lost
//!   behind the tracker, the endpoint sends its own segment again, which
//!   disproves the move and takes it back: cells marked `back`.
//!
//! Whether a segment acknowledges the peer's SYN or FIN is decided by sequence
//! numbers before the table is asked; flags alone move nothing.

/// State of one endpoint (RFC 9293 section 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// No connection.
    Closed = 0,
    /// A responder of which nothing was seen yet.
    Listen = 1,
    /// Sent a SYN.
    SynSent = 2,
    /// Sent a SYN and acknowledged one.
    SynReceived = 3,
    /// Open.
    Established = 4,
    /// Sent a FIN.
    FinWait1 = 5,
    /// Its FIN was acknowledged.
    FinWait2 = 6,
    /// Acknowledged its peer's FIN.
    CloseWait = 7,
    /// Sent a FIN, then acknowledged its peer's, its own not acknowledged.
    Closing = 8,
    /// Acknowledged its peer's FIN, then sent one.
    LastAck = 9,
    /// Both FINs acknowledged; waits 2MSL.
    TimeWait = 10,
}

impl State {
    /// Number of states.
    pub const COUNT: usize = 11;

    /// Every state, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Closed,
        Self::Listen,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
    ];

    /// The state in the low four bits of `bits`; a number that is none reads as
    /// CLOSED.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        let index = (bits & 0x0f) as usize;
        if index < Self::COUNT {
            Self::ALL[index]
        } else {
            Self::Closed
        }
    }

    /// The RFC's name with underscores, as in JSON.
    #[must_use]
    pub const fn rfc_name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
        }
    }

    /// netstat's name, as in the table.
    #[must_use]
    pub const fn netstat_name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSE",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
        }
    }

    /// Whether the handshake is not over for this endpoint.
    #[must_use]
    pub const fn is_opening(self) -> bool {
        Bits(self as u8).is_opening()
    }
}

/// A state as it lies in a flow: its number, below 16.
///
/// The packet path works on this instead of [`State`]. To the compiler an enum
/// is in range by definition, so it drops the masks from which the verifier
/// would learn the range; and a match becomes a branch for every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bits(u8);

impl Bits {
    const OPENING: u16 = Self::set(&[State::Listen, State::SynSent, State::SynReceived]);

    /// The low four of `bits`.
    #[inline(always)]
    #[must_use]
    pub const fn of(bits: u8) -> Self {
        Self(bits & 0x0f)
    }

    /// The same, of which the verifier has forgotten what it was compared with;
    /// `veil` is [`super::Context::veil`].
    #[inline(always)]
    #[must_use]
    pub(super) const fn veiled(self, veil: u8) -> Self {
        Self::of(self.0.wrapping_add(veil))
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> State {
        State::from_bits(self.0)
    }

    /// Whether this is `state`.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, state: State) -> bool {
        self.0 == state as u8
    }

    /// A set of states, for [`Bits::among`].
    #[must_use]
    pub const fn set(states: &[State]) -> u16 {
        let mut set = 0;
        let mut index = 0;
        while index < states.len() {
            set |= 1 << states[index] as u16;
            index += 1;
        }
        set
    }

    /// Whether this is one of `set`.
    #[inline(always)]
    #[must_use]
    pub const fn among(self, set: u16) -> bool {
        (set >> self.0) & 1 != 0
    }

    /// Whether the handshake is not over for this endpoint.
    #[inline(always)]
    #[must_use]
    pub const fn is_opening(self) -> bool {
        self.among(Self::OPENING)
    }
}

/// What a segment says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sent {
    /// SYN without ACK.
    Syn = 0,
    /// SYN that acknowledges the peer's SYN.
    SynAck = 1,
    /// Neither SYN nor FIN; does not acknowledge a FIN.
    Ack = 2,
    /// Neither SYN nor FIN; acknowledges the peer's FIN.
    AckOfFin = 3,
    /// FIN; does not acknowledge a FIN.
    Fin = 4,
    /// FIN; acknowledges the peer's FIN.
    FinAckOfFin = 5,
    /// RST.
    Reset = 6,
}

impl Sent {
    /// Number of columns.
    pub const COUNT: usize = 7;

    /// Every column, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Syn,
        Self::SynAck,
        Self::Ack,
        Self::AckOfFin,
        Self::Fin,
        Self::FinAckOfFin,
        Self::Reset,
    ];
}

/// What a segment says to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Received {
    /// Acknowledges its SYN, not its FIN.
    AckOfSyn = 0,
    /// Acknowledges its FIN.
    AckOfFin = 1,
    /// RST.
    Reset = 2,
}

impl Received {
    /// Number of columns.
    pub const COUNT: usize = 3;

    /// Every column, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [Self::AckOfSyn, Self::AckOfFin, Self::Reset];
}

/// A cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The endpoint is, or becomes, this.
    To(State),
    /// The endpoint was not where it was thought to be: a state taken on sight
    /// is taken back.
    Back(State),
    /// An endpoint in this state does not send this: the segment is an old
    /// duplicate or somebody else's, and moves nothing.
    Odd,
}

use Move::{Back, Odd, To};
use State::{
    CloseWait as CW, Closed as CL, Closing as CG, Established as ES, FinWait1 as F1,
    FinWait2 as F2, LastAck as LA, Listen as LI, SynReceived as SR, SynSent as SS, TimeWait as TW,
};

/// Moves of a sender: `SENDING[state][what it sent]`. Sections are RFC 9293's.
#[rustfmt::skip]
const SENDING: [[Move; Sent::COUNT]; State::COUNT] = [
    //          SYN      SYN-ACK  ACK      ACK(FIN) FIN      FIN,ACK(FIN) RST
    /* CL */ [  Odd,     Odd,     Odd,     Odd,     Odd,     Back(LA),    To(CL) ],
    // SYN            opens a new connection: the caller replaces the flow before it asks (3.10.7.1)
    // SYN-ACK … FIN  a socket that is gone sends nothing: duplicates
    // FIN,ACK(FIN)   the ACK that closed LAST_ACK on sight was lost: it waits for it still (3.10.7.4, eighth)
    // RST            answers whatever comes late (3.10.7.1)
    /* LI */ [  To(SS),  To(SR),  Odd,     Odd,     Odd,     Odd,         To(CL) ],
    // SYN            simultaneous open: it had sent its own SYN before it saw the peer's (3.5, figure 7)
    // SYN-ACK        passive open, or a simultaneous one whose first SYN was lost before us (3.10.7.2)
    // ACK … FIN      before its SYN it has nothing to say
    // RST            refuses (3.10.7.1)
    /* SS */ [  To(SS),  To(SR),  To(ES),  To(CW),  To(F1),  To(LA),      To(CL) ],
    // SYN            sends it again (3.8.1)
    // SYN-ACK        simultaneous open (3.10.7.3: "enter SYN-RECEIVED, form a SYN,ACK segment")
    // ACK            saw the SYN-ACK (3.10.7.3: "change the connection state to ESTABLISHED")
    // ACK(FIN)       and the FIN that followed it
    // FIN            saw the SYN-ACK and closed, its pure ACK lost before us (3.10.4)
    // FIN,ACK(FIN)   all of that
    // RST            gave up, or knows nothing of the SYN-ACK's connection (3.10.7.3)
    /* SR */ [  Odd,     To(SR),  To(SR),  To(CW),  To(F1),  To(LA),      To(CL) ],
    // SYN            of before, in a simultaneous open: overtaken
    // SYN-ACK        sends it again
    // ACK            a challenge ACK, or Fast Open data: the peer's ACK decides, see ARRIVING
    // ACK(FIN)       it can only have taken the FIN in ESTABLISHED (3.10.7.4, eighth)
    // FIN            closed before the handshake was over (3.10.4: "SYN-RECEIVED … enter FIN-WAIT-1")
    // FIN,ACK(FIN)   the same after the peer's FIN
    // RST            gave up, or was reset itself
    /* ES */ [  Odd,     Back(SR),To(ES),  To(CW),  To(F1),  To(LA),      To(CL) ],
    // SYN            a new incarnation or a spoof: the receiver answers with a challenge ACK (3.10.7.4, fourth)
    // SYN-ACK        the ACK that opened it on sight was lost: it is in SYN_RECEIVED still
    // ACK            data and acknowledgements
    // ACK(FIN)       has taken the peer's FIN (3.10.7.4, eighth)
    // FIN            closes (3.10.4)
    // FIN,ACK(FIN)   took the peer's FIN and closes, in one segment
    // RST            aborts (3.10.5)
    /* F1 */ [  Odd,     Odd,     To(F1),  To(CG),  To(F1),  To(CG),      To(CL) ],
    // ACK            what was sent before the FIN, sent again
    // ACK(FIN)       took the peer's FIN while its own was on the way (3.10.7.4, eighth: "enter CLOSING")
    // FIN            sends it again (3.8.1)
    // FIN,ACK(FIN)   sends it again, and took the peer's
    /* F2 */ [  Odd,     Odd,     To(F2),  To(TW),  Back(F1),Back(CG),    To(CL) ],
    // ACK(FIN)       took the peer's FIN (3.10.7.4, eighth: "enter the TIME-WAIT state")
    // FIN            the ACK of its FIN, counted on sight, was lost
    // FIN,ACK(FIN)   the same, and the peer's FIN arrived
    /* CW */ [  Odd,     Odd,     To(CW),  To(CW),  To(CG),  To(LA),      To(CL) ],
    // ACK            sent before the ACK of the FIN and overtaken by it
    // FIN            likewise: it closed before it took the peer's FIN, in FIN_WAIT_1
    // FIN,ACK(FIN)   closes (3.10.4)
    /* CG */ [  Odd,     Odd,     To(CG),  To(CG),  To(CG),  To(CG),      To(CL) ],
    // all            its FIN is not acknowledged: it repeats itself
    /* LA */ [  Odd,     Odd,     To(LA),  To(LA),  To(LA),  To(LA),      To(CL) ],
    // all            the same
    /* TW */ [  Odd,     Odd,     To(TW),  To(TW),  To(TW),  Back(CG),    To(CL) ],
    // SYN            a new connection, when RFC 6191 allows it: the caller replaces the flow before it asks
    // ACK(FIN)       acknowledges the peer's FIN again (3.10.7.4, eighth)
    // FIN            does not acknowledge the peer's FIN: older than this state, a duplicate
    // FIN,ACK(FIN)   the ACK of its FIN, counted on sight, was lost: it is in CLOSING
    // RST            what arrives late there finds a socket that is gone
];

/// Moves of a receiver: `ARRIVING[state][what arrived]`.
#[rustfmt::skip]
const ARRIVING: [[Move; Received::COUNT]; State::COUNT] = [
    //          ACK(SYN) ACK(FIN) RST
    /* CL */ [  To(CL),  To(CL),  To(CL) ],
    /* LI */ [  To(LI),  To(LI),  To(CL) ],
    // it sent nothing that could be acknowledged
    /* SS */ [  To(SS),  To(SS),  To(CL) ],
    // ACK(SYN)       its own ACK will prove that it took it
    // RST            acknowledges the SYN, or the caller refuses it (3.10.7.3)
    /* SR */ [  To(ES),  To(ES),  To(CL) ],
    // ACK(SYN)       silent (3.10.7.4, fifth: "enter ESTABLISHED state")
    // RST            back to LISTEN or CLOSED (3.10.7.4, second): this flow is over either way
    /* ES */ [  To(ES),  To(ES),  To(CL) ],
    /* F1 */ [  To(F1),  To(F2),  To(CL) ],
    // ACK(FIN)       silent (3.10.7.4, fifth: "enter FIN-WAIT-2")
    /* F2 */ [  To(F2),  To(F2),  To(CL) ],
    /* CW */ [  To(CW),  To(CW),  To(CL) ],
    /* CG */ [  To(CG),  To(TW),  To(CL) ],
    // ACK(FIN)       silent (3.10.7.4, fifth: "enter the TIME-WAIT state")
    /* LA */ [  To(LA),  To(CL),  To(CL) ],
    // ACK(FIN)       silent (3.10.7.4, fifth: "delete the TCB, enter the CLOSED state")
    /* TW */ [  To(TW),  To(TW),  To(CL) ],
];

/// A [`Move`] in one byte: the state in the low half, and what kind it is.
///
/// The tables are asked under the flow's lock, where everything is inlined and
/// each branch multiplies what the verifier must follow. A byte that is loaded
/// and masked is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(u8);

impl Cell {
    const BACK: u8 = 0x10;
    const ODD: u8 = 0x20;

    const fn of(cell: Move, stay: State) -> Self {
        match cell {
            To(state) => Self(state as u8),
            Back(state) => Self(state as u8 | Self::BACK),
            Odd => Self(stay as u8 | Self::ODD),
        }
    }

    /// The state that the endpoint has then; its own when the segment is odd.
    #[inline(always)]
    #[must_use]
    pub const fn next(self) -> Bits {
        Bits::of(self.0)
    }

    /// Whether a state taken on sight is taken back.
    #[inline(always)]
    #[must_use]
    pub const fn is_back(self) -> bool {
        self.0 & Self::BACK != 0
    }

    /// Whether the segment is odd.
    #[inline(always)]
    #[must_use]
    pub const fn is_odd(self) -> bool {
        self.0 & Self::ODD != 0
    }
}

/// 1 if an endpoint in `mine` that sends `sent` shows that it knows its FIN to be
/// taken, because its peer is in `theirs`; else 0. One is what FIN_WAIT_2 has more
/// than FIN_WAIT_1. By tables, since comparisons are ways for the verifier.
#[inline(always)]
#[must_use]
pub(super) const fn knows_its_fin_taken(mine: Bits, theirs: Bits, sent: u8) -> u8 {
    const WAITS: [u8; 16] = {
        let mut waits = [0; 16];
        waits[State::FinWait1 as usize] = 1;
        waits
    };
    const TELLS: [[u8; 8]; 16] = {
        let mut tells = [[0; 8]; 16];
        tells[State::LastAck as usize][Sent::AckOfFin as usize] = 1;
        tells
    };
    WAITS[(mine.number() & 0x0f) as usize]
        & TELLS[(theirs.number() & 0x0f) as usize][(sent & 0x07) as usize]
}

const _: () = assert!(State::FinWait2 as u8 == State::FinWait1 as u8 + 1);

/// [`SENDING`] with power-of-two sides, so that masks replace bounds checks.
const SENDING_CELLS: [[Cell; 8]; 16] = {
    let mut cells = [[Cell(0); 8]; 16];
    let mut state = 0;
    while state < State::COUNT {
        let mut sent = 0;
        while sent < Sent::COUNT {
            cells[state][sent] = Cell::of(SENDING[state][sent], State::ALL[state]);
            sent += 1;
        }
        state += 1;
    }
    cells
};

/// [`ARRIVING`] likewise.
const ARRIVING_CELLS: [[Cell; 4]; 16] = {
    let mut cells = [[Cell(0); 4]; 16];
    let mut state = 0;
    while state < State::COUNT {
        let mut received = 0;
        while received < Received::COUNT {
            cells[state][received] = Cell::of(ARRIVING[state][received], State::ALL[state]);
            received += 1;
        }
        state += 1;
    }
    cells
};

/// The cell for an endpoint in `state` that sends `sent` ([`Sent`] as a number).
#[inline(always)]
#[must_use]
pub const fn sending(state: Bits, sent: u8) -> Cell {
    SENDING_CELLS[(state.0 & 0x0f) as usize][(sent & 0x07) as usize]
}

/// The cell for an endpoint in `state` to which `received` arrives
/// ([`Received`] as a number).
#[inline(always)]
#[must_use]
pub const fn arriving(state: Bits, received: u8) -> Cell {
    ARRIVING_CELLS[(state.0 & 0x0f) as usize][(received & 0x03) as usize]
}

/// What an endpoint in `state` becomes by sending `sent`.
#[inline(always)]
#[must_use]
pub const fn on_sending(state: State, sent: Sent) -> Move {
    SENDING[state as usize][sent as usize]
}

/// What an endpoint in `state` becomes when `received` arrives.
#[inline(always)]
#[must_use]
pub const fn on_arrival(state: State, received: Received) -> Move {
    ARRIVING[state as usize][received as usize]
}

const _: () = assert!(LI as usize == 1 && SS as usize == 2 && TW as usize == State::COUNT - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_through_bits() {
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
            assert_eq!(State::from_bits(state as u8 | 0xf0), state);
        }
        assert_eq!(State::from_bits(11), State::Closed);
        assert_eq!(State::from_bits(15), State::Closed);
    }

    #[test]
    fn cells_say_what_moves_say() {
        for state in State::ALL {
            for sent in Sent::ALL {
                let cell = sending(Bits::of(state as u8), sent as u8);
                let said = match on_sending(state, sent) {
                    To(next) => (next, false, false),
                    Back(next) => (next, true, false),
                    Odd => (state, false, true),
                };
                assert_eq!((cell.next().state(), cell.is_back(), cell.is_odd()), said);
            }
            for received in Received::ALL {
                let To(next) = on_arrival(state, received) else {
                    panic!("{state:?}")
                };
                let cell = arriving(Bits::of(state as u8), received as u8);
                assert_eq!(cell.next().state(), next);
            }
        }
    }

    #[test]
    fn a_reset_closes_whatever_sends_or_takes_it() {
        for state in State::ALL {
            assert_eq!(on_sending(state, Sent::Reset), To(CL));
            assert_eq!(on_arrival(state, Received::Reset), To(CL));
        }
    }

    /// RFC 9293 figure 5: the arcs that exist. Every `To` that changes a state
    /// is one of them, or two of them in one segment.
    #[test]
    fn every_move_is_an_arc_of_the_state_diagram() {
        let arcs = [
            (LI, SS),
            (LI, SR),
            (SS, SR),
            (SS, ES),
            (SR, ES),
            (SR, F1),
            (ES, F1),
            (ES, CW),
            (F1, F2),
            (F1, CG),
            (F2, TW),
            (CG, TW),
            (CW, LA),
            (LA, CL),
            // No arc: its FIN was overtaken by its ACK of the peer's, so it was
            // in FIN_WAIT_1 all the time.
            (CW, CG),
        ];
        let reach = |from: State, to: State| {
            arcs.contains(&(from, to))
                || arcs.iter().any(|&(a, b)| {
                    a == from
                        && (arcs.contains(&(b, to))
                            || arcs.iter().any(|&(c, d)| c == b && arcs.contains(&(d, to))))
                })
        };
        for state in State::ALL {
            for sent in Sent::ALL {
                if let To(next) = on_sending(state, sent) {
                    let reset = sent == Sent::Reset;
                    assert!(
                        next == state || reset || reach(state, next),
                        "{state:?} {sent:?}"
                    );
                }
            }
            for received in Received::ALL {
                if let To(next) = on_arrival(state, received) {
                    let reset = received == Received::Reset;
                    assert!(next == state || reset || arcs.contains(&(state, next)));
                }
            }
        }
    }

    /// `Back` undoes exactly the moves that count on sight.
    #[test]
    fn only_moves_made_on_sight_are_taken_back() {
        for state in State::ALL {
            for sent in Sent::ALL {
                if let Back(previous) = on_sending(state, sent) {
                    let on_sight = Received::ALL
                        .into_iter()
                        .any(|received| on_arrival(previous, received) == To(state))
                        // FIN_WAIT_2 taken on sight, and the peer's FIN since.
                        || (previous == CG && state == F2);
                    assert!(on_sight, "{state:?} {sent:?}");
                }
            }
        }
    }
}
