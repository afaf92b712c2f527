//! One TCP endpoint of RFC 9293: its transmission control block, and what it
//! sends. `user` holds the user calls (section 3.10.1 to 3.10.6), `arrival`
//! what arrives (3.10.7) and `timer` the time-outs (3.10.8).
//!
//! Section numbers without an RFC are RFC 9293's; quotes are its words. Where
//! it leaves a choice, the model takes what is said there:
//!
//! * RFC 5961 sections 3, 4 and 5 are in force, as RFC 9293 adopts them.
//! * Segments beyond RCV.NXT are held (SHLD-31).
//! * A SYN of a higher number reopens a connection in TIME-WAIT (MAY-2), where
//!   the scenario says so. The return to TIME-WAIT when that SYN turns out to
//!   be old is left out: the connection goes to LISTEN, as any passive one.
//! * Text in SYN segments, urgent data and options are left out.

mod arrival;
mod timer;
mod user;

use super::segment::{ACK, FIN, Segment, lt};

pub use timer::Again;
pub use user::{Call, Called};

/// A state of figure 5 (section 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl State {
    /// "Synchronized states": those in which both ends' numbers are known
    /// (section 3.5.3, group 3).
    pub const fn is_synchronized(self) -> bool {
        !matches!(
            self,
            Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived
        )
    }

    /// No connection.
    pub const fn is_idle(self) -> bool {
        matches!(self, Self::Closed | Self::Listen)
    }
}

/// What an endpoint is like, whatever happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// ISS of the first connection; each later one begins
    /// [`Manner::STEP`] above (section 3.4.1: the generator only goes up).
    pub iss: u32,
    /// Octets of the receive buffer.
    pub buffer: u8,
    /// The user takes what arrives only by RECEIVE calls; else at once.
    pub slow_reader: bool,
    /// An ACK of text or FIN may wait for a segment that can carry it
    /// (MUST-58: "aggregate ACK segments whenever possible").
    pub delayed_ack: bool,
    /// CLOSE in SYN-RECEIVED sends the FIN at once, as section 3.10.4 has it;
    /// else it waits for ESTABLISHED, as where users get a connection only then.
    pub early_fin: bool,
    /// MAY-2: a SYN may reopen a connection from TIME-WAIT.
    pub reopens: bool,
    /// An RST of ABORT carries an ACK, as those of many implementations do; by
    /// section 3.10.5 it is <SEQ=SND.NXT><CTL=RST>.
    pub reset_acks: bool,
}

impl Manner {
    const STEP: u32 = 0x100;
}

/// The transmission control block (section 3.3.1), and what the user has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The state.
    pub state: State,
    /// "Initiated with a passive OPEN".
    passive: bool,
    /// Connections so far, this one included.
    pub connections: u8,
    /// ISS.
    pub iss: u32,
    /// IRS.
    irs: u32,
    /// SND.UNA.
    pub una: u32,
    /// SND.NXT.
    pub nxt: u32,
    /// SND.WND.
    wnd: u8,
    /// MAX.SND.WND (RFC 5961 section 5.2).
    max_wnd: u8,
    /// SND.WL1.
    wl1: u32,
    /// SND.WL2.
    wl2: u32,
    /// RCV.NXT.
    pub rcv_nxt: u32,
    /// Octets that the user has sent and that are in no segment yet.
    queued: u8,
    /// The user has closed and the FIN is not sent yet.
    pub closing: bool,
    /// The FIN is sent; SND.NXT lies behind it.
    fin_sent: bool,
    /// Octets held beyond RCV.NXT: bit n is RCV.NXT+n.
    early: u8,
    /// A FIN held beyond RCV.NXT: RCV.NXT+n-1; 0 for none.
    early_fin: u8,
    /// Octets in the receive buffer.
    pub unread: u8,
    /// An ACK waits for a segment that can carry it.
    pub owes_ack: bool,
    /// Octets delivered in the life of the endpoint.
    pub delivered: u8,
    /// The peer's FIN came while its own waited for the window: it is on the
    /// way to TIME-WAIT, and what it sends looks as if to CLOSED.
    pub closed_unseen: bool,
    /// Both FINs were on the way at once: it was in CLOSING.
    pub crossed: bool,
}

impl Endpoint {
    /// No connection was ever opened.
    pub const fn new() -> Self {
        Self {
            state: State::Closed,
            passive: false,
            connections: 0,
            iss: 0,
            irs: 0,
            una: 0,
            nxt: 0,
            wnd: 0,
            max_wnd: 0,
            wl1: 0,
            wl2: 0,
            rcv_nxt: 0,
            queued: 0,
            closing: false,
            fin_sent: false,
            early: 0,
            early_fin: 0,
            unread: 0,
            owes_ack: false,
            delivered: 0,
            closed_unseen: false,
            crossed: false,
        }
    }

    /// Whether everything sent is acknowledged and nothing waits to be sent.
    pub const fn is_at_rest(&self) -> bool {
        self.una == self.nxt && self.queued == 0 && !self.closing && !self.owes_ack
    }

    /// Whether something sent is not acknowledged.
    pub const fn has_outstanding(&self) -> bool {
        self.una != self.nxt
    }

    /// RCV.WND.
    pub const fn window(&self, manner: &Manner) -> u8 {
        manner.buffer - self.unread
    }

    /// "Delete the TCB": `state` is CLOSED or LISTEN.
    fn forget(&mut self, state: State) {
        *self = Self {
            state,
            connections: self.connections,
            delivered: self.delivered,
            ..Self::new()
        };
    }

    /// Selects an ISS; SND.UNA is ISS and SND.NXT ISS+1 (3.10.1, 3.10.7.2).
    const fn select_iss(&mut self, manner: &Manner) {
        let step = Manner::STEP.wrapping_mul(self.connections as u32);
        self.iss = manner.iss.wrapping_add(step);
        self.connections += 1;
        self.una = self.iss;
        self.nxt = self.iss.wrapping_add(1);
    }

    /// A segment with the present RCV.NXT and window.
    fn segment(&mut self, manner: &Manner, seq: u32, flags: u8, text: u8) -> Segment {
        let ack = if flags & ACK == 0 {
            0
        } else {
            self.owes_ack = false;
            self.rcv_nxt
        };
        Segment {
            seq,
            ack,
            flags,
            text,
            window: self.window(manner),
            mark: 0,
        }
    }

    /// <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>
    fn acknowledge(&mut self, manner: &Manner, out: &mut Vec<Segment>) {
        let segment = self.segment(manner, self.nxt, ACK, 0);
        out.push(segment);
    }

    /// Sends what the window allows of what is queued, and the FIN behind it.
    ///
    /// Section 3.10.4, CLOSE in ESTABLISHED: "Queue this until all preceding
    /// SENDs have been segmentized, then form a FIN segment and send it. In any
    /// case, enter FIN-WAIT-1 state."; in CLOSE-WAIT: "Queue this request until
    /// all preceding SENDs have been segmentized; then send a FIN segment, enter
    /// LAST-ACK state."
    fn transmit(&mut self, manner: &Manner, out: &mut Vec<Segment>) {
        if self.state == State::Established && self.closing {
            self.state = State::FinWait1;
        }
        let sends = match self.state {
            State::Established | State::CloseWait => true,
            // A CLOSE whose FIN still waits for the window.
            State::FinWait1 | State::Closing => self.closing,
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::FinWait2
            | State::LastAck
            | State::TimeWait => false,
        };
        if !sends {
            return;
        }
        let edge = self.una.wrapping_add(self.wnd.into());
        let room = if lt(self.nxt, edge) {
            edge.wrapping_sub(self.nxt)
        } else {
            0
        };
        let text = room.min(self.queued.into()) as u8;
        let fin = self.closing && text == self.queued && room > text.into();
        self.push(manner, text, fin, out);
    }

    /// Sends that much of what is queued.
    fn push(&mut self, manner: &Manner, text: u8, fin: bool, out: &mut Vec<Segment>) {
        if text == 0 && !fin {
            return;
        }
        let flags = if fin { ACK | FIN } else { ACK };
        let segment = self.segment(manner, self.nxt, flags, text);
        self.queued -= text;
        self.nxt = self.nxt.wrapping_add(segment.length());
        out.push(segment);
        if fin {
            self.closing = false;
            self.fin_sent = true;
            if self.state == State::CloseWait {
                self.state = State::LastAck;
            }
        }
    }
}
