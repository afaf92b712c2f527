//! A flow as comma-separated values (RFC 4180, but lines end in LF alone).
//!
//! Every field is a number, an address or one of our words, none of which needs
//! quoting, except names of interfaces and rules, which [`Names`] keeps quoted. What is
//! `null` in JSON is empty here.

use std::io::{self, Write};

use tracker_common::{
    abi::{Bound, Cause, Family, INITIATOR, RESPONDER, Refusal, flow_flags},
    reason::Reason,
};

use super::{Details, Names, Replayed, Row, refusal, text};

/// The header, without the line's end. Columns are only ever added, at the end.
pub const HEADER: &str = "family,vlan,vlan_inner,interface,\
    initiator_addr,initiator_port,initiator_state,initiator_packets,initiator_bytes,\
    responder_addr,responder_port,responder_state,responder_packets,responder_bytes,\
    age_ms,idle_ms,expires_ms,syn_retransmits,synack_retransmits,origin,\
    zone,timer,guessed,disproved,handshake_rtt_us,id,liberal,reset_pending,rule";
/// What the header has on top with details, which a line holds one of: the last
/// segment that was refused.
pub const DETAILS_HEADER: &str = ",refused_ago_ms,refused_reason,refused_sender,\
    refused_value,refused_low,refused_high";

/// What the header has on top for a replayed capture.
pub const CAPTURE_HEADER: &str = ",file,at_ms,ended";

/// Writes one flow as one line. `beside` is what is remembered beside it, if that
/// was asked for.
///
/// # Errors
///
/// When `out` fails.
pub fn line(
    out: &mut impl Write,
    row: &Row<'_>,
    beside: Option<&Details>,
    names: &Names,
) -> io::Result<()> {
    let flow = row.flow();
    let path = row.seen_at();
    out.write_all(match row.family() {
        Family::V4 => b"ipv4,",
        Family::V6 => b"ipv6,",
    })?;
    for vid in [path.outer(), path.inner()] {
        if vid != 0 {
            text::int(out, vid)?;
        }
        out.write_all(b",")?;
    }
    names.csv(out, path.ifindex())?;
    for end in [INITIATOR, RESPONDER] {
        let (addr, port) = row.at(end);
        let endpoint = row.end(end);
        out.write_all(b",")?;
        text::addr(out, addr)?;
        out.write_all(b",")?;
        text::int(out, port)?;
        out.write_all(b",")?;
        out.write_all(endpoint.state().rfc_name().as_bytes())?;
        out.write_all(b",")?;
        text::int(out, endpoint.packets())?;
        out.write_all(b",")?;
        text::int(out, endpoint.bytes)?;
    }
    for ms in [row.age_ms(), row.idle_ms(), row.expires_ms()] {
        out.write_all(b",")?;
        text::int(out, ms)?;
    }
    for end in [INITIATOR, RESPONDER] {
        out.write_all(b",")?;
        text::int(out, row.end(end).syn_retransmits)?;
    }
    out.write_all(b",")?;
    out.write_all(flow.origin().as_str().as_bytes())?;
    out.write_all(b",")?;
    text::int(out, row.zone().0)?;
    out.write_all(b",")?;
    out.write_all(row.timer().as_str().as_bytes())?;
    out.write_all(if flow.has(flow_flags::GUESSED) {
        b",true,"
    } else {
        b",false,"
    })?;
    text::int(out, flow.disproved())?;
    out.write_all(b",")?;
    if let Some(micros) = flow.handshake_rtt.unpack() {
        text::int(out, micros)?;
    }
    write!(
        out,
        ",{:016x},{},{},",
        flow.id().0,
        row.is_liberal(),
        row.is_reset_pending()
    )?;
    names.rule_csv(out, flow.rule)?;
    match beside.map(|beside| &beside.refusal) {
        None => {}
        Some(None) => out.write_all(b",,,,,,")?,
        Some(Some(refusal)) => refused(out, row, refusal)?,
    }
    if let Some(Replayed { file, at_ms, ended }) = row.replayed() {
        let ended = ended.map_or("", Cause::as_str);
        write!(out, ",{},{at_ms},{ended}", file.csv())?;
    }
    out.write_all(b"\n")
}

/// Writes the columns of a refused segment.
fn refused(out: &mut impl Write, row: &Row<'_>, refusal: &Refusal) -> io::Result<()> {
    let reason = Reason::from_raw(refusal.reason);
    write!(
        out,
        ",{},{},{}",
        row.since_ms(refusal.time),
        reason.map_or("unknown", Reason::as_str),
        refusal::sender(refusal)
    )?;
    let Bound { value, low, high } = refusal.bound;
    if reason.is_some_and(refusal::has_numbers) {
        write!(out, ",{value},{low},{high}")
    } else {
        out.write_all(b",,,")
    }
}
