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
//! | `liberal` | its segments are exempt from the checks of windows, timestamps and RST numbers |
//! | `reset_pending` | an RST came that was not exact, and nothing of its sender since |
//! | `rule` | name of the policy's rule that admitted it, its number where the name is not known; `null`: none did |
//! | `history`, `last_refusal` | with details only: the states that it went through, and the last segment that was refused |
//! | `file`, `at_ms`, `ended` | of a replayed capture only: see [`Replayed`] |

use std::io::{self, Write};

use tracker_common::{
    abi::{Bound, Family, INITIATOR, Path, RESPONDER, Refusal, flow_flags},
    reason::Reason,
    tcp::State,
};

use super::{
    Details, Names, Replayed, Row,
    details::timeline,
    refusal::{self, Sentence},
    text,
};

/// Writes one flow as one object on one line, without the line's end. `beside` is
/// what is remembered beside it, if that was asked for.
///
/// # Errors
///
/// When `out` fails.
pub fn object(
    out: &mut impl Write,
    row: &Row<'_>,
    beside: Option<&Details>,
    names: &Names,
) -> io::Result<()> {
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
    boolean(out, flow.has(flow_flags::GUESSED))?;
    out.write_all(b",\"disproved\":")?;
    text::int(out, flow.disproved())?;
    out.write_all(b",\"handshake_rtt_us\":")?;
    match flow.handshake_rtt.unpack() {
        Some(micros) => text::int(out, micros)?,
        None => out.write_all(b"null")?,
    }
    write!(out, ",\"id\":\"{:016x}\"", flow.id().0)?;
    out.write_all(b",\"liberal\":")?;
    boolean(out, row.is_liberal())?;
    out.write_all(b",\"reset_pending\":")?;
    boolean(out, row.is_reset_pending())?;
    out.write_all(b",\"rule\":")?;
    names.rule_json(out, flow.rule)?;
    if let Some(beside) = beside {
        details(out, row, beside)?;
    }
    if let Some(replayed) = row.replayed() {
        of_capture(out, replayed)?;
    }
    out.write_all(b"}")
}

/// Writes what a flow of a capture has besides.
fn of_capture(out: &mut impl Write, replayed: &Replayed<'_>) -> io::Result<()> {
    let Replayed { file, at_ms, ended } = replayed;
    write!(
        out,
        ",\"file\":{},\"at_ms\":{at_ms},\"ended\":",
        file.json()
    )?;
    match ended {
        Some(cause) => write!(out, "\"{}\"", cause.as_str()),
        None => out.write_all(b"null"),
    }
}

/// Writes what is remembered beside the flow.
///
/// `history` is an array of the pairs of states that the flow went through,
/// oldest first, with how long ago it came to each and how long it stayed; `null`
/// among them stands for some that are not known. `last_refusal` is the last
/// segment that was refused, or `null`; the numbers in `seq`, `ack`, `value`,
/// `low` and `high` are sequence numbers or timestamps as they are in packets.
fn details(out: &mut impl Write, row: &Row<'_>, details: &Details) -> io::Result<()> {
    out.write_all(b",\"history\":[")?;
    for (index, stay) in timeline(row, details).iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        let Some(stay) = stay else {
            out.write_all(b"null")?;
            continue;
        };
        let [initiator, responder] = stay.states.map(State::rfc_name);
        write!(
            out,
            "{{\"initiator\":\"{initiator}\",\"responder\":\"{responder}\",\"ago_ms\":"
        )?;
        optional(out, stay.ago_ms)?;
        out.write_all(b",\"lasted_ms\":")?;
        optional(out, stay.lasted_ms)?;
        match stay.reason {
            Some(reason) => write!(out, ",\"reason\":\"{}\"}}", reason.as_str())?,
            None => out.write_all(b",\"reason\":null}")?,
        }
    }
    out.write_all(b"],\"last_refusal\":")?;
    match &details.refusal {
        Some(refusal) => refused(out, row, refusal),
        None => out.write_all(b"null"),
    }
}

/// Writes a refused segment.
fn refused(out: &mut impl Write, row: &Row<'_>, refusal: &Refusal) -> io::Result<()> {
    let reason = Reason::from_raw(refusal.reason);
    write!(
        out,
        "{{\"ago_ms\":{},\"reason\":\"{}\",\"sender\":\"{}\",\"flags\":[",
        row.since_ms(refusal.time),
        reason.map_or("unknown", Reason::as_str),
        refusal::sender(refusal)
    )?;
    for (index, name) in refusal::flag_names(refusal).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}\"{name}\"")?;
    }
    write!(
        out,
        "],\"seq\":{},\"ack\":{},\"length\":{}",
        refusal.seq.0, refusal.ack.0, refusal.length
    )?;
    let numbers = reason.is_some_and(refusal::has_numbers);
    let Bound { value, low, high } = refusal.bound;
    for (name, number) in [("value", value), ("low", low), ("high", high)] {
        write!(out, ",\"{name}\":")?;
        optional(out, numbers.then_some(number))?;
    }
    // Our own sentences hold nothing that JSON would escape.
    write!(out, ",\"text\":\"{}\"}}", Sentence(refusal))
}

/// Writes a number, or `null`.
fn optional(out: &mut impl Write, number: Option<impl itoa::Integer>) -> io::Result<()> {
    match number {
        Some(number) => text::int(out, number),
        None => out.write_all(b"null"),
    }
}

fn boolean(out: &mut impl Write, value: bool) -> io::Result<()> {
    out.write_all(if value { b"true" } else { b"false" })
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
