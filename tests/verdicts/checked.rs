//! Segments whose numbers are held against windows, acknowledgements and
//! timestamps; checksums; ICMP errors; connections that begin anew.

use tracker_common::{
    abi::{Family, switches},
    reason::Reason,
    tcp::State::{
        CloseWait as CW, Closed as CL, Established as ES, FinWait1 as F1, FinWait2 as F2,
        Listen as LI, SynReceived as SR, SynSent as SS, TimeWait as TW,
    },
};
use tracker_tests::program::{
    bench::Origin,
    frame::Frame,
    talk::{A, B, STAMP, Seg},
};

use crate::{
    row::{Of, Row, Stage, row},
    segments::{CLOSE, HANDSHAKE, LAST},
};

/// Behind the only window that the responder has announced, which is its SYN's
/// and never scaled.
const EDGE: u32 = 1001;

/// Before every number of a talk.
const LONG_AGO: u32 = 0xc000_0000;

/// Octets of a datagram that every ICMP error quotes at least: both headers as
/// far as the sequence number.
const QUOTED: usize = 28;

pub fn rows() -> Vec<Row> {
    [
        windows(),
        timestamps(),
        resets(),
        exempt(),
        restarts(),
        syn_data(),
        icmp(),
        checksums(),
    ]
    .concat()
}

fn windows() -> Vec<Row> {
    let established = |name, reason| row(name, reason).after(HANDSHAKE).leaves(ES, ES);
    vec![
        established("data up to the edge of the window", Reason::Tracked)
            .sends(A.ack().seq(EDGE - 1).data(1)),
        established("data at the edge of the window", Reason::WindowEdge)
            .sends(A.ack().seq(EDGE).data(1)),
        established("a FIN at the edge of the window", Reason::WindowEdge).sends(A.fin().seq(EDGE)),
        established(
            "an ACK of a FIN at the edge of the window",
            Reason::WindowEdge,
        )
        .after([A.ack().data(1000)])
        .sends(B.ack().acks(EDGE + 1)),
        established("an ACK beyond the window", Reason::BeyondWindow)
            .sends(A.ack().seq(EDGE + 1))
            .breaks(Of::Isn(A), |_| [EDGE + 1, 1, EDGE]),
        established("a FIN beyond the window", Reason::BeyondWindow)
            .sends(A.fin().seq(1_000_000))
            .breaks(Of::Isn(A), |_| [1_000_000, 1, EDGE]),
        established(
            "data beyond the initiator's window, which is scaled",
            Reason::BeyondWindow,
        )
        .sends(B.ack().seq(128_002).data(1))
        .breaks(Of::Isn(B), |shift| [128_002, 1, 1 + (1000 << shift)]),
        established("data that were acknowledged", Reason::AlreadyReceived)
            .after([A.ack().data(500), B.ack().acks(501)])
            .sends(A.ack().data(500)),
        established("a keep-alive", Reason::AlreadyReceived).sends(A.ack().seq(0)),
        established("a keep-alive with an octet", Reason::AlreadyReceived)
            .sends(B.ack().seq(0).data(1)),
        established("data of long ago", Reason::SegmentTooOld).sends(A.ack().seq(LONG_AGO).data(1)),
        established("an acknowledgement of long ago", Reason::AckTooOld)
            .sends(A.ack().acks(LONG_AGO)),
        established("a FIN before data", Reason::FinInside)
            .after([A.ack().data(500)])
            .sends(A.fin().seq(100)),
    ]
}

fn timestamps() -> Vec<Row> {
    const OPENED: [Seg; 3] = [
        A.syn().stamp(STAMP),
        B.syn_ack().stamp(STAMP),
        A.ack().stamp(STAMP),
    ];
    const GRACE: u32 = 30_000;
    const OLDEST: u32 = STAMP.wrapping_sub(GRACE);
    let stamped = |name, reason| row(name, reason).after(OPENED).leaves(ES, ES);
    vec![
        stamped("a timestamp half a minute late", Reason::Tracked)
            .sends(A.ack().data(1).stamp(OLDEST)),
        stamped("a timestamp later than that", Reason::TimestampOld)
            .sends(A.ack().data(1).stamp(OLDEST - 1))
            .breaks(Of::Zero, |_| [OLDEST - 1, OLDEST, STAMP]),
        stamped("a FIN of long ago", Reason::TimestampOld)
            .sends(B.fin().stamp(STAMP ^ 0x8000_0001))
            .breaks(Of::Zero, |_| [STAMP ^ 0x8000_0001, OLDEST, STAMP]),
        // RFC 7323 section 5.2.
        stamped("an RST with an old timestamp", Reason::ResetClosed)
            .sends(A.rst().stamp(OLDEST - 1))
            .leaves(CL, CL),
    ]
}

fn resets() -> Vec<Row> {
    let established = |name, reason| row(name, reason).after(HANDSHAKE).leaves(ES, ES);
    vec![
        established("an RST inside the window", Reason::ResetInexact).sends(B.bare_rst().seq(2)),
        established("an RST at the edge of the window", Reason::ResetInexact)
            .sends(A.rst().seq(EDGE)),
        established("an RST beyond the window", Reason::ResetOutsideWindow)
            .sends(A.bare_rst().seq(EDGE + 1))
            .breaks(Of::Isn(A), |_| [EDGE + 1, 1, EDGE]),
        established("an RST long before the window", Reason::ResetOutsideWindow)
            .sends(B.rst().seq(u32::MAX << 30))
            .breaks(Of::Isn(B), |shift| [u32::MAX << 30, 1, 1 + (1000 << shift)]),
        established("an RST before the window", Reason::ResetLate).sends(B.rst().seq(0)),
        established("an RST with data in flight", Reason::ResetClosed)
            .after([A.ack().data(100)])
            .sends(A.bare_rst().seq(101))
            .leaves(CL, CL),
        row(
            "an RST of who has closed, for what crossed its FIN",
            Reason::ResetLate,
        )
        .after(HANDSHAKE)
        .after([B.fin(), A.ack().data(100), A.ack().seq(101).acks(2)])
        .sends(B.bare_rst().seq(1))
        .leaves(CW, F2),
        row(
            "an initiator that waits resets what it cannot place",
            Reason::ResetForeign,
        )
        .after([A.syn()])
        .sends(A.bare_rst().seq(80_000))
        .leaves(SS, LI),
        row("a refusal without ACK", Reason::ResetForeign)
            .after([A.syn()])
            .sends(B.bare_rst())
            .leaves(SS, LI),
        row(
            "the refusal of a SYN whose sender is in TIME_WAIT",
            Reason::ResetForeign,
        )
        .after(HANDSHAKE)
        .after(CLOSE)
        .after(LAST)
        .noting([A.syn().seq(LONG_AGO)])
        .sends(B.rst().seq(0).acks(LONG_AGO + 1))
        .leaves(TW, CL),
        row("an RST to a side that is gone", Reason::AfterClose)
            .after(HANDSHAKE)
            .after(CLOSE)
            .after(LAST)
            .sends(A.rst().seq(2).acks(2))
            .leaves(TW, CL),
        row("a handshake that goes on after an RST", Reason::Tracked)
            .after([A.syn(), A.bare_rst()])
            .sends(B.syn_ack())
            .leaves(SS, SR),
        row("a third ACK that an RST overtook", Reason::Tracked)
            .after([A.syn(), B.syn_ack(), B.rst()])
            .sends(A.ack())
            .leaves(ES, ES),
        row(
            "an ACK that is older than the initiator's RST",
            Reason::AfterClose,
        )
        .after([A.syn(), B.syn_ack(), A.bare_rst()])
        .sends(A.ack())
        .leaves(CL, CL),
    ]
}

fn exempt() -> Vec<Row> {
    let liberal = |name| {
        row(name, Reason::Liberal)
            .after(HANDSHAKE)
            .prepare(|stage| stage.configure(|live, _| live.switches = switches::LIBERAL))
            .leaves(ES, ES)
    };
    vec![
        liberal("data beyond the window where nothing is checked")
            .sends(A.ack().seq(70_000).data(10)),
        liberal("an acknowledgement of what was never sent where nothing is checked")
            .sends(B.ack().acks(90_000)),
        liberal("an RST inside the window where nothing is checked")
            .sends(B.bare_rst().seq(5))
            .leaves(CL, CL),
        row(
            "an acknowledgement of what a fragment has hidden",
            Reason::Liberal,
        )
        .after(HANDSHAKE)
        .prepare(|stage| stage.fragment(A.ack().data(8)))
        .sends(B.ack().acks(901))
        .leaves(ES, ES),
    ]
}

fn restarts() -> Vec<Row> {
    let restarted = |name| row(name, Reason::FlowRestarted).leaves(SS, SR);
    let answer = B.syn_ack().seq(90_000).acks(70_001);
    vec![
        restarted("the answer to a SYN on a live flow")
            .from(&[Origin::Wire, Origin::Host, Origin::Loopback])
            .after(HANDSHAKE)
            .noting([A.syn().seq(70_000)])
            .sends(answer),
        restarted("the initiator's answer to a SYN on a live flow")
            .after(HANDSHAKE)
            .noting([B.syn().seq(70_000)])
            .sends(A.syn_ack().seq(90_000).acks(70_001)),
        restarted("the answer to a SYN with data")
            .after(HANDSHAKE)
            .noting([A.syn().seq(70_000).data(5)])
            .sends(answer.acks(70_006)),
        restarted("the answer to the second of two SYNs")
            .after([A.syn(), A.syn().seq(70_000)])
            .sends(answer),
        restarted("the answer to a SYN in TIME_WAIT")
            .after(HANDSHAKE)
            .after(CLOSE)
            .after(LAST)
            .noting([A.syn().seq(LONG_AGO)])
            .sends(answer.acks(LONG_AGO + 1)),
        row("the refusal of a SYN on a live flow", Reason::ResetClosed)
            .after(HANDSHAKE)
            .noting([A.syn().seq(70_000)])
            .sends(B.rst().seq(0).acks(70_001))
            .leaves(CL, CL),
        row("the answer to a former SYN", Reason::SynAckOnLive)
            .after(HANDSHAKE)
            .noting([A.syn().seq(60_000), A.syn().seq(70_000)])
            .sends(answer.acks(60_001))
            .leaves(ES, ES),
        row(
            "an answer that comes the way of the SYN",
            Reason::SynAckOnLive,
        )
        .after(HANDSHAKE)
        .noting([A.syn().seq(70_000)])
        .raw(|stage| {
            let answer = B.syn_ack().seq(90_000).acks(70_001);
            stage.talk.frame(answer).bytes()
        })
        .leaves(ES, ES),
        row("the ACK of a second SYN-ACK", Reason::Tracked)
            .after([A.syn(), B.syn_ack(), B.syn_ack().seq(4444)])
            .sends(A.ack().acks(4445))
            .leaves(ES, ES),
    ]
}

fn syn_data() -> Vec<Row> {
    let forbidden = |name, reason| {
        row(name, reason)
            .prepare(|stage| stage.configure(|live, _| live.switches = switches::DROP_SYN_DATA))
    };
    vec![
        forbidden("data in a SYN where that is forbidden", Reason::SynData)
            .from(&[
                Origin::Wire,
                Origin::Loopback,
                Origin::Host,
                Origin::Forwarded,
            ])
            .sends(A.syn().data(1)),
        forbidden("data in a SYN that comes again", Reason::SynData)
            .after([A.syn()])
            .sends(A.syn().data(1))
            .breaks(Of::Zero, |_| [0; 3])
            .leaves(SS, LI),
        forbidden("a SYN without data", Reason::FlowOpened)
            .sends(A.syn())
            .leaves(SS, LI),
        row(
            "a higher SYN in TIME_WAIT where 2MSL count",
            Reason::SynInTimeWait,
        )
        .after(HANDSHAKE)
        .after(CLOSE)
        .after(LAST)
        .prepare(|stage| stage.configure(|live, _| live.switches = switches::STRICT_2MSL))
        .sends(A.syn().seq(3))
        .leaves(TW, CL),
    ]
}

/// The type of a "time exceeded", which any router on the way may send.
const fn time_exceeded(frame: &Frame) -> u8 {
    match frame.wrapping.family {
        Family::V4 => 11,
        Family::V6 => 3,
    }
}

/// An ICMP error about a segment of the talk.
pub fn about(stage: &Stage<'_>, segment: Seg) -> Vec<u8> {
    let quoted = stage.talk.frame(segment);
    let header = match quoted.wrapping.family {
        Family::V4 => QUOTED,
        Family::V6 => QUOTED + 20,
    };
    quoted.icmp_error(time_exceeded(&quoted), header).bytes()
}

fn icmp() -> Vec<Row> {
    let related = |name| row(name, Reason::IcmpRelated);
    let unrelated = |name| row(name, Reason::IcmpUnrelated);
    vec![
        related("an ICMP error about a SYN")
            .after([A.syn()])
            .raw_from(B, |stage| about(stage, A.syn()))
            .leaves(SS, LI),
        related("an ICMP error about data in flight")
            .after(HANDSHAKE)
            .after([A.ack().data(100)])
            .raw_from(B, |stage| about(stage, A.ack().data(100)))
            .leaves(ES, ES),
        related("an ICMP error about the responder's FIN")
            .after(HANDSHAKE)
            .after([B.fin()])
            .raw(|stage| about(stage, B.fin()))
            .leaves(ES, F1),
        related("an ICMP error about an empty segment")
            .after(HANDSHAKE)
            .raw_from(B, |stage| about(stage, A.ack()))
            .leaves(ES, ES),
        related("an ICMP error about anything of a flow that is not checked")
            .after(HANDSHAKE)
            .prepare(|stage| stage.fragment(A.ack().data(8)))
            .raw_from(B, |stage| about(stage, A.ack().seq(LONG_AGO)))
            .leaves(ES, ES),
        unrelated("an ICMP error about a segment of no flow")
            .from(&[
                Origin::Wire,
                Origin::Loopback,
                Origin::Host,
                Origin::Forwarded,
            ])
            .raw(|stage| about(stage, B.ack())),
        unrelated("an ICMP error about what was acknowledged")
            .after(HANDSHAKE)
            .after([A.ack().data(100), B.ack().acks(101)])
            .raw_from(B, |stage| about(stage, A.ack().data(100)))
            .leaves(ES, ES),
        unrelated("an ICMP error about what was never sent")
            .after(HANDSHAKE)
            .raw_from(B, |stage| about(stage, A.ack().seq(2)))
            .leaves(ES, ES),
        unrelated("an ICMP error about the other end's number")
            .after(HANDSHAKE)
            .raw_from(B, |stage| about(stage, A.ack().seq(70_000)))
            .leaves(ES, ES),
        row("an echo request", Reason::NotTcp)
            .after(HANDSHAKE)
            .raw(|stage| {
                let quoted = stage.talk.frame(A.ack());
                let echo = match quoted.wrapping.family {
                    Family::V4 => 8,
                    Family::V6 => 128,
                };
                quoted.icmp_error(echo, 1000).bytes()
            })
            .leaves(ES, ES),
    ]
}

/// A segment of the talk with one bit of its checksum wrong.
fn flipped(stage: &Stage<'_>, segment: Seg) -> Vec<u8> {
    let frame = stage.talk.frame(segment);
    let mut octets = frame.summed();
    octets[frame.tcp_at() + 17] ^= 1;
    octets
}

fn checksums() -> Vec<Row> {
    const INGRESS: [Origin; 2] = [Origin::Wire, Origin::Loopback];
    let verified = |name, reason| row(name, reason).checksum().prepare(|stage| stage.verify());
    vec![
        verified("a SYN with its checksum", Reason::FlowOpened)
            .sends(A.syn())
            .leaves(SS, LI),
        verified("a SYN with another checksum", Reason::BadChecksum)
            .from(&INGRESS)
            .raw(|stage| flipped(stage, A.syn())),
        verified("a SYN with a checksum of 0", Reason::BadChecksum)
            .from(&INGRESS)
            .raw(|stage| stage.syn().bytes()),
        verified("an RST with another checksum", Reason::BadChecksum)
            .from(&INGRESS)
            .after(HANDSHAKE)
            .raw(|stage| flipped(stage, A.rst()))
            .leaves(ES, ES),
        verified("data with their checksum", Reason::Tracked)
            .after(HANDSHAKE)
            .sends(A.ack().data(777))
            .leaves(ES, ES),
        verified(
            "a first fragment, whose sum cannot be told",
            Reason::FirstFragment,
        )
        .after(HANDSHAKE)
        .raw(|stage| stage.first_fragment(A.ack().data(8)).bytes())
        .leaves(ES, ES),
        verified("a checksum of what this host sends", Reason::FlowOpened)
            .from(&[Origin::Host, Origin::Forwarded])
            .raw(|stage| flipped(stage, A.syn()))
            .leaves(SS, LI),
        verified("an ICMP error has no TCP checksum", Reason::IcmpRelated)
            .from(&INGRESS)
            .after([B.syn()])
            .raw(|stage| about(stage, B.syn()))
            .leaves(SS, LI),
        row(
            "another checksum where nobody verifies it",
            Reason::FlowOpened,
        )
        .checksum()
        .raw(|stage| flipped(stage, A.syn()))
        .leaves(SS, LI),
        row(
            "another checksum where none was verified at load",
            Reason::FlowOpened,
        )
        .prepare(|stage| stage.verify())
        .raw(|stage| flipped(stage, A.syn()))
        .leaves(SS, LI),
    ]
}
