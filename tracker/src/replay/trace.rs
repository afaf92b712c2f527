//! A line for each packet: what it is, what became of it, and the two states
//! after it.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use tracker_common::{
    abi::Family,
    parse::Packet,
    tcp::{Flags, Segment},
};

use super::Judged;
use crate::view::{refusal::Sentence, text};

/// The control bits in the order and with the letters of tcpdump.
const LETTERS: [(u8, char); 8] = [
    (Flags::FIN, 'F'),
    (Flags::SYN, 'S'),
    (Flags::RST, 'R'),
    (Flags::PSH, 'P'),
    (Flags::ACK, '.'),
    (Flags::URG, 'U'),
    (Flags::ECE, 'E'),
    (Flags::CWR, 'W'),
];

fn letters(flags: Flags) -> String {
    let letters: String = LETTERS
        .iter()
        .filter(|(bit, _)| flags.has(*bit))
        .map(|&(_, letter)| letter)
        .collect();
    if letters.is_empty() {
        "none".to_owned()
    } else {
        letters
    }
}

/// Writes a packet as one line for people.
///
/// # Errors
///
/// When `out` fails.
pub fn line(out: &mut impl Write, judged: &Judged<'_>) -> io::Result<()> {
    let micros = judged.elapsed_ns / 1000;
    write!(
        out,
        "{} {}.{:06} ",
        judged.number,
        micros / 1_000_000,
        micros % 1_000_000
    )?;
    if let Some(packet) = judged.packet {
        let [from, to] = ends(packet);
        if packet.quoted != 0 {
            out.write_all(b"ICMP error about ")?;
        }
        text::socket(out, from)?;
        out.write_all(b" > ")?;
        text::socket(out, to)?;
        vlan(out, packet)?;
        if packet.quoted == 0 {
            out.write_all(b" ")?;
            segment(out, &packet.segment)?;
        } else {
            write!(out, " seq {}", packet.segment.seq.0)?;
        }
    } else {
        write!(out, "{} octets", judged.record.original)?;
    }
    match judged.reason {
        Some(reason) => write!(out, ": {} {}", reason.class().as_str(), reason.as_str())?,
        None => out.write_all(b": left out")?,
    }
    if let Some((_, [initiator, responder])) = judged.flow {
        write!(
            out,
            ", {} {}",
            initiator.netstat_name(),
            responder.netstat_name()
        )?;
    }
    if let Some(refusal) = &judged.refusal {
        write!(out, "; {}", Sentence(refusal))?;
    }
    out.write_all(b"\n")
}

/// Writes a segment as tcpdump does.
fn segment(out: &mut impl Write, segment: &Segment) -> io::Result<()> {
    write!(out, "[{}] seq {}", letters(segment.flags), segment.seq.0)?;
    if segment.payload != 0 {
        write!(out, ":{}", segment.seq.plus(segment.payload).0)?;
    }
    if segment.flags.has(Flags::ACK) {
        write!(out, " ack {}", segment.ack.0)?;
    }
    write!(out, " win {} len {}", segment.window, segment.payload)
}

fn vlan(out: &mut impl Write, packet: &Packet) -> io::Result<()> {
    match (packet.outer, packet.inner) {
        (0, _) => Ok(()),
        (outer, 0) => write!(out, " vlan {outer}"),
        (outer, inner) => write!(out, " vlan {outer}.{inner}"),
    }
}

/// Writes a packet as one object on one line.
///
/// # Errors
///
/// When `out` fails.
pub fn object(out: &mut impl Write, judged: &Judged<'_>) -> io::Result<()> {
    write!(
        out,
        "{{\"packet\":{},\"offset\":{},\"time\":",
        judged.number, judged.record.offset
    )?;
    match judged.record.time_ns {
        Some(ns) => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(ns);
            write!(out, "\"{}\"", humantime::format_rfc3339_nanos(time))?;
        }
        None => out.write_all(b"null")?,
    }
    write!(
        out,
        ",\"elapsed_ns\":{},\"length\":{},\"captured\":{},",
        judged.elapsed_ns,
        judged.record.original,
        judged.record.data.len()
    )?;
    match judged.packet {
        Some(packet) => {
            let Segment {
                seq,
                ack,
                payload,
                window,
                flags,
                ..
            } = packet.segment;
            for (name, (addr, port)) in ["source", "destination"].iter().zip(ends(packet)) {
                write!(out, "\"{name}\":{{\"addr\":\"{addr}\",\"port\":{port}}},")?;
            }
            for (name, vid) in [("vlan", packet.outer), ("vlan_inner", packet.inner)] {
                write!(out, "\"{name}\":{},", Nullable((vid != 0).then_some(vid)))?;
            }
            let ack = flags.has(Flags::ACK).then_some(ack.0);
            write!(
                out,
                "\"flags\":\"{}\",\"seq\":{},\"ack\":{},\"window\":{window},\"payload\":{payload},",
                letters(flags),
                seq.0,
                Nullable(ack)
            )?;
        }
        None => out.write_all(
            b"\"source\":null,\"destination\":null,\"vlan\":null,\"vlan_inner\":null,\
              \"flags\":null,\"seq\":null,\"ack\":null,\"window\":null,\"payload\":null,",
        )?,
    }
    match judged.reason {
        Some(reason) => write!(
            out,
            "\"class\":\"{}\",\"reason\":\"{}\",",
            reason.class().as_str(),
            reason.as_str()
        )?,
        None => out.write_all(b"\"class\":null,\"reason\":null,")?,
    }
    match judged.flow {
        Some((id, [initiator, responder])) => write!(
            out,
            "\"initiator_state\":\"{}\",\"responder_state\":\"{}\",\"id\":\"{id:016x}\",\"why\":",
            initiator.rfc_name(),
            responder.rfc_name()
        )?,
        None => out
            .write_all(b"\"initiator_state\":null,\"responder_state\":null,\"id\":null,\"why\":")?,
    }
    match &judged.refusal {
        // Our own sentences hold nothing that JSON would escape.
        Some(refusal) => writeln!(out, "\"{}\"}}", Sentence(refusal)),
        None => out.write_all(b"null}\n"),
    }
}

/// Reads as `null` where there is nothing.
struct Nullable<T>(Option<T>);

impl<T: std::fmt::Display> std::fmt::Display for Nullable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Sender and receiver.
fn ends(packet: &Packet) -> [(IpAddr, u16); 2] {
    [
        (addr(packet.family(), packet.source), packet.source_port),
        (
            addr(packet.family(), packet.destination),
            packet.destination_port,
        ),
    ]
}

/// An address that lies in memory as it lies in the packet.
fn addr(family: Family, words: [u32; 4]) -> IpAddr {
    let [a, b, c, d] = words.map(u32::from_be);
    match family {
        Family::V4 => Ipv4Addr::from_bits(a).into(),
        Family::V6 => {
            let [a, b, c, d] = [a, b, c, d].map(u128::from);
            Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d).into()
        }
    }
}
