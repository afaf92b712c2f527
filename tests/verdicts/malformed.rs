//! Packets that are not TCP, or broken.

use tracker_common::{
    abi::{Family, Interface, interface_flags},
    reason::Reason,
};
use tracker_tests::program::{
    bench::Origin,
    frame::{Fragment, Tags, Wrapping},
    talk::A,
};

use crate::row::{Row, Stage, row};

const fn v4(wrapping: Wrapping) -> bool {
    matches!(wrapping.family, Family::V4)
}

const fn v6(wrapping: Wrapping) -> bool {
    matches!(wrapping.family, Family::V6)
}

const fn tagged(wrapping: Wrapping) -> bool {
    !matches!(wrapping.tags, Tags::Untagged)
}

pub fn rows() -> Vec<Row> {
    [not_ours(), link(), network(), fragments(), transport()].concat()
}

fn not_ours() -> Vec<Row> {
    vec![
        row("ARP is not IP", Reason::NotIp).raw(|stage| {
            let frame = stage.syn();
            patched(frame.bytes(), frame.ip_at() - 2, &[0x08, 0x06])
        }),
        row("UDP is not TCP", Reason::NotTcp).raw(|stage| {
            let mut frame = stage.syn();
            frame.protocol = 17;
            frame.bytes()
        }),
        row("no next header is not TCP", Reason::NotTcp)
            .fits(v6)
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(0, 8)];
                frame.protocol = 59;
                frame.bytes()
            }),
        row(
            "a forwarded packet was seen where it came in",
            Reason::Forwarded,
        )
        .from(&[Origin::Forwarded])
        .prepare(|stage| {
            let wire = stage.bench.ifindex(Origin::Wire);
            let tracked = Interface {
                flags: interface_flags::INGRESS,
            };
            Ok(stage.bench.loaded.set_interface(wire, tracked)?)
        })
        .sends(A.syn()),
    ]
}

fn link() -> Vec<Row> {
    vec![
        row("a frame that ends in its tag", Reason::ShortEthernet)
            .fits(tagged)
            .raw(|stage| {
                let frame = stage.syn();
                cut(frame.bytes(), frame.ip_at() - 1)
            }),
        row("three tags", Reason::TooManyTags).raw(|stage| {
            let missing = match stage.talk.wrapping.tags {
                Tags::Untagged => 3,
                Tags::Vlan(_) => 2,
                Tags::QinQ(..) => 1,
            };
            let mut frame = stage.syn().bytes();
            for _ in 0..missing {
                frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
            }
            frame
        }),
        row("a header behind the reach of XDP", Reason::Unreachable)
            .fits(v6)
            .from(&[Origin::Wire, Origin::Loopback])
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(60, 2048), (60, 2048)];
                frame.bytes()
            }),
    ]
}

fn network() -> Vec<Row> {
    vec![
        row("a frame that ends in its IP header", Reason::ShortIp)
            .from(&[Origin::Wire, Origin::Loopback])
            .raw(short_ip),
        // Without a tag the kernel refuses to run a classifier on it.
        row("a tagged frame that ends in its IP header", Reason::ShortIp)
            .fits(tagged)
            .raw(short_ip),
        row("an IP version that is none", Reason::BadIpHeader).raw(|stage| {
            let frame = stage.syn();
            patched(frame.bytes(), frame.ip_at(), &[0x55])
        }),
        row("an IPv4 header of four words", Reason::BadIpHeader)
            .fits(v4)
            .raw(|stage| {
                let frame = stage.syn();
                patched(frame.bytes(), frame.ip_at(), &[0x44])
            }),
        row("more octets promised than there are", Reason::BadIpLength).raw(|stage| {
            let frame = stage.syn();
            let length = frame.bytes().len() - 1;
            cut(frame.bytes(), length)
        }),
        row(
            "an IPv4 packet shorter than its header",
            Reason::BadIpLength,
        )
        .fits(v4)
        .raw(|stage| {
            let frame = stage.syn();
            patched(frame.bytes(), frame.ip_at() + 2, &[0, 19])
        }),
        row("an IPv4 length of nothing", Reason::BadIpLength)
            .fits(v4)
            .raw(|stage| {
                let frame = stage.syn();
                patched(frame.bytes(), frame.ip_at() + 2, &[0, 0])
            }),
        row("nine extension headers", Reason::TooManyExtensions)
            .fits(v6)
            .raw(|stage| {
                let mut frame = stage.syn();
                frame.extensions = vec![(60, 8); 9];
                frame.bytes()
            }),
        row(
            "an extension header longer than the packet",
            Reason::ShortExtension,
        )
        .fits(v6)
        .raw(|stage| {
            let mut frame = stage.syn();
            frame.extensions = vec![(0, 8)];
            patched(frame.bytes(), frame.extensions_at() + 1, &[255])
        }),
        row(
            "a packet that ends before its extension header",
            Reason::ShortExtension,
        )
        .fits(v6)
        .raw(|stage| {
            let mut frame = stage.syn();
            frame.protocol = 60;
            frame.carried = Some(0);
            frame.bytes()
        }),
    ]
}

fn short_ip(stage: &Stage<'_>) -> Vec<u8> {
    let frame = stage.syn();
    cut(frame.bytes(), frame.ip_at() + 19)
}

fn fragments() -> Vec<Row> {
    const FIRST: Option<Fragment> = Some(Fragment {
        offset: 0,
        more: true,
    });
    vec![
        row("a later fragment", Reason::LaterFragment).raw(|stage| {
            let mut frame = stage.syn();
            frame.fragment = Some(Fragment {
                offset: 3,
                more: false,
            });
            frame.bytes()
        }),
        row("a fragment over the TCP flags", Reason::OverlappingFragment).raw(|stage| {
            let mut frame = stage.syn();
            frame.fragment = Some(Fragment {
                offset: 1,
                more: false,
            });
            frame.bytes()
        }),
        row("a first fragment of eight octets", Reason::TinyFragment).raw(|stage| {
            let mut frame = stage.syn();
            frame.fragment = FIRST;
            frame.carried = Some(8);
            frame.bytes()
        }),
        row(
            "a first fragment without the TCP options",
            Reason::TinyFragment,
        )
        .raw(|stage| {
            let mut frame = stage.syn();
            frame.fragment = FIRST;
            frame.options = vec![1; 40];
            frame.carried = Some(24);
            frame.bytes()
        }),
    ]
}

fn transport() -> Vec<Row> {
    const OFFSET: usize = 12;
    const FLAGS: usize = 13;
    let flags = |name, packet| row(name, Reason::BadFlags).raw(packet);
    vec![
        row("a packet that ends in its TCP header", Reason::ShortTcp).raw(|stage| {
            let mut frame = stage.syn();
            frame.carried = Some(19);
            frame.bytes()
        }),
        row("a TCP header of four words", Reason::BadTcpOffset).raw(|stage| {
            let frame = stage.syn();
            patched(frame.bytes(), frame.tcp_at() + OFFSET, &[0x40])
        }),
        row("a TCP header longer than the packet", Reason::BadTcpOffset).raw(|stage| {
            let frame = stage.syn();
            patched(frame.bytes(), frame.tcp_at() + OFFSET, &[0xf0])
        }),
        flags("no flags", |stage| with_flags(stage, FLAGS, 0x00)),
        flags("SYN and FIN", |stage| with_flags(stage, FLAGS, 0x03)),
        flags("SYN and RST", |stage| with_flags(stage, FLAGS, 0x06)),
        flags("FIN without ACK", |stage| with_flags(stage, FLAGS, 0x01)),
        flags("Xmas", |stage| with_flags(stage, FLAGS, 0x29)),
        flags("everything", |stage| with_flags(stage, FLAGS, 0xff)),
        row("LAND", Reason::EqualEnds).raw(|stage| {
            let mut frame = stage.syn();
            frame.to = frame.from;
            frame.bytes()
        }),
    ]
}

fn with_flags(stage: &Stage<'_>, at: usize, flags: u8) -> Vec<u8> {
    let frame = stage.syn();
    patched(frame.bytes(), frame.tcp_at() + at, &[flags])
}

fn patched(mut frame: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    frame[at..at + octets.len()].copy_from_slice(octets);
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}
