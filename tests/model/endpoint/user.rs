//! User calls (sections 3.10.1 to 3.10.5).

use super::{Endpoint, Manner, State};
use crate::segment::{ACK, FIN, RST, SYN, Segment};

/// A call of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    OpenActive,
    OpenPassive,
    /// One octet.
    Send,
    /// All that is in the buffer.
    Receive,
    Close,
    Abort,
}

impl Call {
    pub const ALL: [Self; 6] = [
        Self::OpenActive,
        Self::OpenPassive,
        Self::Send,
        Self::Receive,
        Self::Close,
        Self::Abort,
    ];
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// "error: …": nothing changes.
    Error,
    /// Done.
    Done,
    /// Done, and the connection is gone without a segment that would say so.
    Silently,
}

impl Endpoint {
    /// Lets the user call.
    pub fn call(&mut self, call: Call, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        match call {
            Call::OpenActive => self.open_active(manner, out),
            Call::OpenPassive => self.open_passive(),
            Call::Send => self.send(manner, out),
            Call::Receive => self.receive(manner, out),
            Call::Close => self.close(manner, out),
            Call::Abort => self.abort(manner, out),
        }
    }

    /// Section 3.10.1.
    fn open_active(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        match self.state {
            // "if active and the remote socket is specified, issue a SYN
            // segment. An initial send sequence number (ISS) is selected. A SYN
            // segment of the form <SEQ=ISS><CTL=SYN> is sent. Set SND.UNA to
            // ISS, SND.NXT to ISS+1, enter SYN-SENT state"; in LISTEN "change
            // the connection from passive to active, select an ISS. Send a SYN
            // segment, set SND.UNA to ISS, SND.NXT to ISS+1. Enter SYN-SENT
            // state."
            State::Closed | State::Listen => {
                self.forget(State::SynSent);
                self.select_iss(manner);
                let syn = self.segment(manner, self.iss, SYN, 0);
                out.push(syn);
                Called::Done
            }
            // "Return 'error: connection already exists'."
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => Called::Error,
        }
    }

    /// Section 3.10.1: "If passive, enter the LISTEN state and return."
    fn open_passive(&mut self) -> Called {
        if self.state != State::Closed {
            return Called::Error;
        }
        self.forget(State::Listen);
        Called::Done
    }

    /// Section 3.10.2, of one octet.
    fn send(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        // A CLOSE "implies" that no SEND follows (section 3.9.1.4).
        if self.closing {
            return Called::Error;
        }
        match self.state {
            // "Queue the data for transmission after entering ESTABLISHED
            // state."
            State::SynSent | State::SynReceived => {
                self.queued += 1;
                Called::Done
            }
            // "Segmentize the buffer and send it with a piggybacked
            // acknowledgment (acknowledgment value = RCV.NXT)."
            State::Established | State::CloseWait => {
                self.queued += 1;
                self.transmit(manner, out);
                Called::Done
            }
            // CLOSED: "error: connection does not exist"; LISTEN: a SEND makes
            // it active, which OPEN does here; the others: "error: connection
            // closing".
            State::Closed
            | State::Listen
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => Called::Error,
        }
    }

    /// Section 3.10.3. The window that opens is announced (section 3.8.6.2.2:
    /// by at least half the buffer, which is little here).
    fn receive(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        if self.unread == 0 {
            return Called::Error;
        }
        self.unread = 0;
        self.acknowledge(manner, out);
        Called::Done
    }

    /// Section 3.10.4.
    fn close(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        if self.closing {
            return Called::Error;
        }
        match self.state {
            // "error: connection does not exist"
            State::Closed => Called::Error,
            // "Delete TCB, enter CLOSED state, and return."
            State::Listen => {
                self.forget(State::Closed);
                Called::Done
            }
            // "Delete the TCB and return 'error: closing' responses to any
            // queued SENDs, or RECEIVEs."
            State::SynSent => {
                self.forget(State::Closed);
                Called::Silently
            }
            // "If no SENDs have been issued and there is no pending data to
            // send, then form a FIN segment and send it, and enter FIN-WAIT-1
            // state; otherwise, queue for processing after entering ESTABLISHED
            // state."
            State::SynReceived => {
                if self.queued == 0 && manner.early_fin {
                    let fin = self.segment(manner, self.nxt, FIN | ACK, 0);
                    out.push(fin);
                    self.nxt = self.nxt.wrapping_add(1);
                    self.fin_sent = true;
                    self.state = State::FinWait1;
                } else {
                    self.closing = true;
                }
                Called::Done
            }
            // See transmit.
            State::Established | State::CloseWait => {
                self.closing = true;
                self.transmit(manner, out);
                Called::Done
            }
            // "Strictly speaking, this is an error and should receive an
            // 'error: connection closing' response."
            State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => Called::Error,
        }
    }

    /// Section 3.10.5.
    fn abort(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> Called {
        match self.state {
            // "error: connection does not exist"
            State::Closed => Called::Error,
            // "Any outstanding RECEIVEs should be returned with 'error:
            // connection reset' responses. Delete TCB, enter CLOSED state, and
            // return."
            State::Listen => {
                self.forget(State::Closed);
                Called::Done
            }
            // "All queued SENDs and RECEIVEs should be given 'connection reset'
            // notification. Delete the TCB, enter CLOSED state, and return."
            State::SynSent => {
                self.forget(State::Closed);
                Called::Silently
            }
            // "Send a reset segment: <SEQ=SND.NXT><CTL=RST>. All queued SENDs
            // and RECEIVEs should be given 'connection reset' notification; all
            // segments queued for transmission (except for the RST formed
            // above) or retransmission should be flushed. Delete the TCB, enter
            // CLOSED state, and return."
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => {
                let ack = if manner.reset_acks { ACK } else { 0 };
                let reset = self.segment(manner, self.nxt, RST | ack, 0);
                out.push(reset);
                self.forget(State::Closed);
                Called::Done
            }
            // "Respond with 'ok' and delete the TCB, enter CLOSED state, and
            // return."
            State::Closing | State::LastAck | State::TimeWait => {
                self.forget(State::Closed);
                Called::Silently
            }
        }
    }
}
