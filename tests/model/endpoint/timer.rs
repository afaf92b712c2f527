//! Time-outs (section 3.10.8).

use super::{Endpoint, Manner, State};
use crate::segment::{ACK, FIN, SYN, Segment};

/// How much a retransmission carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// All that is not acknowledged, in one segment.
    All,
    /// Its first octet.
    First,
}

impl Endpoint {
    /// "RETRANSMISSION TIMEOUT: For any state if the retransmission timeout
    /// expires on a segment in the retransmission queue, send the segment at
    /// the front of the retransmission queue again". Whether it is cut as it
    /// was is the sender's choice (section 3.8.1 allows repacketization), hence
    /// `again`. False when there is nothing to send, or `again` makes no
    /// difference to [`Again::All`].
    pub fn retransmit(&mut self, again: Again, manner: &Manner, out: &mut Vec<Segment>) -> bool {
        if !self.has_outstanding() {
            // Section 3.8.6.1: "The sending TCP peer must regularly transmit at
            // least one octet of new data (if available), or retransmit to the
            // receiving TCP peer, even if the send window is zero".
            let probes = matches!(
                self.state,
                State::Established | State::CloseWait | State::FinWait1 | State::Closing
            );
            let waits = self.queued > 0 || self.closing;
            if again == Again::First || !waits || self.wnd > 0 || !probes {
                return false;
            }
            self.push(manner, self.queued.min(1), self.queued == 0, out);
            return true;
        }
        let segment = if self.una == self.iss {
            if again == Again::First {
                return false;
            }
            let flags = if self.state == State::SynSent {
                SYN
            } else {
                SYN | ACK
            };
            self.segment(manner, self.iss, flags, 0)
        } else {
            let outstanding = self.nxt.wrapping_sub(self.una);
            let fin = u32::from(self.fin_sent);
            let text = outstanding - fin;
            match again {
                Again::All => {
                    let flags = if self.fin_sent { ACK | FIN } else { ACK };
                    self.segment(manner, self.una, flags, text as u8)
                }
                Again::First if text > 0 && outstanding > 1 => {
                    self.segment(manner, self.una, ACK, 1)
                }
                Again::First => return false,
            }
        };
        out.push(segment);
        true
    }

    /// "USER TIMEOUT: For any state if the user timeout expires, flush all
    /// queues, signal the user 'error: connection aborted due to user timeout'
    /// …, delete the TCB, enter the CLOSED state, and return."
    pub fn give_up(&mut self) -> bool {
        let gives_up = self.has_outstanding();
        if gives_up {
            self.forget(State::Closed);
        }
        gives_up
    }

    /// "TIME-WAIT TIMEOUT: If the time-wait timeout expires on a connection,
    /// delete the TCB, enter the CLOSED state, and return."
    pub fn time_wait_over(&mut self) -> bool {
        let over = self.state == State::TimeWait;
        if over {
            self.forget(State::Closed);
        }
        over
    }

    /// Sends the ACK that waited for a segment to carry it.
    pub fn acknowledge_now(&mut self, manner: &Manner, out: &mut Vec<Segment>) -> bool {
        let owes = self.owes_ack;
        if owes {
            self.acknowledge(manner, out);
        }
        owes
    }
}
