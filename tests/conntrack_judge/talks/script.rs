//! What honest endpoints say: openings, data, ends.

use tracker_common::tcp::Flags;
use tracker_tests::program::talk::{A, B};

use super::{ACK, FIN, FULL, PUSH, Writer};

impl Writer<'_> {
    /// The opening: what it is called, and whether something follows it.
    pub(super) fn open(&mut self) -> (&'static str, bool) {
        match self.random.below(40) {
            0 => {
                self.push(A.syn());
                self.push(B.syn());
                self.push(A.syn_ack());
                self.push(B.syn_ack());
                ("simultaneous", true)
            }
            1 => {
                for _ in 0..3 {
                    self.push(A.syn());
                }
                ("unanswered", false)
            }
            2 => {
                self.push(A.syn());
                self.push(B.rst().seq(0u32.wrapping_sub(self.talk.isns[1])));
                if self.random.once_in(2) {
                    self.push(A.syn());
                }
                ("refused", false)
            }
            3 => ("picked up", true),
            4 => {
                self.push(A.syn());
                self.push(A.syn());
                self.push(B.syn_ack());
                self.push(B.syn_ack());
                self.push(A.ack());
                ("repeated", true)
            }
            5 => {
                self.push(A.syn().data(100));
                self.push(B.syn_ack().acks(101));
                self.sides[0].next = 101;
                self.say(A, ACK, 0);
                ("data in the SYN", true)
            }
            6 => {
                // The responder has an old connection of these ports.
                self.push(A.syn());
                self.push(B.ack().seq(500_000).acks(700_000));
                self.push(A.bare_rst().seq(700_000));
                self.push(A.syn());
                self.push(B.syn_ack());
                self.push(A.ack());
                ("half-open responder", true)
            }
            7 => {
                self.push(A.syn());
                self.push(B.syn());
                self.push(A.syn_ack());
                self.say(B, ACK, 0);
                ("split", true)
            }
            8 => {
                // A SYN-ACK of a former connection, and what it deserves.
                self.push(A.syn());
                self.push(B.syn_ack().seq(900_000).acks(0x4000_0000));
                self.push(A.bare_rst().seq(0x4000_0000));
                self.push(B.syn_ack());
                self.push(A.ack());
                ("old SYN-ACK", true)
            }
            _ => {
                self.push(A.syn());
                self.push(B.syn_ack());
                self.push(A.ack());
                ("handshake", true)
            }
        }
    }

    /// Data: what it is called.
    pub(super) fn traffic(&mut self) -> &'static str {
        let mut name = "no data";
        for _ in 0..self.random.below(6) {
            let from = self.random.pick(&[A, B]);
            let to = from.peer();
            let room = self.sides[to as usize].window;
            match self.random.below(8) {
                // A keep-alive (RFC 9293 section 3.8.4).
                0 => {
                    let data = u16::from(self.random.once_in(2));
                    let next = self.sides[from as usize].next;
                    self.push(
                        from.ack()
                            .seq(next.wrapping_sub(1))
                            .acks(self.sides[to as usize].next)
                            .data(data),
                    );
                    self.say(to, ACK, 0);
                    name = "keep-alives";
                }
                // A window that fills, probes of it, and its reopening.
                1 => {
                    let mut left = room;
                    while left > 0 {
                        let data = left.min(FULL.into()) as u16;
                        self.say(from, ACK, data);
                        left -= u32::from(data);
                    }
                    let open = self.sides[to as usize].window;
                    self.sides[to as usize].window = 0;
                    self.say(to, ACK, 0);
                    let next = self.sides[from as usize].next;
                    for _ in 0..2 {
                        self.push(
                            from.ack()
                                .seq(next)
                                .acks(self.sides[to as usize].next)
                                .data(1),
                        );
                        self.say(to, ACK, 0);
                    }
                    self.sides[to as usize].window = open;
                    self.say(to, ACK, 0);
                    // What the probes carried, and the receiver did not take.
                    self.say(from, PUSH, 1);
                    self.say(to, ACK, 0);
                    name = "a full window";
                }
                // A segment lost behind us: selective acknowledgements, then
                // the segment again.
                2 => {
                    let lost = self.sides[from as usize].next;
                    self.say(from, PUSH, 700);
                    let hole = self.sides[from as usize].next;
                    self.say(from, PUSH, 700);
                    let mut duplicate =
                        self.frame(to.ack().seq(self.sides[to as usize].next).acks(lost));
                    if self.talk.options {
                        let isn = self.talk.isns[from as usize];
                        let mut option = vec![1, 1, 5, 10];
                        option.extend(isn.wrapping_add(hole).to_be_bytes());
                        option.extend(isn.wrapping_add(hole + 700).to_be_bytes());
                        duplicate.options = option;
                    }
                    self.push_frame(to, duplicate.clone());
                    self.push_frame(to, duplicate);
                    self.push(
                        from.ack()
                            .seq(lost)
                            .acks(self.sides[to as usize].next)
                            .data(700),
                    );
                    self.say(to, ACK, 0);
                    name = "a loss";
                }
                _ => {
                    let count = self.random.below(room / u32::from(FULL)).min(4) + 1;
                    for _ in 0..count {
                        let data = self.random.pick(&[1, 500, FULL]);
                        self.say(from, PUSH, data);
                    }
                    self.say(to, ACK, 0);
                    if name == "no data" {
                        name = "data";
                    }
                }
            }
        }
        name
    }

    /// The end: what it is called.
    pub(super) fn close(&mut self) -> &'static str {
        let first = self.random.pick(&[A, B]);
        let second = first.peer();
        match self.random.below(12) {
            0 => "left open",
            1 => {
                self.say(first, Flags::RST | Flags::ACK, 0);
                "reset"
            }
            2 => {
                // Simultaneous.
                let before = self.sides;
                self.say(first, FIN, 0);
                let after = self.sides[first as usize];
                self.sides[first as usize] = before[first as usize];
                self.say(second, FIN, 0);
                self.sides[first as usize] = after;
                self.say(first, ACK, 0);
                self.say(second, ACK, 0);
                "both at once"
            }
            3 => {
                self.say(first, FIN, 0);
                self.say(second, ACK, 0);
                for _ in 0..3 {
                    self.say(second, PUSH, 700);
                    self.say(first, ACK, 0);
                }
                self.say(second, FIN, 0);
                self.say(first, ACK, 0);
                "half-closed"
            }
            4 => {
                self.say(first, FIN, 0);
                self.say(second, ACK, 0);
                "one side"
            }
            5 => {
                // Lost behind us and sent again.
                self.say(first, FIN, 0);
                self.sides[first as usize].next -= 1;
                self.say(first, FIN, 0);
                self.say(second, ACK, 0);
                self.say(second, FIN, 0);
                self.sides[second as usize].next -= 1;
                self.say(second, FIN, 0);
                self.say(first, ACK, 0);
                "FINs again"
            }
            6 => {
                // Data meets a socket that is gone.
                self.say(first, FIN, 0);
                self.say(second, ACK, 0);
                self.say(second, PUSH, 300);
                let next = self.sides[first as usize].next;
                self.push(first.bare_rst().seq(next));
                "reset after the FIN"
            }
            _ => {
                self.say(first, FIN, 0);
                self.say(second, FIN, 0);
                self.say(first, ACK, 0);
                "closed"
            }
        }
    }

    /// The ports are used again, by either side, when no duplicates are about.
    pub(super) fn again(&mut self) {
        let opener = self.random.pick(&[A, B]);
        for (side, isn) in self.sides.iter_mut().zip(&mut self.talk.isns) {
            *isn = isn.wrapping_add(side.next + 100_000);
            side.next = 1;
        }
        self.push(opener.syn());
        self.push(opener.peer().syn_ack());
        self.push(opener.ack());
        self.say(opener, PUSH, 300);
        self.say(opener.peer(), ACK, 0);
    }
}
