//! A flow as a JSON object, written piece by piece: at a million flows the
//! allocations of a general serializer cost more than all else.
//!
//! Fields are only ever added. Those after `origin` in the top object are
//! extras beside the first contract:
//!
//! | field | meaning |
//! |---|---|
//! | `vlan`, `vlan_inner`, `interface` | where the initiator's packets are seen (the responder's, where the initiator's were not); within an end, where that end's are; `null` is none or not known |
//! | `zone` | number that keeps apart flows of equal addresses and ports |
//! | `timer` | what the flow waits for: a key of `[timeouts]` |
//! | `guessed` | which end opened is a guess |
//! | `disproved` | states taken on sight and taken back, saturating at 255 |
//! | `handshake_rtt_us` | SYN to the ACK that completed the handshake, `null` when not measured |
//! | `id` | name of the flow in events, 16 hexadecimal digits |

use std::io::{self, Write};

use tracker_common::abi::{Family, INITIATOR, Path, RESPONDER, flow_flags};

use super::{Names, Row, text};

/// Writes one flow as one object on one line, without the line's end.
///
/// # Errors
///
/// When `out` fails.
pub fn object(out: &mut impl Write, row: &Row<'_>, names: &Names) -> io::Result<()> {
    let flow = row.flow();
    out.write_all(match row.family() {
        Family::V4 => b"{\"family\":\"ipv4\",",
        Family::V6 => b"{\"family\":\"ipv6\",",
    })?;
    path(out, row.seen_at(), names)?;
    out.write_all(b",\"initiator\":")?;
    end(out, row, INITIATOR, names)?;
    out.write_all(b",\"responder\":")?;
    end(out, row, RESPONDER, names)?;
    out.write_all(b",\"age_ms\":")?;
    text::int(out, row.age_ms())?;
    out.write_all(b",\"idle_ms\":")?;
    text::int(out, row.idle_ms())?;
    out.write_all(b",\"expires_ms\":")?;
    text::int(out, row.expires_ms())?;
    out.write_all(b",\"syn_retransmits\":")?;
    text::int(out, row.end(INITIATOR).syn_retransmits)?;
    out.write_all(b",\"synack_retransmits\":")?;
    text::int(out, row.end(RESPONDER).syn_retransmits)?;
    out.write_all(b",\"origin\":\"")?;
    out.write_all(flow.origin().as_str().as_bytes())?;
    out.write_all(b"\",\"zone\":")?;
    text::int(out, row.zone().0)?;
    out.write_all(b",\"timer\":\"")?;
    out.write_all(row.timer().as_str().as_bytes())?;
    out.write_all(b"\",\"guessed\":")?;
    out.write_all(if flow.has(flow_flags::GUESSED) {
        b"true"
    } else {
        b"false"
    })?;
    out.write_all(b",\"disproved\":")?;
    text::int(out, flow.disproved())?;
    out.write_all(b",\"handshake_rtt_us\":")?;
    match flow.handshake_rtt.unpack() {
        Some(micros) => text::int(out, micros)?,
        None => out.write_all(b"null")?,
    }
    write!(out, ",\"id\":\"{:016x}\"}}", flow.id().0)
}

/// Writes one end.
fn end(out: &mut impl Write, row: &Row<'_>, end: usize, names: &Names) -> io::Result<()> {
    let (addr, port) = row.at(end);
    let endpoint = row.end(end);
    out.write_all(b"{\"addr\":\"")?;
    text::addr(out, addr)?;
    out.write_all(b"\",\"port\":")?;
    text::int(out, port)?;
    out.write_all(b",\"state\":\"")?;
    out.write_all(endpoint.state().rfc_name().as_bytes())?;
    out.write_all(b"\",\"packets\":")?;
    text::int(out, endpoint.packets())?;
    out.write_all(b",\"bytes\":")?;
    text::int(out, endpoint.bytes)?;
    out.write_all(b",")?;
    path(out, row.path(end), names)?;
    out.write_all(b"}")
}

/// Writes the members that say where packets are seen.
fn path(out: &mut impl Write, path: Path, names: &Names) -> io::Result<()> {
    out.write_all(b"\"vlan\":")?;
    vlan(out, path.outer())?;
    out.write_all(b",\"vlan_inner\":")?;
    vlan(out, path.inner())?;
    out.write_all(b",\"interface\":")?;
    names.json(out, path.ifindex())
}

/// Writes a VLAN identifier, 0 as `null`.
fn vlan(out: &mut impl Write, vid: u16) -> io::Result<()> {
    if vid == 0 {
        out.write_all(b"null")
    } else {
        text::int(out, vid)
    }
}
