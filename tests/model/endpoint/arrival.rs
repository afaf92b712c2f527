//! SEGMENT ARRIVES (section 3.10.7).

use super::{Endpoint, Manner, State};
use crate::segment::{ACK, FIN, RST, SYN, Segment, le, lt};

/// Whether processing goes on at the next step.
enum Step {
    Continue,
    Return,
}

impl Endpoint {
    /// Lets `segment` arrive; what it is answered with goes to `out`.
    pub fn arrive(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        match self.state {
            State::Closed => self.arrive_closed(segment, out),
            State::Listen => self.arrive_listen(segment, manner, out),
            State::SynSent => self.arrive_syn_sent(segment, manner, out),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.arrive_otherwise(segment, manner, out),
        }
    }

    /// Section 3.10.7.1.
    fn arrive_closed(&mut self, segment: &Segment, out: &mut Vec<Segment>) {
        // "An incoming segment containing a RST is discarded. An incoming
        // segment not containing a RST causes a RST to be sent in response."
        if segment.has(RST) {
            return;
        }
        out.push(if segment.has(ACK) {
            // "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>"
            reset(segment.ack)
        } else {
            // "If the ACK bit is off, sequence number zero is used,
            // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"
            Segment {
                ack: segment.seq.wrapping_add(segment.length()),
                flags: RST | ACK,
                ..Segment::default()
            }
        });
    }

    /// Section 3.10.7.2.
    fn arrive_listen(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        // First: "An incoming RST should be ignored. Return."
        if segment.has(RST) {
            return;
        }
        // Second: "An acceptable reset segment should be formed for any
        // arriving ACK-bearing segment. <SEQ=SEG.ACK><CTL=RST>"
        if segment.has(ACK) {
            out.push(reset(segment.ack));
            return;
        }
        // Third; fourth: "Drop the segment and return."
        if segment.has(SYN) {
            self.take_syn(segment, manner, out);
        }
    }

    /// Section 3.10.7.2, third: "Set RCV.NXT to SEG.SEQ+1, IRS is set to
    /// SEG.SEQ … ISS should be selected and a SYN segment sent of the form:
    /// <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>. SND.NXT is set to ISS+1 and SND.UNA
    /// to ISS. The connection state should be changed to SYN-RECEIVED."
    fn take_syn(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        self.forget(State::SynReceived);
        self.passive = true;
        self.irs = segment.seq;
        self.rcv_nxt = segment.seq.wrapping_add(1);
        self.select_iss(manner);
        self.set_window(segment);
        let syn_ack = self.segment(manner, self.iss, SYN | ACK, 0);
        out.push(syn_ack);
    }

    /// SND.WND <- SEG.WND, SND.WL1 <- SEG.SEQ, SND.WL2 <- SEG.ACK
    fn set_window(&mut self, segment: &Segment) {
        self.wnd = segment.window;
        self.wl1 = segment.seq;
        self.wl2 = segment.ack;
        self.max_wnd = self.max_wnd.max(segment.window);
    }

    /// Section 3.10.7.3.
    fn arrive_syn_sent(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        let acks = segment.has(ACK);
        // First: "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless
        // the RST bit is set, if so drop the segment and return)
        // <SEQ=SEG.ACK><CTL=RST> and discard the segment. Return."
        if acks && (le(segment.ack, self.iss) || lt(self.nxt, segment.ack)) {
            if !segment.has(RST) {
                out.push(reset(segment.ack));
            }
            return;
        }
        // Second: "If the ACK was acceptable, then signal to the user 'error:
        // connection reset', drop the segment, enter CLOSED state, delete TCB,
        // and return. Otherwise (no ACK), drop the segment and return." That
        // the sequence number match RCV.NXT, of which nothing is known here, is
        // left out; RFC 5961 section 3.2 has it so: "In the SYN-SENT state (a
        // RST received in response to an initial SYN), the RST is acceptable if
        // the ACK field acknowledges the SYN."
        if segment.has(RST) {
            if acks {
                self.forget(State::Closed);
            }
            return;
        }
        // Fifth: "if neither of the SYN or RST bits is set, then drop the
        // segment and return."
        if !segment.has(SYN) {
            return;
        }
        // Fourth: "RCV.NXT is set to SEG.SEQ+1, IRS is set to SEG.SEQ. SND.UNA
        // should be advanced to equal SEG.ACK (if there is an ACK)".
        self.rcv_nxt = segment.seq.wrapping_add(1);
        self.irs = segment.seq;
        self.set_window(segment);
        if acks {
            self.una = segment.ack;
            // "If SND.UNA > ISS (our SYN has been ACKed), change the connection
            // state to ESTABLISHED, form an ACK segment
            // <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> and send it. Data or controls
            // that were queued for transmission MAY be included."
            self.state = State::Established;
            self.owes_ack = true;
            self.transmit(manner, out);
            if !manner.delayed_ack {
                self.acknowledge_now(manner, out);
            }
        } else {
            // "Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment
            // <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> and send it."
            self.state = State::SynReceived;
            let syn_ack = self.segment(manner, self.iss, SYN | ACK, 0);
            out.push(syn_ack);
        }
    }

    /// Section 3.10.7.4.
    fn arrive_otherwise(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        // Section 3.6.1: "a TCP endpoint … MAY accept a new SYN from the remote
        // TCP endpoint to reopen the connection directly from TIME-WAIT state
        // (MAY-2), if it: (1) assigns its ISN for the new connection to be
        // larger than the largest sequence number it used on the previous
        // connection incarnation".
        let syn_alone = segment.flags & (SYN | ACK | RST) == SYN;
        if manner.reopens
            && self.state == State::TimeWait
            && syn_alone
            && le(self.rcv_nxt, segment.seq)
        {
            self.take_syn(segment, manner, out);
            return;
        }
        for step in [
            Self::check_sequence,
            Self::check_reset,
            Self::check_syn,
            Self::check_ack,
        ] {
            if let Step::Return = step(self, segment, manner, out) {
                return;
            }
        }
        self.process_text(segment, manner, out);
        self.transmit(manner, out);
        if !manner.delayed_ack {
            self.acknowledge_now(manner, out);
        }
    }

    /// First, table 6.
    fn check_sequence(
        &mut self,
        segment: &Segment,
        manner: &Manner,
        out: &mut Vec<Segment>,
    ) -> Step {
        let window = u32::from(self.window(manner));
        let inside = |number: u32| number.wrapping_sub(self.rcv_nxt) < window;
        let length = segment.length();
        let acceptable = match (length, window) {
            (0, 0) => segment.seq == self.rcv_nxt,
            // "If the RCV.WND is zero, no segments will be acceptable, but
            // special allowance should be made to accept valid ACKs, URGs, and
            // RSTs": its text and FIN are trimmed below.
            (_, 0) => segment.seq == self.rcv_nxt && segment.has(ACK),
            (0, _) => inside(segment.seq),
            (_, _) => inside(segment.seq) || inside(segment.seq.wrapping_add(length - 1)),
        };
        if acceptable {
            return Step::Continue;
        }
        // "If an incoming segment is not acceptable, an acknowledgment should
        // be sent in reply (unless the RST bit is set, if so drop the segment
        // and return): <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"
        if !segment.has(RST) {
            self.acknowledge(manner, out);
        }
        Step::Return
    }

    /// Second.
    fn check_reset(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) -> Step {
        if !segment.has(RST) {
            return Step::Continue;
        }
        // "3) If the RST bit is set and the sequence number does not exactly
        // match the next expected sequence value, yet is within the current
        // receive window, TCP endpoints MUST send an acknowledgment (challenge
        // ACK)". What is outside was dropped in the first step.
        if segment.seq != self.rcv_nxt {
            self.acknowledge(manner, out);
            return Step::Return;
        }
        // SYN-RECEIVED: "If this connection was initiated with a passive OPEN
        // (i.e., came from the LISTEN state), then return this connection to
        // LISTEN state and return. … And in the active OPEN case, enter the
        // CLOSED state and delete the TCB, and return." All others: "Enter the
        // CLOSED state, delete the TCB, and return."
        let listens = self.state == State::SynReceived && self.passive;
        self.forget(if listens {
            State::Listen
        } else {
            State::Closed
        });
        Step::Return
    }

    /// Fourth. (Third is security, which the model has none of.)
    fn check_syn(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) -> Step {
        if !segment.has(SYN) {
            return Step::Continue;
        }
        // SYN-RECEIVED: "If the connection was initiated with a passive OPEN,
        // then return this connection to the LISTEN state and return.
        // Otherwise, handle per the directions for synchronized states below."
        if self.state == State::SynReceived && self.passive {
            self.forget(State::Listen);
            return Step::Return;
        }
        // "RFC 5961 recommends that in these synchronized states, if the SYN bit
        // is set, irrespective of the sequence number, TCP endpoints MUST send
        // a 'challenge ACK' to the remote peer".
        self.acknowledge(manner, out);
        Step::Return
    }

    /// Fifth.
    fn check_ack(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) -> Step {
        // "if the ACK bit is off, drop the segment and return"
        if !segment.has(ACK) {
            return Step::Return;
        }
        // "the ACK value is acceptable only if it is in the range of ((SND.UNA -
        // MAX.SND.WND) =< SEG.ACK =< SND.NXT). All incoming segments whose ACK
        // value doesn't satisfy the above condition MUST be discarded and an
        // ACK sent back."
        let low = self.una.wrapping_sub(self.max_wnd.into());
        if lt(segment.ack, low) || lt(self.nxt, segment.ack) {
            self.acknowledge(manner, out);
            return Step::Return;
        }
        let news = lt(self.una, segment.ack);
        if self.state == State::SynReceived {
            // "If the segment acknowledgment is not acceptable, form a reset
            // segment <SEQ=SEG.ACK><CTL=RST> and send it."
            if !news {
                out.push(reset(segment.ack));
                return Step::Return;
            }
            // "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state and
            // continue processing with the variables below set".
            self.state = State::Established;
            self.set_window(segment);
        }
        // TIME-WAIT: "The only thing that can arrive in this state is a
        // retransmission of the remote FIN." What is left of others here asks
        // for nothing.
        if self.state == State::TimeWait {
            return Step::Return;
        }
        // "If SND.UNA < SEG.ACK =< SND.NXT, then set SND.UNA <- SEG.ACK."
        if news {
            self.una = segment.ack;
        }
        // "If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated.
        // If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)),
        // set SND.WND <- SEG.WND, set SND.WL1 <- SEG.SEQ, and set SND.WL2 <-
        // SEG.ACK."
        if le(self.una, segment.ack)
            && (lt(self.wl1, segment.seq) || (self.wl1 == segment.seq && le(self.wl2, segment.ack)))
        {
            self.set_window(segment);
        }
        let fin_acked = self.fin_sent && self.una == self.nxt;
        match self.state {
            // "if the FIN segment is now acknowledged, then enter FIN-WAIT-2 and
            // continue processing in that state."
            State::FinWait1 if fin_acked => self.state = State::FinWait2,
            // "if the ACK acknowledges our FIN, then enter the TIME-WAIT state;
            // otherwise, ignore the segment."
            State::Closing => {
                if fin_acked {
                    self.state = State::TimeWait;
                }
                return Step::Return;
            }
            // "If our FIN is now acknowledged, delete the TCB, enter the CLOSED
            // state, and return."
            State::LastAck if fin_acked => {
                self.forget(State::Closed);
                return Step::Return;
            }
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::LastAck
            | State::TimeWait => {}
        }
        Step::Continue
    }

    /// Seventh and eighth. (Sixth is urgent data, which the model has none of.)
    fn process_text(&mut self, segment: &Segment, manner: &Manner, out: &mut Vec<Segment>) {
        // CLOSE-WAIT and after: "This should not occur since a FIN has been
        // received from the remote side. Ignore the segment text."; a FIN:
        // "Remain in the … state."
        if !matches!(
            self.state,
            State::Established | State::FinWait1 | State::FinWait2
        ) {
            return;
        }
        if segment.length() == 0 {
            return;
        }
        // "One could tailor actual segments to fit this assumption by trimming
        // off any portions that lie outside the window (including SYN and FIN)
        // … Segments with higher beginning sequence numbers SHOULD be held for
        // later processing (SHLD-31)."
        let window = u32::from(self.window(manner));
        for octet in 0..u32::from(segment.text) {
            let offset = segment.seq.wrapping_add(octet).wrapping_sub(self.rcv_nxt);
            if offset < window {
                self.early |= 1 << offset;
            }
        }
        if segment.has(FIN) {
            let at = segment.seq.wrapping_add(segment.text.into());
            let offset = at.wrapping_sub(self.rcv_nxt);
            if offset < window && self.early_fin == 0 {
                self.early_fin = offset as u8 + 1;
            }
        }
        while self.early & 1 != 0 && self.early_fin != 1 {
            self.early >>= 1;
            self.early_fin = self.early_fin.saturating_sub(1);
            self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
            self.delivered = self.delivered.saturating_add(1);
            self.unread += u8::from(manner.slow_reader);
        }
        // "When the TCP endpoint takes responsibility for delivering the data to
        // the user, it must also acknowledge the receipt of the data."
        self.owes_ack = true;
        if self.early_fin == 1 {
            // "advance RCV.NXT over the FIN, and send an acknowledgment for the
            // FIN."
            self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
            self.early = 0;
            self.early_fin = 0;
            self.closed_unseen = self.closing;
            self.crossed = self.state == State::FinWait1;
            self.state = if self.state == State::Established {
                State::CloseWait
            } else if self.state == State::FinWait1 {
                // "If our FIN has been ACKed (perhaps in this segment), then
                // enter TIME-WAIT …; otherwise, enter the CLOSING state."; the
                // former was FIN-WAIT-2 since the fifth step.
                State::Closing
            } else {
                // FIN-WAIT-2: "Enter the TIME-WAIT state."
                State::TimeWait
            };
        }
        // Out of order: at once, to tell the sender (MAY-13).
        if self.early != 0 || self.early_fin != 0 {
            self.acknowledge_now(manner, out);
        }
    }
}

/// <SEQ=SEG.ACK><CTL=RST>
fn reset(seq: u32) -> Segment {
    Segment {
        seq,
        flags: RST,
        ..Segment::default()
    }
}
